"""A window as figures with OpenTelemetry's names: sums, histograms and gauges by metric and attributes.

Comes in: a window (``window.py``) and its reference profile. Goes out: ``Figures``, which add up over windows, devices
and time; ``otlp.py`` writes them as protobuf messages, for agent and monitor alike. Names of OpenTelemetry's
semantic conventions are used where there is one (``error.type``, ``process.memory.usage``), else names under
``edgeml.``: there is no convention yet for models that answer without generating text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from edgeml.profile import slot_names
from edgeml.telemetry.window import LATENCY_BINS, dense, latency_edges

Attributes = tuple[tuple[str, str], ...]
Key = tuple[str, Attributes]
Number = int | float


@dataclass(frozen=True, slots=True)
class Metric:
    """What a receiver is told about a metric. ``kind`` "change" is a sum that may also fall."""

    kind: Literal["sum", "change", "histogram", "gauge"]
    unit: str
    description: str


METRICS = {
    "edgeml.telemetry.windows": Metric("sum", "{window}", "Windows that the other figures are added up from."),
    "edgeml.telemetry.lost.items": Metric("sum", "{item}", "Windows and sampled rows that could not be kept."),
    "edgeml.telemetry.lost.rows": Metric("sum", "{row}", "Rows of input counted in what could not be kept."),
    "edgeml.model.rows": Metric("sum", "{row}", "Rows of input that the model answered."),
    "edgeml.model.calls": Metric("sum", "{call}", "Calls, of one row or of a batch."),
    "edgeml.model.call.duration": Metric("histogram", "s", "Time that a call took."),
    "edgeml.model.errors": Metric("sum", "{error}", "Calls that ended with an error."),
    "edgeml.model.feature.value": Metric("histogram", "1", "Finite values of a numeric feature, on the profile's bins"),
    "edgeml.model.feature.count": Metric("sum", "{value}", "Values of a feature by state and category."),
    "edgeml.model.score.value": Metric("histogram", "1", "Finite scores of the model, on the profile's bins"),
    "edgeml.model.score.count": Metric("sum", "{value}", "Scores and predictions of the model by state and category."),
    "edgeml.model.feedback.rows": Metric("sum", "{row}", "Rows whose truth came, by outcome where there are classes."),
    "edgeml.model.feedback.confusion": Metric("sum", "{row}", "Rows by true and by predicted label."),
    "edgeml.model.feedback.unmatched": Metric("sum", "{row}", "Truths that came for rows no longer known."),
    "edgeml.model.feedback.error": Metric("change", "1", "Sum of prediction minus truth."),
    "edgeml.model.feedback.absolute_error": Metric("sum", "1", "Sum of absolute errors."),
    "edgeml.model.feedback.squared_error": Metric("sum", "1", "Sum of squared errors."),
    "edgeml.model.feedback.y": Metric("change", "1", "Sum of truths."),
    "edgeml.model.feedback.y_squared": Metric("sum", "1", "Sum of squared truths."),
}


@dataclass(frozen=True, slots=True)
class Gauge:
    """How a figure of the device is shown: its value times ``factor``."""

    name: str
    unit: str
    description: str
    factor: float = 1.0
    attributes: Attributes = ()


# By the names the recorder gives them (``system.py``). OpenTelemetry's own names where it has a gauge of that meaning;
# its process.memory.usage and system.filesystem.usage are sums, and one name must not be of two kinds.
SYSTEM = {
    "cpu_percent": Gauge("edgeml.process.cpu.utilization", "1", "CPU of the process, 1 for one whole core.", 0.01),
    "rss_bytes": Gauge("edgeml.process.memory.rss", "By", "Memory of the process that is resident."),
    "system_cpu_percent": Gauge("system.cpu.utilization", "1", "CPU in use, of all cores.", 0.01),
    "memory_available_bytes": Gauge("edgeml.device.memory.available", "By", "Memory that processes can still get."),
    "memory_used_percent": Gauge(
        "system.memory.utilization", "1", "Memory in use.", 0.01, (("system.memory.state", "used"),)
    ),
    "disk_free_bytes": Gauge("edgeml.device.disk.free", "By", "Free space on the spool's disk."),
    "disk_used_percent": Gauge(
        "system.filesystem.utilization", "1", "Use of the spool's disk.", 0.01, (("system.filesystem.state", "used"),)
    ),
    "temperature_celsius": Gauge("edgeml.device.temperature", "Cel", "The hottest sensor of the device."),
}
_GAUGES = {gauge.name: gauge for gauge in SYSTEM.values()}


@dataclass(slots=True)
class Histogram:
    """Counts of values: bucket i holds ``bounds[i - 1] < value <= bounds[i]``, the last one all above."""

    bounds: tuple[float, ...]
    counts: list[int]


@dataclass(slots=True)
class Figures:
    """Sums and histograms add up; of gauges the latest counts."""

    sums: dict[Key, Number] = field(default_factory=dict)
    histograms: dict[Key, Histogram] = field(default_factory=dict)
    gauges: dict[Key, float] = field(default_factory=dict)

    def add(self, name: str, value: Number, *attributes: tuple[str, str]) -> None:
        """Add to a sum. Nothing is kept of 0: a counter that never moved has no point to show."""
        if value:
            key = (name, attributes)
            self.sums[key] = self.sums.get(key, 0) + value

    def add_histogram(self, name: str, histogram: Histogram, *attributes: tuple[str, str]) -> None:
        """Add to a histogram with the same bounds. Other bounds under one name are another bundle's: they replace."""
        key = (name, attributes)
        known = self.histograms.get(key)
        if known is None or known.bounds != histogram.bounds:
            self.histograms[key] = Histogram(histogram.bounds, list(histogram.counts))
        else:
            known.counts = [a + b for a, b in zip(known.counts, histogram.counts, strict=True)]

    def merge(self, other: Figures) -> None:
        for key, value in other.sums.items():
            self.sums[key] = self.sums.get(key, 0) + value
        for (name, attributes), histogram in other.histograms.items():
            self.add_histogram(name, histogram, *attributes)
        self.gauges.update(other.gauges)


def figures_of(window: Mapping[str, Any], profile: Mapping[str, Any] | None, windows: int = 1) -> Figures:
    """The figures of a window that ``window.check_window`` accepts with this profile, or of the sum of ``windows``."""
    figures = Figures()
    figures.add("edgeml.telemetry.windows", windows)
    figures.add("edgeml.model.rows", window["rows"])
    for kind in ("one", "batch"):
        of_kind = ("edgeml.call.kind", kind)
        figures.add("edgeml.model.calls", window["calls"][kind], of_kind)
        if window["latency"][kind]:
            # A latency of exactly a bound, to the nanosecond, is counted in the bucket above it.
            counts = dense(window["latency"][kind], LATENCY_BINS)
            figures.add_histogram("edgeml.model.call.duration", Histogram(_latency_bounds(), counts), of_kind)
    for error, count in window["errors"].items():
        figures.add("edgeml.model.errors", count, ("error.type", error))
    for field_name, prefix in (("features", "edgeml.model.feature"), ("scores", "edgeml.model.score")):
        of_field = prefix.replace("model.", "") + ".name"
        for record, pairs in zip(profile[field_name] if profile else [], window[field_name], strict=True):
            if pairs:
                _count_record(figures, prefix, (of_field, record["name"]), record, pairs)
    for name, value in window["system"].items():
        if value is not None:
            gauge = SYSTEM.get(name) or Gauge(f"edgeml.system.{name}", "1", "")
            figures.gauges[gauge.name, gauge.attributes] = value * gauge.factor
    _count_feedback(figures, window["feedback"])
    return figures


def lost(figures: Figures, kind: str, reason: str, items: int, rows: int) -> None:
    """Count what a device could not keep."""
    why = (("edgeml.item.kind", kind), ("edgeml.loss.reason", reason))
    figures.add("edgeml.telemetry.lost.items", items, *why)
    figures.add("edgeml.telemetry.lost.rows", rows, *why)


def metric(name: str) -> Metric:
    """What is known of a metric; figures of the device beside those listed are gauges without a unit."""
    if name in METRICS:
        return METRICS[name]
    gauge = _GAUGES.get(name)
    return Metric("gauge", gauge.unit if gauge else "1", gauge.description if gauge else "A figure of the device.")


@lru_cache(maxsize=1)
def _latency_bounds() -> tuple[float, ...]:
    return tuple(latency_edges())


def _count_record(
    figures: Figures, prefix: str, name: tuple[str, str], record: Mapping[str, Any], pairs: Sequence[int]
) -> None:
    counts = dense(pairs, len(record["counts"]))
    if record["kind"] == "numeric":
        finite, (nan, low, high) = counts[:-3], counts[-3:]
        if any(finite):
            bounds, merged = _bucket(record["edges"], record["dtype"], finite)
            figures.add_histogram(f"{prefix}.value", Histogram(bounds, merged), name)
        states: Iterable[tuple[str, int]] = zip(
            ("below", "in_range", "above", "missing", "-inf", "+inf"),
            (finite[0], sum(finite[1:-1]), finite[-1], nan, low, high),
            strict=True,
        )
        for state, count in states:
            figures.add(f"{prefix}.count", count, name, ("edgeml.value.state", state))
        return
    *categories, other, unseen, missing = slot_names(record)
    for slot, category in enumerate(categories):
        figures.add(
            f"{prefix}.count", counts[slot], name, ("edgeml.value.state", "named"), ("edgeml.value.category", category)
        )
    for state, count in zip((other, unseen, missing), counts[-3:], strict=True):
        figures.add(f"{prefix}.count", count, name, ("edgeml.value.state", state))


def _bucket(edges: Sequence[Number], dtype: str, finite: Sequence[int]) -> tuple[tuple[float, ...], list[int]]:
    """Bounds and counts of buckets closed on the right that hold exactly what the profile's bins, closed on the left,
    hold: the bound below an edge is the greatest value below it. Without it each whole number of a feature that is
    one would stand in the bucket of the number after it.
    """
    bounds: list[float] = []
    counts = [finite[0]]
    if not edges:  # no finite reference value: all finite values count as above
        return (), [sum(finite)]
    for bound, count in zip(_bounds(edges, dtype), finite[1:], strict=True):
        # Nothing is below the least float64; and integers beyond 2**53 may be one float64.
        if bound > (bounds[-1] if bounds else -math.inf):
            bounds.append(bound)
            counts.append(count)
        else:
            counts[-1] += count
    return tuple(bounds), counts


def _bounds(edges: Sequence[Number], dtype: str) -> Iterator[float]:
    for edge in edges[:-1]:
        whole = dtype == "int64" and abs(edge) < 2**53
        yield float(edge - 1) if whole else math.nextafter(float(edge), -math.inf)
    yield float(edges[-1])


def _count_feedback(figures: Figures, feedback: Mapping[str, Any] | None) -> None:
    if feedback is None:
        return
    prefix = "edgeml.model.feedback"
    figures.add(f"{prefix}.unmatched", feedback["unmatched"])
    if "confusion" not in feedback:
        figures.add(f"{prefix}.rows", feedback["rows"])
        for name in ("error", "absolute_error", "squared_error", "y", "y_squared"):
            figures.add(f"{prefix}.{name}", float(feedback[name]))
        return
    outcome = "edgeml.feedback.outcome"
    figures.add(f"{prefix}.rows", feedback["correct"], (outcome, "correct"))
    figures.add(f"{prefix}.rows", feedback["rows"] - feedback["correct"], (outcome, "incorrect"))
    for label, row in feedback["confusion"].items():
        for predicted, count in row.items():
            figures.add(
                f"{prefix}.confusion", count, ("edgeml.label.true", label), ("edgeml.label.predicted", predicted)
            )

"""Windows as OpenTelemetry metrics: ``ExportMetricsServiceRequest`` messages for a collector that speaks OTLP.

Comes in: readings, each the figures of one window (``otlp_figures.py``) with its resource and its time. Goes out: one
protobuf message; ``otlp_send.py`` sends it. Called by the agent for its own device and by the monitor for all. Needs
the extra [otlp] (package opentelemetry-proto), imported when the first message is made.

Windows are deltas, and are sent as such by default. For receivers that want cumulative sums, as Prometheus does,
``Cumulative`` adds them up: its start time is when the process began to add, so that a restart is seen as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

from edgeml._version import __version__
from edgeml.errors import OtlpError
from edgeml.telemetry.otlp_figures import Attributes, Figures, Histogram, figures_of, metric

if TYPE_CHECKING:
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

INSTALL = "pip install 'edgeml-sdk[otlp]'"
DELTA, CUMULATIVE = "delta", "cumulative"
TEMPORALITIES = (DELTA, CUMULATIVE)

Value = str | int
Resource = tuple[tuple[str, Value], ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """Figures of the time from ``start`` to ``end``, in Unix seconds, of what ``resource`` names."""

    resource: Resource
    start: float
    end: float
    figures: Figures


def resource_of(
    window: Mapping[str, Any], *, device: str | None, stream: str | None, more: Mapping[str, Value] | None = None
) -> Resource:
    """What a window is of. A stream, one process's recorder, is OpenTelemetry's instance of a service."""
    known: dict[str, Value] = {
        "service.name": "edgeml",
        "telemetry.sdk.name": "edgeml",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": __version__,
        "edgeml.model.name": window["model"]["name"],
        "edgeml.model.version": window["model"]["version"],
        "edgeml.model.manifest_sha256": window["model"]["manifest_sha256"],
        "process.pid": window["process"]["pid"],
    }
    if device is not None:
        known["device.id"] = device
    if stream is not None:
        known["service.instance.id"] = str(UUID(stream))
    known.update(more or {})
    return tuple(sorted(known.items()))


def reading_of(
    window: Mapping[str, Any],
    profile: Mapping[str, Any] | None,
    resource: Resource,
    *,
    start: float | None = None,
    end: float | None = None,
) -> Reading:
    """The reading of a window. Without ``start`` and ``end`` it ended when the device's wall clock said."""
    if end is None:
        end = float(window["wall"])
    if start is None:
        start = end - (window["end"] - window["start"])
    return Reading(resource, start, end, figures_of(window, profile))


@dataclass(slots=True)
class _Total:
    start: float
    end: float
    figures: Figures


@dataclass(slots=True)
class Cumulative:
    """Adds up readings by resource. A resource not heard of for ``forget_after`` seconds is let go, so that streams of
    ended processes do not pile up; should it come back, it starts anew. At most ``limit`` resources are held.
    """

    forget_after: float = 3600.0
    limit: int = 10_000
    _totals: dict[Resource, _Total] = field(default_factory=dict)

    def add(self, readings: Iterable[Reading]) -> list[Reading]:
        """The totals of the resources that these readings are of, each as of its latest end."""
        changed: dict[Resource, None] = {}
        for reading in readings:
            total = self._totals.pop(reading.resource, None)
            if total is None:
                total = _Total(reading.start, reading.end, Figures())
            total.figures.merge(reading.figures)
            # A window that comes late adds to the total of now: time goes forward only. Two totals of one time would
            # be taken for one, hence the step of a microsecond.
            total.end = reading.end if reading.end > total.end else total.end + 1e-6
            self._totals[reading.resource] = total  # at the end: the order is that of last use
            changed[reading.resource] = None
        latest = max((self._totals[r].end for r in changed), default=0.0)
        for resource, total in list(self._totals.items()):
            if total.end >= latest - self.forget_after and len(self._totals) <= self.limit:
                break
            if resource not in changed:
                del self._totals[resource]
        return [Reading(r, self._totals[r].start, self._totals[r].end, self._totals[r].figures) for r in changed]


def to_request(readings: Sequence[Reading], temporality: str = DELTA) -> ExportMetricsServiceRequest:
    """One message of all readings: a ResourceMetrics for each resource, a Metric for each name.

    ``temporality`` says what the readings are: single windows, or the totals of ``Cumulative``. Raises OtlpError when
    the extra is not installed.
    """
    try:
        from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
        from opentelemetry.proto.metrics.v1 import metrics_pb2 as pb
    except ImportError:
        raise OtlpError("OTLP needs the package opentelemetry-proto", INSTALL) from None

    order = pb.AGGREGATION_TEMPORALITY_DELTA if temporality == DELTA else pb.AGGREGATION_TEMPORALITY_CUMULATIVE
    request = ExportMetricsServiceRequest()
    by_resource: dict[Resource, list[Reading]] = {}
    for reading in readings:
        by_resource.setdefault(reading.resource, []).append(reading)
    for resource, group in by_resource.items():
        block = request.resource_metrics.add()
        for name, value in resource:
            _set(block.resource.attributes.add(), name, value)
        scope = block.scope_metrics.add()
        scope.scope.name, scope.scope.version = "edgeml", __version__
        points = _Points(scope, order)
        for reading in sorted(group, key=lambda r: r.end):
            points.write(reading)
    return request


class _Points:
    """The metrics of one resource, made as their first points come."""

    def __init__(self, scope: Any, temporality: int) -> None:
        self._scope, self._temporality = scope, temporality
        self._made: dict[str, Any] = {}

    def write(self, reading: Reading) -> None:
        start, end = _nanoseconds(reading.start), _nanoseconds(reading.end)
        for (name, attributes), value in reading.figures.sums.items():
            point = self._point(name, attributes, end, start)
            if isinstance(value, int):
                point.as_int = value
            else:
                point.as_double = value
        for (name, attributes), histogram in reading.figures.histograms.items():
            _write_histogram(self._point(name, attributes, end, start), histogram)
        for (name, attributes), value in reading.figures.gauges.items():
            self._point(name, attributes, end).as_double = value

    def _point(self, name: str, attributes: Attributes, end: int, start: int | None = None) -> Any:
        if name not in self._made:
            self._made[name] = self._make(name)
        point = self._made[name].data_points.add()
        point.time_unix_nano = end
        if start is not None:
            point.start_time_unix_nano = start
        for attribute, value in attributes:
            _set(point.attributes.add(), attribute, value)
        return point

    def _make(self, name: str) -> Any:
        known = metric(name)
        made = self._scope.metrics.add()
        made.name, made.unit, made.description = name, known.unit, known.description
        if known.kind == "gauge":
            made.gauge.SetInParent()
            return made.gauge
        data = made.histogram if known.kind == "histogram" else made.sum
        data.aggregation_temporality = self._temporality
        if known.kind != "histogram":
            data.is_monotonic = known.kind == "sum"
        return data


def _write_histogram(point: Any, histogram: Histogram) -> None:
    # A sum of values is not known, only bins are: the optional field stays unset rather than guessed.
    point.explicit_bounds.extend(histogram.bounds)
    point.bucket_counts.extend(histogram.counts)
    point.count = sum(histogram.counts)


def _set(pair: Any, name: str, value: Value) -> None:
    pair.key = name
    if isinstance(value, str):
        pair.value.string_value = value
    else:
        pair.value.int_value = value


def _nanoseconds(seconds: float) -> int:
    """Unix nanoseconds as OTLP's unsigned 64 bits hold them: a device's clock may stand before 1970."""
    return min(max(round(seconds * 1e9), 0), 2**63 - 1)

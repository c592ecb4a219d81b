"""The quantisation report of a bundle as tables: what was asked, what each format became, and what it costs.

Comes in: the member report.json's key "quantization", of which every part but ``mode`` may be absent; go out: tables
that the terminal (here and in describe.py) and the HTML report (quantization_html.py) show alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from edgeml.cli import output
from edgeml.errors import InputError, ManifestError

Report = Mapping[str, Any]
Row = tuple[output.Cell, ...]

# How the values of each limit of a budget read.
_LIMITS: dict[str, Callable[[float], str]] = {
    "label_flips": lambda v: percent(v),
    "metric_drop": lambda v: percent(v),
    "max_abs_error": lambda v: f"{v:.3g}",
    "max_bytes": lambda v: output.size(v),
    "max_latency_us": lambda v: f"{v:.3g} us",
}


@dataclass(frozen=True, slots=True)
class Table:
    """A table with a title; its last column is the one that may be long."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[Row]


def of_bundle(bundle: Any) -> Report:
    """The report of an open bundle. Raises InputError when the bundle is not quantised."""
    whole = bundle.json("report.json") if "report.json" in bundle else {}
    report: Report = whole.get("quantization") or {"mode": "none"}
    if report.get("mode", "none") == "none":
        raise InputError(
            f"{bundle.path} is not quantised (quantize=none): nothing to show",
            "compile the pipeline with --quantize int8, or another form that `edgeml compile --help` lists",
        )
    return report


@contextmanager
def as_written() -> Iterator[None]:
    """Around whatever reads a report: one that is not as the compiler writes it is the file's fault, not ours."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise ManifestError(f"report.json is malformed: {error!r}", "compile the pipeline again") from error


def percent(value: float) -> str:
    """A share for people: 0.04 %."""
    return f"{100 * value:.3g} %"


def limit(name: str, value: float) -> str:
    """A limit of a budget for people: label_flips 0.1 %."""
    return f"{name} {_limit(name, value)}"


def headline(report: Report) -> str:
    """What was asked for, in one line."""
    target = report.get("target")
    return f"{report['mode']}{f' for {target}' if target else ''}"


def notes(report: Report) -> list[str]:
    """Sentences around the tables: the rows that were used, and the budget."""
    found = []
    rows = report.get("rows") or {}
    if rows:
        parts = [f"{word} on {rows[key]} rows" for key, word in _ROWS if rows.get(key) is not None]
        found.append("; ".join(parts))
    limits = [limit(key, v) for key, v in (report.get("budget") or {}).items() if v is not None]
    if limits:
        sure = report.get("confidence")
        found.append(f"budget: {', '.join(limits)}" + (f"; bounds at {percent(sure)} confidence" if sure else ""))
    times = [f"{name} {e['latency_us']:.3g} us" for name, e in _formats(report) if e.get("latency_us") is not None]
    if times:
        found.append(f"one row, where it was compiled: {', '.join(times)}")
    return [note for note in (*found, *not_judged(report)) if note]


def not_judged(report: Report) -> list[str]:
    """A sentence for each limit or metric that the answers do not define; formats have them in common."""
    reasons: dict[str, str] = {}
    for _, entry in _formats(report):
        reasons |= entry.get("not_judged") or {}
    return [f"{name} is not judged: {why}" for name, why in reasons.items()]


_ROWS = (("calibration", "calibrated"), ("judged", "judged"))


def sizes(entry: Report) -> tuple[int, int]:
    """Bytes of a format's members: float, quantised."""
    members = (entry.get("members") or {}).values()
    return sum(int(m["float"]) for m in members), sum(int(m["quantized"]) for m in members)


def ratio(before: float, after: float) -> str:
    """How many times smaller: 2.2x."""
    return f"{before / after:.1f}x" if after else "—"


def worst_drop(entry: Report) -> str:
    """The metric that may have lost the most, with its interval; empty without metrics."""
    metrics = entry.get("metrics") or {}
    if not metrics:
        return ""
    name = max(metrics, key=lambda m: _at_most(metrics[m]))
    parts = (name, _decimals(metrics[name].get("drop")), _interval(metrics[name]))
    return " ".join(part for part in parts if part)


def _at_most(metric: Report) -> float:
    """The upper end of a drop; the drop itself where the report has no interval."""
    return _finite(metric["drop"] if metric.get("high") is None else metric["high"])


def _decimals(value: float | None) -> str:
    """A metric, where null stands for one that is infinite."""
    # Adding 0 takes the sign from a zero.
    return "infinite" if value is None else f"{round(value, 4) + 0.0:.4f}"


def _interval(metric: Report) -> str:
    if metric.get("low") is None or metric.get("high") is None:
        return ""
    return f"[{_decimals(metric['low'])}..{_decimals(metric['high'])}]"


def flips(entry: Report) -> str:
    """Labels that differ, over all methods that give labels."""
    counts = [m for m in (entry.get("methods") or {}).values() if m.get("flips") is not None]
    if not counts:
        return "—"
    worst = max(counts, key=lambda m: int(m["flips"]))
    return f"{worst['flips']}/{worst['rows']}" if worst.get("rows") is not None else str(worst["flips"])


def worst_error(entry: Report) -> str:
    """The largest absolute error of the method that the plot shows; where there is none, of any method.

    Logarithms of probabilities near zero are off by a lot and mean nothing, so they only count for themselves.
    """
    methods = {name: m for name, m in (entry.get("methods") or {}).items() if "max_abs" in m}
    shown = (entry.get("plot") or {}).get("method")
    chosen = [methods[shown]] if shown in methods else list(methods.values())
    return _error(max(_finite(m["max_abs"]) for m in chosen)) if chosen else "—"


def _finite(error: float | None) -> float:
    """An error of the report, where null stands for one that is infinite."""
    return math.inf if error is None else float(error)


def _error(value: float) -> str:
    return output.short(value) if math.isfinite(value) else "infinite"


def verdict(kept: Any) -> str:
    """Whether a budget was kept."""
    return "" if kept is None else "yes" if kept else "no"


def tables(report: Report) -> list[Table]:
    """Every table of the report that has something to show."""
    parts = (overview, _limits, _answers, _metrics, _members, _operations, _tried)
    return [table for table in (part(report) for part in parts) if table.rows]


def overview(report: Report) -> Table:
    """A row a format."""
    rows: list[Row] = []
    for name, entry in _formats(report):
        before, after = sizes(entry)
        rows.append(
            (
                name,
                output.size(before) if before else None,
                output.size(after) if after else None,
                ratio(before, after),
                flips(entry),
                worst_error(entry),
                verdict(entry.get("kept")) or "—",
                worst_drop(entry) or "—",
            )
        )
    header = ("format", "float", "quantised", "ratio", "flips", "max error", "kept", "metric drop")
    # What no format has is no column: a lossless form has sizes alone.
    shown = [at for at in range(len(header)) if at < 4 or any(row[at] != "—" for row in rows)]
    picked = [tuple(row[at] for at in shown) for row in rows]
    return Table(f"Quantisation: {headline(report)}", tuple(header[at] for at in shown), picked)


def _formats(report: Report) -> list[tuple[str, Report]]:
    return list((report.get("formats") or {}).items())


def _limits(report: Report) -> Table:
    rows: list[Row] = []
    for name, entry in _formats(report):
        for found in entry.get("limits") or []:
            key = str(found["name"])
            values = [_limit(key, found.get(part)) for part in ("measured", "bound", "limit")]
            rows.append((name, key, *values, verdict(found.get("kept")), found.get("note") or ""))
    return Table("Budget", ("format", "limit", "measured", "bound", "allowed", "kept", ""), rows)


def _limit(key: str, value: float | None) -> str | None:
    if value is None:
        return None
    return _LIMITS[key](float(value)) if key in _LIMITS else f"{float(value):.4g}"


def _answers(report: Report) -> Table:
    rows: list[Row] = []
    for name, entry in _formats(report):
        for method, found in (entry.get("methods") or {}).items():
            keys = ("max_abs", "p999_abs", "mean_abs")
            errors = [_error(_finite(found[key])) if key in found else None for key in keys]
            bound = _optional(found, "flip_bound", percent)
            rows.append((name, method, found.get("rows"), found.get("flips"), bound, *errors))
    header = ("format", "method", "rows", "flips", "bound", "max error", "p99.9", "mean")
    return Table("Answers against scikit-learn", header, rows)


def _metrics(report: Report) -> Table:
    rows: list[Row] = []
    for name, entry in _formats(report):
        for metric, found in (entry.get("metrics") or {}).items():
            values = [_decimals(found[key]) if key in found else None for key in ("float", "quantized", "drop")]
            rows.append((name, metric, *values, _interval(found) or "—"))
    return Table("Metrics", ("format", "metric", "float", "quantised", "drop", "interval of the drop"), rows)


def _members(report: Report) -> Table:
    rows: list[Row] = []
    for name, entry in _formats(report):
        for member, m in (entry.get("members") or {}).items():
            before, after = m["float"], m["quantized"]
            rows.append((name, output.size(before), output.size(after), ratio(before, after), member))
    return Table("Bytes", ("format", "float", "quantised", "ratio", "member"), rows)


def _operations(report: Report) -> Table:
    rows: list[Row] = []
    for op in report.get("ops") or []:
        count = op.get("bytes") or {}
        form = "; ".join(text for text in (op.get("step"), op.get("form"), op.get("note")) if text)
        shape = " x ".join(map(str, op.get("shape") or ())) or None
        saved = [_optional(count, key, output.size) for key in ("float", "quantized")]
        rows.append((op.get("op"), shape, *saved, form))
    return Table("Operations with weights", ("op", "shape", "float", "quantised", "step; form"), rows)


def _tried(report: Report) -> Table:
    rows: list[Row] = []
    for attempt in report.get("tried") or []:
        what = "; ".join(text for text in (attempt.get("forms"), attempt.get("why")) if text)
        rows.append((verdict(attempt.get("kept")), _optional(attempt, "bytes", output.size), what))
    return Table("Tried", ("kept", "largest", "forms"), rows)


def _optional(found: Report, key: str, read: Callable[[float], str]) -> str | None:
    return None if found.get(key) is None else read(float(found[key]))


def show(report: Report) -> None:
    """The whole report on stdout."""
    first = overview(report)
    summary(first)
    for note in notes(report):
        output.paragraph(note)
    for table in tables(report):
        if table.title != first.title:
            output.table(table.title, table.header, table.rows)


def summary(table: Table) -> None:
    """The overview on stdout; its title alone where the report names no format."""
    if table.rows:
        output.table(table.title, table.header, table.rows)
    else:
        output.title(table.title)

"""One benchmark run as tables for people. Comes in: a run as bench_file.FIELDS has it. Called by bench.py; the units
and ratios are shared with bench_compare.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeml.cli import output
from edgeml.cli.bench_rows import GOLDEN
from edgeml.cli.output import Cell

Run = Mapping[str, Any]
# An engine, and whether, how many rows at a time and on how many threads it was timed.
Case = tuple[bool, int, int | None]

# Whoever of these is first is what ratios of engines refer to: what people come from.
_BASES = ("scikit-learn", "onnx", "tflite", "numpy", "native")


def show(run: Run) -> None:
    """Everything a person wants of a run, on stdout."""
    bundle, settings = run["bundle"], run["settings"]
    output.line(f"{bundle['name']} version {bundle['version']}, {output.size(bundle['bytes'])}, on {run['label']}")
    output.line(f"{bundle['estimator']}, {bundle['columns']} columns")
    base = base_engine([run])
    _single_rows(run, base)
    for rows in settings["batches"]:
        _batches(run, rows, base)
    _starts(run)
    output.line()
    for line in notes(run, base):
        output.paragraph(line)


def warn(run: Run) -> None:
    """On stderr, so that it is seen with --json too: wrong answers, and a machine that was busy or emulated."""
    for entry in run["engines"]:
        if entry["problem"] is not None:
            output.note(f"note: {entry['engine']} was not measured: {entry['problem']}")
        elif entry["agreement"] is not None and not entry["agreement"]["agrees"]:
            output.note(f"warning: {wrong(entry)}")
    for line in doubts(run):
        output.note(f"warning: {line}")


def doubts(run: Run) -> list[str]:
    """Why the times of a run are not to be trusted."""
    found = []
    if run["machine"]["emulated"] is not None:
        found.append(
            f"{run['label']} is emulated ({run['machine']['emulated']}): its times are no device's, publish none"
        )
    if run["noise"]["busy"]:
        found.append(f"{run['label']} was busy: {'; '.join(run['noise']['busy'])}. Measure again when it is quiet")
    return found


def wrong(entry: Mapping[str, Any]) -> str:
    """An engine's answers that differ, in a line."""
    found = entry["agreement"]
    return f"{entry['engine']} answers otherwise than {found['against']}: {'; '.join(found['problems'])}"


def base_engine(runs: Sequence[Run]) -> str | None:
    """What ratios of engines refer to: the first of _BASES that every run has timed; None where there is none, or
    nothing to compare with it.
    """
    timed = [{e["engine"] for e in run["engines"] if e["runs"]} for run in runs]
    shared = [name for name in _BASES if all(name in names for names in timed)]
    return shared[0] if shared and any(len(names) > 1 for names in timed) else None


def cases(run: Run) -> dict[str, dict[Case, Mapping[str, Any]]]:
    """Figures by engine and case."""
    return {e["engine"]: {(r["single"], r["rows"], r["threads"]): r for r in e["runs"]} for e in run["engines"]}


def figure_of(found: Mapping[str, Mapping[Case, Mapping[str, Any]]], engine: str | None, case: Case) -> Any:
    """An engine's figures of a case, None where it has none. scikit-learn has no number of threads: it stands beside
    every one, and beside the first of another engine.
    """
    by_case = found.get(engine or "", {})
    alike = [figures for other, figures in by_case.items() if other[:2] == case[:2]]
    if case in by_case or not alike:
        return by_case.get(case)
    return alike[0] if case[2] is None or alike[0]["threads"] is None else None


def ratio(value: float) -> str:
    """How many times as fast: 0.42x, 1.0x, 37x, 1,250x."""
    return f"{value:,.0f}x" if value >= 10 else f"{value:.1f}x" if value >= 0.95 else f"{value:.2g}x"


def rate(value: float) -> str:
    """Rows a second for people: 950, 12.3k, 4.56M."""
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.0f}"


def threads_of(threads: int | None) -> str:
    return "—" if threads is None else str(threads)


# --- tables -------------------------------------------------------------------------------------------------
def _single_rows(run: Run, base: str | None) -> None:
    rows, found = [], cases(run)
    for entry in run["engines"]:
        if not entry["runs"]:
            rows.append((entry["engine"], *["—"] * 7))
        for r in (r for r in entry["runs"] if r["single"]):
            case = (True, 1, r["threads"])
            cells = [output.seconds(r[name]) for name in ("p50_s", "p10_s", "p99_s")]
            rows.append(
                (
                    _name(entry),
                    threads_of(r["threads"]),
                    *cells,
                    _spread(r),
                    _against(found, base, entry, case),
                    _same(entry),
                )
            )
    header = ("engine", "threads", "p50", "p10", "p99", "spread", "ratio", "answers")
    _table(f"{run['settings']['method']}, one row", header, rows, run)


def _batches(run: Run, size: int, base: str | None) -> None:
    rows, found = [], cases(run)
    for entry in run["engines"]:
        for r in (r for r in entry["runs"] if not r["single"] and r["rows"] == size):
            case = (False, size, r["threads"])
            cells = [output.seconds(r[name]) for name in ("p50_s", "p10_s", "p99_s")]
            rows.append(
                (
                    _name(entry),
                    threads_of(r["threads"]),
                    *cells,
                    _spread(r),
                    _against(found, base, entry, case),
                    rate(r["rows_per_s"]),
                    f"{r['repeats']:,}",
                )
            )
    header = ("engine", "threads", "p50", "p10", "p99", "spread", "ratio", "rows/s", "repeats")
    _table(f"{run['settings']['method']}, batches of {size:,}", header, rows, run)


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[Cell]], run: Run) -> None:
    """A table, without the column of threads where all engines had one."""
    if run["settings"]["threads"] == [1]:
        header, rows = [h for h in header if h != "threads"], [[*row[:1], *row[2:]] for row in rows]
    output.table(title, header, rows)


def _starts(run: Run) -> None:
    rows: list[tuple[Cell, ...]] = []
    for e in run["engines"]:
        times = [None if e[name] is None else output.seconds(e[name]) for name in ("load_s", "first_answer_s")]
        sizes = [None if e[n] is None else output.size(e[n]) for n in ("peak_bytes", "above_numpy_bytes", "bytes")]
        rows.append((e["engine"], *times, *sizes, e["kernels"]))
    bare = run["numpy"]
    alone = (
        None if bare["start_s"] is None else output.seconds(bare["start_s"]),
        None if bare["peak_bytes"] is None else output.size(bare["peak_bytes"]),
    )
    rows.append(("(NumPy alone)", None, *alone, None, None, None))
    header = ("engine", "load", "first answer", "peak RSS", "above NumPy", "size", "kernels")
    output.table("Start, memory, size", header, rows)


def notes(run: Run, base: str | None) -> list[str]:
    """What the columns mean, and what to know of this run."""
    settings = run["settings"]
    whose = f"{settings['distinct_rows']:,} {settings['rows_from']}"
    lines = [
        "p10, p50, p99: of single calls, engines by turns; spread: (p90 - p10) / p10"
        + (f"; ratio: times as fast as {base}" if base else "")
        + f". Timing itself adds {output.seconds(run['timer_s'])}. Load: in this process; first answer: from the start "
        "of a new process; peak RSS: of that process.",
        f"measured with {whose}, over and over"
        + ("; a CPU learns so few by heart: give real ones with --data" if settings["rows_from"] == GOLDEN else ""),
    ]
    if settings["fast"]:
        lines.append(f"EDGEML_FAST={settings['fast']}: not all fast ways are on")
    machine, software = run["machine"], run["software"]
    versions = ", ".join(f"{n} {v}" for n, v in software.items() if v is not None)
    places = [p for p in (machine["board"], machine["virtual"], machine["container"]) if p]
    about = ", ".join([machine["cpu"], f"{machine['cores_usable']} cores", *places])
    lines.append(f"{about}; {machine['os']}; {versions}")
    return lines


def _name(entry: Mapping[str, Any]) -> str:
    """The native engine says so when it has no compiled kernels."""
    return "native (NumPy)" if entry["engine"] == "numpy" or entry["kernels"] == "NumPy" else str(entry["engine"])


def _spread(r: Mapping[str, Any]) -> str | None:
    return f"{r['p90_s'] / r['p10_s'] - 1:.0%}" if r["p10_s"] else None


def _against(found: Any, base: str | None, entry: Mapping[str, Any], case: Case) -> str | None:
    other, mine = figure_of(found, base, case), figure_of(found, entry["engine"], case)
    return None if other is None or entry["engine"] == base else ratio(other["p50_s"] / mine["p50_s"])


def _same(entry: Mapping[str, Any]) -> str | None:
    found = entry["agreement"]
    if found is None:
        return None
    if not found["agrees"]:
        return "DIFFER"
    return (
        "equal"
        if found["max_abs"] == 0 and not found["labels_different"]
        else f"within {output.short(found['max_rel'])}"
    )

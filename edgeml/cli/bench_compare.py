"""``edgeml bench compare``: runs of several machines side by side.

In come files that ``edgeml bench -o`` wrote; out go tables, a JSON document or a plot (bench_plot.py). ``merge`` does
the work and knows what may stand beside what: the same bundle, method and rows. A group of its own, bench.py, holds it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from edgeml.cli import options, output
from edgeml.errors import InputError

FORMAT = "edgeml bench comparison 1"
_BESIDE = 4  # machines a table holds in 80 columns
_PLOTS = (".png", ".svg", ".html")


@click.command(short_help="Put the runs of several machines side by side.")
@click.argument("files", nargs=-1, required=True, type=options.FILE, metavar="FILE.json…")
@click.option("--base", metavar="LABEL", help="The machine that ratios refer to. Default: that of the first file.")
@click.option(
    "--force",
    is_flag=True,
    help="Compare runs of different bundles, methods or rows all the same; what differs is said.",
)
@click.option("-o", "--output", "plot", type=options.FILE, help="Draw the comparison to a .png, .svg or .html file.")
@options.json_option
def command(files: tuple[Path, ...], base: str | None, force: bool, plot: Path | None, as_json: bool) -> None:
    """Compare what `edgeml bench -o FILE.json` measured on several machines, or on one at several times.

    For each engine and batch: the median of each machine and how many times as fast it is as the base; then how the
    engines of one machine compare. Runs of one label are told apart as LABEL, LABEL (2) and so on, in the order given.
    No absolute time of an emulated machine is shown.

    \b
    Examples:
      edgeml bench compare laptop.json board.json
      edgeml bench compare old.json new.json --base old -o speed.png
    """
    from edgeml.cli import bench_file

    if plot is not None and plot.suffix.lower() not in _PLOTS:
        raise InputError(f"-o {plot}: a picture ends in {', '.join(_PLOTS)}", "name the file so; --json gives the data")
    if plot is not None and any(plot.resolve() == path.resolve() for path in files):
        raise InputError(f"-o {plot} is an input file", "write to another file")
    merged = merge([(path, bench_file.read(path)) for path in files], base, force)
    if plot is not None:
        from edgeml.cli.bench_plot import write

        write(merged, plot)
    if as_json:
        output.print_json(merged)
    else:
        show(merged)
    for line in (*merged["differences"], *merged["doubts"]):
        output.note(f"warning: {line}")
    if plot is not None:
        output.note(f"{plot} is written")


def merge(
    runs: Sequence[tuple[Path, Mapping[str, Any]]], base: str | None = None, force: bool = False
) -> dict[str, Any]:
    """One document of several runs: machines, and for each case the figures by label.

    ``ratio`` is how many times as fast a machine is as the base, ``engine_ratio`` how many times as fast an engine is
    as ``base_engine`` on the same machine. Raises InputError for runs that do not belong together, unless ``force``,
    for one run given twice, and for a ``base`` that is none.
    """
    from edgeml.cli import bench_show

    labels = _labels(runs)
    chosen = labels[0] if base is None else base
    if chosen not in labels:
        raise InputError(f"--base {base}: no run has this label", f"use one of: {', '.join(map(repr, labels))}")
    differences = _differences(runs, labels)
    if differences and not force:
        raise InputError("these runs cannot be compared: " + "; ".join(differences), "measure alike, or use --force")
    by_label = {label: run for label, (_, run) in zip(labels, runs, strict=True)}
    engine = bench_show.base_engine(list(by_label.values()))
    found = {label: bench_show.cases(run) for label, run in by_label.items()}
    hidden = {label for label, run in by_label.items() if run["machine"]["emulated"] is not None}
    cases = []
    for name, case in _cases(found.values()):
        figures: dict[str, Any] = {}
        for label, by_engine in found.items():
            mine, other = by_engine.get(name, {}).get(case), bench_show.figure_of(by_engine, engine, case)
            basis = found[chosen].get(name, {}).get(case)
            if mine is None:
                figures[label] = None
                continue
            shown = {} if label in hidden else {k: mine[k] for k in ("p10_s", "p50_s", "p90_s", "p99_s", "rows_per_s")}
            compared = basis is not None and not hidden & {label, chosen}
            figures[label] = shown | {
                "ratio": basis["p50_s"] / mine["p50_s"] if compared and basis else None,
                "engine_ratio": other["p50_s"] / mine["p50_s"] if other else None,
            }
        cases.append({"engine": name, "single": case[0], "rows": case[1], "threads": case[2], "machines": figures})
    first = runs[0][1]
    return {
        "format": FORMAT,
        "bundle": first["bundle"],
        "method": first["settings"]["method"],
        "base": chosen,
        "base_engine": engine,
        "machines": [
            {"label": label, "file": str(path)}
            | {k: run[k] for k in ("date", "machine", "software", "noise", "settings")}
            for label, (path, run) in zip(labels, runs, strict=True)
        ],
        "cases": cases,
        "starts": _starts(by_label, hidden),
        "differences": differences,
        "doubts": [
            line
            for label, run in by_label.items()
            for line in (
                *bench_show.doubts({**run, "label": label}),
                *(
                    f"{label}: {bench_show.wrong(e)}"
                    for e in run["engines"]
                    if e["agreement"] is not None and not e["agreement"]["agrees"]
                ),
            )
        ],
    }


def _labels(runs: Sequence[tuple[Path, Mapping[str, Any]]]) -> list[str]:
    """A label for each run, numbered where one stands twice."""
    labels: list[str] = []
    for at, (path, run) in enumerate(runs):
        for earlier, other in runs[:at]:
            if run == other:
                raise InputError(f"{earlier} and {path} hold the same run", "give each run once")
        label, number = run["label"], 2
        while label in labels:
            label, number = f"{run['label']} ({number})", number + 1
        labels.append(label)
    return labels


def _differences(runs: Sequence[tuple[Path, Mapping[str, Any]]], labels: Sequence[str]) -> list[str]:
    """What makes runs incomparable with the first one."""
    first, found = runs[0][1], []
    for label, (_, run) in zip(labels[1:], runs[1:], strict=True):
        mine, other = run["bundle"], first["bundle"]
        if mine["manifest_sha256"] != other["manifest_sha256"]:
            found.append(f"{label!r} ran {_bundle(mine)}, {labels[0]!r} ran {_bundle(other)}")
        if run["settings"]["method"] != first["settings"]["method"]:
            found.append(f"{label!r} measured {run['settings']['method']}, {labels[0]!r} {first['settings']['method']}")
        elif run["settings"]["rows_sha256"] != first["settings"]["rows_sha256"]:
            found.append(f"{label!r} measured {_rows(run)}, {labels[0]!r} {_rows(first)}: other rows")
    return found


def _bundle(bundle: Mapping[str, Any]) -> str:
    return f"{bundle['name']} version {bundle['version']} ({bundle['manifest_sha256'][:12]})"


def _rows(run: Mapping[str, Any]) -> str:
    settings = run["settings"]
    return f"{settings['distinct_rows']} {settings['rows_from']} ({settings['rows_sha256'][:12]})"


def _cases(found: Any) -> list[tuple[str, Any]]:
    """Every (engine, case) of any run: single rows first, then batches by size; engines as the first run has them."""
    engines = list(dict.fromkeys(name for by_engine in found for name in by_engine))
    cases = {case for by_engine in found for figures in by_engine.values() for case in figures}
    order = sorted(cases, key=lambda case: (not case[0], case[1], case[2] or 0))
    sizes = list(dict.fromkeys((case[0], case[1]) for case in order))
    return [
        (name, case)
        for size in sizes
        for name in engines
        for case in order
        if case[:2] == size and any(case in by_engine.get(name, {}) for by_engine in found)
    ]


def _starts(runs: Mapping[str, Mapping[str, Any]], hidden: set[str]) -> list[dict[str, Any]]:
    """First answer, load and memory by engine and label."""
    names = list(dict.fromkeys(e["engine"] for run in runs.values() for e in run["engines"]))
    fields = ("load_s", "first_answer_s", "peak_bytes", "above_numpy_bytes")
    result = []
    for name in names:
        by_label: dict[str, Any] = {}
        for label, run in runs.items():
            entry = next((e for e in run["engines"] if e["engine"] == name), None)
            by_label[label] = None if entry is None or label in hidden else {k: entry[k] for k in fields}
        if any(v is not None for figures in by_label.values() if figures for v in figures.values()):
            result.append({"engine": name, "machines": by_label})
    return result


# --- tables -------------------------------------------------------------------------------------------------
def key(at: int) -> str:
    """A machine's short name in tables: A, B, …"""
    return chr(ord("A") + at) if at < 26 else f"M{at + 1}"


def case_name(case: Mapping[str, Any]) -> str:
    return "one row" if case["single"] else f"batches of {case['rows']:,}"


def engine_name(case: Mapping[str, Any], threaded: bool) -> str:
    """An engine, with its threads where runs have several numbers of them."""
    count = case["threads"] if threaded else None
    return f"{case['engine']}, {count} thread{'s' * (count > 1)}" if count else str(case["engine"])


def is_threaded(merged: Mapping[str, Any]) -> bool:
    return len({case["threads"] for case in merged["cases"] if case["threads"]}) > 1


def show(merged: Mapping[str, Any]) -> None:
    """The comparison on stdout."""
    from edgeml.cli.bench_show import rate, ratio

    labels = [m["label"] for m in merged["machines"]]
    base, threaded = labels.index(merged["base"]), is_threaded(merged)
    bundle = merged["bundle"]
    output.line(f"{bundle['name']} version {bundle['version']}: {merged['method']}")
    _machines(merged)
    sizes = list(dict.fromkeys((c["single"], c["rows"]) for c in merged["cases"]))
    for single, rows in sizes:
        cases = [c for c in merged["cases"] if (c["single"], c["rows"]) == (single, rows)]
        lines = [(engine_name(c, threaded), [c["machines"][label] for label in labels]) for c in cases]
        _beside(f"{case_name(cases[0])}: median", lines, "p50_s", output.seconds, base)
        if (single, rows) == sizes[-1] and not single:
            _beside(f"{case_name(cases[0])}: rows/s", lines, "rows_per_s", rate, None)
    others = [
        (f"{engine_name(c, threaded)}, {case_name(c)}", [c["machines"][label] for label in labels])
        for c in merged["cases"]
        if c["engine"] != merged["base_engine"]
    ]
    if merged["base_engine"] is not None and others:
        title = f"Times as fast as {merged['base_engine']} on the same machine"
        _beside(title, others, "engine_ratio", ratio, None)
    starts = [(s["engine"], [s["machines"][label] for label in labels]) for s in merged["starts"]]
    if starts:
        _beside("First answer of a new process", starts, "first_answer_s", output.seconds, base)
        _beside("Peak RSS of that process", starts, "peak_bytes", output.size, None)


def _machines(merged: Mapping[str, Any]) -> None:
    rows: list[tuple[output.Cell, ...]] = []
    about: list[str] = []
    for at, m in enumerate(merged["machines"]):
        machine, software = m["machine"], m["software"]
        state = "emulated" if machine["emulated"] is not None else "busy" if m["noise"]["busy"] else "quiet"
        rows.append((key(at), m["label"], machine["architecture"], machine["cores_usable"], state))
        cells = [machine["cpu"], machine["board"], machine["os"]]
        cells += [f"{n} {version}" for n, version in software.items() if version is not None]
        about.append(f"{key(at)}: {', '.join(filter(None, cells))}")
    output.table("Machines", ("", "label", "architecture", "cores", "state"), rows)
    for line in about:
        output.paragraph(line)
    labels = [m["label"] for m in merged["machines"]]
    if len(labels) > 1:
        output.paragraph(f"ratio below: times as fast as {key(labels.index(merged['base']))}")


def _beside(
    title: str,
    lines: Sequence[tuple[str, Sequence[Any]]],
    field: str,
    shown: Callable[[float], str],
    base: int | None,
) -> None:
    """A table of one field, machines side by side; with a ``base`` that has figures, each other one with its ratio.
    Tables of many machines follow one another.
    """
    from edgeml.cli.bench_show import ratio

    # A machine without a figure, such as an emulated one, takes no room.
    order = [at for at in range(len(lines[0][1])) if any((figures[at] or {}).get(field) for _, figures in lines)]
    fixed = [at for at in order if at == base]
    rest = [at for at in order if at != base]
    if not order:
        return
    step = _BESIDE - len(fixed)
    for start in range(0, max(len(rest), 1), step):
        part = [*fixed, *rest[start : start + step]]
        header = ["engine"]
        for at in part:
            header += [key(at), "ratio"] if fixed and at != base else [key(at)]
        rows = []
        for name, figures in lines:
            cells: list[output.Cell] = [name]
            for at in part:
                cells.append(_cell(figures[at], field, shown))
                if fixed and at != base:
                    mine, other = ((figures[i] or {}).get(field) for i in (at, fixed[0]))
                    cells.append(ratio(other / mine) if mine and other else None)
            rows.append(cells)
        output.table(title, header, rows)


def _cell(figures: Mapping[str, Any] | None, field: str, shown: Callable[[float], str]) -> str | None:
    value = None if figures is None else figures.get(field)
    return None if value is None else shown(value)

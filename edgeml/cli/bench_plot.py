"""Draws a comparison of benchmark runs with matplotlib: the time of one row on the left, rows a second on the right.

A line a machine and engine; engines differ in their marker and its fill, so that a print in black and white can be
read; whiskers go from the 10th to the 90th percentile. Comes in: what bench_compare.merge gives; goes out: a PNG, SVG
or HTML file. Called by ``edgeml bench compare -o``.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from edgeml.cli import output
from edgeml.cli.bench_compare import engine_name, is_threaded
from edgeml.cli.bench_show import rate
from edgeml.cli.results import new_file
from edgeml.errors import InputError

Merged = Mapping[str, Any]

# Marker and fill of an engine; those past the list share the last.
_MARKERS = {
    "scikit-learn": ("X", "#9aa0a6"),
    "native": ("o", "#1f6fb4"),
    "numpy": ("o", "#ffffff"),
    "onnx": ("s", "#d9822b"),
    "tflite": ("^", "#3c8d5a"),
}
_OTHER = ("D", "#5f6368")
_PACKAGES = ("edgeml", "python", "numpy", "onnxruntime", "ai-edge-litert", "scikit-learn")
_INK, _GREY = "#202124", "#5f6368"
_DOTS_PER_INCH = 150
_LINE = 0.26  # inches a line takes
_STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that the picture is the same everywhere
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": _GREY,
    "svg.hashsalt": "edgeml",  # equal comparisons give equal files
}


def write(merged: Merged, path: Path) -> None:
    """Draw the comparison to ``path``; its suffix, .png, .svg or .html, is the kind of file.

    Raises InputError when there is nothing to draw; ModuleNotFoundError, which becomes the pip command, without
    matplotlib.
    """
    kind = path.suffix.lower().removeprefix(".")
    data = draw(merged, "svg" if kind == "html" else kind)
    if kind == "html":
        data = _page(merged, data.decode()).encode("utf-8", "backslashreplace")
    with new_file(path) as file:
        file.write(data)


def draw(merged: Merged, kind: str) -> bytes:
    """The picture as ``kind``, "png" or "svg"."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    largest = _largest_batch(merged)
    panels = [(True, 1, "p50_s"), *([(False, largest, "rows_per_s")] if largest else [])]
    threaded = is_threaded(merged)
    lines = _lines(merged, panels, threaded)
    if not lines:
        raise InputError(
            "there is nothing to draw: no machine has a time that may be shown", "give a run of a real one"
        )
    with matplotlib.rc_context(_STYLE):
        height = _LINE * (lines[-1][0] + 2) + 1.75
        spacing = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08)  # inches
        figure = Figure(figsize=(5.9 * len(panels) + 0.8, height), layout=spacing)
        figure.suptitle("\n".join(_title(merged)), fontsize=10, fontweight="bold")
        for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            _panel(axes, merged, lines, panel, axes.get_subplotspec().is_first_col())
        footer = "\n".join(_footer(merged))
        figure.supxlabel(footer, x=0.01, ha="left", multialignment="left", fontsize=7.5, color=_GREY)
        file = io.BytesIO()
        figure.savefig(file, format=kind, dpi=_DOTS_PER_INCH, metadata={"Date": None} if kind == "svg" else None)
    return file.getvalue()


def _lines(
    merged: Merged, panels: Sequence[tuple[bool, int, str]], threaded: bool
) -> list[tuple[float, str, str, Any]]:
    """(place from the top, name, label of a heading's machine or '', what is drawn by panel): a heading a machine,
    below it a line an engine.
    """
    lines: list[tuple[float, str, str, Any]] = []
    at = 0.0
    for m in merged["machines"]:
        label, found = m["label"], []
        names = list(dict.fromkeys((engine_name(c, threaded), c["engine"], c["threads"]) for c in merged["cases"]))
        for name, engine, threads in names:
            figures = {}
            for single, rows, field in panels:
                for c in merged["cases"]:
                    if (c["engine"], c["threads"], c["single"], c["rows"]) == (engine, threads, single, rows):
                        mine = c["machines"][label]
                        if mine is not None and field in mine:
                            figures[field] = mine
            if figures:
                found.append((name, engine, figures))
        if not found:
            continue
        lines.append((at, _heading(m), label, None))
        for name, engine, figures in found:
            at += 1
            lines.append((at, name, "", (engine, figures)))
        at += 1.6
    return lines


def _panel(
    axes: Any, merged: Merged, lines: Sequence[tuple[float, str, str, Any]], panel: tuple[bool, int, str], first: bool
) -> None:
    single, rows, field = panel
    method = _plain(merged["method"])
    if single:
        axes.set_title(f"{method} of one row: median time (left is faster)", loc="left")
    else:
        axes.set_title(f"{method} in batches of {rows:,}: rows a second (right is faster)", loc="left")
    axes.set_xscale("log")
    values: list[float] = []
    for at, name, heading, drawn in lines:
        if heading:
            if first:
                axes.text(
                    -0.005, at, _plain(name), transform=axes.get_yaxis_transform(), ha="right", va="center",
                    fontweight="bold",
                )  # fmt: skip
            continue
        engine, figures = drawn
        if first:
            axes.text(-0.005, at, _plain(name), transform=axes.get_yaxis_transform(), ha="right", va="center")
        mine = figures.get(field)
        axes.axhline(at, color="#e3e5e8", linewidth=0.7, zorder=0)
        if mine is None:
            axes.text(
                0.5, at, "not measured", transform=axes.get_yaxis_transform(), ha="center", va="center", color=_GREY,
                fontsize=8,
            )  # fmt: skip
            continue
        value, low, high = _ends(mine, field)
        marker, fill = _MARKERS.get(engine, _OTHER)
        axes.plot([low, high], [at, at], color=_INK, linewidth=1.1, solid_capstyle="butt", zorder=1)
        axes.plot(
            value, at, marker, markersize=7.5, markerfacecolor=fill, markeredgecolor=_INK, markeredgewidth=0.9, zorder=2
        )
        text = output.seconds(value) if single else f"{rate(value)}/s"
        axes.annotate(
            text, (high, at), xytext=(7, 0), textcoords="offset points", va="center", fontsize=8, color=_INK, zorder=3,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
        )  # fmt: skip
        values += [value, low, high]
    _axis(axes, values, single)
    axes.set_ylim(lines[-1][0] + 0.7, -0.7)
    axes.set_yticks([])


def _axis(axes: Any, values: Sequence[float], single: bool) -> None:
    """Whole decades around the values, with room for the text to the right of the last one."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    if values:
        axes.set_xlim(min(values) / 1.6, max(values) * 5)
    shown = output.seconds if single else rate
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="x", which="major", color="#c4c7cb", linewidth=0.7)
    axes.grid(axis="x", which="minor", color="#eceef0", linewidth=0.5)
    axes.set_axisbelow(True)


def _ends(mine: Mapping[str, float], field: str) -> tuple[float, float, float]:
    """The value and both ends of its whisker."""
    if field == "p50_s":
        return mine["p50_s"], mine["p10_s"] or mine["p50_s"], mine["p90_s"]
    # A rate is rows over time: the ends of the times, turned round.
    factor = mine["rows_per_s"] * mine["p50_s"]
    return mine["rows_per_s"], factor / max(mine["p90_s"], mine["p50_s"]), factor / (mine["p10_s"] or mine["p50_s"])


def _heading(machine: Mapping[str, Any]) -> str:
    return _short(machine["label"]) + (" (busy)" if machine["noise"]["busy"] else "")


def _largest_batch(merged: Merged) -> int | None:
    """Rows of the largest batch that every machine with times has, else of the largest; None without any."""
    sizes: dict[str, set[int]] = {}
    for case in merged["cases"]:
        for label, mine in case["machines"].items():
            if mine is not None and "p50_s" in mine:
                sizes.setdefault(label, set()).update([] if case["single"] else [case["rows"]])
    shared = set.intersection(*sizes.values()) if sizes else set()
    return max(shared or set().union(*sizes.values()), default=None)


def _title(merged: Merged) -> list[str]:
    """The bundle, and the versions that are the same everywhere."""
    bundle = merged["bundle"]
    same = [f"{name} {version}" for name, version in _versions(merged["machines"][0]) if _is_shared(merged, name)]
    return [
        _plain(f"{bundle['name']} version {bundle['version']}: {bundle['estimator']}"[:110]),
        _plain(", ".join(same)),
    ]


def _footer(merged: Merged) -> list[str]:
    """What the marks mean, and what each machine is, with the versions that are not the same everywhere."""
    lines = ["marker: median; line: 10th to 90th percentile; logarithmic axes"]
    for m in merged["machines"]:
        own = [f"{name} {version}" for name, version in _versions(m) if not _is_shared(merged, name)]
        cells = [m["machine"]["cpu"], m["machine"]["os"], *own]
        if m["machine"]["emulated"] is not None:
            cells = ["emulated: no times are shown"]
        lines.append(_plain(f"{_short(m['label'])}: {', '.join(cells)}"))
    return [*lines, *(_plain(line) for line in merged["differences"])]


def _versions(machine: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(n, machine["software"][n]) for n in _PACKAGES if machine["software"].get(n)]


def _is_shared(merged: Merged, name: str) -> bool:
    return len({m["software"].get(name) for m in merged["machines"]}) == 1


def _short(label: str, most: int = 40) -> str:
    return label if len(label) <= most else f"{label[: most // 2]}…{label[-most // 2 :]}"


def _page(merged: Merged, picture: str) -> str:
    """One HTML file that needs nothing else: the picture, then the figures as a table."""
    labels = [m["label"] for m in merged["machines"]]
    head = "".join(f"<th>{_text(label)}<th>ratio" for label in labels)
    rows = []
    for case in merged["cases"]:
        what = "one row" if case["single"] else f"batches of {case['rows']:,}"
        cells = []
        for label in labels:
            mine = case["machines"][label] or {}
            time, times = mine.get("p50_s"), mine.get("ratio")
            cells.append(
                f"<td>{'—' if time is None else output.seconds(time)}<td>{'—' if times is None else f'{times:.3g}x'}"
            )
        rows.append(f"<tr><td>{_text(engine_name(case, is_threaded(merged)))}<td>{what}{''.join(cells)}")
    doubts = "".join(f"<p>warning: {_text(line)}</p>" for line in (*merged["differences"], *merged["doubts"]))
    title = _text(_title(merged)[0].replace(r"\$", "$"))
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{title}</title>\n'
        "<style>body { font: 15px/1.45 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem } "
        "svg { width: 100%; height: auto } th, td { padding: .25rem .8rem; text-align: right } "
        "th:first-child, td:first-child { text-align: left }</style>\n"
        f"{picture[picture.index('<svg') :]}\n{doubts}<p>median of a call; ratio: times as fast as "
        f"{_text(merged['base'])}</p>\n<table><tr><th>engine<th>rows{head}\n{chr(10).join(rows)}\n</table>\n</html>\n"
    )


def _text(text: object) -> str:
    return escape(output.printable(text))


def _plain(text: object) -> str:
    """Text that matplotlib does not read as mathematics, control characters escaped."""
    return output.printable(text).replace("\n", " ").replace("$", r"\$")

"""Draws the quantisation report with matplotlib: for each format scikit-learn's answers against the quantised ones,
the histogram of the errors, and bytes by member.

Grey is float and blue is quantised everywhere. Comes in: the report and a heading; goes out: a PNG, SVG or HTML file.
Called by ``edgeml inspect --plot``.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeml.cli import output, quantization
from edgeml.cli.results import new_file
from edgeml.errors import InputError

Report = Mapping[str, Any]

SUFFIXES = (".png", ".svg", ".html")
_FLOAT, _QUANTISED = "#9aa0a6", "#1f6fb4"
_MOST_MEMBERS = 4  # of one format, two bars each: five would touch; the smaller members share the last
_DOTS_PER_INCH = 150
_STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that the picture is the same everywhere
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#5f6368",
    "svg.hashsalt": "edgeml",  # equal reports give equal files
}


def write(report: Report, heading: str, path: Path) -> None:
    """Draw the report to ``path``; its suffix is the kind of file.

    Raises InputError for another suffix; ModuleNotFoundError, which becomes the pip command, without matplotlib.
    """
    kind = path.suffix.lower()
    if kind not in SUFFIXES:
        raise InputError(f"--plot {path}: a picture ends in {', '.join(SUFFIXES)}", "name the file so")
    if kind == ".html":
        from edgeml.cli.quantization_html import page

        data = page(report, heading, draw(report, heading, "svg").decode("utf-8")).encode("utf-8", "backslashreplace")
    else:
        data = draw(report, heading, kind.removeprefix("."))
    with new_file(path) as file:
        file.write(data)


def draw(report: Report, heading: str, kind: str) -> bytes:
    """The picture as ``kind``, "png" or "svg": a row a format."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    formats = dict(report.get("formats") or {})
    answers = any(_answers(entry) for entry in formats.values())
    with matplotlib.rc_context(_STYLE):
        # One panel a row where no answers differ: a lossless form has bytes alone.
        rows = max(len(formats), 1)
        spacing = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08)  # inches
        figure = Figure(figsize=(11 if answers else 6, 0.5 + 3.1 * rows), layout=spacing)
        figure.suptitle(f"{_plain(heading)}: quantised as {_plain(quantization.headline(report))}", fontweight="bold")
        bands = figure.subfigures(rows, 1, squeeze=False)[:, 0]
        for band, (name, entry) in zip(bands, formats.items(), strict=False):
            band.suptitle(_plain(_row_title(name, entry)), x=0.01, ha="left", fontsize=10)
            panels: Sequence[Callable[[Any, Report], None]] = (_scatter, _errors, _bytes) if answers else (_bytes,)
            for axes, panel in zip(band.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
                panel(axes, entry)
        if not formats:
            figure.text(0.5, 0.4, "the report names no format", ha="center")
        file = io.BytesIO()
        dated = {"Date": None} if kind == "svg" else None
        figure.savefig(file, format=kind, dpi=_DOTS_PER_INCH, metadata=dated)
    return file.getvalue()


def _row_title(name: str, entry: Report) -> str:
    before, after = quantization.sizes(entry)
    parts = [f"{name}: {output.size(before)} to {output.size(after)}" if after else name]
    flips = quantization.flips(entry)
    if flips != "—":
        parts.append(f"label flips {flips}")
    drop = quantization.worst_drop(entry)
    if drop:
        parts.append(f"drop of {drop}")
    if entry.get("kept") is not None:
        parts.append("budget kept" if entry["kept"] else "BUDGET NOT KEPT")
    return "   ·   ".join(parts)


def _answers(entry: Report) -> list[tuple[float, float]]:
    """The finite pairs of answers, scikit-learn's and quantised, that the report holds."""
    plot = entry.get("plot") or {}
    pairs = zip(_numbers(plot.get("float")), _numbers(plot.get("quantized")), strict=False)
    return [pair for pair in pairs if all(map(math.isfinite, pair))]


def _numbers(values: Any) -> list[float]:
    """Values as floats; what is no number is NaN."""
    return [float(v) if isinstance(v, (int, float)) else math.nan for v in values or ()]


def _scatter(axes: Any, entry: Report) -> None:
    pairs = _answers(entry)
    axes.set_title("answers")
    if not pairs:
        _empty(axes, "no answers in the report")
        return
    method = _plain((entry.get("plot") or {}).get("method") or "answer")
    before, after = zip(*pairs, strict=True)
    low, high = min(min(before), min(after)), max(max(before), max(after))
    space = 0.04 * (high - low) or 0.04 * abs(high) or 1.0
    ends = (low - space, high + space)
    axes.plot(ends, ends, color=_FLOAT, linewidth=1.2, zorder=1, label="equal")
    axes.scatter(
        before, after, s=12, color=_QUANTISED, alpha=0.55, linewidths=0, zorder=2, label=f"{len(pairs)} answers"
    )
    axes.set(xlim=ends, ylim=ends, xlabel=f"{method}, scikit-learn", ylabel=f"{method}, quantised", aspect="equal")
    _few_ticks(axes)
    axes.legend(loc="upper left", frameon=False, handletextpad=0.3, borderaxespad=0.1)


def _errors(axes: Any, entry: Report) -> None:
    plot = entry.get("plot") or {}
    histogram = plot.get("histogram") or {}
    edges, counts = _numbers(histogram.get("edges")), _numbers(histogram.get("counts"))
    axes.set_title("errors")
    if not counts or len(edges) != len(counts) + 1 or not all(map(math.isfinite, [*edges, *counts])):
        _empty(axes, "no histogram in the report")
        return
    axes.stairs(counts, edges, fill=True, color=_QUANTISED)
    axes.axvline(0, color=_FLOAT, linewidth=1.2)
    # Most errors are near zero: rare large ones, which matter, would not be seen on a linear axis.
    spread = max(counts) / min((c for c in counts if c > 0), default=1)
    if spread > 30:
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.7)
        axes.yaxis.set_major_formatter(lambda count, _: f"{count:,.0f}")
    axes.set(xlabel=f"{_plain(plot.get('method') or 'answer')}, quantised - scikit-learn", ylabel="answers")
    _few_ticks(axes, x_only=spread > 30)
    largest = quantization.worst_error(entry)
    if largest != "—":
        axes.set_title(f"errors (largest {largest})")


def _bytes(axes: Any, entry: Report) -> None:
    """Two bars a member, one below the other, with the member's name over them."""
    members = _largest(entry.get("members") or {})
    axes.set_title("size by member")
    if not members:
        _empty(axes, "no members in the report")
        return
    most = max(max(sizes) for _, *sizes in members) or 1
    for at, (name, before, after) in enumerate(members):
        axes.text(0, at - 0.36, _shortened(_plain(name)), va="bottom", ha="left", fontsize=8)
        for offset, count, color in ((-0.17, before, _FLOAT), (0.17, after, _QUANTISED)):
            axes.barh(at + offset, count, height=0.3, color=color)
            axes.text(count + 0.02 * most, at + offset, output.size(count), va="center", fontsize=8)
    axes.set(xlim=(0, 1.28 * most), ylim=(max(len(members), 2) - 0.4, -0.7), yticks=[])
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_visible(False)
    axes.set_xticks([])
    handles = [axes.barh(0, 0, color=color) for color in (_FLOAT, _QUANTISED)]
    axes.legend(handles, ("float", "quantised"), loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=2, frameon=False)


def _largest(members: Mapping[str, Report]) -> list[tuple[str, float, float]]:
    """Members by size, the largest first; those past the most that are shown as one."""
    rows = sorted(
        ((str(name), float(m["float"]), float(m["quantized"])) for name, m in members.items()),
        key=lambda row: -max(row[1:]),
    )
    if len(rows) <= _MOST_MEMBERS:
        return rows
    kept, rest = rows[: _MOST_MEMBERS - 1], rows[_MOST_MEMBERS - 1 :]
    return [*kept, (f"{len(rest)} others", sum(r[1] for r in rest), sum(r[2] for r in rest))]


def _few_ticks(axes: Any, x_only: bool = False) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(4))
    if not x_only:
        axes.yaxis.set_major_locator(MaxNLocator(5))


def _empty(axes: Any, why: str) -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, why, ha="center", va="center", color="#5f6368", transform=axes.transAxes)


def _shortened(name: str, most: int = 40) -> str:
    return name if len(name) <= most else f"{name[: most // 2]}…{name[-most // 2 :]}"


def _plain(text: object) -> str:
    """Text that matplotlib does not read as mathematics, control characters escaped."""
    return output.printable(text).replace("\n", " ").replace("$", r"\$")

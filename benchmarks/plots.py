"""The two pictures of README.md: microseconds of one row, and rows a second in a batch, on logarithmic scales.

``draw`` takes the records of ``python -m benchmarks`` and writes one SVG each; report.py calls it. Text stays text and
nothing random or dated is written, so that the files are small and change only with the figures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("svg")
from matplotlib import pyplot as plt
from matplotlib.ticker import EngFormatter

from benchmarks.promises import FRAME, ONNX, SPLIT, Record, find

INK, FAINT, GRID = "#1f2328", "#59636e", "#e4e8ec"
# (contender, forms or any, label, colour, marker): told apart by shape as well as by colour.
SERIES = (
    ("scikit-learn", (), "scikit-learn", "#8c959f", "s"),
    (ONNX, (FRAME,), "onnxruntime, splitting included", "#e3a008", "v"),
    (ONNX, (SPLIT, "float32 tensor"), "onnxruntime, inputs already split", "#bf5700", "^"),
    ("tl2cgen + treelite", (), "tl2cgen", "#7a5ab8", "D"),
    ("EdgeML", (), "EdgeML", "#0b6bcb", "o"),
)
STYLE = {
    "svg.fonttype": "none", "svg.hashsalt": "edgeml", "font.family": "sans-serif", "font.size": 9,
    "text.color": INK, "axes.labelcolor": FAINT, "xtick.color": FAINT, "ytick.color": INK,
}  # fmt: skip


def draw(records: dict[str, list[Record]], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pipelines = [r for r in records.get("pipelines", []) if not r["model"].startswith("cases")]
    shown = pipelines + [r | {"model": f"{r['model']}, alone"} for r in records.get("alone", [])]
    with plt.rc_context(STYLE):
        _dots(
            shown, "one", lambda us: us / 1e6, "s", "One row: time, less is better", folder / "single-row.svg",
        )  # fmt: skip
        _dots(
            shown, "batch", lambda us: 1e6 / us, "", "A batch of 10,000: rows a second, more is better",
            folder / "batch.svg",
        )  # fmt: skip


def _dots(
    records: Sequence[Record], what: str, scale: Callable[[float], float], unit: str, title: str, path: Path
) -> None:
    """A line a model, a dot a contender."""
    shown = list(find(records, what=what))
    models = list(dict.fromkeys(r["model"] for r in shown))[::-1]
    figure, axes = plt.subplots(figsize=(8.2, 0.9 + 0.27 * len(models)), layout="constrained")
    for at, model in enumerate(models):
        values = [scale(_us(shown, model, name, form)) for name, form, *_ in SERIES if _us(shown, model, name, form)]
        axes.plot([min(values), max(values)], [at, at], color=GRID, linewidth=2, zorder=1)
    for name, form, label, colour, marker in SERIES:
        points = [(scale(us), at) for at, model in enumerate(models) if (us := _us(shown, model, name, form))]
        if points:
            x, y = zip(*points, strict=True)
            axes.scatter(
                x, y, s=34, color=colour, marker=marker, label=label, zorder=2, edgecolors="white", linewidths=0.6
            )
    axes.set_xscale("log")
    low, high = (10.0 ** f(np.log10(limit)) for f, limit in zip((np.floor, np.ceil), axes.get_xlim(), strict=True))
    axes.set_xlim(low, high)
    axes.xaxis.set_major_formatter(EngFormatter(unit))
    axes.set_yticks(range(len(models)), models)
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.minorticks_off()
    for side in axes.spines.values():
        side.set_visible(False)
    figure.legend(loc="outside lower left", ncols=3, frameon=False, fontsize=8, handletextpad=0.3, columnspacing=1.4)
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    plt.close(figure)
    # Matplotlib ends lines with blanks.
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")


def _us(records: Sequence[Record], model: str, name: str, forms: tuple[str, ...]) -> Any:
    """The best of a contender's forms of rows where none is named."""
    found = [r["us"] for r in find(records, model=model, contender=name) if not forms or r["form"] in forms]
    return min(found, default=None)

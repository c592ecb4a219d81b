"""What EdgeML promises about speed, as a table: a bound, and how it is read from what ``python -m benchmarks`` wrote.

A promise is judged by its worst model and form of rows, never by an average. ``judged`` gives one Verdict a promise
that the records say something about; report.py prints them. A section that is a file of its own states a promise in
its records, by the keys ``promise``, ``value``, ``bound`` and ``unit`` (a bound in "x" is the least, others the most).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

Record = dict[str, Any]
Figures = list[tuple[str, float]]  # what it was measured on, and the figure

SPLIT, FRAME = "inputs already split", "splitting included"
OBJECTS = ("pandas object", "NumPy objects")
ONNX = "skl2onnx + onnxruntime"
TREE_PEERS = (ONNX, "tl2cgen + treelite", "scikit-learn")
# Why a bound is not reached, by its text: shown where it is not. Written by hand after a look at the profile.
_OBJECTS = "each cell is a Python object, read one by one under the GIL; splitting them is outside onnxruntime's time"
REASONS: dict[str, str] = {
    "10,000 rows with strings, against scikit-learn": (
        "a forest of depth 10 waits for nodes in the level-2 cache; a network adds in scikit-learn order, without BLAS"
    ),
    "10,000 rows of Python objects, against scikit-learn": _OBJECTS,
    "10,000 rows of Python objects, against onnxruntime from the frame": _OBJECTS,
    "10,000 rows of Python objects, against onnxruntime, its inputs already split": _OBJECTS,
    "two threads against one": "the second core of this shared machine comes and goes: 1.2 to 2.0 x in six runs",
}


@dataclass(frozen=True, slots=True)
class Promise:
    text: str
    bound: float
    unit: str  # "x": at least so many times; "µs", "s", "%": at most
    figures: Callable[[dict[str, list[Record]]], Figures]


@dataclass(frozen=True, slots=True)
class Verdict:
    text: str
    bound: float
    unit: str
    worst: tuple[str, float]
    best: tuple[str, float]

    @property
    def reached(self) -> bool:
        return self.worst[1] >= self.bound if self.unit == "x" else self.worst[1] <= self.bound

    @property
    def reason(self) -> str:
        return "" if self.reached else REASONS.get(self.text, "see docs/performance.md")


# --- reading records -----------------------------------------------------------------------------------------------
def find(records: Iterable[Record], **wanted: Any) -> Iterator[Record]:
    """The records that ran and have these values."""
    return (r for r in records if "failed" not in r and all(r.get(k) == v for k, v in wanted.items()))


def _wide(records: dict[str, list[Record]], *kinds: str) -> list[Record]:
    found = records.get("pipelines", [])
    return [r for r in found if r["model"].startswith("32 columns") and (not kinds or r["kind"] in kinds)]


def single(*kinds: str) -> Callable[[dict[str, list[Record]]], Figures]:
    """Microseconds of one row, dict in, on pipelines over 32 raw columns."""

    def figures(records: dict[str, list[Record]]) -> Figures:
        return [(r["model"], r["us"]) for r in find(_wide(records, *kinds), contender="EdgeML", what="one")]

    return figures


def over(peer: str, form: str | None, what: str, objects: bool = False) -> Callable[[dict[str, list[Record]]], Figures]:
    """How many times faster than the peer, on every pipeline of real data and form of rows that EdgeML takes."""

    def figures(records: dict[str, list[Record]]) -> Figures:
        all_ = [r for r in records.get("pipelines", []) if not r["model"].startswith("cases")]
        if what == "batch":  # what is promised are pipelines with a one-hot encoder
            all_ = [r for r in all_ if "native categories" not in r["model"]]
        return [
            (f"{r['model']}, {r['form']}" if what == "batch" else r["model"], other["us"] / r["us"])
            for r in find(all_, contender="EdgeML", what=what)
            for other in find(all_, contender=peer, what=what, model=r["model"])
            if (form is None or other["form"] == form) and (r["form"] in OBJECTS) == objects
        ]

    return figures


def over_best(section: str, names: tuple[str, ...]) -> Callable[[dict[str, list[Record]]], Figures]:
    """How many times faster than the fastest of ``TREE_PEERS``, trees alone."""

    def figures(records: dict[str, list[Record]]) -> Figures:
        all_ = list(find((r for r in records.get(section, []) if r["model"] in names), what="batch"))
        found = []
        for model in names:
            ours = [r["us"] for r in all_ if r["model"] == model and r["contender"].startswith("EdgeML")]
            peers = [r["us"] for r in all_ if r["model"] == model and r["contender"] in TREE_PEERS]
            if ours and peers:
                found.append((model, min(peers) / min(ours)))
        return found

    return figures


def two_threads(records: dict[str, list[Record]]) -> Figures:
    all_ = records.get("threads", [])
    return [
        (one["model"], one["us"] / two["us"])
        for one in find(all_, threads=1)
        for two in find(all_, threads=2, model=one["model"])
    ]


TREES = ("RF100 depth 8", "HGB100", "HGB300", "HGB1000")
PROMISES = (
    Promise("one row, linear model", 3, "µs", single("linear")),
    Promise("one row, 100 trees of depth 8", 6, "µs", single("forest", "boosting")),
    Promise("one row, MLP(64,32)", 10, "µs", single("network")),
    Promise("one row, against scikit-learn", 1000, "x", over("scikit-learn", None, "one")),
    Promise("one row, against onnxruntime, its inputs already split", 5, "x", over(ONNX, SPLIT, "one")),
    *(
        Promise(f"10,000 rows {rows}against {peer}", bound, "x", over(name, form, "batch", objects))
        for rows, objects in (("with strings, ", False), ("of Python objects, ", True))
        for peer, bound, name, form in (
            ("scikit-learn", 10, "scikit-learn", None),
            ("onnxruntime from the frame", 3, ONNX, FRAME),
            ("onnxruntime, its inputs already split", 3, ONNX, SPLIT),
        )
    ),
    Promise("trees alone, 10,000 rows, against the best peer", 5, "x", over_best("alone", TREES)),
    Promise("trees alone, 1,000,000 rows, against the best peer", 5, "x", over_best("million", TREES)),
    Promise("two threads against one", 1.8, "x", two_threads),
)


def judged(records: dict[str, list[Record]]) -> list[Verdict]:
    """A verdict a promise that there are figures for."""
    verdicts = [
        Verdict(promise.text, promise.bound, promise.unit, found[0], found[-1])
        for promise in PROMISES
        if (found := sorted(promise.figures(records), key=lambda f: f[1], reverse=promise.unit != "x"))
    ]
    for section in records.values():
        for r in find(section):
            if "promise" in r:
                figure = (str(r.get("model", "")), float(r["value"]))
                verdicts.append(Verdict(r["promise"], r["bound"], r["unit"], figure, figure))
    return verdicts

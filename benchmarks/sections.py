"""The sections of ``python -m benchmarks``: a name, what it is about, and a function that gives its records.

``pipelines`` and ``alone`` time single rows and batches of one model after the other, ``million`` a million rows,
``threads`` one thread against two, ``stream`` runs `edgeml predict`. ``cold start`` and ``compile time`` are files of
their own, each with a function ``records(quick)``. A record is one contender on one model: figures, or ``failed`` with
the reason.
"""

from __future__ import annotations

import gc
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

import edgeml
from benchmarks import models
from benchmarks.measure import QUICK, Effort, Record, Turn, against, reason, statistics, take_turns
from benchmarks.models import Model
from benchmarks.runners import RUNNERS, Contender, Make, compiled, forms, method_of
from benchmarks.tree_peers import ALONE, BOOSTERS


@dataclass(frozen=True, slots=True)
class Options:
    """``pattern`` is part of a model's name; ``busy`` measures CPU time; ``report`` is told what is being measured."""

    quick: bool = False
    busy: bool = False
    pattern: str = ""
    report: Callable[[str], None] = print

    @property
    def effort(self) -> Effort:
        effort = QUICK if self.quick else Effort()
        return replace(effort, clock=time.process_time) if self.busy else effort

    def chosen(self, all_: Iterable[Model], quick: frozenset[str]) -> list[Model]:
        return [m for m in all_ if self.pattern in m.name and (self.pattern or not self.quick or m.name in quick)]


BATCH, MILLION = 10_000, 1_000_000
QUICK_MODELS = frozenset(
    (
        *("flights: logistic", "flights: forest", "RF100 depth 8", "HGB100", "LightGBM100"),
        *(f"32 columns: {name}" for name in ("logistic", "RF100 depth 8", "HGB100 depth 8", "MLP(64,32)")),
    )
)


Checked = tuple[Contender, dict[str, Record]]  # and how its answers differ, by kind of call


def made(runners: Mapping[str, Make], model: Any, X: Any, expected: Any, base: Record) -> Iterator[Checked | Record]:
    """Contenders that run, checked on every row, and a record of each that does not."""
    for name, make in runners.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for contender in make(model, X):
                    try:
                        checks = {k: _check(contender, k, expected) for k in ("batch", "one") if getattr(contender, k)}
                        yield contender, checks
                    except Exception as error:  # shown, too, beside the others
                        yield base | {"contender": name, "form": contender.form, "failed": reason(error)}
        except Exception as error:  # a peer that fails is shown so
            yield base | {"contender": name, "form": "", "failed": reason(error)}


def _measured(
    runners: Mapping[str, Make], model: Model, effort: Effort, rows: int, what: tuple[str, ...]
) -> Iterator[Record]:
    """A record a contender and kind of call: ``one`` for single rows, ``batch``."""
    fitted, held = model.fit()
    X = models.repeated(held, rows)
    base: Record = {"model": model.name, "kind": model.kind}
    expected = np.asarray(getattr(fitted, method_of(fitted))(X))
    running: list[Checked] = []
    for found in made(runners, fitted, X, expected, base):
        if isinstance(found, tuple):
            running.append(found)
        else:
            yield from (found | {"what": w, "rows": rows if w == "batch" else 1} for w in what)
    turns = {
        "one": {i: Turn(c.one, c.ones) for i, (c, _) in enumerate(running) if c.one is not None},
        "batch": {i: Turn(c.batch, [c.rows]) for i, (c, _) in enumerate(running) if c.batch is not None},
    }
    for kind in what:
        gc.collect()
        times = take_turns({str(i): turn for i, turn in turns[kind].items()}, effort)
        for i in turns[kind]:
            (c, checks), count = running[i], rows if kind == "batch" else 1
            record = base | {"contender": c.name, "form": c.form, "what": kind, "rows": count}
            record |= statistics(times[str(i)], count) | {"bytes": c.bytes, "compile_s": c.compile_s}
            yield record | checks[kind]


def _check(c: Contender, kind: str, expected: Any) -> Record:
    """How the answers differ from scikit-learn's, of every row of the batch or of every single row."""
    if kind == "batch":
        assert c.batch is not None
        return against(c.shaped(c.batch(c.rows)), expected)
    assert c.one is not None
    found = np.array([np.ravel(c.shaped(c.one(item))) for item in c.ones])
    return against(found.reshape(expected[: len(c.ones)].shape), expected[: len(c.ones)])


def _all(
    options: Options, all_: Iterable[Model], runners: Mapping[str, Make], rows: int, what: tuple[str, ...]
) -> Iterator[Record]:
    with threadpool_limits(1):  # scikit-learn's OpenMP and BLAS, too
        for model in options.chosen(all_, QUICK_MODELS):
            options.report(f"{model.name}, {rows:,} rows")
            yield from _measured(runners, model, options.effort, rows, what)


def pipelines(options: Options) -> Iterator[Record]:
    """Whole pipelines over raw rows: one row, and batches in every kind of frame."""
    yield from _all(options, models.PIPELINES, RUNNERS, BATCH, ("one", "batch"))


def alone(options: Options) -> Iterator[Record]:
    """Estimators alone over an array of numbers: trees, a network, a linear model."""
    yield from _all(options, models.ALONE, ALONE, BATCH, ("one", "batch"))


def boosters(options: Options) -> Iterator[Record]:
    """LightGBM's own models, for the peers that take nothing else; EdgeML has no converter for them."""
    yield from _all(options, models.boosters(), BOOSTERS, BATCH, ("one", "batch"))


def million(options: Options) -> Iterator[Record]:
    """A million rows at once: the fastest of the contenders over the trees, a few turns each."""
    slow = ("m2cgen", "emlearn", "Hummingbird")  # three times scikit-learn's time, or not its answers
    runners = {name: make for name, make in ALONE.items() if name not in slow}
    trees = [m for m in models.ALONE if m.kind in ("forest", "boosting") and m.name != "GB100 depth 8"]
    with threadpool_limits(1):
        for model in options.chosen(trees, frozenset(("RF100 depth 8",))):
            options.report(f"{model.name}, {MILLION:,} rows")
            yield from _measured(runners, model, replace(options.effort, seconds=0.0, rounds=3), MILLION, ("batch",))


def threads(options: Options) -> Iterator[Record]:
    """One thread against two, in turns, over 100,000 rows."""
    rows = 100_000
    cases = [*models.PIPELINES, *models.ALONE]
    names = frozenset(("32 columns: logistic", "32 columns: RF100 depth 8", "RF100 depth 8", "HGB1000"))
    for model in (m for m in cases if m.name in names and options.pattern in m.name):
        options.report(f"{model.name}, threads")
        fitted, held = model.fit()
        X = models.repeated(held, rows)
        path, _ = compiled(fitted, X, "native")
        loaded: dict[int, Any] = {n: edgeml.load(path, engine="native", threads=n) for n in (1, 2)}
        form, frame = next((f, x) for f, x in forms(X).items() if f in ("pyarrow", "NumPy"))
        turns = {str(n): Turn(getattr(m, method_of(fitted)), [frame]) for n, m in loaded.items()}
        times = take_turns(turns, Effort(options.effort.seconds))
        for n in loaded:
            record: Record = {"model": model.name, "kind": model.kind, "contender": "EdgeML", "form": form}
            yield record | {"what": "batch", "rows": rows, "threads": n} | statistics(times[str(n)], rows)


def _of_file(module: str) -> Callable[[Options], Iterator[Record]]:
    """A section that is a file of its own, with a function ``records(quick)``."""

    def run(options: Options) -> Iterator[Record]:
        options.report(module)
        found = import_module(f"benchmarks.{module}")
        if not hasattr(found, "records"):
            raise ImportError(f"benchmarks/{module}.py has no function records(quick)")
        yield from found.records(options.quick)

    return run


def stream(options: Options) -> Iterator[Record]:
    """``edgeml predict`` over files larger than a batch: rate, and memory early and at the end."""
    measure = import_module("benchmarks.stream").measure
    for form in ("parquet", "csv"):
        rows = 500_000 if options.quick else 10_000_000
        options.report(f"stream, {form}, {rows:,} rows")
        with tempfile.TemporaryDirectory(prefix="edgeml-stream-") as folder:
            found = measure(rows, form, "logistic", Path(folder))
        record = {"model": f"logistic, {form}", "kind": "linear", "contender": "edgeml predict", "what": "stream"}
        yield record | found | {
            "promise": f"a stream of {rows:,} rows ({form}): memory at its end, of what it was after 5 %",
            "value": 100 * found["rss_end"] / found["rss_5%"], "bound": 110, "unit": "%",
        }  # fmt: skip


SECTIONS: dict[str, Callable[[Options], Iterator[Record]]] = {
    "pipelines": pipelines,
    "alone": alone,
    "boosters": boosters,
    "million": million,
    "threads": threads,
    "cold start": _of_file("cold_start"),
    "compile time": _of_file("compile_time"),
    "stream": stream,
}

"""Programs, truths and quantised bundles for tests of the quantiser: half of the rows calibrate, half are held."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import edgeml
from edgeml.bundle import Bundle
from edgeml.converters import to_program
from edgeml.ir import Program, interpreter
from edgeml.parity.truth import ask, methods_of
from edgeml.passes import simplify
from edgeml.quantize.budget import Budget
from edgeml.quantize.judge import Verdict, judge
from edgeml.quantize.search import Candidate, Search
from edgeml.quantize.truth import Truth
from edgeml.runtimes.frames import read_rows
from edgeml.sample import numpy_dtypes, read_sample

ANYTHING = Budget(label_flips=1.0, metric_drop=1.0)


@dataclass(frozen=True)
class Half:
    columns: dict[str, Any]
    truth: Truth


@dataclass(frozen=True)
class Problem:
    """A pipeline's program with calibration and held-out rows."""

    program: Program
    calibration: Half
    held: Half

    def search(self, mode: str, budget: Budget | None = None, **device: bool) -> Search:
        half = self.calibration
        return Search(self.program, half.columns, half.truth, budget or Budget(), mode, **device)

    def smallest(self, mode: str, budget: Budget | None = None, **device: bool) -> Candidate:
        """The first program on the path whose bounds keep the budget on the calibration rows, else the last."""
        for candidate in self.search(mode, budget, **device).path():
            if candidate.verdict.sure:
                break
        return candidate

    def verdict(self, program: Program, budget: Budget | None = None) -> Verdict:
        """How a program does on the held-out rows."""
        answers = interpreter.run(program, self.held.columns)
        return judge(self.held.truth, answers, budget or Budget(), intervals=False)


def problem(pipeline: Any, X: Any, y: Any = None) -> Problem:
    every = np.arange(len(X))
    sample = read_sample(pipeline, X)
    methods = methods_of(pipeline)
    halves = []
    for rows in (every % 2 == 0, every % 2 == 1):
        part = sample.take(np.flatnonzero(rows))
        outputs = ask(pipeline, read_sample(pipeline, part), methods).outputs
        targets = None if y is None else np.asarray(y)[rows]
        columns, _ = read_rows(part, sample.schema)
        halves.append(Half(columns, Truth(outputs, targets, getattr(pipeline, "classes_", None))))
    returns = {
        m: ("vector" if a.ndim == 1 else "matrix", "O" if a.dtype == object else a.dtype.str)
        for m, a in halves[0].truth.outputs.items()
    }
    program = simplify(to_program(pipeline, sample.schema, returns, numpy_dtypes(sample)))
    return Problem(program, *halves)


def network(X: Any, y: Any) -> Problem:
    """A scaler and two hidden layers, fitted on every other row."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = make_pipeline(StandardScaler(), MLPClassifier((32, 16), random_state=0, max_iter=100)).fit(X[::2], y[::2])
    return problem(net, X, y)


def nodes(program: Program, *ops: str) -> list[Any]:
    return [node for node in program.nodes if node.op in ops]


def numbers(rows: int = 4000) -> Any:
    """Five columns of unit spread."""
    return np.random.default_rng(5).normal(size=(rows, 5))


def compiled(folder: Path, pipeline: Any, X: Any, y: Any = None, **options: Any) -> Bundle:
    return edgeml.compile(pipeline, X, y, output=folder / "m.edgeml", **options)


def quantization(bundle: Bundle) -> Any:
    """The report's part on quantisation."""
    return bundle.json("report.json")["quantization"]

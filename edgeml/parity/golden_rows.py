"""Chooses the rows that a bundle carries to be replayed on a device: plain ones, awkward ones, and refused ones.

In come the rows and scikit-learn's answers that parity was checked on; out go golden columns, outputs and marks of the
rows to refuse. A row whose digits scikit-learn itself does not determine is left out, or ``verify`` would judge noise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeml.compare import Measure, overflowed, row_errors
from edgeml.ir.table import Array
from edgeml.parity.truth import Truth
from edgeml.runtimes.base import Model
from edgeml.runtimes.frames import read_rows
from edgeml.runtimes.in_range import run_in_range
from edgeml.sample import Sample

GOLDEN_ROWS = 32
# Of one method's answers, 8 MB: a bundle holds them as they are.
GOLDEN_CELLS = 2**20
# Of a quantised program: the share of golden rows whose differences between engines are usual, and twice that is borne.
USUAL_ROWS, SLACK = 0.9, 2.0


@dataclass(frozen=True)
class GoldenRows:
    """``columns`` of all rows, the answered ones first; ``outputs`` of the answered ones; ``refused``, bool (rows,)."""

    columns: dict[str, Array]
    outputs: dict[str, Array]
    refused: Array

    def settled(self, models: Iterable[tuple[Model, Measure]], limit: Mapping[str, float]) -> GoldenRows:
        """Without the rows where a model that passed is off by more than ``limit``: the noise that parity excused."""
        count = int((~self.refused).sum())
        floats = [m for m, answer in self.outputs.items() if answer.dtype.kind == "f"]
        found = [(measure, *self._run(model, measure, floats)) for model, measure in models if count and floats]
        keep = np.ones(count, dtype=bool)
        judged = ~overflowed(self.outputs, count)
        changed = True
        while changed:  # the error of a cell near zero is measured against the rows that remain
            changed = False
            for measure, result, within in found:
                for method in floats:
                    rows = np.flatnonzero(keep & judged & within)
                    if not rows.size:
                        continue
                    expected, place = self.outputs[method][rows], np.cumsum(within)[rows] - 1
                    errors = row_errors(expected, result[method][place], method, measure)
                    over = rows[errors > measure.limit(expected.dtype, limit[method])]
                    keep[over] = False
                    changed |= bool(over.size)
        rows = np.concatenate([np.flatnonzero(keep), np.arange(count, len(self.refused))])
        return GoldenRows(
            {name: cells[rows] for name, cells in self.columns.items()},
            {method: answer[keep] for method, answer in self.outputs.items()},
            self.refused[rows],
        )

    def repeated(
        self, models: Iterable[tuple[Model, Measure]], rounded: Sequence[Mapping[str, Array]]
    ) -> tuple[GoldenRows, dict[str, float]]:
        """The rows that all models of a quantised program answer nearly alike, and how near, by method.

        Engines round half a step of a grid this way or that; what most rows show is the bound, and the others go.
        ``rounded`` are the program's answers to the answered rows when it rounds the other way: what an engine may
        give that is not here, on a device whose kernels are others.
        """
        count = int((~self.refused).sum())
        if not count:
            return self, {}
        keep = ~overflowed(self.outputs, count)
        numbers = [m for m, answer in self.outputs.items() if answer.dtype.kind == "f"]
        bounds = dict.fromkeys(numbers, 0.0)
        pairs = list(models)
        found = [(measure, *self._run(model, measure, list(self.outputs))) for model, measure in pairs]
        every = np.ones(count, dtype=bool)
        found += [(measure, dict(answers), every) for answers in rounded for _, measure in pairs]
        for measure, result, within in found:
            place = np.cumsum(within) - 1
            for method, answer in self.outputs.items():
                if not within.any():
                    continue
                if method not in bounds:
                    same = np.asarray(answer == result[method][place], dtype=bool).reshape(count, -1).all(axis=1)
                    keep &= same | ~within
                    continue
                errors = row_errors(answer[keep & within], result[method][place[keep & within]], method, measure)
                if errors.size:
                    usual = SLACK * float(np.quantile(errors, USUAL_ROWS, method="higher"))
                    bounds[method] = max(bounds[method], usual if np.isfinite(usual) else 0.0)
        for measure, result, within in found:
            place = np.cumsum(within) - 1
            for method in numbers:
                rows = np.flatnonzero(keep & within)
                if rows.size:
                    expected = self.outputs[method][rows]
                    errors = row_errors(expected, result[method][place[rows]], method, measure)
                    keep[rows[errors > measure.limit(expected.dtype, bounds[method])]] = False
        keep |= overflowed(self.outputs, count)  # such rows are replayed and not judged
        rows = np.concatenate([np.flatnonzero(keep), np.arange(count, len(self.refused))])
        columns = {name: cells[rows] for name, cells in self.columns.items()}
        outputs = {method: answer[keep] for method, answer in self.outputs.items()}
        return GoldenRows(columns, outputs, self.refused[rows]), bounds

    def _run(self, model: Model, measure: Measure, methods: Sequence[str]) -> tuple[dict[str, Array], Array]:
        """Results of the answered rows within the range of the model's engine, and which these are."""
        count = int((~self.refused).sum())

        def run(at: Array) -> dict[str, Array]:
            return model._engine.run({name: cells[at] for name, cells in self.columns.items()}, len(at), methods)

        return run_in_range(run, count, measure.precision)


def golden_rows(part: Sample, answers: Truth, awkward: Sample, awkward_answers: Truth) -> GoldenRows:
    """Some plain and some awkward rows with scikit-learn's outputs, and rows it refuses."""
    widest = max((a.size // max(len(a), 1) for a in answers.outputs.values()), default=1)
    most = min(GOLDEN_ROWS, max(GOLDEN_CELLS // widest, 1))
    plain = min(most, len(answers.answered))
    odd = _spread(len(awkward_answers.answered), most)
    refused = np.flatnonzero(awkward_answers.refused)
    refused = refused[_spread(len(refused), GOLDEN_ROWS // 2)]
    columns_plain, _ = read_rows(part.take(answers.answered[:plain]), part.schema)
    columns_odd, _ = read_rows(awkward.take(np.concatenate([awkward_answers.answered[odd], refused])), part.schema)
    marks = np.zeros(plain + len(odd) + len(refused), dtype=bool)
    marks[plain + len(odd) :] = True
    return GoldenRows(
        {k: np.concatenate([columns_plain[k], columns_odd[k]]) for k in columns_plain},
        {m: np.concatenate([answers.outputs[m][:plain], awkward_answers.outputs[m][odd]]) for m in answers.outputs},
        marks,
    )


def _spread(count: int, most: int) -> Array:
    return np.arange(count) if count <= most else np.linspace(0, count - 1, most).astype(np.int64)

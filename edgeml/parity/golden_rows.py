"""Chooses the rows that a bundle carries to be replayed on a device: plain ones, awkward ones, and refused ones.

In come the rows and scikit-learn's answers that parity was checked on; out go golden columns, outputs and marks of the
rows to refuse. A row whose digits scikit-learn itself does not determine is left out, or ``verify`` would judge noise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from edgeml.compare import overflowed, row_errors
from edgeml.ir.table import Array
from edgeml.parity.truth import Truth
from edgeml.runtimes.base import Model
from edgeml.runtimes.frames import read_rows
from edgeml.sample import Sample

GOLDEN_ROWS = 32


@dataclass(frozen=True)
class GoldenRows:
    """``columns`` of all rows, the answered ones first; ``outputs`` of the answered ones; ``refused``, bool (rows,)."""

    columns: dict[str, Array]
    outputs: dict[str, Array]
    refused: Array

    def settled(self, models: Iterable[Model], limit: Mapping[str, float]) -> GoldenRows:
        """Without the rows where a model that passed is off by more than ``limit``: the noise that parity excused."""
        count = int((~self.refused).sum())
        answered = {name: cells[:count] for name, cells in self.columns.items()}
        keep = np.ones(count, dtype=bool)
        judged = ~overflowed(self.outputs, count)
        floats = [m for m, answer in self.outputs.items() if answer.dtype.kind == "f"]
        results = [model._engine.run(answered, count, floats) for model in models if count and floats]
        changed = True
        while changed:  # the error of a cell near zero is measured against the rows that remain
            changed = False
            for result in results:
                for method in floats:
                    rows = np.flatnonzero(keep & judged)
                    errors = row_errors(self.outputs[method][rows], result[method][rows], method)
                    over = rows[errors > limit[method]]
                    keep[over] = False
                    changed |= bool(over.size)
        rows = np.concatenate([np.flatnonzero(keep), np.arange(count, len(self.refused))])
        return GoldenRows(
            {name: cells[rows] for name, cells in self.columns.items()},
            {method: answer[keep] for method, answer in self.outputs.items()},
            self.refused[rows],
        )


def golden_rows(part: Sample, answers: Truth, awkward: Sample, awkward_answers: Truth) -> GoldenRows:
    """Some plain and some awkward rows with scikit-learn's outputs, and rows it refuses."""
    plain = min(GOLDEN_ROWS, len(answers.answered))
    odd = _spread(len(awkward_answers.answered), GOLDEN_ROWS)
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

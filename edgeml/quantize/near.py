"""Rows between the rows of a sample, and what rounding does to the predictions for them.

A model that has memorised its training rows is far surer of them than of any other row, and a sample of those shows no
flip where fresh rows show many: a network with a training accuracy of 1 and 0.58 elsewhere flipped none of 1,000
training rows and 0.8 % of fresh ones. The numbers of a regressor spread less elsewhere, so that the same error is more.
Neither needs a known target, so rows can be made for them: half of a row's cells are taken from one of its nearest
neighbours. Of that network 1 % of such rows flipped; of models that generalise as many as of fresh rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgeml.compare import r2
from edgeml.ir import Program
from edgeml.ir.coded import code_strings
from edgeml.ir.table import Array
from edgeml.quantize.budget import Budget
from edgeml.quantize.judge import Limit
from edgeml.runtimes.native import NativeEngine
from edgeml.schema import Schema

NEAR_ROWS = 4000
_NEIGHBOURS = 5
_SHARE = 0.5
_BASE_ROWS = 4000  # that neighbours are looked for among
_CATEGORY_WIDTH = 8


@dataclass(frozen=True, slots=True)
class Near:
    """Raw columns of rows between those of a sample, and scikit-learn's predictions for them, labels or numbers."""

    columns: Mapping[str, Array]
    predictions: Array
    labels: bool
    schema: Schema

    def limits(self, answers: Array, budget: Budget) -> list[Limit]:
        """The budget's limit of flips, or of R2 against scikit-learn, on these rows."""
        where = f"{len(self.predictions)} rows between neighbours"
        if self.labels:
            if budget.label_flips is None:
                return []
            rate = float(np.asarray(answers != self.predictions, dtype=bool).mean())
            return [Limit("label_flips", rate, budget.label_flips, None, f"of {where}")]
        if budget.metric_drop is None:
            return []
        lost = 1 - r2(self.predictions, answers)
        return [Limit("metric_drop", lost, budget.metric_drop, None, f"of r2 against scikit-learn's predict, {where}")]

    def answers(self, program: Program) -> Array:
        """What a program predicts."""
        engine = NativeEngine(code_strings(program), self.schema)
        return engine.run(self.columns, len(self.predictions), ("predict",))["predict"]


def mixtures(columns: Mapping[str, Array], rows: int, seed: int) -> tuple[Array, Array, Array]:
    """Rows to mix: positions of the rows and of their neighbours, int64 (n,), and which cells to take from those, bool
    (n, columns), in the order of the columns; of a matrix its own columns.
    """
    from sklearn.neighbors import NearestNeighbors

    rng = np.random.default_rng(seed)
    base = rng.permutation(rows)[:_BASE_ROWS]
    places = np.concatenate([_places(np.asarray(cells)[base], rng) for cells in columns.values()], axis=1)
    count = min(_NEIGHBOURS, len(base) - 1)
    # The row itself, or an equal one, comes first.
    found = NearestNeighbors(n_neighbors=count + 1).fit(places).kneighbors(places, return_distance=False)[:, 1:]
    row = rng.integers(0, len(base), NEAR_ROWS)
    neighbour = found[row, rng.integers(0, count, NEAR_ROWS)]
    width = sum(1 if cells.ndim == 1 else cells.shape[1] for cells in map(np.asarray, columns.values()))
    return base[row], base[neighbour], rng.random((NEAR_ROWS, width)) < _SHARE


def _places(cells: Array, rng: np.random.Generator) -> Array:
    """Where cells stand, float64 (rows, k): numbers in units of their spread, a category at a point of its own."""
    cells = cells.reshape(len(cells), -1)
    if cells.dtype == object:
        _, code = np.unique(np.array([repr(cell) for cell in cells[:, 0]]), return_inverse=True)
        points = rng.normal(size=(int(code.max()) + 1, _CATEGORY_WIDTH)) / np.sqrt(_CATEGORY_WIDTH)
        return np.asarray(points[code.reshape(-1)])
    numbers = np.clip(np.where(np.isfinite(cells.astype(np.float64)), cells, 0.0).astype(np.float64), -1e100, 1e100)
    spread = numbers.std(axis=0)
    return np.asarray((numbers - numbers.mean(axis=0)) / np.where(spread > 0, spread, 1.0))

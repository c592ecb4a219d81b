"""scikit-learn asked about rows of which it refuses some: each row's answer is its own, in few calls."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from edgeml.errors import SampleError
from edgeml.parity.truth import ask
from edgeml.sample import Sample
from edgeml.schema import Column, Schema

WORST = [np.nan, np.inf, -np.inf, 3.5e38, 1e300]


class Refuses:
    """Doubles the first column; refuses a batch with a cell that float32 cannot hold, and the rows it is told to."""

    def __init__(self, rows=()):
        self.rows, self.calls = set(rows), 0

    def predict(self, X):
        self.calls += 1
        cells = np.asarray(X, dtype=np.float64)
        with np.errstate(all="ignore"):
            if not np.isfinite(cells.astype(np.float32)).all() or self.rows & set(cells[:, 0].tolist()):
                raise ValueError("no")
        return cells[:, 0] * 2


def sample_of(bad, rows=64, frame=False):
    cells = np.arange(rows * 2.0).reshape(rows, 2)
    for number, row in enumerate(bad):
        cells[row, 1] = WORST[number % len(WORST)]
    columns = tuple(Column(name, "float64") for name in "ab")
    return Sample(pd.DataFrame(cells, columns=list("ab")) if frame else cells, Schema("columns", columns))


@pytest.mark.parametrize("frame", [False, True])
@pytest.mark.parametrize("bad", [[], [0], [63], [5, 6, 7], list(range(0, 64, 3)), list(range(3, 64))])
@pytest.mark.parametrize("told", [[], [40], [0, 1, 62]])
def test_every_answer_stands_with_its_row(bad, told, frame):
    sample = sample_of(bad, frame=frame)
    truth = ask(Refuses(2.0 * row for row in told), sample, ["predict"])
    expected = np.zeros(64, dtype=bool)
    expected[[*bad, *told]] = True
    np.testing.assert_array_equal(truth.refused, expected)
    np.testing.assert_array_equal(truth.outputs["predict"], np.arange(64)[~expected] * 4.0)


def test_rows_that_look_bad_are_asked_apart():
    """Twenty bad rows among good ones: one call for the good ones."""
    pipeline = Refuses()
    ask(pipeline, sample_of(range(0, 60, 3)), ["predict"])
    assert pipeline.calls <= 2 + 2 * 20


@pytest.mark.parametrize("dtype", ["Float64", "Int64", "string", "category", "object"])
def test_columns_of_any_kind_are_looked_at(dtype):
    cells = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": pd.Series([1, None, 3]).astype(dtype)})
    sample = Sample(cells, Schema("columns", (Column("a", "float64"), Column("b", "any"))))

    class First:
        def predict(self, X):
            if X["b"].isna().any():
                raise ValueError("no")
            return X["a"].to_numpy()

    truth = ask(First(), sample, ["predict"])
    assert truth.refused.tolist() == [False, True, False]
    assert truth.outputs["predict"].tolist() == [1.0, 3.0]


def test_rows_that_are_all_refused():
    with pytest.raises(SampleError, match="refuses every row"):
        ask(Refuses(), sample_of(range(64)), ["predict"])
    like = ask(Refuses(), sample_of([]), ["predict"])
    assert ask(Refuses(), sample_of(range(64)), ["predict"], like=like).outputs["predict"].shape == (0,)

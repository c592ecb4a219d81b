"""IterativeImputer: rows without a cell, refusals, and steps that would refuse what nobody asks them."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.experimental import enable_iterative_imputer  # noqa: F401  # makes the import below possible
from sklearn.impute import IterativeImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVR
from sklearn.tree import DecisionTreeRegressor

import edgeml
from edgeml.errors import UnsupportedParameterError
from tests.oracle import assert_same

pytestmark = [
    # Short fits do not converge; answers are compared, not quality.
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]


def gaps(rows=60):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(rows, 4)) @ rng.normal(size=(4, 4))
    X[rng.random(X.shape) < 0.2] = np.nan
    return X


def test_posterior_samples_are_refused(tmp_path):
    model = IterativeImputer(sample_posterior=True, max_iter=1, random_state=0).fit(gaps())
    with pytest.raises(UnsupportedParameterError, match=r"IterativeImputer\(sample_posterior=True\)") as caught:
        edgeml.compile(model, gaps(), output=tmp_path / "m.edgeml")
    assert "use sample_posterior=False" in str(caught.value)


def test_a_row_of_nothing_is_predicted_as_among_others():
    """scikit-learn leaves it at its first filling only where no row of the batch has a cell."""
    X = gaps()
    model = IterativeImputer(max_iter=2).fit(X)
    nothing = np.vstack([np.full((2, 4), np.nan), X[:3]])
    assert not np.allclose(model.transform(nothing)[:1], model.transform(nothing[:1]))
    assert_same(model, nothing)


@pytest.mark.parametrize("missing", [np.nan, -1.0])
def test_rows_of_nothing_in_the_sample(missing, tmp_path):
    """Other cells of such a row, and rows beside it that are refused, do not change what the truth about it is."""
    rng = np.random.default_rng(1)
    X = np.concatenate([gaps()[:, :2], rng.normal(size=(60, 1)) ** 2], axis=1)
    X[::9, :2] = np.nan
    X[:, :2] = np.where(np.isnan(X[:, :2]), missing, X[:, :2])
    imputer = IterativeImputer(max_iter=2, missing_values=missing)
    columns = ColumnTransformer([("gaps", imputer, [0, 1]), ("root", FunctionTransformer(np.sqrt), [2])])
    model = make_pipeline(columns, DecisionTreeRegressor(max_depth=4, random_state=0)).fit(X, X[:, 2])
    edgeml.compile(model, X, output=tmp_path / "m.edgeml", formats=["native", "onnx"]).close()
    for engine in ("native", "onnx"):
        with edgeml.load(tmp_path / "m.edgeml", engine=engine) as compiled:
            np.testing.assert_allclose(compiled.predict(X), model.predict(X), rtol=1e-9)


def test_steps_are_asked_about_rows_that_lack_the_cell_only():
    """A tree refuses what float32 does not hold; rows that have the cell never come to it."""
    X = gaps()
    model = IterativeImputer(DecisionTreeRegressor(max_depth=2), max_iter=1).fit(X)
    complete = np.nan_to_num(X[:2])
    complete[0, 1] = 1e200
    assert_same(model, complete)


def test_an_estimator_without_a_converter_is_named(tmp_path):
    class Odd(SVR):
        pass

    model = IterativeImputer(Odd(), max_iter=1).fit(gaps())
    with pytest.raises(edgeml.errors.EdgeMLError, match=r"imputation_sequence_\[0\].*Odd"):
        edgeml.compile(model, gaps(), output=tmp_path / "m.edgeml", formats=["native"])

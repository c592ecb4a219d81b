"""Rows whose answer scikit-learn itself does not settle are told apart from errors of ours."""

import numpy as np
import pytest
from sklearn.datasets import load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.impute import KNNImputer
from sklearn.neighbors import KernelDensity, KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import edgeml
from edgeml.compare import FLOAT64
from edgeml.converters import to_program
from edgeml.parity.conditioning import relabelled, reordered
from edgeml.parity.unsettled import unsettled
from edgeml.sample import read_sample
from tests.oracle import schema_of


def test_ties_of_a_partition():
    """Brute force with a metric of bools partitions all distances; a tie within the k nearest does not matter."""
    X = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [1, 1, 1]], dtype=float)
    est = KNeighborsRegressor(2, metric="hamming", algorithm="brute").fit(X, np.arange(4.0))
    program = to_program(est, schema_of(X), {"predict": ("vector", "<f8")})
    rows = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 0.0]])
    # Distances in thirds: 1 1 0 1, then 2 2 1 0, then 2 0 1 2.
    assert unsettled(est, program, read_sample(est, rows)).tolist() == [True, False, False]


def test_heaps_and_trees_settle_their_ties():
    X = np.random.default_rng(0).integers(0, 3, (60, 2)).astype(float)
    for algorithm in ("brute", "kd_tree"):
        est = KNeighborsRegressor(3, algorithm=algorithm).fit(X, X[:, 0])
        program = to_program(est, schema_of(X), {"predict": ("vector", "<f8")})
        assert not unsettled(est, program, read_sample(est, X)).any()


def test_products_with_infinite_terms_of_both_signs():
    X = np.random.default_rng(0).normal(size=(30, 3)) * 1e10
    est = KNeighborsRegressor(1, algorithm="brute").fit(X, X[:, 0])
    program = to_program(est, schema_of(X), {"predict": ("vector", "<f8")})
    rows = np.array([[1e300, -1e300, 1.0], [1e300, 1.0, 1.0], [1.0, 1.0, 1.0]])
    assert unsettled(est, program, read_sample(est, rows)).tolist() == [True, False, False]


def test_a_density_whose_tree_is_not_walked_to_the_end():
    X = np.random.default_rng(1).normal(size=(200, 13)) * np.geomspace(0.1, 300, 13)
    for model in (KernelDensity(), make_pipeline(StandardScaler(with_mean=False, with_std=False), KernelDensity())):
        model.fit(X)
        program = to_program(model, schema_of(X), {"score_samples": ("vector", "<f8")})
        rows = np.concatenate([X[:5], X[:40] * 3 + 1.0])
        found = unsettled(model, program, read_sample(model, rows))
        assert found[5:].any()
        assert not found[:5].any()


def test_noise_of_a_sum_that_cancels_is_excused_and_an_error_is_not():
    from sklearn.linear_model import LinearRegression

    X = np.random.default_rng(2).normal(size=(50, 3))
    est = LinearRegression().fit(X, X[:, 0])
    est.coef_, est.intercept_ = np.array([1.0, -1.0, 1.0]), 0.0
    program = to_program(est, schema_of(X), {"predict": ("vector", "<f8")})
    sample = read_sample(est, np.array([[1e16, 1e16, 1.0], [1.0, 1.0, 1.0]]))
    expected, noise, error = np.array([1.0, 1.0]), np.array([2.0, 1.0]), np.array([1.0, 1.0 + 1e-6])
    assert reordered(program, sample, "predict", expected, noise, 1e-9, FLOAT64) == (1, 0.0)
    count, largest = reordered(program, sample, "predict", expected, error, 1e-9, FLOAT64)
    assert count == 0
    assert largest > 1e-7
    # In the sample the program, which adds from the left, has to repeat scikit-learn's answer.
    assert reordered(program, sample, "predict", expected, noise, 1e-9, FLOAT64, repeated=True) == (1, 0.0)
    assert reordered(program, sample, "predict", noise, expected, 1e-9, FLOAT64) == (1, 0.0)
    assert reordered(program, sample, "predict", noise, expected, 1e-9, FLOAT64, repeated=True)[0] == 0


@pytest.mark.parametrize("load", [load_iris, load_wine])
@pytest.mark.parametrize(
    "model",
    [
        KNeighborsClassifier(algorithm="brute", weights="distance"),
        KNeighborsClassifier(metric="cosine", weights="distance"),
        KNeighborsRegressor(algorithm="brute", weights="distance"),
        make_pipeline(StandardScaler(), PCA(3), KNeighborsClassifier(weights="distance", algorithm="brute")),
    ],
    ids=str,
)
def test_training_rows_are_a_sample_like_any_other(model, load, tmp_path):
    """A row's distance to itself is 0 or 1e-8, as BLAS adds, and weighs infinitely or much."""
    X, y = load(return_X_y=True)
    edgeml.compile(model.fit(X, y), X, output=tmp_path / "m.edgeml", formats=["native"]).close()


@pytest.mark.parametrize("weights", ["uniform", "distance"])
def test_holes_in_rows_that_tie(weights, tmp_path):
    """Of donors at equal distance, up to rounding, scikit-learn takes those that rounding puts first."""
    X = load_iris().data
    X[np.random.default_rng(0).random(X.shape) < 0.15] = np.nan
    model = KNNImputer(n_neighbors=3, weights=weights).fit(X)
    edgeml.compile(model, X, output=tmp_path / "m.edgeml", formats=["native"]).close()


def test_a_label_is_excused_only_where_the_neighbours_tie():
    X = np.array([[0.1, 0.3], [0.3, 0.1], [5.0, 5.0]])
    model = KNeighborsClassifier(1, algorithm="brute").fit(X, ["a", "b", "c"])
    program = to_program(model, schema_of(X), {"predict": ("vector", "O"), "predict_proba": ("matrix", "<f8")})
    sample = read_sample(model, np.array([[0.2, 0.2], [0.1, 0.3], [5.0, 4.0]]))
    expected, actual = np.array(["a", "b", "c"], object), np.array(["b", "a", "c"], object)
    assert relabelled(program, sample, "predict", expected, actual).tolist() == [True, False, False]

"""Estimators by distance: ties as scikit-learn's search breaks them; what is refused, by name and with a way out."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.cluster import AffinityPropagation, FeatureAgglomeration
from sklearn.datasets import load_iris
from sklearn.impute import KNNImputer
from sklearn.manifold import Isomap
from sklearn.neighbors import (
    KernelDensity,
    KNeighborsClassifier,
    KNeighborsRegressor,
    KNeighborsTransformer,
    LocalOutlierFactor,
    NearestCentroid,
    RadiusNeighborsClassifier,
    RadiusNeighborsRegressor,
)
from sklearn.semi_supervised import LabelPropagation

import edgeml
from edgeml.converters import to_program
from edgeml.errors import CompileError, InputError
from edgeml.ir import interpreter
from tests.oracle import schema_of


def grid(rows=200, width=3, levels=4, seed=0):
    """Whole numbers: many rows alike, many distances equal."""
    return np.random.default_rng(seed).integers(0, levels, (rows, width)).astype(float)


def answers(est, X, method, rows):
    want = getattr(est, method)(rows)
    want = want.toarray() if hasattr(want, "toarray") else want
    form = "vector" if want.ndim == 1 else "matrix"
    program = to_program(est, schema_of(X), {method: (form, want.dtype.str)})
    return interpreter.run(program, {"X": rows})[method].reshape(want.shape), want


@pytest.mark.parametrize("algorithm", ["kd_tree", "ball_tree", "brute"])
@pytest.mark.parametrize("metric", ["euclidean", "manhattan", "chebyshev"])
@pytest.mark.parametrize("k", [1, 2, 5, 17])
def test_equal_distances(algorithm, metric, k):
    """A target that tells every training row from all others shows which of equals were taken."""
    X = grid()
    y = np.random.default_rng(1).normal(size=len(X))
    est = KNeighborsRegressor(k, algorithm=algorithm, metric=metric, leaf_size=5).fit(X, y)
    got, want = answers(est, X, "predict", np.concatenate([grid(seed=2), grid(seed=3) + 0.5, X[:50] * 3]))
    np.testing.assert_allclose(got, want, rtol=1e-9)


def test_more_places_than_finite_distances():
    X = np.random.default_rng(4).normal(size=(120, 3))
    for algorithm in ("kd_tree", "brute"):
        est = KNeighborsTransformer(n_neighbors=3, algorithm=algorithm, mode="connectivity").fit(X)
        rows = np.array([[1e300, 0.0, 0.0], [0.0, 0.0, 0.0]])
        got, want = answers(est, X, "transform", rows)
        np.testing.assert_array_equal(got, want)


def test_weights_of_rows_that_were_trained_on():
    X = grid(levels=3)
    y = np.random.default_rng(5).normal(size=len(X))
    for metric in ("euclidean", "manhattan"):
        est = KNeighborsRegressor(7, weights="distance", metric=metric, algorithm="kd_tree").fit(X, y)
        got, want = answers(est, X, "predict", X)
        np.testing.assert_allclose(got, want, rtol=1e-9)


@pytest.mark.parametrize("k", [3, 9])
def test_weights_of_float32_distances_are_float32(k):
    rng = np.random.default_rng(6)
    X, rows = (rng.normal(size=(n, 5)).astype(np.float32) for n in (90, 40))
    X[::7, 2], rows[::5, 0] = np.nan, np.nan
    y = rng.normal(size=90)
    for est in (
        KNeighborsRegressor(k, metric="nan_euclidean", weights="distance"),
        RadiusNeighborsRegressor(3.0, metric="nan_euclidean", weights="distance"),
    ):
        got, want = answers(est.fit(X, y), X, "predict", rows)
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-10)


def test_outliers_by_distances_that_allow_nan_refuse_nan_as_scikit_learn_does(tmp_path):
    X = np.random.default_rng(7).normal(size=(60, 3))
    X[::5, 1] = np.nan
    est = LocalOutlierFactor(5, novelty=True, metric="nan_euclidean").fit(np.nan_to_num(X))
    program = to_program(est, schema_of(X), {"score_samples": ("vector", "<f8")})
    with pytest.raises(ValueError, match="NaN"):
        est.score_samples(X[:1])
    with pytest.raises(InputError, match="nan"):
        interpreter.run(program, {"X": X[:1]})


def test_a_density_whose_norm_is_nan_is_nan_everywhere():
    X = np.random.default_rng(8).normal(size=(40, 4))
    est = KernelDensity(kernel="cosine").fit(X)
    with np.errstate(invalid="ignore"):
        got, want = answers(est, X, "score_samples", np.concatenate([X[:3], X[:3] + 99.0]))
    assert np.isnan(want).all()
    np.testing.assert_array_equal(got, want)


def test_a_row_without_neighbours_is_refused():
    X = grid()
    est = RadiusNeighborsClassifier(radius=0.5).fit(X, X[:, 0])
    program = to_program(est, schema_of(X), {"predict": ("vector", "<f8")})
    with pytest.raises(ValueError, match="No neighbors found"):
        est.predict(X[:1] + 50)
    with pytest.raises(InputError, match=r"RadiusNeighborsClassifier.*no neighbour within the radius"):
        interpreter.run(program, {"X": X[:1] + 50})


def mean_of_squares(x, axis):
    return (x**2).mean(axis=axis)


X = grid(60)
Y = (X[:, 0] > 1).astype(int)
REFUSED = [
    (KNeighborsClassifier(weights=lambda d: 1 / (1 + d)).fit(X, Y), "predict", "weights", "'uniform' or 'distance'"),
    (KNeighborsRegressor(metric=lambda a, b: abs(a - b).sum()).fit(X, Y), "predict", "metric", "name one of"),
    (KNeighborsRegressor(metric="mahalanobis", algorithm="brute").fit(X, Y), "predict", "metric_params", "give the"),
    (LocalOutlierFactor().fit(X), "predict", "novelty", "novelty=True"),
    (KernelDensity(rtol=1e-3).fit(X), "score_samples", "rtol", "rtol=0"),
    (KernelDensity(atol=1e-3).fit(X), "score_samples", "atol", "atol=0"),
    (FeatureAgglomeration(2, pooling_func=mean_of_squares).fit(X), "transform", "pooling_func", "NumPy's"),
    (AffinityPropagation(affinity="precomputed").fit(X @ X.T), "predict", "affinity", "affinity='euclidean'"),
    (KNNImputer(weights=lambda d: 1 / (1 + d)).fit(X), "transform", "weights", "'uniform' or 'distance'"),
    (KNNImputer(metric=lambda a, b, missing_values: 1.0).fit(X), "transform", "metric", "nan_euclidean"),
    (LabelPropagation(kernel=lambda a, b: np.exp(-abs(a[:, None] - b).sum(2))).fit(X, Y), "predict", "kernel", "'rbf'"),
    (Isomap(n_neighbors=None, radius=9.0).fit(grid(301, 3, 9)), "transform", "radius", "n_neighbors"),
]


@pytest.mark.parametrize(("est", "method", "parameter", "way_out"), REFUSED, ids=lambda v: type(v).__name__)
def test_refused_by_name(est, method, parameter, way_out):
    width = est.n_features_in_
    with pytest.raises(CompileError) as caught:
        to_program(est, schema_of(np.zeros((2, width))), {method: ("matrix", "<f8")})
    assert type(est).__name__ in str(caught.value)
    assert parameter in str(caught.value)
    assert way_out in str(caught.value)


def test_a_radius_around_no_awkward_row(tmp_path):
    """When no row of a batch has a neighbour scikit-learn answers in the targets' integers: no reason to stop."""
    X = np.random.default_rng(0).normal(size=(30, 2)) * 1e150
    model = RadiusNeighborsRegressor(1e3).fit(X, np.arange(30) % 3)
    edgeml.compile(model, X, output=tmp_path / "m.edgeml", formats=["native"]).close()


def test_centroids_in_units_that_overflow_refuse_the_row(tmp_path):
    X, y = load_iris(return_X_y=True)
    path = tmp_path / "m.edgeml"
    edgeml.compile(NearestCentroid().fit(X * 1e-150, y), X * 1e-150, output=path, formats=["native", "onnx"]).close()
    for engine in ("native", "onnx"):
        with edgeml.load(path, engine=engine) as model, pytest.raises(edgeml.errors.InputError):
            model.predict_proba(np.full((1, 4), 1e200))


@pytest.mark.parametrize(
    ("model", "scale"),
    [
        (KNeighborsClassifier(3, metric="nan_euclidean", weights="distance"), 1.0),
        (KNeighborsClassifier(3, algorithm="brute", weights="distance"), 1e150),
    ],
    ids=str,
)
def test_distances_that_are_nan_are_answered(model, scale, tmp_path):
    """A weight of NaN is not the 0 that scikit-learn refuses."""
    X, y = load_iris(return_X_y=True)
    edgeml.compile(model.fit(X * scale, y), X * scale, output=tmp_path / "m.edgeml", formats=["native"]).close()


def test_sparse_rows_are_partitioned(tmp_path):
    """Rows as sparse as those of fit are not pushed on a heap: of equal distances others stay."""
    X = sparse.random(100, 40, 0.2, format="csr", random_state=0)
    model = KNeighborsClassifier(3).fit(X, np.arange(100) % 3)
    program = to_program(model, schema_of(X.toarray()), {"predict": ("vector", "<i8")})
    assert "TopK" in {node.op for node in program.nodes}
    edgeml.compile(model, X, output=tmp_path / "m.edgeml", formats=["native"]).close()

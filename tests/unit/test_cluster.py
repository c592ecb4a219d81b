import inspect

import numpy as np
import pytest
from sklearn.cluster import AffinityPropagation, Birch, BisectingKMeans, KMeans, MeanShift, MiniBatchKMeans
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

import edgeml
from edgeml.converters import CONVERTERS, to_program
from edgeml.errors import UnsupportedParameterError
from edgeml.ir import interpreter
from tests.awkward import with_awkward_rows
from tests.oracle import assert_same, converted, schema_of

ESTIMATORS = [
    KMeans(4, n_init=2, random_state=0),
    KMeans(3, n_init=1, algorithm="elkan", init="random", random_state=0),
    KMeans(1, n_init=1),
    MiniBatchKMeans(5, n_init=1, batch_size=20, random_state=0),
]


def data(rows=70, features=3, dtype="float64"):
    rng = np.random.default_rng(5)
    return (rng.normal(size=(rows, features)) + 4.0 * rng.integers(0, 4, size=(rows, 1))).astype(dtype)


@pytest.mark.parametrize("est", ESTIMATORS, ids=repr)
@pytest.mark.parametrize("features", [1, 3, 20])
def test_labels_and_distances(est, features):
    X = data(features=features)
    assert_same(est.fit(X), X, with_awkward_rows(X))


@pytest.mark.parametrize("est", ESTIMATORS, ids=repr)
def test_float32_distances_are_computed_in_float64(est):
    X = data(dtype="float32")
    # Bit for bit: the squares are rounded to float32 before the root, which hides their last float64 bits.
    assert_same(est.fit(X), X, with_awkward_rows(X, largest=1e3), rtol=0, atol=0)


def test_integers():
    X = (data() * 10).astype("int64")
    assert_same(ESTIMATORS[0].fit(X), X)


@pytest.mark.parametrize(("fit_dtype", "dtype"), [("float64", "float32"), ("float32", "float64")])
def test_other_dtype_than_fitted(fit_dtype, dtype):
    """scikit-learn's transform works in float64 then, and its predict raises."""
    est = KMeans(3, n_init=1, random_state=0).fit(data(dtype=fit_dtype))
    X = data(dtype=dtype)
    with pytest.raises(ValueError, match="dtype mismatch"):
        est.predict(X)
    want = est.transform(X)
    assert want.dtype == np.float64
    program = to_program(est, schema_of(X), {"transform": ("matrix", "<f8")})
    np.testing.assert_allclose(interpreter.run(program, {"X": X})["transform"], want, rtol=1e-9)
    with pytest.raises(UnsupportedParameterError, match="predict of KMeans"):
        to_program(est, schema_of(X), {"predict": ("vector", "<i4")})


def test_rows_on_a_centre():
    """The formula cancels there: both are within the rounding error of |x|^2 of the squared distance."""
    X = data(features=20) + 1000.0
    est = KMeans(8, n_init=1, random_state=0).fit(X)
    rows = np.vstack([est.cluster_centers_, np.nextafter(est.cluster_centers_, np.inf)])
    got = interpreter.run(converted(est, X), {"X": rows})
    np.testing.assert_array_equal(got["predict"], est.predict(rows))
    sizes = (rows**2).sum(axis=1)[:, None] + (est.cluster_centers_**2).sum(axis=1)
    bound = 8 * np.finfo(float).eps * sizes
    assert (np.abs(got["transform"] ** 2 - est.transform(rows) ** 2) <= bound).all()
    exact = np.sqrt(((rows[:, None] - est.cluster_centers_) ** 2).sum(axis=2))
    assert (np.abs(got["transform"] ** 2 - exact**2) <= bound).all()


def test_the_first_of_equal_centres_wins():
    est = KMeans(2, n_init=1, random_state=0).fit(np.array([[0.0], [0.0], [1.0]]))
    est.cluster_centers_ = np.array([[1.0], [1.0]])
    X = np.array([[0.0], [1.0], [2.0]])
    assert est.predict(X).tolist() == [0, 0, 0]
    assert_same(est, X)


@pytest.mark.parametrize(
    "est",
    [
        KMeans(4, n_init=1, random_state=0),
        BisectingKMeans(4, random_state=0),
        MeanShift(),
        AffinityPropagation(random_state=0),
        Birch(),
        KNeighborsClassifier(3, algorithm="brute"),
        KNeighborsRegressor(3, algorithm="brute", metric="sqeuclidean", weights="distance"),
    ],
    ids=repr,
)
def test_rows_whose_products_overflow(est, tmp_path):
    """Of columns in the billions a cell of 1e300 leaves NaN, which scikit-learn's heap takes to be 0."""
    X, y = np.random.default_rng(8).normal(size=(60, 4)) * 1e10, np.arange(60) % 3
    est.fit(X, y)
    edgeml.compile(est, X, output=tmp_path / "m.edgeml", formats=["native", "onnx"]).close()
    rows = np.where(np.eye(4) > 0, 1e300, X[:4])
    for engine in ("native", "onnx"):
        with edgeml.load(tmp_path / "m.edgeml", engine=engine) as model:
            for given in (rows, -rows):
                np.testing.assert_array_equal(model.predict(given), est.predict(given))


@pytest.mark.parametrize("cls", [KMeans, MiniBatchKMeans])
def test_every_parameter_is_known(cls):
    entry = CONVERTERS[f"sklearn.{cls.__name__}"]
    assert set(inspect.signature(cls.__init__).parameters) - {"self"} <= entry.honours | entry.ignores

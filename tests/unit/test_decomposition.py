import inspect

import numpy as np
import pytest
from sklearn.decomposition import PCA, FactorAnalysis, IncrementalPCA, TruncatedSVD

from edgeml.converters import CONVERTERS, to_program
from edgeml.errors import NonFiniteError
from edgeml.ir import interpreter
from tests.awkward import with_awkward_rows
from tests.oracle import assert_same, converted, schema_of

ESTIMATORS = [
    PCA(),
    PCA(3, whiten=True),
    PCA(0.8, svd_solver="full"),
    PCA("mle"),
    PCA(2, svd_solver="arpack", random_state=0),
    PCA(2, svd_solver="randomized", whiten=True, random_state=0),
    PCA(4, svd_solver="covariance_eigh", whiten=True),
    IncrementalPCA(3, batch_size=20),
    IncrementalPCA(2, whiten=True),
    TruncatedSVD(3, random_state=0),
    TruncatedSVD(2, algorithm="arpack", random_state=0),
]


def data(rows=60, features=6, dtype="float64"):
    rng = np.random.default_rng(2)
    X = rng.normal(size=(rows, features)) * rng.uniform(0.5, 30, size=features) + rng.normal(size=features)
    return X.astype(dtype)


@pytest.mark.parametrize("est", ESTIMATORS, ids=repr)
def test_transform(est):
    X = data()
    assert_same(est.fit(X), X, with_awkward_rows(X))


@pytest.mark.parametrize("est", [PCA(1), IncrementalPCA(1)], ids=repr)
def test_one_feature(est):
    X = data(features=1)
    assert_same(est.fit(X), X, with_awkward_rows(X))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_whitening_a_component_without_variance_divides_by_epsilon(dtype):
    X = data(dtype=dtype)
    est = PCA(3, whiten=True, svd_solver="full").fit(X)
    est.explained_variance_[-1] = 0.0
    program = to_program(est, schema_of(X), {"transform": ("matrix", X.dtype.str)})
    got, want = interpreter.run(program, {"X": X})["transform"], est.transform(X)
    assert np.abs(want[:, -1]).max() > 0.1 / np.finfo(dtype).eps
    np.testing.assert_allclose(got, want, rtol=1e-9 if dtype == "float64" else 1e-4, atol=1e-12)


def test_a_float64_mean_is_subtracted_in_place():
    """The sum is rounded to the dtype of the product before whitening, as ``-=`` does it."""
    X = data(dtype="float32")
    est = PCA(3).fit(X)
    est.mean_ = est.mean_.astype("float64")
    program = assert_same(est, X, rtol=1e-5, atol=1e-5)
    (value,) = program.outputs["transform"].values
    assert program.type_of(value).dtype == "float32"


def test_score_samples_is_not_computed_unless_asked_for():
    X = data()
    est = PCA(3).fit(X)
    program = to_program(est, schema_of(X), {"transform": ("matrix", "<f8")})
    assert [node.op for node in program.nodes] == ["CheckFinite", "Linear"]


@pytest.mark.parametrize(
    ("est", "noise", "small"),
    [
        (PCA(4), 1.0, True),
        (PCA(4, whiten=True), 5.0, True),
        (FactorAnalysis(4), 1.0, True),
        (PCA(4), 1e-3, False),  # what the components explain would cancel the rest
        (PCA(200), 1.0, False),  # no smaller
    ],
)
def test_a_precision_of_many_columns_is_kept_as_its_components(est, noise, small):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(320, 4)) @ rng.normal(size=(4, 300)) + rng.normal(size=(320, 300)) * noise
    est.fit(X)
    program = to_program(est, schema_of(X), {"score_samples": ("vector", "<f8")})
    cells = sum(node.attrs["weight"].size for node in program.nodes if node.op == "Linear")
    assert (cells == 4 * 300) if small else (cells == 300 * 300)
    np.testing.assert_allclose(interpreter.run(program, {"X": X})["score_samples"], est.score_samples(X), rtol=1e-9)


@pytest.mark.parametrize(
    ("fit_dtype", "dtype"), [("float32", "float32"), ("float32", "float64"), ("float64", "float32")]
)
@pytest.mark.parametrize(
    "est", [PCA(3), PCA(3, whiten=True), IncrementalPCA(2, whiten=True), TruncatedSVD(2)], ids=repr
)
def test_dtypes_follow_scikit_learn(est, fit_dtype, dtype):
    est.fit(data(dtype=fit_dtype))
    X = data(dtype=dtype)
    # A float32 product differs in its last bits with the order of its additions.
    single = est.components_.dtype == X.dtype == np.float32
    assert_same(est, X, **({"rtol": 1e-5, "atol": 1e-5} if single else {}))


@pytest.mark.parametrize("est", [PCA(2), TruncatedSVD(2)], ids=repr)
def test_integers(est):
    X = data().astype("int64")
    assert_same(est.fit(X), X)


@pytest.mark.parametrize("est", [PCA(2), TruncatedSVD(2)], ids=repr)
def test_rows_scikit_learn_refuses_are_refused(est):
    X = data()
    program = converted(est.fit(X), X)
    rows = X.copy()
    rows[1, 4] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        est.transform(rows)
    with pytest.raises(NonFiniteError, match=f"{type(est).__name__}.*row 1, its column 4"):
        interpreter.run(program, {"X": rows})


@pytest.mark.parametrize("cls", [PCA, IncrementalPCA, TruncatedSVD])
def test_every_parameter_is_known(cls):
    entry = CONVERTERS[f"sklearn.{cls.__name__}"]
    assert set(inspect.signature(cls.__init__).parameters) - {"self"} <= entry.honours | entry.ignores

"""Scalers, Normalizer and Binarizer against scikit-learn, bit for bit where it does not add along a row."""

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    RobustScaler,
    StandardScaler,
)

from edgeml.errors import NonFiniteError
from edgeml.ir import interpreter
from tests.oracle import assert_same, converted

SCALERS = [
    StandardScaler(),
    StandardScaler(with_mean=False),
    StandardScaler(with_std=False),
    StandardScaler(with_mean=False, with_std=False),
    MinMaxScaler(),
    MinMaxScaler(feature_range=(-1.7, 0.3), clip=True),
    MaxAbsScaler(),
    MaxAbsScaler(clip=True),
    RobustScaler(),
    RobustScaler(unit_variance=True, quantile_range=(10.0, 70.0)),
    RobustScaler(with_centering=False),
    RobustScaler(with_scaling=False),
]


def matrix(dtype, *, missing=False):
    """Columns of different magnitudes, one constant, one nearly so."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 6)) * [1e-6, 1.0, 100.0, 1e12, 0.0, 1e-9] + [0, 0, 5.0, -1e12, 7.1, 3.3]
    if dtype == "int64":
        return (rng.normal(size=(200, 3)) * [10.0, 1e6, 1e17]).astype(dtype)
    X = X.astype(dtype)
    X[0, :] = -0.0
    if missing:
        X[rng.random(X.shape) < 0.1] = np.nan
    return X


def awkward(X):
    """Training extremes and their neighbours, and far beyond them."""
    if X.dtype.kind != "f":
        return X
    low, high = np.nanmin(X, axis=0), np.nanmax(X, axis=0)
    step = np.array([-np.inf, np.inf], dtype=X.dtype)
    rows = [
        low,
        high,
        np.nextafter(low, step[0]),
        np.nextafter(high, step[1]),
        10 * high,
        -10 * high,
        0 * low,
    ]
    return np.concatenate([X, np.array(rows, dtype=X.dtype), np.full((1, X.shape[1]), np.nan, dtype=X.dtype)])


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("scaler", SCALERS, ids=repr)
def test_scalers(scaler, dtype, missing):
    X = matrix(dtype, missing=missing)
    assert_same(scaler.fit(X), X, awkward(X), rtol=0, atol=0)


@pytest.mark.parametrize("scaler", SCALERS, ids=repr)
def test_a_float32_matrix_meets_a_scaler_fitted_in_float64(scaler):
    scaler.fit(matrix("float64"))
    X = matrix("float32")
    assert_same(scaler, X, awkward(X), rtol=0, atol=0)


@pytest.mark.parametrize("scaler", SCALERS, ids=repr)
def test_a_frame_of_mixed_dtypes(scaler):
    rng = np.random.default_rng(1)
    X = pd.DataFrame({"i": rng.integers(-5, 5, 50), "b": rng.random(50) < 0.5, "h": rng.normal(size=50).astype("f4")})
    assert_same(scaler.fit(X), X, rtol=0, atol=0)  # float64, since int64 and float32 promote to it
    assert_same(scaler.fit(X[["b", "h"]]), X[["b", "h"]], rtol=0, atol=0)  # float32


@pytest.mark.parametrize(
    "scaler",
    [
        StandardScaler(with_mean=False),
        StandardScaler(with_mean=False, with_std=False),
        MaxAbsScaler(),
        MaxAbsScaler(clip=True),
        RobustScaler(with_centering=False),
        RobustScaler(with_centering=False, with_scaling=False),
    ],
    ids=repr,
)
def test_behind_a_sparse_encoder(scaler):
    X = np.random.default_rng(2).integers(0, 7, size=(80, 3))
    for dtype in (np.float64, np.float32):
        first = make_pipeline(OneHotEncoder(dtype=dtype), StandardScaler(with_mean=False))
        assert_same(make_pipeline(first, scaler).fit(X), X, rtol=0, atol=0)


def test_partial_fit_on_constant_columns():
    X = np.tile([3.3, 0.0, 1e-300], (20, 1))
    scaler = StandardScaler()
    for part in np.array_split(X, 4):
        scaler.partial_fit(part)
    assert_same(scaler, X, X + 1.0, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
def test_normalizer(norm, dtype):
    X = (np.random.default_rng(3).normal(size=(60, 5)) * 100).astype(dtype)
    X[0] = 0  # a row of zeros is left as it is
    if dtype != "int64":
        X[1] = np.finfo(dtype).eps  # and so is one whose norm is tiny
        X[2] *= 1e-20
        X[3] = -0.0
    # scikit-learn adds along a row in an order of its own.
    assert_same(Normalizer(norm=norm).fit(X), X, rtol=4e-7 if dtype == "float32" else 4e-16, atol=0)


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
def test_normalizer_of_a_sparse_matrix(norm):
    X = np.random.default_rng(4).integers(0, 4, size=(40, 3))
    rows = np.vstack([X, [[9, 9, 9], [1, 9, 9]]])
    pipe = make_pipeline(OneHotEncoder(handle_unknown="ignore"), MaxAbsScaler(), Normalizer(norm=norm)).fit(X)
    pipe[1].scale_ = pipe[1].scale_ * 1e17  # under 10 eps: only a dense row would be left alone
    assert_same(pipe, X, rows, rtol=4e-16, atol=0)


@pytest.mark.parametrize("threshold", [0.0, 0.3, np.float64(0.3), -2])
@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "bool"])
def test_binarizer(threshold, dtype):
    X = np.array([[-3.0, 0.3, 0.0], [np.float32(0.3), -0.0, 2.0], [np.nextafter(0.3, 1), -2.0, 1.0]]).astype(dtype)
    assert_same(Binarizer(threshold=threshold).fit(X), X)


def test_infinity_is_refused_by_every_scaler_and_nan_by_normalizer():
    X = matrix("float64")
    for estimator, bad in [(s, np.inf) for s in SCALERS] + [(Normalizer(), np.nan), (Binarizer(), np.nan)]:
        program = converted(estimator.fit(X), X)
        rows = X[:3].copy()
        rows[2, 1] = bad
        with pytest.raises(ValueError, match=r"contains (NaN|infinity)"):
            estimator.transform(rows)
        with pytest.raises(NonFiniteError, match=type(estimator).__name__):
            interpreter.run(program, {"X": rows})

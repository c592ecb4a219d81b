"""FunctionTransformer: NumPy and pandas functions that are recorded, and Python functions whose source is translated."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import pandas as pd
from scipy import special
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from tests.conformance.estimators.data import float32, iris, iris_names, missing, scaled
from tests.conformance.estimators.table import variant

TABLE = np.array([0.5, -1.0, 2.0])


def table() -> Any:
    """A frame of floats with missing cells, whole numbers and strings; three classes."""
    X, y = iris()
    frame = pd.DataFrame(X - 3.0, columns=list("abcd"))
    frame["n"] = np.arange(len(X)) % 5
    frame["s"] = np.array(["x", "y", "z"])[np.arange(len(X)) % 3]
    frame.loc[3::7, "a"] = np.nan
    frame.loc[2::11, "s"] = None
    return frame, y


def whole() -> Any:
    """Whole numbers of both signs."""
    return np.random.default_rng(5).integers(-50, 50, (60, 3)), None


# --- NumPy's functions ---------------------------------------------------------------------------------------------
def shares(X):
    return np.log1p(np.abs(X)) / X.sum(axis=1, keepdims=True)


def picks(X):
    return np.hstack([X[:, [0, 2]], X[:, 1:], X[:, -1:]])


def stacks(X):
    return np.column_stack([X[:, 0] * X[:, 1], np.concatenate([X, X**2], axis=1), np.ones_like(X[:, 0])])


def corners(X):
    return np.c_[X[:, 0], np.array([X[:, 1], X[:, 2]]).T]


def choices(X):
    return np.where(X > 3, np.clip(X, 1, 5), np.select([X < 1, X < 2], [-X, 2.0 * X], 7.0))


def comparisons(X):
    return (X > 2) & ~(X[:, :1] == 5.1) | (X.mean(axis=1)[:, None] > X)


def along(X):
    parts = [X.sum(axis=1), X.mean(axis=1), X.max(axis=1), X.min(axis=1), X.std(axis=1, ddof=1), X.prod(axis=1)]
    return np.stack([*parts, np.linalg.norm(X, axis=1)], axis=1)


def positions(X):
    return np.stack([X.argmax(axis=1), np.argmin(X, axis=1), np.count_nonzero(X > 2, axis=1)], axis=1)


def running(X):
    return np.concatenate([X.cumsum(axis=1), np.diff(X, axis=1), np.cumprod(X, axis=1)], axis=1)


def products(X):
    return X @ np.arange(8.0).reshape(4, 2) + np.dot(X, TABLE[[0, 1, 2, 0]])[:, None]


def special_functions(X):
    parts = [np.sin(X), np.cos(X), np.tanh(X), np.sinh(X / 9), np.cosh(X / 9), np.arcsinh(X), np.expm1(-X), np.cbrt(X)]
    return np.hstack(
        [*parts, np.power(np.abs(X), 1.5), special.expit(X), special.erf(X), special.xlogy(X, np.abs(X) + 1)]
    )


def roundings(X):
    Y = X - 3.25
    parts = [np.floor(Y), np.ceil(Y), np.trunc(Y), np.rint(Y), np.round(Y, 1), np.sign(Y), Y // 0.3, Y % -0.7]
    return np.hstack([*parts, np.fmod(Y, 0.4), np.hypot(Y, X), np.maximum(Y, 0), np.copysign(X, Y)])


def whole_numbers(X):
    return np.hstack([X // 7, X % -3, X**2, abs(X) * 3, (X > 0) * 2, X / 4, X.sum(axis=1, keepdims=True)])


def types(X):
    return np.hstack([X.astype(int), (X > 3).astype(float), X.astype(np.float32)])


def without_missing(X):
    filled = np.nan_to_num(X, nan=-1.0)
    return np.hstack([filled, np.isnan(X), np.nanmean(X, axis=1)[:, None], np.nansum(X, axis=1).reshape(-1, 1)])


def skipping(X):
    return np.stack([np.nanmax(X, axis=1), np.nanmin(X, axis=1), np.nanstd(X, axis=1)], axis=1)


def assignments(X):
    X = X.copy()
    X[X > 5] = 0
    X[:, 1] = X[:, 0] * 2
    X[:, [2, 3]] += 1
    X[X[:, 0] > 5.5, 2] = -1
    return X


def turned(X):
    a, b, c, _ = X.T
    return np.stack([a / b, (X.T / X.max(axis=1)).T[:, 0], c], axis=1)


def bins(X):
    return np.hstack([np.digitize(X, [1.0, 3.0, 5.1]), np.searchsorted([0.2, 5.1], X), np.isin(X, [5.1, 1.4])])


def bins_as_they_come(X):
    return np.hstack([np.digitize(X, [-np.inf, 1.4, 3.0, np.inf]), np.digitize(X, [5.1, 3.0, 0.2], right=True)])


def angles(X):
    a, b, c, d = np.radians(9 * X - 30).T
    square = np.sin((c - a) / 2) ** 2 + np.cos(a) * np.cos(c) * np.sin((d - b) / 2) ** 2
    parts = [np.arcsin(np.sqrt(square)), np.arctan2(a, b - d), np.arctan(a * 40), np.arccos(1 - 2 * square)]
    return np.stack(parts, axis=1)


def ordered(X):
    parts = [np.sort(X), np.argsort(X, axis=1, kind="stable"), np.median(X, axis=1, keepdims=True)]
    parts += [np.quantile(X, q, axis=1)[:, None] for q in (0.1, 0.75)] + [np.median(X[:, :3], axis=1)[:, None]]
    return np.hstack(
        [
            *parts,
            np.percentile(X, 50, axis=1, keepdims=True),
            np.take_along_axis(X, X.argsort(axis=1, kind="stable"), axis=1),
        ]
    )


def looked_up(X):
    return np.hstack([np.take(TABLE, X.argmax(axis=1) % 3)[:, None], np.interp(X, [0.0, 2.0, 6.0], [1.0, -1.0, 3.0])])


def one_vector(X):
    return X[:, 0] - X[:, 1]


def powered(X, power, shift=0.0):
    return X**power + shift


# --- pandas --------------------------------------------------------------------------------------------------------
def ratio(X):
    return X.assign(r=X["a"] / X["b"], k=lambda f: f.n + 1).drop(columns=["s", "a"])


def filled(X):
    Y = X[["a", "b", "n"]].copy()
    Y["a"] = Y["a"].fillna(-1.0)
    Y["m"] = X["s"].map({"x": 1, "y": 2})
    Y["q"] = X.s.isin(["x", "z"])
    return Y


def row_sums(X):
    numbers = X[["a", "b", "c"]]
    return pd.DataFrame({"sum": numbers.sum(axis=1), "mean": numbers.mean(axis=1), "max": numbers.max(axis=1)})


def texts(X):
    return (X["s"] == "x").to_frame("is_x")


def logs(X):
    return np.log1p(X[["b", "c"]].abs()).div(X["n"] + 1, axis=0).rename(columns={"b": "first"})


def each_cell(X):
    return X["b"].apply(lambda v: v * 2.0 if v > 0 else 0.5).to_frame()


def each_record(X):
    return X[["a", "b", "c"]].apply(lambda r: r["b"] if r["a"] > 0 else r.c / 2, axis=1).to_frame("z")


# --- Python functions of a cell or a row ---------------------------------------------------------------------------
def bucket(x):
    if x < 1:
        return 0.0
    elif x < 3 and not x > 2.5:
        y = x * 2
    else:
        y = x + TABLE[1]
        for k in range(3):
            y = y + k
            if y > 8:
                break
            if k == 1:
                continue
            y -= 0.5
    return y - 1 if y > 2 else math.sqrt(y)


def guarded(x):
    return 1 / x if x > 0.5 else math.exp(-x)


def stepped(n):
    total = 0
    for k in range(6):
        if n % 3 == 0:
            total += n // 20
        elif n < 0:
            return -1
        n = n // 2 + k
    return total


def buckets(X):
    vector = np.vectorize(bucket, otypes=[float])
    return np.column_stack([vector(X[:, 0]), vector(X[:, 1:3])])


@numba.vectorize
def compiled_cell(x):
    return x * 2 if x > 3 else -x / 3


@numba.njit
def compiled_rows(X):
    out = np.empty((X.shape[0], 2))
    for i in range(X.shape[0]):
        total = 0.0
        for j in range(X.shape[1]):
            if X[i, j] > 2:
                total += X[i, j]
        out[i, 0] = total
        if total > 6:
            out[i, 1] = 1.0
        else:
            out[i, 1] = math.sqrt(abs(X[i, 0]))
    return out


def of_row(row):
    if row[0] > row[1] * 2:
        return row[0] - row[1], 1.0
    return (row**2).sum(), float(max(row[2], row[3]))


def rows(X):
    return np.apply_along_axis(of_row, 1, X)


def listed(X):
    out = []
    for a, b, c, d in X:
        if c > d:
            out.append([min(a, b), a if a > 5 else d])
        else:
            out.append([0.0, b])
    return np.array(out)


def comprehended(X):
    return np.array([[bucket(v) for v in row] for row in X])


_INT32 = "beyond the range of int32"  # the reason TFLite gives

VARIANTS = (
    variant(FunctionTransformer(np.log1p), iris),
    variant(FunctionTransformer(np.sqrt, validate=True, feature_names_out="one-to-one"), iris),
    variant(FunctionTransformer(np.exp), float32),
    variant(FunctionTransformer(), iris),
    *(
        variant(FunctionTransformer(f), iris)
        for f in (
            shares, picks, stacks, corners, choices, comparisons, running, products, special_functions, types, assignments, bins, bins_as_they_come, angles, looked_up, one_vector, buckets, compiled_cell, compiled_rows, rows, listed,
            comprehended,
        )
    ),
    *(variant(FunctionTransformer(f, validate=True), iris) for f in (along, positions, turned)),
    variant(FunctionTransformer(roundings), iris),
    variant(FunctionTransformer(whole_numbers), whole, tflite=_INT32),
    variant(FunctionTransformer(np.vectorize(stepped)), whole, what="numpy.vectorize", tflite=_INT32),
    variant(FunctionTransformer(np.vectorize(guarded)), iris, what="a guarded division"),
    variant(FunctionTransformer(powered, kw_args={"power": 3, "shift": 0.5}), iris),
    variant(FunctionTransformer(powered, kw_args={"power": -1}), iris),
    *(variant(FunctionTransformer(f), missing) for f in (without_missing, skipping, ordered)),
    variant(FunctionTransformer(ratio), table, tflite=_INT32),
    variant(FunctionTransformer(filled), table, tflite="strings or objects"),
    *(variant(FunctionTransformer(f), table) for f in (row_sums, texts, logs, each_cell, each_record)),
    variant(make_pipeline(FunctionTransformer(shares), StandardScaler(), LogisticRegression()), iris_names, of="FunctionTransformer"),
    variant(make_pipeline(FunctionTransformer(buckets), StandardScaler()), scaled, of="FunctionTransformer"),
)  # fmt: skip

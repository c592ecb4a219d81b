"""Decompositions: projections, factorisations that iterate per row, and sparse codes."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.decomposition import (
    NMF,
    PCA,
    DictionaryLearning,
    FactorAnalysis,
    FastICA,
    IncrementalPCA,
    LatentDirichletAllocation,
    MiniBatchDictionaryLearning,
    MiniBatchNMF,
    MiniBatchSparsePCA,
    SparseCoder,
    SparsePCA,
    TruncatedSVD,
)

from tests.conformance.estimators.data import float32, iris, one_column, positive
from tests.conformance.estimators.table import Variant, variant

# The permutations of a shuffle are whole numbers that a row carries as floats.
_WHOLE = "turns fractions into int64"
_HUGE = "uses a constant beyond the range of float32"
_LONG = "too long a way"
_TFLITE = {
    "lars": _HUGE, "lasso by angles": _LONG, "lasso by angles, positive": _LONG, "lasso by angles, 2 steps": _HUGE,
    "lasso": _LONG, "lasso, positive": _LONG,
}  # fmt: skip


def counts() -> Any:
    """Counts as floats, nothing to learn from targets."""
    X, _ = positive()
    return X[:60].astype(np.float64), None


def counts32() -> Any:
    """The same in float32."""
    X, _ = counts()
    return X.astype(np.float32), None


def above_zero() -> Any:
    """Positive numbers without a zero."""
    X, _ = counts()
    return X + 0.5, None


def signals() -> Any:
    """Eight mixed columns."""
    rng = np.random.default_rng(5)
    return rng.normal(size=(60, 8)) @ rng.normal(size=(8, 8)), None


def signals32() -> Any:
    """The same in float32."""
    X, _ = signals()
    return X.astype(np.float32), None


def many_columns() -> Any:
    """300 columns, of which four numbers explain a part: the precision is kept as its components."""
    rng = np.random.default_rng(8)
    return rng.normal(size=(320, 4)) @ rng.normal(size=(4, 300)) + rng.normal(size=(320, 300)), None


def _rows(data: Any) -> Any:
    """Rows of other data without their targets, under its name."""

    def rows() -> Any:
        return data()[0], None

    rows.__name__ = data.__name__
    return rows


IRIS, IRIS32, ONE = _rows(iris), _rows(float32), _rows(one_column)


def _atoms() -> Any:
    rng = np.random.default_rng(6)
    atoms = rng.normal(size=(6, 8))
    return atoms / np.linalg.norm(atoms, axis=1, keepdims=True)


def _coder(what: str, **parameters: Any) -> Variant:
    return variant(
        SparseCoder(_atoms(), **parameters),
        signals,
        bound=1e-6,
        tflite=_TFLITE.get(what, ""),
        what=what,
    )


VARIANTS = (
    # --- projections
    *(variant(PCA(**p), IRIS) for p in ({}, {"n_components": 2}, {"n_components": 2, "whiten": True}, {"n_components": 0.9})),
    variant(PCA(n_components=2, svd_solver="randomized", random_state=0), IRIS),
    variant(PCA(n_components="mle"), IRIS),
    variant(PCA(), ONE),
    variant(PCA(n_components=2), IRIS32),
    *(variant(est, many_columns) for est in (PCA(4), PCA(4, whiten=True), FactorAnalysis(4))),
    *(variant(IncrementalPCA(**p), IRIS) for p in ({}, {"n_components": 2, "whiten": True, "batch_size": 50})),
    *(variant(TruncatedSVD(random_state=0, **p), IRIS) for p in ({}, {"n_components": 3, "algorithm": "arpack"})),
    variant(TruncatedSVD(random_state=0), counts32),
    *(variant(FactorAnalysis(**p), IRIS) for p in ({}, {"n_components": 2}, {"n_components": 2, "rotation": "varimax"})),
    variant(FactorAnalysis(n_components=2, rotation="quartimax", svd_method="lapack"), IRIS),
    variant(FactorAnalysis(n_components=1), IRIS32),
    *(
        variant(FastICA(random_state=0, **p), IRIS)
        for p in ({}, {"n_components": 2}, {"whiten": "arbitrary-variance"}, {"whiten": False}, {"fun": "cube"})
    ),
    variant(FastICA(algorithm="deflation", whiten_solver="eigh", random_state=0), IRIS),
    variant(FastICA(n_components=2, random_state=0), signals32),
    *(
        variant(SparsePCA(random_state=0, **p), IRIS)
        for p in ({}, {"n_components": 1}, {"n_components": 2, "ridge_alpha": 1.0}, {"n_components": 6, "alpha": 0.1})
    ),
    variant(SparsePCA(n_components=2, random_state=0, method="cd"), IRIS32),
    variant(MiniBatchSparsePCA(n_components=2, random_state=0, max_iter=20), IRIS),
    variant(MiniBatchSparsePCA(n_components=3, random_state=0, max_iter=20, ridge_alpha=0.5), signals),
    # --- factorisations
    *(
        variant(NMF(init="nndsvda", **p), counts, bound=1e-6, tflite=_WHOLE if "shuffle" in p else "")
        for p in (
            {"n_components": 3},
            {"n_components": 2, "tol": 1e-6, "max_iter": 50},
            {"n_components": 3, "alpha_W": 0.01},
            {"n_components": 3, "alpha_W": 0.01, "l1_ratio": 0.5},
            {"n_components": 3, "tol": 0.0, "max_iter": 7},
            {"n_components": 3, "shuffle": True, "random_state": 3},
            {"n_components": 3, "solver": "mu", "max_iter": 40},
            {"n_components": 3, "solver": "mu", "max_iter": 37, "alpha_W": 0.01, "l1_ratio": 0.5},
            {"n_components": 3, "solver": "mu", "tol": 0.0, "max_iter": 12},
            {"n_components": 2, "solver": "mu", "beta_loss": 1.5, "max_iter": 20},
            {"n_components": 2, "solver": "mu", "beta_loss": 0.5, "max_iter": 20},
            {"n_components": 3, "solver": "mu", "beta_loss": "kullback-leibler", "max_iter": 40},
        )
    ),
    variant(NMF(n_components=2, solver="mu", beta_loss="itakura-saito", max_iter=40), above_zero, bound=1e-6),
    variant(NMF(n_components=2, init="random", random_state=0), counts32, bound=1e-6),
    *(
        variant(MiniBatchNMF(n_components=3, random_state=0, **p), counts, bound=1e-6)
        for p in (
            {},
            {"beta_loss": 3.0},
            {"beta_loss": "kullback-leibler"},
            {"transform_max_iter": 9, "tol": 0.0},
            {"alpha_W": 0.01, "l1_ratio": 0.5, "fresh_restarts": True},
        )
    ),
    variant(MiniBatchNMF(n_components=2, beta_loss="itakura-saito", random_state=0), above_zero, bound=1e-6),
    *(
        variant(LatentDirichletAllocation(random_state=0, max_iter=3, **p), counts, bound=1e-6)
        for p in (
            {"n_components": 4},
            {"n_components": 3, "learning_method": "online", "doc_topic_prior": 0.1},
            {"n_components": 3, "max_doc_update_iter": 4, "mean_change_tol": 1e-9},
        )
    ),
    variant(LatentDirichletAllocation(n_components=3, random_state=0, max_iter=3), counts32, bound=1e-6),
    # --- sparse codes
    _coder("omp"),
    _coder("omp, 3 atoms", transform_n_nonzero_coefs=3),
    _coder("omp, signs", transform_n_nonzero_coefs=2, split_sign=True),
    _coder("threshold", transform_algorithm="threshold"),
    _coder("threshold, positive", transform_algorithm="threshold", transform_alpha=0.5, positive_code=True),
    _coder("threshold, signs", transform_algorithm="threshold", split_sign=True),
    _coder("lars", transform_algorithm="lars", transform_n_nonzero_coefs=4),
    _coder("lasso by angles", transform_algorithm="lasso_lars", transform_alpha=0.3),
    _coder("lasso by angles, positive", transform_algorithm="lasso_lars", transform_alpha=0.3, positive_code=True),
    _coder("lasso by angles, 2 steps", transform_algorithm="lasso_lars", transform_alpha=0.1, transform_max_iter=2),
    _coder("lasso", transform_algorithm="lasso_cd", transform_alpha=0.3),
    _coder("lasso, positive", transform_algorithm="lasso_cd", transform_alpha=0.3, positive_code=True),
    _coder("lasso, 3 passes", transform_algorithm="lasso_cd", transform_alpha=0.1, transform_max_iter=3),
    variant(DictionaryLearning(n_components=4, max_iter=5, random_state=0), signals, bound=1e-6),
    variant(
        DictionaryLearning(n_components=4, max_iter=5, random_state=0, transform_algorithm="lasso_cd"),
        signals, bound=1e-6, tflite=_LONG,
    ),
    variant(
        DictionaryLearning(n_components=4, max_iter=5, random_state=0, transform_algorithm="threshold"), signals32
    ),
    variant(
        MiniBatchDictionaryLearning(n_components=4, max_iter=5, random_state=0, transform_algorithm="lasso_lars"),
        signals, bound=1e-6, tflite=_LONG,
    ),
    variant(
        MiniBatchDictionaryLearning(n_components=4, max_iter=5, random_state=0, alpha=0.4, transform_algorithm="lars"),
        signals, bound=1e-6, tflite=_HUGE,
    ),
    variant(MiniBatchDictionaryLearning(n_components=4, max_iter=5, random_state=0), signals, bound=1e-6),
)  # fmt: skip

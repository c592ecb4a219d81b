"""Methods of kernels against the rows they were fitted on: every kernel of each."""

from __future__ import annotations

import numpy as np
from sklearn.decomposition import KernelPCA
from sklearn.kernel_approximation import Nystroem
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import SGDOneClassSVM

from tests.conformance.estimators.data import float32, iris, number, one_column, two_numbers
from tests.conformance.estimators.svm import DIGITS, similar_numbers, similarities
from tests.conformance.estimators.table import variant


def standard():
    """Columns of mean 0 and deviation 1, and a numeric target: kernels that neither vanish nor saturate."""
    X, y = number()
    return (X - X.mean(axis=0)) / X.std(axis=0), y


def shares():
    """Rows of parts that add up to 1, none of them negative, some of them zero; a numeric target."""
    X, y = number()
    X = np.maximum(X - X.min(axis=0) - 0.2, 0.0)
    return X / (X.sum(axis=1, keepdims=True) + 0.1), y


def narrow():
    """Standard columns in float32."""
    X, y = standard()
    return X.astype(np.float32), y


def whole():
    """Whole numbers."""
    X, y = number()
    return np.round(X).astype(np.int64), y


OF_ALL = ("linear", "poly", "polynomial", "rbf", "laplacian", "sigmoid", "cosine")
OF_SHARES = ("additive_chi2", "chi2")


def _loses(kernel, *losing):
    return DIGITS if kernel in losing else ""


def _of(kernel):
    return {"gamma": 0.7} if kernel == "chi2" else {}


VARIANTS = (
    *(variant(KernelRidge(kernel=kernel), standard, tflite=_loses(kernel, "linear")) for kernel in OF_ALL),
    *(variant(KernelRidge(kernel=kernel, **_of(kernel)), shares) for kernel in OF_SHARES),
    variant(KernelRidge(kernel="precomputed"), similar_numbers),
    variant(KernelRidge(kernel="rbf", gamma=0.3, alpha=0.5), two_numbers),
    variant(KernelRidge(kernel="poly", degree=2, coef0=0.5, gamma=0.1), standard),
    variant(KernelRidge(kernel="poly", degree=2.5, coef0=9.0, gamma=0.1), standard, tflite=DIGITS),
    variant(KernelRidge(kernel="sigmoid", coef0=0.2, gamma=0.1), standard),
    variant(KernelRidge(kernel="rbf"), one_column),
    variant(KernelRidge(kernel="rbf"), narrow),
    variant(KernelRidge(kernel="laplacian"), narrow),
    variant(KernelRidge(kernel="rbf"), whole),
    *(variant(KernelPCA(n_components=2, kernel=kernel), standard) for kernel in ("linear", "poly", "rbf", "cosine")),
    variant(KernelPCA(n_components=2, kernel="sigmoid", gamma=0.02), standard),
    variant(KernelPCA(n_components=2, kernel="precomputed"), similarities),
    variant(KernelPCA(n_components=3, kernel="rbf", gamma=0.1), standard),
    variant(KernelPCA(n_components=2, kernel="poly", degree=2, coef0=0.5), standard),
    variant(KernelPCA(n_components=30, kernel="linear", remove_zero_eig=True), standard),
    variant(KernelPCA(n_components=2, kernel="rbf"), narrow),
    variant(KernelPCA(n_components=2, kernel="rbf", fit_inverse_transform=True), iris),
    *(
        variant(Nystroem(kernel=kernel, n_components=4, random_state=0), standard)
        for kernel in ("linear", "poly", "polynomial", "rbf", "laplacian", "sigmoid", "cosine")
    ),
    *(variant(Nystroem(kernel=kernel, n_components=6, random_state=0), shares, tflite=DIGITS) for kernel in OF_SHARES),
    variant(
        Nystroem(kernel="poly", n_components=6, random_state=0, degree=2, coef0=1.5, gamma=0.1), standard, tflite=DIGITS
    ),
    variant(Nystroem(kernel="rbf", n_components=6, random_state=0, kernel_params={"gamma": 0.4}), standard),
    variant(Nystroem(n_components=6, random_state=0), narrow),
    variant(SGDOneClassSVM(random_state=0), iris),
    variant(SGDOneClassSVM(random_state=0, nu=0.2, fit_intercept=False), standard),
    variant(SGDOneClassSVM(random_state=0), float32, since="1.9"),
)

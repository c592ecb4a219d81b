"""Gaussian processes: every covariance function, sums and products of them, several targets and classes."""

from __future__ import annotations

import numpy as np
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process.kernels import (
    RBF,
    ConstantKernel,
    DotProduct,
    ExpSineSquared,
    Matern,
    PairwiseKernel,
    RationalQuadratic,
    WhiteKernel,
)

from tests.conformance.estimators.data import iris, iris_names, one_column, two_classes, two_names, two_numbers
from tests.conformance.estimators.kernel_methods import narrow, shares, standard, whole
from tests.conformance.estimators.svm import DIGITS
from tests.conformance.estimators.table import variant


def two_standard():
    """Standard columns and two classes."""
    X, y = standard()
    return X, (y > np.median(y)).astype(int)


def two_shares():
    """Shares and two classes."""
    X, y = shares()
    return X, (y > np.median(y)).astype(int)


def regressor(kernel=None, **parameters):
    return GaussianProcessRegressor(kernel, **{"alpha": 1.0, "optimizer": None, **parameters})


def classifier(kernel=None, **parameters):
    return GaussianProcessClassifier(kernel, **{"optimizer": None, **parameters})


CONSTANT = ConstantKernel(2) + WhiteKernel(1.0)
KERNELS = (
    RBF(),
    RBF([1.0, 2.0, 0.5, 3.0]),
    *(Matern(nu=nu) for nu in (0.5, 1.5, 2.5, float("inf"), 0.8, 3.0)),
    Matern([1.0, 2.0, 0.5, 3.0], nu=1.2),
    RationalQuadratic(),
    RationalQuadratic(length_scale=0.7, alpha=1.7),
    ExpSineSquared(length_scale=2.0, periodicity=6.0) + ConstantKernel(3.0) * RBF() + WhiteKernel(9.0),
    DotProduct(),
    DotProduct(sigma_0=0.5) ** 2,
    ConstantKernel(2.0) * RBF(1.5) + WhiteKernel(0.3),
    RBF() ** 1.5,
    CONSTANT,
    *(PairwiseKernel(metric=metric, gamma=0.2) for metric in ("linear", "poly", "rbf", "laplacian", "cosine")),
    PairwiseKernel(metric="polynomial", gamma=0.2, pairwise_kernels_kwargs={"degree": 2, "coef0": 0.5})
    + WhiteKernel(9.0),
    PairwiseKernel(metric="sigmoid", gamma=0.02) + WhiteKernel(2.0),
)
# Float32 keeps too few digits of a sum that cancels, as functions of x @ y make it.
CANCELS = ("DotProduct", "metric=linear", "metric=poly,", "metric=poly)")


def _loses(kernel):
    return DIGITS if any(part in repr(kernel) for part in CANCELS) else ""


def _squared(kernel):
    return DIGITS if repr(kernel) == "DotProduct(sigma_0=0.5) ** 2" else ""


VARIANTS = (
    *(variant(regressor(kernel), standard, tflite=_loses(kernel)) for kernel in KERNELS),
    variant(regressor(PairwiseKernel(metric="chi2")), shares),
    variant(regressor(PairwiseKernel(metric="additive_chi2") + ConstantKernel(9.0) + WhiteKernel(9.0)), shares),
    variant(regressor(), standard),
    variant(GaussianProcessRegressor(RBF() + WhiteKernel(), random_state=0), standard),
    variant(regressor(RBF(), normalize_y=True), standard),
    variant(regressor(RBF() + WhiteKernel()), two_numbers),
    variant(regressor(RBF() + WhiteKernel(), normalize_y=True), two_numbers),
    variant(regressor(RBF() + WhiteKernel()), one_column),
    variant(regressor(DotProduct() + RBF()), narrow),
    variant(regressor(DotProduct() + RBF() + WhiteKernel()), whole, tflite="beyond the range of int32"),
    *(variant(classifier(kernel), two_standard, tflite=_squared(kernel)) for kernel in KERNELS),
    variant(classifier(PairwiseKernel(metric="chi2")), two_shares),
    variant(
        classifier(PairwiseKernel(metric="additive_chi2") + ConstantKernel(9.0) + WhiteKernel(9.0)),
        two_shares,
    ),
    variant(classifier(), two_names),
    variant(classifier(), iris_names),
    variant(classifier(RBF(2.0), multi_class="one_vs_one"), iris_names),
    variant(classifier(Matern(), multi_class="one_vs_one"), two_classes),
    variant(GaussianProcessClassifier(RBF(), random_state=0), iris),
)

"""Methods of kernels against the rows they were fitted on: KernelRidge, KernelPCA, Nystroem; and SGDOneClassSVM, whose
kernel is linear.

In comes a fitted estimator and its X; out goes what it predicts or transforms: kernel values (kernels.py) times fitted
coefficients.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeml.converters.block import Block
from edgeml.converters.kernels import check_named, in_place, kernel_values
from edgeml.converters.products import affine, numeric, weight_of
from edgeml.converters.registry import Conversion, Outputs, converter
from edgeml.ir import Value

_KERNEL = ("kernel", "gamma", "degree", "coef0")


def _values(c: Conversion, est: Any, X: Block, points: Any, **parameters: Any) -> Value:
    check_named(c, est, "kernel", est.kernel)
    return kernel_values(c, est, numeric(c, est, X), points, est.kernel, **parameters)


@converter("sklearn.KernelRidge", honours=_KERNEL, ignores=("alpha", "kernel_params"))
def kernel_ridge(c: Conversion, est: Any, X: Block) -> Outputs:
    """Kernel values times ``dual_coef_``, one column a target; kernel_params are for functions only."""
    values = _values(c, est, X, est.X_fit_, gamma=est.gamma, degree=est.degree, coef0=est.coef0)
    return {"predict": affine(values, weight_of(np.transpose(est.dual_coef_)))}


@converter(
    "sklearn.KernelPCA",
    honours=(*_KERNEL, "n_components", "remove_zero_eig"),
    ignores=(
        "kernel_params", "alpha", "fit_inverse_transform", "eigen_solver", "tol", "max_iter", "iterated_power",
        "random_state", "copy_X", "n_jobs",
    ),
)  # fmt: skip
def kernel_pca(c: Conversion, est: Any, X: Block) -> Outputs:
    """Kernel values, centred as KernelCenterer does it in place, times the eigenvectors over their roots."""
    values = _values(c, est, X, est.X_fit_, gamma=est.gamma_, degree=est.degree, coef0=est.coef0)
    # KernelCenterer checks what it is given: a kernel may overflow where its row does not.
    values = c.builder.check_finite(values, c.place(est))
    centerer, dtype = est._centerer, values.dtype
    mean = c.builder.sum(values) / np.full(1, centerer.K_fit_rows_.shape[0], dtype=dtype)
    centred = (values - centerer.K_fit_rows_).cast(dtype) - mean
    centred = in_place(centred, "Add", centerer.K_fit_all_)
    weight = np.zeros_like(est.eigenvectors_)
    kept = np.flatnonzero(est.eigenvalues_)
    weight[:, kept] = est.eigenvectors_[:, kept] / np.sqrt(est.eigenvalues_[kept])
    return {"transform": Block(affine(centred, weight))}


@converter(
    "sklearn.Nystroem",
    honours=(*_KERNEL, "kernel_params", "n_components"),
    ignores=("random_state", "n_jobs"),
)
def nystroem(c: Conversion, est: Any, X: Block) -> Outputs:
    """Kernel values against the sampled rows times ``normalization_``."""
    given = {name: getattr(est, name) for name in ("gamma", "degree", "coef0")}
    # scikit-learn writes gamma and the others into kernel_params, where the kernel has them.
    parameters = {**(est.kernel_params or {}), **{name: value for name, value in given.items() if value is not None}}
    values = _values(c, est, X, est.components_, **parameters)
    return {"transform": Block(affine(values, est.normalization_.T))}


@converter(
    "sklearn.SGDOneClassSVM",
    honours=("fit_intercept",),
    ignores=(
        "nu", "max_iter", "tol", "shuffle", "verbose", "random_state", "learning_rate", "eta0", "power_t",
        "warm_start", "average",
    ),
)  # fmt: skip
def sgd_one_class_svm(c: Conversion, est: Any, X: Block) -> Outputs:
    """Inliers, 1, have a score of at least ``offset_``, outliers, -1, have not."""
    decision = affine(numeric(c, est, X), weight_of(est.coef_), -est.offset_)
    return {
        "decision_function": decision,
        "score_samples": decision + est.offset_,
        "predict": c.builder.take((decision >= np.zeros(1, decision.dtype)).cast("int64"), np.array([-1, 1])),
    }

"""Linear regressors: coefficients times features plus intercept, and the inverse link of a generalised one.

In comes a fitted regressor of scikit-learn with ``coef_`` and ``intercept_``; out goes its ``predict``.
How the coefficients were found has no bearing on new rows, so one table lists the training parameters of
each estimator.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeml.converters.block import Block
from edgeml.converters.lazy import LazyOutputs
from edgeml.converters.products import affine, numeric, weight_of
from edgeml.converters.registry import Conversion, Outputs, converter
from edgeml.errors import UnsupportedEstimatorError
from edgeml.ir import Value

_COORDINATE_DESCENT = "alpha l1_ratio precompute max_iter copy_X tol warm_start positive random_state selection"
_CROSS_VALIDATED = (
    "l1_ratio eps alphas precompute max_iter tol cv copy_X verbose n_jobs positive random_state selection"
)
_LARS = "verbose precompute n_nonzero_coefs max_iter eps copy_X fit_path positive jitter random_state alpha"
_LARS_CV = "verbose max_iter precompute cv max_n_alphas n_jobs eps copy_X positive"
_SGD = (
    "loss penalty alpha l1_ratio C max_iter tol shuffle verbose epsilon random_state learning_rate eta0 "
    "power_t early_stopping validation_fraction n_iter_no_change warm_start average"
)
_BAYES = "max_iter tol alpha_1 alpha_2 lambda_1 lambda_2 alpha_init lambda_init compute_score copy_X verbose"

# Estimator -> parameters that only decide how coef_ and intercept_ are found.
_TRAINING = {
    "LinearRegression": "copy_X tol n_jobs positive",
    "Ridge": "alpha copy_X max_iter tol solver positive random_state",
    "RidgeCV": "alphas scoring cv gcv_mode store_cv_results alpha_per_target",
    "Lasso": _COORDINATE_DESCENT,
    "ElasticNet": _COORDINATE_DESCENT,
    "MultiTaskLasso": _COORDINATE_DESCENT,
    "MultiTaskElasticNet": _COORDINATE_DESCENT,
    "LassoCV": _CROSS_VALIDATED,
    "ElasticNetCV": _CROSS_VALIDATED,
    "MultiTaskLassoCV": _CROSS_VALIDATED,
    "MultiTaskElasticNetCV": _CROSS_VALIDATED,
    "Lars": _LARS,
    "LassoLars": _LARS,
    "LarsCV": _LARS_CV,
    "LassoLarsCV": _LARS_CV,
    "LassoLarsIC": "criterion verbose precompute max_iter eps copy_X positive noise_variance",
    "OrthogonalMatchingPursuit": "n_nonzero_coefs tol precompute",
    "OrthogonalMatchingPursuitCV": "copy max_iter cv n_jobs verbose",
    "HuberRegressor": "epsilon max_iter alpha warm_start tol",
    "TheilSenRegressor": "max_subpopulation n_subsamples max_iter tol random_state n_jobs verbose",
    "QuantileRegressor": "quantile alpha solver solver_options",
    "SGDRegressor": _SGD,
    "PassiveAggressiveRegressor": _SGD,
    "LinearSVR": "epsilon tol C loss intercept_scaling dual verbose random_state max_iter",
}


def linear_regressor(c: Conversion, est: Any, X: Block) -> Outputs:
    """X @ coef_.T + intercept_."""
    return {"predict": affine(numeric(c, est, X), weight_of(est.coef_), est.intercept_)}


for _name, _parameters in _TRAINING.items():
    converter(f"sklearn.{_name}", honours=("fit_intercept",), ignores=_parameters.split())(linear_regressor)


def _sklearn_version() -> tuple[int, ...]:
    """Major and minor version of the scikit-learn that computes the truth."""
    from sklearn import __version__

    return tuple(int(part) for part in __version__.split(".")[:2])


@converter("sklearn.BayesianRidge", honours=("fit_intercept",), ignores=_BAYES.split())
@converter("sklearn.ARDRegression", honours=("fit_intercept", "threshold_lambda"), ignores=_BAYES.split())
def bayesian_regressor(c: Conversion, est: Any, X: Block) -> Outputs:
    """The linear model, and the standard deviation that its covariance ``sigma_`` and the noise of the target give."""
    x = numeric(c, est, X)

    def deviations() -> Value:
        # Before 1.9 scikit-learn took the rows as they are.
        centred = x - est.X_offset_ if _sklearn_version() >= (1, 9) else x
        if hasattr(est, "threshold_lambda"):
            kept = np.flatnonzero(est.lambda_ < est.threshold_lambda)
            if not kept.size:
                return c.builder.sqrt(c.builder.constant(1.0 / est.alpha_))
            centred = centred.select(kept)
        of_data = c.builder.sum(affine(centred, np.asarray(est.sigma_)) * centred)
        return c.builder.sqrt(of_data + 1.0 / est.alpha_)

    return LazyOutputs(
        c,
        {"predict": lambda: affine(x, weight_of(est.coef_), est.intercept_), "predict_std": deviations},
    )


@converter(
    "sklearn.PoissonRegressor",
    "sklearn.GammaRegressor",
    "sklearn.TweedieRegressor",
    honours=("fit_intercept", "link", "power"),
    ignores=("alpha", "solver", "max_iter", "tol", "warm_start", "verbose"),
)
def generalised_linear_regressor(c: Conversion, est: Any, X: Block) -> Outputs:
    """The inverse link of X @ coef_ + intercept_: exp of it for the log link."""
    linear_predictor = affine(X.matrix(c, est), weight_of(est.coef_), est.intercept_)
    link = type(est._base_loss.link).__name__
    if link == "LogLink":
        return {"predict": c.builder.exp(linear_predictor)}
    if link == "IdentityLink":
        return {"predict": linear_predictor}
    raise c.refuse(est, "link", link, "use link='log' or link='identity'")


@converter(
    "sklearn.RANSACRegressor",
    honours=("estimator",),
    ignores=(
        "min_samples", "residual_threshold", "is_data_valid", "is_model_valid", "max_trials", "max_skips",
        "stop_n_inliers", "stop_score", "stop_probability", "loss", "random_state",
    ),
)  # fmt: skip
def ransac_regressor(c: Conversion, est: Any, X: Block) -> Outputs:
    """What ``estimator_``, fitted on the consensus rows, predicts. RANSAC itself checks nothing."""
    unchecked = Block(X.matrix(c, est, dtype=X.dtype, check=False), form=X.as_array().form)
    inner = c.convert(est.estimator_, unchecked, "estimator_")
    if "predict" not in inner:
        name = type(est.estimator_).__name__
        raise UnsupportedEstimatorError(
            f"step {c.builder.origin}: {name} inside RANSACRegressor has no predict that can be compiled",
            "give RANSACRegressor a supported regressor (README, supported estimators)",
        )
    return {"predict": inner["predict"]}

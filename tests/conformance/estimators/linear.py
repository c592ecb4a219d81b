"""Linear regressors: every one, with what its parameters change in coefficients, links and shapes."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import (
    ARDRegression,
    BayesianRidge,
    ElasticNet,
    ElasticNetCV,
    GammaRegressor,
    HuberRegressor,
    Lars,
    LarsCV,
    Lasso,
    LassoCV,
    LassoLars,
    LassoLarsCV,
    LassoLarsIC,
    LinearRegression,
    MultiTaskElasticNet,
    MultiTaskElasticNetCV,
    MultiTaskLasso,
    MultiTaskLassoCV,
    OrthogonalMatchingPursuit,
    OrthogonalMatchingPursuitCV,
    PassiveAggressiveRegressor,
    PoissonRegressor,
    QuantileRegressor,
    RANSACRegressor,
    Ridge,
    RidgeCV,
    SGDRegressor,
    TheilSenRegressor,
    TweedieRegressor,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVR
from sklearn.tree import DecisionTreeRegressor

from tests.conformance.estimators.data import number, one_column, two_numbers
from tests.conformance.estimators.table import deprecated, variant


def float32_number():
    """A numeric target and rows in float32. The target is far from zero, or float32 would leave few digits of it."""
    X, y = number()
    return X.astype(np.float32), (y + 30).astype(np.float32)


def integers():
    """Rows of whole numbers."""
    X, y = number()
    return np.rint(10 * X).astype(np.int64), y


def above_zero():
    """A target above zero."""
    X, y = number()
    return X, np.exp(y / 10)


def float32_above_zero():
    """A target above zero, all in float32."""
    X, y = above_zero()
    return X.astype(np.float32), y.astype(np.float32)


def one_target_column():
    """One target, as a column."""
    X, y = number()
    return X, y[:, None]


def outliers():
    """One target in ten is far off."""
    X, y = number()
    y = y.copy()
    y[::10] += 100
    return X, y


def wide():
    """More columns than rows."""
    rng = np.random.default_rng(5)
    X = rng.normal(size=(60, 80))
    return X, X[:, 0] - 2 * X[:, 1] + rng.normal(size=60)


def _scaled(regressor):
    return make_pipeline(StandardScaler(), regressor)


def _of(regressor, data, **more):
    """A regressor that needs scaled rows."""
    return variant(_scaled(regressor), data, of=type(regressor).__name__, **more)


VARIANTS = (
    variant(LinearRegression(), number),
    variant(LinearRegression(), one_column),
    variant(LinearRegression(), two_numbers),
    variant(LinearRegression(), one_target_column),
    variant(LinearRegression(), float32_number),
    variant(LinearRegression(), integers),
    variant(LinearRegression(), wide),
    variant(LinearRegression(fit_intercept=False), number),
    variant(LinearRegression(positive=True), number),
    variant(Ridge(), number),
    variant(Ridge(fit_intercept=False), number),
    variant(Ridge(), two_numbers),
    variant(Ridge(alpha=np.array([0.1, 10.0])), two_numbers),
    variant(Ridge(positive=True), number),
    variant(Ridge(solver="lsqr"), float32_number),
    variant(Ridge(), one_target_column),
    variant(RidgeCV(), number),
    variant(RidgeCV(alphas=[0.1, 1.0], alpha_per_target=True), two_numbers),
    variant(RidgeCV(fit_intercept=False, cv=3), two_numbers),
    variant(Lasso(alpha=0.1), number),
    variant(Lasso(alpha=0.1, positive=True), number),
    variant(Lasso(alpha=0.1, fit_intercept=False), two_numbers),
    variant(ElasticNet(alpha=0.1, l1_ratio=0.3), number),
    variant(ElasticNet(alpha=0.1, positive=True), two_numbers),
    variant(ElasticNet(alpha=0.1), float32_number),
    variant(LassoCV(cv=3, alphas=5), number),
    variant(ElasticNetCV(cv=3, alphas=5, l1_ratio=[0.2, 0.9]), number),
    variant(MultiTaskLasso(alpha=0.1), two_numbers),
    variant(MultiTaskElasticNet(alpha=0.1, fit_intercept=False), two_numbers),
    variant(MultiTaskLassoCV(cv=3, alphas=5), two_numbers),
    variant(MultiTaskElasticNetCV(cv=3, alphas=5), two_numbers),
    variant(Lars(), number),
    variant(Lars(n_nonzero_coefs=2), two_numbers),
    variant(LarsCV(cv=3), number),
    variant(LassoLars(alpha=0.05), number),
    variant(LassoLars(alpha=0.05, positive=True, fit_intercept=False), number),
    variant(LassoLarsCV(cv=3), number),
    variant(LassoLarsIC(), number),
    variant(LassoLarsIC(criterion="bic"), number),
    variant(OrthogonalMatchingPursuit(), number),
    variant(OrthogonalMatchingPursuit(n_nonzero_coefs=2), two_numbers),
    variant(OrthogonalMatchingPursuitCV(cv=3), number),
    variant(BayesianRidge(), number),
    variant(BayesianRidge(fit_intercept=False), float32_number),
    variant(ARDRegression(), number),
    variant(ARDRegression(threshold_lambda=10.0), number),
    variant(ARDRegression(threshold_lambda=1e-9), number, what="no column kept"),
    variant(HuberRegressor(), outliers),
    variant(HuberRegressor(epsilon=2.0, fit_intercept=False), number),
    variant(TheilSenRegressor(random_state=0, max_subpopulation=100), outliers),
    variant(TheilSenRegressor(random_state=0, max_subpopulation=100, fit_intercept=False), one_column),
    variant(QuantileRegressor(alpha=0.01), number),
    variant(QuantileRegressor(quantile=0.9, alpha=0.0, fit_intercept=False), number),
    *(_of(SGDRegressor(loss=loss, random_state=0), number) for loss in (
        "squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive",
    )),
    *(_of(SGDRegressor(penalty=penalty, random_state=0), number) for penalty in ("l1", "elasticnet", None)),
    _of(SGDRegressor(fit_intercept=False, average=True, random_state=0), number),
    _of(SGDRegressor(learning_rate="adaptive", early_stopping=True, random_state=0), float32_number),
    _of(deprecated(PassiveAggressiveRegressor, random_state=0), number),
    _of(deprecated(PassiveAggressiveRegressor, random_state=0, loss="squared_epsilon_insensitive", fit_intercept=False), number),
    _of(LinearSVR(random_state=0), number),
    _of(LinearSVR(random_state=0, loss="squared_epsilon_insensitive", dual=False), number),
    _of(LinearSVR(random_state=0, fit_intercept=False, epsilon=0.5), number),
    variant(PoissonRegressor(), above_zero),
    variant(PoissonRegressor(fit_intercept=False, alpha=0.1), above_zero),
    variant(PoissonRegressor(solver="newton-cholesky"), float32_above_zero),
    variant(GammaRegressor(), above_zero),
    variant(GammaRegressor(alpha=0.0, fit_intercept=False), above_zero),
    *(variant(TweedieRegressor(power=power), above_zero) for power in (0, 1, 1.5, 2, 3)),
    variant(TweedieRegressor(power=0, link="log"), above_zero),
    variant(TweedieRegressor(power=1.5, link="log"), above_zero),
    variant(TweedieRegressor(power=0, link="identity"), number),
    variant(TweedieRegressor(power=-1.0), above_zero),
    variant(RANSACRegressor(random_state=0), outliers),
    variant(RANSACRegressor(Ridge(), random_state=0, min_samples=30, loss="squared_error"), outliers),
    variant(RANSACRegressor(DecisionTreeRegressor(max_depth=3), random_state=0, min_samples=30), outliers),
    variant(RANSACRegressor(QuantileRegressor(alpha=0.0), random_state=0, min_samples=30), outliers),
    variant(RANSACRegressor(random_state=0), two_numbers),
    variant(RANSACRegressor(random_state=0), float32_number),
)  # fmt: skip

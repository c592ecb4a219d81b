"""Feature selectors in every mode, and what RFE and RFECV pass on to their estimator."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_selection import (
    RFE,
    RFECV,
    GenericUnivariateSelect,
    SelectFdr,
    SelectFpr,
    SelectFromModel,
    SelectFwe,
    SelectKBest,
    SelectPercentile,
    SequentialFeatureSelector,
    VarianceThreshold,
    chi2,
    f_regression,
    mutual_info_classif,
    r_regression,
)
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Lasso, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from tests.conformance.estimators.data import (
    float32,
    iris,
    iris_names,
    missing,
    number,
    one_column,
    positive,
    scaled,
    two_classes,
    two_names,
    two_numbers,
)
from tests.conformance.estimators.naive_bayes import truths, whole_numbers
from tests.conformance.estimators.table import variant


def frame():
    """A frame of floats, whole numbers and bools."""
    X, y = iris()
    columns = {"a": X[:, 0], "b": np.rint(X[:, 1] * 10).astype(int), "c": X[:, 2], "d": X[:, 3] > 1}
    return pd.DataFrame(columns), y


def no_target():
    """Rows without a target; one column is constant."""
    X, _ = scaled()
    return np.hstack([X, np.ones((len(X), 1))]), None


def no_target_missing():
    """Rows without a target, one cell in ten missing."""
    return missing()[0], None


def random_information(X, y):
    """Mutual information, its noise fixed."""
    return mutual_info_classif(X, y, random_state=0)


def _importance(fitted):
    return np.abs(fitted.coef_).sum(axis=0)


_LINE = LogisticRegression()
_TREE = DecisionTreeClassifier(max_depth=3, random_state=0)
# Which stays fitted when a variant clones the selector.
_PREFIT = FrozenEstimator(DecisionTreeClassifier(max_depth=3, random_state=0).fit(*iris()))

_WHOLE = "its integers may be beyond the range of int32"

VARIANTS = (
    variant(SelectKBest(k=2), iris),
    variant(SelectKBest(chi2, k=3), positive, tflite=_WHOLE),
    variant(SelectKBest(k="all"), float32),
    variant(SelectKBest(random_information, k=1), iris),
    variant(SelectKBest(f_regression, k=2), number),
    variant(SelectKBest(k=2), frame),
    variant(SelectKBest(k=2), whole_numbers, tflite=_WHOLE),
    variant(SelectKBest(k=3), truths),
    variant(SelectKBest(k=1).set_output(transform="pandas"), frame, what="pandas"),
    variant(SelectPercentile(percentile=50), iris),
    variant(SelectPercentile(f_regression, percentile=30), number),
    variant(SelectFpr(), two_classes),
    variant(SelectFpr(alpha=1e-30), iris),
    variant(SelectFdr(alpha=0.01), iris),
    variant(SelectFwe(), iris),
    variant(SelectFwe(f_regression, alpha=1e-9), number),
    *(variant(GenericUnivariateSelect(mode=mode, param=param), iris) for mode, param in (
        ("percentile", 60), ("k_best", 2), ("fpr", 1e-20), ("fdr", 0.01), ("fwe", 1e-9),
    )),
    variant(GenericUnivariateSelect(r_regression, mode="k_best", param=1), number),
    variant(VarianceThreshold(), no_target),
    variant(VarianceThreshold(threshold=0.3), no_target),
    variant(VarianceThreshold(threshold=0.3), no_target_missing),
    variant(VarianceThreshold(), frame),
    variant(VarianceThreshold(), one_column),
    variant(SelectFromModel(_LINE), iris_names),
    variant(SelectFromModel(_LINE, threshold="median", norm_order=2), iris),
    variant(SelectFromModel(_LINE, threshold=0.4, max_features=1), two_classes),
    variant(SelectFromModel(_TREE, threshold="0.5*mean"), missing),
    variant(SelectFromModel(_TREE, threshold=-np.inf, max_features=2), iris),
    variant(SelectFromModel(_PREFIT, prefit=True, threshold="mean"), iris),
    variant(SelectFromModel(Lasso(alpha=0.1)), number),
    variant(SelectFromModel(Ridge(), importance_getter=_importance), two_numbers),
    variant(SelectFromModel(LinearSVC(penalty="l1", dual=False, random_state=0, C=0.1)), iris),
    variant(make_pipeline(SelectFromModel(_TREE), _LINE), iris_names, of="SelectFromModel"),
    variant(RFE(_LINE, n_features_to_select=2), iris_names),
    variant(RFE(_LINE), two_names),
    variant(RFE(_TREE, n_features_to_select=1, step=2), missing),
    variant(RFE(DecisionTreeRegressor(max_depth=4, random_state=0), n_features_to_select=0.5), number),
    variant(RFE(LinearSVC(random_state=0), n_features_to_select=3), iris),
    variant(make_pipeline(StandardScaler(), RFE(_LINE, n_features_to_select=3)), iris, of="RFE"),
    variant(
        RFE(make_pipeline(StandardScaler(), LogisticRegression()), n_features_to_select=2,
            importance_getter="named_steps.logisticregression.coef_"),
        iris,
    ),
    variant(RFECV(_LINE, cv=3), iris_names),
    variant(RFECV(_TREE, cv=3, min_features_to_select=2, scoring="neg_log_loss"), two_names),
    variant(RFECV(Ridge(), cv=3, step=2), number),
    variant(SequentialFeatureSelector(_TREE, n_features_to_select=2, cv=2), iris),
    variant(SequentialFeatureSelector(_TREE, direction="backward", n_features_to_select=0.5, cv=2), missing),
    variant(SequentialFeatureSelector(Ridge(), tol=0.05, scoring="r2", cv=2), number),
    variant(
        SequentialFeatureSelector(HistGradientBoostingClassifier(max_iter=2), n_features_to_select=1, cv=2), missing
    ),
)  # fmt: skip

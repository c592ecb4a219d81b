"""Wrappers: searches, thresholds, self-training, frozen estimators, and regressors of a transformed target."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestRegressor
from sklearn.experimental import enable_halving_search_cv  # noqa: F401  # makes the two Halving searches importable
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, RidgeClassifier
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from tests.conformance.estimators.bagging import bools
from tests.conformance.estimators.data import iris, iris_names, number, two_classes, two_names, two_numbers
from tests.conformance.estimators.multioutput import two_labels
from tests.conformance.estimators.table import variant


def partly_labelled() -> Any:
    """Three classes, two labels in three missing."""
    X, y = iris()
    y = y.copy()
    y[np.random.default_rng(5).random(len(y)) < 0.66] = -1
    return X, y


def positive_number() -> Any:
    """A target over 0, as a price has it."""
    X, y = number()
    return X, np.exp(y / 4)


def positive_numbers() -> Any:
    """Two targets over 0."""
    X, y = two_numbers()
    return X, np.exp(y / 4)


_C = {"C": [0.1, 1.0]}
_POSITIVE = FixedThresholdClassifier(LogisticRegression(), threshold=0.3, pos_label="no")


def _target(transformer: Any, regressor: Any = None) -> TransformedTargetRegressor:
    return TransformedTargetRegressor(LinearRegression() if regressor is None else regressor, transformer=transformer)


def _functions(func: Any, inverse: Any, **more: Any) -> TransformedTargetRegressor:
    return TransformedTargetRegressor(LinearRegression(), func=func, inverse_func=inverse, **more)


VARIANTS = (
    variant(GridSearchCV(LogisticRegression(), _C, cv=3), iris_names),
    variant(GridSearchCV(MultiOutputClassifier(LogisticRegression()), {"estimator__C": [0.1, 1.0]}, cv=3), two_labels),
    variant(GridSearchCV(make_pipeline(StandardScaler(), PCA()), {"pca__n_components": [1, 2]}, cv=3), iris),
    variant(RandomizedSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, n_iter=2, cv=3), number),
    variant(HalvingGridSearchCV(LogisticRegression(), _C, cv=3, random_state=0), two_classes),
    variant(HalvingRandomSearchCV(Ridge(), {"alpha": [0.1, 1.0, 5.0]}, cv=3, random_state=0), number),
    variant(FixedThresholdClassifier(LogisticRegression()), two_names),
    variant(_POSITIVE, two_names),
    variant(FixedThresholdClassifier(LogisticRegression(), threshold=0.6, pos_label=False), bools),
    variant(FixedThresholdClassifier(RidgeClassifier(), threshold=-0.2), two_classes),
    variant(FixedThresholdClassifier(RidgeClassifier(), pos_label=1, response_method="decision_function"), two_classes),
    variant(FixedThresholdClassifier(LogisticRegression(), response_method="decision_function"), two_names),
    variant(FixedThresholdClassifier(LogisticRegression(), response_method="predict_proba"), two_classes),
    variant(FixedThresholdClassifier(DecisionTreeClassifier(max_depth=3), threshold=0.2), two_names),
    variant(TunedThresholdClassifierCV(LogisticRegression(), cv=3), two_classes),
    variant(TunedThresholdClassifierCV(LogisticRegression(), cv=3, response_method="decision_function"), bools),
    variant(TunedThresholdClassifierCV(RidgeClassifier(), cv=3, scoring="accuracy"), two_names),
    variant(SelfTrainingClassifier(LogisticRegression()), partly_labelled),
    variant(SelfTrainingClassifier(LogisticRegression(), criterion="k_best", k_best=5), partly_labelled),
    variant(SelfTrainingClassifier(DecisionTreeClassifier(max_depth=3), threshold=0.9), partly_labelled),
    variant(_target(None), number),
    variant(_target(StandardScaler()), number),
    variant(_target(StandardScaler(with_mean=False)), two_numbers),
    variant(_target(StandardScaler(with_std=False)), number),
    variant(_target(MinMaxScaler((-1, 2))), two_numbers),
    variant(_target(MaxAbsScaler()), number),
    variant(_target(RobustScaler()), number),
    variant(_target(RobustScaler(with_centering=False)), number),
    variant(_target(RobustScaler(with_scaling=False)), two_numbers),
    variant(_target(PowerTransformer()), number),
    variant(_target(PowerTransformer(standardize=False)), two_numbers),
    variant(_target(PowerTransformer("box-cox")), positive_numbers),
    variant(_target(QuantileTransformer(n_quantiles=50)), number),
    variant(
        _target(QuantileTransformer(n_quantiles=50, output_distribution="normal")),
        two_numbers,
        tflite="steps too steep",
    ),
    variant(_target(PCA(1)), two_numbers),
    variant(_target(PCA(whiten=True)), two_numbers),
    variant(_target(make_pipeline(StandardScaler(), MinMaxScaler())), number),
    variant(_target(FunctionTransformer(np.log, np.exp)), positive_number),
    variant(_target(StandardScaler(), DecisionTreeRegressor(max_depth=3)), number),
    variant(_target(StandardScaler(), RandomForestRegressor(n_estimators=5, random_state=0)), two_numbers),
    variant(_functions(np.log, np.exp), positive_number),
    variant(_functions(np.log1p, np.expm1), positive_numbers),
    variant(_functions(np.sqrt, np.square, check_inverse=False), positive_number),
)

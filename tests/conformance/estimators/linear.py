"""Linear models: regressors, classifiers and their searches over penalties."""

from __future__ import annotations

from sklearn.linear_model import LogisticRegression, Ridge

from tests.conformance.estimators.data import iris_names, number, two_numbers
from tests.conformance.estimators.table import variant

VARIANTS = (
    variant(Ridge(), number),
    variant(Ridge(fit_intercept=False), number),
    variant(Ridge(), two_numbers),
    variant(LogisticRegression(C=0.5), iris_names),
)

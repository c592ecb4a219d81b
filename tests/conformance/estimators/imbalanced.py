"""imbalanced-learn: pipelines with samplers, and forests that resample."""

from __future__ import annotations

from imblearn.ensemble import (
    BalancedBaggingClassifier,
    BalancedRandomForestClassifier,
    EasyEnsembleClassifier,
    RUSBoostClassifier,
)
from imblearn.over_sampling import SMOTE, RandomOverSampler
from imblearn.pipeline import make_pipeline
from imblearn.under_sampling import RandomUnderSampler
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from tests.conformance.estimators.data import iris, iris_names, missing, two_names
from tests.conformance.estimators.table import variant

VARIANTS = (
    variant(make_pipeline(StandardScaler(), SMOTE(random_state=0), LogisticRegression()), iris_names, of="imblearn.Pipeline"),
    variant(
        make_pipeline(RandomUnderSampler(random_state=0), MinMaxScaler(), RandomOverSampler(), DecisionTreeClassifier(max_depth=3)),
        two_names,
        of="imblearn.Pipeline",
    ),
    variant(make_pipeline(StandardScaler(), RandomOverSampler(), MinMaxScaler()), iris, of="imblearn.Pipeline"),
    variant(BalancedRandomForestClassifier(n_estimators=7, max_depth=4, random_state=0), iris_names),
    variant(BalancedRandomForestClassifier(n_estimators=7, class_weight="balanced", replacement=False), missing),
    variant(BalancedBaggingClassifier(n_estimators=4, random_state=0), iris_names),
    variant(EasyEnsembleClassifier(n_estimators=2, random_state=0), two_names),
    variant(RUSBoostClassifier(n_estimators=5, random_state=0), iris),
)  # fmt: skip

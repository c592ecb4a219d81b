"""Decision trees and forests: how they are grown, labels of every kind, missing cells, several targets."""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier, ExtraTreeRegressor

from tests.conformance.estimators.data import (
    float32,
    iris,
    iris_names,
    missing,
    number,
    one_column,
    scaled,
    two_names,
    two_numbers,
)
from tests.conformance.estimators.linear import above_zero, integers
from tests.conformance.estimators.linear_classifiers import odd_numbers, true_or_false
from tests.conformance.estimators.naive_bayes import one_class, one_number
from tests.conformance.estimators.table import variant


def missing_number():
    """A numeric target, one cell in ten missing."""
    return missing()[0], number()[1]


def three_hundred():
    """Three hundred classes."""
    rng = np.random.default_rng(7)
    y = np.arange(600) % 300
    return rng.normal(size=(600, 3)) + y[:, None], y


_TREES = (DecisionTreeClassifier, ExtraTreeClassifier)
_FORESTS = (RandomForestClassifier, ExtraTreesClassifier)
_NUMBER_TREES = (DecisionTreeRegressor, ExtraTreeRegressor)
_NUMBER_FORESTS = (RandomForestRegressor, ExtraTreesRegressor)
_SMALL = {"n_estimators": 4, "random_state": 0}
_DATA = (iris, iris_names, two_names, true_or_false, odd_numbers, float32, missing, scaled, one_number, one_class)
# A leaf of one row has a probability of 1: this is told apart from the rest.
_GROWN = (
    {"criterion": "entropy", "max_depth": 3},
    {"criterion": "log_loss", "min_samples_leaf": 5},
    {"max_features": 2, "max_leaf_nodes": 6},
    {"class_weight": "balanced", "min_samples_split": 20},
    {"class_weight": {0: 1.0, 1: 5.0, 2: 0.5}, "max_depth": 2},
    {"ccp_alpha": 0.02},
    {"min_impurity_decrease": 0.02, "min_weight_fraction_leaf": 0.05},
)
_GROWN_NUMBERS = (
    {"min_samples_leaf": 7, "max_depth": 4},
    {"criterion": "absolute_error", "max_depth": 3},
    {"max_features": "sqrt", "max_leaf_nodes": 9},
    {"monotonic_cst": [1, 0, -1, 0], "max_depth": 4},
    {"ccp_alpha": 0.05},
)

VARIANTS = (
    *(variant(tree(random_state=0), data) for tree in _TREES for data in _DATA),
    *(variant(tree(random_state=0, **grown), iris) for tree in _TREES for grown in _GROWN),
    variant(DecisionTreeClassifier(random_state=0, splitter="random"), iris_names),
    variant(DecisionTreeClassifier(random_state=0, monotonic_cst=[1, 0, 0, -1], max_depth=4), two_names),
    variant(DecisionTreeClassifier(random_state=0), three_hundred),
    *(variant(forest(**_SMALL), data) for forest in _FORESTS for data in _DATA),
    *(variant(forest(**_SMALL, **grown), iris) for forest in _FORESTS for grown in _GROWN),
    *(variant(forest(**_SMALL, class_weight="balanced_subsample", bootstrap=True), two_names) for forest in _FORESTS),
    *(
        variant(forest(**_SMALL, monotonic_cst=[1, 0, 0, -1], bootstrap=True, max_samples=0.5), true_or_false)
        for forest in _FORESTS
    ),
    variant(RandomForestClassifier(**_SMALL, bootstrap=False, oob_score=False, warm_start=True), iris),
    variant(RandomForestClassifier(n_estimators=2, max_depth=9, random_state=0), three_hundred),
    *(
        variant(tree(random_state=0), data)
        for tree in _NUMBER_TREES
        for data in (number, two_numbers, one_column, missing_number, integers)
    ),
    *(variant(tree(random_state=0, **grown), number) for tree in _NUMBER_TREES for grown in _GROWN_NUMBERS),
    *(variant(tree(random_state=0, criterion="poisson", max_depth=4), above_zero) for tree in _NUMBER_TREES),
    *(
        variant(forest(**_SMALL), data)
        for forest in _NUMBER_FORESTS
        for data in (number, two_numbers, one_column, missing_number, integers)
    ),
    *(variant(forest(**_SMALL, **grown), number) for forest in _NUMBER_FORESTS for grown in _GROWN_NUMBERS),
    *(variant(forest(**_SMALL, criterion="poisson", max_depth=4), above_zero) for forest in _NUMBER_FORESTS),
)

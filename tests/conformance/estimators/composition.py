"""Pipelines, unions and column transformers: what is passed on, dropped, weighted and named."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer, make_column_selector, make_column_transformer
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline, make_union
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from tests.conformance.estimators.data import float32, iris, iris_names, missing, number
from tests.conformance.estimators.table import variant


def people():
    """A frame with numbers, whole numbers, strings and missing cells, and two classes."""
    rng = np.random.default_rng(8)
    age = rng.integers(18, 90, 120).astype(float)
    age[::11] = np.nan
    city = rng.choice(["Rome", "Oslo", "Lima"], 120)
    height = rng.normal(170, 10, 120)
    frame = pd.DataFrame({"age": age, "height": height, "children": rng.integers(0, 4, 120), "city": city})
    return frame, (height > 170).astype(int)


_NUMBERS = make_pipeline(SimpleImputer(), StandardScaler())
_PEOPLE = [("numbers", _NUMBERS, ["age", "height"]), ("city", OneHotEncoder(), ["city"])]


def _columns(transformers, **parameters):
    return ColumnTransformer(transformers, **parameters)


VARIANTS = (
    variant(make_pipeline(StandardScaler(), LogisticRegression()), iris_names),
    variant(make_pipeline(SimpleImputer(), MinMaxScaler(), PCA(2)), missing),
    variant(Pipeline([("skipped", "passthrough"), ("scale", StandardScaler()), ("line", Ridge())]), number),
    variant(Pipeline([("scale", StandardScaler()), ("none", None)]), iris),
    variant(Pipeline([("line", LogisticRegression())]), iris),
    variant(make_pipeline(StandardScaler().set_output(transform="pandas"), Ridge()), number),
    variant(make_union(StandardScaler(), PCA(2)), iris),
    variant(FeatureUnion([("a", StandardScaler()), ("b", PCA(1))], transformer_weights={"b": 10.0}), iris),
    variant(FeatureUnion([("a", StandardScaler()), ("b", "drop"), ("c", "passthrough")]), float32),
    variant(FeatureUnion([("scaled", StandardScaler())]).set_output(transform="pandas"), iris, what="pandas"),
    variant(make_pipeline(make_union(MinMaxScaler(), PCA(1)), DecisionTreeClassifier(random_state=0)), iris_names,
            of="FeatureUnion"),
    variant(_columns(_PEOPLE), people),
    variant(_columns(_PEOPLE, remainder="passthrough"), people),
    variant(_columns(_PEOPLE, remainder=StandardScaler(), sparse_threshold=0), people),
    variant(_columns(_PEOPLE, transformer_weights={"numbers": 2.0}), people),
    variant(_columns(_PEOPLE[:1], verbose_feature_names_out=False).set_output(transform="pandas"), people,
            what="pandas"),
    variant(_columns([("all", StandardScaler(), [0, 2]), ("one", MinMaxScaler(), slice(1, 2))], remainder="drop"), iris),
    variant(_columns([("kept", "passthrough", [1]), ("gone", "drop", [0]), ("mask", PCA(1), [False, False, True, True])]),
            iris),
    variant(_columns([("scalar", OrdinalEncoder(), make_column_selector(dtype_exclude="number"))],
                     remainder=SimpleImputer(strategy="median")), people),
    variant(make_column_transformer((StandardScaler(), make_column_selector(pattern="^h"))), people),
    variant(make_pipeline(_columns(_PEOPLE), LogisticRegression()), people, of="ColumnTransformer"),
    variant(make_pipeline(_columns(_PEOPLE, remainder="passthrough"), DecisionTreeClassifier(random_state=0)), people,
            of="ColumnTransformer"),
)  # fmt: skip

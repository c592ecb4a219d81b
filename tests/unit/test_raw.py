"""Raw-space programs: native artifacts with and without them answer alike to the bit, on every cut and beside it."""

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
)
from sklearn.tree import DecisionTreeClassifier

from edgeml.ir.coded import code_strings
from edgeml.passes.infrastructure import same_bits
from edgeml.passes.lossless import lossless
from edgeml.passes.raw import raw
from edgeml.runtimes.native import NativeEngine
from tests.raw_tools import answers_and_refusals, awkward_rows, cells_of, frame, interpret, programs_of

NUMBERS, WORDS, REST = ["a", "b", "f"], ["color", "town"], ["i", "flag", "grade"]
X, SCORE = frame()
CLASSES = (SCORE > 0).astype(int)
LEVELS = np.array(["low", "middle", "high"])[np.digitize(SCORE, [-1, 1])]


def prepared(numbers, words, rest="passthrough"):
    return ColumnTransformer([("numbers", numbers, NUMBERS), ("words", words, WORDS), ("rest", rest, REST)])


def onehot(**options):
    return OneHotEncoder(**{"handle_unknown": "ignore"} | options)


mean, median = SimpleImputer(), SimpleImputer(strategy="median", add_indicator=True)
constant = SimpleImputer(strategy="constant", fill_value=-1)
frequent = SimpleImputer(strategy="most_frequent")
ordinal = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
forest = RandomForestClassifier(6, max_depth=6, random_state=0)
extra = ExtraTreesClassifier(6, max_depth=7, random_state=0)
hist = HistGradientBoostingClassifier(max_iter=8, random_state=0)
# name -> (the steps before the estimator, the estimator, its target).
TREES = {
    "standard, one-hot": (
        prepared(make_pipeline(mean, StandardScaler()), make_pipeline(frequent, onehot())),
        forest,
        CLASSES,
    ),
    "min-max, dropped": (prepared(make_pipeline(median, MinMaxScaler()), onehot(drop="first")), extra, LEVELS),
    "clipped, infrequent": (
        prepared(
            make_pipeline(mean, MinMaxScaler(clip=True)),
            onehot(handle_unknown="infrequent_if_exist", min_frequency=30, sparse_output=False),
        ),
        hist,
        CLASSES,
    ),
    "robust, known only": (
        prepared(make_pipeline(constant, RobustScaler()), OneHotEncoder(drop="if_binary")),
        forest,
        LEVELS,
    ),
    "largest, codes": (prepared(make_pipeline(median, MaxAbsScaler()), ordinal), extra, CLASSES),
    "imputed, codes with NaN": (
        prepared(
            median,
            OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=-7),
        ),
        hist,
        LEVELS,
    ),
    "float32 codes": (
        prepared(
            mean,
            make_pipeline(
                SimpleImputer(strategy="constant", fill_value="none", add_indicator=True), onehot(dtype=np.float32)
            ),
        ),
        forest,
        CLASSES,
    ),
    "scaled one-hot": (
        make_pipeline(prepared(constant, make_pipeline(frequent, onehot(sparse_output=False))), StandardScaler()),
        extra,
        CLASSES,
    ),
    "scaled twice": (
        make_pipeline(
            prepared(make_pipeline(mean, StandardScaler()), onehot(sparse_output=False), onehot()), MinMaxScaler()
        ),
        forest,
        CLASSES,
    ),
    "numbers as categories": (
        prepared(make_pipeline(mean, Binarizer(threshold=1.5)), onehot(), onehot()),
        forest,
        CLASSES,
    ),
    "passed": (prepared("passthrough", onehot()), forest, CLASSES),
    "gradient boosting": (
        prepared(make_pipeline(median, StandardScaler()), onehot()),
        GradientBoostingClassifier(n_estimators=6),
        LEVELS,
    ),
    "gradient boosting regressor": (
        prepared(make_pipeline(mean, RobustScaler()), onehot()),
        GradientBoostingRegressor(n_estimators=6),
        SCORE,
    ),
    "histogram regressor": (
        prepared(make_pipeline(mean, StandardScaler()), onehot(sparse_output=False)),
        HistGradientBoostingRegressor(max_iter=8),
        SCORE,
    ),
    "native categories": (
        prepared(make_pipeline(mean, StandardScaler()), ordinal),
        HistGradientBoostingClassifier(max_iter=8, categorical_features=[3, 4], random_state=0),
        CLASSES,
    ),
    "several outputs": (
        prepared(make_pipeline(median, StandardScaler()), onehot()),
        RandomForestRegressor(5, max_depth=5, random_state=0),
        np.stack([SCORE, -(SCORE**2)], axis=1),
    ),
    "extra regressor": (
        prepared(make_pipeline(mean, MinMaxScaler((-3, 2))), onehot()),
        ExtraTreesRegressor(5, max_depth=6, random_state=0),
        SCORE,
    ),
    "one tree": (
        prepared(make_pipeline(mean, StandardScaler()), onehot()),
        DecisionTreeClassifier(random_state=0),
        CLASSES,
    ),
    "missing allowed": (prepared(StandardScaler(), onehot()), forest, CLASSES),
}
LINEAR = {
    "logistic": (
        prepared(make_pipeline(mean, StandardScaler()), make_pipeline(frequent, onehot())),
        LogisticRegression(),
        LEVELS,
    ),
    "ridge, dropped": (prepared(make_pipeline(median, RobustScaler()), onehot(drop="first")), Ridge(), SCORE),
    "network": (prepared(make_pipeline(mean, StandardScaler()), onehot()), MLPClassifier((9, 4), max_iter=5), CLASSES),
    "scaled one-hot": (
        make_pipeline(prepared(mean, onehot()), MaxAbsScaler()),
        MLPClassifier((5,), max_iter=5),
        CLASSES,
    ),
    "words first": (
        ColumnTransformer(
            [
                ("words", onehot(), ["color"]),
                ("numbers", make_pipeline(mean, MinMaxScaler(clip=True)), NUMBERS),
                ("more", onehot(), ["town", "grade"]),
            ]
        ),
        LogisticRegression(),
        CLASSES,
    ),
    "words alone": (ColumnTransformer([("words", OneHotEncoder(), WORDS)]), LogisticRegression(), CLASSES),
    "several outputs": (prepared(mean, onehot(sparse_output=False)), Ridge(), np.stack([SCORE, SCORE**2], axis=1)),
}


def engine(program, schema):
    return NativeEngine(code_strings(program), schema)


def run_native(native, columns, methods):
    def run(rows):
        return native.run({name: cells[rows] for name, cells in columns.items()}, len(rows), methods)

    return run


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("case", "op"),
    [pytest.param(c, "TreeLeaves", id=n) for n, c in TREES.items()]
    + [pytest.param(c, "TableLinear", id=f"linear: {n}") for n, c in LINEAR.items()],
)
def test_pipelines_answer_and_refuse_alike(case, op):
    before, estimator, target = case
    program, schema = programs_of(make_pipeline(before, estimator).fit(X, target), X)
    after = raw(program)
    ops = [node.op for node in after.nodes]
    assert "OneHot" not in ops
    if op == "TreeLeaves":
        assert not {"Sub", "Mul", "Div", "Where"} & set(ops[: ops.index("TreeEnsemble")])
    assert op in ops
    rows = awkward_rows(X, after)
    columns = cells_of(program, rows)
    want, refused = answers_and_refusals(interpret(program, columns), len(rows))
    assert 0 < len(want["predict"]) < len(rows)
    ways = [interpret(after, columns)]
    ways += [run_native(engine(p, schema), columns, list(program.outputs)) for p in (after, lossless(after))]
    for changed in ways:
        got, refused_too = answers_and_refusals(changed, len(rows))
        assert refused_too == refused
        for method, expected in want.items():
            assert same_bits(np.asarray(got[method]), np.asarray(expected)), method

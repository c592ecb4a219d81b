"""What a TFLite file says of itself is enough: raw columns to answers with the stock runtime, compared with sklearn."""

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
)

from edgeml.ir import Builder, interpreter
from edgeml.targets import tflite_metadata
from edgeml.targets.tflite import lower
from edgeml.targets.tflite_recipes import Step, rounded
from tests.oracle import columns_of
from tests.quantised_programs import leaves_quantised, linear_quantised
from tests.tflite_by_hand import ByHand, Refused
from tests.tflite_oracle import ABOUT, converted, halves, metadata

FORMS = [None, "static", "dynamic", "float16"]
ROWS = 800


@pytest.fixture(scope="module")
def mixed():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "age": np.where(rng.random(ROWS) < 0.1, np.nan, rng.normal(40, 12, ROWS).round()),
            "income": np.where(rng.random(ROWS) < 0.1, np.nan, rng.lognormal(8, 1.2, ROWS)),
            "colour": pd.Series(rng.choice(["red", "green", "blue", None], ROWS), dtype=object),
            "member": rng.random(ROWS) < 0.4,
            "grade": rng.integers(0, 9, ROWS),
        }
    )
    return frame, np.where((frame.age.fillna(50) > 40) ^ (frame.colour == "red"), "yes", "no")


def steps():
    return make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler()), ["age", "income"]),
        (OneHotEncoder(handle_unknown="ignore"), ["colour"]),
        (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), ["grade"]),
        ("passthrough", ["member"]),
    )


def raw(frame):
    return {c: frame[c].to_numpy(object if c == "colour" else None) for c in frame}


@pytest.mark.parametrize(
    "model",
    [
        LogisticRegression(),
        MLPClassifier((16,), max_iter=200, random_state=0, tol=1e-2),
        RandomForestClassifier(10, max_depth=6, random_state=0),
        HistGradientBoostingClassifier(max_iter=10),
    ],
    ids=lambda m: type(m).__name__,
)
@pytest.mark.parametrize("form", FORMS)
def test_inputs_by_hand_are_the_fronts(mixed, model, form):
    """Strings, missing values, indicators, scalers, category codes and the ranks of trees."""
    frame, y = mixed
    est = make_pipeline(steps(), model).fit(frame, y)
    program, kinds, expected = converted(est, frame)
    columns = columns_of(frame, kinds)
    if form is not None:
        program = leaves_quantised(linear_quantised(program, columns, form), "int16")
    file = ByHand(lower(program, ABOUT)["model.tflite"])
    assert all({"how", "codes"} & group.keys() for groups in file.facts["inputs"].values() for group in groups)
    for name, front in interpreter.run(halves(program).front, columns).items():
        rtol = 3e-7 if name == "features" else 0
        np.testing.assert_allclose(file.input(name, raw(frame)), front, rtol=rtol, err_msg=name)
    got = file.answers(raw(frame))
    assert (got["predict"] == expected["predict"]).mean() > (0.98 if form else 0.9999)
    if form is None:
        np.testing.assert_allclose(got["predict_proba"], expected["predict_proba"], rtol=1e-5, atol=1e-6)


def test_steps_and_their_numbers(mixed):
    frame, y = mixed
    est = make_pipeline(steps(), RandomForestClassifier(5, random_state=0)).fit(frame, y)
    facts = metadata(lower(converted(est, frame)[0], ABOUT)["model.tflite"])
    first = facts["inputs"]["codes"][0]
    assert first["from"] == ["age", "income"]
    assert [step[0] for step in first["how"]] == ["fill", "subtract", "divide", "float32"]
    assert len(first["edges"]) == 2


def test_scaling_and_equalisation_are_one_factor():
    """A network on a grid has no signature for raw columns, and its file keeps 12 bytes a column for scaling."""
    X, y = load_digits(return_X_y=True)
    est = make_pipeline(StandardScaler(), LogisticRegression(max_iter=50, tol=0.1)).fit(X, y)
    program, kinds, _ = converted(est, X)
    program = linear_quantised(program, columns_of(X, kinds), "static")
    (group,) = metadata(lower(program, ABOUT)["model.tflite"])["inputs"]["features"]
    assert [(name, place[0]) for name, place in group["how"]] == [("subtract", "<f8"), ("multiply", "<f4")]


@pytest.mark.parametrize(("last", "shown"), [(2.0, ["subtract", "multiply"]), (1e-60, ["subtract", "divide"])])
def test_factors_that_float32_cannot_hold_stay(last, shown):
    steps = rounded((Step("subtract", (1.0,)), Step("divide", (last,))))
    assert [step.name for step in steps] == shown


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_matrix_of_numbers(dtype):
    X, y = load_digits(return_X_y=True)
    X = X[:600].astype(dtype)
    forest = RandomForestClassifier(5, max_depth=5, random_state=0)
    est = make_pipeline(MaxAbsScaler(), MinMaxScaler(clip=True), StandardScaler(), forest).fit(X, y[:600])
    file = ByHand(lower(converted(est, X)[0], ABOUT)["model.tflite"])
    got = file.answers({"X": X})
    np.testing.assert_array_equal(got["predict"], est.predict(X))
    np.testing.assert_allclose(got["predict_proba"], est.predict_proba(X), rtol=1e-6)


def test_steps_that_are_not_of_one_column_have_no_description(mixed):
    frame, y = mixed
    numbers = frame[["grade"]].assign(other=np.arange(ROWS) % 7.0)
    est = make_pipeline(Normalizer(), RandomForestClassifier(3, random_state=0)).fit(numbers, y)
    groups = metadata(lower(converted(est, numbers)[0], ABOUT)["model.tflite"])["inputs"]["codes"]
    several = [group for group in groups if isinstance(group["from"][0], list)]
    assert several
    assert all("how" not in group and "edges" not in group for group in several)


WITH_CONSTANT = [
    "Add", "Sub", "Mul", "Div", "Minimum", "Maximum", "Less", "LessEqual", "Greater", "GreaterEqual", "Equal",
]  # fmt: skip


@pytest.mark.parametrize("constant_first", [False, True])
@pytest.mark.parametrize("name", [*WITH_CONSTANT, "Neg", "Abs", "Sqrt", "Exp", "Log", "Tanh", "Not"])
def test_every_step(name, constant_first):
    """A column of numbers, one step, and a comparison with edges behind it."""
    b = Builder()
    x = b.input("X", "float64", 2)
    c = b.constant(np.array([1.5, 2.5]))
    if name in WITH_CONSTANT:
        y = b.op(name, *((c, x) if constant_first else (x, c)))
    else:
        y = b.op(name, b.op("Less", x, c) if name == "Not" else x)
    y = b.op("Cast", y, to="float64") if y.dtype == "bool" else y
    b.output(
        "rank", [b.op("Rank", y, edges=np.array([0.5, 1.0, 0.5, 2.5]), offsets=np.array([0, 2, 4]))], "matrix", "<i4"
    )
    program, X = b.finish(), np.array([[1.5, 2.5], [0.5, 0.25], [3.0, 9.0], [np.nan, 2.0], [-1.0, np.nan]])
    file = ByHand(lower(program, ABOUT)["model.tflite"])
    (group,) = file.facts["inputs"]["codes"]
    if name in ("Sub", "Div") and constant_first:
        assert "how" not in group
        return
    with np.errstate(all="ignore"):
        want = interpreter.run(program, {"X": X})["rank"]
        np.testing.assert_array_equal(file.input("codes", {"X": X}), want)


def test_no_steps_beside_a_signature_that_takes_raw_columns():
    X, y = load_digits(return_X_y=True)
    est = make_pipeline(StandardScaler(), LogisticRegression(max_iter=50, tol=0.1)).fit(X, y)
    facts = metadata(lower(converted(est, X)[0], ABOUT)["model.tflite"])
    assert "inputs" in facts["raw"]
    assert all("how" not in group for group in facts["inputs"]["features"])


def test_too_many_numbers_are_left_to_the_front(monkeypatch):
    monkeypatch.setattr(tflite_metadata, "MOST_NUMBERS", 20)
    X, y = load_digits(return_X_y=True)
    est = make_pipeline(StandardScaler(), RandomForestClassifier(2, max_depth=3, random_state=0)).fit(X, y)
    groups = metadata(lower(converted(est, X)[0], ABOUT)["model.tflite"])["inputs"]["codes"]
    assert groups
    assert all("how" not in group and "edges" not in group for group in groups)


def test_too_many_strings_are_no_table(mixed, monkeypatch):
    """A table with some strings left out would say of the others that no step knows them."""
    frame, y = mixed
    est = make_pipeline(steps(), LogisticRegression()).fit(frame, y)
    monkeypatch.setattr("edgeml.targets.tflite_sources.MOST_STRINGS", 2)
    monkeypatch.setattr(tflite_metadata, "MOST_STRINGS", 2)
    groups = metadata(lower(converted(est, frame)[0], ABOUT)["model.tflite"])["inputs"]["codes"]
    assert [group["codes"] for group in groups if group["from"] == ["colour"]] == [[None]]


def test_strings_that_are_refused(mixed):
    frame, y = mixed
    frame = frame[["colour"]].fillna("none")
    est = make_pipeline(OrdinalEncoder(), RandomForestClassifier(3, random_state=0)).fit(frame, y)
    file = ByHand(lower(converted(est, frame)[0], ABOUT)["model.tflite"])
    np.testing.assert_array_equal(file.answers(raw(frame))["predict"], est.predict(frame))
    with pytest.raises(Refused, match="mauve"):
        file.answers({"colour": np.array(["red", "mauve"], dtype=object)})

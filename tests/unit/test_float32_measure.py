"""The measure of engines in float32: what errors are relative to, which labels tie, and rows beyond the range."""

import numpy as np
import pytest

from edgeml.compare import FLOAT32_BOUND, FLOAT64, Measure, compare, row_errors, ties, usual_sizes
from edgeml.errors import InputError, OutOfRangeError
from edgeml.ir import Builder
from edgeml.parity.check import SAMPLE, judge
from edgeml.parity.golden_rows import GoldenRows
from edgeml.parity.truth import Truth
from edgeml.runtimes.in_range import run_in_range
from edgeml.sample import Sample
from edgeml.schema import Column, Schema

SINGLE = Measure("float32")
CLASSES = np.array(["a", "b", "c"])


# --- numbers
def test_a_score_near_zero_counts_in_units_of_its_column():
    b = np.array([2.0, -2.0, 1e-6])
    off = b + np.array([0, 0, 1e-7])
    assert compare(b, off, "decision_function", SINGLE).max_rel == pytest.approx(1e-7 / 2)
    assert compare(b, off, "decision_function").max_rel == pytest.approx(1e-7 / 2e-3)


def test_what_is_usual_may_come_from_other_rows():
    sizes = usual_sizes({"decision_function": np.array([4.0, 0.0, 4.0]), "predict": np.array(["a", "b", "a"])})
    assert sizes.keys() == {"decision_function"}
    measure = Measure("float32", sizes)
    one = np.array([1e-3])
    assert row_errors(one, one + 1e-7, "decision_function", measure)[0] == pytest.approx(1e-7 / 4)
    assert row_errors(one, one + 1e-7, "decision_function", SINGLE)[0] == pytest.approx(1e-4)


def test_probabilities_and_their_logarithms():
    p, off = np.array([[0.5, 1e-4]]), np.array([[0.0, 1e-7]])
    assert compare(p, p + off, "predict_proba", SINGLE).max_rel == pytest.approx(1e-6)
    assert compare(p, p * [[1 + 1e-6, 1]], "predict_proba", SINGLE).max_rel == pytest.approx(1e-6)
    # The same error of the probability, seen in its logarithm, counts no more.
    error = compare(np.log(p), np.log(p + off), "predict_log_proba", SINGLE).max_rel
    assert error == pytest.approx(1e-6 / -np.log(1e-4), rel=1e-2)
    assert compare(np.log([[0.5]]), np.log([[0.5]]) + 1e-4, "predict_log_proba", SINGLE).max_rel > FLOAT32_BOUND


def test_logarithms_that_float32_does_not_tell_from_that_of_zero():
    b = np.array([-200.0, -np.inf, -100.0])
    assert compare(b, np.array([-np.inf, -150.0, -88.0]), "predict_log_proba", SINGLE).max_rel == 0.0
    assert compare(np.array([-10.0]), np.array([-np.inf]), "predict_log_proba", SINGLE).max_rel > FLOAT32_BOUND
    assert compare(b[:1], np.array([np.nan]), "predict_log_proba", SINGLE).max_rel == np.inf


def test_limits():
    assert FLOAT64.limit(np.dtype("float64")) == 1e-9
    assert FLOAT64.limit(np.dtype("float64"), 1e-7) == 1e-7
    assert SINGLE.limit(np.dtype("float64"), 1e-7) == 1e-5
    assert SINGLE.limit(np.dtype("float64"), 1e-3) == 1e-3


# --- labels
def outputs(scores, method="decision_function"):
    scores = np.asarray(scores, dtype=float)
    best = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)
    return {"predict": CLASSES[best], method: scores}


def test_two_classes_tie_when_the_score_is_zero_to_float32():
    known = outputs([1e-6, 1e-3, -1e-6, 1.0])
    other = np.array(["a", "a", "b", "b"])
    measure = Measure("float32", {"decision_function": np.array([1.0])})
    assert ties(known, other, CLASSES[:2], measure).tolist() == [True, False, True, True]
    assert not ties(known, other, CLASSES[:2], FLOAT64).any()
    found = compare(known["predict"], other, "predict", measure, ties(known, other, CLASSES[:2], measure))
    assert (found.flips, found.ties) == (1, 2)


@pytest.mark.parametrize("method", ["decision_function", "predict_proba"])
def test_of_three_classes_only_the_one_that_ties_will_do(method):
    known = outputs([[0.4999999, 0.5, 1e-7], [0.4999999, 0.5, 1e-7], [0.4, 0.6, 0.0]], method)
    other = np.array(["a", "c", "a"])
    assert ties(known, other, CLASSES, SINGLE).tolist() == [True, False, False]
    assert not ties(known, np.array(["z"] * 3), CLASSES, SINGLE).any()


def test_nearest_centres_tie():
    known = {"predict": np.array([0, 1]), "transform": np.array([[1.0, 1.000001, 3.0], [2.0, 1.0, 3.0]])}
    assert ties(known, np.array([1, 0]), None, SINGLE).tolist() == [True, False]
    # By the distances another centre is nearer, by as little.
    known = {"predict": np.array([1, 2]), "transform": np.array([[1.0, 1.000001, 3.0], [2.0, 1.0, 3.0]])}
    assert ties(known, np.array([0, 1]), None, SINGLE).tolist() == [True, False]


def test_labels_that_follow_from_something_else_never_tie():
    known = {"predict": np.array(["b", "b"]), "predict_proba": np.array([[0.5, 0.5], [0.5000001, 0.4999999]])}
    assert not ties(known, np.array(["a", "a"]), CLASSES[:2], SINGLE)[1]  # a threshold of its own: b is not the best
    assert not ties({"predict": known["predict"]}, np.array(["a", "a"]), CLASSES[:2], SINGLE).any()
    votes = {"predict": known["predict"], "decision_function": np.zeros((2, 6))}
    assert not ties(votes, np.array(["a", "a"]), CLASSES, SINGLE).any()


# --- rows beyond the range
def doubled(at):
    if (at % 10 == 7).any():
        raise OutOfRangeError(f"row {at[at % 10 == 7][0]} is too large", "use native")
    return {"predict": at * 2.0}


def test_rows_in_range_keep_their_order():
    found, within = run_in_range(doubled, 40, "float32")
    assert np.flatnonzero(~within).tolist() == [7, 17, 27, 37]
    assert found["predict"].tolist() == [2.0 * i for i in range(40) if i % 10 != 7]
    assert run_in_range(doubled, 0, "float32")[0] == {}


def test_float64_has_no_such_rows():
    with pytest.raises(OutOfRangeError):
        run_in_range(doubled, 40, "float64")


def test_other_refusals_are_passed_on():
    def refuse(at):
        raise InputError("no", "do")

    with pytest.raises(InputError):
        run_in_range(refuse, 4, "float32")


class Model:
    """Doubles what is at most ``largest``."""

    engine = "tflite"

    def __init__(self, largest, off=0.0):
        self.largest, self.off = largest, off

    def predict(self, X):
        if X.max() > self.largest:
            raise OutOfRangeError("too large", "use native")
        return X[:, 0] * 2 + self.off

    @property
    def _engine(self):
        return self

    def run(self, columns, rows, methods):
        return {"predict": self.predict(columns["X"])}


X = np.arange(1.0, 401.0)[:, None]
ROWS = Sample(X, Schema("matrix", (Column("x0", "float64"),)))
TRUTH = Truth({"predict": X[:, 0] * 2}, np.zeros(400, dtype=bool), "")


def test_a_few_rows_of_the_sample_may_be_out_of_range_and_many_may_not():
    found = judge(Model(396.5), ROWS, TRUTH, {"predict": 1e-9}, SAMPLE, None, SINGLE)
    assert found.passed
    assert found.out_of_range == 4
    found = judge(Model(395.5), ROWS, TRUTH, {"predict": 1e-9}, SAMPLE, None, SINGLE)
    assert found.problems == ["5 of 400 rows are beyond the range of float32"]
    assert judge(Model(0.0), ROWS, TRUTH, {"predict": 1e-9}, "awkward rows", None, SINGLE).out_of_range == 400


def test_what_is_in_range_is_judged():
    found = judge(Model(300.5, off=1e-2), ROWS, TRUTH, {"predict": 1e-9}, "awkward rows", None, SINGLE)
    assert found.problems == ["predict: relative error 3.32e-05 is over 1e-05"]
    assert judge(Model(300.5, off=1e-3), ROWS, TRUTH, {"predict": 1e-9}, "awkward rows", None, SINGLE).passed


def test_noise_of_float32_excuses_awkward_rows_and_never_the_sample():
    b = Builder()
    parts = b.linear(b.input("X", "float64", 1), [[1e6, 2 - 1e6]])
    b.output("predict", [b.linear(parts, [[1.0], [1.0]])], "vector", "<f8")
    cancelling, model = (object(), b.finish()), Model(500.0, off=2e-2)
    assert judge(model, ROWS, TRUTH, {"predict": 1e-9}, SAMPLE, cancelling, SINGLE).problems
    found = judge(model, ROWS, TRUTH, {"predict": 1e-9}, "awkward rows", cancelling, SINGLE)
    assert found.passed
    assert found.methods["predict"]["ill_conditioned_rows"] == 400
    b = Builder()
    b.output("predict", [b.linear(b.input("X", "float64", 1), [[2.0]])], "vector", "<f8")
    assert judge(model, ROWS, TRUTH, {"predict": 1e-9}, "awkward rows", (object(), b.finish()), SINGLE).problems


def test_golden_rows_beyond_an_engines_range_stay():
    golden = GoldenRows({"X": X[:6]}, {"predict": X[:5, 0] * 2}, np.array([False] * 5 + [True]))
    kept = golden.settled([(Model(3.5), SINGLE)], {"predict": 1e-9})
    assert kept.columns["X"].tolist() == X[:6].tolist()
    assert len(golden.settled([(Model(3.5, off=1e-3), SINGLE)], {"predict": 1e-9}).outputs["predict"]) == 2

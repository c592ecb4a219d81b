"""The form of a window: what check_window takes and refuses, with a name for each fault, and the bins of latencies."""

import copy
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeml.errors import WireError
from edgeml.telemetry.window import (
    LATENCY_BINS,
    MAX_COUNT,
    MAX_ERROR_KINDS,
    MAX_FEEDBACK_LABELS,
    check_window,
    dense,
    latency_bin,
    latency_edges,
    sparse,
)
from tests.hostile_json import HOSTILE, places, replaced, values

PROFILE = {
    "features": [{"name": "age", "counts": [0] * 6}, {"name": "town", "counts": [0] * 3}],
    "scores": [{"name": "predict_proba[1]", "counts": [0] * 20}],
}
WINDOW = {
    "window_version": 1,
    "model": {"name": "churn", "version": 3, "manifest_sha256": "a" * 64},
    "profile_sha256": "b" * 64,
    "process": {"pid": 17, "boot_id": "0f3c"},
    "start": 10.5,
    "end": 70,
    "wall": 1.7e9,
    "rows": 12,
    "calls": {"one": 2, "batch": 1},
    "latency": {"one": [3, 2], "batch": [20, 1]},
    "features": [[0, 4, 5, 8], []],
    "scores": [[19, 12]],
    "errors": {"MissingColumnError": 1},
    "system": {"cpu": 0.25, "rss": 1e7, "temperature": None},
    "feedback": {"rows": 2, "correct": 1, "confusion": {"yes": {"yes": 1, "no": 1}}, "unmatched": 0},
}
REGRESSION = {
    "rows": 1, "unmatched": 0, "error": -1.0, "absolute_error": 1.0, "squared_error": 1.0, "y": 2.0, "y_squared": 4.0,
}  # fmt: skip


def test_good_windows_pass():
    check_window(WINDOW, PROFILE)
    check_window(WINDOW | {"feedback": REGRESSION}, PROFILE)
    check_window(WINDOW | {"feedback": None, "errors": {}, "system": {}}, PROFILE)
    check_window(WINDOW | {"features": [], "scores": [], "profile_sha256": None}, None)


@pytest.mark.parametrize("field", sorted(WINDOW))
def test_every_field_is_needed(field):
    with pytest.raises(WireError, match=field):
        check_window({name: value for name, value in WINDOW.items() if name != field}, PROFILE)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ((), [], "fields"), ((), None, "fields"), (("extra",), 1, "extra"),
        (("window_version",), 2, "version"), (("window_version",), True, "version"),
        (("window_version",), 1.0, "version"),
        (("model",), {"name": "x"}, "model"), (("model", "name"), "", "model.name"),
        (("model", "name"), "a\x1b[2J", "model.name"), (("model", "name"), "n" * 201, "model.name"),
        (("model", "version"), -1, "model.version"), (("model", "manifest_sha256"), "A" * 64, "manifest_sha256"),
        (("profile_sha256",), "b", "profile_sha256"), (("process", "pid"), 1.5, "process.pid"),
        (("process", "boot_id"), 5, "process.boot_id"), (("start",), 71, "ascend"), (("start",), -1, "ascend"),
        (("end",), 1e11, "ascend"), (("end",), math.nan, "end"), (("end",), 10**400, "end"), (("start",), "1", "start"),
        (("wall",), 1e12, "wall"), (("wall",), True, "wall"), (("rows",), 2**53, "rows"), (("rows",), True, "rows"),
        (("calls",), {"one": 1}, "calls"), (("calls", "batch"), -1, "calls.batch"), (("latency",), [], "latency"),
        (("latency", "one"), [3], "latency.one"), (("latency", "one"), [LATENCY_BINS, 1], "ascend"),
        (("latency", "one"), [3, 1, 3, 1], "ascend"), (("latency", "one"), [3, 0], "integer from 1"),
        (("latency", "batch"), [4, 1, 3, 1], "ascend"), (("features",), [[]], "2 histograms"),
        (("features", 0), [6, 1], "age"), (("features", 0), [0, MAX_COUNT + 1], "age"), (("features", 1), {}, "town"),
        (("features", 1), [0, 1] * 4, "town"), (("features", 0), [0.0, 1], "age"), (("scores",), [], "1 histograms"),
        (("scores", 0), [-1, 1], "predict_proba"), (("errors",), [], "errors"), (("errors",), {"": 1}, "errors"),
        (("errors",), {str(n): 1 for n in range(MAX_ERROR_KINDS + 1)}, "errors"), (("errors",), {"x": -1}, "errors.x"),
        (("system",), {str(n): 1 for n in range(33)}, "system"), (("system",), {"cpu": "1"}, "system.cpu"),
        (("system",), {"cpu": math.inf}, "system.cpu"), (("feedback",), {}, "feedback"),
        (("feedback", "correct"), -1, "feedback.correct"), (("feedback", "confusion"), [], "confusion"),
        (("feedback", "confusion"), {"a": 1}, "confusion"), (("feedback", "confusion"), {"a": {"b": -1}}, "confusion"),
        (("feedback", "confusion"), {str(n): {} for n in range(MAX_FEEDBACK_LABELS + 1)}, "confusion"),
        (("feedback", "confusion"), {"a": {str(n): 1 for n in range(MAX_FEEDBACK_LABELS + 1)}}, "confusion"),
        (("feedback",), REGRESSION | {"y": None}, "feedback.y"),
    ],
)  # fmt: skip
def test_each_fault_is_named(path, value, words):
    window = copy.deepcopy(WINDOW)
    if path == ("extra",):
        window["extra"] = value
    else:
        window = replaced(window, path, value)
    with pytest.raises(WireError, match=words):
        check_window(window, PROFILE)


def test_without_a_profile_there_are_no_histograms():
    with pytest.raises(WireError, match="0 histograms"):
        check_window(WINDOW, None)


@settings(max_examples=600)
@given(st.sampled_from(list(places(WINDOW))), HOSTILE | values | st.floats() | st.just(10**400))
def test_one_hostile_value_is_refused_or_harmless(path, value):
    window = replaced(WINDOW, path, value)
    try:
        check_window(window, PROFILE)
        refusal = None
    except WireError as error:
        refusal = error.cause
    if refusal is not None:
        assert refusal.startswith("window: ")
        assert len(refusal) < 600
        return
    json.dumps(window, allow_nan=False)
    for field in ("features", "scores"):
        for record, pairs in zip(PROFILE[field], window[field], strict=True):
            assert len(dense(pairs, len(record["counts"]))) == len(record["counts"])


@given(values)
def test_anything_else_is_refused(value):
    with pytest.raises(WireError, match="window: "):
        check_window(value, PROFILE)


@given(st.lists(st.integers(0, 5) | st.integers(0, 2**53 - 1), max_size=40))
def test_sparse_and_dense_are_each_others_reverse(counts):
    pairs = sparse(counts)
    assert dense(pairs, len(counts)) == counts
    assert all(count > 0 for count in pairs[1::2])


@given(st.integers(0, 2**40))
def test_a_latency_lies_between_the_edges_of_its_bin(nanoseconds):
    edges = [0.0, *latency_edges(), math.inf]
    at = latency_bin(nanoseconds)
    assert edges[at] <= nanoseconds / 1e9 < edges[at + 1]


def test_latency_bins_are_two_an_octave():
    edges = latency_edges()
    assert len(edges) == LATENCY_BINS - 1
    assert edges == sorted(set(edges))
    assert (latency_bin(0), latency_bin(2**60)) == (0, LATENCY_BINS - 1)
    assert edges[2] == 2 * edges[0]

"""A recorded model answers as before, its windows hold every row and error, and no fault of recording is raised."""

import json
import threading
from itertools import pairwise

import numpy as np
import pytest

import edgeml
from edgeml.errors import (
    EngineError,
    InputError,
    MissingColumnError,
    NonFiniteError,
    TelemetryError,
)
from edgeml.runtimes import engines
from edgeml.telemetry import clock
from edgeml.telemetry.recorder import INTERNAL_ERROR
from edgeml.telemetry.window import MAX_ERROR_KINDS, check_window, dense
from tests import small_bundle
from tests.recording_tools import MemorySpool, small, total, use
from tests.waiting import PATIENCE

ROWS = [{"x": 0.5, "c": "AA"}, {"x": -1.0, "c": "UA"}, {"x": float("nan"), "c": None}]


@pytest.fixture(autouse=True)
def _interpreted(monkeypatch):
    monkeypatch.setitem(engines.ENGINES, "interpreted", small_bundle.ENTRY)


@pytest.fixture
def spool(monkeypatch):
    return use(monkeypatch, MemorySpool())


@pytest.fixture(params=["native", "onnx", "interpreted"])
def model(request, tmp_path):
    with edgeml.load(small(tmp_path / "m.edgeml", formats=[request.param])) as model:
        yield model


@pytest.fixture
def native(tmp_path):
    with edgeml.load(small(tmp_path / "m.edgeml", formats=["native"])) as model:
        yield model


def test_answers_are_as_before_and_everything_is_counted(model, spool, tmp_path):
    before = model.predict(ROWS), model.predict_proba(ROWS), [model.predict_one(r) for r in ROWS]
    recorder = model.record_to(tmp_path / "spool")
    assert model.recorder is recorder
    np.testing.assert_array_equal(model.predict(ROWS), before[0])
    np.testing.assert_array_equal(model.predict_proba(ROWS), before[1])
    assert [model.predict_one(r) for r in ROWS] == before[2]
    np.testing.assert_array_equal(model.predict_proba_one((0.5, "AA", None)), before[1][0])
    for refused in ([{"x": np.inf, "c": "AA"}], [{"x": 1.0}]):
        with pytest.raises(InputError):
            model.predict(refused)
    with pytest.raises(NonFiniteError):
        model.predict_one({"x": np.inf, "c": "AA"})
    model.stop_recording()
    assert model.recorder is None
    (window,) = spool.windows
    (made,) = (json.loads(body) for body in spool.profiles.values())
    assert list(spool.profiles) == [window["profile_sha256"]]
    check_window(window, made)
    assert (window["rows"], window["calls"]) == (10, {"one": 4, "batch": 2})
    assert window["errors"] == {"NonFiniteError": 2, "MissingColumnError": 1}
    assert window["model"] == {"name": "small", "version": 3, "manifest_sha256": window["model"]["manifest_sha256"]}
    x, c = (dense(pairs, len(r["counts"])) for pairs, r in zip(window["features"], made["features"], strict=True))
    assert sum(x) == sum(c) == 10
    assert (x[-3], c[-1]) == (3, 3)  # NaN, and a missing text
    labels, proba = (sum(pairs[1::2]) for pairs in window["scores"])
    assert (labels, proba) == (6, 4)
    assert [item.sequence for item in spool.items] == [0]
    assert spool.items[0].rows == 10


def test_off_nothing_stands_between_model_and_engine(native, spool, tmp_path):
    one, run = native.predict_one, native._run
    native.record_to(tmp_path / "spool")
    assert native.predict_one is not one
    native.stop_recording()
    assert "_run" not in vars(native)
    assert "predict_one" not in vars(native)
    assert native._run == run
    assert native.predict_one(ROWS[0]) == "yes"
    assert spool.items == []


def test_recording_twice_is_recording_once(native, spool, tmp_path):
    recorder = native.record_to(tmp_path / "spool")
    assert native.record_to(str(tmp_path / "spool")) is recorder
    with pytest.raises(TelemetryError, match="stop_recording"):
        native.record_to(tmp_path / "elsewhere")
    native.stop_recording()
    native.stop_recording()
    assert native.record_to(tmp_path / "elsewhere") is not recorder


def test_closing_the_model_ends_recording(native, spool, tmp_path):
    native.record_to(tmp_path / "spool")
    native.predict(ROWS)
    native.close()
    assert total(spool.windows) == 3
    assert spool.closed == 1
    with pytest.raises(EngineError, match="closed"):
        native.record_to(tmp_path / "spool")


def test_a_model_nobody_holds_stops_recording(spool, tmp_path):
    model = edgeml.load(small(tmp_path / "m.edgeml", formats=["native"]))
    recorder = model.record_to(tmp_path / "spool")
    model.predict(ROWS)
    thread = recorder._writer._thread
    del model
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert total(spool.windows) == 3


# --- windows --------------------------------------------------------------------------------------------------------
def test_a_window_closes_by_rows(native, spool, tmp_path):
    native.record_to(tmp_path / "spool", window_rows=5, window_seconds=3600)
    for _ in range(5):
        native.predict_one(ROWS[0])
    spool.wait_for(lambda s: total(s.windows) == 5)
    native.predict(ROWS * 2)
    spool.wait_for(lambda s: total(s.windows) == 11)
    assert [item.sequence for item in spool.items] == [0, 1]


def test_windows_close_by_time_and_empty_ones_are_heartbeats(native, spool, tmp_path):
    native.record_to(tmp_path / "spool", window_seconds=0.05)
    spool.wait_for(lambda s: len(s.items) >= 4)
    native.stop_recording()
    windows = spool.windows
    assert [item.sequence for item in spool.items] == list(range(len(windows)))
    for window in windows[:-1]:
        assert window["rows"] == 0
        assert window["end"] - window["start"] >= 0.049
    for one, two in pairwise(windows):
        assert one["end"] == two["start"]


def test_the_wall_clock_may_jump(native, spool, tmp_path, monkeypatch):
    walls = iter([2e9, 4e8, 1e300, -5.0, float(2**70)])
    monkeypatch.setattr(clock, "wall", lambda: next(walls, 0.0))
    native.record_to(tmp_path / "spool", window_seconds=0.05)
    spool.wait_for(lambda s: len(s.items) >= 5)
    native.stop_recording()
    assert [w["wall"] for w in spool.windows[:3]] == [2e9, 4e8, 1e11 - 1]
    starts = [w["start"] for w in spool.windows]
    assert starts == sorted(starts)
    (made,) = (json.loads(body) for body in spool.profiles.values())
    for window in spool.windows:
        check_window(window, made)


def test_threads_lose_no_row_while_windows_close(native, spool, tmp_path):
    native.record_to(tmp_path / "spool", window_seconds=0.01, window_rows=100)
    one, each = native.predict_one, 400

    def work():
        for _ in range(each):
            one(ROWS[0])
            native.predict(ROWS)

    workers = [threading.Thread(target=work) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    native.stop_recording()
    assert len(spool.windows) > 3
    assert total(spool.windows) == 6 * each * 4
    assert sum(w["calls"]["one"] for w in spool.windows) == 6 * each
    assert sum(sum(w["features"][0][1::2]) for w in spool.windows) == 6 * each * 4


def test_a_window_of_thirty_features_is_small(spool, tmp_path):
    """With every bin of every feature in use, at counts of ten million rows."""
    from edgeml.profile import build_profile
    from edgeml.schema import Column, Schema
    from edgeml.telemetry.counting import Layout

    rng = np.random.default_rng(0)
    columns = {f"f{i}": rng.normal(size=4000) for i in range(20)}
    columns |= {f"s{i}": np.array([f"v{j}" for j in rng.integers(0, 30, 4000)], dtype=object) for i in range(10)}
    schema = Schema("columns", tuple(Column(n, "string" if n[0] == "s" else "float64") for n in columns))
    proba = rng.random((4000, 1)) * [[1, 0]] + [[0, 1]] * rng.random((4000, 1))
    scores = {"predict": np.array([0, 1])[rng.integers(0, 2, 4000)], "predict_proba": proba}
    made = build_profile(columns, schema, scores)
    layout = Layout(schema, made, ("predict", "predict_proba"))
    fields = layout.fields([100_000] * layout.size)
    assert len(json.dumps(fields, separators=(",", ":"))) < 10_000


# --- errors ---------------------------------------------------------------------------------------------------------
def test_kinds_of_errors_are_bounded(native, spool, tmp_path):
    recorder = native.record_to(tmp_path / "spool")
    for i in range(100):
        recorder.failed(type(f"Error{i}", (Exception,), {})())
    recorder.failed(type("x" * 500, (Exception,), {})())
    recorder.failed(type("line\nfeed", (Exception,), {})())
    recorder.internal(ValueError())
    native.stop_recording()
    (window,) = spool.windows
    check_window(window, json.loads(next(iter(spool.profiles.values()))))
    assert len(window["errors"]) <= MAX_ERROR_KINDS
    assert sum(window["errors"].values()) == 103
    assert window["errors"][INTERNAL_ERROR] == 1


def test_an_exception_of_the_application_passes_unchanged(native, spool, tmp_path):
    class Interrupted(BaseException):
        pass

    class Row(dict):
        def keys(self):
            raise error

    native.record_to(tmp_path / "spool")
    for error in (RuntimeError("from the application"), Interrupted()):
        with pytest.raises(type(error)) as caught:
            native.predict_one(Row(x=1.0, c="AA"))
        assert caught.value is error
    native.stop_recording()
    assert spool.windows[0]["errors"] == {"RuntimeError": 1}


@pytest.mark.parametrize("fault", ["add", "run", "fresh"])
def test_a_fault_of_the_recorder_never_reaches_the_caller(native, spool, tmp_path, monkeypatch, fault):
    def fail(*arguments):
        raise ZeroDivisionError("a fault of ours")

    recorder = native.record_to(tmp_path / "spool")
    monkeypatch.setattr(native._recording._counts, fault, fail)
    one = native.predict_one
    assert one(ROWS[0]) == "yes"
    assert native.predict(ROWS).tolist() == ["yes", "no", "yes"]
    with pytest.raises(MissingColumnError):
        native.predict_one({})
    monkeypatch.undo()
    assert recorder.flush()
    (window,) = spool.windows
    assert window["errors"].pop("MissingColumnError") == 1
    # Where the fast way fails, the slow one counts the row.
    assert (window["rows"], window["errors"]) == {
        "add": (1, {INTERNAL_ERROR: 1}), "run": (4, {}), "fresh": (0, {INTERNAL_ERROR: 2}),
    }[fault]  # fmt: skip


def test_a_fault_in_the_thread_does_not_end_recording(native, spool, tmp_path, monkeypatch, caplog):
    recorder = native.record_to(tmp_path / "spool")
    broken = iter([1])
    take = native._recording._counts.take

    def fail(wait):
        if next(broken, None):
            raise ZeroDivisionError("a fault of ours")
        return take(wait)

    monkeypatch.setattr(native._recording._counts, "take", fail)
    native.predict(ROWS)
    assert recorder.flush()
    assert "ZeroDivisionError" in recorder.status()["last_error"]
    assert recorder.flush()
    assert total(spool.windows) == 3
    assert "fault of its own" in caplog.text


# --- feedback -------------------------------------------------------------------------------------------------------
def test_truths_that_come_later(native, spool, tmp_path):
    native.track("nobody listens", "yes")
    native.feedback("nobody listens", "yes")
    native.record_to(tmp_path / "spool")
    native.track([1, 2, 3], native.predict(ROWS))
    native.track("proba", native.predict_proba(ROWS)[1])
    native.feedback([1, 2, 9], ["yes", "yes", "no"])
    native.feedback("proba", "no")
    native.feedback("kept", "maybe", prediction="no")
    native.stop_recording()
    (window,) = spool.windows
    check_window(window, json.loads(next(iter(spool.profiles.values()))))
    assert window["feedback"] == {
        "rows": 4, "correct": 2, "unmatched": 1,
        "confusion": {"yes": {"yes": 1, "no": 1}, "no": {"no": 1}, "other": {"no": 1}},
    }  # fmt: skip

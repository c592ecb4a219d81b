"""Sampled rows and their privacy, truths that come later, figures of the system, the layout's names."""

import json
import math
import os
import random
from collections import Counter

import numpy as np
import pytest

import edgeml
from edgeml.errors import KeyFileError, TelemetryError, WireError
from edgeml.telemetry import system
from edgeml.telemetry.feedback import OTHER, Truths
from edgeml.telemetry.sampling import MAX_CELL_CHARACTERS, Reservoir
from edgeml.telemetry.sealing import generate_sample_key, open_sealed, public_key, seal_rows
from edgeml.telemetry.window import check_window
from tests.recording_tools import MemorySpool, small, use

MODEL = {"name": "m", "version": 1, "manifest_sha256": "0" * 64}


@pytest.fixture
def keys(tmp_path):
    return generate_sample_key(tmp_path / "rows.key")


@pytest.fixture
def spool(monkeypatch):
    return use(monkeypatch, MemorySpool())


@pytest.fixture
def model(tmp_path):
    with edgeml.load(small(tmp_path / "m.edgeml", formats=["native"])) as model:
        yield model


# --- sampled rows ---------------------------------------------------------------------------------------------------
def consent(keys, rows=5):
    return {"sample_rows": rows, "sample_key": keys[1], "consent_to_sample": True}


def test_sampled_rows_open_with_the_private_key_only(model, spool, tmp_path, keys):
    model.record_to(tmp_path / "spool", **consent(keys))
    model.predict([{"x": 0.5, "c": "SECRET"}, {"x": float("nan"), "c": None}])
    model.predict_proba_one({"x": 12345.678, "c": "SECRET", "unread": "SECRET"})
    model.stop_recording()
    window, rows = spool.items
    assert (window.kind, rows.kind, rows.rows) == ("window", "rows", 3)
    for secret in (b"SECRET", b"12345.678"):
        assert secret not in rows.payload + window.payload
    payload = json.loads(rows.payload)
    assert set(payload) == {"rows_version", "model", "wall", "sealed"}
    opened = open_sealed(keys[0], rows.payload)
    assert opened["seen"] == 3
    first, second, third = opened["rows"]
    assert first == {"method": "predict", "row": {"x": 0.5, "c": "SECRET"}, "answer": "yes"}
    assert math.isnan(second["row"]["x"])
    assert second["row"]["c"] is None
    assert third["row"] == {"x": 12345.678, "c": "SECRET"}  # a column the model does not read is not sampled
    assert third["answer"] == [pytest.approx(0.0, abs=1e-6), pytest.approx(1.0)]
    other, _ = generate_sample_key(tmp_path / "other.key")
    with pytest.raises(KeyFileError, match="do not open"):
        open_sealed(other, payload)
    with pytest.raises(KeyFileError, match="changed"):
        open_sealed(keys[0], payload | {"wall": 0.0})
    with pytest.raises(WireError):
        open_sealed(keys[0], {**payload, "sealed": {}})
    with pytest.raises(WireError):
        open_sealed(keys[0], b"not JSON")


def test_without_asking_no_row_is_kept(model, spool, tmp_path):
    model.record_to(tmp_path / "spool")
    model.predict([{"x": 0.5, "c": "SECRET"}])
    model.predict_one({"x": 0.5, "c": "SECRET"})
    model.stop_recording()
    assert [item.kind for item in spool.items] == ["window"]
    assert b"SECRET" not in spool.items[0].payload


def test_sampled_rows_are_bounded(model, spool, tmp_path, keys):
    model.record_to(tmp_path / "spool", **consent(keys, rows=7))
    model.predict([{"x": float(i), "c": "AA"} for i in range(1000)])
    for i in range(100):
        model.predict_one({"x": float(i), "c": "AA"})
    model.predict_one({"x": 0.0, "c": "long" * MAX_CELL_CHARACTERS})
    model.stop_recording()
    opened = open_sealed(keys[0], json.loads(spool.items[1].payload))
    assert opened["seen"] == 1101
    assert len(opened["rows"]) in (6, 7)  # the long cell may have been drawn, see below
    assert len(spool.items[1].payload) < 5000


def test_a_row_with_a_document_in_it_is_left_out():
    reservoir = Reservoir(2)
    for text in ("x" * MAX_CELL_CHARACTERS, "x" * (MAX_CELL_CHARACTERS + 1)):
        reservoir.offer(1, lambda at, text=text: {"c": text}, lambda at: 0, "predict")
    seen, rows = reservoir.take()
    assert (seen, [len(row["row"]["c"]) for row in rows]) == (2, [MAX_CELL_CHARACTERS])


def test_every_row_is_drawn_as_often_as_another():
    drawn: Counter[int] = Counter()
    for trial in range(400):
        reservoir = Reservoir(10)
        reservoir._random = random.Random(trial)
        sizes = [1] * 30 + [50] + [20] if trial % 2 else [100]
        at = 0
        for size in sizes:
            reservoir.offer(size, lambda i, at=at: {"x": at + i}, lambda i: 0, "predict")
            at += size
        seen, rows = reservoir.take()
        assert (seen, len(rows)) == (100, 10)
        drawn.update(row["row"]["x"] for row in rows)
    assert len(drawn) == 100
    # 400 draws of 10 in 100: 40 a row; six standard deviations.
    assert all(abs(count - 40) < 6 * math.sqrt(36) for count in drawn.values())
    parts = [sum(drawn[i] for i in range(start, start + 25)) for start in range(0, 100, 25)]
    assert all(abs(part - 1000) < 6 * math.sqrt(750) for part in parts)


def test_a_window_of_large_rows_is_cut_to_size(keys):
    rows = [{"row": {"x": os.urandom(2000).hex()}} for _ in range(100)]
    payload, count = seal_rows(public_key(keys[1]), MODEL, 1.0, 100, rows, most_bytes=50_000)
    assert 0 < count < 100
    assert len(json.dumps(payload)) < 80_000
    assert len(open_sealed(keys[0], payload)["rows"]) == count


def test_cells_json_cannot_hold_come_back(keys):
    row = {"row": {"float": -math.inf, "fields": 2**62, "c": [1, None, True]}, "answer": [math.inf, "x"]}
    payload, _ = seal_rows(public_key(keys[1]), MODEL, 1.0, 1, [row])
    assert open_sealed(keys[0], payload)["rows"] == [row]


def test_two_windows_of_the_same_rows_look_different(keys):
    one, two = (seal_rows(public_key(keys[1]), MODEL, 1.0, 1, [{"x": 1}])[0]["sealed"] for _ in range(2))
    assert not set(one.values()) & set(two.values()) - {one["algorithm"]}


def test_keys_that_cannot_be_used(model, keys, tmp_path):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    signing = Ed25519PrivateKey.generate().public_key()
    pem = signing.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    for wrong in (keys[0], tmp_path / "absent", b"short", 3, pem):
        with pytest.raises(KeyFileError):
            model.record_to(tmp_path / "spool", **consent((None, wrong)))
    assert model.recorder is None
    assert public_key(keys[1].read_bytes()).public_bytes_raw() == public_key(keys[1]).public_bytes_raw()
    assert public_key(public_key(keys[1]).public_bytes_raw()) is not None
    assert os.stat(keys[0]).st_mode & 0o077 == 0
    with pytest.raises(KeyFileError, match="cannot be made"):
        generate_sample_key(keys[0])


# --- truths ---------------------------------------------------------------------------------------------------------
def window_of(feedback):
    return {
        "window_version": 1, "model": MODEL, "profile_sha256": None, "process": {"pid": 1, "boot_id": "b"},
        "start": 0.0, "end": 1.0, "wall": 0.0, "rows": 0, "calls": {"one": 0, "batch": 0},
        "latency": {"one": [], "batch": []},
        "features": [], "scores": [], "errors": {}, "system": {}, "feedback": feedback,
    }  # fmt: skip


def test_a_regressors_sums():
    truths = Truths(None)
    truths.track(np.array([1, 2]), np.array([1.0, 5.0]))
    truths.feedback([1, 2, 3], np.array([2.0, 3.0, 4.0]))
    truths.feedback("kept", 1.0, 1.5)
    for y, p in (("text", 1.0), (float("nan"), 1.0), (1.0, [1.0, 2.0]), (1e300, -1e300), (2**2000, 1.0)):
        truths.feedback("wrong", y, [p] if isinstance(p, list) else p)
    found = truths.take()
    check_window(window_of(found), None)
    assert found == {
        "rows": 3, "unmatched": 6, "error": 1.5, "absolute_error": 3.5, "squared_error": 5.25, "y": 6.0,
        "y_squared": 14.0,
    }  # fmt: skip
    assert truths.take() is None


def test_the_same_truth_twice_counts_once():
    truths = Truths(["a", "b"])
    truths.track("id", "a")
    truths.feedback("id", "a")
    truths.feedback("id", "a")
    found = truths.take()
    assert (found["rows"], found["correct"], found["unmatched"]) == (1, 1, 1)


def test_labels_of_numbers_and_numpys():
    truths = Truths([0, 1])
    truths.feedback([1, 2, 3], [1.0, True, np.int64(0)], np.array([1, 1, 1]))
    assert truths.take()["confusion"] == {"1": {"1": 2}, "0": {"1": 1}}


def test_what_is_remembered_is_bounded():
    truths = Truths(["a", "b"], tracked=100)
    truths.track(list(range(1000)), ["a"] * 1000)
    truths.track(950, "b")
    assert len(truths._tracked) == 100
    truths.feedback([899, 900, 950], ["a", "a", "b"])
    found = truths.take()
    assert (found["rows"], found["correct"], found["unmatched"]) == (2, 2, 1)


def test_names_of_labels_are_bounded_printable_and_different():
    labels = ["", "\n", "x" * 300, "x" * 301, OTHER, "1", 1, None, *map(str, range(1000, 1200))]
    truths = Truths(labels)
    for label in [*labels, "unknown", ["unhashable"], 3.5]:
        truths.feedback("id", label, labels[0])
    found = truths.take()
    check_window(window_of(found), None)
    assert found["rows"] == len(labels) + 3
    assert len(found["confusion"]) == 100
    assert found["confusion"][OTHER] == {truths._name(""): len(labels) - 99 + 3}


def test_labels_the_model_does_not_know_are_right_when_they_are_equal():
    truths = Truths(["a"])
    truths.feedback([1, 2], ["z", "z"], ["z", "y"])
    assert truths.take()["correct"] == 1


@pytest.mark.parametrize(("ids", "values"), [([1, 2], [1]), ([1], "a"), ([1, 2], 3), ({}, [1]), ([[1]], [1])])
def test_ids_and_values_that_do_not_match(ids, values):
    truths = Truths(["a"])
    with pytest.raises(TelemetryError):
        truths.track(ids, values)
    with pytest.raises(TelemetryError):
        truths.feedback(ids, values)


def test_a_tuple_is_one_id():
    truths = Truths(["a", "b"])
    truths.track(("customer", 7), "a")
    truths.feedback(("customer", 7), "b")
    assert truths.take()["confusion"] == {"b": {"a": 1}}


# --- the system -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("installed", [True, False])
def test_figures_of_the_system(tmp_path, monkeypatch, installed):
    if not installed:
        monkeypatch.setattr(system, "_psutil", lambda: None)
    figures = system.SystemFigures(str(tmp_path))
    found = figures.read()
    check_window(window_of(None) | {"system": found}, None)
    assert found["rss_bytes"] > 2**20
    assert found["disk_free_bytes"] > 0
    assert ("memory_available_bytes" in found) == installed
    assert figures.read()["cpu_percent"] >= 0


def test_figures_that_cannot_be_read_are_none(monkeypatch):
    class Broken:
        def __getattr__(self, name):
            def fail(*arguments, **options):
                raise OSError("no such sensor")

            return fail

    monkeypatch.setattr(system, "_psutil", Broken)
    found = system.SystemFigures("/no/such/folder").read()
    check_window(window_of(None) | {"system": found}, None)
    assert [name for name, value in found.items() if value is not None] == ["cpu_percent"]


def test_a_psutil_that_does_not_load_leaves_the_rest(monkeypatch, tmp_path):
    """As where /proc may not be read. No window could be closed were this raised."""

    def refuse():
        raise PermissionError("/proc/stat")

    monkeypatch.setattr(system, "_psutil", refuse)
    found = system.SystemFigures(str(tmp_path)).read()
    assert found["disk_free_bytes"] > 0
    assert "memory_available_bytes" not in found


def test_the_hottest_sensor_that_is_connected(monkeypatch, tmp_path):
    class Sensors:
        def sensors_temperatures(self):
            sensor = type("Sensor", (), {})
            found = [sensor(), sensor(), sensor()]
            found[0].current, found[1].current, found[2].current = 41.5, 255.0, -128.0
            return {"cpu": found}

    monkeypatch.setattr(system, "_psutil", Sensors)
    assert system.SystemFigures(str(tmp_path)).read()["temperature_celsius"] == 41.5

"""How recording starts: settings, folders, keys, disks in trouble, servers, the environment, pickled models."""

import logging
import pickle  # noqa: TID251  # a Model may be sent to a worker process
import sys
import threading

import pytest

import edgeml
from edgeml.errors import AgentError, SpoolError, SpoolKeyError, TelemetryError
from edgeml.telemetry import lifecycle, outlet
from tests.recording_tools import MemorySpool, small, total, use
from tests.waiting import PATIENCE

ROWS = [{"x": 0.5, "c": "AA"}, {"x": -1.0, "c": "UA"}, {"x": float("nan"), "c": None}]


@pytest.fixture
def spool(monkeypatch):
    return use(monkeypatch, MemorySpool())


@pytest.fixture
def native(tmp_path):
    with edgeml.load(small(tmp_path / "m.edgeml", formats=["native"])) as model:
        yield model


# --- starting -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"window_seconds": 0}, "window_seconds=0"), ({"window_seconds": float("nan")}, "window_seconds=nan"),
        ({"window_seconds": True}, "window_seconds"), ({"window_rows": 0}, "window_rows=0"),
        ({"window_rows": 1.5}, "window_rows"), ({"max_bytes": 10}, "max_bytes=10"), ({"sample_rows": -1}, "sample_row"),
        ({"sample_rows": 5}, "consent_to_sample=True"), ({"sample_rows": 5, "consent_to_sample": 1}, "consent"),
        ({"sample_rows": 5, "consent_to_sample": True}, "sample_key"),
    ],
)  # fmt: skip
def test_settings_that_are_none(native, spool, tmp_path, options, words):
    with pytest.raises(TelemetryError, match=words):
        native.record_to(tmp_path / "spool", **options)
    assert native.recorder is None
    assert native.predict(ROWS[:1]).tolist() == ["yes"]


@pytest.mark.parametrize("folder", [None, 3, b"spool", ""])
def test_folders_that_are_none(native, folder):
    with pytest.raises(TelemetryError, match="folder"):
        native.record_to(folder)


def test_a_file_is_no_folder(native, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(TelemetryError, match="not a folder"):
        native.record_to(tmp_path / "file")


def test_a_key_that_is_no_good_is_said_at_once(native, tmp_path):
    with pytest.raises(SpoolKeyError):
        native.record_to(tmp_path / "spool", key=b"short")
    assert outlet._OUTLETS == {}


def test_a_disk_in_trouble_is_tried_again(native, tmp_path, monkeypatch, caplog):
    spool, attempts = MemorySpool(), []

    def opener(settings):
        attempts.append(1)
        if len(attempts) < 3:
            raise SpoolError("no space left on device")
        return spool

    monkeypatch.setattr(outlet, "open_spool", opener)
    with caplog.at_level(logging.WARNING):
        recorder = native.record_to(tmp_path / "spool")
    assert "no space left" in caplog.text
    native.predict(ROWS)
    assert not recorder.flush()
    assert recorder.status()["last_error"] == "no space left on device"
    native.predict(ROWS)
    assert recorder.flush()
    assert total(spool.windows) == 6
    assert [item.sequence for item in spool.items] == [0, 1]


def test_two_models_share_a_spool(native, spool, tmp_path):
    with edgeml.load(native.path) as other:
        recorders = native.record_to(tmp_path / "spool"), other.record_to(tmp_path / "spool")
        native.predict(ROWS)
        other.predict_one(ROWS[0])
        native.stop_recording()
        assert spool.closed == 0
        with pytest.raises(TelemetryError, match="another max_bytes"):
            native.record_to(tmp_path / "spool", max_bytes=2**20)
    assert spool.closed == 1
    assert sorted(item.rows for item in spool.items) == [1, 3]
    assert len({item.stream for item in spool.items}) == 2
    assert recorders[0] is not recorders[1]


# --- the environment, pickles ---------------------------------------------------------------------------------------
def test_the_environment_starts_recording(tmp_path, spool, monkeypatch):
    path = small(tmp_path / "m.edgeml", formats=["native"])
    monkeypatch.setenv("EDGEML_TELEMETRY", str(tmp_path / "spool"))
    with edgeml.load(path) as model:
        model.predict(ROWS)
        assert model.recorder is not None
    assert total(spool.windows) == 3
    assert spool.closed == 1
    assert edgeml.verify(path).passed  # whose rows are no traffic
    assert spool.closed == 1


@pytest.mark.parametrize("folder", ["/dev/null/spool", "\0", "file"])
def test_an_environment_that_is_wrong_never_keeps_a_model_from_loading(tmp_path, monkeypatch, caplog, folder):
    if folder == "\0":
        monkeypatch.setattr("os.environ", {"EDGEML_TELEMETRY": "\0"})
    else:
        (tmp_path / "file").write_bytes(b"")
        monkeypatch.setenv("EDGEML_TELEMETRY", str(tmp_path / "file") if folder == "file" else folder)
    with edgeml.load(small(tmp_path / "m.edgeml", formats=["native"])) as model:
        assert model.predict(ROWS).tolist() == ["yes", "no", "yes"]
    assert caplog.records


def test_a_pickled_model_goes_on_recording(native, spool, tmp_path):
    native.record_to(tmp_path / "spool", token="secret", window_seconds=7)
    data = pickle.dumps(native)
    assert b"secret" not in data
    with pickle.loads(data) as other:
        assert other.recorder.settings.window_seconds == 7
        assert other.recorder.settings.token is None
        other.predict(ROWS)
    assert total(spool.windows) == 3
    native.stop_recording()
    with pickle.loads(pickle.dumps(native)) as other:
        assert other.recorder is None


# --- servers --------------------------------------------------------------------------------------------------------
NOBODY = "https://127.0.0.1:9"  # where nobody listens


def test_a_server_that_is_not_there_keeps_nobody_waiting(native, tmp_path):
    recorder = native.record_to(tmp_path / "spool", server=NOBODY, token="em_a_b")
    assert "edgeml-agent" in {t.name for t in threading.enumerate()}
    assert native.predict(ROWS).tolist() == ["yes", "no", "yes"]
    assert recorder.flush()
    native.stop_recording()
    assert "edgeml-agent" not in {t.name for t in threading.enumerate()}


def test_a_second_model_may_bring_the_server(native, tmp_path):
    with edgeml.load(native.path) as other:
        native.record_to(tmp_path / "spool")
        assert "edgeml-agent" not in {t.name for t in threading.enumerate()}
        other.record_to(tmp_path / "spool", server=NOBODY)
        assert "edgeml-agent" in {t.name for t in threading.enumerate()}
        native.stop_recording()
        native.record_to(tmp_path / "spool")
        native.stop_recording()
        with pytest.raises(TelemetryError, match="another server"):
            native.record_to(tmp_path / "spool", server="https://127.0.0.1:10")


@pytest.mark.parametrize("server", ["http://example.org", "ftp://x", "no address", "https://user:password@host"])
def test_a_server_that_is_no_address_is_said_at_once(native, tmp_path, server):
    with pytest.raises(AgentError):
        native.record_to(tmp_path / "spool", server=server)
    assert native.recorder is None
    assert outlet._OUTLETS == {}


# --- races ----------------------------------------------------------------------------------------------------------
def test_a_flush_of_all_while_models_start_and_stop_recording():
    """At exit and at SIGTERM other threads go on: a flush that failed then would lose every open window."""

    class Quiet:
        def ask_flush(self):
            pass

        def flush(self, timeout):
            return True

    going, staying = threading.Event(), [Quiet() for _ in range(300)]

    def come_and_go():
        while not going.is_set():
            one = Quiet()
            lifecycle.watch(one)
            lifecycle.unwatch(one)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=come_and_go)
    try:
        for one in staying:
            lifecycle.watch(one)
        thread.start()
        for _ in range(3000):
            lifecycle.flush_all(0.0)
    finally:
        going.set()
        thread.join()
        sys.setswitchinterval(before)
        for one in staying:
            lifecycle.unwatch(one)


def test_a_function_that_is_being_made_while_recording_starts_is_made_anew(native, spool, tmp_path, monkeypatch):
    """Were the unrecorded one kept, the model would stay silent for ever."""
    making, started = threading.Event(), threading.Event()
    engine_one = native._engine.one

    def slow_one(method):
        made = engine_one(method)
        making.set()
        started.wait(0.2)  # recording cannot start before this function is in place
        return made

    monkeypatch.setattr(native._engine, "one", slow_one)
    early = threading.Thread(target=lambda: native.predict_one)
    early.start()
    assert making.wait(PATIENCE)
    native.record_to(tmp_path / "spool")
    started.set()
    early.join()
    native.predict_one(ROWS[0])
    native.stop_recording()
    assert total(spool.windows) == 1

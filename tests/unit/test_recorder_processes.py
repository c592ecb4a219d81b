"""Recording and the life of processes: fork, spawn, workers, exit, SIGTERM, several processes on one folder."""

import json
import multiprocessing
import os
import pickle  # noqa: TID251  # a Model may be sent to a worker process
import signal
import subprocess
import sys
import warnings

import pytest

import edgeml
from edgeml.errors import InputError
from edgeml.telemetry.spool import Spool
from tests.recording_tools import small
from tests.waiting import PATIENCE

ROWS = [{"x": 0.5, "c": "AA"}, {"x": -1.0, "c": "UA"}]
FORK = hasattr(os, "fork")
needs_fork = pytest.mark.skipif(not FORK, reason="this system has no fork")


@pytest.fixture
def path(tmp_path):
    return small(tmp_path / "m.edgeml", formats=["native"])


def read(folder):
    """Windows by stream, in order."""
    with Spool(folder) as spool:
        outbox = spool.begin("0" * 32, max_bytes=4 * 2**20, max_items=500, newest_first=False)
    streams = {}
    for item in sorted(outbox.items, key=lambda i: i.sequence) if outbox is not None else ():
        streams.setdefault(item.stream, []).append((item.sequence, json.loads(item.payload)))
    for found in streams.values():
        assert [sequence for sequence, _ in found] == list(range(len(found)))
    return {stream: [window for _, window in found] for stream, found in streams.items()}


def rows(streams):
    return sum(w["rows"] for windows in streams.values() for w in windows)


def test_the_spool_holds_what_was_counted(path, tmp_path):
    with edgeml.load(path) as model:
        recorder = model.record_to(tmp_path / "spool")
        model.predict(ROWS)
        assert recorder.flush()
        model.predict_one(ROWS[0])
        status = recorder.status()
    assert status["spool"]["items"] == 1
    assert status["kept"] == 1
    json.dumps(status)
    (windows,) = read(tmp_path / "spool").values()
    assert [w["rows"] for w in windows] == [2, 1]
    assert windows[0]["process"]["pid"] == os.getpid()
    assert windows[0]["system"]["rss_bytes"] > 2**20


# --- fork -----------------------------------------------------------------------------------------------------------
def forked(work):
    """Run ``work`` in a child made by os.fork; its exit code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that this process has threads is what is tested
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@needs_fork
def test_a_forked_child_has_its_own_stream_and_counts_nothing_of_its_parents(path, tmp_path):
    with edgeml.load(path) as model:
        recorder = model.record_to(tmp_path / "spool")
        one = model.predict_one
        one(ROWS[0])
        model.track(1, "yes")

        def work():
            one(ROWS[0])
            model.predict(ROWS * 5)
            model.feedback(1, "yes")
            assert recorder.flush()
            model.stop_recording()

        assert forked(work) == 0
        one(ROWS[1])
    streams = read(tmp_path / "spool")
    assert len(streams) == 2
    by_pid = {w["process"]["pid"]: w for (w,) in streams.values()}
    parent = by_pid.pop(os.getpid())
    (child,) = by_pid.values()
    assert (parent["rows"], child["rows"]) == (2, 11)
    assert child["feedback"]["unmatched"] == 1


@needs_fork
def test_a_child_that_never_predicts_leaves_no_trace(path, tmp_path):
    with edgeml.load(path) as model:
        model.record_to(tmp_path / "spool")
        model.predict(ROWS)
        assert forked(lambda: model.stop_recording()) == 0
    assert len(read(tmp_path / "spool")) == 1


@needs_fork
def test_a_child_that_only_brings_truths_or_is_only_refused_reports_it(path, tmp_path):
    with edgeml.load(path) as model:
        model.record_to(tmp_path / "spool")

        def truths():
            model.feedback(1, "yes", prediction="yes")
            model.stop_recording()

        def refused():
            with pytest.raises(InputError):
                model.predict([{"x": 1.0}])
            model.stop_recording()

        assert [forked(truths), forked(refused)] == [0, 0]
    windows = [w for found in read(tmp_path / "spool").values() for w in found]
    assert [w["feedback"]["correct"] for w in windows if w["feedback"]] == [1]
    assert [w["errors"] for w in windows if w["errors"]] == [{"MissingColumnError": 1}]


@needs_fork
def test_a_fork_while_threads_count_and_windows_close(path, tmp_path):
    """Whatever the parent's threads held just then, the child predicts and flushes."""
    import threading

    with edgeml.load(path) as model:
        recorder = model.record_to(tmp_path / "spool", window_seconds=0.01)
        going, calls = threading.Event(), []

        def work():
            one, done = model.predict_one, 0
            while not going.is_set():
                one(ROWS[0])
                done += 1
            calls.append(done)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()

        def child():
            for _ in range(10):
                model.predict(ROWS)
            assert recorder.flush(PATIENCE)

        codes = [forked(child) for _ in range(5)]
        going.set()
        for thread in threads:
            thread.join()
    assert codes == [0] * 5
    streams = read(tmp_path / "spool")
    by_pid = {windows[0]["process"]["pid"]: sum(w["rows"] for w in windows) for windows in streams.values()}
    assert by_pid.pop(os.getpid()) == sum(calls)
    assert list(by_pid.values()) == [20] * 5


def _predict(model):
    model.predict(ROWS)
    return os.getpid()


@needs_fork
def test_workers_made_by_fork_flush_when_they_end(path, tmp_path):
    with edgeml.load(path) as model:
        model.record_to(tmp_path / "spool")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # threads and fork, as above
            process = multiprocessing.get_context("fork").Process(target=_predict, args=(model,))
            process.start()
        process.join(PATIENCE)
        assert process.exitcode == 0
    assert rows(read(tmp_path / "spool")) == 2


def test_a_spawned_worker_goes_on_recording(path, tmp_path):
    with edgeml.load(path) as model:
        model.record_to(tmp_path / "spool")
        process = multiprocessing.get_context("spawn").Process(target=_predict, args=(model,))
        process.start()
        process.join(PATIENCE)
        assert process.exitcode == 0
        assert len(pickle.dumps(model)) < 2000
    streams = read(tmp_path / "spool")
    assert rows(streams) == 2
    assert len(streams) == 1  # the parent's window was empty


# --- exit and signals -----------------------------------------------------------------------------------------------
CHILD = """
import os, signal, sys, threading, time
import edgeml
{before}
model = edgeml.load(sys.argv[1])
{start}
for _ in range(7):
    model.predict_one({{"x": 0.5, "c": "AA"}})
{after}
"""


def child(path, folder, before="", start="model.record_to(sys.argv[2])", after="", send=None, **environment):
    """Run the program; with ``send`` it is sent that signal once it has printed a line."""
    code = CHILD.format(before=before, start=start, after=after)
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path), str(folder)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment},
    )  # fmt: skip
    if send is not None:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(send)
    out, error = process.communicate(timeout=PATIENCE)
    return process.returncode, out, error


READY = 'print("ready", flush=True)\n'


def test_the_open_window_is_kept_at_exit(path, tmp_path):
    assert child(path, tmp_path / "spool") == (0, "", "")
    assert rows(read(tmp_path / "spool")) == 7


def test_the_open_window_is_kept_at_exit_when_the_environment_started_recording(path, tmp_path):
    assert child(path, "", start="", EDGEML_TELEMETRY=str(tmp_path / "spool")) == (0, "", "")
    assert rows(read(tmp_path / "spool")) == 7


@pytest.mark.parametrize(
    "waiting",
    ["time.sleep(600)", "threading.Event().wait(600)", "while True: model.predict_one({'x': 0.5, 'c': 'AA'})"],
)
def test_sigterm_flushes_and_ends_the_process_as_it_would_have(path, tmp_path, waiting):
    code, _, error = child(path, tmp_path / "spool", after=READY + waiting, send=signal.SIGTERM)
    assert (code, error) == (-signal.SIGTERM, "")
    assert rows(read(tmp_path / "spool")) >= 7


def test_sigterm_while_the_main_thread_holds_the_recorders_lock(path, tmp_path):
    """A handler that waited in the main thread for the recorder's thread would wait for itself."""
    waiting = READY + "with model.recorder._lock:\n    while not model.recorder._writer._asked: time.sleep(0.01)\n"
    code, _, error = child(path, tmp_path / "spool", after=waiting + "time.sleep(600)", send=signal.SIGTERM)
    assert (code, error) == (-signal.SIGTERM, "")
    assert rows(read(tmp_path / "spool")) == 7


def test_a_handler_of_the_application_stays(path, tmp_path):
    before = "signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(3))"
    code, _, error = child(path, tmp_path / "spool", before, after=READY + "time.sleep(600)", send=signal.SIGTERM)
    assert (code, error) == (3, "")
    assert rows(read(tmp_path / "spool")) == 7


def test_an_ignored_signal_stays_ignored(path, tmp_path):
    before = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    after = READY + "sys.stdin.close(); time.sleep(0.2); print('alive')"
    assert child(path, tmp_path / "spool", before, after=after, send=signal.SIGTERM)[:2] == (0, "alive\n")


def test_recording_that_has_stopped_leaves_the_signal_as_it_was(path, tmp_path):
    after = "model.stop_recording(); print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)"
    assert child(path, tmp_path / "spool", after=after)[:2] == (0, "True\n")


def test_recording_from_another_thread_touches_no_signal(path, tmp_path):
    start = "t = threading.Thread(target=model.record_to, args=(sys.argv[2],)); t.start(); t.join()"
    after = "print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)"
    assert child(path, tmp_path / "spool", start=start, after=after)[:2] == (0, "True\n")
    assert rows(read(tmp_path / "spool")) == 7


def test_several_processes_record_to_one_folder(path, tmp_path):
    code = CHILD.format(before="", start="model.record_to(sys.argv[2], window_rows=3)", after="")
    command = [sys.executable, "-c", code, str(path), str(tmp_path / "spool")]
    running = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait(PATIENCE) for process in running] == [0] * 4
    streams = read(tmp_path / "spool")
    assert len(streams) == 4
    assert rows(streams) == 28


def test_a_device_without_the_agents_packages_predicts(path, tmp_path):
    """No cryptography, no psutil: an explicit call says what to install, the environment only logs it."""
    before = "sys.modules['cryptography'] = sys.modules['psutil'] = None"
    code, _, error = child(path, tmp_path / "spool", before)
    assert code == 1
    assert "pip install" in error
    code, _, error = child(path, "", before, start="", EDGEML_TELEMETRY=str(tmp_path / "spool"))
    assert code == 0
    assert "does not record" in error


def test_loading_a_model_that_does_not_record_imports_no_telemetry(path):
    after = "print([n for n in sys.modules if 'telemetry' in n or n in ('sqlite3', 'cryptography', 'psutil', 'httpx')])"
    environment = {k: v for k, v in os.environ.items() if k != "EDGEML_TELEMETRY"}
    code = CHILD.format(before="", start="", after=after)
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout == "[]\n"

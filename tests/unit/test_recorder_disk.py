"""The recorder and a disk in trouble: windows wait in bounded memory, what must go is counted, predictions go on."""

import pytest

import edgeml
from edgeml.errors import SpoolError, SpoolFullError
from edgeml.telemetry import writer
from edgeml.telemetry.items import Item, Loss
from edgeml.telemetry.wire import MAX_LOSSES
from edgeml.telemetry.writer import Draft, Writer, merged
from tests.recording_tools import MemorySpool, small, total, use
from tests.waiting import PATIENCE

ROWS = [{"x": 0.5, "c": "AA"}, {"x": -1.0, "c": "UA"}]


@pytest.fixture
def spool(monkeypatch):
    return use(monkeypatch, MemorySpool())


@pytest.fixture
def model(tmp_path):
    with edgeml.load(small(tmp_path / "m.edgeml", formats=["native"])) as model:
        yield model


@pytest.mark.parametrize("error", [SpoolFullError("disk full"), SpoolError("read-only"), PermissionError("denied")])
def test_windows_wait_until_the_disk_is_well_again(model, spool, tmp_path, error):
    recorder = model.record_to(tmp_path / "spool")
    spool.failing = error
    for _ in range(3):
        model.predict(ROWS)
        assert not recorder.flush()
    assert recorder.status()["waiting"] == 3
    assert str(error).startswith(recorder.status()["last_error"])
    spool.failing = None
    assert recorder.flush()
    assert [item.sequence for item in spool.items] == [0, 1, 2]
    assert total(spool.windows) == 6
    assert recorder.status()["kept"] == 3


def test_predictions_do_not_wait_for_a_disk_that_does_not_answer(model, spool, tmp_path):
    """The thread stands in ``append`` all the while: every call returns, and all its rows are there afterwards."""
    recorder = model.record_to(tmp_path / "spool", window_rows=10)
    spool.gate.clear()
    model.predict(ROWS * 5)
    assert spool.entered.wait(PATIENCE)
    one = model.predict_one
    for _ in range(500):
        one(ROWS[0])
        model.predict(ROWS)
    assert not spool.gate.is_set()
    assert not recorder.flush(0.01)
    spool.gate.set()
    model.stop_recording()
    assert total(spool.windows) == 10 + 500 * 3


def test_stopping_does_not_wait_for_ever(model, spool, tmp_path, monkeypatch):
    recorder = model.record_to(tmp_path / "spool")
    spool.gate.clear()
    model.predict(ROWS)
    assert recorder.stop(0.05) is False
    model.stop_recording()
    spool.gate.set()
    recorder._writer._thread.join(PATIENCE)
    assert total(spool.windows) == 2
    assert spool.closed == 1


# --- bounded memory -------------------------------------------------------------------------------------------------
class Alone:
    """A writer without its thread, and its outlet: rounds are run by hand."""

    def __init__(self, kept):
        self.kept, self.drafts = kept, []
        self.writer = Writer(self, self.collect, lambda: 0.0, None)

    def collect(self, ask):
        drafts, self.drafts = self.drafts, []
        return drafts

    def round(self, *drafts):
        self.drafts = list(drafts)
        self.writer._round(True)

    def spool(self):
        return self.kept

    def wake_agent(self):
        pass


def window(rows=1, size=100):
    return Draft("window", b"w" * size, rows)


def test_memory_is_bounded_and_what_goes_is_counted():
    spool = MemorySpool()
    alone = Alone(spool)
    spool.failing = SpoolError("no space left\non device")
    for _ in range(writer.MAX_WAITING + 50):
        alone.round(window(rows=2))
    assert alone.writer.waiting == writer.MAX_WAITING
    assert alone.writer.totals.lost == 50
    assert alone.writer.totals.rows_lost == 100
    spool.failing = None
    alone.round()
    (loss,) = spool.losses
    assert (loss.first, loss.last, loss.rows, loss.kind) == (0, 49, 100, "window")
    assert "no space left on device" in loss.reason
    assert loss.reason.isprintable()
    assert [item.sequence for item in spool.items] == list(range(50, 50 + writer.MAX_WAITING))


def test_sampled_rows_go_before_windows_and_bytes_are_bounded_too():
    spool = MemorySpool()
    alone = Alone(spool)
    spool.failing = SpoolError("broken")
    big = writer.MAX_WAITING_BYTES // 4
    alone.round(window(size=big), Draft("rows", b"r" * big, 5), window(size=big))
    alone.round(window(size=big), window(size=big))
    assert [i.kind for i in alone.writer._waiting] == ["window"] * 4
    alone.round(window(size=big))
    assert [i.sequence for i in alone.writer._waiting] == [2, 3, 4, 5]
    assert [(x.first, x.kind) for x in alone.writer._losses] == [(0, "window"), (1, "rows")]
    assert alone.writer.totals.rows_lost == 1


def test_losses_are_bounded_whatever_is_lost():
    spool = MemorySpool()
    alone = Alone(spool)
    spool.failing = SpoolError("broken")
    for _ in range(2 * writer.MAX_LOSSES):
        alone.round(window(), Draft("rows", b"r", 3))
    losses = alone.writer._losses
    assert len(losses) <= writer.MAX_LOSSES < MAX_LOSSES
    kept = {i.sequence for i in alone.writer._waiting}
    lost = [n for x in losses for n in range(x.first, x.last + 1)]
    assert sorted([*lost, *kept]) == list(range(4 * writer.MAX_LOSSES))


def test_an_item_the_spool_has_no_room_for_does_not_hold_up_the_others():
    class Small(MemorySpool):
        def append(self, items, losses=()):
            if any(len(item.payload) > 1000 for item in items):
                raise SpoolFullError("too large")
            super().append(items, losses)

    spool = Small()
    alone = Alone(spool)
    alone.round(window(), window(size=5000, rows=7), window())
    assert [i.sequence for i in spool.items] == [0, 2]
    alone.round(window())
    assert [(x.first, x.last, x.rows) for x in spool.losses] == [(1, 1, 7)]
    assert alone.writer.waiting == 0


def test_a_last_item_the_spool_has_no_room_for_is_in_it_as_a_loss():
    """After the last round nothing more is handed over: a loss that waited for the next one would be forgotten."""
    spool = MemorySpool()
    alone = Alone(spool)
    take = spool.append

    def append(items, losses=()):
        if any(len(item.payload) > 1000 for item in items):
            raise SpoolFullError("too large")
        take(items, losses)

    spool.append = append
    alone.round(window(), window(size=5000, rows=7))
    assert [(x.first, x.last, x.rows) for x in spool.losses] == [(1, 1, 7)]


def test_a_fault_that_stays_is_met_once_a_second(monkeypatch):
    """A window that is due and cannot be closed stays due: the thread must not try without pause."""
    alone, met, waits = Alone(MemorySpool()), [], []

    def fail(ask):
        met.append(1)
        raise ZeroDivisionError("a fault of ours")

    def wait(seconds):
        waits.append(seconds)
        alone.writer._ending = len(met) == 3

    monkeypatch.setattr(writer.clock, "monotonic", lambda: 100.0)
    monkeypatch.setattr(alone.writer, "_collect", fail)
    monkeypatch.setattr(alone.writer._wake, "wait", wait)
    alone.writer._run()
    assert waits == [1.0, 1.0, 1.0]


def test_neighbouring_losses_become_one():
    def loss(first, last, kind="window", reason="r", rows=1):
        return Loss("s", first, last, kind, reason, rows)

    assert merged([loss(2, 3), loss(0, 1)]) == [loss(0, 3, rows=2)]
    assert merged([loss(0, 1), loss(3, 4)]) == [loss(0, 1), loss(3, 4)]
    assert merged([loss(0, 1), loss(2, 2, reason="other")]) == [loss(0, 1), loss(2, 2, reason="other")]
    assert merged([loss(0, 1), loss(2, 2, "rows", rows=9)], together=True) == [loss(0, 2)]


def test_a_profile_the_spool_does_not_take_does_not_hold_up_windows(model, spool, tmp_path, monkeypatch):
    def refuse(sha256, body):
        raise SpoolError("a profile too large")

    monkeypatch.setattr(spool, "put_profile", refuse)
    recorder = model.record_to(tmp_path / "spool")
    model.predict(ROWS)
    assert recorder.flush()
    assert total(spool.windows) == 2
    assert recorder.status()["last_error"] == "a profile too large"


def test_waiting_is_retried_ever_more_slowly(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(writer.clock, "monotonic", lambda: now[0])
    spool = MemorySpool()
    alone = Alone(spool)
    spool.failing = SpoolError("broken")
    waits = []
    for _ in range(9):
        alone.writer._waiting = [Item("s", 0, "window", b"", 1)]
        alone.writer._round(False)
        waits.append(alone.writer._retry_at - now[0])
        now[0] = alone.writer._retry_at
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]

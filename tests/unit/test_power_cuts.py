"""Power cuts on a simulated disk: no acknowledged window is lost, none is counted twice, the spool opens every time."""

import sys

import pytest

from edgeml.telemetry import spool_tables
from edgeml.telemetry.spool import Spool
from tests.power.cuts import Report, cut_life
from tests.power.recorder import recorded
from tests.power.workload import KEY
from tests.spool_tools import item

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the recorder finds SQLite through /proc")

LIVES, CUTS = 40, 130


def test_5200_power_cuts():
    total = Report()
    for seed in range(LIVES):
        total.add(cut_life(seed, CUTS))
    assert total.problems == []
    assert total.cuts == LIVES * CUTS
    # The lives were worth it: much was sent only after the cut, and much was given up for want of room.
    assert total.resent > 10_000
    assert total.lost_with_reason > 1000


@pytest.mark.parametrize("synchronous", ["OFF", "NORMAL"])
def test_a_spool_that_does_not_sync_each_commit_is_found_out(monkeypatch, synchronous):
    monkeypatch.setattr(spool_tables, "SYNCHRONOUS", synchronous)
    total = Report()
    for seed in range(3):
        total.add(cut_life(seed, 60))
    assert any("missing" in problem for problem in total.problems)


def test_a_disk_that_never_syncs_names_is_found_out():
    """The name of a new database or log is durable only after its folder was synced."""
    problems = [problem for seed in range(3) for problem in cut_life(seed, 60, without=("names",)).problems]
    assert any("missing" in problem for problem in problems)


def test_each_append_is_synced_once_before_it_returns(tmp_path):
    with recorded(tmp_path / "spool") as recording, Spool(tmp_path / "spool", key=KEY) as spool:
        spool.append([item(0)])
        for number in range(1, 20):
            start = len(recording.events)
            spool.append([item(number, size=4096)])
            events = [event[:2] for event in recording.events[start:]]
            assert events.count(("sync", "spool.db-wal")) == 1
            assert events[-1] == ("sync", "spool.db-wal")

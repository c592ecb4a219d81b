"""The check after a simulated run finds every way in which a server's count can differ from what was acknowledged."""

import time

import numpy as np
import pytest

from edgeml.errors import MonitorDatabaseError
from edgeml.fleet import tables
from edgeml.fleet.simulate_check import check_database
from edgeml.fleet.simulate_device import SimulatedDevice
from edgeml.fleet.simulate_windows import built_in_model, templates
from tests.fleet_tools import fleet

MODEL = built_in_model("checked")
DRAWN = templates(MODEL, np.random.default_rng(0), 5)


@pytest.fixture
def run(database):
    """Two devices with four windows each, all of them kept and acknowledged: (fleet, devices, function that checks)."""
    with fleet(database) as some:
        devices = []
        for index in range(2):
            sender = some.sender(f"simulated-{index}")
            device = SimulatedDevice(index, MODEL, DRAWN, time.time() - 7200)
            device.device = sender.device.id
            made = [device.close_window(time.time() + n, 60.0, None) for n in range(4)]
            profiles = {MODEL.profile_sha256: MODEL.profile}
            some.send(sender, [w.item for w in made], profiles=profiles, received=time.time())
            device.acknowledged = 0b1111
            devices.append(device)
        yield some, devices, lambda: check_database(database, devices, MODEL.window_model)


def test_a_whole_run(run):
    _, devices, check = run
    found = check()
    assert found["ok"], found
    rows = sum(d.rows_of(n) for d in devices for n in range(4))
    assert (found["acknowledged"], found["kept"], found["model_windows"], found["model_rows"]) == (8, 8, 8, rows)
    assert found["rollups"] == {level: {"windows": 8, "rows": rows} for level in ("minute", "hour", "day")}


def test_a_window_that_is_missing(run):
    _, devices, check = run
    devices[1].close_window(time.time(), 60.0, None)
    devices[1].acknowledged = 0b11111
    found = check()
    assert not found["ok"]
    assert found["missing"] == 1


def test_a_window_that_was_never_sent(run):
    _, devices, check = run
    devices[0].sequence, devices[0].acknowledged = 3, 0b111
    found = check()
    assert not found["ok"]
    assert found["foreign"] == 1


def test_a_window_with_other_rows(run):
    some, devices, check = run
    with some.store.write() as connection:
        connection.execute(
            tables.windows.update().where(tables.windows.c.stream == devices[0].stream).values(rows=12345)
        )
    found = check()
    assert not found["ok"]
    assert found["wrong_rows"] == 4


def test_a_reply_that_was_lost_is_allowed(run):
    _, devices, check = run
    devices[0].acknowledged = 0b1011
    found = check()
    assert found["ok"]
    assert (found["unacknowledged"], found["missing"]) == (1, 0)


@pytest.mark.parametrize("level", ["minute", "hour", "day"])
def test_a_sum_that_was_added_twice(run, level):
    some, _, check = run
    with some.store.write() as connection:
        twice = tables.rollups.update().where(tables.rollups.c.level == level)
        connection.execute(twice.values(windows=tables.rollups.c.windows * 2))
    assert not check()["ok"]


def test_what_is_no_database():
    for url in ("nowhere", "sqlite:////no/such/folder/m.db"):
        with pytest.raises(MonitorDatabaseError):
            check_database(url, [], MODEL.window_model)

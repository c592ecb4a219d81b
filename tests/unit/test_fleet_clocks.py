"""Where windows are placed in time, whatever a device takes for the time: never later than they came."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeml.fleet import tables
from edgeml.fleet.clocks import BEFORE_ENROLMENT_SECONDS, place
from edgeml.telemetry.wire import Sent
from tests.fleet_tools import T0, fleet, window

NOW = T0 + 10 * 86400
YEAR = 365 * 86400


def placed(**more):
    given = {
        "start": 940.0, "end": 1000.0, "boot_id": "boot", "wall": NOW - 100, "sent": Sent("boot", 1100.0, NOW),
        "received": NOW, "enrolled": T0, "origin": None,
    }  # fmt: skip
    return place(**given | more)


def test_within_a_boot_the_wall_clock_does_not_matter():
    for wall in (0.0, NOW, NOW + 73 * YEAR, NOW - YEAR):
        assert placed(wall=wall, sent=Sent("boot", 1100.0, wall + 5)) == (NOW - 160, NOW - 100, "monotonic")


def test_of_an_earlier_boot_the_time_it_reported_in_tells():
    assert placed(boot_id="before", wall=0.0, origin=NOW - 5000) == (NOW - 4060, NOW - 4000, "monotonic")


@pytest.mark.parametrize(
    ("wall", "now_on_device", "ended", "clock"),
    [
        (NOW - 500, NOW, NOW - 500, "wall"),  # right
        (NOW - 500 + YEAR, NOW + YEAR, NOW - 500, "wall"),  # a year ahead, then and now
        (NOW - 500, NOW - YEAR, NOW - 500, "wall"),  # right then, set back a year since
        (500.0, NOW, T0, "clamped"),  # 1970 then, right now
        (NOW + 70 * YEAR, NOW, NOW, "clamped"),  # 2099 then, right now
    ],
)
def test_of_a_boot_nothing_is_known_of_the_wall_clock_is_a_hint(wall, now_on_device, ended, clock):
    found = placed(boot_id="before", wall=wall, sent=Sent("boot", 10.0, now_on_device))
    assert (found.ended, found.clock) == (ended, clock)


def test_a_window_that_was_closed_as_it_was_sent_is_not_of_the_future():
    assert placed(end=1101.0)[1:] == (NOW, "monotonic")  # the clocks were read a second apart


def test_a_monotonic_clock_that_cannot_be_is_not_believed():
    assert placed(end=5000.0, start=4000.0).clock == "wall"  # closed after it was sent
    assert placed(end=0.0, start=0.0, sent=Sent("boot", 1e9, NOW)).clock == "wall"  # 30 years before it came


numbers = st.floats(0, 9e10, allow_nan=False)


@given(
    st.tuples(numbers, numbers).map(sorted),
    numbers,
    numbers,
    st.floats(-9e10, 9e10),
    st.booleans(),
    numbers | st.none(),
)
def test_no_clock_puts_a_window_in_the_future(span, wall, monotonic, now_on_device, same, origin):
    start, end = span
    found = placed(
        start=start, end=end, wall=wall, boot_id="boot" if same else "before",
        sent=Sent("boot", monotonic, now_on_device), origin=origin,
    )  # fmt: skip
    assert T0 - BEFORE_ENROLMENT_SECONDS <= found.started <= found.ended <= NOW


def test_windows_of_a_boot_before_are_placed_by_its_last_report(database):
    with fleet(database) as db:
        sender = db.sender()
        db.send(sender, sender.items(window(end=60.0)), received=T0 + 1000, sent=Sent("boot", 1000.0, 0.0))
        late = window(end=2000.0, wall=12.0)
        db.send(sender, sender.items(late), received=T0 + 9000, sent=Sent("next", 50.0, 0.0))
        # The boot after that: the first one is remembered, too.
        later = window(end=2100.0, wall=12.0)
        db.send(sender, sender.items(later), received=T0 + 20000, sent=Sent("third", 50.0, 0.0))
        found = {row["sequence"]: (row["ended"], row["clock"]) for row in db.rows(tables.windows)}
        assert found == {0: (T0 + 60, "monotonic"), 1: (T0 + 2000, "monotonic"), 2: (T0 + 2100, "monotonic")}
        assert {row["boot_id"]: row["origin"] for row in db.rows(tables.boots)} == {"boot": T0, "next": T0 + 8950}
        assert db.rows(tables.devices)[0]["boot_id"] == "third"

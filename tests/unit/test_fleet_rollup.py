"""Sums of windows: they add up in any order, survive their bytes, are bounded, and never wrap."""

import random

import numpy as np
import pytest

from edgeml.errors import MonitorDatabaseError, WireError
from edgeml.fleet.rollup import MAX_FIGURES, MAX_LABELS, MAX_WINDOW_COUNT, OTHER, Layout, Sums, check_plausible
from edgeml.telemetry.window import LATENCY_BINS, check_window, dense
from tests.fleet_tools import profile, window

P = profile()
LAYOUT = Layout.of(P)


def classifier(rng):
    pairs = [(rng.choice("abc"), rng.choice("abc")) for _ in range(9)]
    confusion: dict[str, dict[str, int]] = {}
    for label, predicted in pairs:
        row = confusion.setdefault(label, {})
        row[predicted] = row.get(predicted, 0) + 1
    return {"rows": 9, "correct": sum(a == b for a, b in pairs), "confusion": confusion, "unmatched": 1}


def some_windows(number=20, seed=0):
    rng = random.Random(seed)
    made = []
    for _ in range(number):
        rows = rng.randrange(200)
        latency = {"one": [5, rows] if rows else [], "batch": [1, 2, LATENCY_BINS - 1, 3]}
        system = {"cpu": rng.choice([0.25, 0.5, None]), "rss": 2.0 ** rng.randrange(20)}
        errors = {rng.choice(["A", "B"]): rng.randrange(5)}
        feedback = classifier(rng) if rng.random() < 0.7 else None
        made.append(window(P, rows, latency=latency, system=system, errors=errors, feedback=feedback))
        check_window(made[-1], P)
    return made


def added(windows):
    sums = Sums(LAYOUT.slots)
    for one in windows:
        sums.add(one, LAYOUT)
    return sums


def state(sums):
    return {name: getattr(sums, name) for name in Sums.__slots__ if name != "counts"} | {"counts": sums.counts.tolist()}


def test_sums_are_those_of_dense_counts():
    windows = some_windows()
    shown = added(windows).histograms(LAYOUT)
    for field in ("features", "scores"):
        for at, record in enumerate(P[field]):
            each = [dense(w[field][at], len(record["counts"])) for w in windows]
            assert shown[field][at] == np.sum(each, axis=0).tolist()
    for kind in ("one", "batch"):
        assert (
            shown["latency"][kind]
            == np.sum([dense(w["latency"][kind], LATENCY_BINS) for w in windows], axis=0).tolist()
        )


def test_any_order_and_any_parts_give_the_same_sums():
    windows = some_windows()
    whole = state(added(windows))
    parts = added(windows[13:])
    parts.merge(added(windows[:4]))
    parts.merge(added(windows[4:13][::-1]))
    assert state(parts) == whole
    assert whole["windows"] == 20
    assert whole["feedback"]["rows"] == sum(sum(row.values()) for row in whole["feedback"]["confusion"].values())


@pytest.mark.parametrize("largest", [0, 255, 256, 2**16, 2**32 - 1, 2**32, 2**63 - 1])
def test_bytes_keep_every_count(largest):
    sums = added(some_windows(3))
    sums.counts[:] = 0
    sums.counts[7] = largest
    again = Sums.from_bytes(sums.to_bytes(), sums.windows, sums.rows)
    assert state(again) == state(sums)
    again.counts[0] += 1  # of its own memory


def test_bytes_are_compact_and_of_a_version():
    big = profile(features=30)
    layout = Layout.of(big)
    sums = Sums(layout.slots)
    for n in range(100):
        sums.add(window(big, n), layout)
    data = sums.to_bytes()
    assert len(data) < 10_000
    with pytest.raises(MonitorDatabaseError, match="version"):
        Sums.from_bytes(b"\x02" + data[1:], 1, 1)
    for damaged in (data[:20], data[:1] + b"xx", b""):
        with pytest.raises(MonitorDatabaseError):
            Sums.from_bytes(damaged, 1, 1)


def test_counts_never_wrap():
    sums, more = added(some_windows(1)), added(some_windows(1))
    slot = int(LAYOUT.offsets[2])
    sums.counts[slot] = 2**63 - 5
    more.counts[slot] = 5
    with pytest.raises(OverflowError):
        sums.merge(more)
    with pytest.raises(OverflowError):
        sums.add(window(P, 10), LAYOUT)
    assert sums.counts[slot] == 2**63 - 5
    rows = added([])
    rows.rows = 2**63 - 1
    with pytest.raises(OverflowError):
        rows.add(window(P, 1), LAYOUT)
    figures = added([window(P, system={"x": 1e308})])
    with pytest.raises(OverflowError):
        figures.merge(added([window(P, system={"x": 1e308})]))


def test_what_devices_name_is_bounded_and_counted_as_other():
    sums = Sums(LAYOUT.slots)
    for n in range(10):
        errors = {f"kind {n} {k}": 1 for k in range(32)}
        system = {f"figure {n} {k}": 1.0 for k in range(32)}
        confusion = {f"{n} {k}": {f"p{n} {k}": 1} for k in range(90)}
        feedback = {"rows": 90, "correct": 0, "unmatched": 0, "confusion": confusion}
        sums.add(window(P, errors=errors, system=system, feedback=feedback), LAYOUT)
    assert sum(sums.errors.values()) == 320
    assert sums.errors[OTHER] > 0
    assert len(sums.system) == MAX_FIGURES
    assert len(sums.feedback["confusion"]) <= MAX_LABELS + 1
    assert sum(sum(row.values()) for row in sums.feedback["confusion"].values()) == sums.feedback["rows"] == 900


def test_a_regressors_feedback_adds_up_and_another_kind_is_only_counted():
    one = {
        "rows": 2,
        "error": -1.0,
        "absolute_error": 3.0,
        "squared_error": 5.0,
        "y": 4.0,
        "y_squared": 10.0,
        "unmatched": 1,
    }
    sums = added([window(P, feedback=one), window(P, feedback=one)])
    assert sums.feedback == {name: 2 * value for name, value in one.items()}
    sums.add(window(P, feedback=classifier(random.Random(1))), LAYOUT)
    assert sums.feedback == {name: 2 * value for name, value in one.items()} | {"unmatched": 12}


def test_a_window_no_device_can_have_seen_is_refused():
    check_plausible(window(P, MAX_WINDOW_COUNT))
    for field, value in {
        "rows": MAX_WINDOW_COUNT + 1,
        "errors": {"A": 2**40},
        "calls": {"one": 0, "batch": 2**40},
        "system": {"x": -1e19},
        "feedback": {"rows": 1, "correct": 1, "unmatched": 0, "confusion": {"a": {"a": 2**40}}},
        "scores": [[1, 2**40]],
    }.items():
        with pytest.raises(WireError, match="plausible"):
            check_plausible(window(P) | {field: value})

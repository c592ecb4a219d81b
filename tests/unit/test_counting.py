"""What a window counts is what ``profile.bin_counts`` would count: every cell, in batches and row by row, with the
kernels and with NumPy.
"""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeml.errors import InputError
from edgeml.runtimes.frames import read_row, read_rows
from edgeml.runtimes.kernels import counting
from edgeml.runtimes.recording_counts import Pool
from edgeml.telemetry.counting import FIRST_RECORD, LATENCY, ROWS
from edgeml.telemetry.window import LATENCY_BINS, check_window, latency_bin
from tests.counting_tools import MACHINES, PROFILE, by_record, counts_of, expected, machine_of, one_row, recorded
from tests.recording_tools import SCHEMA, sample


@pytest.fixture(params=list(MACHINES))
def machine(request):
    return machine_of(request.param)


# --- awkward cells: on every edge, one step beside it, and whatever a column of the kind may hold ---------------------
def around(name, dtype):
    edges = np.array(next(r["edges"] for r in PROFILE["features"] if r["name"] == name), dtype=dtype)
    if dtype == np.int64:
        beside = [*(edges - 1), *(edges + 1), -(2**63), 2**63 - 1, 2**53, 2**53 + 1, 0]
    else:
        beside = [*np.nextafter(edges, np.inf), *np.nextafter(edges, -np.inf), np.nan, np.inf, -np.inf, -0.0, 0.0]
        beside += [np.finfo(dtype).max, np.finfo(dtype).min, np.finfo(dtype).smallest_subnormal]
    return np.concatenate([edges, np.array(beside, dtype=dtype)])


POOLS = {
    "double": around("double", np.float64),
    "single": around("single", np.float32),
    "whole": around("whole", np.int64),
    "flag": np.array([True, False]),
    "wide": around("wide", np.float64),
    "constant": around("constant", np.float64),
    "empty": np.array([1.0, np.nan, -np.inf, np.inf, 0.0]),
}
TEXTS = ["a", "b", "", "\U0001f600", "\ud800", "never seen", "often", "v1", None, float("nan"), np.nan, "other", "nan"]


def draw_columns(rng, rows):
    columns = {name: pool[rng.integers(0, len(pool), rows)] for name, pool in POOLS.items()}
    for name in ("text", "rare"):
        cells = np.empty(rows, dtype=object)
        cells[:] = [TEXTS[i] for i in rng.integers(0, len(TEXTS), rows)]
        columns[name] = cells
    return columns


def draw_answers(rng, rows):
    steps = np.concatenate([np.arange(21) / 20, np.nextafter(np.arange(21) / 20, 2), [np.nan, -0.5, 1.5]])
    return {
        "predict": np.array(["x", "y", "zebra", "unknown"])[rng.integers(0, 4, rows)],
        "predict_proba": steps[rng.integers(0, len(steps), (rows, 3))],
        "decision_function": POOLS["double"][rng.integers(0, len(POOLS["double"]), rows)],
    }


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 400))
@pytest.mark.parametrize("name", list(MACHINES))
def test_every_count_is_that_of_the_profile(name, seed, rows):
    counts = counts_of(machine_of(name))
    rng = np.random.default_rng(seed)
    columns, answers = draw_columns(rng, rows), draw_answers(rng, rows)
    for method in answers:
        assert not counts.add(method, "batch", columns, rows, answers[method], 1500)
        found, fields = by_record(counts)
        assert found == expected(columns, {method: answers[method]})
        assert fields["rows"] == rows
        assert fields["calls"] == {"one": 0, "batch": 1}
        assert fields["latency"] == {"one": [], "batch": [latency_bin(1500), 1]}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("name", list(MACHINES))
def test_rows_one_by_one_are_counted_as_a_batch(name, seed):
    counts, slow = counts_of(machine_of(name)), []
    rng = np.random.default_rng(seed)
    columns, answers = draw_columns(rng, 60), draw_answers(rng, 60)
    for index, method in enumerate(("predict", "predict_proba")):
        answer = iter(answers[method])
        one = recorded(counts, index, lambda row, answer=answer: next(answer), slow)
        for i in range(60):
            row = {name: columns[name][i : i + 1].tolist()[0] for name in columns}
            if i % 3 == 0:
                row |= {"skipped": None, "any": object()}
                one([row.get(c.name) for c in SCHEMA.columns] if i % 2 else tuple(row[c.name] for c in SCHEMA.columns))
            else:
                one(row)
        found, fields = by_record(counts)
        assert slow == []
        assert found == expected(columns, {method: answers[method]})
        assert fields["rows"] == fields["calls"]["one"] == 60


@pytest.mark.parametrize(
    "changed",
    [
        {"double": 3}, {"double": True}, {"double": np.float32(0.1)}, {"double": np.int8(3)}, {"double": None},
        {"double": 2**53 + 1}, {"single": np.float32(0.1)}, {"single": None}, {"single": 1}, {"flag": 1},
        {"flag": np.True_}, {"flag": 0.0}, {"whole": True}, {"whole": np.int64(2**62)}, {"whole": np.uint8(3)},
        {"text": None}, {"text": float("nan")}, {"text": np.str_("a")}, {"text": "\U0001f600"}, {"text": "\ud800"},
    ],
)  # fmt: skip
def test_cells_of_many_types_take_the_fast_way_and_count_as_a_batch_of_one_does(machine, changed):
    counts, slow = counts_of(machine), []
    row = one_row(**changed)
    recorded(counts, 0, lambda row: "x", slow)(row)
    assert slow == []
    assert by_record(counts)[0] == expected(read_row(row, SCHEMA), {"predict": np.array(["x"])})


@pytest.mark.parametrize("changed", [{"whole": 3.0}, {"whole": np.float64(3)}, {"double": np.longdouble("0.5")}])
def test_cells_that_need_converting_are_counted_once_fast_or_slow(machine, changed):
    counts, slow = counts_of(machine), []
    row = one_row(**changed)
    recorded(counts, 0, lambda row: "x", slow)(row)
    if slow:
        counts.add("predict", "one", read_row(row, SCHEMA), 1, np.array(["x"]), 9)
    found, fields = by_record(counts)
    assert fields["rows"] == 1
    assert found == expected(read_row(row, SCHEMA), {"predict": np.array(["x"])})


class Hostile:
    def __getattribute__(self, name):
        raise RuntimeError("hostile")

    def __hash__(self):
        raise RuntimeError("hostile")

    def __index__(self):
        raise RuntimeError("hostile")

    def __float__(self):
        raise RuntimeError("hostile")

    def __eq__(self, other):
        raise RuntimeError("hostile")


@pytest.mark.parametrize("row", ["hostile", 3, None, "row", {}, [1], one_row(double="1"), one_row(flag=[])])
def test_rows_the_fast_way_does_not_take_go_the_slow_way_and_count_nothing(machine, row):
    counts, slow = counts_of(machine), []
    row = Hostile() if row == "hostile" else row
    assert recorded(counts, 0, lambda row: "x", slow)(row) == "x"
    assert len(slow) == 1
    assert set(counts.take(1.0)) == {0}


@pytest.mark.parametrize("name", ["double", "single", "whole", "flag", "text", "rare"])
def test_hostile_cells_go_the_slow_way_and_count_nothing(machine, name):
    counts, slow = counts_of(machine), []
    recorded(counts, 0, lambda row: "x", slow)(one_row(**{name: Hostile()}))
    assert len(slow) == 1
    assert set(counts.take(1.0)) == {0}


def test_what_the_engine_raises_passes_unchanged(machine):
    counts, failed, error = counts_of(machine), [], InputError("no")

    def refuse(row):
        raise error

    with pytest.raises(InputError) as caught:
        recorded(counts, 0, refuse, failed=failed.append)(one_row())
    assert caught.value is error
    assert failed == [error]
    assert set(counts.take(1.0)) == {0}


# --- latencies, fullness, windows -----------------------------------------------------------------------------------
def test_latencies_fall_into_the_bins_of_a_window(machine):
    assert (counting.FIRST_BITS, counting.LAST_BITS) == (10, 36)
    edges = [0, 1, 511, 512, 767, 768, 1023, 1024, *(2**k + d for k in range(11, 40) for d in (-1, 0, 2 ** (k - 1)))]
    columns, scores = sample(1)
    counts = counts_of(machine, made=None)
    for nanoseconds in edges:
        counts.add("decision_function", "batch", columns, 1, scores["decision_function"], nanoseconds)
    found = counts.take(1.0)[LATENCY["batch"] :][:LATENCY_BINS]
    assert found == np.bincount([latency_bin(n) for n in edges], minlength=LATENCY_BINS).tolist()


def test_enough_rows_are_told(machine):
    counts, told = counts_of(machine, enough=3), []
    one = recorded(counts, 0, lambda row: "x", enough=lambda: told.append(1))
    for _ in range(4):
        one(one_row())
    assert len(told) == 2  # at the third row, and at the fourth: nobody closed the window
    assert counts.take(1.0)[ROWS] == 4
    columns, scores = sample(3)
    assert counts.add("predict", "batch", columns, 3, scores["predict"], 1) is True
    assert counts.take(1.0)[ROWS] == 3


def test_no_row_is_lost_or_counted_twice_while_windows_close(machine):
    """Threads count without pause while another takes as fast as it can."""
    counts, threads, each = counts_of(machine), 6, 300
    columns, scores = sample(7)
    going = threading.Barrier(threads + 1)

    def work():
        one = recorded(counts, 0, lambda row: "x")
        going.wait()
        for _ in range(each):
            one(one_row())
            counts.add("predict", "batch", columns, 7, scores["predict"], 1)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    going.wait()
    taken = [counts.take(1.0)]
    while any(worker.is_alive() for worker in workers):
        taken.append(counts.take(1.0))
    taken.append(counts.take(1.0))
    assert len(taken) > 3
    whole = np.sum(taken, axis=0)
    assert whole[ROWS] == threads * each * 8
    for place, size in ((f.place, len(f.record["counts"])) for f in counts.layout.features):
        assert whole[place : place + size].sum() == threads * each * 8


def test_a_new_buffer_goes_back_to_the_pool_it_is_expected_in(machine):
    """The window may close just when the buffer was made."""
    counts = counts_of(machine)

    class Swapping:
        def __enter__(self):
            pass

        def __exit__(self, *error):
            counts.pool = Pool()

    counts._lock = Swapping()
    pool, _ = counts.fresh()
    assert pool.made == 1
    assert pool is not counts.pool


def test_a_buffer_that_comes_back_late_is_in_the_next_window(machine):
    counts = counts_of(machine)
    columns, scores = sample(5)
    counts.add("predict", "batch", columns, 5, scores["predict"], 1)
    pool = counts.pool
    buffer = pool.pop()  # a call is under way
    assert counts.take(0.01)[ROWS] == 0
    counts.add("predict", "batch", columns, 5, scores["predict"], 1)
    assert counts.take(0.01)[ROWS] == 5
    pool.append(buffer)
    assert counts.take(0.01)[ROWS] == 5
    assert counts._late == []


def test_buffers_that_never_come_back_do_not_pile_up(machine):
    counts = counts_of(machine, made=None)
    columns, scores = sample(1)
    for _ in range(100):
        counts.add("predict", "batch", columns, 1, scores["predict"], 1)
        counts.pool.pop()  # an interrupt between taking a buffer and giving it back
        counts.take(0.0)
    assert len(counts._late) <= 16


def test_forgotten_counts_are_gone(machine):
    counts = counts_of(machine)
    columns, scores = sample(5)
    counts.add("predict", "batch", columns, 5, scores["predict"], 1)
    counts.forget()
    assert set(counts.take(1.0)) == {0}


def test_fields_are_those_of_a_window(machine):
    counts = counts_of(machine)
    columns, scores = sample(500)
    counts.add("predict_proba", "batch", columns, 500, scores["predict_proba"], 10**5)
    window = counts.layout.fields(counts.take(1.0)) | {
        "window_version": 1, "model": {"name": "m", "version": 1, "manifest_sha256": "0" * 64},
        "profile_sha256": PROFILE["sha256"], "process": {"pid": 1, "boot_id": "b"}, "start": 0.0, "end": 1.0,
        "wall": 0.0, "errors": {}, "system": {}, "feedback": None,
    }  # fmt: skip
    check_window(window, PROFILE)
    assert len(counts.layout.fields([0] * counts.layout.size)["features"]) == len(PROFILE["features"])
    assert FIRST_RECORD == 1 + 2 * LATENCY_BINS


def test_a_frame_read_as_rows_is_counted(machine):
    """What ``read_rows`` gives for a list of dicts, missing cells among them."""
    rows = [one_row(), one_row(double=None, text=None), one_row(text=float("nan"), single=None)]
    columns, count = read_rows(rows, SCHEMA)
    counts = counts_of(machine)
    counts.add("predict", "batch", columns, count, np.array(["x"] * 3), 1)
    assert by_record(counts)[0] == expected(columns, {"predict": np.array(["x"] * 3)})

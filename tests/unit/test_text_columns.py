"""String columns that the kernels code where they lie: the same codes as strings looked up one by one."""

from __future__ import annotations

import itertools
import resource
import threading

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from edgeml.errors import ColumnTypeError, ShapeError
from edgeml.runtimes.cells import to_array
from edgeml.runtimes.frames import read_columns, read_rows
from edgeml.runtimes.recording_counts import _TextPlaces
from edgeml.runtimes.text_column import MIN_INTERNED, TextColumn, text_column
from edgeml.runtimes.text_table import TextTable
from edgeml.telemetry.counting import Places
from tests import text_tools
from tests.frame_tools import one
from tests.text_tools import AS_OBJECTS, CONTAINERS, HALF, IN_BUFFERS, KNOWN, cells_of, own, same, words

ROWS = (1, 2, 7, 8, 9, 255, 256, 257, 1000)


@pytest.fixture(scope="module")
def engine():
    return text_tools.engine()


def frame(name, rows, seed=0):
    """Columns in the container ``name``, and a number."""
    make = CONTAINERS[name]
    numbers = np.random.default_rng(seed).normal(size=rows)
    return {n: make(cells) for n, cells in cells_of(rows, seed).items()} | {"e": numbers}


@pytest.mark.parametrize("null", ["none", "nan"])
@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_gives_the_interpreters_answers(engine, name, null):
    for rows in ROWS:
        found = same(engine, frame(name, rows, seed=rows), null)
        if name in IN_BUFFERS:
            assert all(isinstance(found[n], TextColumn) for n in "abcd"), rows


@pytest.mark.parametrize("name", CONTAINERS)
def test_it_can_be_switched_off(engine, name, monkeypatch):
    monkeypatch.setenv("EDGEML_FAST", "-text")
    found = same(engine, frame(name, 300))
    assert not any(isinstance(x, TextColumn) for x in found.values())


def test_without_kernels_columns_are_objects(monkeypatch):
    monkeypatch.setenv("EDGEML_KERNELS", "numpy")
    plain = text_tools.engine()
    assert plain.text_library is None
    same(plain, frame("polars", 300))


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_share_the_rows(threads):
    engine = text_tools.engine(threads)
    for name in ("polars chunked", "arrow chunked dictionary", "pandas str, concatenated", "pandas category"):
        same(engine, frame(name, 5000))


def test_columns_of_many_kinds_and_chunks_meet_in_one_frame(engine):
    rows, cells = 2000, cells_of(2000, seed=5)
    cuts = [0, 1, 1, 130, 256, 700, 701, rows]
    table = {
        "a": pa.chunked_array([cells["a"][i:j] for i, j in itertools.pairwise(cuts)], pa.string()),
        "b": pl.Series(cells["b"]),
        "c": cells["c"],
        "d": pd.Series(cells["d"], dtype="str").astype("category"),
        "e": np.zeros(rows),
    }
    same(engine, table)
    same(engine, table | {"a": own(cells["a"])})


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table, lambda d: pa.table(d).to_batches()[0]])
def test_whole_frames(engine, make):
    cells = cells_of(1200)
    found = same(engine, make({**cells, "e": np.linspace(0, 1, 1200)}))
    assert isinstance(found["a"], TextColumn)
    same(engine, make({**cells, "e": np.linspace(0, 1, 1200)})[5:905])


def test_a_column_of_nothing_but_nulls(engine):
    cells = cells_of(300) | {"a": [None] * 300}
    for name in ("pandas str", "polars", "arrow", "arrow dictionary int8", "pandas category", "objects"):
        same(engine, {n: CONTAINERS[name](c) for n, c in cells.items()} | {"e": np.zeros(300)})
    same(engine, cells | {"a": pa.nulls(300), "e": np.zeros(300)})


def test_nulls_of_a_dictionary_and_of_its_values(engine):
    values = pa.array(["airport 1", None, "x", "unheard of"])
    column = pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 2, 3] * 50, pa.int8()), values)
    same(engine, dict.fromkeys("abcd", column) | {"e": np.zeros(250)})
    same(engine, dict.fromkeys("abcd", column[7:200]) | {"e": np.zeros(193)})


def test_missing_cells_of_every_spelling(engine):
    cells = ["airport 1", None, float("nan"), np.nan, pd.NA, "x", np.str_("x"), HALF] * (MIN_INTERNED // 2)
    numbers = np.zeros(len(cells))
    for null in ("none", "nan"):
        for column in (cells, text_tools.objects(cells), pd.Series(text_tools.objects(cells), dtype=object)):
            same(engine, dict.fromkeys("abcd", column) | {"e": numbers}, null)


# --- objects ------------------------------------------------------------------------------------------------
def test_equal_cells_are_numbered_and_different_ones_are_not(engine):
    assert engine.text_library is not None
    few = text_tools.objects(words(1000))
    assert isinstance(text_column(few, "a", None, engine.text_library), TextColumn)
    assert text_column(few[: MIN_INTERNED - 1], "a", None, engine.text_library) is None
    assert isinstance(text_column(own(words(1000)), "a", None, engine.text_library), TextColumn)
    assert text_column(own([f"{i}" for i in range(1000)]), "a", None, engine.text_library) is None
    assert text_column(text_tools.objects([[]] * 1000), "a", None, engine.text_library) is None
    same(engine, dict.fromkeys("abcd", few) | {"e": np.zeros(1000)})


def test_a_strided_column_of_objects(engine):
    cells = np.stack([text_tools.objects(words(600, seed)) for seed in range(4)], axis=1)
    same(engine, pd.DataFrame(cells, columns=list("abcd")).assign(e=0.0))
    same(engine, {n: cells[::2, at] for at, n in enumerate("abcd")} | {"e": np.zeros(300)})


def test_a_cell_numpy_has_not_filled_is_none():
    # The first array takes a block of memory; numpy.empty leaves None, zeros of memory are NULL.
    cells = np.frombuffer(bytes(8 * 400), dtype=np.int64).view("V8")
    assert cells.shape == (400,)  # an array of NULL objects cannot be made in Python; the kernel is asked directly
    from edgeml.runtimes.kernels import library
    from edgeml.runtimes.text_calls import intern

    found = library.entry()
    assert found is not None
    assert intern(np.zeros(400, dtype=np.int64), found) is None
    numbers, first = intern(np.arange(1, 401) // 100 * 16 + 16, found)
    np.testing.assert_array_equal(numbers, np.arange(1, 401) // 100)
    assert first == [16, 32, 48, 64, 80]


# --- errors -------------------------------------------------------------------------------------------------
WRONG = {
    "a number among objects": text_tools.objects(["a", "b", "a"] * 100 + [7, "a"]),
    "a number in a list": ["a", "b", "a"] * 100 + [7.5, "a"],
    "bytes": text_tools.objects([b"a"] * 400),
    "categories of numbers": pd.Series([1, 2] * 200, dtype="category"),
    "categories of two types": pd.Series([1, "a"] * 200, dtype="category"),
    "a dictionary of numbers": pa.array([1, 2] * 200).dictionary_encode(),
    "binary": pa.array([b"a"] * 400),
    "polars binary": pl.Series([b"a"] * 400),
    "numbers": np.arange(400),
    "arrow numbers": pd.Series([1, 2] * 200, dtype="int64[pyarrow]"),
    "dates": pd.Series(pd.date_range("2020", periods=400)),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_string_is_refused_in_the_same_words(engine, name):
    with pytest.raises(ColumnTypeError) as expected:
        read_rows({"a": WRONG[name]}, one("string"))
    with pytest.raises(ColumnTypeError) as caught:
        read_columns({"a": WRONG[name]}, one("string"), engine.text_library)
    assert str(caught.value) == str(expected.value)


def test_columns_of_two_lengths(engine):
    X = pd.DataFrame({"a": ["x"] * 3})
    with pytest.raises(ShapeError):
        read_columns({"a": pl.Series(["x"]), "b": X["a"]}, one("string"), engine.text_library)


# --- what others see ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", CONTAINERS)
def test_a_text_column_gives_the_cells_that_an_array_has(engine, name):
    X = {"a": CONTAINERS[name](words(400, seed=2))}
    column = read_columns(X, one("string", "none"), engine.text_library)[0]["a"]
    want = read_rows(X, one("string", "none"))[0]["a"]
    assert len(column) == 400
    text_tools.same_bits(column[17:31], want[17:31])
    text_tools.same_bits(column.objects() if isinstance(column, TextColumn) else column, want)
    text_tools.same_bits(column[17:31], want[17:31])


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("name", IN_BUFFERS)
def test_a_window_counts_what_it_counts_of_cells(engine, name, complete):
    record = {"categories": [*KNOWN[::2], HALF], "complete": complete}
    places = Places(record, 7, texts_only=True)
    column = text_column(CONTAINERS[name](words(500, seed=3)), "a", float("nan"), engine.text_library)
    assert column is not None
    found = _TextPlaces(places, engine.text_library).tally(column)
    assert found == places.tally(column.objects().tolist())
    assert sum(found.values()) == 500


# --- strings ------------------------------------------------------------------------------------------------
def test_the_bytes_decide_and_not_a_hash(engine):
    """All strings of up to three letters out of four, most of them unknown."""
    letters = ["".join(c) for n in range(4) for c in np.ndindex(*[4] * n) for c in ["".join("aé\0x"[i] for i in c)]]
    known = letters[::3]
    table = TextTable(known, engine.text_library)
    want = [2 + known.index(w) if w in known else table.unknown for w in letters]
    for column in (pl.Series(letters), pa.array(letters), pa.array(letters, pa.large_string())):
        found = text_column(column, "a", None, engine.text_library)
        assert found is not None
        assert table.codes(found).tolist() == want


def test_a_string_with_the_hash_and_the_ends_of_another_is_not_that(engine):
    """As if two strings met in a slot: what the slot or the pool says is compared, all of it."""
    word = "x" * 24
    column = text_column(pl.Series([word]), "a", None, engine.text_library)
    assert column is not None
    for cell in range(3):
        table = TextTable([word], engine.text_library)
        assert table.codes(column).tolist() == [2]
        at = int(np.flatnonzero(table.slots[2::4] != -1)[0])
        table.slots[4 * at + cell] ^= 1
        assert table.codes(column).tolist() == [3]
    table.slots[4 * at + 2] ^= 1
    table.pool = table.pool.copy()
    for byte in range(8, 16):
        table.pool[byte] ^= 1
        assert table.codes(column).tolist() == [3]
        table.pool[byte] ^= 1
    assert table.codes(column).tolist() == [2]


def test_vocabularies_of_every_size(engine):
    for size in (0, 1, 2, 3, 63, 64, 65, 5000):
        known = [f"word {i}" * (1 + i % 3) for i in range(size)]
        table = TextTable(known, engine.text_library)
        found = text_column(pa.array([*known, "word -1"]), "a", None, engine.text_library)
        assert found is not None
        assert table.codes(found).tolist() == [*range(2, 2 + size), table.unknown]


def test_half_a_character_is_known_to_objects_only(engine):
    table = TextTable(["a", HALF, "b"], engine.text_library)
    found = text_column(pl.Series(["b", "a", "?"]), "a", None, engine.text_library)
    assert found is not None
    assert table.codes(found).tolist() == [4, 2, 5]
    assert table.of_values([HALF, "b", None, float("nan")], None).tolist() == [3, 4, 1, 0]


def test_a_dictionary_of_string_views_as_objects():
    """pyarrow has no cast for one."""
    column = pa.DictionaryArray.from_arrays(pa.array([0, None, 1, 0]), pa.array(["a", None], pa.string_view()))
    assert to_array(column, "a", None).tolist() == ["a", None, None, "a"]


def test_a_huge_string(engine):
    huge = "x" * 100_000_000
    cells = ["x", huge, "xx"]
    for make in (
        pl.Series,
        pa.array,
        lambda c: pa.array(c, pa.large_string()),
        lambda c: pa.array(c, pa.string_view()),
    ):
        found = text_column(make(cells), "a", None, engine.text_library)
        assert found is not None
        codes = TextTable(KNOWN, engine.text_library).codes(found).tolist()
        assert codes == [2 + KNOWN.index("x"), 2 + len(KNOWN), 2 + KNOWN.index("xx")]


# --- many at once -------------------------------------------------------------------------------------------
def test_eight_threads_at_once():
    engine = text_tools.engine(2)
    failures = []

    def work(seed):
        names = list(CONTAINERS)
        try:
            for turn in range(6):
                same(engine, frame(names[(seed * 7 + turn * 5) % len(names)], 600 + seed, seed + turn))
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_no_memory_is_kept(engine):
    def turn(i):
        cells = [f"{i} {k} and so on and so forth" for k in range(5000)]
        for make in (
            pl.Series,
            pa.array,
            lambda c: pa.array(c).dictionary_encode(),
            lambda c: pd.Series(c, dtype="str"),
        ):
            column = make(cells)
            read_columns({"a": column}, one("string"), engine.text_library)

    for i in range(20):
        turn(i)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for i in range(150):
        turn(i)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 20_000  # KB; kept, they would be 400 MB


def test_every_name_is_in_one_list_only():
    assert not IN_BUFFERS.keys() & AS_OBJECTS.keys()

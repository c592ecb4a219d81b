"""Lines joined by Arrow: byte for byte what the csv and json modules write."""

import datetime
import io
import struct

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgeml.cli import results, texts


def written(writer, columns, monkeypatch, way):
    with monkeypatch.context() as patch:
        patch.setenv("EDGEML_FAST", way)
        file = io.BytesIO()
        out = writer(file)
        out.write(columns)
        out.write(columns)
        out.close()
    return file.getvalue()


WRITERS = {
    "csv": results.CsvWriter,
    "tsv": lambda file: results.CsvWriter(file, "\t"),
    "json": results.JsonLinesWriter,
}


def check(columns):
    monkeypatch = pytest.MonkeyPatch()
    for name, writer in WRITERS.items():
        slow = written(writer, columns, monkeypatch, "-stream")
        assert written(writer, columns, monkeypatch, "") == slow, name


BITS = st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack("d", struct.pack("Q", bits))[0])
FLOATS = st.lists(BITS | st.floats() | st.integers(-(2**60), 2**60).map(float) | st.floats(-2e-3, 2e-3), min_size=1)
STRINGS = st.text(st.sampled_from('ab,"\n\r\t\\\x00\x1f\x7fé😀\u2028/ '), max_size=5)


@settings(max_examples=300, deadline=None)
@given(FLOATS)
@example([10.0**e for e in range(-320, 309)] + [-(10.0**e) for e in range(-12, 24)])
@example([np.nextafter(10.0**e, s) for e in range(-12, 24) for s in (0, 1e300)])
@example([0.0, -0.0, float("nan"), float("inf"), -float("inf"), 5e-324, 1.7976931348623157e308])
@example(np.array([0x7FF8000000000001, 0xFFF8000000000000], np.uint64).view(np.float64).tolist())
def test_floats(values):
    array = np.array(values)
    with np.errstate(over="ignore"):
        single = array.astype(np.float32)
    nulls = pa.array(values, mask=np.arange(len(values)) % 2 == 0)
    check({"a": array, "b": single, "c": nulls, "d": np.stack([array, array], axis=1)[:, 1]})


@settings(max_examples=300, deadline=None)
@given(st.lists(STRINGS | st.none(), min_size=1), st.booleans())
def test_strings(values, alone):
    column = pa.array(values, pa.string())
    objects = np.array([*values, None], dtype=object)[:-1]
    check({"a": values} if alone else {'x,"\n': values, "b": column, "c": column.dictionary_encode(), "d": objects})
    check({"a": pa.array(["?", *values], pa.large_string())[1:]})


@pytest.mark.parametrize(
    "column",
    [
        np.array([True, False]),
        np.array([3, -(2**63)]),
        np.array([3, 2**64 - 1], np.uint64),
        np.array([3, 4], np.int8),
        np.array(["a", "b,\udce4"]),
        np.array(["yes", 1], dtype=object),
        np.array([1, 2.0], dtype=object),
        np.array(["a", float("nan")], dtype=object),
        np.array([True, None], dtype=object),
        [1, "a"],
        [None, None],
        [{"a": 1}, [2.5, None]],
        [1.5, 2],
        ["\ud800", "ok"],
        [2**70, 1],
        pa.array([1, None], pa.int32()),
        pa.array([True, None]),
        pa.array([None, None]),
        pa.array([1.5, None], pa.float32()),
        pa.array([datetime.date(2024, 2, 29), None]),
        pa.array([datetime.datetime(2024, 2, 29, 1, 2, 3), None], pa.timestamp("us", "UTC")),
        pa.array([b"a", b"\xff"]),
        pa.array([[1, 2], None]),
        pa.array(["a", "b"], pa.string_view()),
        pa.array([1, None]).dictionary_encode(),
        pa.array([1, 2, 3])[1:],
        pa.array(["x", "a,b", None])[1:],
    ],
    ids=repr,
)
def test_columns_of_every_type(column):
    check({"a": column, "b": ["x", "y"]})
    check({"a": column})


def test_a_pyarrow_of_another_notation_is_not_trusted(monkeypatch):
    monkeypatch.setattr(texts, "_notation_is_known", lambda: False)
    check({"a": np.array([1.0, 1e-5, 1e10, 0.5, np.nan]), "b": pa.array([1.0, None, np.nan, -0.0, np.inf])})


def test_this_pyarrow_is_known():
    assert texts._notation_is_known()


def test_many_bytes_are_joined_in_parts(monkeypatch):
    columns = {"a": np.arange(1000.0), "b": [f"text {i}" for i in range(1000)]}
    whole = b"".join(texts.csv_lines(columns, ","))
    monkeypatch.setattr(texts, "_MOST_BYTES", 1000)
    parts = texts.csv_lines(columns, ",")
    assert len(parts) > 8
    assert b"".join(parts) == whole


def test_parquet_keeps_arrow_types_and_refuses_types_that_change(tmp_path):
    from pyarrow import parquet

    from edgeml.errors import InputError

    kept = pa.array([1, None], pa.int8())
    with results.new_file(tmp_path / "a.parquet") as file:
        out = results.writer(tmp_path / "a.parquet", file)
        out.write({"id": kept, "t": pa.array(["x", "y"]).dictionary_encode(), "p": np.array([0.5, 1.0])})
        out.write({"id": kept, "t": pa.array(["z", "y"]).dictionary_encode(), "p": np.array([0.5, 1.0])})
        out.close()
    table = parquet.read_table(tmp_path / "a.parquet")
    assert table.schema.types == [pa.int8(), pa.dictionary(pa.int32(), pa.string()), pa.float64()]
    assert table["t"].to_pylist() == ["x", "y", "z", "y"]

    def change():
        with results.new_file(tmp_path / "b.parquet") as file:
            out = results.writer(tmp_path / "b.parquet", file)
            try:
                out.write({"id": [1, 2]})
                out.write({"id": [None, 3]})
                out.write({"id": ["x", "y"]})
            finally:
                out.discard()

    with pytest.raises(InputError, match=r"column 'id' is int64 in the first rows and string in later ones"):
        change()
    assert [p.name for p in tmp_path.iterdir()] == ["a.parquet"]

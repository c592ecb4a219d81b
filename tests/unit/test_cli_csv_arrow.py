"""CSV through Arrow: the cells, rows, numbers and mistakes that Python's csv module and cells.py find, in any block."""

import csv
import io

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgeml.cli import batches, csv_blocks
from edgeml.cli.batches import Reader
from edgeml.errors import InputError
from edgeml.schema import Column, Schema

SCHEMA = Schema(
    "columns",
    (
        Column("f", "float64"),
        Column("i", "int64"),
        Column("b", "bool"),
        Column("s", "string", null="none"),
        Column("g", "float32"),
        Column("u", "any", used=False),
    ),
)
FLOATS = [
    "1.5", "", "NA", " nan ", "NaN", "-nan", "nan(1)", "NAN(abc)", "inf", "-Infinity", "+iNf", "infin", "1e999",
    "-1e400", "1e-400", "5e-324", "2.2250738585072011e-308", "0.1", "0.30000000000000004", "9007199254740993", "1e23",
    "-0", "-0.0", "+1", "++1", "+-1", "1.", ".5", ".", "1e", "1e+", "1_0", "0x10", "1d5", "007", "1,5", "٣", "\xa01",
    "1\x0b", "\x1c2", "\t3 ", "4\x00", "null", "None", "<na>", "#N/A", "n/a", "K", "1.7976931348623159e308",
    "0" * 400 + "1", "123456789012345678901234567890.123456789012345678901234567890", "8.5e-46", "3.4e38", "1e39",
]  # fmt: skip
INTS = [
    "1", "-1", "+7", "007", "0x1F", "0X1f", "3.0", "3.5", "1e3", "1e30", "", "NA", "nan", "inf", " 5\t", "-0", "-0.0",
    "\xa06", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809",
    "9007199254740993.0", "9007199254740993", "00000000000000000000012", "1_0", "+", "-", "٣", "0x", "1e15",
    "9223372036854775807.0",
]  # fmt: skip
BOOLS = ["true", "False", "TRUE", "tRuE", "0", "1", " 1 ", "", "yes", "2", "1.0", "t", "true\xa0", "NA", "01", "null"]
STRINGS = [
    "Bern",
    "",
    "NA",
    "null",
    " a ",
    "a\tb",
    "Zürich",
    "😀",
    "x" * 40,
    "0x1",
    "nan(",
    "'",
    "\x00",
    "\ufeff",
    "\u2028",
]
TEXTS = st.text(st.sampled_from('ab,"\n\r 0.\té'), max_size=6)
CELLS = st.tuples(
    st.sampled_from(FLOATS),
    st.sampled_from(INTS),
    st.sampled_from(BOOLS),
    st.sampled_from(STRINGS) | TEXTS,
    st.sampled_from(FLOATS),
    st.sampled_from(STRINGS) | TEXTS,
)
GOOD = st.tuples(
    st.floats().map(repr) | st.sampled_from(["", "NA", " 1 ", "+1"]),
    st.integers(-(2**63), 2**63 - 1).map(str) | st.sampled_from(["3.0", "+4", " 5"]),
    st.sampled_from(["true", "FALSE", "1", "0"]),
    st.sampled_from(STRINGS) | TEXTS,
    st.floats(width=32).map(repr),
    TEXTS,
)


@st.composite
def files(draw, rows):
    """Bytes of a CSV file: rows as csv.writer quotes them, with something broken here and there."""
    end = draw(st.sampled_from(["\n", "\r\n"]))
    broken = draw(st.booleans())
    text = io.StringIO(newline="")
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    out = csv.writer(text, lineterminator=end, quoting=quoting)
    out.writerow(SCHEMA.names)
    for row in draw(st.lists(rows, max_size=12)):
        damage = draw(st.integers(0, 12)) if broken else -1
        if damage == 0:
            text.write(draw(st.sampled_from(["", end, "\r", '"', '"a"b', ",", "é", "a\r"])) + end)
        out.writerow(row[:-1] if damage == 1 else (*row, "") if damage == 2 else row)
        if damage == 3:
            text.write(",".join(row) + end)  # not quoted at all
        if damage == 4:
            text.write(end)  # a blank line is no row
    whole = text.getvalue()
    whole = whole.removesuffix(end) if draw(st.booleans()) else whole
    data = whole.encode()
    if broken and draw(st.integers(0, 20)) == 0:
        data += b"\xff"
    return data


def outcome(path, way, monkeypatch, block=64, **options):
    """Every row read one by one as (number, inputs, kept), and the error that ended it."""
    with monkeypatch.context() as patch:
        patch.setenv("EDGEML_FAST", "" if way == "fast" else "-stream")
        patch.setattr(batches, "_SMALL_BYTES", 16)  # the header, also with a BOM
        patch.setattr(batches, "_BLOCK_BYTES", (block, block))
        found, error = [], None
        try:
            for rows in Reader(path, SCHEMA, batch_rows=1, **options):
                inputs = {n: cell(c) for n, c in rows.inputs.items() if n != "u"}
                found.append(
                    (rows.first, rows.rows, list(rows.inputs), inputs, {n: cell(c) for n, c in rows.kept.items()})
                )
        except InputError as problem:
            error = (type(problem), problem.cause.partition(" at byte ")[0], problem.remedy)
    return found, error


def cell(column):
    """The type and the bits of a column's one cell."""
    value = column.to_pylist()[0] if hasattr(column, "to_pylist") else column[0]
    if hasattr(column, "type") and value is None and str(column.type) == "double":
        value = float("nan")
    if isinstance(column, np.ndarray) and column.dtype.kind != "O":
        kind, value = str(column.dtype), value.item()
    else:
        kind = {float: "float64", int: "int64", bool: "bool"}.get(type(value), "object")
    return kind, "nan" if value != value else repr(value)


@settings(max_examples=400, deadline=None)
@given(st.one_of(files(CELLS), files(GOOD)), st.sampled_from([(), ("s", "u"), ("f", "i", "b", "g")]))
@example(b"f,i,b,s,g,u\n0x1,0x1F,1,a,1,\n", ())
@example(b'f,i,b,s,g,u\n1,1,1,"a\nb",1,"c\n\nd"\n1,1,1,"a""b",1,""\n', ("s", "u"))
@example(b'f,i,b,s,g,u\n1,1,1,a"b,1,\n1,1,1,"a\n",1,\n', ())
@example(b"f,i,b,s,g,u\n1,1,1,a,1,\n1,1,1,\xff,1,\n", ())
@example(b"f,i,b,s,g,u\n1,1,1,a,1,\n1,1,1,a,1,\xed\xa0\x80\n", ())
@example(b"f,i,b,s,g,u\n" + b"\n" * 200 + b"1,1,1,a,1,\n", ())
@example(b"f,i,b,s,g,u\rn1,1,1,a,1,\r", ())
@example(b"f,i,b,s,g,u\n" + b"1,1,1,a,1,\n" * 9 + b'1,1,1,"a,1,\n' + b"1,1,1,a,1,\n" * 9, ())
@example(b"\xef\xbb\xbff,i,b,s,g,u\n1,1,1,\xef\xbb\xbfa,1,\n", ())
def test_files_read_as_by_the_csv_module(tmp_path_factory, data, keep):
    path = tmp_path_factory.mktemp("csv") / "rows.csv"
    path.write_bytes(data)
    monkeypatch = pytest.MonkeyPatch()
    slow = outcome(path, "slow", monkeypatch, keep=keep)
    for block in (64, 1 << 20):
        found, error = outcome(path, "fast", monkeypatch, block, keep=keep)
        if is_text(data):
            assert (found, error) == slow
        else:  # how much is decoded, and refused, at a time is not the same
            assert error is not None
            assert slow[1] is not None


def is_text(data):
    try:
        return bool(data.decode()) or not data
    except UnicodeDecodeError:
        return False


@pytest.mark.parametrize(("name", "cells"), [("f", FLOATS), ("g", FLOATS), ("i", INTS), ("b", BOOLS), ("s", STRINGS)])
def test_each_cell_reads_as_by_cells_py(tmp_path, monkeypatch, name, cells):
    good = {"f": "1", "i": "1", "b": "1", "s": "a", "g": "1", "u": "?"}
    for text in cells:
        with (tmp_path / "rows.csv").open("w", newline="", encoding="utf-8") as file:
            out = csv.DictWriter(file, SCHEMA.names)
            out.writeheader()
            out.writerows([good, good | {name: text}, good])
        slow = outcome(tmp_path / "rows.csv", "slow", monkeypatch)
        for block in (64, 1 << 20):
            assert outcome(tmp_path / "rows.csv", "fast", monkeypatch, block) == slow, text


def test_good_blocks_take_the_fast_way(tmp_path, monkeypatch):
    from edgeml.cli import data

    path = tmp_path / "rows.csv"
    path.write_bytes(b"f,i,b,s,g,u\n" + b'1,1,1,"a\n\n\n\n\n\n\n\n\n""b""",NA,?\n\n0.1,3.0,TRUE,,+1,x\r\n' * 50)
    monkeypatch.setattr(batches, "_SMALL_BYTES", 64)
    expected = outcome(path, "slow", monkeypatch)
    monkeypatch.setattr(data, "csv_rows", None)
    monkeypatch.setattr(batches, "csv_rows", None)  # neither is asked
    for block in range(128, 256, 9):  # a block may end anywhere, within quotes too
        assert outcome(path, "fast", monkeypatch, block) == expected


def test_numbers_are_rounded_correctly(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2**64, 20_000, dtype=np.uint64).view(np.float64)
    texts = [f"{v:.{digits}e}" for v, digits in zip(values, rng.integers(0, 25, len(values)), strict=True) if v == v]
    path = tmp_path / "rows.csv"
    path.write_text("f\n" + "\n".join(texts))
    (rows,) = Reader(path, Schema("columns", (Column("f", "float64"),)), batch_rows=1 << 20)
    got = rows.inputs["f"].to_numpy(zero_copy_only=False)
    np.testing.assert_array_equal(got.view(np.int64), np.array(list(map(float, texts))).view(np.int64))


def test_one_column_has_rows_of_one_empty_cell(tmp_path, monkeypatch):
    path = tmp_path / "rows.csv"
    path.write_bytes(b"f\n1\n\n2\r\n\r\n" + b"3\n" * 40)
    schema = Schema("columns", (Column("f", "float64"),))
    monkeypatch.setattr(batches, "_SMALL_BYTES", 4)
    for way in ("", "-stream"):
        monkeypatch.setenv("EDGEML_FAST", way)
        (rows,) = Reader(path, schema, batch_rows=1000)
        column = rows.inputs["f"]
        column = column.to_numpy(zero_copy_only=False) if hasattr(column, "to_numpy") else column
        np.testing.assert_array_equal(column, [1, np.nan, 2, np.nan] + [3] * 40)


@settings(max_examples=300, deadline=None)
@given(st.binary().map(lambda b: bytes(b'ab,"\n\r'[x % 6] for x in b)), st.integers(1, 40))
def test_blocks_end_where_rows_end(data, size):
    parts = list(csv_blocks.blocks(io.BytesIO(data), b"", size, ","))
    rest = parts.pop().data if parts and isinstance(parts[-1], csv_blocks.Rest) else b""
    whole = b"".join(parts)
    assert (whole + rest) == data[: len(whole) + len(rest)], "nothing is lost or changed"

    def rows(text):
        return list(csv.reader(io.StringIO(text.decode(), newline=""), strict=True))

    one_by_one = [row for part in parts for row in rows(part)]  # each block is sound in itself
    assert one_by_one == rows(whole)


def test_a_field_over_the_limit_is_named_with_its_line(tmp_path, monkeypatch):
    path = tmp_path / "rows.csv"
    path.write_text("f,i,b,s,g,u\n" + "1,1,1,a,1,\n" * 7 + f"1,1,1,{'x' * 140_000},1,\n")
    for block in (64, 1 << 20):
        for way in ("fast", "slow"):
            found, error = outcome(path, way, monkeypatch, block)
            assert len(found) == 7
            assert error[1] == f"{path} line 9: field larger than field limit (131072)"

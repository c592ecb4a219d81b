"""Arrow's C data interface: what exporters hand over, what odd ones do, and that memory is given back once."""

from __future__ import annotations

import ctypes
import gc

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from edgeml.runtimes import arrow
from edgeml.runtimes.frames import read_columns
from edgeml.runtimes.kernels import library
from edgeml.runtimes.text_column import _of_arrow, text_column
from edgeml.runtimes.text_table import TextTable
from tests.frame_tools import one

KNOWN = ("a", "b", "", "a string of many bytes", "c")
UNKNOWN = 2 + len(KNOWN)


@pytest.fixture(scope="module")
def found():
    kernels = library.entry()
    assert kernels is not None
    return kernels


def codes(column, kernels, null=None):
    read = text_column(column, "a", null, kernels)
    assert read is not None
    return TextTable(KNOWN, kernels).codes(read).tolist()


def raw(kind, rows, *buffers, offset=0, nulls=-1):
    """An array of pyarrow over bytes that nobody has checked."""
    parts = [None if b is None else pa.py_buffer(np.ascontiguousarray(b)) for b in buffers]
    return pa.Array.from_buffers(kind, rows, parts, null_count=nulls, offset=offset)


# --- odd buffers --------------------------------------------------------------------------------------------
def test_offsets_that_begin_somewhere(found):
    offsets = np.array([3, 4, 5, 5], dtype=np.int32)
    assert codes(raw(pa.string(), 3, None, offsets, np.frombuffer(b"zzzab", np.uint8)), found) == [2, 3, 4]


def test_offsets_that_go_back(found):
    """No string is shorter than nothing: an unknown one, and no byte is read."""
    offsets = np.array([0, 1, -5, 1, 2], dtype=np.int32)
    assert codes(raw(pa.string(), 4, None, offsets, np.frombuffer(b"ab" * 8, np.uint8)), found)[0] == 2
    assert codes(raw(pa.string(), 4, None, offsets, np.frombuffer(b"ab" * 8, np.uint8)), found)[1] == UNKNOWN


@pytest.mark.parametrize("offset", range(10))
def test_bitmaps_at_every_offset(found, offset):
    cells = ["a", None, "b", None, None, "", "c", None, "a", "b", None] * 3
    want = [1 if c is None else 2 + KNOWN.index(c) for c in cells]
    for kind in (pa.string(), pa.large_string(), pa.string_view()):
        assert codes(pa.array(cells, kind)[offset:], found) == want[offset:]
    assert codes(pa.array(cells).dictionary_encode()[offset:], found) == want[offset:]
    assert codes(pl.Series(cells)[offset:], found) == want[offset:]
    assert codes(pa.array(cells)[offset:], found, float("nan")) == [0 if c == 1 else c for c in want[offset:]]


def test_bytes_that_are_no_unicode_are_unknown(found):
    offsets = np.array([0, 1, 2, 5], dtype=np.int32)
    data = np.frombuffer(b"a\xff\xed\xa0\x80", np.uint8)  # the last three: half a character
    assert codes(raw(pa.string(), 3, None, offsets, data), found) == [2, UNKNOWN, UNKNOWN]


def test_a_view_under_a_null_may_say_anything(found):
    views = np.array([[1, ord("a"), 0, 0], [2**31 - 1, 1, 2**30, -7], [22, 7, 9, 2**31 - 1]], dtype=np.int32)
    valid = np.array([1], dtype=np.uint8)
    assert codes(raw(pa.string_view(), 3, valid, views), found) == [2, 1, 1]


def test_an_index_that_points_nowhere_is_missing(found):
    for kind, index in ((np.int8, pa.int8()), (np.int16, pa.int16()), (np.int32, pa.int32())):
        indices = raw(index, 5, None, np.array([0, -1, 1, 2, np.iinfo(kind).max], dtype=kind))
        array = pa.DictionaryArray.from_arrays(indices, pa.array(["a", "b"]), safe=False)
        assert codes(array, found) == [2, 1, 3, 1, 1]


def test_a_dictionary_of_many_strings(found):
    words = [f"w{i}" for i in range(300)] + ["a"]
    for index in (pa.int16(), pa.uint16(), pa.int32(), pa.uint32()):
        array = pa.DictionaryArray.from_arrays(pa.array([300, 0, 299, None, 300], index), pa.array(words))
        assert codes(array, found) == [2, UNKNOWN, UNKNOWN, 1, 2]


def test_bytes_at_the_end_of_a_page_are_not_passed(found):
    """The last string ends where memory that may be read ends."""
    import mmap

    page = mmap.PAGESIZE
    memory = mmap.mmap(-1, 2 * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mprotect(ctypes.c_void_p(start + page), ctypes.c_size_t(page), 0) == 0
    try:
        for words in (("b", "a"), ("a string of many bytes",), ("", "c", ""), ("zzzzzzz",)):
            text = "".join(words).encode()
            ctypes.memmove(start + page - len(text), text, len(text))
            data = pa.foreign_buffer(start + page - len(text), len(text))
            offsets = pa.py_buffer(np.cumsum([0, *map(len, words)]).astype(np.int32))
            array = pa.Array.from_buffers(pa.string(), len(words), [None, offsets, data])
            assert codes(array, found) == [2 + KNOWN.index(w) if w in KNOWN else UNKNOWN for w in words]
    finally:
        libc.mprotect(ctypes.c_void_p(start + page), ctypes.c_size_t(page), 3)


# --- exporters ----------------------------------------------------------------------------------------------
class Exporter:
    """An Arrow stream made by hand that counts what is given back. ``fails`` is the function that refuses; without
    ``data`` there is no buffer of bytes.
    """

    def __init__(self, batches, fails="", data=True):
        self.data = data
        self.released = {"schema": 0, "array": 0, "stream": 0}
        self.batches, self.fails, self.keep, self.at = batches, fails, [], 0

    def _release(self, what, kind):
        @ctypes.CFUNCTYPE(None, ctypes.POINTER(kind))
        def release(struct):
            assert struct.contents.release, "released twice"
            ctypes.memset(ctypes.addressof(struct.contents) + kind.release.offset, 0, kind.release.size)
            self.released[what] += 1

        self.keep.append(release)
        return release

    def _get_schema(self, stream, out):
        if self.fails == "get_schema":
            return 5
        out[0].format, out[0].release = b"u", self._release("schema", arrow._Schema)
        return 0

    def _get_next(self, stream, out):
        if self.fails == "get_next" and self.at:
            return 5
        if self.at == len(self.batches):
            out[0].release = type(out[0].release)()
            return 0
        cells = self.batches[self.at]
        self.at += 1
        offsets = (ctypes.c_int32 * (len(cells) + 1))(*np.cumsum([0, *map(len, cells)]).tolist())
        data = ctypes.create_string_buffer("".join(cells).encode() + b"_")
        buffers = (ctypes.c_void_p * 3)(None, ctypes.addressof(offsets), ctypes.addressof(data) if self.data else None)
        self.keep += [offsets, data, buffers]
        array = out[0]
        array.length, array.null_count, array.n_buffers = len(cells), 0, 3
        array.buffers = ctypes.cast(buffers, ctypes.POINTER(ctypes.c_void_p))
        array.release = self._release("array", arrow._Array)
        return 0

    def __arrow_c_stream__(self, requested_schema=None):
        stream = arrow._Stream()
        types = dict(arrow._Stream._fields_)
        stream.get_schema = types["get_schema"](self._get_schema)
        stream.get_next = types["get_next"](self._get_next)
        stream.release = self._release("stream", arrow._Stream)
        self.keep.append(stream)
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
        return new(ctypes.addressof(stream), b"arrow_array_stream", None)


def test_a_stream_is_given_back_once(found):
    exporter = Exporter([["a", "x"], [], ["b"]])
    read = _of_arrow(exporter, None, lambda rows: np.empty(0))
    assert read is not None
    assert exporter.released["array"] == 1  # the empty one: nobody needs it
    assert TextTable(KNOWN, found).codes(read).tolist() == [2, UNKNOWN, 3]
    assert exporter.released["array"] == 1
    del read
    gc.collect()
    assert exporter.released == {"schema": 1, "array": 3, "stream": 0}  # the stream is its capsule's


@pytest.mark.parametrize("fails", ["get_schema", "get_next"])
def test_a_stream_that_fails_is_read_otherwise(fails):
    exporter = Exporter([["a"], ["b"]], fails)
    assert _of_arrow(exporter, None, lambda rows: np.empty(0)) is None
    gc.collect()
    assert exporter.released["array"] == (0 if fails == "get_schema" else 1)


def test_no_bytes_at_all(found):
    empty = _of_arrow(Exporter([["", "", ""]], data=False), None, lambda rows: np.empty(0))
    assert empty is not None
    assert TextTable(KNOWN, found).codes(empty).tolist() == [4, 4, 4]
    assert _of_arrow(Exporter([["", "a"]], data=False), None, lambda rows: np.empty(0)) is None


def test_memory_lives_as_long_as_the_column(found):
    """The column alone keeps the buffers of frames that are gone."""
    read = [text_column(pl.Series([f"{i} and some more bytes", "a"]), "a", None, found) for i in range(200)]
    read += [text_column(pa.array([f"{i} and some more bytes", "a"]), "a", None, found) for i in range(200)]
    gc.collect()
    fill = [b"x" * 64 for _ in range(10_000)]
    table = TextTable([f"{i} and some more bytes" for i in range(200)] + ["a"], found)
    for at, column in enumerate(read):
        assert column is not None
        assert table.codes(column).tolist() == [2 + at % 200, 202]
    assert fill


def test_no_arrow_library_is_imported():
    import subprocess
    import sys

    code = "import sys, edgeml.runtimes.text_column; print(sorted({'pyarrow', 'pandas', 'polars'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_types_that_hold_no_strings_are_left_to_others(found):
    for array in (
        pa.array([1, 2]),
        pa.array([[1]]),
        pa.array([b"a"]),
        pa.array([1, 2]).dictionary_encode(),
        pa.nulls(3),
        pl.Series([1.0]),
        pl.Series([["a"]]),
    ):
        assert text_column(array, "a", None, found) is None


def test_no_rows():
    columns = {"a": pa.chunked_array([pa.array([], pa.string())])}
    with pytest.raises(Exception, match="there are no rows"):
        read_columns(columns, one("string"), library.entry())

"""What bundles are made of: raw arrays and JSON, there and back. Hostile ones: tests/attacks."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgeml import errors
from edgeml.bundle.arrays import pack, unpack
from edgeml.ir.serial import ARRAY_DTYPES
from edgeml.jsonutil import MAX_JSON_DEPTH, dumps, loads


@pytest.mark.parametrize("dtype", ARRAY_DTYPES)
def test_array_round_trip(dtype):
    rng = np.random.default_rng(0)
    given = [rng.integers(0, 2, shape).astype(dtype) for shape in [(7,), (), (0,), (2, 3, 4), (0, 5), (1,), (64,)]]
    index, blob = pack(given)
    for entry in index:
        assert entry["offset"] % 64 == 0
    for array, back in zip(given, unpack(json.loads(json.dumps(index)), memoryview(blob)), strict=True):
        assert back.dtype == array.dtype
        assert back.shape == array.shape
        assert not back.flags.writeable
        np.testing.assert_array_equal(back, array)


def test_array_bits_are_kept():
    odd = np.array([np.nan, -0.0, np.inf, -np.inf, 5e-324, 1.7976931348623157e308])
    odd[0] = np.frombuffer(b"\x01\0\0\0\0\0\xf8\x7f")[0]
    index, blob = pack([odd])
    assert unpack(index, blob)[0].tobytes() == odd.tobytes()


def test_arrays_of_any_layout_become_little_endian_c_order():
    base = np.arange(12, dtype=">i4").reshape(3, 4)
    index, blob = pack([base, base.T, base[::2, ::-1]])
    assert [e["dtype"] for e in index] == ["int32"] * 3
    for got, want in zip(unpack(index, blob), [base, base.T, base[::2, ::-1]], strict=True):
        np.testing.assert_array_equal(got, want)
    assert blob[:4] == b"\0\0\0\0"
    assert blob[4:8] == b"\1\0\0\0"


def test_views_are_not_copies():
    index, blob = pack([np.arange(5.0), np.arange(3)])
    whole = np.frombuffer(blob, np.uint8)
    assert all(np.shares_memory(a, whole) for a in unpack(index, blob))


@pytest.mark.parametrize(
    "array",
    [
        np.array(["a"]),
        np.array([None], dtype=object),
        np.array([1j]),
        np.array([0], dtype="M8[s]"),
        np.zeros(2, dtype=[("a", "f8")]),
        np.zeros((1,) * 9),
    ],
    ids=lambda a: f"{a.dtype}-{a.ndim}",
)
def test_arrays_that_cannot_be_stored(array):
    with pytest.raises(errors.ArrayError, match="array 1"):
        pack([np.zeros(1), array])


# --- JSON ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        {"b": [1, 2.5, -0.0, True, None], "a": {"é😀": "\ud800 \x00"}},
        [],
        "",
        2**63,
        -(2**63),
        5e-324,
        0.1 + 0.2,
    ],
)
def test_json_round_trip(value):
    data = dumps(value)
    assert data.isascii()
    assert data.endswith(b"\n")
    back = loads(data, "member")
    assert back == value
    assert dumps(back) == data


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"x", np.float64(1).reshape(1), {(1,): 2}])
def test_json_refuses(value):
    with pytest.raises(errors.JSONError):
        dumps(value)


def test_json_depth_limit_is_exact():
    inside, beyond = (b"[" * n + b"]" * n for n in (MAX_JSON_DEPTH, MAX_JSON_DEPTH + 1))
    loads(inside, "member")
    with pytest.raises(errors.JSONLimitError):
        loads(beyond, "member")
    assert loads(b'["' + b"[" * 99 + b'"]', "member") == ["[" * 99]


def test_json_size_limit_is_exact():
    assert loads(b"[1]", "member", limit=3) == [1]
    with pytest.raises(errors.JSONLimitError, match="member: 3 bytes"):
        loads(b"[1]", "member", limit=2)


@pytest.mark.parametrize("data", [b'"' + b'\\"' * 10**6, b'"' * 10**6, b'"' + b'\\"' * 10**6 + b"\\"])
def test_json_scan_is_linear(data):
    """Quadratic time would be some 10 minutes here."""
    with pytest.raises(errors.JSONError):
        loads(data, "member")

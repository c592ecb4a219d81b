"""Hostile indexes of arrays: each is refused by ArrayError before a view is made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeml import errors
from edgeml.bundle.arrays import unpack
from tests.attacks.tools import COMMON, JSON


def entry(dtype: Any = "float64", shape: Any = (2,), offset: Any = 0) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape) if isinstance(shape, tuple) else shape, "offset": offset}


BLOB = np.arange(2.0).tobytes()

ARRAY_ATTACKS = [
    ("index is no list", {}, BLOB),
    ("entry is no object", [[]], BLOB),
    ("field missing", [{"dtype": "float64", "shape": [2]}], BLOB),
    ("field too many", [entry() | {"order": "F"}], BLOB),
    ("object dtype", [entry("object")], BLOB),
    ("void dtype", [entry("V8")], BLOB),
    ("string dtype", [entry("<U4")], BLOB),
    ("big-endian", [entry(">f8")], BLOB),
    ("dtype is a list", [entry([["a", "f8"]])], BLOB),
    ("negative axis", [entry(shape=(-2,))], BLOB),
    ("two negative axes", [entry(shape=(-1, -2))], BLOB),
    ("axis is a float", [entry(shape=[2.0])], BLOB),
    ("axis is true", [entry(shape=[True, 2])], BLOB),
    ("shape is a number", [entry(shape=2)], BLOB),
    ("a thousand million elements", [entry(shape=(10**9,))], BLOB),
    ("product wraps to a few bytes", [entry(shape=(2**32, 2**32))], BLOB),
    ("empty, but beyond 64 bits", [entry(shape=(0, 2**62, 2**62))], b""),
    ("nine axes", [entry(shape=(1,) * 9)], BLOB),
    ("one element too many", [entry(shape=(3,))], BLOB),
    ("bytes left over", [entry(shape=(1,))], BLOB),
    ("offset beyond", [entry(offset=10**18)], BLOB),
    ("offset negative", [entry(offset=-16)], BLOB),
    ("offset misaligned", [entry(shape=(1,), offset=8)], BLOB),
    ("offset is a float", [entry(offset=0.0)], BLOB),
    ("overlap", [entry(), entry()], BLOB),
    ("gap", [entry(), entry(offset=128)], BLOB + bytes(128)),
    ("padding holds data", [entry(), entry(offset=64)], BLOB + b"\1" * 48 + BLOB),
    ("bool of 2", [entry("bool", (3,))], b"\0\1\2"),
    ("no entries for the bytes", [], BLOB),
    ("too many arrays", [entry("int8", (0,))] * 100_001, b""),
]


@pytest.mark.parametrize(("index", "blob"), [a[1:] for a in ARRAY_ATTACKS], ids=[a[0] for a in ARRAY_ATTACKS])
def test_arrays(index, blob):
    with pytest.raises(errors.ArrayError):
        unpack(index, memoryview(blob))


@COMMON
@given(value=JSON, field=st.sampled_from(["dtype", "shape", "offset", None]))
def test_any_array_index(value, field):
    index = value if field is None else [entry() | {field: value}]
    try:
        arrays = unpack(index, BLOB)
    except errors.ArrayError:
        return
    assert sum(a.nbytes for a in arrays) == len(BLOB)

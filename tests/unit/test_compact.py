"""Arrays in few bytes: every bit comes back, and recipes that make no sense are refused by name."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgeml.errors import ArrayError
from edgeml.ir.compact import restore, shrink
from edgeml.schema import Column, Schema
from edgeml.targets.base import About

ABOUT = About("m", 1, Schema("columns", (Column("x", "float64"),)))


# --- arrays in fewer bytes ----------------------------------------------------------------------------------
ARRAYS = [
    np.arange(300, dtype=np.int64) + 5,
    np.full((4, 70), -3, dtype=np.int32),
    np.array([0, 1, 1, 255], dtype=np.int64),
    np.array([-1, 2**40], dtype=np.int64),
    np.arange(1000, dtype=np.int32) + (np.arange(1000) % 3),
    np.array([0.5, -0.0, np.inf, np.nan]),
    np.array([1 / 3, 5e-324]),
    np.array([[0.1, 0.2]], dtype=np.float32),
    np.array([0.0, -0.0]),
    np.zeros((0, 8), dtype=np.uint32),
    np.array([2**63 + 1, 2**64 - 1], dtype=np.uint64),
    np.array([3, 0, 200], dtype=np.uint64),
    np.array([[1, 0, 2]], dtype=np.uint32),
    np.array([True, True, True]),
    np.array([-(2**63), 2**63 - 1], dtype=np.int64),
    np.array([0.0, 7.0, 65535.0]),
    np.array([-1.0, 127.0], dtype=np.float32),
    np.array([0.0, -0.0, 3.0]),
    np.array([1.0, np.nan, np.inf, 2.0**31]),
]


def test_arrays_come_back_bit_for_bit():
    recipes, stored = shrink(ARRAYS, {})
    for before, after in zip(ARRAYS, restore(json.loads(json.dumps(recipes)), stored), strict=True):
        assert (before.dtype, before.shape) == (after.dtype, after.shape)
        assert before.tobytes() == after.tobytes()
    assert len({a.dtype for a in stored}) == len(stored)
    assert sum(a.nbytes for a in stored) < sum(a.nbytes for a in ARRAYS) / 5


def odd(bits, dtype):
    """Floats by their bits, for NaNs that differ."""
    return np.array(bits, dtype=f"uint{np.dtype(dtype).itemsize * 8}").view(dtype)


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.array([0.0, 0.5, 512.5]), "float16"),
        (np.array([0.5, -0.0, np.inf, -np.inf, np.nan], dtype=np.float32), "float16"),
        (np.array([65504.0, 2.0**-24, 0.5]), "float16"),
        (np.array([65520.0, 0.5]), "float32"),
        (np.array([2.0**-25, 0.5]), "float32"),
        (np.array([2049.0, 0.5], dtype=np.float32), "float32"),
        (odd([0x7FF8000000000000, 0x3FE0000000000000], np.float64), "float16"),
        (odd([0x7FF8000000000001, 0x3FE0000000000000], np.float64), "float64"),
        (odd([0xFFF8000000000000, 0x3FE0000000000000], np.float64), "float16"),
        (odd([0x7FC00001, 0x3F000000], np.float32), "float32"),
        (np.array([-128.0, 127.0]), "int8"),
        (np.array([0.0, 255.0]), "uint8"),
        (np.array([-129.0, 127.0]), "int16"),
        (np.array([0.0, 65535.0]), "uint16"),
        (np.array([-0.0, 127.0]), "float16"),
        (np.array([[-5, 7]], dtype=np.int8), "int8"),
        (np.array([[-500, 700]], dtype=np.int16), "int16"),
        (np.array([[0.5, 700]], dtype=np.float16), "float16"),
    ],
)
def test_the_narrowest_dtype_that_gives_every_bit_back(array, dtype):
    recipes, stored = shrink([array], {})
    assert [a.dtype.name for a in stored] == [dtype]
    (after,) = restore(recipes, stored)
    assert (after.dtype, after.shape, after.tobytes()) == (array.dtype, array.shape, array.tobytes())


@pytest.mark.parametrize("count", [1, 2, 255, 256, 257])
def test_few_different_numbers_are_stored_once(count):
    rng = np.random.default_rng(count)
    colours = np.append(rng.normal(size=count - 1), -0.0)
    colours[: count // 200] = np.nan
    array = colours[rng.integers(0, count, (40, 70))]
    recipes, stored = shrink([array], {})
    assert sum(a.nbytes for a in stored) <= 8 * count + array.size * (1 if count <= 256 else 2)
    assert restore(recipes, stored)[0].tobytes() == array.tobytes()


@pytest.mark.parametrize("size", [17, 24, 25, 1000])
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64"])
def test_zeros_and_ones_are_stored_as_bits(size, dtype):
    array = (np.random.default_rng(size).random(size) < 0.5).astype(dtype)
    recipes, stored = shrink([array], {})
    assert stored[0].nbytes == -(-size // 8)
    assert restore(recipes, stored)[0].tobytes() == array.tobytes()


TREE = {  # two trees, the second one leaf
    "feature": np.array([3, -1, 0, -1, -1, -1], dtype=np.int32),
    "roots": np.array([0, 5], dtype=np.int32),
    "left": np.array([1, 0, 3, 2, 1, 3], dtype=np.int32),
    "right": np.array([2, 0, 4, 0, 0, 0], dtype=np.int32),
    "node": np.array([0.25, 1 / 3, 7.0, -0.0, np.nan, 2.0]),
}


def test_trees_in_preorder_come_back_bit_for_bit():
    recipes, stored = shrink(list(TREE.values()), {at: (name, 0) for at, name in enumerate(TREE)})
    for before, after in zip(TREE.values(), restore(json.loads(json.dumps(recipes)), stored), strict=True):
        assert before.dtype == after.dtype
        assert before.tobytes() == after.tobytes()
    # Columns, which are leaves, rows of leaf values, float16 of splits and float64 of leaves.
    assert sum(a.nbytes for a in stored) == 2 + 6 + 4 + 2 * 2 + 4 * 8


INTS = [np.array([1, 2, 3], dtype=np.int64)]
BYTES = [np.array([1, 2, 3], dtype=np.uint8)]


@pytest.mark.parametrize(
    ("recipe", "stored"),
    [
        (["int64", [2**40], "repeat", 1], []),
        (["int64", [2**40], "count", 1], []),
        (["bool", [2**40], "bits"], []),
        (["int64", [0, 2**40, 2**40], "repeat", 1], []),
        (["int64", [-3], "repeat", 1], []),
        (["int64", [3.0], "repeat", 1], []),
        (["int64", [True], "repeat", 1], []),
        (["int64", 3, "repeat", 1], []),
        (["int64", [1] * 100, "repeat", 1], []),
        (["int64", [3], "repeat"], []),
        (["int64", [3], "repeat", 0.5], []),
        (["int64", [3], "repeat", "1"], []),
        (["int64", [3], "repeat", None], []),
        (["int64", [3], "repeat", [1]], []),
        (["int8", [3], "repeat", 128], []),
        (["float32", [3], "repeat", 0.1], []),
        (["float64", [3], "count", 1.0], []),
        (["uint64", [3], "count", 1], []),
        (["object", [3]], INTS),
        (["int64"], INTS),
        ([], INTS),
        (["int64", [4]], INTS),
        (["int64", [2]], INTS),
        (["int64", [3], "int8"], INTS),
        (["int32", [3], "int64"], INTS),
        (["int64", [3], "int64", 1], INTS),
        (["int64", [3], "guess"], INTS),
        (["int64", [3], ["int64"]], INTS),
        (["int64", [0]], INTS),
        (["float64", [3], "int64"], INTS),
        (["uint8", [20], "bits"], BYTES),
        (["float64", [24], "bits"], BYTES),
        (["uint8", [3], "palette", "uint8", 0, "uint8"], BYTES),
        (["uint8", [1], "palette", "uint8", 2, "uint8"], BYTES),
        (["uint8", [2], "palette", "uint8", 1, "uint8"], BYTES),
        (["uint8", [4], "palette", "uint8", -1, "uint8"], BYTES),
        (["uint8", [2], "palette", "uint8", 1.0, "uint8"], BYTES),
        (["int64", [1], "palette", "int64", 2, "int64"], [np.array([1, 2, 0])]),
        (["int64", [3]], [np.array([[1, 2, 3]])]),
        (["int64", [3]], [np.array([1, 2]), np.array([3])]),
        ({"by": 0, "is": "roots"}, []),
        ({"inner": ["int32", [0]]}, []),
        ({"inner": ["int32", [0]], "leaf": ["bool", [0]]}, []),
        ({"inner": ["int32", [0]], "leaf": ["uint8", [2], "repeat", 1]}, []),
        ({"inner": ["int32", [0]], "leaf": ["bool", [2], "repeat", False]}, []),
        ({"inner": ["int32", [2], "repeat", 0], "leaf": ["bool", [2], "repeat", True]}, []),
        (7, []),
        ("repeat", []),
        (None, []),
    ],
)
def test_recipes_that_make_no_sense(recipe, stored):
    follow = {"by": 0, "is": "roots"}
    with pytest.raises(ArrayError, match=r"array [01]"):
        restore([recipe, follow], stored)


@pytest.mark.parametrize("recipes", [None, {}, 5, "x"])
def test_recipes_that_are_no_list(recipes):
    with pytest.raises(ArrayError, match="must be a list"):
        restore(recipes, [])


@pytest.mark.parametrize(
    ("at", "recipe"),
    [
        (1, {"by": 1, "is": "roots"}),
        (1, {"by": -1, "is": "roots"}),
        (1, {"by": [0], "is": "roots"}),
        (1, {"by": 0, "is": "rooms"}),
        (1, {"by": 0, "is": "roots", "leaf": ["int32", [4], "count", 0]}),
        (1, {"by": 0}),
        (2, {"by": 0, "is": "left"}),
        (2, {"by": 0, "is": "left", "leaf": ["int32", [3], "count", 0]}),
        (2, {"by": 0, "is": "left", "leaf": ["int64", [4], "count", 0]}),
        (2, {"by": 0, "is": "left", "leaf": ["int32", [4], "count", 0], "inner": ["int32", [2], "count", 0]}),
        (4, {"by": 0, "inner": ["float64", [3], "repeat", 0.0], "leaf": ["float64", [4], "repeat", 0.0]}),
        (4, {"by": 0, "inner": ["float64", [2], "repeat", 0.0], "leaf": ["float64", [3], "repeat", 0.0]}),
        (4, {"by": 0, "inner": ["float64", [2], "repeat", 0.0], "leaf": ["float32", [4], "repeat", 0.0]}),
        (4, {"by": 0, "inner": ["float64", [2, 1], "repeat", 0.0], "leaf": ["float64", [4], "repeat", 0.0]}),
        (0, {"inner": ["int32", [3], "repeat", 0], "leaf": ["bool", [6], "repeat", True]}),
        (0, {"inner": ["int32", [3], "repeat", 0], "leaf": ["bool", [6], "repeat", False]}),
    ],
)
def test_recipes_of_trees_that_make_no_sense(at, recipe):
    """Legal recipes with one of them spoilt; nothing is stored, so that only the recipe can be at fault."""
    recipes = [
        {"inner": ["int32", [0], "repeat", 0], "leaf": ["bool", [4], "repeat", True]},
        {"by": 0, "is": "roots"},
        {"by": 0, "is": "left", "leaf": ["int32", [4], "count", 0]},
        {"by": 0, "is": "right"},
        {"by": 0, "inner": ["float64", [0], "repeat", 0.0], "leaf": ["float64", [4], "repeat", 0.0]},
    ]
    assert [a.tolist() for a in restore(recipes, [])] == [[-1] * 4, [0, 1, 2, 3], [0, 1, 2, 3], [0] * 4, [0.0] * 4]
    recipes[at] = recipe
    with pytest.raises(ArrayError, match="array"):
        restore(recipes, [])

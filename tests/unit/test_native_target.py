"""The native artifact: strings rewritten to codes, arrays stored short, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgeml.bundle.arrays import unpack
from edgeml.errors import ArrayError, FormatError, ProgramError
from edgeml.ir import Builder
from edgeml.ir.coded import code_strings, tables_from_json, tables_to_json
from edgeml.ir.compact import restore, shrink
from edgeml.ir.serial import load
from edgeml.schema import Column, Schema
from edgeml.targets import native
from edgeml.targets.base import About
from tests.unit.test_kernels import random_trees

ABOUT = About("m", 1, Schema("columns", (Column("x", "float64"),)))


def text_program():
    b = Builder()
    x, y = b.input("x", "string"), b.input("y", "string")
    b.output("predict", [b.take(b.lookup(x, ("a", "b")) + 1, ("?", "no", "yes"))], "vector", "<U3")
    b.output("transform", [b.where(b.is_nan(y), "b", y)], "matrix", "|O")
    return b.finish()


def test_strings_become_codes():
    coded = code_strings(text_program())
    assert coded.vocabulary == ("a", "b", "?", "no", "yes")
    assert {i.type.dtype for i in coded.program.inputs} == {"int64"}
    assert all(n.type.dtype != "string" for n in coded.program.nodes)
    assert coded.text_outputs == {"predict": (True,), "transform": (True,)}
    # What transform gives back must keep strings apart that the program does not know; predict does not care.
    assert coded.text_inputs == {"x": False, "y": True}


def test_columns_that_are_compared_keep_unknown_strings_apart():
    b = Builder()
    x, y, z = (b.input(name, "string") for name in "xyz")
    b.output("transform", [b.concat([x == y, z == "a"])], "matrix", "bool")
    assert code_strings(b.finish()).text_inputs == {"x": True, "y": True, "z": False}


def test_an_onnx_graph_is_refused_with_the_step():
    b = Builder()
    with b.step("clf"):
        x = b.input("x", "float64")
        model = np.zeros(3, dtype=np.uint8)
        b.output("predict", [b.op("OnnxGraph", x, model=model, output="y", width=1, dtype="float64")], "vector", "<f8")
    with pytest.raises(FormatError, match="step clf was converted by skl2onnx"):
        native.lower(b.finish(), ABOUT)


def test_an_op_on_characters_is_refused_with_the_step(monkeypatch):
    from edgeml.ir import coded

    monkeypatch.delitem(coded._RULES, "Lookup")
    with pytest.raises(FormatError, match=r"Lookup .* works on the characters of strings"):
        native.lower(text_program(), ABOUT)


# --- tables of strings --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "spoil",
    [
        {"vocabulary": ["a", "a"]},
        {"vocabulary": [1]},
        {"vocabulary": None},
        {"text_inputs": {"nobody": True}},
        {"text_inputs": {"x": 1}},
        {"text_outputs": {}},
        {"text_outputs": {"predict": [True], "transform": [1]}},
        {"text_outputs": {"predict": [], "transform": [True]}},
    ],
)
def test_malformed_tables_are_refused(spoil):
    coded = code_strings(text_program())
    tables = json.loads(json.dumps(tables_to_json(coded)))
    assert tables_from_json(coded.program, tables) == coded
    with pytest.raises(ProgramError):
        tables_from_json(coded.program, tables | spoil)


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
    assert sum(a.nbytes for a in stored) < sum(a.nbytes for a in ARRAYS) / 5


def test_split_arrays_come_back_bit_for_bit():
    feature = np.array([3, -1, 0, -1, -1], dtype=np.int32)
    arrays = [np.array([0.25, 1 / 3, 7.0, -0.0, np.nan]), feature, np.array([1, 0, 3, 1, 2], dtype=np.int32)]
    recipes, stored = shrink(arrays, {0: 1, 2: 1})
    for before, after in zip(arrays, restore(recipes, stored), strict=True):
        assert before.dtype == after.dtype
        assert before.tobytes() == after.tobytes()


@pytest.mark.parametrize(
    ("recipe", "array"),
    [
        ({"how": "repeat", "dtype": "int64", "at": 0, "shape": [2**40]}, [1]),
        ({"how": "count", "dtype": "int64", "at": 0, "shape": [2**40]}, [1]),
        ({"how": "repeat", "dtype": "int64", "at": 0, "shape": [-1]}, [1]),
        ({"how": "repeat", "dtype": "int64", "at": 0, "shape": [3]}, [1, 2]),
        ({"how": "repeat", "dtype": "int64", "at": 0}, [1]),
        ({"how": "same", "dtype": "object", "at": 0}, [1]),
        ({"how": "same", "dtype": "int8", "at": 0}, [1]),
        ({"how": "same", "dtype": "int64", "at": 1}, [1]),
        ({"how": "same", "dtype": "int64", "at": -1}, [1]),
        ({"how": "distance", "dtype": "int64", "at": 0}, [0.5]),
        ({"how": "guess", "dtype": "int64", "at": 0}, [1]),
        ({"how": "split", "dtype": "int64", "by": 5, "parts": []}, [1]),
        ({"dtype": "int64"}, [1]),
        (7, [1]),
    ],
)
def test_recipes_that_make_no_sense(recipe, array):
    with pytest.raises(ArrayError, match="array 0"):
        restore([recipe], [np.array(array)])


def test_a_split_must_fit_its_parts():
    part = {"how": "same", "dtype": "int64", "at": 0}
    recipes = [{"how": "split", "dtype": "int64", "by": 1, "parts": [part, part]}, part]
    with pytest.raises(ArrayError, match="places"):
        restore(recipes, [np.array([1, 2])])


# --- trees --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("categorical", [False, True])
def test_stored_trees_send_every_value_the_same_way(dtype, categorical):
    from edgeml.ir import interpreter

    attrs = random_trees(9, 4, seed=3, categorical=categorical)
    b = Builder()
    b.output("leaves", [b.op("TreeLeaves", b.input("x", dtype, 4), **attrs)], "matrix", "int64")
    program = b.finish()
    members = native.lower(program, ABOUT)
    member = json.loads(members[native.PROGRAM])
    again = load(member["program"], restore(member["recipes"], unpack(member["arrays"], members[native.ARRAYS])))
    with np.errstate(all="ignore"):
        cuts = np.unique(attrs["threshold"][np.isfinite(attrs["threshold"])]).astype(dtype)
        edges = [cuts, np.nextafter(cuts, dtype_inf(dtype)), np.nextafter(cuts, -dtype_inf(dtype)), [np.nan, 3.0]]
    pool = np.concatenate(edges).astype(dtype)
    x = pool[np.random.default_rng(0).integers(0, len(pool), (2000, 4))]
    before, after = (interpreter.run(p, {"x": x})["leaves"] for p in (program, again))
    np.testing.assert_array_equal(before, after)


def dtype_inf(dtype):
    return np.array(np.inf, dtype=dtype)


def test_a_forest_is_stored_in_few_bytes():
    attrs = random_trees(60, 20, seed=1, depth=9)
    attrs["category_set"][:] = -1
    b = Builder()
    b.output("predict", [b.op("TreeEnsemble", b.input("x", "float32", 20), **attrs)], "vector", "<f8")
    members = native.lower(b.finish(), ABOUT)
    nodes, leaves = len(attrs["feature"]), len(attrs["leaf_values"])
    # A leaf value of 8 bytes; a feature, half a threshold and the right child of a split.
    assert len(members[native.ARRAYS]) < 8 * leaves + 7 * nodes

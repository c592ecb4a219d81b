"""The native artifact: strings rewritten to codes, arrays stored short, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgeml.bundle.arrays import unpack
from edgeml.errors import ArrayError, FormatError, ManifestError, ProgramError
from edgeml.ir import Builder
from edgeml.ir.coded import code_strings, tables_from_json, tables_to_json
from edgeml.ir.compact import restore, shrink
from edgeml.ir.serial import load
from edgeml.ir.spec import check
from edgeml.runtimes.native import read_program
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
        {"text_outputs": {"score": [True]}},
        {"text_outputs": {"predict": [True, False]}},
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


ODD = [
    None, True, False, 0, 1, -1, 2, 3, 7, 2**31, 2**62, -(2**63), 10**19, 0.5, -0.0, 1e308, "", "x", "float64", "int8",
    "bool", "repeat", "count", "bits", "palette", "roots", "left", "Concat", "TreeEnsemble", [], [0], [[]], {},
    {"nan": True}, {"by": 0}, {"by": 3, "is": "left"}, ["int64", [3], "repeat", 1], ["float64", [2**40], "repeat", 1.0],
]  # fmt: skip


def spots(value, way=()):
    """Every place in JSON, by the keys that lead there."""
    for key in range(len(value)) if isinstance(value, list) else sorted(value) if isinstance(value, dict) else ():
        yield (*way, key)
        yield from spots(value[key], (*way, key))


def forest_and_text():
    b = Builder()
    town, x = b.input("town", "string"), b.input("x", "float32", 3)
    known = b.one_hot(b.lookup(town, ("a", "b", None)), 3, "float32")
    attrs = random_trees(4, 6, seed=2, outputs=2, depth=4, categorical=True)
    scores = b.op("TreeEnsemble", b.concat([x, known]), **attrs)
    b.output("predict", [b.take(b.argmax(scores), ("no", "yes"))], "vector", "<U3")
    b.output("predict_proba", [scores], "matrix", "<f8")
    return b.finish()


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_changed_is_refused_by_name_or_legal(seed):
    """One to three places of program.json changed or removed at random: no other error, and no program unchecked."""
    members = native.lower(forest_and_text(), ABOUT)
    rng = np.random.default_rng(seed)
    refused = 0
    for _ in range(700):
        member = json.loads(members[native.PROGRAM])
        for _ in range(rng.integers(1, 4)):
            ways = list(spots(member))
            *way, last = ways[rng.integers(len(ways))]
            place = member
            for key in way:
                place = place[key]
            if rng.random() < 0.2:
                del place[last]
            else:
                place[last] = ODD[rng.integers(len(ODD))]
        try:
            coded = read_member(member, members[native.ARRAYS])
        except (ArrayError, ProgramError, ManifestError):
            refused += 1
        else:
            check(coded.program)
    assert refused > 400


def read_member(member, arrays):
    """What the engine reads, by the engine's own reader."""

    class Held:
        json, member = staticmethod(lambda _: member), staticmethod(lambda _: arrays)

    return read_program(Held, native.PROGRAM, native.ARRAYS)


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


def stored_trees(attrs, dtype="float32", columns=20, width=1):
    """Bytes of the arrays of one ensemble, and the ensemble as it is read back."""
    b = Builder()
    x = b.input("x", dtype, columns)
    b.output("predict", [b.op("TreeEnsemble", x, **attrs)], "matrix", "<f8")
    members = native.lower(b.finish(), ABOUT)
    member = json.loads(members[native.PROGRAM])
    again = load(member["program"], restore(member["recipes"], unpack(member["arrays"], members[native.ARRAYS])))
    return sum(e["shape"][0] * np.dtype(e["dtype"]).itemsize for e in member["arrays"]), again.nodes[0].attrs


@pytest.mark.parametrize(("outputs", "dtype"), [(1, "float64"), (3, "float64"), (1, "int8"), (5, "int8"), (3, "uint8")])
def test_a_forest_is_stored_in_few_bytes(outputs, dtype):
    """A column, a threshold of float32 for a split, a bit a node, and the leaf values in their own dtype."""
    attrs = random_trees(60, 20, seed=1, depth=9, outputs=outputs)
    attrs["category_set"][:] = -1
    attrs["missing_left"][:] = 0
    attrs["base"][:] = 0
    attrs["categories"] = attrs["categories"][:0]
    attrs["threshold"] = np.random.default_rng(0).normal(size=len(attrs["threshold"]))
    leaves = attrs["leaf_values"]
    if dtype != "float64":
        ends = np.iinfo(dtype)
        leaves = np.random.default_rng(0).integers(ends.min, ends.max, leaves.shape, endpoint=True).astype(float)
        attrs["leaf_values"] = leaves
    size, again = stored_trees(attrs)
    nodes, splits = len(attrs["feature"]), int((attrs["feature"] >= 0).sum())
    assert size <= leaves.size * np.dtype(dtype).itemsize + 5 * splits + nodes / 8 + 1
    order = np.argsort(again["left"][again["feature"] < 0])
    assert (order == np.arange(len(leaves))).all()
    assert sorted(map(tuple, again["leaf_values"])) == sorted(map(tuple, leaves))


def test_nodes_that_no_tree_reaches_are_not_stored():
    attrs = random_trees(3, 4, seed=1)
    with_more = {
        k: np.append(v, v[-1:]) for k, v in attrs.items() if k in ("threshold", "missing_left", "category_set")
    }
    with_more |= {k: np.append(attrs[k], np.int32(v)) for k, v in (("feature", -1), ("left", 0), ("right", 0))}
    size, again = stored_trees(attrs | with_more, columns=4)
    assert len(again["feature"]) == len(attrs["feature"])
    assert size == stored_trees(attrs, columns=4)[0]


def test_trees_that_share_a_node_keep_their_nodes():
    i32 = lambda *v: np.array(v, dtype=np.int32)  # noqa: E731
    attrs = random_trees(1, 2, seed=0, depth=1) | {
        "roots": i32(0, 0, 1), "feature": i32(0, 0, 1, -1, -1), "threshold": np.array([0.0, -1.0, 1.0, 0.0, 0.0]),
        "left": i32(1, 2, 3, 1, 0), "right": i32(2, 4, 4, 0, 0), "missing_left": i32(0, 1, 0, 0, 0).astype(np.uint8),
        "category_set": i32(-1, -1, -1, -1, -1), "leaf_values": np.array([[2.0], [3.0]]),
    }  # fmt: skip
    _, again = stored_trees(attrs, columns=2)
    for name in ("roots", "feature", "right", "missing_left"):
        np.testing.assert_array_equal(again[name], attrs[name])

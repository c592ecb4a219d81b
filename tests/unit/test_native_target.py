"""The native artifact: strings rewritten to codes, arrays stored short, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgeml.bundle.arrays import unpack
from edgeml.errors import ArrayError, FormatError, ManifestError, ProgramError
from edgeml.ir import Builder
from edgeml.ir.coded import code_strings, tables_from_json, tables_to_json
from edgeml.ir.compact import restore
from edgeml.ir.serial import load
from edgeml.ir.spec import check
from edgeml.runtimes.native import read_program
from edgeml.schema import Column, Schema
from edgeml.targets import native
from edgeml.targets.base import About
from tests.kernel_tools import random_trees

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

    def i32(*v):
        return np.array(v, dtype=np.int32)

    attrs = random_trees(1, 2, seed=0, depth=1) | {
        "roots": i32(0, 0, 1), "feature": i32(0, 0, 1, -1, -1), "threshold": np.array([0.0, -1.0, 1.0, 0.0, 0.0]),
        "left": i32(1, 2, 3, 1, 0), "right": i32(2, 4, 4, 0, 0), "missing_left": i32(0, 1, 0, 0, 0).astype(np.uint8),
        "category_set": i32(-1, -1, -1, -1, -1), "leaf_values": np.array([[2.0], [3.0]]),
    }  # fmt: skip
    _, again = stored_trees(attrs, columns=2)
    for name in ("roots", "feature", "right", "missing_left"):
        np.testing.assert_array_equal(again[name], attrs[name])

"""quantize="lossless": the same answers to the bit, from fewer bytes a node."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

import edgeml
from edgeml import errors
from edgeml.bundle.arrays import unpack
from edgeml.ir import Builder
from edgeml.ir.compact import restore, stored_bytes
from edgeml.ir.serial import load
from edgeml.passes.infrastructure import same_bits
from edgeml.passes.lossless import MAX_EDGES, SHARE_LEAVES, float32_at_most, lossless
from edgeml.quantize import program_for
from edgeml.runtimes.kernels import forest, library
from edgeml.runtimes.native_code import KernelExecutor, NumpyExecutor
from edgeml.schema import Column, Schema
from edgeml.targets import native
from edgeml.targets.base import About
from tests.kernel_tools import one_row, random_trees

ABOUT = About("m", 1, Schema("columns", (Column("x", "float64"),)))


def program_of(attrs, dtype="float64", width=4):
    b = Builder()
    x = b.input("x", dtype, width)
    values = [b.op("TreeEnsemble", x, **attrs).cast("float64"), b.op("TreeLeaves", x, **attrs).cast("float64")]
    b.output("y", values, "matrix", "<f8")
    return b.finish()


def rows_for(attrs, dtype, width, rows=700, seed=0):
    """Cells on every threshold and one float beside it, NaN, infinities, and codes of categories."""
    cuts = np.unique(attrs["threshold"][np.isfinite(attrs["threshold"])])
    with np.errstate(all="ignore"):
        cuts = cuts.astype(dtype)
        up, down = (np.nextafter(cuts, np.array(side, dtype=dtype)) for side in (np.inf, -np.inf))
    odd = np.array([np.nan, np.inf, -np.inf, -0.0, 255.0, 255.5, 256.0, -1.0, 3.0, 17.0], dtype=dtype)
    pool = np.concatenate([cuts, up, down, np.repeat(odd, 1 + len(cuts) // 8)])
    return pool[np.random.default_rng(seed).integers(0, len(pool), (rows, width))]


def stored(program):
    """The program as the native artifact gives it back, and the bytes of its arrays."""
    members = native.lower(program, ABOUT)
    member = json.loads(members[native.PROGRAM])
    arrays = restore(member["recipes"], unpack(member["arrays"], members[native.ARRAYS]))
    return load(member["program"], arrays), len(members[native.ARRAYS])


def assert_same_answers(program, after, x):
    expected = NumpyExecutor(program).run({"x": x}, len(x), ("y",))["y"]
    executor = KernelExecutor(after, library.entry(), 1)
    for found in (NumpyExecutor(after).run({"x": x}, len(x), ("y",))["y"], executor.run({"x": x}, len(x), ("y",))["y"]):
        assert all(same_bits(np.ascontiguousarray(a), b) for a, b in zip(expected, found, strict=True))
    one = one_row(executor)
    for row in range(0, len(x), 37):
        for want, got in zip(expected, one({"x": x[row]}), strict=True):
            assert same_bits(np.ascontiguousarray(want[row]), got)


def ops(program):
    return [node.op for node in program.nodes]


def tree_attrs(program):
    (node,) = (n for n in program.nodes if n.op == "TreeEnsemble")
    return node.attrs


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("options", [{}, {"outputs": 3}, {"outputs": 3, "shared": True}, {"categorical": True}])
@pytest.mark.parametrize("seed", range(3))
def test_bits_of_random_ensembles(dtype, options, seed):
    attrs = random_trees(11, 4, seed=seed, **options)
    program = program_of(attrs, dtype)
    after, _ = stored(lossless(program))
    assert "Rank" in ops(after)
    assert all(forest.ranks(n.attrs).whole for n in after.nodes if n.op.startswith("Tree"))
    assert_same_answers(program, after, rows_for(attrs, dtype, 4))


def chain(thresholds, dtype="float64"):
    """One tree a threshold, over one column."""
    count = len(thresholds)
    split, node = np.tile([True, False, False], count), np.arange(3 * count)
    i32 = lambda array: np.asarray(array, dtype=np.int32)  # noqa: E731  # one line instead of a helper
    leaf = np.cumsum(~split) - 1
    return {
        "roots": i32(node[split]), "feature": i32(np.where(split, 0, -1)),
        "threshold": np.where(split, np.repeat(thresholds, 3), 0.0), "left": i32(np.where(split, node + 1, leaf)),
        "right": i32(np.where(split, node + 2, 0)), "missing_left": np.tile([1, 0, 0], count).astype(np.uint8),
        "category_set": i32(np.full(3 * count, -1)), "categories": np.empty((0, 8), dtype=np.uint32),
        "leaf_values": np.where(np.arange(2 * count) % 2, 2.0**-20, 1.0)[:, None], "target": i32([]),
        "base": np.zeros(1),
    }  # fmt: skip


@pytest.mark.parametrize("count", [1, 254, 255, 256, 300])
def test_many_thresholds_of_a_column(count):
    thresholds = np.random.default_rng(count).permutation(np.cumsum(np.random.default_rng(0).random(count)))
    program = program_of(chain(thresholds), width=1)
    after = lossless(program)
    assert "Rank" in ops(after)
    assert_same_answers(program, after, rows_for({"threshold": thresholds}, "float64", 1, rows=90))


def wide_tree(thresholds):
    """One balanced tree over the sorted thresholds of one column."""
    nodes, leaves = [], []

    def grow(low, high):
        here = len(nodes)
        nodes.append(None)
        if low == high:
            leaves.append(0.5 * low)
            nodes[here] = (-1, 0.0, len(leaves) - 1, 0)
            return here
        middle = (low + high) // 2
        left, right = grow(low, middle), grow(middle + 1, high)
        nodes[here] = (0, thresholds[middle], left, right)
        return here

    grow(0, len(thresholds))
    feature, threshold, left, right = map(np.array, zip(*nodes, strict=True))
    attrs = chain(thresholds[:1])
    return attrs | {
        "roots": np.zeros(1, dtype=np.int32), "feature": feature.astype(np.int32), "threshold": threshold,
        "left": left.astype(np.int32), "right": right.astype(np.int32),
        "missing_left": np.zeros(len(nodes), dtype=np.uint8), "category_set": np.full(len(nodes), -1, dtype=np.int32),
        "leaf_values": np.array(leaves)[:, None],
    }  # fmt: skip


@pytest.mark.parametrize(("count", "ranked"), [(MAX_EDGES, True), (MAX_EDGES + 1, False), (70_000, False)])
def test_ranks_take_16_bits_at_most(count, ranked):
    thresholds = np.cumsum(np.random.default_rng(0).random(count) + 1e-9)
    program = program_of(wide_tree(thresholds), width=1)
    after = lossless(program)
    assert ("Rank" in ops(after)) == ranked
    x = rows_for({"threshold": np.append(thresholds[-40:], thresholds[:40])}, "float64", 1, rows=90)
    assert_same_answers(program, after, x)


def test_many_sets_of_categories_stay_as_they_are():
    attrs = random_trees(60, 4, seed=5, categorical=True)
    attrs["category_set"] = np.where(attrs["feature"] >= 0, np.arange(len(attrs["feature"])), -1).astype(np.int32)
    attrs["categories"] = np.random.default_rng(0).integers(0, 2**32, (len(attrs["feature"]), 8), dtype=np.uint32)
    program = program_of(attrs)
    after = lossless(program)
    assert "Rank" not in ops(after)
    assert_same_answers(program, after, rows_for(attrs, "float64", 4))


def test_trees_of_one_leaf():
    attrs = chain(np.arange(3.0)) | {"roots": np.array([1, 2, 4], dtype=np.int32)}
    program = program_of(attrs, width=2)
    assert_same_answers(program, lossless(program), rows_for(attrs, "float64", 2, rows=20))


def test_thresholds_round_down():
    thresholds = np.array([0.1, -0.1, 1e300, -1e300, 1.5, 5e-324, -5e-324, -np.inf])
    rounded = float32_at_most(thresholds)
    assert (rounded <= thresholds).all()
    with np.errstate(over="ignore"):
        after = np.nextafter(rounded.astype(np.float32), np.float32(np.inf))
    assert (after.astype(float) > thresholds).all()


# --- leaves -------------------------------------------------------------------------------------------------
def test_equal_leaves_become_one_bit_for_bit():
    attrs = chain(np.arange(50.0))
    attrs["leaf_values"] = np.tile([[0.0, 1 / 3], [-0.0, 1 / 3], [1.5, 1 / 3], [np.nan, 1 / 3]], (25, 1))
    attrs["base"] = np.zeros(2)
    program = program_of(attrs, width=1)
    after, changed = SHARE_LEAVES.run(program)
    assert changed
    assert len(tree_attrs(after)["leaf_values"]) == 4
    x = np.linspace(-3, 60, 64)[:, None]
    assert_same_answers(program, after, x)


def test_leaves_that_differ_are_left_alone():
    attrs = chain(np.arange(5.0))
    attrs["leaf_values"] = np.arange(10.0)[:, None]
    program = program_of(attrs, width=1)
    assert SHARE_LEAVES.run(program) == (program, False)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("different", [2, 40, 200, 1000])
@pytest.mark.parametrize("whole", [True, False])
def test_leaves_are_shared_only_where_that_is_shorter(k, different, whole):
    rng = np.random.default_rng(different)
    attrs = chain(rng.permutation(np.arange(600.0)))
    rows = rng.integers(-128, 128, (different, k)).astype(float) + (0 if whole else 1 / 3)
    attrs["leaf_values"] = rows[rng.integers(0, different, len(attrs["leaf_values"]))]
    attrs["base"] = np.zeros(k)
    b = Builder()
    b.output("y", [b.op("TreeEnsemble", b.input("x", "float64"), **attrs)], "matrix", "<f8")
    program = b.finish()
    after, changed = SHARE_LEAVES.run(program)
    before, size = stored(program)[1], stored(after)[1]
    assert size <= before
    assert changed == (size < before)
    # A single value costs no more than the number of a shared leaf, unless that is one bit.
    assert changed == ((k == 3 and different < 1000) or different == 2)
    x = np.linspace(-3, 600, 90)[:, None]
    expected, found = (NumpyExecutor(p).run({"x": x}, len(x), ("y",))["y"][0] for p in (program, after))
    assert same_bits(expected, found)


# --- the artifact -------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return RandomForestClassifier(100, max_depth=8, random_state=0).fit(X, y), X, y


def test_a_forest_on_digits(digits, tmp_path):
    forest, X, _ = digits
    bundles = {
        how: edgeml.compile(forest, X, output=tmp_path / f"{how}.edgeml", formats=["native"], quantize=how)
        for how in ("none", "lossless")
    }
    bundle = bundles["lossless"]
    assert bundle.manifest["quantize"] == "lossless"
    sizes = {how: len(b.member(native.ARRAYS)) for how, b in bundles.items()}
    member = bundle.json(native.PROGRAM)
    program = load(
        member["program"], restore(member["recipes"], unpack(member["arrays"], bundle.member(native.ARRAYS)))
    )
    attrs = tree_attrs(program)
    nodes = sum(tree.tree_.node_count for tree in forest.estimators_)
    # 2.2 bytes a node and the leaf values, which are few different numbers; 4.7 in all.
    assert sizes["lossless"] - stored_bytes(attrs["leaf_values"]) <= 2.5 * nodes
    assert sizes["lossless"] <= 5 * nodes
    assert sizes["lossless"] < sizes["none"] / 2
    plain, quantised = (edgeml.load(b.path, engine="native") for b in bundles.values())
    noisy = X + np.random.default_rng(0).normal(size=X.shape)
    assert same_bits(plain.predict_proba(noisy), quantised.predict_proba(noisy))
    assert same_bits(plain.predict(noisy), quantised.predict(noisy))
    assert same_bits(plain.predict_proba_one(noisy[0].tolist()), quantised.predict_proba_one(noisy[0].tolist()))


def test_a_pipeline_without_trees_is_the_same(digits, tmp_path):
    _, X, y = digits
    model = LogisticRegression(max_iter=50).fit(X[:, :9] / 16, y > 4)
    none, lossless = (
        edgeml.compile(model, X[:, :9] / 16, output=tmp_path / f"{how}.edgeml", formats=["native"], quantize=how)
        for how in ("none", "lossless")
    )
    for member in (native.PROGRAM, native.ARRAYS):
        assert bytes(none.member(member)) == bytes(lossless.member(member))


def test_only_native_is_quantised():
    program = program_of(random_trees(3, 4, seed=1))
    assert program_for("onnx", program, "lossless") is program
    assert program_for("native", program, "none") is program
    assert "Rank" in ops(program_for("native", program, "lossless"))


@pytest.mark.parametrize("quantize", ["int7", "", None])
def test_other_values_are_refused_by_name(digits, tmp_path, quantize):
    forest, X, _ = digits
    with pytest.raises(errors.CompileError, match=f"quantize={quantize!r} is not") as found:
        edgeml.compile(forest, X, output=tmp_path / "m.edgeml", quantize=quantize)
    assert "none, lossless" in str(found.value)
    assert not list(tmp_path.iterdir())

"""Trees of a batch in all their forms (bit vectors, walks over codes, walks row by row) against the interpreter, on
cells that stand on thresholds, beside them and at the ends of float64, with and without the fast way.
"""

from __future__ import annotations

import numpy as np
import pytest

from edgeml.ir import Builder
from edgeml.runtimes.kernels import forest, library, tree_bits
from edgeml.runtimes.kernels.encode import plan_blocks
from edgeml.runtimes.kernels.registry import load_all
from edgeml.runtimes.native_code import KernelExecutor, NumpyExecutor
from tests.kernel_tools import one_row, random_trees, same_bits
from tests.tree_rows import around_thresholds, with_cells

EXTREMES = (0.0, -0.0, np.nan, np.inf, -np.inf, 5e-324, 3e38, 0.5, 63.0, 64.0, 255.0, 255.5, 256.0, -0.5, 65535.0, 7e4)


@pytest.fixture(scope="module")
def kernels():
    found = library.entry()
    assert found is not None
    return found


def program_of(attrs, width, dtype="float64", op="TreeEnsemble"):
    builder = Builder()
    builder.output("y", [builder.op(op, builder.input("x0", dtype, width), **attrs)], "matrix", "float64")
    return builder.finish()


def awkward_rows(attrs, width, dtype, seed=0, most=300):
    X = np.random.default_rng(seed).normal(size=(50, width)).astype(dtype)
    with np.errstate(over="ignore"):  # a threshold beyond float32 has infinity for a neighbour there
        near = around_thresholds(X, attrs["feature"], attrs["threshold"], seed=seed, most=most)
    return np.concatenate([X, near, with_cells(X, EXTREMES)])


def kernel_names(executor):
    """The kernels that a batch runs, in order."""
    plan = plan_blocks(executor.program, ("y",), executor.constants)
    names, at, found = {k.number: k.name for k in load_all()}, 0, []
    while plan.code[at] >= 0:
        found.append(names[plan.code[at]])
        at += 3 + plan.code[at + 1]
    return found


def assert_all_ways(kernels, monkeypatch, attrs, width, dtype="float64", op="TreeEnsemble", rows=None):
    """Batch with and without bits, and single rows, all as the interpreter; the kernels of the batch with bits."""
    program = program_of(attrs, width, dtype, op)
    X = awkward_rows(attrs, width, dtype) if rows is None else rows
    expected = NumpyExecutor(program).run({"x0": X}, len(X), ("y",))["y"][0]
    executor = KernelExecutor(program, kernels, 1)
    same_bits(executor.run({"x0": X}, len(X), ("y",))["y"][0], expected)
    one = one_row(executor)
    for at in range(0, len(X), 5):
        same_bits(one({"x0": X[at]})[0], np.ascontiguousarray(expected[at]))
    monkeypatch.setenv("EDGEML_FAST", "-bits")
    slow = KernelExecutor(program, kernels, 1)
    same_bits(slow.run({"x0": X}, len(X), ("y",))["y"][0], expected)
    assert "tree_bits" not in kernel_names(slow)
    monkeypatch.delenv("EDGEML_FAST")
    return kernel_names(executor)


@pytest.mark.parametrize("op", ["TreeEnsemble", "TreeLeaves"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "options", [{}, {"outputs": 2}, {"outputs": 5}, {"outputs": 3, "shared": True}, {"categorical": True}]
)
def test_every_form_answers_as_the_interpreter(kernels, monkeypatch, options, dtype, op):
    attrs = random_trees(21, 6, seed=len(options), depth=8, **options)
    assert "tree_bits" in assert_all_ways(kernels, monkeypatch, attrs, 6, dtype, op)


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 63, 64, 65, 255, 256, 257, 511, 513])
def test_blocks_of_every_length(kernels, monkeypatch, rows):
    attrs = random_trees(9, 3, seed=rows, outputs=2)
    X = awkward_rows(attrs, 3, "float64", seed=rows)
    X = X[np.random.default_rng(rows).integers(0, len(X), rows)]
    assert_all_ways(kernels, monkeypatch, attrs, 3, rows=X)


def perfect(depth, width, seed, trees=1):
    """Trees in which every leaf is as deep as the others."""
    rng = np.random.default_rng(seed)
    inner, leaves = 2**depth - 1, 2**depth
    here = np.arange(inner)
    node = {
        "feature": np.append(rng.integers(0, width, inner), np.full(leaves, -1)),
        "threshold": np.append(rng.normal(size=inner), np.zeros(leaves)),
        "left": np.append(2 * here + 1, np.arange(leaves)),
        "right": np.append(2 * here + 2, np.zeros(leaves)),
        "missing_left": np.append(rng.integers(0, 2, inner), np.zeros(leaves)),
    }
    nodes, size = {k: [] for k in node}, inner + leaves
    for tree in range(trees):
        for name, values in node.items():
            shift = 0
            if name in ("left", "right"):
                shift = np.where(np.arange(size) < inner, tree * size, tree * leaves if name == "left" else 0)
            nodes[name].append(values + shift)
    joined = {name: np.concatenate(parts) for name, parts in nodes.items()}
    return {
        "roots": np.arange(trees, dtype=np.int32) * size,
        "feature": joined["feature"].astype(np.int32),
        "threshold": joined["threshold"],
        "left": joined["left"].astype(np.int32),
        "right": joined["right"].astype(np.int32),
        "missing_left": joined["missing_left"].astype(np.uint8),
        "category_set": np.full(trees * size, -1, dtype=np.int32),
        "categories": np.zeros((0, 8), dtype=np.uint32),
        "leaf_values": rng.normal(size=(trees * leaves, 1)),
        "target": np.empty(0, dtype=np.int32),
        "base": rng.normal(size=1),
    }


@pytest.mark.parametrize("depth", [0, 1, 3, 7, 8, 9, 12])
@pytest.mark.parametrize("op", ["TreeEnsemble", "TreeLeaves"])
def test_as_many_leaves_as_a_byte_counts_and_twice_that(kernels, monkeypatch, depth, op):
    names = assert_all_ways(kernels, monkeypatch, perfect(depth, 2, seed=depth, trees=3), 2, op=op)
    assert "tree_bits" in names
    assert ("tree_deep" in names) == (depth > 8)


@pytest.mark.parametrize("op", ["TreeEnsemble", "TreeLeaves"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "options", [{}, {"outputs": 2}, {"outputs": 5}, {"outputs": 3, "shared": True}, {"categorical": True}]
)
def test_deep_and_shallow_trees_side_by_side(kernels, monkeypatch, options, dtype, op):
    attrs = random_trees(19, 6, seed=40 + len(options), depth=14, **options)
    assert "tree_deep" in assert_all_ways(kernels, monkeypatch, attrs, 6, dtype, op)


def test_a_tree_that_is_one_long_chain(kernels, monkeypatch):
    """Each node has a leaf on one side: the top is the chain's beginning, and some rows walk all the rest."""
    length = 700
    here = np.arange(length)
    attrs = perfect(1, 1, seed=8)
    attrs |= {
        "feature": np.append(np.zeros(length), np.full(length + 1, -1)).astype(np.int32),
        "threshold": np.append(np.linspace(-3, 3, length), np.zeros(length + 1)),
        "left": np.append(length + here, np.arange(length + 1)).astype(np.int32),
        "right": np.append(np.append(here[1:], 2 * length), np.zeros(length + 1)).astype(np.int32),
        "missing_left": np.zeros(2 * length + 1, dtype=np.uint8),
        "category_set": np.full(2 * length + 1, -1, dtype=np.int32),
        "leaf_values": np.random.default_rng(8).normal(size=(length + 1, 1)),
    }
    assert "tree_deep" in assert_all_ways(kernels, monkeypatch, attrs, 1)


def test_a_column_with_more_edges_than_a_byte_ranks(kernels, monkeypatch):
    """2,000 thresholds on one column: eight columns of bytes."""
    attrs = perfect(7, 1, seed=3, trees=16)
    attrs["threshold"] = np.random.default_rng(3).permutation(np.linspace(-3, 3, len(attrs["threshold"])))
    found = tree_bits.forest(attrs, forest.ranks(attrs))
    assert len(np.unique(found.bytes[:, 1])) == 8
    assert "tree_bits" in assert_all_ways(kernels, monkeypatch, attrs, 1)


def test_more_edges_than_two_bytes_rank(kernels, monkeypatch):
    attrs = perfect(16, 1, seed=4)
    assert forest.ranks(attrs) is None
    X = awkward_rows(attrs, 1, "float64", most=40)
    assert "tree_walk_one" in assert_all_ways(kernels, monkeypatch, attrs, 1, rows=X)


@pytest.mark.parametrize("threshold", [np.nan, np.inf, -np.inf, 5e-324, -0.0])
def test_thresholds_that_compare_oddly(kernels, monkeypatch, threshold):
    attrs = random_trees(9, 2, seed=1)
    attrs["threshold"][::3] = threshold
    assert "tree_bits" in assert_all_ways(kernels, monkeypatch, attrs, 2)


def test_trees_that_share_their_parts(kernels, monkeypatch):
    """A node with two parents: unfolded where that is cheap, walked where it would be a million nodes."""
    attrs = perfect(20, 2, seed=5)
    inner = np.arange(20)
    attrs = {k: v[:21].copy() if len(v) > 21 else v for k, v in attrs.items()}
    attrs["feature"][20], attrs["left"][:20], attrs["right"][:20] = -1, inner + 1, inner + 1
    attrs["left"][20], attrs["leaf_values"] = 0, attrs["leaf_values"][:1]
    assert forest.levels(attrs) is None
    assert "tree_codes_one" in assert_all_ways(kernels, monkeypatch, attrs, 2)


@pytest.mark.parametrize("most", [1, 40, 63, 64, 255])
def test_sets_of_categories_below_and_beyond_one_word(kernels, monkeypatch, most):
    attrs = random_trees(9, 2, seed=most, categorical=True)
    bits = np.zeros((5, 256), dtype=np.uint8)
    bits[:, : most + 1] = np.random.default_rng(most).integers(0, 2, (5, most + 1))
    attrs["categories"] = np.packbits(bits, axis=1, bitorder="little").view("<u4")
    X = np.random.default_rng(0).integers(-2, 260, (700, 2)).astype(float)
    X[::7] = np.nan
    X[1::7] += 0.5
    assert "tree_sets" in assert_all_ways(kernels, monkeypatch, attrs, 2, rows=X)


def test_a_wide_ensemble_whose_blocks_are_short(kernels, monkeypatch):
    """So many columns that a block has fewer rows than a vector: walks over codes."""
    width = 3000
    attrs = random_trees(30, width, seed=6)
    X = np.random.default_rng(1).normal(size=(70, width))
    assert "tree_codes" in assert_all_ways(kernels, monkeypatch, attrs, width, rows=X)


def test_threads_share_nothing(kernels):
    attrs = random_trees(21, 6, seed=9, outputs=3)
    program = program_of(attrs, 6)
    X = np.tile(awkward_rows(attrs, 6, "float64"), (4, 1))
    expected = NumpyExecutor(program).run({"x0": X}, len(X), ("y",))["y"][0]
    executor = KernelExecutor(program, kernels, 4)
    for _ in range(20):
        same_bits(executor.run({"x0": X}, len(X), ("y",))["y"][0], expected)


def test_a_process_that_asks_for_single_rows_makes_nothing_for_batches(kernels):
    attrs = random_trees(21, 6, seed=9)
    executor = KernelExecutor(program_of(attrs, 6), kernels, 1)
    one_row(executor)({"x0": np.zeros(6)})
    names = {name for _, name in executor.constants._places}
    assert names == {"walk nodes", "walk columns", "values", "base"}

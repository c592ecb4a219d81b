"""What makes ONNX files small, and that it changes no answer: narrow splits, shared leaves, sums that onnxruntime adds
itself, packed lists, narrow constants, and nothing that nobody reads.
"""

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier

from edgeml.ir import Builder, interpreter
from edgeml.targets import onnx_tree_sums
from edgeml.targets.onnx import lower
from edgeml.targets.onnx_columns import ANY, FLOAT32, WHOLE, Columns, narrow_splits
from edgeml.targets.onnx_compact import packed
from edgeml.targets.onnx_graph import narrowest
from tests.onnx_oracle import ABOUT, INF, NAN, assert_equal, operators, session
from tests.oracle import converted
from tests.unit.test_onnx_trees import awkward_rows, program_of, random_trees


def trees_of(data):
    """Attributes of the TreeEnsemble nodes in a file."""
    nodes = [node for node in onnx.load_from_string(data).graph.node if node.op_type == "TreeEnsemble"]
    return [{a.name: onnx.helper.get_attribute_value(a) for a in node.attribute} for node in nodes]


def forest(seed, *, trees=40, width=3, outputs=1, targeted=False, missing=False, categories=False, leaves=None):
    rng = np.random.default_rng(seed)
    attrs = random_trees(
        rng, trees=trees, width=width, outputs=outputs, targeted=targeted, categories=categories, missing=missing
    )
    rows = 200
    attrs["leaf_values"] = (leaves or whole)(rng, (rows, 1 if targeted else outputs))
    attrs["base"] = np.zeros(outputs)
    leaf = attrs["feature"] < 0
    attrs["left"][leaf] = rng.integers(0, rows, leaf.sum())
    return rng, attrs


def whole(rng, shape):
    return rng.integers(-128, 128, shape).astype(float)


def halves(rng, shape):
    return rng.normal(size=shape).astype(np.float16).astype(float)


def compare(program, rows):
    """Lower, run in batches and threads, compare to the bit. Gives the file."""
    data = lower(program, ABOUT)["model.onnx"]
    want = interpreter.run(program, {"X": rows})
    names = list(program.outputs)
    for threads in (1, 2):
        for batch in (slice(None), slice(2, 3)):
            got = session(data, threads).run(names, {"X": rows[batch]})
            for name, result in zip(names, got, strict=True):
                assert_equal(result, want[name][batch], 0.0)
    return data


# --- leaves -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("outputs", [1, 3])
def test_whole_leaves_of_one_output_each(outputs, dtype):
    """TreeEnsemble adds them, and the trees share entries for them."""
    rng, attrs = forest(1, outputs=outputs, targeted=outputs > 1, missing=True, categories=True)
    attrs["base"] = np.array([3.0, -700.0, 0.0][:outputs])
    data = compare(program_of(attrs, 3, np.dtype(dtype).name), awkward_rows(rng, attrs, 3, dtype))
    sums = trees_of(data)[0]
    assert len(sums["leaf_targetids"]) <= 256 * outputs < (attrs["feature"] < 0).sum() * outputs
    assert "CumSum" not in operators(data)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_whole_leaves_of_several_outputs(dtype, monkeypatch):
    monkeypatch.setattr(onnx_tree_sums, "GROUP", 20)
    rng, attrs = forest(2, outputs=5)
    data = compare(program_of(attrs, 3, np.dtype(dtype).name), awkward_rows(rng, attrs, 3, dtype))
    tables = [i for i in onnx.load_from_string(data).graph.initializer if i.data_type == TensorProto.INT8]
    assert tables
    assert tables[0].dims[1] == 5
    assert "CumSum" not in operators(data)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_two_classes_are_one(dtype):
    """What the classes of every leaf sum to is the same, so that only the first is added."""
    rng, attrs = forest(3, outputs=2)
    attrs["leaf_values"][:, 1] = 127 - attrs["leaf_values"][:, 0]
    attrs["base"] = np.array([2.0, 5.0])
    data = compare(program_of(attrs, 3, np.dtype(dtype).name), awkward_rows(rng, attrs, 3, dtype))
    assert len(trees_of(data)[0]["leaf_targetids"]) <= 256
    attrs["leaf_values"][7, 1] += 1  # and here it is not the same
    data = compare(program_of(attrs, 3, np.dtype(dtype).name), awkward_rows(rng, attrs, 3, dtype))
    assert len(trees_of(data)[0]["leaf_targetids"]) > 256


@pytest.mark.parametrize("targeted", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_float16_leaves(dtype, targeted):
    """Exact in float64 in any order, but not in float32: there they are looked up and added in order."""
    rng, attrs = forest(4, outputs=3, targeted=targeted, leaves=halves)
    data = compare(program_of(attrs, 3, np.dtype(dtype).name), awkward_rows(rng, attrs, 3, dtype))
    assert ("CumSum" in operators(data)) == (not targeted or dtype == np.float32)
    if "CumSum" in operators(data):
        assert TensorProto.FLOAT16 in {i.data_type for i in onnx.load_from_string(data).graph.initializer}


@pytest.mark.parametrize(
    ("leaves", "exact"),
    [
        (lambda rng, shape: rng.integers(-32768, 32768, shape) * 8.0, True),
        (lambda rng, shape: rng.integers(-32768, 32768, shape) * 16.0 + 1, False),
        (lambda rng, shape: rng.integers(-100, 100, shape) / 512, True),
        (lambda rng, shape: rng.integers(-100, 100, shape) / 3, False),
        (lambda rng, shape: np.where(rng.random(shape) < 0.1, -0.0, 2.0), True),
        (lambda rng, shape: np.where(rng.random(shape) < 0.1, INF, 2.0), False),
    ],
)
def test_only_sums_that_cannot_round_are_left_to_onnxruntime(leaves, exact):
    rng, attrs = forest(5, trees=60, leaves=leaves)
    data = compare(program_of(attrs, 3, "float32"), awkward_rows(rng, attrs, 3, np.float32))
    assert ("CumSum" not in operators(data)) == exact


def test_no_tree_reaches_a_leaf_in_two_ways():
    """onnxruntime up to 1.28 would add its weight twice. Trees of one leaf, too, are a node with two leaves."""
    _, attrs = forest(11, leaves=lambda rng, shape: np.ones(shape))
    (tree,) = trees_of(lower(program_of(attrs, 3, "float32"), ABOUT)["model.onnx"])[:1]
    most = 0
    for root in tree["tree_roots"]:
        leaves, open_nodes = [], [root]
        for node in open_nodes:
            for side in ("true", "false"):
                child = tree[f"nodes_{side}nodeids"][node]
                (leaves if tree[f"nodes_{side}leafs"][node] else open_nodes).append(child)
        assert len(leaves) == len(set(leaves))
        most = max(most, len(leaves))
    assert len(tree["leaf_targetids"]) == most  # and no entry more than the largest tree needs


# --- splits -------------------------------------------------------------------------------------------------
def on_grid(rng, attrs, step, most=200):
    """The same trees with thresholds that are multiples of a step."""
    inner = attrs["feature"] >= 0
    attrs["threshold"] = np.where(inner, rng.integers(-most, most, len(inner)) * step, 0.0)
    attrs["threshold"][np.flatnonzero(inner)[::9]] = INF


def split_types(data):
    return {tree["nodes_splits"].data_type for tree in trees_of(data)}


@pytest.mark.parametrize("missing", [True, False])
@pytest.mark.parametrize("step", [0.5, 1.0, 0.125])
def test_splits_on_a_grid_are_float32_for_any_column(step, missing):
    rng, attrs = forest(6, missing=missing, categories=missing)
    on_grid(rng, attrs, step)
    rows = awkward_rows(rng, attrs, 3, np.float64, 600)
    rows[:5] = [[1e308] * 3, [-1e308] * 3, [2.0**24 + 1] * 3, [INF] * 3, [5e-324] * 3]
    data = compare(program_of(attrs, 3, "float64"), rows)
    assert split_types(data) == {TensorProto.FLOAT}


def test_sums_that_need_float64_keep_float64_splits():
    rng, attrs = forest(6, leaves=lambda rng, shape: rng.integers(-(2**30), 2**30, shape).astype(float))
    on_grid(rng, attrs, 0.5)
    data = compare(program_of(attrs, 3, "float64"), awkward_rows(rng, attrs, 3, np.float64))
    assert trees_of(data)[0]["nodes_splits"].data_type == TensorProto.DOUBLE


@pytest.mark.parametrize("step", [0.1, 2.0**-30, 2.0**20])
def test_other_splits_stay_float64(step):
    rng, attrs = forest(7)
    on_grid(rng, attrs, step)
    data = compare(program_of(attrs, 3, "float64"), awkward_rows(rng, attrs, 3, np.float64))
    assert split_types(data) == {TensorProto.DOUBLE}


@pytest.mark.parametrize("source", ["int64", "float32"])
def test_columns_that_are_narrow_by_themselves(source):
    """Whole numbers and float32 numbers take any threshold."""
    rng, attrs = forest(8, missing=True)
    b = Builder()
    x = b.input("X", source, 3)
    if source == "int64":
        attrs["threshold"] = np.where(np.abs(attrs["threshold"]) > 1e6, 0.3, attrs["threshold"])
    value = b.op("TreeEnsemble", b.concat([x, x]).select([3, 1, 2]).cast("float64"), **attrs)
    b.output("predict_proba", [value], "matrix", "<f8")
    if source == "int64":
        rows = rng.integers(-5, 6, (400, 3))
        rows[:3] = [[2**53 + 1] * 3, [2**24 + 1] * 3, [-(2**62)] * 3]
    else:
        rows = awkward_rows(rng, attrs, 3, np.float32, 400)
    data = compare(b.finish(), rows)
    assert split_types(data) == {TensorProto.FLOAT}


def test_narrow_splits():
    split, feature = np.array([0.5, 3.0, INF, -0.1]), np.array([0, 0, 1, 1])
    narrow, factor = narrow_splits(feature, split, np.array([WHOLE, FLOAT32]))
    assert factor is None
    assert narrow.tolist() == [0.0, 3.0, INF, float(np.float32(-0.1))]
    narrow, factor = narrow_splits(feature, split[:4] * [1, 1, 1, 0], np.array([ANY, FLOAT32]))
    assert (narrow.tolist(), factor.tolist()) == ([1.0, 6.0, INF, 0.0], [2.0, 1.0])
    assert narrow_splits(feature, split, np.array([ANY, ANY])) is None
    assert narrow_splits(np.array([0]), np.array([2.0**24]), np.array([WHOLE])) is None


def test_kinds_of_columns():
    b = Builder()
    i, f, d = b.input("i", "int64"), b.input("f", "float32"), b.input("d", "float64")
    double = i.cast("float64")
    expected = {
        double: WHOLE, f.cast("float64"): FLOAT32, d: ANY, d.cast("float32").cast("float64"): FLOAT32,
        b.constant([1.5]): FLOAT32, b.constant([0.1]): ANY, b.constant([NAN]): WHOLE, b.one_hot(i, 1): WHOLE,
        double + 1.0: WHOLE, double + 0.5: ANY, double / 2.0: ANY, -double: WHOLE,
        b.where(d > 0.0, double, f.cast("float64")): FLOAT32, b.where(d > 0.0, double, d): ANY,
        b.maximum(double, 0.5): FLOAT32, b.take(i, np.array([1.0, 7.0])): WHOLE, (d > 0.0).cast("float64"): WHOLE,
        b.check_finite(double, "step"): WHOLE, b.exp(double): ANY,
    }  # fmt: skip
    b.output("transform", list(expected), "matrix", "O")
    columns = Columns(b.finish())
    for value, kind in expected.items():
        assert columns.kinds(value.id).tolist() == [kind], value


def test_columns_without_nan_are_not_doubled():
    """A forest marks nodes as sending NaN left, whether or not there is any. Categories may be missing without NaN."""
    rng, attrs = forest(9, missing=True, categories=True)
    b = Builder()
    x = b.check_finite(b.input("X", "float32", 3), "forest")
    b.output("predict_proba", [b.op("TreeEnsemble", x, **attrs)], "matrix", "<f8")
    rows = awkward_rows(rng, attrs, 3, np.float32)
    data = compare(b.finish(), rows[np.isfinite(rows).all(axis=1)])
    assert "Neg" not in operators(data)


# --- the file -----------------------------------------------------------------------------------------------
def test_constants_in_their_narrowest_dtype():
    cases = [
        (np.arange(200.0), "uint8"), (np.arange(200) - 100, "int8"), (np.arange(200) * 99, "uint16"),
        (np.arange(200) * 0.5, "float16"), (np.arange(200) + 0.001, "float64"), (np.arange(3), "int64"),
        (np.float32(np.arange(200) + 0.001).astype(float), "float32"), (np.full(200, -0.0), "float16"),
        (np.append(np.zeros(199), NAN), "float16"), (np.append(np.zeros(199), 1e300), "float64"),
        (np.arange(200) * 1000 - 99000, "float32"), (np.zeros((20, 20), bool), "bool"),
    ]  # fmt: skip
    for array, dtype in cases:
        narrow = narrowest(array)
        assert narrow.dtype == dtype
        assert narrow.astype(array.dtype).tobytes() == array.tobytes()
    b = Builder()
    row = np.array([-0.0, NAN, INF, 3.0, *range(60)])
    b.output("transform", [b.input("x", "float64") * 0.0 + row], "matrix", "<f8")
    data = lower(b.finish(), ABOUT)["model.onnx"]
    assert TensorProto.FLOAT16 in {i.data_type for i in onnx.load_from_string(data).graph.initializer}
    np.testing.assert_array_equal(session(data).run(None, {"x": np.zeros((1, 1))})[0][0], row)


def test_lists_are_packed():
    _, attrs = forest(10)
    data = lower(program_of(attrs, 3, "float32"), ABOUT)["model.onnx"]
    proto = onnx.load_from_string(data)
    loose = proto.SerializeToString(deterministic=True)
    assert len(data) < len(loose) - 3 * (attrs["feature"] >= 0).sum()
    assert packed(proto) == data
    onnx.checker.check_model(data)
    rows = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    for one, other in zip(*(session(d).run(None, {"X": rows}) for d in (data, loose)), strict=True):
        assert_equal(one, other, 0.0)


def test_nothing_that_nobody_reads():
    b = Builder()
    x = b.check_finite(b.input("x", "float64"), "fit (Ridge)")
    with b.step("scale"):  # what stands behind a grid is written in float32, too, and here read in float64 only
        rounded = b.op("FakeQuantize", x * 2.0, scale=0.5, zero_point=0, bits=8)
        b.output("transform", [b.maximum(rounded, 1.0)], "matrix", "<f8")
    proto = onnx.load_from_string(lower(b.finish(), ABOUT)["model.onnx"])
    names = [node.name for node in proto.graph.node if node.name]
    assert names == ["fit_Ridge_input_contains_NaN_or_infinity"]  # of the node that may fail, and no other
    read = {name for node in proto.graph.node for name in node.input} | {o.name for o in proto.graph.output}
    assert {name for node in proto.graph.node for name in node.output} <= read
    assert not proto.graph.value_info
    assert all(len(name) == 1 for name in read - {"x", "transform"})


# --- sizes that were promised -------------------------------------------------------------------------------
def test_a_forest_takes_half_of_what_skl2onnx_writes():
    from skl2onnx import to_onnx

    X, y = load_digits(return_X_y=True)
    estimator = RandomForestClassifier(100, max_depth=8, random_state=0).fit(X, y)
    theirs = len(to_onnx(estimator, X[:1], options={"zipmap": False}).SerializeToString())
    data = lower(converted(estimator, X), ABOUT)["model.onnx"]
    assert len(data) < theirs / 5
    got = session(data).run(["predict_proba"], {"X": X})[0]
    np.testing.assert_allclose(got, estimator.predict_proba(X), rtol=1e-12)

"""Tree ensembles in ONNX: leaves and sums equal the interpreter's bit for bit, whatever the trees, columns
and batch.
"""

import numpy as np
import onnx
import pytest
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)

from edgeml.ir import Builder, interpreter
from edgeml.targets import onnx_tree_sums, onnx_trees
from edgeml.targets.onnx import lower
from tests.onnx_oracle import ABOUT, assert_equal, session
from tests.oracle import columns_of, converted, schema_of

THRESHOLDS = np.array([0.0, 0.1, 1.5, -2.0, np.inf, -np.inf, 5e-324, 1e300, -1e300, 16777217.0, 1e-46])


def random_trees(rng, *, trees, width, outputs, targeted, categories, missing):
    """Arrays of a TreeEnsemble: random shapes, thresholds on and beside float32 values, leaves used more than once."""
    feature, threshold, left, right, miss, sets = [], [], [], [], [], []
    leaves = int(rng.integers(1, 12))
    bits = rng.integers(0, 2**32, (6, 8), dtype=np.uint32)
    bits[0] = 0  # the empty set
    bits[1, 1:] = 0  # codes below 32 only: onnxruntime stores small sets in another way
    bits[2] = [1 << 5, 0, 0, 0, 0, 0, 0, 0]
    roots = []
    for _ in range(trees):
        roots.append(len(feature))
        open_nodes = [(len(feature), 0)]
        feature.append(None)
        for node, depth in open_nodes:
            for column in (threshold, left, right, miss, sets):
                column.extend([0] * (node + 1 - len(column)))
            sets[node] = -1
            if depth >= 4 or rng.random() < 0.3:
                feature[node], left[node] = -1, int(rng.integers(leaves))
                continue
            feature[node] = int(rng.integers(width))
            threshold[node] = rng.choice(THRESHOLDS) if rng.random() < 0.6 else rng.normal()
            if rng.random() < 0.3:
                threshold[node] = float(np.float32(np.clip(threshold[node], -1e38, 1e38)))
            miss[node] = int(missing and rng.random() < 0.5)
            if categories and rng.random() < 0.4:
                sets[node] = int(rng.integers(len(bits)))
            left[node], right[node] = len(feature), len(feature) + 1
            open_nodes += [(len(feature), depth + 1), (len(feature) + 1, depth + 1)]
            feature += [None, None]
    return {
        "roots": np.array(roots, np.int32),
        "feature": np.array(feature, np.int32),
        "threshold": np.array(threshold, np.float64),
        "left": np.array(left, np.int32),
        "right": np.array(right, np.int32),
        "missing_left": np.array(miss, np.uint8),
        "category_set": np.array(sets, np.int32),
        "categories": bits if categories else np.zeros((0, 8), np.uint32),
        "leaf_values": rng.normal(size=(leaves, 1 if targeted else outputs)) * 10.0 ** rng.integers(-9, 9, (leaves, 1)),
        "target": rng.integers(0, outputs, trees if targeted else 0).astype(np.int32),
        "base": rng.normal(size=outputs) if rng.random() < 0.5 else np.zeros(outputs),
    }


def awkward_rows(rng, attrs, width, dtype, count=150):
    """Values on thresholds and one ulp beside them, category codes and what is none, NaN and infinity."""
    with np.errstate(over="ignore", under="ignore"):
        cuts = np.concatenate([attrs["threshold"], THRESHOLDS, [1.0]]).astype(dtype)
        codes = np.concatenate([np.arange(-2, 40), [30.5, -0.5, -0.0, 254, 255, 255.9, 256, 1e30]]).astype(dtype)
        special = np.array([np.nan, np.inf, -np.inf, 0.0], dtype)
        pools = [cuts, np.nextafter(cuts, dtype(np.inf)), np.nextafter(cuts, dtype(-np.inf)), codes, special]
    cells = [rng.choice(pools[rng.integers(len(pools))]) for _ in range(count * width)]
    return np.array(cells, dtype).reshape(count, width)


def program_of(attrs, width, dtype):
    b = Builder()
    x = b.input("X", dtype, width)
    total, leaves = b.op("TreeEnsemble", x, **attrs), b.op("TreeLeaves", x, **attrs)
    b.output("predict_proba", [total], "matrix", "<f8")
    b.output("transform", [leaves], "matrix", "<i8")
    return b.finish()


@pytest.mark.parametrize("group", [onnx_tree_sums.GROUP, 4])
@pytest.mark.parametrize("seed", range(60))
def test_random_trees(seed, group, monkeypatch):
    monkeypatch.setattr(onnx_tree_sums, "GROUP", group)
    rng = np.random.default_rng(seed)
    width, dtype = int(rng.integers(1, 5)), (np.float32, np.float64)[seed % 2]
    attrs = random_trees(
        rng,
        trees=int(rng.choice([1, 2, 3, 17])),
        width=width,
        outputs=int(rng.integers(1, 5)),
        targeted=rng.random() < 0.5,
        categories=rng.random() < 0.6,
        missing=rng.random() < 0.7,
    )
    program = program_of(attrs, width, np.dtype(dtype).name)
    data = lower(program, ABOUT)["model.onnx"]
    rows = awkward_rows(rng, attrs, width, dtype)
    want = interpreter.run(program, {"X": rows})
    for threads in (1, 2):
        s = session(data, threads)
        for batch in (slice(None), slice(0, 1), slice(-1, None), slice(3, 10)):
            total, leaves = s.run(["predict_proba", "transform"], {"X": rows[batch]})
            assert_equal(leaves, want["transform"][batch], 0.0)
            assert_equal(total, want["predict_proba"][batch], 0.0)


def test_sums_run_in_the_order_of_the_trees():
    """Leaves of very different sizes, so that any other order of the additions gives other bits."""
    rng = np.random.default_rng(0)
    attrs = random_trees(rng, trees=300, width=3, outputs=3, targeted=False, categories=False, missing=False)
    attrs["leaf_values"] = rng.normal(size=(50, 3)) * 10.0 ** rng.integers(-12, 12, (50, 3))
    leaf = attrs["feature"] < 0
    attrs["left"][leaf] = rng.integers(0, 50, leaf.sum())
    program = program_of(attrs, 3, "float64")
    rows = rng.normal(size=(300, 3))
    want = interpreter.run(program, {"X": rows})["predict_proba"]
    shuffled = interpreter.run(program_of(attrs | {"roots": attrs["roots"][::-1].copy()}, 3, "float64"), {"X": rows})
    assert (shuffled["predict_proba"] != want).mean() > 0.5  # the order matters for these numbers
    data = lower(program, ABOUT)["model.onnx"]
    for threads in (1, 2):
        for batch in (1, 5, 300):
            (got,) = session(data, threads).run(["predict_proba"], {"X": rows[:batch]})
            assert_equal(got, want[:batch], 0.0)


def test_more_leaves_than_float32_can_number(monkeypatch):
    monkeypatch.setattr(onnx_trees, "_EXACT_FLOAT32", 3)
    rng = np.random.default_rng(5)
    attrs = random_trees(rng, trees=9, width=2, outputs=2, targeted=False, categories=True, missing=True)
    program = program_of(attrs, 2, "float32")
    data = lower(program, ABOUT)["model.onnx"]
    splits = [
        attribute.t.data_type
        for node in onnx.load_from_string(data).graph.node
        for attribute in node.attribute
        if attribute.name == "nodes_splits"
    ]
    assert set(splits) == {onnx.TensorProto.DOUBLE}
    rows = awkward_rows(rng, attrs, 2, np.float32)
    want = interpreter.run(program, {"X": rows})
    got = session(data).run(["predict_proba", "transform"], {"X": rows})
    assert_equal(got[0], want["predict_proba"], 0.0)
    assert_equal(got[1], want["transform"], 0.0)


@pytest.mark.parametrize(
    "estimator",
    [
        RandomForestClassifier(23, max_depth=6, random_state=0),
        GradientBoostingClassifier(n_estimators=8, random_state=0),
        HistGradientBoostingClassifier(max_iter=8, categorical_features=[3], random_state=0),
    ],
    ids=lambda e: type(e).__name__,
)
def test_fitted_ensembles(estimator):
    rng = np.random.default_rng(1)
    X = np.column_stack([rng.integers(0, 5, (400, 3)), rng.integers(0, 40, 400)]).astype(np.float64)
    y = (X[:, 0] + X[:, 1] > 4).astype(int) + (X[:, 3] % 7 < 3)
    estimator.fit(X, y)
    program = converted(estimator, X)
    data = lower(program, ABOUT)["model.onnx"]
    rows = X[:200] + rng.choice([0.0, 0.5], (200, 4))
    names = list(program.outputs)
    want = interpreter.run(program, columns_of(rows, schema_of(X)))
    for name, result in zip(names, session(data).run(names, {"X": rows}), strict=True):
        assert_equal(result, want[name], 0.0 if name in ("predict", "decision_function") else 1e-14)
        with np.errstate(divide="ignore"):
            expected = getattr(estimator, name)(rows)
        np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-15)

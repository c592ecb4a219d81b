"""TFLite lowerings: every op of the table against the interpreter, and trees over ranks against the trees they were."""

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from edgeml.errors import FormatError
from edgeml.ir import Builder, interpreter
from edgeml.ir.ops import OPS
from edgeml.ir.ops_raw import NATIVE_ONLY
from edgeml.passes import run_passes
from edgeml.passes.rank import RANK_TREES
from edgeml.targets.tflite import lower
from edgeml.targets.tflite_lowering import LOWERINGS
from tests.kernel_tools import random_trees
from tests.tflite_oracle import (
    ABOUT,
    converted,
    graph_answers,
    program_answers,
    worst_error,
)

NAN, INF = np.nan, np.inf
FLOATS = np.array([0.0, 1.5, -2.5, NAN, INF, -INF, 1e30, -1e30, 1e-3, 3.0, 0.25])
FINITE = np.array([0.1, -0.2, 3.7, 1e5, -1e-3, 12.5, -40.0, 0.0])
# No two of these are at half a step of a grid, which float32 and float64 round to different sides.
UNEVEN = np.array([0.11, -0.23, 3.7, 1e5, -1e-3, 12.5, -41.0, 0.0])
INTS = np.array([0, 1, -1, 7, 2**29, -(2**29), 255])
BOOLS = np.array([True, False])
ADDED_UP = {"TreeEnsemble", "ReduceSum", "Linear", "QuantizedLinear", "Convolve", "Sin", "Cos"}
# Left out of a graph on purpose; see tflite_split.py for where they run.
NOT_IN_A_GRAPH = {
    "IsNone": "strings", "Rank": "float64 comparisons", "OnnxGraph": "onnxruntime only",
    "Distances": "float64 sums", "VisitOrder": "float64 comparisons",
    "CouplePairs": "iterations",
    "Terms": "strings", "HashedTerms": "strings", "HashedItems": "strings", "CountedItems": "strings",
    "Floor": "float64 comparisons", "Round": "float64 comparisons", "Sign": "float64 comparisons",
    "Fmod": "float64 comparisons", "NormalQuantile": "no builtin",
    "Digamma": "no builtin", "LogGamma": "no builtin", "BesselK": "no builtin",
}  # fmt: skip


def halved(b, x, given):
    """Each row in halves until it is at most 1, seven times at most."""

    def body(state, given):
        after = state * 0.5 + 0.0 * given
        return after, state.builder.max(after) > 1.0

    return b.loop(x, [given], 7, body)


def rows_of(values, width, seed=0, count=64):
    return np.random.default_rng(seed).choice(values, (count, width))


# --- every op -----------------------------------------------------------------------------------------------
CASES = []


def case(op, columns, build, rtol=0.0):
    CASES.append(pytest.param(op, columns, build, rtol, id=f"{op}-{len(CASES)}"))


for _values in (FINITE, INTS):
    for _op in ("Add", "Sub", "Mul", "Minimum", "Maximum", "Less", "LessEqual", "Greater", "GreaterEqual", "Equal"):
        _small = _values if _op != "Mul" or _values is FINITE else INTS[:4]
        for _widths in ((3, 3), (3, 1), (1, 3)):
            case(
                _op,
                {"x": rows_of(_small, _widths[0]), "y": rows_of(_small, _widths[1], 1)},
                lambda b, x, y, op=_op: b.op(op, x, y),
                1e-6,
            )
    for _op in ("Neg", "Abs"):
        case(_op, {"x": rows_of(_values, 2)}, lambda b, x, op=_op: b.op(op, x))
    for _op in ("ReduceSum", "ReduceMax", "ReduceMin", "ArgMax", "ArgMin"):
        _cells = rows_of(np.array([0.5, -1.25, 3.0, 3.0]) if _values is FINITE else INTS[:4], 5)
        case(_op, {"x": _cells}, lambda b, x, op=_op: b.op(op, x))
case("SumGroups", {"x": rows_of(FINITE[:3], 12)}, lambda b, x: b.op("SumGroups", x, size=4), 1e-6)
for _op in ("Less", "LessEqual", "Greater", "GreaterEqual", "Equal"):
    case(_op, {"x": rows_of(FLOATS, 2), "y": rows_of(FLOATS, 2, 1)}, lambda b, x, y, op=_op: b.op(op, x, y))
case("Div", {"x": rows_of(FINITE, 2), "y": rows_of(FINITE[:-1], 2, 1)}, lambda b, x, y: x / y, 1e-6)
case("Maximum", {"x": rows_of(FINITE, 3)}, lambda b, x: b.maximum(x, 0.0))
for _op in ("And", "Or"):
    case(_op, {"x": rows_of(BOOLS, 3), "y": rows_of(BOOLS, 1, 1)}, lambda b, x, y, op=_op: b.op(op, x, y))
case("Not", {"x": rows_of(BOOLS, 2)}, lambda b, x: ~x)
for _values in (FLOATS, INTS, BOOLS):
    case(
        "Where",
        {"c": rows_of(BOOLS, 1), "x": rows_of(_values, 3), "y": rows_of(_values, 3, 1)},
        lambda b, c, x, y: b.where(c, x, y),
    )
case("Sqrt", {"x": rows_of(np.abs(FINITE), 2)}, lambda b, x: b.sqrt(x), 1e-6)
case("Exp", {"x": np.linspace(-80, 80, 401)}, lambda b, x: b.exp(x), 1e-5)
case("Log", {"x": np.geomspace(1e-30, 1e30, 301)}, lambda b, x: b.log(x), 1e-6)
case("Sigmoid", {"x": np.linspace(-80, 80, 401)}, lambda b, x: b.sigmoid(x), 1e-6)
case("Tanh", {"x": np.linspace(-9, 9, 401)}, lambda b, x: b.tanh(x), 1e-6)
case("IsNaN", {"x": rows_of(FLOATS, 2)}, lambda b, x: b.is_nan(x))
case("Softmax", {"x": rows_of(FINITE[2:6], 4)}, lambda b, x: b.softmax(x * 1e-4), 1e-6)
case("Linear", {"x": rows_of(FINITE, 4)}, lambda b, x: b.linear(x, np.arange(8.0).reshape(4, 2) - 3, [1.0, 2.0]), 1e-6)
case("Constant", {"x": rows_of(FLOATS, 2)}, lambda b, x: b.constant(np.array([1.5, -0.0, NAN])))
case("Constant", {"x": rows_of(FLOATS, 2)}, lambda b, x: b.constant(np.array([True, False])))
case("Concat", {"x": rows_of(FLOATS, 2)}, lambda b, x: b.concat([b.constant([1.0, NAN]), x, x]))
case("Concat", {"x": rows_of(BOOLS, 2)}, lambda b, x: b.concat([x, b.constant(np.array([True])), ~x]))
for _indices in ([1, 2, 3], [4, 0, 0], [2], [0, 1, 2, 3, 4]):
    case("Select", {"x": rows_of(FLOATS, 5)}, lambda b, x, i=_indices: x.select(i))
for _values, _to in ((INTS, "float64"), (BOOLS, "int64"), (BOOLS, "float32"), (INTS, "bool"), (FLOATS, "float32")):
    case("Cast", {"x": rows_of(_values, 2)}, lambda b, x, to=_to: x.cast(to))
case("Lookup", {"x": rows_of(INTS, 1)}, lambda b, x: b.lookup(x, [7, 255, 7, -1]))
case("Lookup", {"x": rows_of(INTS, 1)}, lambda b, x: b.lookup(x, []))
case("Lookup", {"x": rows_of(BOOLS, 1)}, lambda b, x: b.lookup(x, [True]))
case("Lookup", {"x": rows_of(FLOATS, 1)}, lambda b, x: b.lookup(x, [3.0, NAN, 0.25, 3.0]))
for _table in (np.array([1.5, NAN, -0.0]), np.arange(6.0).reshape(3, 2), np.array([5, 600, 7]), np.arange(3), BOOLS):
    _index = np.arange(8) % len(_table)
    case("Take", {"i": _index}, lambda b, i, t=_table: b.take(i, t))
for _width in (400, 401):  # stored as bits
    _table = np.random.default_rng(0).integers(0, 2, (40, _width))
    case("Take", {"i": np.arange(60) % 40}, lambda b, i, t=_table: b.take(i, t))
for _dtype in ("float64", "int64", "bool"):
    case("OneHot", {"i": np.array([0, 2, -1, 3, 1])}, lambda b, i, d=_dtype: b.one_hot(i, 3, d))
for _knots in (np.array([0.5]), np.array([0.0, 1.0]), np.linspace(-2, 2, 9)):
    case(
        "Interp",
        {"x": np.array([-9.0, -2.0, -1.3, 0.0, 0.5, 0.7, 1.0, 5.0, NAN, INF])},
        lambda b, x, k=_knots: b.op("Interp", x, xs=k, ys=np.cos(k) + 2),
        1e-6,
    )
case(
    "Log1p",
    {"x": np.concatenate([np.linspace(-0.99, 2, 301), np.geomspace(1e-30, 1e30, 301)])},
    lambda b, x: b.log1p(x),
    1e-6,
)
case(
    "Expm1",
    {"x": np.concatenate([np.linspace(-20, 20, 401), np.geomspace(1e-30, 1, 301)])},
    lambda b, x: b.expm1(x),
    1e-6,
)
case("Erf", {"x": np.concatenate([np.linspace(-6, 6, 401), np.geomspace(1e-30, 1, 301)])}, lambda b, x: b.erf(x), 1e-6)
case("Pow", {"x": np.linspace(0.01, 9, 301), "y": np.linspace(-8, 8, 301)}, lambda b, x, y: b.pow(x, y), 1e-6)
case("Sin", {"x": np.linspace(-3, 3, 400)}, lambda b, x: b.sin(x), 1e-6)
case("Cos", {"x": np.linspace(-1.5, 1.5, 400)}, lambda b, x: b.cos(x), 1e-6)
for _width in (1, 5, 16, 37):
    _cells = {"x": rows_of(FINITE, _width), "y": rows_of(FINITE, _width, 1)}
    case("Convolve", _cells, lambda b, x, y: b.op("Convolve", x, y), 1e-6)
for _k in (1, 3, 7):
    case("TopK", {"x": rows_of(FLOATS, 7)}, lambda b, x, k=_k: b.top_k(x, k))
case("HeapK", {"x": rows_of(FLOATS, 7)}, lambda b, x: b.heap_k(x, 1))
for _values in (FLOATS, INTS, BOOLS):
    _cells = {"x": rows_of(_values, 5), "i": rows_of(np.arange(5), 3)}
    case("TakeAlong", _cells, lambda b, x, i: b.take_along(x, i))
case("Loop", {"x": rows_of(np.array([0.5, 3.0, 90.0, 1e4]), 2), "given": np.zeros(64)}, halved)
_squares = np.einsum("nij,nkj->nik", *[np.random.default_rng(0).normal(size=(20, 3, 5))] * 2) + np.eye(3)
_squares[3] = -np.eye(3)  # not positive definite
case(
    "Solve",
    {"m": _squares.reshape(20, 9), "r": rows_of(FINITE[:3], 3, count=20)},
    lambda b, m, r: b.op("Solve", m, r),
    1e-5,
)
case("CheckFinite", {"x": rows_of(FINITE, 3)}, lambda b, x: b.check_finite(x, "step"))
case("Require", {"x": rows_of(FINITE, 3)}, lambda b, x: b.require(x, x == x, "never"))
_codes = np.random.default_rng(0).integers(-127, 128, (4, 3))
_scale = np.array([0.25, 0.5, 3.0])
for _dtype in ("int8", "int16", "float16"):
    for _scales in (_scale, np.full(3, 0.3, np.float32).astype(np.float64), np.ones(3)):
        case(
            "QuantizedLinear",
            {"x": rows_of(FINITE, 4)},
            lambda b, x, d=_dtype, s=_scales: b.op(
                "QuantizedLinear", x, weight=_codes.astype(d), scale=s, bias=np.array([1.0, -2.0, 0.5])
            ),
            1e-6,
        )
for _bits, _zero in ((8, 0), (8, -128), (8, 17), (16, 0), (16, -5)):
    # Far outside the grid too: a code beyond int32 is another one on every machine.
    case(
        "FakeQuantize",
        {"x": rows_of(np.array([0.1, -0.2, 3.7, 40.0, -1e3, 1e9, -1e9, 1e30, -1e30]), 3)},
        lambda b, x, n=_bits, z=_zero: b.op("FakeQuantize", x, scale=float(np.float32(0.03)), zero_point=z, bits=n),
        1e-6,
    )
    case(
        "DynamicQuantize",
        {"x": np.concatenate([rows_of(UNEVEN, 3), np.zeros((1, 3)), [[1.0, INF, 2.0], [NAN, 1.0, 2.0]]])},
        lambda b, x, n=_bits: b.op("DynamicQuantize", x, bits=n),
        1e-6,
    )
for _options in ({}, {"outputs": 3}, {"outputs": 3, "shared": True}):
    for _trees in (1, 3, 70):
        _attrs = random_trees(_trees, 4, seed=_trees, **_options)
        for _op in ("TreeEnsemble", "TreeLeaves"):
            # Values on and beside every threshold, NaN and infinity: what float32 arithmetic would get wrong.
            _pool = np.concatenate([_attrs["threshold"], np.nextafter(_attrs["threshold"], 9), [NAN, INF, -INF]])
            case(_op, {"x": rows_of(_pool, 4, count=300)}, lambda b, x, o=_op, a=_attrs: b.op(o, x, **a), 2e-6)
_attrs = random_trees(9, 4, seed=2, categorical=True)
_pool = np.array([0.0, 1.0, 7.0, 31.0, 32.0, 200.0, 255.0, 256.0, -1.0, -0.0, 3.5, NAN, 0.1, -0.3, 1.2])
case("TreeLeaves", {"x": rows_of(_pool, 4, count=300)}, lambda b, x: b.op("TreeLeaves", x, **_attrs))


def test_every_op_has_a_lowering_and_a_case():
    assert set(LOWERINGS) | set(NOT_IN_A_GRAPH) == set(OPS) - set(NATIVE_ONLY)
    assert not set(LOWERINGS) & set(NOT_IN_A_GRAPH)
    assert {c.values[0] for c in CASES} == set(LOWERINGS)


@pytest.mark.parametrize("xnnpack", [False, True], ids=["plain", "xnnpack"])
@pytest.mark.parametrize(("op", "columns", "build", "rtol"), CASES)
def test_op(op, columns, build, rtol, xnnpack):
    b = Builder()
    inputs = []
    for name, x in columns.items():
        inputs.append(b.input(name, x.dtype.name, 1 if x.ndim == 1 else x.shape[1]))
    value = build(b, *inputs)
    b.output("out", [value], "matrix", "<f8" if value.dtype.startswith("float") else "<i8")
    program = b.finish()
    if op.startswith("Tree"):  # through the split: the front ranks their columns in float64
        want = interpreter.run(program, columns)["out"]
        got = program_answers(program, columns, xnnpack=xnnpack)["out"]
    else:
        want = interpreter.run(program, {k: _narrow(v) for k, v in columns.items()})["out"]
        got = graph_answers(program, columns, xnnpack=xnnpack)["out"]
    assert got.shape == want.shape
    assert got.dtype == (np.float32 if want.dtype.kind == "f" else np.int32)
    cancels = op in ADDED_UP  # then the terms count, not what is left of them
    same_size = np.abs(np.where(np.isfinite(want), want, 0)).max() if cancels else 0
    np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol * same_size + (1e-37 if rtol else 0))


def _narrow(x):
    return x.astype(np.float32).astype(np.float64) if x.dtype == np.float64 else x


# --- trees --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("options", [{}, {"outputs": 3}, {"outputs": 3, "shared": True}, {"categorical": True}])
def test_ranked_trees_are_the_same_trees(dtype, options):
    """The pass is exact to the bit on every kind of cell, and does nothing the second time."""
    rng = np.random.default_rng(0)
    for seed in range(6):
        attrs = random_trees(5, 4, seed=seed, **options)
        b = Builder()
        x = b.input("x", dtype, 4)
        if seed % 2:
            x = b.check_finite(x, "step", allow_nan=seed % 4 == 1)
        b.output("sums", [b.op("TreeEnsemble", x, **attrs)], "matrix", "<f8")
        b.output("leaves", [b.op("TreeLeaves", x, **attrs)], "matrix", "<i8")
        program = b.finish()
        pool = np.concatenate([attrs["threshold"], np.nextafter(attrs["threshold"], 9), np.arange(-2.0, 260.0)])
        with np.errstate(over="ignore"):
            cells = rng.choice(np.append(pool, [NAN, INF, -INF, -0.0]), (400, 4)).astype(dtype)
        if seed % 2:
            cells[~np.isfinite(cells) & ~(np.isnan(cells) & (seed % 4 == 1))] = 0
        ranked, changed = run_passes(program, [RANK_TREES], {"x": cells})
        assert changed
        assert not run_passes(ranked, [RANK_TREES])[1]
        for node in ranked.nodes:
            if node.op.startswith("Tree"):
                assert not node.attrs["missing_left"].any()
                assert (node.attrs["category_set"] == -1).all()
                assert (node.attrs["threshold"] == np.floor(node.attrs["threshold"])).all()


def test_trees_without_a_split_become_a_constant():
    attrs = random_trees(3, 2, seed=1, depth=1)
    leaf = {"feature": np.full_like(attrs["feature"], -1)}
    attrs |= leaf | {"left": np.zeros_like(attrs["left"])}
    b = Builder()
    x = b.input("x", "float64", 2)
    b.output("sums", [b.op("TreeEnsemble", x, **attrs)], "matrix", "<f8")
    program = b.finish()
    got = program_answers(program, {"x": np.zeros((5, 2))})["sums"]
    np.testing.assert_allclose(got, interpreter.run(program, {"x": np.zeros((5, 2))})["sums"], rtol=1e-6)


def test_trees_over_integers_that_are_no_ranks_are_ranked():
    """Whole numbers of a raw column look like ranks, and are compared with 2.5 all the same."""
    rng = np.random.default_rng(0)
    X = rng.integers(-5, 9, (300, 3))
    est = RandomForestRegressor(5, max_depth=4, random_state=0).fit(X, X[:, 0] * X[:, 1])
    program, _, _ = converted(est, X)
    rows = rng.integers(-2000, 2000, (200, 3))
    got = program_answers(program, {"X": np.concatenate([X, rows])})["predict"]
    assert worst_error(est.predict(np.concatenate([X, rows])), got) < 1e-6


def test_long_sums_keep_their_digits():
    """2,000 times 0.1: added one by one in float32 that is off by 1e-5 of itself."""
    stump = {
        "feature": [0, -1, -1], "threshold": [0.5, 0, 0], "left": [1, 0, 0], "right": [2, 0, 0],
        "missing_left": [0, 0, 0], "category_set": [-1, -1, -1],
    }  # fmt: skip
    attrs = {k: np.array(v, np.float64 if k == "threshold" else np.int32) for k, v in stump.items()}
    attrs["missing_left"] = attrs["missing_left"].astype(np.uint8)
    attrs |= {
        "roots": np.zeros(2000, np.int32),
        "categories": np.zeros((0, 8), np.uint32),
        "target": np.zeros(0, np.int32),
    }
    attrs |= {"leaf_values": np.array([[0.1, 0.7]]), "base": np.zeros(2)}
    b = Builder()
    b.output("sums", [b.op("TreeEnsemble", b.input("x", "float64"), **attrs)], "matrix", "<f8")
    got = program_answers(b.finish(), {"x": np.array([0.0, 1.0])})["sums"]
    np.testing.assert_allclose(got, [[200.0, 1400.0]] * 2, rtol=1e-6)


def test_node_table_is_compact():
    """Bytes of the tables of a forest: one for the column, the place and the distance each, where they fit."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 17, (800, 20)).astype(float)
    est = RandomForestClassifier(30, max_depth=8, random_state=0).fit(X, (X[:, 0] + X[:, 1] > 16) * 1)
    members = lower(converted(est, X)[0], ABOUT)
    nodes = sum(t.tree_.node_count for t in est.estimators_)
    values = [t.tree_.value[t.tree_.children_left < 0, 0] for t in est.estimators_]
    leaves = len(np.unique(np.concatenate(values), axis=0))
    assert len(members["model.tflite"]) < 3 * nodes + 8 * leaves + 8_000


def test_an_iteration_without_an_end_in_sight_is_refused():
    b = Builder()
    x = b.input("x", "float64", 1)
    value = b.loop(x, [], 10**6, lambda state: (state * 0.5, state > 0.0))
    b.output("out", [value], "matrix", "<f8")
    with pytest.raises(FormatError, match="iterates up to 1000000 times over 4 operations"):
        graph_answers(b.finish(), {"x": np.ones(3)})

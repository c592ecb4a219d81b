"""Every kernel gives the interpreter's bits: the same cases over random and awkward cells, in blocks and row by
row.
"""

from __future__ import annotations

import numpy as np
import pytest

from edgeml.ir.metrics import MAHALANOBIS, METRICS
from edgeml.ir.ops import OPS
from edgeml.runtimes.kernels import forest
from edgeml.runtimes.kernels.registry import _COMMON, ENCODERS, load_all
from edgeml.runtimes.native_code import KernelExecutor, NumpyExecutor
from tests.kernel_tools import (
    FLOATS,
    cells,
    check,
    program_of,
    random_trees,
    same_bits,
)
from tests.loops import LOOPS, SOLVES

NUMBERS = (*FLOATS, "int64")


def row_of(dtype, width, seed):
    """A constant."""
    return cells(dtype, width, 1, seed)[0]


def tame(b, x, dtype, bits):
    """DynamicQuantize of small numbers: rows without NaN and infinity, many of zeros, subnormals and ties."""
    small = b.minimum(b.maximum(x, -9), 9).cast(dtype)
    tiny = small * b.constant(np.array([np.finfo(dtype).smallest_subnormal]))
    return [b.op("DynamicQuantize", y, bits=bits) for y in (small, tiny, small * b.constant(row_of(dtype, 1, 2)))]


def narrow(b, x, weights, shape):
    """QuantizedLinear with weights of a dtype, the ends of its range among them."""
    rng = np.random.default_rng(len(weights))
    ends = np.finfo(weights) if weights == "float16" else np.iinfo(weights)
    weight = rng.choice([float(ends.min), float(ends.max), 0.0, 1.0, -77.0, 13.0], shape).astype(weights)
    scale = rng.choice([1e-38, 0.25, 1 / 3, 1e4], shape[1]).astype(np.float32).astype(x.dtype)
    return b.op("QuantizedLinear", x, weight=weight, scale=scale, bias=rng.normal(size=shape[1]).astype(x.dtype))


def recode(b, x, keys, to):
    """Recode to values of a dtype, awkward ones among them."""
    return b.op("Recode", x, keys=keys, values=cells(to, 1, len(keys) + 1, 7)[:, 0])


def table_linear(b, x, *codes, shape, after):
    """TableLinear with tables of 0 to 3 rows a code, so that many codes lie outside."""
    rng = np.random.default_rng(len(codes))
    starts = np.cumsum([0, *(3 - t for t in range(len(codes)))]).astype(np.int64)
    table = rng.choice([0.5, -0.0, 0.1, -1 / 3, 1e30], (starts[-1], shape[1])).astype(x.dtype)
    return b.op(
        "TableLinear", x, *codes, weight=rng.normal(size=shape).astype(x.dtype), table=table, starts=starts,
        bias=rng.normal(size=shape[1]).astype(x.dtype), after=np.array(after, dtype=np.int64),
    )  # fmt: skip


# --- cases: op -> list of (dtypes, widths, build) -----------------------------------------------------------
CASES: dict[str, list] = {}


def case(op, dtypes, widths, build):
    CASES.setdefault(op, []).append((dtypes, widths, build))


for _d in (*NUMBERS, "bool"):
    case("Constant", [_d], [2], lambda b, x, d=_d: [b.op("Concat", x, b.constant(row_of(d, 5, 3)))])
    case("Constant", [_d], [2], lambda b, x, d=_d: [b.constant(row_of(d, 5, 3)), x])
    case("Concat", [_d, _d], [3, 1], lambda b, x, y: b.op("Concat", y, x, y))
    case(
        "Select",
        [_d],
        [5],
        lambda b, x: [x.select([1, 2, 3]), x.select([4, 0, 0]), x.select([]), x.select([2]), x.select([4, 2, 0] * 4)],
    )
    for _to in (*NUMBERS, "bool"):
        case("Cast", [_d], [3], lambda b, x, to=_to: b.op("Cast", x, to=to))
    case("Equal", [_d, _d], [3, 3], lambda b, x, y: b.op("Equal", x, y))
    case("Where", ["bool", _d, _d], [3, 1, 3], lambda b, c, x, y: b.op("Where", c, x, y))
    case("Where", ["bool", _d], [1, 3], lambda b, c, x, d=_d: b.op("Where", c, x, b.constant(row_of(d, 3, 5))))
for _op in ("Add", "Sub", "Mul", "Minimum", "Maximum", "Less", "LessEqual", "Greater", "GreaterEqual"):
    for _d in NUMBERS:
        case(_op, [_d, _d], [4, 4], lambda b, x, y, op=_op: b.op(op, x, y))
        case(_op, [_d, _d], [4, 1], lambda b, x, y, op=_op: b.op(op, x, y))
        case(_op, [_d], [4], lambda b, x, op=_op, d=_d: b.op(op, b.constant(row_of(d, 4, 7)), x))
for _d in FLOATS:
    case("Div", [_d, _d], [4, 1], lambda b, x, y: b.op("Div", x, y))
    case("Div", [_d], [4], lambda b, x, d=_d: b.op("Div", x, b.constant(row_of(d, 4, 7))))
    for _op in ("Sqrt", "Exp", "Log", "Sigmoid", "Tanh", "IsNaN"):
        case(_op, [_d], [4], lambda b, x, op=_op: b.op(op, x))
    for _op in (
        "Log1p", "Expm1", "Sin", "Cos", "Erf", "NormalQuantile", "Digamma", "LogGamma", "Floor", "Round", "Sign",
    ):  # fmt: skip
        case(_op, [_d], [4], lambda b, x, op=_op: [b.op(op, x), b.op(op, b.sigmoid(x))])
    case("Pow", [_d, _d], [4, 4], lambda b, x, y: b.op("Pow", x, y))
    case("Pow", [_d, _d], [4, 1], lambda b, x, y: [b.op("Pow", x, y), b.op("Pow", b.abs(x), b.op("Round", y))])
    case("Fmod", [_d, _d], [4, 4], lambda b, x, y: b.op("Fmod", x, y))
    case("Fmod", [_d], [4], lambda b, x, d=_d: b.op("Fmod", x, b.constant(row_of(d, 4, 7))))
    case("Fmod", [_d, _d], [4, 4], lambda b, x, y: b.mod(x, y))
    case("Fmod", [_d], [4], lambda b, x: [b.mod(x, 0.7), b.mod(x, -3.0), b.mod(x, 0.0)])
    for _order in (0.0, -0.5, 1.0, 2.7):
        case("BesselK", [_d], [4], lambda b, x, order=_order: b.op("BesselK", x, order=order))
    for _width in (1, 2, 7):
        case("Softmax", [_d], [_width], lambda b, x: b.softmax(x))
    for _shape in ((4, 3), (1, 1), (9, 17)):
        case(
            "Linear", [_d], [_shape[0]],
            lambda b, x, s=_shape: b.linear(
                x, np.random.default_rng(1).normal(size=s), np.random.default_rng(2).normal(size=s[1])
            ),
        )  # fmt: skip
    case("Linear", [_d], [2], lambda b, x: b.linear(x, np.array([[np.inf, -0.0], [1e30, np.nan]]), -0.0))
    # Scales that put many of the awkward cells on ties, and scales at both ends of float32.
    for _scale in map(float, np.array([1.0, 0.5, 0.1, 1 / 3, 1e-45, 3.4e38], dtype=np.float32)):
        for _bits, _zero in ((8, 0), (8, -128), (8, 127), (8, 3), (16, 0), (16, -32768), (16, 32767)):
            case(
                "FakeQuantize", [_d], [4],
                lambda b, x, s=_scale, bits=_bits, zero=_zero: b.op(
                    "FakeQuantize", x, scale=s, bits=bits, zero_point=zero
                ),
            )  # fmt: skip
    for _bits in (8, 16):
        for _width in (1, 3, 8):
            case("DynamicQuantize", [_d], [_width], lambda b, x, bits=_bits: b.op("DynamicQuantize", x, bits=bits))
            case("DynamicQuantize", ["int64"], [_width], lambda b, x, bits=_bits, d=_d: tame(b, x, d, bits))
    for _weights in ("int8", "int16", "float16"):
        for _shape in ((4, 3), (1, 1), (9, 17)):
            case("QuantizedLinear", [_d], [_shape[0]], lambda b, x, w=_weights, s=_shape: narrow(b, x, w, s))
for _width in (1, 2, 5):
    case("Convolve", ["float64", "float64"], [_width, _width], lambda b, x, y: b.op("Convolve", x, y))
for _op in ("And", "Or"):
    case(_op, ["bool", "bool"], [3, 1], lambda b, x, y, op=_op: b.op(op, x, y))
case("Not", ["bool"], [3], lambda b, x: ~x)
for _d in NUMBERS:
    for _op in ("Neg", "Abs"):
        case(_op, [_d], [4], lambda b, x, op=_op: b.op(op, x))
    for _op in ("ReduceSum", "ReduceMax", "ReduceMin", "ArgMax", "ArgMin"):
        for _width in (1, 2, 6):
            case(_op, [_d], [_width], lambda b, x, op=_op: b.op(op, x))
# The string ops are compared through codes in test_native_engine.py; here stands what IsNone becomes.
case("IsNone", ["int64"], [3], lambda b, x: x == np.array([1]))
for _d in FLOATS:
    case("Lookup", [_d], [1], lambda b, x: b.lookup(x, [3.5, np.nan, 0.0, 3.5, -0.0, np.inf, 1.0, np.nan]))
    case("Lookup", [_d], [1], lambda b, x: b.lookup(x, [2.5]))
    case("Lookup", [_d], [1], lambda b, x: b.lookup(x, []))
case("Lookup", ["int64"], [1], lambda b, x: b.lookup(x, [3, -1, 7, 3, 0]))
case("Lookup", ["int64"], [1], lambda b, x: b.lookup(x, [2**63 - 1, -(2**63), 3, 0, 3]))
case("Lookup", ["int64"], [1], lambda b, x: b.lookup(x, []))
case("Lookup", ["bool"], [1], lambda b, x: b.lookup(x, [True]))
for _to in NUMBERS:
    _keys = np.array([3.5, np.nan, 0.0, 3.5, -0.0, np.inf, 1.0, np.nan])
    for _d in FLOATS:
        case("Recode", [_d], [1], lambda b, x, k=_keys, to=_to: recode(b, x, k.astype(x.dtype), to))
        case("Recode", [_d], [1], lambda b, x, k=_keys, to=_to: recode(b, x, k[:0].astype(x.dtype), to))
    for _ints in map(np.int64, ([3, -1, 7, 3, 0], [2**63 - 1, -(2**63), 3, 0, 3], [])):
        case("Recode", ["int64"], [1], lambda b, x, k=_ints, to=_to: recode(b, x, k, to))
for _d in FLOATS:
    for _shape, _after in (((4, 3), (0, 2, 4)), ((9, 17), (5, 5, 5)), ((1, 1), (1, 1, 1)), ((7, 1), (0, 0, 6))):
        case(
            "TableLinear", [_d, "int64", "int64", "int64"], [_shape[0], 1, 1, 1],
            lambda b, *xs, s=_shape, after=_after: table_linear(b, *xs, shape=s, after=after),
        )  # fmt: skip
    case(
        "TableLinear", [_d, "int64"], [2, 1], lambda b, x, c: table_linear(b, x.select([]), c, shape=(0, 4), after=(0,))
    )
    case("TableLinear", [_d], [5], lambda b, x: table_linear(b, x, shape=(5, 2), after=()))
    case(
        "CheckRange", [_d], [3],
        lambda b, x: b.op(
            "CheckRange", x, low=np.full(3, -np.inf), high=np.full(3, np.inf), allow_nan=np.ones(3, bool),
            columns=np.arange(3), what="step",
        ),
    )  # fmt: skip
for _d in (*NUMBERS, "bool"):
    case("Take", ["bool"], [1], lambda b, x, d=_d: b.take(b.op("Cast", x, to="int64"), cells(d, 3, 2, 9)))
    case("OneHot", ["int64"], [1], lambda b, x, d=_d: b.one_hot(x, 5, d))
for _d in FLOATS:
    _edges = np.array([-np.inf, -1.0, 0.0, 0.5, 1e16, 5e-324, 255.0])
    case("Rank", [_d], [3], lambda b, x, e=_edges: b.op("Rank", x, edges=e, offsets=np.array([0, 5, 5, 7])))
case(
    "Interp",
    ["float64"],
    [1],
    lambda b, x: b.op("Interp", x, xs=np.array([-1.0, 0.0, 0.5, 9.0]), ys=np.array([3.0, -1.0, 1 / 3, 0.1])),
)
case("Interp", ["float64"], [1], lambda b, x: b.op("Interp", x, xs=np.array([0.5]), ys=np.array([2.0])))
case(
    "Interp",
    ["float64"],
    [1],
    lambda b, x: b.op("Interp", x, xs=np.array([-np.inf, 0.0, np.inf]), ys=np.array([1.0, 2.0, 3.0])),
)
for _d in FLOATS:
    for _metric in (*METRICS, MAHALANOBIS):
        _weights = cells("float64", 3, 3, 4) if _metric == MAHALANOBIS else cells("float64", 1, 3, 4)[:, 0]
        case(
            "Distances",
            [_d],
            [3],
            lambda b, x, m=_metric, d=_d, w=_weights: b.distances(x, cells(d, 3, 5, 11), m, p=3.0, weights=w),
        )
    case("Distances", [_d], [2], lambda b, x, d=_d: b.distances(x, cells(d, 2, 4, 3), "minkowski", p=1.5))
    for _k in (1, 3, 9):
        case("TopK", [_d], [9], lambda b, x, k=_k: b.top_k(x, k))
for _k in (1, 2, 3, 6, 9):
    case("HeapK", ["float64"], [9], lambda b, x, k=_k: b.heap_k(x, k))
    case("HeapK", ["int64"], [30], lambda b, x, k=_k: b.heap_k(b.clip(x, 0, 4).cast("float64"), k))
for _leaves in (1, 2, 8):
    _starts = np.sort(np.random.default_rng(_leaves).integers(0, 20, _leaves + 1))
    _starts[0], _starts[-1] = 0, 20
    case(
        "VisitOrder",
        ["float64"],
        [2 * _leaves - 1],
        lambda b, x, s=_starts: b.op("VisitOrder", x, points=np.random.default_rng(1).permutation(20), starts=s),
    )
for _d in (*NUMBERS, "bool"):
    case("TakeAlong", [_d, "float64"], [6, 6], lambda b, x, y: b.take_along(x, b.top_k(y, 4)))
    case("TakeAlong", ["float64"], [6], lambda b, y, d=_d: b.take_along(b.constant(row_of(d, 6, 1)), b.top_k(y, 4)))
for _d in NUMBERS:
    for _size in (1, 3, 12):
        case("SumGroups", [_d], [12], lambda b, x, size=_size: b.op("SumGroups", x, size=size))
for _classes in (2, 3, 5):
    case(
        "CouplePairs",
        ["float64"],
        [_classes * (_classes - 1) // 2],
        lambda b, x, k=_classes: b.op("CouplePairs", b.sigmoid(x), classes=k),
    )
case("CheckFinite", ["int64"], [4], lambda b, x: b.check_finite(b.op("Cast", x, to="float64"), "step"))
for _dtypes, _widths, _build in LOOPS:
    case("Loop", _dtypes, _widths, _build)
for _build in SOLVES:
    case("Solve", ["float64"], [3], _build)
case("Solve", ["float64"], [4], lambda b, x: b.solve(x, x.select([0, 3])))  # of any cells, most not positive definite
case("Require", ["float64", "int64"], [2, 3], lambda b, x, y: b.require(x, b.op("Equal", y, y), "always"))


for _d in FLOATS:
    for _trees in (1, 8, 13):
        for _options in ({}, {"outputs": 3}, {"outputs": 3, "shared": True}, {"categorical": True}):
            _attrs = random_trees(_trees, 4, seed=_trees, **_options)
            case("TreeEnsemble", [_d], [4], lambda b, x, a=_attrs: b.op("TreeEnsemble", x, **a))
            case("TreeLeaves", [_d], [4], lambda b, x, a=_attrs: b.op("TreeLeaves", x, **a))


def whole_trees(trees, features, *, seed, **options):
    """Trees whose thresholds are ranks as they are, the largest one among them."""
    attrs = random_trees(trees, features, seed=seed, **options)
    pool = np.array([0.0, 1.0, 2.0, 3.0, 9.0, 254.0, 255.0, 256.0, 65533.0, 65534.0])
    attrs["threshold"] = np.random.default_rng(seed).choice(pool, len(attrs["threshold"]))
    attrs["missing_left"][:] = 0
    assert forest.ranks(attrs).whole
    return attrs


for _d in FLOATS:
    for _trees in (1, 8, 13):
        for _options in ({}, {"outputs": 2}, {"outputs": 5}, {"outputs": 3, "shared": True}):
            _attrs = whole_trees(_trees, 4, seed=_trees, **_options)
            case("TreeEnsemble", [_d], [4], lambda b, x, a=_attrs: b.op("TreeEnsemble", x, **a))
            case("TreeLeaves", [_d], [4], lambda b, x, a=_attrs: b.op("TreeLeaves", x, **a))


@pytest.mark.parametrize(
    "spoil",
    [
        {"threshold": 0.5}, {"threshold": -1.0}, {"threshold": 65535.0}, {"threshold": np.nan}, {"missing_left": 1},
        {"category_set": 0}, {},
    ],
)  # fmt: skip
def test_thresholds_that_are_no_ranks_as_they_are(kernels, spoil):
    attrs = whole_trees(5, 3, seed=2)
    at = np.flatnonzero(attrs["feature"] >= 0)[1]
    for name, value in spoil.items():
        attrs[name][at] = value
    found = forest.ranks(attrs)
    assert (found is not None and found.whole) == (not spoil or "category_set" in spoil)
    check(kernels, lambda b, x: b.op("TreeEnsemble", x, **attrs), ["float64"], [3], rows=100)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 7, 8, 255, 256, 1000])
def test_ranks_at_every_edge(kernels, count):
    """Cells on each edge and one float beside it, in columns of different lengths."""
    edges = np.unique(np.append(np.random.default_rng(count).normal(size=count), [-np.inf] * (count > 3)))
    both = np.concatenate([edges, [0.25, 0.75]])
    x = np.concatenate([both, np.nextafter(both, np.inf), np.nextafter(both, -np.inf), [np.nan, np.inf, -np.inf]])
    program = program_of(
        lambda b, x: b.op("Rank", x, edges=both, offsets=np.array([0, len(edges), len(both)])), ("float64", 2)
    )
    columns = {"x0": np.column_stack([x, x[::-1]])}
    expected = NumpyExecutor(program).run(columns, len(x), ("y",))["y"][0]
    same_bits(KernelExecutor(program, kernels, 1).run(columns, len(x), ("y",))["y"][0], expected)


def test_every_op_has_an_encoder_and_a_case():
    load_all()
    # Text is read in front of the kernels (edgeml/runtimes/native_front.py).
    ours = set(OPS) - {"OnnxGraph", "Terms", "HashedTerms", "HashedItems", "CountedItems"}
    assert set(CASES) == ours
    # IsNone reads strings only: it becomes Equal before the kernels (edgeml/ir/coded.py).
    assert ours - set(ENCODERS) == {"IsNone"}


def test_encoders_are_where_they_are_looked_for_first():
    load_all()
    for op in set(OPS) & set(ENCODERS):
        file, module = (f.__module__.rpartition(".")[2] for f in (OPS[op].evaluate, ENCODERS[op]))
        assert module in _COMMON if file in ("ops_tensor", "ops_ml", "ops_raw") else f"ops_{module}" == file, op


@pytest.mark.parametrize("op", sorted(CASES))
def test_bits(kernels, op):
    for dtypes, widths, build in CASES[op]:
        check(kernels, build, dtypes, widths)

"""Every kernel gives the interpreter's bits: the same cases over random and awkward cells, in blocks and row by
row.
"""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from edgeml.errors import InputError, NonFiniteError, ProgramError, UnknownCategoryError
from edgeml.ir import Builder
from edgeml.ir.ops import OPS
from edgeml.runtimes.kernels import library, tree_codes
from edgeml.runtimes.kernels.registry import ENCODERS, load_all
from edgeml.runtimes.native_code import KernelExecutor, NumpyExecutor, Workspace

AWKWARD = {
    "float64": [
        0.0, -0.0, 1.0, -1.0, 0.5, 5e-324, -5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, np.inf, -np.inf,
        np.nan, 709.782712893384, 709.7827128933841, -745.1332191019412, -745.13321910194134, 0.55, -0.55,
        np.nextafter(0.55, 0), 1 / 3, 1e16, 9.2e18, -9.3e18, 2.0**63, -(2.0**63), 255.0, 256.0, -0.5, 2.5, 3.5,
    ],
    "float32": [
        0.0, -0.0, 1.0, -1.0, 1e-45, 1.1754944e-38, 3.4028235e38, np.inf, -np.inf, np.nan, 88.72, 88.73, -103.9, -104.0,
        0.55, 0.1, 16777216.0, 2.5, 3.5, 1 / 3, 9.3e18, 255.0, 256.0,
    ],
    "int64": [0, 1, -1, 2, 3, 7, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63), 255, 256, 16777217],
    "bool": [False, True],
}  # fmt: skip
FLOATS = ("float64", "float32")
NUMBERS = (*FLOATS, "int64")
# More than two blocks, and a last one that is not full; see block_for.
ROWS = 531


def cells(dtype, width, rows=ROWS, seed=0):
    """Random cells of ordinary and extreme size with awkward ones strewn in, (rows, width)."""
    rng = np.random.default_rng(seed)
    pool = np.array(AWKWARD[dtype], dtype=dtype)
    if dtype == "bool":
        return rng.random((rows, width)) < 0.5
    if dtype == "int64":
        ordinary = rng.integers(-9, 9, (rows, width))
    else:
        ordinary = rng.normal(size=(rows, width)) * 10.0 ** rng.integers(-3, 4, (rows, width))
    chosen = pool[rng.integers(0, len(pool), (rows, width))]
    return np.where(rng.random((rows, width)) < 0.4, chosen, ordinary.astype(dtype)).astype(dtype)


def same_bits(a, b):
    """Equal bit for bit; one NaN is as good as another, as IEEE leaves their bits open."""
    assert a.dtype == b.dtype
    assert a.shape == b.shape
    if a.dtype.kind == "f":
        both = np.isnan(a) & np.isnan(b)
        a, b = np.where(both, 0, a), np.where(both, 0, b)
    np.testing.assert_array_equal(a.view(np.uint8), b.view(np.uint8))


@pytest.fixture(scope="module")
def kernels():
    found = library.entry()
    assert found is not None, "the tests need Numba"
    return found


def check(kernels, build, dtypes, widths, rows=ROWS):
    """The program that ``build(builder, *values)`` makes: kernels and interpreter agree, on a batch and on
    single rows.
    """
    builder = Builder()
    values = [builder.input(f"x{i}", d, w) for i, (d, w) in enumerate(zip(dtypes, widths, strict=True))]
    results = build(builder, *values)
    results = results if isinstance(results, list) else [results]
    builder.output("y", results, "matrix", "float64")
    program = builder.finish()
    columns = {f"x{i}": cells(d, w, rows, seed=i) for i, (d, w) in enumerate(zip(dtypes, widths, strict=True))}
    expected = NumpyExecutor(program).run(columns, rows, ("y",))["y"]
    executor = KernelExecutor(program, kernels, 1)
    for got, want in zip(executor.run(columns, rows, ("y",))["y"], expected, strict=True):
        same_bits(got, np.ascontiguousarray(want))
    one = one_row(executor)
    for row in range(0, rows, 7):
        for got, want in zip(one({n: c[row] for n, c in columns.items()}), expected, strict=True):
            same_bits(got, np.ascontiguousarray(want[row]))


def one_row(executor):
    """A function that runs the plan of single rows on cells by input name."""
    plan = executor.plan_one("y", list(range(len(executor.program.inputs)))[::-1])
    space = Workspace.make(plan, executor.constants)
    # What an earlier row, or a refused one, has left behind must not matter.
    space.scratch[len(plan.image) :] = -1

    def run(cells):
        for name, r in plan.entries.items():
            value = cells[name].astype(np.float64 if r.dtype in FLOATS else np.int64)
            space.scratch[r.offset : r.offset + r.width] = value.view(np.int64)
        assert executor.library.run(space.pointer) == 0
        results = []
        for r in plan.results["y"]:
            found = space.scratch[r.offset : r.offset + r.width]
            results.append((found.view(np.float64) if r.dtype in FLOATS else found).astype(r.dtype))
        return results

    return run


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


# --- cases: op -> list of (dtypes, widths, build) -----------------------------------------------------------
CASES: dict[str, list] = {}


def case(op, dtypes, widths, build):
    CASES.setdefault(op, []).append((dtypes, widths, build))


for _d in (*NUMBERS, "bool"):
    case("Constant", [_d], [2], lambda b, x, d=_d: [b.op("Concat", x, b.constant(row_of(d, 5, 3)))])
    case("Constant", [_d], [2], lambda b, x, d=_d: [b.constant(row_of(d, 5, 3)), x])
    case("Concat", [_d, _d], [3, 1], lambda b, x, y: b.op("Concat", y, x, y))
    case("Select", [_d], [5], lambda b, x: [x.select([1, 2, 3]), x.select([4, 0, 0]), x.select([]), x.select([2])])
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
case("CheckFinite", ["int64"], [4], lambda b, x: b.check_finite(b.op("Cast", x, to="float64"), "step"))
case("Require", ["float64", "int64"], [2, 3], lambda b, x, y: b.require(x, b.op("Equal", y, y), "always"))


def random_trees(trees, features, *, seed, outputs=1, shared=False, categorical=False, depth=7):
    """Attributes of an ensemble with awkward thresholds, deep and shallow trees, and a tree that is one leaf."""
    rng = np.random.default_rng(seed)
    pool = np.array([v for v in AWKWARD["float64"] if v == v])
    nodes, leaves = [], []

    def grow(level):
        here = len(nodes)
        nodes.append(None)
        if level == 0 or rng.random() < 0.15:
            leaves.append(rng.normal(size=1 if shared else outputs))
            nodes[here] = (-1, -2.0, len(leaves) - 1, 0, 0, -1)
            return here
        threshold = rng.choice(pool) if rng.random() < 0.3 else rng.normal()
        chosen = rng.integers(0, 5) if categorical and rng.random() < 0.5 else -1
        left, right = grow(level - 1), grow(level - 1)
        nodes[here] = (rng.integers(0, features), threshold, left, right, rng.integers(0, 2), chosen)
        return here

    roots = [grow(0 if tree == 1 else int(rng.integers(1, depth + 1))) for tree in range(trees)]
    feature, threshold, left, right, missing_left, sets = map(np.array, zip(*nodes, strict=True))
    return {
        "roots": np.array(roots, dtype=np.int32),
        "feature": feature.astype(np.int32),
        "threshold": threshold.astype(np.float64),
        "left": left.astype(np.int32),
        "right": right.astype(np.int32),
        "missing_left": missing_left.astype(np.uint8),
        "category_set": sets.astype(np.int32),
        "categories": rng.integers(0, 2**32, (5, 8), dtype=np.uint32),
        "leaf_values": np.array(leaves).reshape(len(leaves), -1),
        "target": rng.integers(0, outputs, trees).astype(np.int32) if shared else np.empty(0, dtype=np.int32),
        "base": rng.normal(size=outputs),
    }


for _d in FLOATS:
    for _trees in (1, 8, 13):
        for _options in ({}, {"outputs": 3}, {"outputs": 3, "shared": True}, {"categorical": True}):
            _attrs = random_trees(_trees, 4, seed=_trees, **_options)
            case("TreeEnsemble", [_d], [4], lambda b, x, a=_attrs: b.op("TreeEnsemble", x, **a))
            case("TreeLeaves", [_d], [4], lambda b, x, a=_attrs: b.op("TreeLeaves", x, **a))


def whole_trees(trees, features, *, seed, **options):
    """Trees that the kernels walk over 16-bit codes (tree_codes.py), the largest threshold among them."""
    attrs = random_trees(trees, features, seed=seed, **options)
    pool = np.array([0.0, 1.0, 2.0, 3.0, 9.0, 255.0, 256.0, 65532.0, 65533.0])
    attrs["threshold"] = np.random.default_rng(seed).choice(pool, len(attrs["threshold"]))
    attrs["missing_left"][:] = 0
    assert tree_codes.fits(attrs, features)
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
        {"threshold": 0.5}, {"threshold": -1.0}, {"threshold": 65534.0}, {"threshold": np.nan}, {"missing_left": 1},
        {"category_set": 0}, {},
    ],
)  # fmt: skip
def test_trees_beyond_16_bit_codes_are_walked_otherwise(kernels, spoil):
    attrs = whole_trees(5, 3, seed=2)
    at = np.flatnonzero(attrs["feature"] >= 0)[1]
    for name, value in spoil.items():
        attrs[name][at] = value
    assert tree_codes.fits(attrs, 3) == (not spoil)
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
    ours = set(OPS) - {"OnnxGraph"}
    assert set(CASES) == ours
    # IsNone reads strings only: it becomes Equal before the kernels (edgeml/ir/coded.py).
    assert ours - set(ENCODERS) == {"IsNone"}


@pytest.mark.parametrize("op", sorted(CASES))
def test_bits(kernels, op):
    for dtypes, widths, build in CASES[op]:
        check(kernels, build, dtypes, widths)


# --- rows that are refused ----------------------------------------------------------------------------------
def program_of(build, *types):
    builder = Builder()
    values = [builder.input(f"x{i}", d, w) for i, (d, w) in enumerate(types)]
    builder.output("y", [build(builder, *values)], "matrix", "float64")
    return builder.finish()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("allow_nan", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_check_finite_names_the_cell(kernels, dtype, allow_nan, bad):
    program = program_of(lambda b, x: b.check_finite(x * 1.0, "scale", allow_nan=allow_nan), (dtype, 5))
    executor = KernelExecutor(program, kernels, 1)
    x = np.ones((700, 5), dtype=dtype)
    x[600, 3] = x[600, 4] = x[650, 0] = bad
    if allow_nan and np.isnan(bad):
        same_bits(executor.run({"x0": x}, 700, ("y",))["y"][0], x)
        return
    with pytest.raises(NonFiniteError) as expected:
        NumpyExecutor(program).run({"x0": x}, 700, ("y",))
    with pytest.raises(NonFiniteError) as found:
        executor.run({"x0": x}, 700, ("y",))
    assert str(found.value) == str(expected.value)
    assert f"given {bad} (row 600, its column 3)" in str(found.value)
    x[:] = 2.0
    same_bits(executor.run({"x0": x}, 700, ("y",))["y"][0], x)


@pytest.mark.parametrize(("kind", "error"), [("category", UnknownCategoryError), ("input", InputError)])
def test_require_names_the_row(kernels, kind, error):
    program = program_of(lambda b, x, y: b.require(x, y >= 0, "a message", kind), ("float64", 1), ("int64", 3))
    y = np.zeros((400, 3), dtype=np.int64)
    y[333, 2] = -1
    columns = {"x0": np.zeros(400), "x1": y}
    with pytest.raises(error) as expected:
        NumpyExecutor(program).run(columns, 400, ("y",))
    for threads in (1, 2):
        with pytest.raises(error) as found:
            KernelExecutor(program, kernels, threads).run(columns, 400, ("y",))
        assert str(found.value) == str(expected.value)


def test_an_index_outside_its_table_never_reads_memory(kernels):
    program = program_of(lambda b, x: b.take(x, np.arange(6.0).reshape(3, 2)), ("int64", 1))
    executor = KernelExecutor(program, kernels, 1)
    for wrong in (-1, 3, 2**62, -(2**63)):
        with pytest.raises(ProgramError, match=r"Take .* outside its table \(row 1\)"):
            executor.run({"x0": np.array([0, wrong])}, 2, ("y",))
    same_bits(executor.run({"x0": np.array([2, 0])}, 2, ("y",))["y"][0], np.array([[4.0, 5.0], [0.0, 1.0]]))


def test_a_program_that_asks_for_too_much_memory_is_refused(kernels):
    program = program_of(lambda b, x: b.one_hot(x, 2**40), ("int64", 1))
    with pytest.raises(ProgramError, match="more than the native engine can hold"):
        KernelExecutor(program, kernels, 1)


# --- layout -------------------------------------------------------------------------------------------------
def test_values_share_scratch_once_they_are_dead(kernels):
    """A chain of a hundred operations needs two columns of scratch, aliases and constants included."""

    def build(b, x):
        for step in range(100):
            x = b.check_finite(x + b.constant(np.array([float(step)])), f"step {step}")
            x = x.select([1, 2, 0]) if step % 3 == 0 else x.select([0, 1, 2])
        return x

    program = program_of(build, ("float64", 3))
    executor = KernelExecutor(program, kernels, 1)
    plan = executor.plan_one("y", [0])
    assert plan.cells - len(plan.image) < 40
    x = cells("int64", 3, 99).clip(-99, 99).astype(float)
    same_bits(executor.run({"x0": x}, 99, ("y",))["y"][0], NumpyExecutor(program).run({"x0": x}, 99, ("y",))["y"][0])


def test_a_wide_program_uses_small_blocks(kernels):
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(3000, 2))
    program = program_of(lambda b, x: b.linear(x, weight, 0.5), ("float64", 3000))
    x = rng.normal(size=(50, 3000))
    found = KernelExecutor(program, kernels, 1).run({"x0": x}, 50, ("y",))["y"][0]
    same_bits(found, NumpyExecutor(program).run({"x0": x}, 50, ("y",))["y"][0])


def test_threads_split_rows(kernels):
    program = program_of(lambda b, x: b.softmax(x), ("float64", 4))
    x = np.random.default_rng(0).normal(size=(5001, 4))
    expected = NumpyExecutor(program).run({"x0": x}, 5001, ("y",))["y"][0]
    for threads in (2, 3, 8):
        same_bits(KernelExecutor(program, kernels, threads).run({"x0": x}, 5001, ("y",))["y"][0], expected)


def test_trees_that_share_nodes(kernels):
    """Two parents of one child, and two trees with one root, are legal programs."""
    i32 = lambda *v: np.array(v, dtype=np.int32)  # noqa: E731
    attrs = {
        "roots": i32(0, 0, 1), "feature": i32(0, 0, 1, -1, -1), "threshold": np.array([0.0, -1.0, 1.0, 0.0, 0.0]),
        "left": i32(1, 2, 3, 1, 0), "right": i32(2, 4, 4, 0, 0), "missing_left": i32(0, 1, 0, 0, 0).astype(np.uint8),
        "category_set": i32(-1, -1, -1, -1, -1), "categories": np.empty((0, 8), dtype=np.uint32),
        "leaf_values": np.array([[2.0], [3.0]]), "target": i32(), "base": np.array([0.5]),
    }  # fmt: skip
    check(kernels, lambda b, x: b.op("TreeEnsemble", x, **attrs), ["float64"], [2], rows=60)


@pytest.mark.parametrize("seed", range(12))
def test_random_programs(kernels, seed):
    """Eighty operations over each other's results: places in scratch are reused, and nothing that lives is lost."""
    rng = np.random.default_rng(seed)

    def build(b, x, y):
        values = [x, y, b.constant(rng.normal(size=3))]
        for _ in range(80):
            u, v = (values[i] for i in rng.integers(max(0, len(values) - 12), len(values), 2))
            kind = rng.integers(0, 9)
            if kind < 3 and (u.width == v.width or 1 in (u.width, v.width)):
                values.append(b.op(("Add", "Mul", "Maximum")[kind], u, v))
            elif kind == 3:
                values.append(u.select(rng.integers(0, u.width, rng.integers(1, 4))))
            elif kind == 4:
                first = rng.integers(0, u.width)
                values.append(u.select(slice(first, u.width)))
            elif kind == 5 and u.width + v.width < 9:
                values.append(b.concat([u, v]))
            elif kind == 6:
                values.append(b.softmax(u))
            elif kind == 7:
                values.append(b.linear(u, rng.normal(size=(u.width, 2)), 0.5))
            else:
                whole = u.cast("int64")
                values.append(b.require(b.where(u > 0, u, -u), whole == whole, "always"))
        return [values[i] for i in rng.integers(0, len(values), 6)]

    check(kernels, build, ["float64", "float64"], [3, 2], rows=300)


def test_kernels_are_numbered_alike_whichever_is_imported_first():
    code = "from edgeml.runtimes.kernels import trees, registry; print([k.name for k in registry.load_all()])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str([k.name for k in load_all()])

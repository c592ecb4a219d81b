"""Every op of the table in ONNX against the interpreter: bit for bit where the op's arithmetic is exact."""

import numpy as np
import pytest

from edgeml.ir import Builder, interpreter
from edgeml.ir.metrics import MAHALANOBIS, METRICS
from edgeml.ir.ops import OPS
from edgeml.ir.ops_raw import NATIVE_ONLY
from edgeml.targets.onnx import lower
from edgeml.targets.onnx_graph import CHECKS, LOWERINGS
from tests.loops import LOOPS, SOLVES
from tests.onnx_oracle import ABOUT, INF, NAN, TREE, assert_equal, run

FLOATS = np.array([0.0, -0.0, 1.5, -2.5, NAN, INF, -INF, 5e-324, 1e308, -1e308, 1e-3, 3.0, 3.0000000000000004])
INTS = np.array([0, 1, -1, 7, 2**53 + 1, -(2**63), 2**63 - 1])
TEXTS = np.array(["a", "b", "", None, NAN, "nan", "None", "😀", "a\0b", "ä"], dtype=object)


def pairs(values):
    """Every value beside every value, as two columns."""
    x, y = np.meshgrid(np.arange(len(values)), np.arange(len(values)))
    return values[x.ravel()], values[y.ravel()]


def rows_of(values, width, count=200, seed=0):
    return np.random.default_rng(seed).choice(values, (count, width))


class Case:
    """One op: columns by name, and a function of Builder and inputs that gives the value to compare."""

    def __init__(self, columns, build, rtol=0.0, id=""):
        self.columns = {k: np.asarray(v) for k, v in columns.items()}
        self.build, self.rtol, self.id = build, rtol, id

    def program(self):
        b = Builder()
        inputs = []
        for name, x in self.columns.items():
            dtype = "string" if x.dtype == object else x.dtype.name
            inputs.append(b.input(name, dtype, 1 if x.ndim == 1 else x.shape[1]))
        value = self.build(b, *inputs)
        dtype = "O" if value.dtype == "string" else np.dtype(value.dtype).str
        b.output("transform", [value], "matrix", dtype)
        return b.finish()


def unary(name, values, widths=(1,), **options):
    def build(b, x):
        return b.op(name, x)

    return [Case({"x": values if w == 1 else rows_of(values, w)}, build, id=f"{name}-{w}", **options) for w in widths]


def binary(name, *value_sets):
    def build(b, x, y):
        return b.op(name, x, y)

    cases = []
    for values in value_sets:
        x, y = pairs(values)
        cases.append(Case({"x": x, "y": y}, build, id=f"{name}-{values.dtype}"))
        wide = {"x": rows_of(values, 3), "y": rows_of(values, 1, seed=1)}
        cases.append(Case(wide, build, id=f"{name}-{values.dtype}-broadcast"))
    return cases


def attributes(op, columns, rtol=0.0, **attrs):
    return Case(columns, lambda b, *xs: b.op(op, *xs, **attrs), rtol, id=f"{op}")


F4 = FLOATS[np.abs(FLOATS) != 1e308].astype(np.float32)
BOOLS = np.array([True, False])
POINTS = rows_of(np.array([0.0, 1.0, -0.5, 3.0, NAN]), 20, 9, seed=2)
VARIANCES = rows_of(np.array([0.5, 1.0, 2.0, 0.25]), 20, 20, seed=3)
LOOP_CELLS = {
    "float64": np.array([0.3, 2.0, 17.5, 1e6]), "float32": np.array([0.1, -2.0, 3.5], np.float32),
    "int64": np.array([-7, 0, 2, 11, 40]), "bool": BOOLS,
}  # fmt: skip
ARITHMETIC = np.array([0.1, -0.2, 3.7, 1e10, -1e-10, 1e300])

CASES = {
    "Constant": [
        Case({"x": FLOATS}, lambda b, x: b.constant(np.array([1.5, -0.0, NAN])), id="Constant-float"),
        Case({"x": FLOATS}, lambda b, x: b.constant(("a", None, NAN, "😀")), id="Constant-string"),
    ],
    "Concat": [
        Case({"x": TEXTS, "y": TEXTS[::-1]}, lambda b, x, y: b.concat([x, y, x]), id="Concat-string"),
        Case({"x": FLOATS}, lambda b, x: b.concat([b.constant([1.0, 2.0]), x]), id="Concat-one-row"),
        Case({"x": BOOLS}, lambda b, x: b.concat([x, ~x]), id="Concat-bool"),
    ],
    "Select": [
        Case({"x": rows_of(FLOATS, 5)}, lambda b, x: x.select([1, 2, 3]), id="Select-run"),
        Case({"x": rows_of(TEXTS, 5)}, lambda b, x: x.select([4, 0, 0]), id="Select-any-string"),
        Case({"x": rows_of(BOOLS, 3)}, lambda b, x: x.select([2]), id="Select-one"),
    ],
    "Cast": [
        Case({"x": v}, lambda b, x, to=to: b.op("Cast", x, to=to), id=f"Cast-{v.dtype}-{to}")
        for v in (FLOATS, F4, INTS, BOOLS)
        for to in ("float64", "float32", "int64", "bool")
    ],
    **{op: binary(op, ARITHMETIC, FLOATS, F4, INTS) for op in ("Add", "Sub", "Mul", "Minimum", "Maximum")},
    "Div": binary("Div", FLOATS, F4),
    **{op: binary(op, FLOATS, F4, INTS) for op in ("Less", "LessEqual", "Greater", "GreaterEqual")},
    "Equal": [
        *binary("Equal", FLOATS, F4, INTS, BOOLS, TEXTS),
        Case({"x": TEXTS}, lambda b, x: x == b.constant(("a",)), id="Equal-constant"),
        Case({"x": TEXTS}, lambda b, x: x == b.constant((None,)), id="Equal-None"),
        Case({"x": TEXTS}, lambda b, x: x == b.constant((NAN,)), id="Equal-NaN"),
    ],
    "And": binary("And", BOOLS),
    "Or": binary("Or", BOOLS),
    "Not": unary("Not", BOOLS, (1, 2)),
    "Where": [
        Case(
            {"c": rows_of(BOOLS, 1), "x": rows_of(v, 2), "y": rows_of(v, 2, seed=1)},
            lambda b, c, x, y: b.op("Where", c, x, y),
            id=f"Where-{v.dtype}",
        )
        for v in (FLOATS, F4, INTS, BOOLS, TEXTS)
    ],
    "Neg": unary("Neg", FLOATS) + unary("Neg", F4) + unary("Neg", INTS),
    "Abs": unary("Abs", FLOATS) + unary("Abs", F4) + unary("Abs", INTS),
    "Sqrt": unary("Sqrt", FLOATS) + unary("Sqrt", F4),
    **{
        op: unary(op, np.concatenate([FLOATS, np.linspace(-50, 50, 501), [700.0, -700.0]]), rtol=2e-15)
        + unary(op, np.concatenate([F4, np.linspace(-80, 80, 501, dtype=np.float32)]), rtol=2e-7)
        for op in ("Exp", "Log", "Sigmoid", "Tanh")
    },
    **{
        op: unary(op, np.concatenate([FLOATS, np.linspace(-30, 30, 501), np.logspace(-9, 9, 99)]), rtol=1e-11)
        + unary(op, np.concatenate([F4, np.linspace(-3, 3, 501, dtype=np.float32)]), rtol=2e-7)
        for op in ("Log1p", "Expm1", "Sin", "Cos", "Erf", "NormalQuantile", "Digamma", "LogGamma")
    },
    **{
        op: unary(op, np.concatenate([FLOATS, np.linspace(-30, 30, 241), [2.0**52 - 0.5, 2.0**53 + 2]]))
        + unary(op, np.concatenate([F4, np.linspace(-3, 3, 25, dtype=np.float32)]))
        for op in ("Floor", "Round", "Sign")
    },
    "Fmod": [
        Case(dict(zip("xy", pairs(v), strict=True)), lambda b, x, y: b.op("Fmod", x, y), id=f"Fmod-{v.dtype}")
        for v in (np.concatenate([FLOATS, [2.0, -3.0, 0.7]]), np.concatenate([F4, np.array([2.0, -0.3], np.float32)]))
    ],
    "Pow": [
        Case(dict(zip("xy", pairs(v), strict=True)), lambda b, x, y: b.pow(x, y), rtol, id=f"Pow-{v.dtype}")
        for v, rtol in (
            (np.concatenate([FLOATS, [2.0, -3.0, 7.0, 0.5, 1 / 3, 64.0, 65.0, -70.0]]), 1e-12),
            (np.concatenate([F4, np.array([2.0, -3.0, 7.0, 0.5], np.float32)]), 2e-7),
        )
    ],
    "Convolve": [
        Case(
            {"x": rows_of(ARITHMETIC[:5], n), "y": rows_of(ARITHMETIC[:5], n, seed=1)},
            lambda b, x, y: b.op("Convolve", x, y),
            id=f"Convolve-{n}",
        )
        for n in (2, 3, 5)
    ],
    "BesselK": [
        attributes("BesselK", {"x": np.concatenate([FLOATS, np.logspace(-14, 2.5, 99)])}, 1e-12, order=order)
        for order in (0.0, 0.5, -1.0, 2.7)
    ]
    + [attributes("BesselK", {"x": F4}, 2e-7, order=0.3)],
    "IsNaN": unary("IsNaN", FLOATS) + unary("IsNaN", F4) + unary("IsNaN", TEXTS),
    "IsNone": unary("IsNone", TEXTS),
    "ReduceSum": unary("ReduceSum", ARITHMETIC, (1, 2, 3, 17)) + unary("ReduceSum", INTS[:5], (4,)),
    **{
        op: unary(op, FLOATS, (1, 2, 5, 17)) + unary(op, F4, (4,)) + unary(op, INTS, (4,))
        for op in ("ReduceMax", "ReduceMin", "ArgMax", "ArgMin")
    },
    "Softmax": unary("Softmax", np.concatenate([np.linspace(-30, 30, 61), FLOATS]), (1, 2, 5), rtol=1e-14)
    + unary("Softmax", np.linspace(-30, 30, 61, dtype=np.float32), (3,), rtol=2e-7),
    "Linear": [
        Case(
            {"x": rows_of(np.array([0.1, 0.2, 3.7, 11.0]), 4).astype(dtype)},
            lambda b, x, bias=bias: b.linear(x, np.arange(8.0).reshape(4, 2) + 1, bias),
            rtol,
            id=f"Linear-{dtype}-{bias}",
        )
        for dtype, rtol in (("float64", 1e-12), ("float32", 1e-6))
        for bias in (0.0, 0.25)
    ],
    "Lookup": [
        Case({"x": v}, lambda b, x, keys=keys: b.lookup(x, keys), id=f"Lookup-{v.dtype}-{len(keys)}")
        for v, keys in [
            (FLOATS, np.array([3.0, NAN, 0.0, INF, 3.0, 1.5])),
            (FLOATS, np.array([])),
            (F4, np.array([3.0, NAN, -0.0, -INF, 0.001], np.float32)),
            (INTS, np.array([7, -(2**63), 7, 2**53 + 1])),
            (BOOLS, np.array([True])),
            (TEXTS, ("b", "a", "b", "", NAN, "😀", None, "a\0b")),
            (TEXTS, ("nan", "None")),
            (TEXTS, ()),
        ]
    ],
    "Take": [
        Case({"i": np.array([2, 0, 1, 1])}, lambda b, i, t=t: b.take(i, t), id=f"Take-{n}")
        for n, t in {
            "column": np.array([1.5, NAN, -0.0]),
            "rows": np.arange(6.0).reshape(3, 2),
            "int": np.array([5, 6, 7]),
            "bool": np.array([[True, False], [False, False], [True, True]]),
            "string": ("yes", None, "😀"),
        }.items()
    ],
    "OneHot": [
        attributes("OneHot", {"i": np.array([0, 2, -1, 3, 1])}, width=3, dtype=d)
        for d in ("float64", "float32", "int64", "bool")
    ],
    "TreeEnsemble": [attributes("TreeEnsemble", {"x": FLOATS}, **TREE)],
    "TreeLeaves": [attributes("TreeLeaves", {"x": FLOATS}, **TREE)],
    "Rank": [
        attributes("Rank", {"x": np.column_stack([v, v, v])}, edges=edges, offsets=np.array([0, 5, 5, 6]))
        for edges in [np.array([-INF, -0.0, 1e-3, np.nextafter(1e-3, 1), 1e308, 3.0])]
        for v in (FLOATS, F4)
    ],
    "FakeQuantize": [
        attributes("FakeQuantize", {"x": rows_of(v, 3)}, scale=scale, zero_point=zero, bits=bits)
        for v in (FLOATS, F4)
        for bits in (8, 16)
        for scale, zero in ((0.5, 3), (2.0, -(1 << (bits - 1))), (0.25, (1 << (bits - 1)) - 1))
    ],
    "DynamicQuantize": [
        attributes("DynamicQuantize", {"x": rows_of(v, width)}, bits=bits)
        for v in (FLOATS, F4, ARITHMETIC, np.zeros(1))
        for bits in (8, 16)
        for width in (1, 4)
    ],
    "QuantizedLinear": [
        attributes(
            "QuantizedLinear",
            {"x": rows_of(np.array([0.1, 0.2, 3.7, 11.0]), 4).astype(dtype)},
            rtol,
            weight=(np.arange(8.0).reshape(4, 2) - 1).astype(weight),
            scale=np.array([0.5, 0.125], dtype),
            bias=np.array(bias, dtype),
        )
        for dtype, rtol in (("float64", 1e-12), ("float32", 1e-6))
        for weight in ("int8", "int16", "float16")
        for bias in ([0.0, 0.0], [0.25, -7.1])
    ],
    "Interp": [
        attributes(
            "Interp",
            {"x": np.concatenate([FLOATS, knots, np.nextafter(knots, INF), knots + 0.3])},
            xs=knots,
            ys=values,
        )
        for knots, values in [
            (np.array([0.5]), np.array([2.0])),
            (np.array([0.0, 1.0]), np.array([1.0, -1.0])),
            (np.cumsum(np.random.default_rng(0).random(37)) - 5, np.random.default_rng(1).random(37)),
        ]
    ],
    "Loop": [
        Case(
            {f"x{i}": rows_of(LOOP_CELLS[d], w, seed=i) for i, (d, w) in enumerate(zip(dtypes, widths, strict=True))},
            build,
            1e-6 if "float32" in dtypes else 1e-12,
            id=f"Loop-{build.__name__}",
        )
        for dtypes, widths, build in LOOPS
    ],
    "Solve": [
        Case({"x": np.random.default_rng(0).normal(size=(50, 3))}, build, 1e-12, id=f"Solve-{at}")
        for at, build in enumerate(SOLVES)
    ]
    + [
        Case(
            {"x": np.array([[1.0, 2.0, 2.0, 1.0], [0.0, 0.0, 0.0, 1.0], [-1.0, 0.0, 0.0, 1.0], [2.0, 0.5, 0.5, 1.0]])},
            lambda b, x: b.is_nan(b.solve(x, x.select([0, 1]))),
            id="Solve-not-definite",
        )
    ],
    "SumGroups": [
        attributes("SumGroups", {"x": rows_of(cells, 12)}, size=size)
        for cells in (ARITHMETIC, F4[np.isfinite(F4)], np.array([1, -7, 2**40]))
        for size in (1, 4, 12)
    ],
    "CouplePairs": [
        attributes(
            "CouplePairs", {"x": rows_of(np.array([1e-7, 0.1, 0.5, 0.83, 1 - 1e-7]), k * (k - 1) // 2)}, 1e-9, classes=k
        )
        for k in (2, 3, 6)
    ],
    "CheckFinite": [
        attributes("CheckFinite", {"x": ARITHMETIC}, allow_nan=False, what="step (Estimator)"),
        attributes("CheckFinite", {"x": FLOATS[:5]}, allow_nan=True, what="step (Estimator)"),
    ],
    "Distances": [
        Case(
            {"x": rows_of(FLOATS if dtype == "float64" else F4, width)},
            lambda b, x, m=metric, w=width: b.distances(
                x, POINTS[:, :w], m, p=2.5, weights=VARIANCES[:w, :w] if m == MAHALANOBIS else VARIANCES[0, :w]
            ),
            1e-6 if metric in ("minkowski", MAHALANOBIS) else 0.0,
            id=f"Distances-{metric}-{dtype}-{width}",
        )
        for metric in (*METRICS, MAHALANOBIS)
        for dtype in ("float64", "float32")
        for width in (2, 20)
    ],
    "TopK": [
        Case({"x": rows_of(values, 40)}, lambda b, x, k=k: b.top_k(x, k), id=f"TopK-{values.dtype}-{k}")
        for values in (FLOATS[FLOATS != INF], F4[F4 != INF])
        for k in (1, 7, 40)
    ],
    "HeapK": [
        Case({"x": rows_of(values, width)}, lambda b, x, k=k: b.heap_k(x, k), id=f"HeapK-{len(values)}-{width}-{k}")
        for values in (np.array([0.0, 1.0, 2.0, 5.0, INF]), np.arange(50) * 0.1)
        for width in (9, 40, 700)
        for k in (1, 2, 5, 9)
    ],
    "VisitOrder": [
        Case(
            {"x": rows_of(np.array([0.0, 1.0, 2.0, INF]), 2 * leaves - 1)},
            lambda b, x, s=starts: b.op("VisitOrder", x, points=np.random.default_rng(1).permutation(20), starts=s),
            id=f"VisitOrder-{leaves}",
        )
        for leaves, starts in ((1, np.array([0, 20])), (2, np.array([0, 7, 20])), (4, np.array([0, 3, 3, 11, 20])))
    ],
    "TakeAlong": [
        *(
            Case(
                {"x": rows_of(values, 5), "y": rows_of(ARITHMETIC, 5)},
                lambda b, x, y: b.take_along(x, b.top_k(y, 3)),
                id=f"TakeAlong-{values.dtype}",
            )
            for values in (FLOATS, F4, INTS, BOOLS)
        ),
        Case(
            {"y": rows_of(ARITHMETIC, 5)},
            lambda b, y: b.take_along(b.constant([1.5, 2.5, -0.0, NAN, 7.0]), b.top_k(y, 3)),
            id="TakeAlong-one-row",
        ),
        Case(
            {"x": rows_of(INTS, 5)},
            lambda b, x: b.take_along(x, b.top_k(b.constant([3.0, 1.0, 2.0, 0.0, 9.0]), 3)),
            id="TakeAlong-one-row-of-positions",
        ),
    ],
    "Require": [
        Case(
            {"x": TEXTS},
            lambda b, x: b.require(x, ~(x == b.constant(("z",))), "z is refused"),
            id="Require-string",
        ),
        Case({"x": INTS}, lambda b, x: b.require(b.constant([2.0]), x == x, "never"), id="Require-one-row"),
    ],
}


# --- every op -----------------------------------------------------------------------------------------------
def test_every_op_has_a_lowering_and_a_case():
    # No op of ONNX hashes a string: a model with these is refused by name. test_onnx_text.py has the cases of Terms.
    ours = set(OPS) - set(NATIVE_ONLY) - {"HashedTerms", "HashedItems", "CountedItems"}
    assert set(LOWERINGS) | set(CHECKS) == ours
    ours -= {"Terms"}
    assert not set(LOWERINGS) & set(CHECKS)
    assert set(CHECKS) == {name for name in ours if OPS[name].effect}
    assert set(CASES) == ours - {"OnnxGraph"}


@pytest.mark.parametrize("case", [pytest.param(c, id=c.id) for cases in CASES.values() for c in cases])
def test_op(case):
    program = case.program()
    data = lower(program, ABOUT)["model.onnx"]
    want = interpreter.run(program, case.columns)["transform"]
    assert_equal(run(data, case.columns), want, case.rtol)
    assert_equal(run(data, case.columns, threads=2, optimise=False), want, case.rtol)
    for row in (0, -1):
        one = {k: v[row:][:1] for k, v in case.columns.items()}
        assert_equal(run(data, one), want[row:][:1], case.rtol)

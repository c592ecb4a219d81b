"""All passes on random programs: every bit and every refusal stays, and a second run finds nothing."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeml.ir import Builder, interpreter
from edgeml.passes import EXACT, run_passes
from edgeml.passes.infrastructure import same_bits
from tests.pass_tools import AWKWARD, NOT_FINITE

FLOAT_CELLS = st.one_of(st.sampled_from(AWKWARD + NOT_FINITE), st.floats(-10, 10))
CELLS = {
    "float64": FLOAT_CELLS,
    "float32": st.floats(width=32),
    "int64": st.one_of(st.integers(-3, 3), st.integers(-(2**63), 2**63 - 1)),
    "bool": st.booleans(),
    "string": st.sampled_from(["a", "b", "", "\U0001f600", None, float("nan")]),
}
FLOATS = ("float64", "float32")


@st.composite
def programs(draw):
    """A small random program and rows for it."""
    b, rows, pool = Builder(), {}, []
    count = draw(st.integers(1, 4))
    for i in range(draw(st.integers(1, 4))):
        dtype = draw(st.sampled_from(sorted(CELLS)))
        width = 1 if dtype == "string" else draw(st.integers(1, 3))
        pool.append(b.input(f"c{i}", dtype, width))
        cells = [draw(CELLS[dtype]) for _ in range(count * width)]
        column = np.empty(count * width, dtype=object if dtype == "string" else dtype)
        column[:] = cells
        rows[f"c{i}"] = column.reshape(count, width)

    def some(*dtypes):
        """A value of one of the dtypes; a constant when there is none, or now and then."""
        found = [v for v in pool if v.dtype in dtypes]
        if found and draw(st.integers(0, 4)):
            return draw(st.sampled_from(found))
        dtype = draw(st.sampled_from(dtypes))
        if dtype == "string":
            return b.constant((draw(CELLS["string"]),))
        return b.constant(np.array([draw(CELLS[dtype])], dtype=dtype))

    def like(x):
        """A value that fits x in an elementwise op."""
        found = [v for v in pool if v.dtype == x.dtype and (v.width in (1, x.width) or x.width == 1)]
        return draw(st.sampled_from(found)) if found else x

    def select(x):
        return x.select(draw(st.lists(st.integers(0, x.width - 1), min_size=1, max_size=4)))

    def linear():
        x = some("float64")
        weight = np.array([[draw(FLOAT_CELLS)] for _ in range(x.width)])
        return b.linear(x, weight, draw(FLOAT_CELLS))

    def binary(names, dtypes):
        x = some(*dtypes)
        return b.op(draw(st.sampled_from(names)), x, like(x))

    def where():
        x = some(*FLOATS, "string")
        condition = b.is_nan(x) if draw(st.booleans()) else like(some("bool"))
        y = like(x)
        widths = {v.width for v in (condition, x, y)} - {1}
        return b.op("Where", condition, y, x) if len(widths) < 2 else x

    makers = [
        lambda: binary(["Add", "Sub", "Mul", "Minimum", "Maximum"], (*FLOATS, "int64")),
        lambda: binary(["Div"], FLOATS),
        lambda: binary(["Less", "Equal", "GreaterEqual"], (*FLOATS, "int64")),
        lambda: binary(["And", "Or"], ("bool",)),
        lambda: b.op(
            draw(st.sampled_from(["Neg", "Abs", "Sqrt", "Exp", "Log", "Sigmoid", "Tanh", "Softmax"])),
            some(*FLOATS),
        ),
        lambda: some(*FLOATS, "bool", "int64").cast(draw(st.sampled_from(["float64", "float32", "bool"]))),
        lambda: select(some(*CELLS)),
        lambda: b.op("Concat", *[x := some(*CELLS), *[v for v in pool if v.dtype == x.dtype][:2]]),
        lambda: b.op(draw(st.sampled_from(["ReduceSum", "ReduceMax", "ArgMin"])), some(*FLOATS)),
        lambda: b.one_hot(b.lookup(some("string").select([0]), ("a", None, float("nan"))), 2),
        lambda: b.check_finite(some(*FLOATS), "step", allow_nan=draw(st.booleans())),
        lambda: b.require(x := some(*FLOATS), b.is_nan(x), "no"),
        where,
        linear,
    ]
    for _ in range(draw(st.integers(1, 12))):
        make = draw(st.sampled_from(makers))
        pool.append(make())  # each maker reads the pool so far
    for i in range(draw(st.integers(1, 3))):
        value = draw(st.sampled_from(pool))
        b.output(f"out{i}", [value], "matrix", "|O" if value.dtype == "string" else np.dtype(value.dtype).str)
    return b.finish(), rows


@settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(programs())
def test_exact_passes_keep_every_bit_and_every_refusal(example):
    program, rows = example
    origins = {node.origin for node in program.nodes} | {""}
    settled = program
    for _ in range(20):
        settled, changed = run_passes(settled, EXACT, rows)
        if not changed:
            break
    assert not changed
    assert {node.origin for node in settled.nodes} <= origins
    before, after = _outcome(program, rows), _outcome(settled, rows)
    assert type(before) is type(after)
    if isinstance(before, dict):
        assert all(same_bits(before[name], after[name]) for name in before)
    else:
        assert str(before) == str(after)


def _outcome(program, rows):
    from edgeml.errors import InputError

    try:
        return interpreter.run(program, rows)
    except InputError as error:
        return error

"""Trees over raw columns, on programs made by hand: exact cuts of scaled numbers, sets of categories."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeml.errors import PassError
from edgeml.ir import Builder, interpreter
from edgeml.passes import run_passes
from edgeml.passes.cells import Missing, Monotone, Step, Tracer
from edgeml.passes.cuts import cuts
from edgeml.passes.infrastructure import same_bits
from edgeml.passes.raw import raw
from edgeml.passes.raw_trees import RAW_TREES
from edgeml.passes.rewrite import Graph
from tests.kernel_tools import random_trees
from tests.pass_tools import ops
from tests.raw_tools import CELLS, beside, leaves, same_leaves, stumps, words

CONSTANTS = st.one_of(st.sampled_from([-3.0, 0.5, 1e300, 5e-324, 1e-200, -0.0]), st.floats(-50, 50))


# --- numbers ------------------------------------------------------------------------------------------------
@st.composite
def chains(draw):
    """A chain of operations with constants, and the dtype of the column it starts from."""
    steps = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["Add", "Sub", "Mul", "Div", "Minimum", "Maximum", "Neg", "Cast", "Impute", "Before"]),
                CONSTANTS,
            ),
            min_size=1,
            max_size=5,
        )
    )
    return steps, draw(st.sampled_from(["float64", "float32"]))


def chain(b, x, steps):
    for op, number in steps:
        with np.errstate(over="ignore"):
            constant = b.constant(np.array([number], dtype=x.dtype))
        if op == "Neg":
            x = -x
        elif op == "Cast":
            x = x.cast("float32" if x.dtype == "float64" else "float64")
        elif op == "Impute":
            x = b.where(b.is_nan(x), constant, x)
        elif op == "Before":
            x = b.op("Sub", constant, x)
        else:
            x = b.op(op, x, constant)
    return x


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    chains(),
    st.lists(st.one_of(CONSTANTS, st.sampled_from([np.inf, -np.inf, 3.4e38])), min_size=1, max_size=6),
    st.booleans(),
)
def test_cuts_of_any_chain(example, thresholds, missing_left):
    steps, dtype = example
    before = leaves(lambda b, x: chain(b, x, steps), dtype, **stumps(thresholds, missing_left))
    after, _ = run_passes(before, [RAW_TREES])
    found = after.nodes[-1].attrs["threshold"]
    with np.errstate(over="ignore"):
        cells = beside(np.concatenate([CELLS, found]).astype(dtype))
    same_leaves(before, after, cells)


def test_a_scaled_column_is_read_raw():
    thresholds = np.linspace(-2, 2, 50)
    before = leaves(lambda b, x: ((x - 5.0) / 3.0).cast("float32"), **stumps(thresholds))
    after, _ = run_passes(before, [RAW_TREES])
    assert after.nodes[-1].inputs == (0,)
    found = after.nodes[-1].attrs["threshold"][::3]
    assert np.all(np.abs(found - (5 + 3 * thresholds)) < 1e-5)
    same_leaves(before, after, beside(np.concatenate([CELLS, found])))


def test_a_falling_scale_changes_children():
    before = leaves(lambda b, x: x / -3.0 + 1.0, **stumps([0.25], missing_left=1))
    after, _ = run_passes(before, [RAW_TREES])
    assert after.nodes[-1].attrs["left"][0] == 2
    assert after.nodes[-1].attrs["missing_left"][0] == 0
    same_leaves(before, after, beside(np.concatenate([CELLS, after.nodes[-1].attrs["threshold"][:1]])))


@pytest.mark.parametrize("threshold", [-1.0, 0.0, 0.5, 1.0, 2.0])
def test_what_every_number_does(threshold):
    """Clipped columns and indicators: all numbers may go one way, infinity included."""
    for build in (
        lambda b, x: b.minimum(b.maximum(x, 0.0), 1.0),
        lambda b, x: b.is_nan(x).cast("float64"),
        lambda b, x: (~b.is_nan(x)).cast("float32") * b.constant(np.array([2.0], np.float32)),
        lambda b, x: (x > 0.5).cast("float64"),
        lambda b, x: b.concat([b.constant(0.5), x - 1.0]),
    ):
        for missing_left in (0, 1):
            before = leaves(build, **stumps([threshold], missing_left))
            same_leaves(before, run_passes(before, [RAW_TREES])[0], beside(CELLS))


@pytest.mark.parametrize(
    "build",
    [
        lambda b, x: x * x,
        lambda b, x: b.abs(x),
        lambda b, x: b.exp(x),
        lambda b, x: x * 0.0,
        lambda b, x: x / 0.0,
        lambda b, x: 1.0 / x,
        lambda b, x: x + np.inf,
        lambda b, x: b.where(x == -1.0, 4.0, x),
    ],
)
def test_what_is_not_proved_stays(build):
    before = leaves(build, **stumps([0.5]))
    assert run_passes(before, [RAW_TREES])[0] is before


def test_a_trace_that_is_not_monotone_is_found():
    steps = (Step("Sub", np.array([1.0])), Step("Abs"))  # no tracer would put them in a chain
    fake = Monotone((0, 0), steps, True, np.full(1, np.nan))
    with pytest.raises(PassError, match="a cut in raw units"):
        cuts([fake], np.zeros(1, dtype=np.int64), np.array([2.0]), ["float64"])


def test_bools_and_integers_keep_their_casts():
    b = Builder()
    x, i = b.input("x", "float64"), b.input("i", "int64", 2)
    joined = b.concat([(x - 1.0) / 2.0, i.cast("float64")]).cast("float32")
    attrs = stumps([0.5, 1.5, -3.0, 0.5, 1.5])
    attrs["feature"][attrs["feature"] >= 0] = [2, 2, 2, 0, 0]
    b.output("y", [b.op("TreeLeaves", joined, **attrs)], "matrix", "<i8")
    before = b.finish()
    after = raw(before)
    rows = {"x": CELLS, "i": np.stack([np.arange(len(CELLS)), np.arange(len(CELLS)) - 9], axis=1)}
    assert same_bits(interpreter.run(before, rows)["y"], interpreter.run(after, rows)["y"])
    assert ops(after) == ["Select", "Cast", "Concat", "TreeLeaves"]


def test_columns_that_no_tree_compares_are_not_put_together():
    b = Builder()
    x, y, z = (b.input(name, "float64") for name in "xyz")
    attrs = stumps([0.5, 1.5])
    attrs["feature"][attrs["feature"] >= 0] = [0, 2]
    b.output("y", [b.op("TreeLeaves", b.concat([x, y, z]).cast("float32"), **attrs)], "matrix", "<i8")
    before = b.finish()
    after = raw(before)
    assert after.inputs == before.inputs
    assert 1 not in {value for node in after.nodes for value in node.inputs}
    cells = beside(CELLS)
    rows = {"x": cells, "y": cells, "z": cells[::-1]}
    assert same_bits(interpreter.run(before, rows)["y"], interpreter.run(after, rows)["y"])
    whole = leaves(lambda b, x: x, width=3, **stumps([0.5]))
    assert raw(whole) is whole


# --- categories ---------------------------------------------------------------------------------------------
def coded(count, thresholds, columns, **trees):
    """Stumps over the one-hot columns of ``count`` words, each in the tree of its column."""
    b = Builder()
    x = b.one_hot(b.lookup(b.where(b.is_nan(s := b.input("x", "string")), "w1", s), words(count)), count)
    attrs = stumps(thresholds, **trees)
    attrs["feature"][attrs["feature"] >= 0] = columns
    b.output("y", [b.op("TreeLeaves", x, **attrs)], "matrix", "<i8")
    return b.finish()


@pytest.mark.parametrize("count", [1, 2, 3, 7, 255, 256, 257, 300, 513, 600])
def test_one_hot_columns_become_sets(count):
    columns = np.unique([0, count // 3, count // 2, count - 1, min(255, count - 1), min(256, count - 1)])
    before = coded(count, np.full(len(columns), 0.5), columns)
    after = raw(before)
    assert "OneHot" not in ops(after)
    cells = np.empty(count + 4, dtype=object)
    cells[:] = [*words(count), "other", None, float("nan"), ""]
    same_leaves(before, after, cells)


def test_more_categories_than_a_set_holds():
    """Every column is asked about, so that none of the 600 categories are alike."""
    before = coded(600, np.full(600, 0.5), np.arange(600))
    after = raw(before)
    assert "OneHot" not in ops(after)
    assert after.nodes[-1].attrs["category_set"].max() > 250
    cells = np.empty(603, dtype=object)
    cells[:] = [*words(600), "other", None, float("nan")]
    same_leaves(before, after, cells)


@pytest.mark.parametrize("thresholds", [[-1.0, 0.0, 0.5, 1.0, 2.0, np.inf]])
@pytest.mark.parametrize("missing_left", [0, 1])
def test_a_table_of_any_numbers(thresholds, missing_left):
    """Target means that neither rise nor fall with the code, NaN among them; and too many for one set."""
    for count in (5, 400):
        table = np.resize([0.5, -3.0, np.nan, 0.0, 1.5, np.inf, 0.5], count + 1)
        b = Builder()
        x = b.take(b.lookup(b.input("x", "string"), words(count)) + 1, table)
        b.output("y", [b.op("TreeLeaves", x, **stumps(thresholds, missing_left))], "matrix", "<i8")
        before = b.finish()
        cells = np.empty(count + 3, dtype=object)
        cells[:] = [*words(count), "other", None, float("nan")]
        same_leaves(before, raw(before), cells)


def test_a_question_that_no_set_holds_keeps_its_column():
    """Codes that alternate over two chunks of 256 categories, each of which another question tells apart."""
    count = 400
    b = Builder()
    code = b.lookup(b.input("x", "string"), words(count))
    x = b.concat([b.take(code + 1, np.arange(count + 1) % 2.0), code.cast("float64"), b.one_hot(code, count)])
    attrs = stumps([0.5, *np.arange(count), 0.5])
    attrs["feature"][attrs["feature"] >= 0] = [0, *([1] * count), 5]
    b.output("y", [b.op("TreeLeaves", x, **attrs)], "matrix", "<i8")
    before = b.finish()
    after = raw(before)
    assert "Take" in ops(after)
    assert "OneHot" not in ops(after)
    cells = np.empty(count + 2, dtype=object)
    cells[:] = [*words(count), "other", None]
    same_leaves(before, after, cells)


@pytest.mark.parametrize("missing_left", [0, 1])
def test_sets_of_codes_stay_sets(missing_left):
    """Categories of a histogram's trees: over codes of a column, and over a scaled number, which stays."""
    sets = [[0, 2], [255], [], list(range(256)), [1, 2, 3]]
    b = Builder()
    x = b.take(b.lookup(b.input("x", "string"), words(6)) + 1, [np.nan, 0.0, 1.0, 2.0, 255.0, 256.0, -1.0])
    b.output("y", [b.op("TreeLeaves", x, **stumps([], missing_left, sets=sets))], "matrix", "<i8")
    before = b.finish()
    cells = np.empty(9, dtype=object)
    cells[:] = [*words(6), "other", None, float("nan")]
    same_leaves(before, raw(before), cells)
    scaled = leaves(lambda b, x: b.concat([x - 1.0, x]), **stumps([], missing_left, sets=sets))
    same_leaves(scaled, raw(scaled), beside(CELLS))


def test_numbers_as_categories():
    for dtype, keys in (("float64", [1.5, np.nan, -0.0, 7.0]), ("int64", [3, -1, 7])):
        b = Builder()
        x = b.one_hot(b.lookup(b.input("x", dtype), keys), len(keys))
        attrs = stumps(np.full(len(keys), 0.5))
        attrs["feature"][attrs["feature"] >= 0] = np.arange(len(keys))
        b.output("y", [b.op("TreeLeaves", x, **attrs)], "matrix", "<i8")
        before = b.finish()
        after = raw(before)
        assert "OneHot" not in ops(after)
        same_leaves(before, after, np.array([*keys, 0, 2, -5]).astype(dtype))


@pytest.mark.parametrize("seed", range(6))
def test_random_trees_over_mixed_columns(seed):
    b = Builder()
    x, s = b.input("x", "float64", 3), b.input("s", "string")
    code = b.lookup(s, words(5))
    parts = [(x - 0.25) / 0.5, b.one_hot(code, 5), code.cast("float64"), b.where(b.is_nan(x), 0.1, x)]
    joined = b.concat(parts)
    attrs = random_trees(9, joined.width, seed=seed, outputs=2, categorical=seed % 2 == 0)
    b.output("y", [b.op("TreeLeaves", joined, **attrs)], "matrix", "<i8")
    b.output("z", [b.op("TreeEnsemble", joined, **attrs)], "matrix", "<f8")
    before = b.finish()
    rng = np.random.default_rng(seed)
    cells = beside(np.concatenate([CELLS, attrs["threshold"] * 0.5 + 0.25, attrs["threshold"]]))
    text = np.empty(500, dtype=object)
    text[:] = [[*words(6), None, float("nan")][i] for i in rng.integers(0, 8, 500)]
    rows = {"x": rng.choice(cells, (500, 3)), "s": text}
    after = raw(before)
    assert after is not before
    want, got = interpreter.run(before, rows), interpreter.run(after, rows)
    assert all(same_bits(want[name], got[name]) for name in want)


def test_traces():
    b = Builder()
    x = b.input("x", "float64", 2)
    missing = b.is_nan(x)
    y = b.where(missing, np.array([1.0, 2.0]), x) - 1.0
    program = b.finish()
    graph = Graph(program.inputs)
    graph.nodes = list(program.nodes)
    trace = Tracer(graph).of(y.id, 1)
    assert isinstance(trace, Monotone)
    assert (trace.base, trace.at_nan.tolist(), [s.op for s in trace.steps]) == ((0, 1), [1.0], ["Sub"])
    assert isinstance(Tracer(graph).of(missing.id, 0), Missing)

"""Kernels over whole programs: rows that are refused, places in scratch, blocks and threads, random programs."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from edgeml.errors import InputError, NonFiniteError, ProgramError, UnknownCategoryError
from edgeml.runtimes.kernels.registry import load_all
from edgeml.runtimes.native_code import KernelExecutor, NumpyExecutor
from tests.kernel_tools import FLOATS, cells, check, program_of, same_bits


# --- rows that are refused ----------------------------------------------------------------------------------
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


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3.25, -0.5])
def test_check_range_names_the_cell_of_the_value_it_stands_for(kernels, dtype, bad):
    attrs = {
        "low": np.array([-np.inf, -0.25, -np.inf]), "high": np.array([np.inf, 3.0, np.inf]),
        "allow_nan": np.array([True, False, True]), "columns": np.array([0, 7, 2]), "what": "model",
    }  # fmt: skip
    program = program_of(lambda b, x: b.op("CheckRange", x, **attrs), (dtype, 3))
    executor = KernelExecutor(program, kernels, 1)
    x = np.ones((700, 3), dtype=dtype)
    x[600:, 1] = bad
    x[5], x[6, 1], x[7, 1] = [np.inf, 3.0, np.nan], -0.25, -0.0
    with pytest.raises(NonFiniteError) as expected:
        NumpyExecutor(program).run({"x0": x}, 700, ("y",))
    with pytest.raises(NonFiniteError) as found:
        executor.run({"x0": x}, 700, ("y",))
    assert str(found.value) == str(expected.value)
    shown = bad if np.isnan(bad) else np.inf if bad > 0 else -np.inf
    assert f"given {shown} (row 600, its column 7)" in str(found.value)
    same_bits(executor.run({"x0": x[:600]}, 600, ("y",))["y"][0], x[:600])


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
    i32 = lambda *v: np.array(v, dtype=np.int32)  # noqa: E731  # one line instead of a helper
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
    numbers = "[(k.name, k.number) for k in registry.load_all()]"
    code = f"from edgeml.runtimes.kernels import special, trees, registry; print({numbers})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str([(k.name, k.number) for k in load_all()])

"""What the tests of kernels share: awkward cells, trees, and programs run by kernels and by the interpreter."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np

from edgeml.ir import Builder
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


def program_of(build, *types):
    """A program of what ``build(builder, *values)`` returns, for inputs of (dtype, width) each."""
    builder = Builder()
    values = [builder.input(f"x{i}", d, w) for i, (d, w) in enumerate(types)]
    builder.output("y", [build(builder, *values)], "matrix", "float64")
    return builder.finish()


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


# A process that runs a small program with the kernels it finds, without the modules in BLOCKED, and says where the
# kernels are from, whether the answers are the interpreter's, and what it has imported.
RUN = """
import sys
BLOCKED = ("numba", "llvmlite")
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Blocked())
import numpy as np
from edgeml.ir import Builder
from edgeml.runtimes.kernels import library
from edgeml.runtimes.native_code import KernelExecutor, NumpyExecutor
b = Builder()
x = b.input("x", "float64", 3)
b.output("y", [b.softmax(x)], "matrix", "<f8")
program, columns = b.finish(), {"x": np.random.default_rng(0).normal(size=(1000, 3))}
found = library.entry()
executors = KernelExecutor(program, found, 1), NumpyExecutor(program)
same = np.array_equal(*(executor.run(columns, 1000, ("y",))["y"][0] for executor in executors))
print(found.source, same)
"""


def run_child(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )
    assert done.returncode == 0, done.stderr
    return done

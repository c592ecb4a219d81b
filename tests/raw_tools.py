"""What the tests of raw-space programs share: pipelines over columns of every kind, and rows that hit every cut."""

from __future__ import annotations

import numpy as np
import pandas as pd

from edgeml.converters import to_program
from edgeml.errors import InputError
from edgeml.ir import Builder, interpreter
from edgeml.parity.leaves import leaf_program
from edgeml.parity.truth import methods_of
from edgeml.passes import optimise
from edgeml.passes.cells import source
from edgeml.passes.rewrite import Graph
from edgeml.sample import numpy_dtypes, read_sample
from tests.pass_tools import AWKWARD as FINITE
from tests.pass_tools import NOT_FINITE

AWKWARD = [
    0.0, -0.0, np.nan, np.inf, -np.inf, 5e-324, -5e-324, 1e-308, 3.4028235e38, 3.5e38, -3.5e38, 1e39, -1e39, 1e300,
    1.7976931348623157e308, -1.7976931348623157e308, 1.0, -1.0, 0.1, 16777217.0,
]  # fmt: skip
WORDS = ["red", "green", "blue", "grey", "", "\U0001f600", "unheard of", None, np.nan]


def frame(rows=400, seed=0, wide=0):
    """Columns of every kind with missing cells, and a target that depends on them."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(50, 9, rows), rng.normal(size=rows) * 1e-3
    color = np.array(["red", "green", "blue", "grey", ""], dtype=object)[rng.integers(0, 5, rows)]
    town = np.array([f"t{i}" for i in range(wide or 12)], dtype=object)[rng.integers(0, wide or 12, rows)]
    X = pd.DataFrame(
        {
            "a": a,
            "b": b,
            "f": rng.normal(-3, 2, rows).astype(np.float32),
            "i": rng.integers(-4, 5, rows),
            "flag": rng.random(rows) < 0.4,
            "grade": rng.integers(0, 4, rows),
            "color": color,
            "town": town,
        }
    )
    X.loc[rng.random(rows) < 0.1, "a"] = np.nan
    X.loc[rng.random(rows) < 0.1, "f"] = np.nan
    X.loc[rng.random(rows) < 0.1, "color"] = np.nan
    X.loc[rng.random(rows) < 0.1, "town"] = None
    score = (
        np.nan_to_num(a - 50) / 9 + 2 * (color == "red") - (town == "t1") + X["flag"] - X["grade"] / 3
        + b * 300 + rng.normal(size=rows) / 2
    )  # fmt: skip
    return X, score.to_numpy()


def programs_of(pipeline, X):
    """The pipeline's optimised program, with the leaves of its trees as outputs."""
    sample = read_sample(pipeline, X)
    returns = {}
    for method in methods_of(pipeline):
        answer = np.asarray(getattr(pipeline, method)(X.head(50)))
        if answer.ndim > 2:
            continue
        returns[method] = (
            "vector" if answer.ndim == 1 else "matrix",
            "O" if answer.dtype.kind in "OU" else answer.dtype.str,
        )
    program = optimise(to_program(pipeline, sample.schema, returns, numpy_dtypes(sample)))
    return leaf_program(program), sample.schema


def cells_of(program, X):
    """Columns of a frame as the interpreter reads them."""
    columns = {}
    for entry in program.inputs:
        cells = X[entry.name].to_numpy()
        columns[entry.name] = cells.astype(object if entry.type.dtype == "string" else entry.type.dtype)
    return columns


def thresholds_by_input(program):
    """For each input, the thresholds that trees compare it with."""
    graph = Graph(program.inputs)
    graph.nodes = list(program.nodes)
    found = {}
    for node in program.nodes:
        if node.op in ("TreeEnsemble", "TreeLeaves"):
            numeric = (node.attrs["feature"] >= 0) & (node.attrs["category_set"] < 0)
            for j in np.unique(node.attrs["feature"][numeric]):
                value, _ = source(graph, (node.inputs[0], int(j)))
                if value < len(program.inputs):
                    at = node.attrs["threshold"][numeric & (node.attrs["feature"] == j)]
                    found.setdefault(program.inputs[value].name, []).append(at)
        if node.op == "CheckRange":
            for j in range(node.type.width):
                value, _ = source(graph, (node.inputs[0], j))
                if value < len(program.inputs):
                    at = np.array([node.attrs["low"][j], node.attrs["high"][j]])
                    found.setdefault(program.inputs[value].name, []).append(at)
    return {name: np.unique(np.concatenate(parts)) for name, parts in found.items()}


# Rows that may be refused stand at the front: they are tried one by one.
MAY_BE_REFUSED = 80
CHUNK = 40


def awkward_rows(X, program, seed=1, most=1200):
    """Rows of the frame with awkward cells strewn in, and cells on and one step beside every threshold."""
    rng = np.random.default_rng(seed)
    cuts = thresholds_by_input(program)
    rows = X.iloc[rng.integers(0, len(X), most)].reset_index(drop=True).copy()
    front = np.arange(most) < MAY_BE_REFUSED
    for name in rows.columns:
        kind, cells = rows[name].dtype, rows[name].to_numpy().copy()
        if not isinstance(kind, np.dtype) or kind.kind == "O":  # pandas 3 has a dtype of strings
            kind, cells = object, cells.astype(object)
            chosen = np.empty(most, dtype=object)
            chosen[:] = [WORDS[i] for i in rng.integers(0, len(WORDS), most)]
            cells = np.where(front & (rng.random(most) < 0.4), chosen, cells)
        elif kind.kind == "f":
            at = cuts.get(name, np.zeros(0)).astype(kind)
            pool = np.concatenate([at, np.nextafter(at, kind.type(-np.inf)), np.nextafter(at, kind.type(np.inf))])
            usual = np.abs(pool) < 1e30
            with np.errstate(over="ignore"):
                unusual = np.concatenate([pool[~usual], np.array(AWKWARD).astype(kind)])
            behind = rng.permutation(pool[usual])[: most - MAY_BE_REFUSED]
            cells[most - len(behind) :] = rng.permutation(behind)
            cells[:MAY_BE_REFUSED] = np.where(
                rng.random(MAY_BE_REFUSED) < 0.4, rng.choice(unusual, MAY_BE_REFUSED), cells[:MAY_BE_REFUSED]
            )
        elif kind.kind == "i":
            pool = np.array([0, 1, -1, 4, 7, 2**31, 2**53 + 1, -(2**63), 2**63 - 1])
            cells = np.where(front & (rng.random(most) < 0.3), pool[rng.integers(0, len(pool), most)], cells)
        rows[name] = pd.Series(cells, dtype=kind)
    return rows


def answers_and_refusals(run, count):
    """What ``run(rows)`` gives for the rows it answers, and for each row it refuses the type of the error."""
    refused = {}
    for start in range(0, count, CHUNK):
        chunk = range(start, min(start + CHUNK, count))
        try:
            run(list(chunk))
        except InputError:
            for row in chunk:
                try:
                    run([row])
                except InputError as error:
                    refused[row] = type(error)
    return run([row for row in range(count) if row not in refused]), refused


def interpret(program, columns):
    """A function that runs the interpreter on rows of the columns."""

    def run(rows):
        return interpreter.run(program, {name: cells[rows] for name, cells in columns.items()})

    return run


# --- programs made by hand ---
CELLS = np.array([*FINITE, *NOT_FINITE, -2.0, 0.3, 7.0, 1e39, -1e39, 5.0, 250.0])


def stumps(thresholds, missing_left=0, feature=0, sets=None):
    """Attributes of one tree of a single node for each threshold, or for each set of categories."""
    sets = [] if sets is None else sets
    count = max(len(thresholds), len(sets))
    nodes = np.arange(3 * count)
    root = nodes % 3 == 0
    category_set = np.full(3 * count, -1)
    category_set[root] = np.arange(count) if len(sets) else -1
    bits = np.zeros((len(sets), 256), dtype=bool)
    for row, members in enumerate(sets):
        bits[row, members] = True
    threshold = np.zeros(3 * count)
    threshold[root] = thresholds if len(thresholds) else 0.0
    return {
        "roots": nodes[root].astype(np.int32),
        "feature": np.where(root, feature, -1).astype(np.int32),
        "threshold": threshold,
        "left": np.where(root, nodes + 1, 2 * (nodes // 3) + nodes % 3 - 1).astype(np.int32),
        "right": np.where(root, nodes + 2, 0).astype(np.int32),
        "missing_left": np.where(root, missing_left, 0).astype(np.uint8),
        "category_set": category_set.astype(np.int32),
        "categories": np.packbits(bits, axis=1, bitorder="little").view("<u4").reshape(-1, 8).astype(np.uint32),
        "leaf_values": np.arange(2.0 * count)[:, None],
        "target": np.empty(0, dtype=np.int32),
        "base": np.zeros(1),
    }


def leaves(build, dtype="float64", width=1, **trees):
    """A program that gives the leaves of stumps over what ``build(builder, input)`` computes."""
    b = Builder()
    x = b.input("x", dtype, width)
    b.output("y", [b.op("TreeLeaves", build(b, x), **trees)], "matrix", "<i8")
    return b.finish()


def beside(cells):
    """The cells and the floats next to them."""
    dtype = cells.dtype.type
    with np.errstate(over="ignore"):
        return np.concatenate([cells, np.nextafter(cells, dtype(-np.inf)), np.nextafter(cells, dtype(np.inf))])


def same_leaves(before, after, cells):
    want, got = (interpreter.run(p, {"x": cells})["y"] for p in (before, after))
    np.testing.assert_array_equal(want, got)


def words(count):
    return tuple(f"w{i}" for i in range(count))

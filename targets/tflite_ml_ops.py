"""TFLite lowerings of linear maps, tables, interpolation and the checks on rows (edgeml/ir/ops_ml.py, trees apart)."""

from __future__ import annotations

import numpy as np

from edgeml.ir.program import Node
from edgeml.ir.table import Array
from edgeml.targets.tflite_fixed import forest_score, steep_interp
from edgeml.targets.tflite_graph import ROWS, Tensor
from edgeml.targets.tflite_lowering import DTYPES, Lowering, Value, lowers


# --- linear ---------------------------------------------------------------------------------------------------------
@lowers("Linear")
def linear(w: Lowering, node: Node, x: Value) -> Tensor:
    weight, bias = w.number(node.attrs["weight"]), w.number(node.attrs["bias"])
    return w.graph.op("FULLY_CONNECTED", [x.tensor, weight.T.copy(), bias], w.shape(node, x))


# --- tables ---------------------------------------------------------------------------------------------------------
@lowers("Lookup")
def lookup(w: Lowering, node: Node, x: Value) -> Tensor:
    """Compares with every key at once; the position of the first that is equal."""
    keys, g = node.attrs["keys"], w.graph
    if isinstance(keys, tuple):
        raise w.refuse("looks strings up")
    if not len(keys):
        minus = g.constant(np.full((1, 1), -1, np.int32))
        return g.op("SELECT_V2", [w.no(), minus, minus], (ROWS, 1), "int32")
    narrow = w.number(keys)
    if keys.dtype.kind == "f" and not np.array_equal(narrow.astype(np.float64), keys, equal_nan=True):
        raise w.refuse("looks up numbers that are not among those of float32")
    shape = (x.shape[0], len(keys))
    if narrow.dtype == bool:
        hit = g.op("EQUAL", [g.cast(x.tensor, "int32"), narrow.astype(np.int32)[None, :]], shape, "bool")
    else:
        hit = g.op("EQUAL", [x.tensor, narrow[None, :]], shape, "bool")
    if keys.dtype.kind == "f" and np.isnan(keys).any():
        is_nan = g.op("NOT_EQUAL", [x.tensor, x.tensor], x.shape, "bool")
        hit = g.op("LOGICAL_OR", [hit, g.op("LOGICAL_AND", [is_nan, np.isnan(keys)[None, :]], shape)], shape)
    # The largest of count, count - 1, …, 1 where a key is equal, else 0: count minus the position.
    marks = np.arange(len(keys), 0, -1, dtype=np.int32)[None, :]
    best = g.reduce("REDUCE_MAX", g.op("MUL", [g.cast(hit, "int32"), marks], shape), 1, keep=True)
    found = g.op("SUB", [np.full((1, 1), len(keys), np.int32), best], (shape[0], 1))
    none = g.op("EQUAL", [best, np.zeros((1, 1), np.int32)], (shape[0], 1), "bool")
    return g.op("SELECT_V2", [none, np.full((1, 1), -1, np.int32), found], (shape[0], 1), "int32")


@lowers("Take")
def take(w: Lowering, node: Node, x: Value) -> Tensor:
    table = node.attrs["table"]
    if isinstance(table, tuple):
        raise w.refuse("gives strings")
    g, rows = w.graph, x.shape[0]
    if table.dtype.kind == "i" and np.array_equal(table, np.arange(len(table))[:, None]):
        return x.tensor  # labels 0, 1, 2, … are their own positions
    values, kept = w.number(table), table.dtype
    rows_of_bits = kept.kind in "iu" and values.size and values.min() >= 0 and values.max() <= 1
    if rows_of_bits and len(values) * -(-values.shape[1] // 8) + _BYTES.size < values.size:
        return _bits(w, values, x)
    if kept.kind in "iu" and values.min(initial=0) >= 0 and values.max(initial=0) < 256:
        values = values.astype(np.uint8)
    found = g.gather(values, g.reshape(x.tensor, (rows,)))
    return g.cast(found, "int32") if kept.kind in "iu" else found


# The bits of every byte, the lowest first.
_BYTES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")


def _bits(w: Lowering, table: Array, x: Value) -> Tensor:
    """Rows of 0 and 1, eight to a byte in the file: what goes which way for every set of categories is mostly that."""
    g, rows, width = w.graph, x.shape[0], table.shape[1]
    packed = np.packbits(table.astype(bool), axis=1, bitorder="little")
    found = g.cast(g.gather(packed, g.reshape(x.tensor, (rows,))), "int32")
    bits = g.reshape(g.gather(_BYTES, found), (rows, 8 * packed.shape[1]))
    if bits.shape[1] > width:
        bits = g.op("SLICE", [bits, np.zeros(2, np.int32), np.array([-1, width], np.int32)], (rows, width))
    return g.cast(bits, "int32")


@lowers("OneHot")
def one_hot(w: Lowering, node: Node, x: Value) -> Tensor:
    g, shape = w.graph, w.shape(node, x)
    hit = g.op("EQUAL", [x.tensor, np.arange(node.attrs["width"], dtype=np.int32)[None, :]], shape, "bool")
    return g.cast(hit, DTYPES[node.type.dtype])


# --- interpolation --------------------------------------------------------------------------------------------------
def is_steep(node: Node) -> bool:
    """Whether an Interp multiplies the rounding of a float32 argument by more than the 1e-5 its result may be off.

    An argument is off by about 1e-6 of the size of the numbers around it.
    """
    xs, ys = node.attrs["xs"], node.attrs["ys"]
    if len(xs) == 1:
        return False
    with np.errstate(all="ignore"):
        slope = np.abs(np.diff(ys) / np.diff(xs)).max()
    return not slope * np.abs(xs).max() * 1e-6 <= 1e-5 * np.abs(ys).max()


@lowers("Interp")
def interp(w: Lowering, node: Node, x: Value) -> Tensor:
    """slope * (x - xs[j]) + ys[j] for x between the first and the last point."""
    if is_steep(node):
        score = forest_score(w.program, node.inputs[0])
        if score is None:
            raise w.refuse("interpolates more steeply than the rounding of float32 allows")
        return steep_interp(w, node, score)
    g, shape, rows = w.graph, x.shape, x.shape[0]
    xs, ys = w.number(node.attrs["xs"]), w.number(node.attrs["ys"])
    if not np.isfinite(xs).all():
        raise w.refuse("interpolates up to infinity")
    inside = g.op("MINIMUM", [g.op("MAXIMUM", [x.tensor, xs[:1, None]], shape), xs[-1:, None]], shape)
    slopes = np.diff(node.attrs["ys"], append=node.attrs["ys"][-1:]) / np.diff(node.attrs["xs"], append=np.inf)
    parts: list[Tensor] | list[Array] = [v.astype(np.float32)[:1, None] for v in (xs, ys, slopes)]
    if len(xs) > 2:
        reached = g.op("GREATER_EQUAL", [inside, xs[None, 1:-1]], (rows, len(xs) - 2), "bool")
        piece = g.reduce("SUM", g.cast(reached, "int32"), 1)
        parts = [g.reshape(g.gather(v.astype(np.float32), piece), (rows, 1)) for v in (xs, ys, slopes)]
    start, value, slope = parts
    rise = g.op("MUL", [g.op("SUB", [inside, start], shape), slope], shape)
    line = g.op("ADD", [rise, value], shape)
    is_nan = g.op("NOT_EQUAL", [x.tensor, x.tensor], shape, "bool")  # MAXIMUM may have dropped it
    return g.op("SELECT_V2", [is_nan, x.tensor, line], shape, "float32")


# --- checks on rows -------------------------------------------------------------------------------------------------
@lowers("CheckFinite")
def check_finite(w: Lowering, node: Node, x: Value) -> Tensor:
    g = w.graph
    if node.attrs["allow_nan"]:
        size = g.op("ABS", [x.tensor], x.shape)
        infinite = g.op("GREATER", [size, np.full((1, 1), np.finfo(np.float32).max, np.float32)], x.shape, "bool")
        fine = w.none_of(infinite)
    else:
        # x - x is 0, or NaN where x is NaN or infinite, and so is the sum of the row; only NaN differs from itself.
        total = g.reduce("SUM", g.op("SUB", [x.tensor, x.tensor], x.shape), 1, keep=True)
        fine = g.op("EQUAL", [total, total], total.shape, "bool")
    w.check(fine, {"op": node.op, **node.attrs})
    return x.tensor


@lowers("Require")
def require(w: Lowering, node: Node, x: Value, ok: Value) -> Tensor:
    fine = w.all_rows(ok)
    if fine.shape[1] > 1:
        fine = w.none_of(w.graph.op("LOGICAL_NOT", [fine], fine.shape))
    w.check(fine, {"op": node.op, **node.attrs})
    return x.tensor

"""ONNX lowerings of the ops over pairs of classes (edgeml/ir/ops_pairs.py).

Each function takes the writer, the node and its inputs, and returns the result's ONNX value. The iteration of
CouplePairs is a Loop, its steps over the classes a Loop inside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from edgeml.ir.ops_pairs import COUPLING_STEPS, COUPLING_TOLERANCE
from edgeml.ir.program import Node, Program
from edgeml.targets.onnx_graph import Tensor, Writer, lowers
from edgeml.targets.onnx_tensor_ops import sum_in_order


@lowers("SumGroups")
def sum_groups(w: Writer, node: Node, x: Tensor) -> ir.Value:
    return _sums(w, x.value, node.attrs["size"], node.type.width)


def _sums(w: Writer, x: ir.Value, size: int, groups: int) -> ir.Value:
    """Sums of ``size`` neighbouring columns each, in order."""
    return w.op("Reshape", sum_in_order(w, w.op("Reshape", x, np.array([-1, size]))), np.array([-1, groups]))


@lowers("CouplePairs")
def couple_pairs(w: Writer, node: Node, x: Tensor) -> ir.Value:
    k = node.attrs["classes"]
    matrix = _matrix(w, w.all_rows(x), k)
    rows = w.op("Shape", matrix, start=0, end=1)
    shares = w.op("Expand", np.full((1, k), 1.0 / k), w.op("Concat", rows, np.array([k]), axis=0))
    going = w.op("Expand", w.constant(np.array([[True]])), w.op("Concat", rows, np.array([1]), axis=0))
    going.type = ir.TensorType(ir.DataType.BOOL)
    columns = w.constant(np.arange(k)[None, :])

    def step(t: ir.Value, part: ir.Value, qp: ir.Value, pqp: ir.Value) -> Sequence[ir.Value]:
        """One class's probability moved to where the sum is least, all divided by their new sum."""
        own_row = w.op("Squeeze", w.op("Gather", matrix, t, axis=1), w.constant(np.array([1])))
        own = w.op("Gather", own_row, t, axis=1)
        own_qp = w.op("Gather", qp, t, axis=1)
        move = w.op("Div", w.op("Sub", pqp, own_qp), own)
        grown = w.op("Add", move, np.float64(1))
        here = w.cast(w.op("Equal", columns, t), "float64")
        change = w.op("Mul", move, w.op("Add", w.op("Mul", move, own), w.op("Mul", own_qp, np.float64(2))))
        return (
            w.op("Div", w.op("Add", part, w.op("Mul", move, here)), grown),
            w.op("Div", w.op("Add", qp, w.op("Mul", move, own_row)), grown),
            w.op("Div", w.op("Div", w.op("Add", pqp, change), grown), grown),
        )

    def sweep(t: ir.Value, p: ir.Value, going: ir.Value) -> Sequence[ir.Value]:
        """A step for every class, in the rows that are not yet near enough."""
        qp = w.op("Squeeze", w.op("MatMul", matrix, w.op("Unsqueeze", p, np.array([2]))), np.array([2]))
        pqp = w.op("ReduceSum", w.op("Mul", p, qp), np.array([1]), keepdims=1)
        error = w.op("ReduceMax", w.op("Abs", w.op("Sub", qp, pqp)), np.array([1]), keepdims=1)
        going = w.op("And", going, w.op("Not", w.op("Less", error, np.float64(COUPLING_TOLERANCE / k))))
        part = _loop(w, k, step, (p, qp, pqp), (k, k, 1))[0]
        return w.op("Where", going, part, p), going

    def any_goes(p: ir.Value, going: ir.Value) -> ir.Value:
        return w.op("ReduceMax", going, keepdims=0)

    return _loop(w, max(COUPLING_STEPS, k), sweep, (shares, going), (k, 1), any_goes)[0]


def _matrix(w: Writer, x: ir.Value, k: int) -> ir.Value:
    """Q of Wu, Lin and Weng, (rows, k, k)."""
    i, j = np.triu_indices(k, 1)
    pairs = len(i)
    place = np.zeros((k, k), dtype=np.int64)
    place[i, j], place[j, i] = np.arange(pairs), np.arange(pairs) + pairs
    both = w.op("Concat", x, w.op("Sub", np.float64(1), x), axis=1)
    against = w.op("Gather", both, place.T[~np.eye(k, dtype=bool)], axis=1)
    own = w.op("Reshape", _sums(w, w.op("Mul", against, against), k - 1, k), np.array([-1, k, 1]))
    product = w.op("Mul", w.op("Gather", both, place, axis=1), w.op("Gather", both, place.T.copy(), axis=1))
    return w.op("Where", w.constant(np.eye(k, dtype=bool)[None]), own, w.op("Neg", product))


def _loop(
    w: Writer,
    trips: int,
    body: Callable[..., Sequence[ir.Value]],
    first: Sequence[ir.Value],
    widths: Sequence[int],
    go_on: Callable[..., ir.Value] | None = None,
) -> list[ir.Value]:
    """``body`` repeated on values (rows, width), given the number of the round (1,), as long as ``go_on`` holds."""
    kinds = [v.type if v.type is not None else ir.TensorType(ir.DataType.DOUBLE) for v in first]
    number, before = w.new(), w.new()
    number.type, number.shape = ir.TensorType(ir.DataType.INT64), ir.Shape([])
    before.type, before.shape = ir.TensorType(ir.DataType.BOOL), ir.Shape([])
    carried = [_typed(w.new(), kind, width) for kind, width in zip(kinds, widths, strict=True)]
    with w.body(Program((), (), {})) as nodes:
        results = body(w.op("Reshape", number, np.array([1])), *carried)
        after = w.op("Identity", before) if go_on is None else go_on(*results)
        after.type, after.shape = ir.TensorType(ir.DataType.BOOL), ir.Shape([])
        outputs = [
            _typed(w.op("Identity", value), kind, width)
            for value, kind, width in zip(results, kinds, widths, strict=True)
        ]
    graph = ir.Graph([number, before, *carried], [after, *outputs], nodes=nodes, name=w.unique("loop"))
    last = [w.new() for _ in kinds]
    inputs = [w.constant(np.int64(trips)), w.constant(np.bool_(True)), *first]
    w.nodes.append(ir.node("Loop", inputs, {"body": graph}, outputs=last, version=w.opsets[""]))
    return last


def _typed(value: ir.Value, kind: ir.TypeProtocol, width: int) -> ir.Value:
    value.type, value.shape = kind, ir.Shape([None, width])
    return value

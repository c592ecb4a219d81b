"""ONNX lowerings of the ops that take many steps for a row (edgeml/ir/ops_iterate.py).

A loop becomes the operator Loop, whose body holds the body's own lowering; rows that are done keep their state by
Where. Systems of equations are solved by elimination, which onnxruntime does for all rows at once, column by column.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeml.ir.interpreter import needed
from edgeml.ir.program import Node, Program, ValueType
from edgeml.targets import onnx_quantised
from edgeml.targets.onnx_graph import LOWERINGS, Tensor, Writer, lowers

_BOOL = ValueType("bool", 1)


@lowers("Loop")
def loop(w: Writer, node: Node, state: Tensor, *given: Tensor) -> ir.Value:
    body: Program = node.attrs["body"]
    one_row = state.one_row and all(x.one_row for x in given)
    first = state.value if one_row else w.all_rows(state)
    rows = w.op("Shape", first, start=0, end=1)
    true = w.op("Expand", np.array([[True]]), w.op("Concat", rows, np.array([1]), axis=0))
    with w.body(body) as nodes:
        count, going = w.new(), w.new()
        count.type, count.shape = ir.TensorType(ir.DataType.INT64), ir.Shape([])
        going.type, going.shape = ir.TensorType(ir.DataType.BOOL), ir.Shape([])
        before, active = w.declare(w.new(), node.type, one_row), w.declare(w.new(), _BOOL, one_row)
        after, more = _results(w, body, [before, *given])
        chosen = LOWERINGS["Where"](w, Node("Where", (), node.type), active, after, before)
        still = w.op("And", active.value, more.value)
        any_left = w.op("Greater", w.op("ReduceSum", w.cast(still, "int64"), keepdims=0), np.int64(0))
        any_left.type, any_left.shape = ir.TensorType(ir.DataType.BOOL), ir.Shape([])
        outputs = [any_left, w.declare(chosen, node.type, one_row).value, w.declare(still, _BOOL, one_row).value]
    graph = ir.Graph([count, going, before.value, active.value], outputs, nodes=nodes, name=w.unique("loop"))
    result = [w.new(), w.new()]
    w.declare(result[1], _BOOL, one_row)
    inputs = [w.constant(np.int64(node.attrs["most"])), w.constant(np.bool_(True)), first, true]
    w.nodes.append(ir.node("Loop", inputs, {"body": graph}, outputs=result, version=w.opsets[""]))
    return result[0]


def _results(w: Writer, body: Program, inputs: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The next state and whether to go on, from the lowerings of the body's own nodes."""
    keep, tensors = needed(body, body.outputs), dict(enumerate(inputs))
    for at, node in enumerate(body.nodes, len(body.inputs)):
        if keep[at]:
            args = [tensors[v] for v in node.inputs]
            value = LOWERINGS[node.op](w, node, *args)
            onnx_quantised.follow(w, body, node, args, value)
            tensors[at] = w.declare(value, node.type, all(x.one_row for x in args))
    state, more = (tensors[body.outputs[name].values[0]] for name in ("state", "more"))
    return state, more


@lowers("Solve")
def solve(w: Writer, node: Node, matrix: Tensor, right: Tensor) -> ir.Value:
    # Gauss and Jordan without pivots: a positive definite matrix needs none. Pivots of another matrix are not all
    # positive, and make NaN of what follows, as the program does.
    k = node.type.width
    square = w.op("Reshape", matrix.value, np.array([0, k, k]))
    joined = [square, w.op("Reshape", right.value, np.array([0, k, 1]))]
    if matrix.one_row != right.one_row:
        whole = [w.op("Reshape", w.all_rows(x), np.array([0, k, n])) for x, n in ((matrix, k), (right, 1))]
        joined = whole
    cells = w.op("Concat", *joined, axis=2)
    others = 1.0 - np.eye(k)
    for j in range(k):
        row = w.op("Gather", cells, np.array([j]), axis=1)  # (rows, 1, k + 1)
        pivot = w.op("Gather", row, np.array([j]), axis=2)
        pivot = w.op("Where", w.op("Greater", pivot, np.float64(0.0)), pivot, np.float64(np.nan))
        scaled = w.op("Div", row, pivot)
        column = w.op("Gather", cells, np.array([j]), axis=2)  # (rows, k, 1)
        rest = w.op("Sub", cells, w.op("Mul", w.op("Mul", column, others[:, j : j + 1]), scaled))
        here = np.arange(k)[:, None] == j
        cells = w.op("Where", here, scaled, rest)
    return w.op("Squeeze", w.op("Gather", cells, np.array([k]), axis=2), np.array([2]))

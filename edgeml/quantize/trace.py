"""The quantised program while it is written, with every value computed on the calibration rows as it goes.

``Exact`` computes the unquantised program once. A ``Trace`` then walks through it node by node: what a form
(linear.py, trees.py) puts in the place of a node is appended and evaluated at once, so that the ranges of a layer are
those that the quantised layers before it give. search.py drives it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edgeml.ir import Node, Program, interpreter
from edgeml.ir.ops import OPS
from edgeml.ir.ops_ml import walk
from edgeml.ir.program import Attr, attr_key
from edgeml.ir.table import Array, numpy_dtype
from edgeml.passes.rewrite import Graph

_LINEAR = ("Linear", "QuantizedLinear")
_NOT_SPLITS = ("leaf_values", "base", "target")


class Exact:
    """The program's own values on the calibration rows, and which leaves its trees reach."""

    def __init__(self, program: Program, columns: Mapping[str, Array]) -> None:
        self.program = program
        self.rows = len(next(iter(columns.values())))
        self.values: list[Array] = []
        # By the splits: cells that went through them, and the leaves; the program's own cells, and the latest others.
        self._leaves: dict[object, list[tuple[Array, Array]]] = {}
        for entry in program.inputs:
            column = np.asarray(columns[entry.name], dtype=numpy_dtype(entry.type.dtype))
            self.values.append(column[:, None] if column.ndim == 1 else column)
        with np.errstate(all="ignore"):
            for node in program.nodes:
                self.values.append(self.evaluate(node, [self.values[v] for v in node.inputs]))

    def evaluate(self, node: Node, inputs: Sequence[Array]) -> Array:
        """Value of a node on all rows. Sums of products come from BLAS: here speed counts, and not the last bit."""
        if node.op in _LINEAR and inputs[0].dtype == np.float64:
            weight = node.attrs["weight"].astype(np.float64)
            result: Array = inputs[0] @ weight
            if node.op == "QuantizedLinear":
                result *= node.attrs["scale"]
            result += node.attrs["bias"]
            return result
        if node.op == "TreeEnsemble":
            return add_leaves(node.attrs, self.leaves(inputs[0], node.attrs))
        if OPS[node.op].effect:
            return inputs[0]  # the calibration rows are rows that the program answers
        return OPS[node.op].evaluate(*inputs, **node.attrs)

    def leaves(self, x: Array, attrs: Mapping[str, Any]) -> Array:
        """int64 (rows, trees): row of leaf_values each row reaches; found once for the same cells and splits."""
        splits = tuple(attr_key(value) for name, value in sorted(attrs.items()) if name not in _NOT_SPLITS)
        known = self._leaves.setdefault(splits, [])
        for cells, leaves in known:
            if cells is x:
                return leaves
        found = np.stack([walk(x, int(root), attrs) for root in attrs["roots"]], axis=1)
        self._leaves[splits] = [*known[:1], (x, found)]
        return found


def add_leaves(attrs: Mapping[str, Array], leaves: Array) -> Array:
    """What TreeEnsemble adds up, given the leaves."""
    values, target = attrs["leaf_values"], attrs["target"]
    total = np.repeat(attrs["base"][None, :], len(leaves), axis=0)
    for tree in range(leaves.shape[1]):
        if target.size:
            total[:, target[tree]] += values[leaves[:, tree], 0]
        else:
            total += values[leaves[:, tree]]
    return total


class Trace:
    """A new program with its values. ``place[v]`` is the new value of the old program's value ``v``."""

    def __init__(self, exact: Exact) -> None:
        self.exact = exact
        self.graph = Graph(exact.program.inputs)
        self.values: list[Array] = list(exact.values[: len(exact.program.inputs)])
        self.place: list[int] = list(range(len(exact.program.inputs)))
        self.readers = exact.program.uses()

    def keep(self, index: int) -> int:
        """Append node ``index`` of the old program as it is."""
        node = self.exact.program.nodes[index]
        moved = replace(node, inputs=tuple(self.place[v] for v in node.inputs))
        old = len(self.exact.program.inputs) + index
        same = all(self.values[n] is self.exact.values[o] for n, o in zip(moved.inputs, node.inputs, strict=True))
        return self._append(moved, self.exact.values[old] if same else None)

    def emit(self, op: str, inputs: Sequence[int], attrs: Mapping[str, Attr], origin: str) -> int:
        """Append an operation and compute it."""
        types = [self.graph.type_of(v) for v in inputs]
        return self._append(Node(op, tuple(inputs), OPS[op].infer(types, attrs), dict(attrs), origin), None)

    def _append(self, node: Node, value: Array | None) -> int:
        if value is None:
            with np.errstate(all="ignore"):
                value = self.exact.evaluate(node, [self.values[v] for v in node.inputs])
        self.values.append(value)
        return self.graph.append(node)

    def constant(self, row: Array, like: int, origin: str) -> int:
        """A constant row in the dtype of value ``like``."""
        dtype = numpy_dtype(self.graph.type_of(like).dtype)
        return self.emit("Constant", (), {"value": np.asarray(row, dtype=dtype)}, origin)

    def change(self, value: int, attrs: Mapping[str, Attr]) -> None:
        """Give the node of ``value`` other attributes and compute it again. Nothing may have read it yet but values
        that are changed or recomputed next.
        """
        at = value - len(self.graph.inputs)
        self.graph.nodes[at] = replace(self.graph.nodes[at], attrs=dict(attrs))
        self.recompute(value)

    def recompute(self, value: int) -> None:
        node = self.graph.node(value)
        assert node is not None
        with np.errstate(all="ignore"):
            self.values[value] = self.exact.evaluate(node, [self.values[v] for v in node.inputs])

    def finished(self) -> Program:
        """The new program."""
        outputs = {
            name: replace(o, values=tuple(self.place[v] for v in o.values))
            for name, o in self.exact.program.outputs.items()
        }
        return Program(self.exact.program.inputs, tuple(self.graph.nodes), outputs)

    def answers(self) -> dict[str, Array]:
        """What the new program answers on the calibration rows, by method."""
        return {
            name: interpreter.assemble([self.values[self.place[v]] for v in o.values], o, self.exact.rows)
            for name, o in self.exact.program.outputs.items()
        }

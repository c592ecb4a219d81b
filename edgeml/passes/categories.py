"""Categories of one raw column, and every column computed of them as a list: what it is for each category.

``Categories`` takes traces of cells.py that share a root. It numbers the categories that the program tells apart, lists
the values of the traced columns, and appends the Recode that turns the raw column into numbers of one's own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeml.ir.ops import OPS
from edgeml.ir.ops_tensor import keys_array
from edgeml.ir.program import Attr
from edgeml.ir.table import Array
from edgeml.passes.cells import FLOATS, Cell, Listed, operands, source
from edgeml.passes.rewrite import Graph


class Categories:
    """``count`` categories, ordered as the codes that the program gives them; ``values[t]`` are those of trace t."""

    def __init__(self, graph: Graph, traces: Sequence[Listed]) -> None:
        self._graph = graph
        self._root = traces[0].root
        node = graph.node(self._root[0])
        self._origin = "" if node is None else node.origin
        if graph.type_of(self._root[0]).dtype == "string":
            strings = list(dict.fromkeys(key for trace in traces for key in trace.keys))
            # One string for all that are no key: no operation on the way can tell them apart.
            other = "\0" * (1 + max(map(len, strings), default=0))
            self._keys: Attr = (*strings, float("nan"), None)
            cells = np.empty(len(strings) + 3, dtype=object)
            cells[:] = [other, *self._keys]
        else:
            assert node is not None  # a Lookup or Recode of numbers
            self._keys, self._root = node.attrs["keys"], (node.inputs[0], 0)
            cells = node.attrs["values"] if node.op == "Recode" else np.arange(-1, len(self._keys), dtype=np.int64)
        self._columns: dict[Cell, Array] = {traces[0].root: cells}
        with np.errstate(all="ignore"):
            listed = [self._list(trace.cell) for trace in traces]
            codes = dict.fromkeys(code for trace in traces for code in self._codes(trace.cell))
            numbered = [np.unique(self._list(code), return_inverse=True)[1].reshape(-1) for code in codes]
        # Categories that get the same codes everywhere are one; the first code gives the order.
        table = np.stack(numbered or [np.zeros(len(cells), dtype=np.int64)])
        _, first, group = np.unique(table, axis=1, return_index=True, return_inverse=True)
        self._group = group.reshape(-1)
        self.values = [column[first] for column in listed]

    @property
    def count(self) -> int:
        return int(self._group.max()) + 1

    def merge(self, group: Array) -> None:
        """Categories with equal ``group``, int64 (count,) from 0 without gaps, become one."""
        _, first = np.unique(group, return_index=True)
        self.values = [column[first] for column in self.values]
        self._group = group[self._group]

    def recode(self, numbers: Array, origin: str = "") -> int:
        """Append a column with ``numbers[c]`` where category c stands, of their dtype."""
        x = self._graph.select(self._root[0], np.array([self._root[1]]), self._origin or origin)
        attrs = {"keys": self._keys, "values": np.ascontiguousarray(numbers[self._group])}
        return self._graph.emit("Recode", (x,), attrs, self._origin or origin)

    def _codes(self, cell: Cell) -> list[Cell]:
        """The columns of integers and bools that a column of floats is made of: one-hot columns of what they count."""
        found, pending = [], [cell]
        while pending:
            at = source(self._graph, pending.pop())
            node = self._graph.node(at[0])
            if node is None or node.op == "Constant":
                continue
            kinds = [self._graph.type_of(v).dtype for v in node.inputs]
            if node.op == "OneHot" or (node.type.dtype in FLOATS and "string" not in kinds):
                pending += operands(self._graph, at)[::-1]
            else:
                found.append(at)
        return found

    def _list(self, cell: Cell) -> Array:
        """What a column is for every cell of the root that the program tells apart."""
        cell = source(self._graph, cell)
        if cell not in self._columns:
            self._columns[cell] = self._computed(cell)
        return self._columns[cell]

    def _computed(self, cell: Cell) -> Array:
        node = self._graph.node(cell[0])
        assert node is not None
        if node.op == "Constant":
            one = keys_array(node.attrs["value"])[cell[1] : cell[1] + 1]
            return np.repeat(one, len(next(iter(self._columns.values()))))
        arrays = [self._list(operand) for operand in operands(self._graph, cell)]
        if node.op == "OneHot":
            return np.asarray(arrays[0] == cell[1], dtype=node.attrs["dtype"])
        if node.op == "Take":
            table = keys_array(node.attrs["table"])
            rows = np.clip(arrays[0], 0, len(table) - 1)  # what lies outside is refused before it gets here
            return np.asarray(table[rows] if table.ndim == 1 else table[rows, cell[1]])
        return np.asarray(OPS[node.op].evaluate(*(a[:, None] for a in arrays), **node.attrs)[:, 0])

"""Writes one ONNX graph through onnx-ir: values, shared constants, nodes, and the table of op lowerings.

``onnx.py`` drives it; the modules ``onnx_*`` enter one function for each op of the program in ``LOWERINGS``
(or in ``CHECKS``, for the ops that may refuse rows). A lowering function gets the writer, the program's node
and its inputs as ``Tensor``, and returns the ONNX value of the result; the writer then declares its type and
shape.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from edgeml.errors import FormatError
from edgeml.ir.program import Node, Program, ValueType, attr_key
from edgeml.ir.table import Array
from edgeml.targets.onnx_columns import Columns

# ai.onnx 21 and ai.onnx.ml 5 came in one ONNX release (1.16, IR version 10). ai.onnx.ml 5 is the first with a
# TreeEnsemble that takes double tensors; nothing newer is needed, so nothing newer is asked of the runtime:
# onnxruntime runs the three since 1.20, and the project supports it from 1.23.
OPSET = 21
ML_OPSET = 5
IR_VERSION = 10
ML = "ai.onnx.ml"

# An ONNX string cannot be None or NaN. U+FDD0 is a Unicode noncharacter, reserved for use inside programs and
# never for interchange: no text file, database or web form holds it, and yet it is valid UTF-8.
MISSING_NONE = "\ufdd0None"
MISSING_NAN = "\ufdd0NaN"

# A constant that a narrower dtype holds exactly is stored so and cast back, from this many bytes saved: a Cast
# node takes about 30. onnxruntime folds the cast when it loads the model.
_WORTH_A_CAST = 48
_NARROW = ("uint8", "int8", "float16", "uint16", "int16", "float32", "int32")

BATCH = "N"
DTYPES = {
    "float64": ir.DataType.DOUBLE,
    "float32": ir.DataType.FLOAT,
    "int64": ir.DataType.INT64,
    "bool": ir.DataType.BOOL,
    "string": ir.DataType.STRING,
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """A value of the program in the graph: shape (1, width) when ``one_row`` (it is constant), else (N, width)."""

    value: ir.Value
    type: ValueType
    one_row: bool


@dataclass(frozen=True, slots=True)
class Single:
    """A float64 value of the program as float32, or as codes of 8 bits (onnx_quantised.py)."""

    value: ir.Value
    bad: ir.Value | None = None  # bool (rows, 1) or of every cell: where the result is NaN
    bound: float = np.inf  # of the absolute values in rows that are not bad
    chain: bool = False  # made by a quantised op, or by a step behind one
    grid: float | None = None  # step of the static 8-bit grid that the value lies on
    step: ir.Value | None = None  # float32 (rows, 1): ``value`` are codes of a row's own grid
    positive: bool = False  # codes of a row are 0 to 127, else 1 to 255 around 128


Lowering = Callable[..., ir.Value]
LOWERINGS: dict[str, Lowering] = {}
# For an op that may refuse rows: a function that gives a scalar index, 0 when every row passes.
CHECKS: dict[str, Lowering] = {}


def lowers(*ops: str) -> Callable[[Lowering], Lowering]:
    """Enter the decorated function as the lowering of ``ops``."""

    def enter(function: Lowering) -> Lowering:
        for name in ops:
            LOWERINGS[name] = function
        return function

    return enter


def checks(op: str) -> Callable[[Lowering], Lowering]:
    """Enter the decorated function as the check of ``op``."""

    def enter(function: Lowering) -> Lowering:
        CHECKS[op] = function
        return function

    return enter


def cell_text(cell: str | float | None) -> bytes:
    """UTF-8 of a string constant, missing cells in their reserved spelling. Raises FormatError when it has none."""
    if cell is None:
        return MISSING_NONE.encode()
    if isinstance(cell, float):
        return MISSING_NAN.encode()
    if cell in (MISSING_NONE, MISSING_NAN):
        raise FormatError(
            f"the pipeline knows the string {cell!r}, which the ONNX format reserves for missing cells",
            "rename that category before fitting, or leave out the format onnx",
        )
    try:
        return cell.encode()
    except UnicodeEncodeError:
        raise FormatError(
            f"the pipeline knows the string {cell!r}, which is not valid Unicode (a lone surrogate)",
            "rename that category before fitting, or leave out the format onnx",
        ) from None


def narrowest(array: Array) -> Array:
    """The array in the smallest dtype that holds it bit for bit, or as it is where no Cast would pay."""
    if array.dtype.kind not in "fi":
        return array
    for name in _NARROW:
        dtype = np.dtype(name)
        if array.size * (array.itemsize - dtype.itemsize) < _WORTH_A_CAST:
            continue
        with np.errstate(all="ignore"):
            narrow = array.astype(dtype)
            if narrow.astype(array.dtype).tobytes() == array.tobytes():
                return narrow
    return array


class Writer:
    """Collects the nodes and constants of one graph."""

    def __init__(self, columns: Columns) -> None:
        self.columns = columns  # what is known of the values of the program
        self.nodes: list[ir.Node] = []
        self.initializers: list[ir.Value] = []
        self.opsets = {"": OPSET, ML: ML_OPSET}
        self.batch: ir.Value | None = None  # any graph input: its first dimension is the number of rows
        self.origin = ""  # path of the pipeline step whose nodes are being written
        self.singles: dict[ir.Value, Single] = {}  # float32 forms of values
        self.embedded: dict[object, dict[str, ir.Value]] = {}  # outputs of the models inlined so far
        self._names: set[str] = set()
        self._constants: dict[object, ir.Value] = {}
        self._widened: dict[ir.Value, dict[ir.DataType, ir.Value]] = {}
        self._rows: ir.Value | None = None
        self._count = 0
        self._outermost = self.nodes  # what is kept for later use is written here, also from inside a body

    def unique(self, wanted: str) -> str:
        """``wanted``, or it with the first free number behind it."""
        name, number = wanted, 2
        while name in self._names:
            name, number = f"{wanted}_{number}", number + 1
        self._names.add(name)
        return name

    def constant(self, array: Any) -> ir.Value:
        """An initializer; equal arrays (bit for bit) are stored once. Object arrays hold string cells."""
        array = np.asarray(array)
        cells = tuple(array.ravel().tolist()) if array.dtype == object else ()
        key = ("cells", array.shape, attr_key(cells)) if cells else attr_key(array)
        if key not in self._constants:
            name = self.unique(f"c{len(self._constants)}")
            tensor: Any
            if cells:
                tensor = ir.StringTensor([cell_text(c) for c in cells], shape=ir.Shape(array.shape), name=name)
            else:
                tensor = ir.tensor(np.ascontiguousarray(array).reshape(array.shape), name=name)
            value = ir.Value(
                name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor
            )
            self._constants[key] = value
            self.initializers.append(value)
        return self._constants[key]

    def stored(self, array: Any) -> ir.Value:
        """A constant, kept in the narrowest dtype that holds it exactly."""
        array = np.asarray(array)
        narrow = narrowest(array)
        value = self.constant(narrow)
        if narrow is array:
            return value
        to = ir.DataType.from_numpy(array.dtype)
        casts = self._widened.setdefault(value, {})
        if to not in casts:
            casts[to] = self._append(self._outermost, "Cast", [value], {"to": to})
        return casts[to]

    @contextmanager
    def body(self, program: Program) -> Iterator[list[ir.Node]]:
        """Nodes written inside, of a program inside the program, go to the list given; they may read what is around."""
        outer = self.nodes, self.columns, self.singles
        self.nodes, self.columns, self.singles = [], Columns(program), {}
        try:
            yield self.nodes
        finally:
            self.nodes, self.columns, self.singles = outer

    def op(
        self,
        op: str,
        *inputs: ir.Value | Array | int | float,
        domain: str = "",
        name: str = "",
        **attributes: Any,
    ) -> ir.Value:
        """Append a node with one result. Array and number inputs become constants. ``name`` one that may fail."""
        values = [x if isinstance(x, ir.Value) else self.stored(x) for x in inputs]
        return self._append(self.nodes, op, values, attributes, domain, name)

    def _append(
        self,
        nodes: list[ir.Node],
        op: str,
        inputs: Sequence[ir.Value],
        attributes: Mapping[str, Any],
        domain: str = "",
        name: str = "",
    ) -> ir.Value:
        result = self.new()
        version = self.opsets[domain]
        nodes.append(ir.node(op, inputs, attributes, domain=domain, outputs=[result], name=name, version=version))
        return result

    def new(self) -> ir.Value:
        """A value that a node is about to compute, by a name of its own."""
        self._count += 1
        return ir.Value(name=self.unique(f"v{self._count}"))

    def cast(self, x: ir.Value, dtype: str) -> ir.Value:
        return self.op("Cast", x, to=DTYPES[dtype])

    def as_float64(self, x: Tensor) -> ir.Value:
        return x.value if x.type.dtype == "float64" else self.cast(x.value, "float64")

    def declare(self, value: ir.Value, type: ValueType, one_row: bool) -> Tensor:
        """State the type and shape of a program value; onnx.checker compares them with what it infers."""
        value.type = ir.TensorType(DTYPES[type.dtype])
        value.shape = ir.Shape([1 if one_row else BATCH, type.width])
        return Tensor(value, type, one_row)

    def all_rows(self, x: Tensor) -> ir.Value:
        """A constant row repeated for every row of the input; other values as they are."""
        if not x.one_row:
            return x.value
        if self._rows is None:
            assert self.batch is not None
            self._rows = self._append(self._outermost, "Shape", [self.batch], {"start": 0, "end": 1})
        shape = self.op("Concat", self._rows, np.array([x.type.width], np.int64), axis=0)
        return self.op("Expand", x.value, shape)

    def guard(self, x: ir.Value, shape: Sequence[int], index: ir.Value, name: str) -> ir.Value:
        """x itself, as long as ``index`` is 0; else the session fails in the node ``name``.

        The shape x is reshaped to (which costs no copy) is read from a table of one row, so that any other
        index is out of bounds. onnxruntime cannot fold this away: the index depends on the input.
        """
        table = np.array([shape], np.int64)
        return self.op("Reshape", x, self.op("Gather", table, index, axis=0, name=name))


def identifier(text: str, limit: int = 100) -> str:
    """``text`` as a node name that reads well in an error message."""
    return re.sub(r"[^0-9A-Za-z]+", "_", text).strip("_")[:limit]


def check_name(node: Node) -> str:
    """Name of the graph node that fails when a check refuses rows."""
    if node.op == "CheckFinite":
        what = "infinity" if node.attrs["allow_nan"] else "NaN_or_infinity"
        return identifier(f"{node.attrs['what']} input contains {what}")
    return identifier(f"{node.origin} {node.attrs['message']}")

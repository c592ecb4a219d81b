"""Writes a TFLite file: buffers, tensors, operators, signatures and metadata, through LiteRT's schema module.

``Model`` is the file, ``Graph`` one of its subgraphs. Tensors may be quantised; the writer does not care what they
mean. Equal contents give equal bytes, and every buffer starts at a multiple of 16 bytes: the schema asks for it
(``force_align``), the object API forgets it, and kernels on ARM load vectors from there. The schema is imported when a
model is made and not before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeml.errors import FormatError
from edgeml.ir.table import Array
from edgeml.targets.tflite_versions import version

ROWS = -1  # in a shape: the number of rows, known at run time
ALIGNMENT = 16
SCHEMA_VERSION = 3
IDENTIFIER = b"TFL3"
_MAX_BYTES = 2**31 - 2**20  # offsets of a flatbuffer are int32

DTYPES = {
    "float32": "FLOAT32", "float16": "FLOAT16", "int64": "INT64", "int32": "INT32", "int16": "INT16", "int8": "INT8",
    "uint8": "UINT8", "bool": "BOOL",
}  # fmt: skip

# Operator -> its table of options in the schema; the others have none.
_OPTIONS = {
    "ABS": "Abs", "ADD": "Add", "ARG_MAX": "ArgMax", "ARG_MIN": "ArgMin", "CAST": "Cast",
    "CONCATENATION": "Concatenation", "DEQUANTIZE": "Dequantize", "DIV": "Div", "EQUAL": "Equal", "EXP": "Exp",
    "FULLY_CONNECTED": "FullyConnected", "GATHER": "Gather", "GREATER": "Greater", "GREATER_EQUAL": "GreaterEqual",
    "LESS": "Less", "LESS_EQUAL": "LessEqual", "LOGICAL_AND": "LogicalAnd", "LOGICAL_NOT": "LogicalNot",
    "LOGICAL_OR": "LogicalOr", "LOG_SOFTMAX": "LogSoftmax", "MAXIMUM": "MaximumMinimum", "MINIMUM": "MaximumMinimum",
    "MUL": "Mul", "NEG": "Neg", "NOT_EQUAL": "NotEqual", "QUANTIZE": "Quantize", "REDUCE_MAX": "Reducer",
    "REDUCE_MIN": "Reducer", "RESHAPE": "Reshape", "SELECT_V2": "SelectV2", "SLICE": "Slice", "SOFTMAX": "Softmax",
    "SQUARED_DIFFERENCE": "SquaredDifference", "SUB": "Sub", "SUM": "Reducer",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Quantization:
    """real = scale * (stored - zero_point): one pair for the tensor, or one for each index along ``axis``."""

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int = 0


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of one graph; ``shape`` has ROWS where the number of rows stands."""

    index: int
    dtype: str
    shape: tuple[int, ...]
    quantization: Quantization | None = None


def _schema() -> Any:
    try:
        import flatbuffers  # noqa: F401
        from ai_edge_litert import schema_py_generated
    except ImportError as error:
        raise FormatError(
            f"the format tflite is written with ai-edge-litert and flatbuffers, and {error.name} cannot be imported",
            'pip install "edgeml-sdk[tflite]"',
        ) from error
    return schema_py_generated


class Model:
    """One TFLite file."""

    def __init__(self, description: str) -> None:
        self.schema = _schema()
        self._description = description
        self._graphs: list[Graph] = []
        self._metadata: dict[str, int] = {}
        self._buffers: list[bytes] = [b""]  # the first is empty by definition: tensors that are computed use it
        self._places: dict[bytes, int] = {}

    def graph(self, name: str) -> Graph:
        """A new subgraph."""
        self._graphs.append(Graph(self, name))
        return self._graphs[-1]

    def discard(self, graph: Graph) -> None:
        """Take a graph out again."""
        self._graphs.remove(graph)

    def describe(self, name: str, content: bytes) -> None:
        """Add an entry of metadata."""
        self._metadata[name] = self.buffer(content)

    def buffer(self, content: bytes) -> int:
        """Number of the buffer with this content; equal contents are stored once."""
        if content not in self._places:
            self._places[content] = len(self._buffers)
            self._buffers.append(content)
        return self._places[content]

    def to_bytes(self) -> bytes:
        """The file: of each graph what its outputs depend on. Raises FormatError for more than a flatbuffer holds."""
        import flatbuffers

        schema = self.schema
        operators: dict[tuple[str, int], int] = {}
        numbers = {0: 0}
        model = schema.ModelT()
        model.version, model.description = SCHEMA_VERSION, self._description
        model.subgraphs = [graph.packed(operators, numbers) for graph in self._graphs]
        model.signatureDefs = [graph.signature(index) for index, graph in enumerate(self._graphs)]
        model.operatorCodes = [self._code(op, number) for op, number in operators]
        model.metadata = []
        for name, place in self._metadata.items():
            entry = schema.MetadataT()
            entry.name, entry.buffer = name, numbers.setdefault(place, len(numbers))
            model.metadata.append(entry)
        contents = [self._buffers[place] for place in numbers]
        if sum(map(len, contents)) > _MAX_BYTES:
            raise FormatError(
                f"the TFLite model has {sum(map(len, contents)) / 2**30:.1f} GB, a file holds at most 2",
                "fit fewer or smaller trees, or leave out the format tflite",
            )
        model.buffers = list(map(_aligned_buffer(schema), contents))
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), IDENTIFIER)
        return bytes(builder.Output())

    def _code(self, op: str, number: int) -> Any:
        code = self.schema.OperatorCodeT()
        code.builtinCode = getattr(self.schema.BuiltinOperator, op)
        # Runtimes from before the code was widened read this one; 127 says to look at the other.
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.version = number
        return code


def _aligned_buffer(schema: Any) -> Any:
    """The schema's buffer as a class that packs its content at a multiple of ALIGNMENT bytes."""

    class Buffer(schema.BufferT):  # type: ignore[misc]
        def __init__(self, content: bytes) -> None:
            super().__init__()
            self.content = content

        def Pack(self, builder: Any) -> Any:
            size = len(self.content)
            if size:
                builder.StartVector(1, size, ALIGNMENT)
                builder.head -= size
                builder.Bytes[builder.head : builder.head + size] = self.content
                data = builder.EndVector()
            schema.BufferStart(builder)
            if size:
                schema.BufferAddData(builder, data)
            return schema.BufferEnd(builder)

    return Buffer


@dataclass(slots=True)
class _Operator:
    op: str
    version: int
    inputs: list[int]
    output: int
    options: Any


class Graph:
    """One subgraph: operators in execution order, and the names of its inputs and outputs, its signature."""

    def __init__(self, model: Model, name: str) -> None:
        self._model = model
        self._name = name
        self._operators: list[_Operator] = []
        self._packed: list[tuple[Any, int]] = []  # the tensors as the schema has them, and their buffers
        self._constants: dict[object, Tensor] = {}
        self.tensors: list[Tensor] = []
        self.inputs: dict[str, Tensor] = {}
        self.outputs: dict[str, Tensor] = {}
        self._numbers: dict[int, int] = {}

    def input(self, name: str, dtype: str, shape: Sequence[int]) -> Tensor:
        """A tensor the caller fills."""
        self.inputs[name] = self._tensor(name, dtype, shape, 0, None)
        return self.inputs[name]

    def constant(self, value: Any, quantization: Quantization | None = None) -> Tensor:
        """A constant tensor with the array's dtype; equal ones are one tensor."""
        array = np.asarray(value)
        array = np.ascontiguousarray(array).reshape(array.shape)
        content = array.astype(array.dtype.newbyteorder("<")).tobytes()
        key = (array.dtype.name, array.shape, content, quantization)
        if key not in self._constants:
            place = self._model.buffer(content) if content else 0
            self._constants[key] = self._tensor("", array.dtype.name, array.shape, place, quantization)
        return self._constants[key]

    def op(
        self,
        op: str,
        inputs: Sequence[Tensor | Array],
        shape: Sequence[int],
        dtype: str | None = None,
        *,
        name: str = "",
        quantization: Quantization | None = None,
        **options: Any,
    ) -> Tensor:
        """Append an operator with one result, of the first input's dtype unless said. Arrays become constants.

        Only inputs and outputs of a graph need a ``name``.
        """
        tensors = [x if isinstance(x, Tensor) else self.constant(x) for x in inputs]
        dtype = dtype or tensors[0].dtype
        schema = self._model.schema
        result = self._tensor(name, dtype, shape, 0, quantization)
        scales = [t.quantization for t in (*tensors[:2], result) if t.quantization is not None]
        number = version(op, [t.dtype for t in tensors], dtype, options, any(len(q.scale) > 1 for q in scales))
        filled = None
        if op in _OPTIONS:
            filled = getattr(schema, f"{_OPTIONS[op]}OptionsT")()
            for key, value in options.items():
                if not hasattr(filled, key):
                    raise AttributeError(f"{op} has no option {key}")
                setattr(filled, key, value)
        self._operators.append(_Operator(op, number, [t.index for t in tensors], result.index, filled))
        return result

    # --- the schema's form
    def packed(self, operators: dict[tuple[str, int], int], buffers: dict[int, int]) -> Any:
        """The graph without what no output depends on. Numbers the operators and buffers it uses."""
        needed = {t.index for t in self.outputs.values()}
        kept: list[_Operator] = []
        for operator in reversed(self._operators):
            if operator.output in needed:
                kept.append(operator)
                needed.update(operator.inputs)
        needed.update(t.index for t in self.inputs.values())
        self._numbers = {index: number for number, index in enumerate(sorted(needed))}
        graph = self._model.schema.SubGraphT()
        graph.name = self._name
        graph.tensors = []
        for index in self._numbers:
            tensor, place = self._packed[index]
            tensor.buffer = buffers.setdefault(place, len(buffers))
            graph.tensors.append(tensor)
        graph.inputs = [self._numbers[t.index] for t in self.inputs.values()]
        graph.outputs = [self._numbers[t.index] for t in self.outputs.values()]
        graph.operators = [self._operator(operator, operators) for operator in reversed(kept)]
        return graph

    def _operator(self, operator: _Operator, operators: dict[tuple[str, int], int]) -> Any:
        schema = self._model.schema
        node = schema.OperatorT()
        node.opcodeIndex = operators.setdefault((operator.op, operator.version), len(operators))
        node.inputs = [self._numbers[index] for index in operator.inputs]
        node.outputs = [self._numbers[operator.output]]
        if operator.options is not None:
            node.builtinOptionsType = getattr(schema.BuiltinOptions, f"{_OPTIONS[operator.op]}Options")
            node.builtinOptions = operator.options
        return node

    def signature(self, index: int) -> Any:
        """Names of inputs and outputs under the graph's own name."""
        signature = self._model.schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = self._name, index
        signature.inputs, signature.outputs = self._map(self.inputs), self._map(self.outputs)
        return signature

    def _map(self, tensors: Mapping[str, Tensor]) -> list[Any]:
        result = []
        for name, tensor in tensors.items():
            entry = self._model.schema.TensorMapT()
            entry.name, entry.tensorIndex = name, self._numbers[tensor.index]
            result.append(entry)
        return result

    # --- everyday operators
    def cast(self, x: Tensor, dtype: str) -> Tensor:
        """x as another dtype; itself when it has it."""
        if x.dtype == dtype:
            return x
        kinds = self._model.schema.TensorType
        return self.op(
            "CAST",
            [x],
            x.shape,
            dtype,
            inDataType=getattr(kinds, DTYPES[x.dtype]),
            outDataType=getattr(kinds, DTYPES[dtype]),
        )

    def reshape(self, x: Tensor, shape: Sequence[int], name: str = "") -> Tensor:
        """x in another shape, copied: also the way to give a tensor another name."""
        wanted = list(shape)
        return self.op("RESHAPE", [x, np.array(wanted, np.int32)], wanted, name=name, newShape=wanted)

    def reduce(self, op: str, x: Tensor, axis: int, *, keep: bool = False) -> Tensor:
        """SUM, REDUCE_MAX or REDUCE_MIN along one axis."""
        shape = [*x.shape[:axis], *([1] if keep else []), *x.shape[axis + 1 :]]
        return self.op(op, [x, np.array([axis], np.int32)], shape, keepDims=keep)

    def extreme(self, op: str, x: Tensor, axis: int) -> Tensor:
        """int32 position of ARG_MAX or ARG_MIN along an axis, the first of equals; the axis is gone."""
        shape = [*x.shape[:axis], *x.shape[axis + 1 :]]
        kind = self._model.schema.TensorType.INT32
        return self.op(op, [x, np.array([axis], np.int32)], shape, "int32", outputType=kind)

    def gather(self, table: Tensor | Array, indices: Tensor | Array, axis: int = 0) -> Tensor:
        """Slices of a table along an axis; from axis 1 on with one-dimensional indices."""
        table = table if isinstance(table, Tensor) else self.constant(table)
        indices = indices if isinstance(indices, Tensor) else self.constant(indices)
        shape = [*table.shape[:axis], *indices.shape, *table.shape[axis + 1 :]]
        return self.op("GATHER", [table, indices], shape, axis=axis, batchDims=0)

    def _tensor(
        self, name: str, dtype: str, shape: Sequence[int], buffer: int, quantization: Quantization | None
    ) -> Tensor:
        schema = self._model.schema
        tensor = schema.TensorT()
        tensor.type = getattr(schema.TensorType, DTYPES[dtype])
        tensor.shape = [1 if n == ROWS else n for n in shape]
        if name:
            tensor.name = name
        if ROWS in shape:
            tensor.shapeSignature = list(shape)
        if quantization is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = list(quantization.scale)
            tensor.quantization.zeroPoint = list(quantization.zero_point)
            tensor.quantization.quantizedDimension = quantization.axis
        self._packed.append((tensor, buffer))
        self.tensors.append(Tensor(len(self.tensors), dtype, tuple(shape), quantization))
        return self.tensors[-1]

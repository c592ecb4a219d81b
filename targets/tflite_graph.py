"""Writes a TFLite file: buffers, tensors, operators, signatures and metadata, through LiteRT's schema module.

``Model`` is the file, ``Graph`` one of its subgraphs. Tensors may be quantised; the writer does not care what they
mean. Equal contents give equal bytes, and every buffer starts at a multiple of 16 bytes, from where kernels on ARM load
vectors. The schema is imported when a model is made and not before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeml.errors import FormatError
from edgeml.ir.table import Array
from edgeml.targets.tflite_pack import Packer
from edgeml.targets.tflite_versions import version

ROWS = -1  # in a shape: the number of rows, known at run time
SCHEMA_VERSION = 3
IDENTIFIER = b"TFL3"
_MAX_BYTES = 2**31 - 2**20  # offsets of a flatbuffer are int32

DTYPES = {
    "float32": "FLOAT32", "float16": "FLOAT16", "int64": "INT64", "int32": "INT32", "int16": "INT16", "int8": "INT8",
    "uint8": "UINT8", "bool": "BOOL",
}  # fmt: skip

# Operator -> its table of options in the schema; the others have none.
_OPTIONS = {
    "ABS": "Abs", "ADD": "Add", "ADD_N": "AddN", "ARG_MAX": "ArgMax", "ARG_MIN": "ArgMin", "BITCAST": "Bitcast",
    "CAST": "Cast", "CONCATENATION": "Concatenation", "COS": "Cos", "DEQUANTIZE": "Dequantize", "DIV": "Div",
    "EQUAL": "Equal", "EXP": "Exp",
    "FULLY_CONNECTED": "FullyConnected", "GATHER": "Gather", "GREATER": "Greater", "GREATER_EQUAL": "GreaterEqual",
    "LESS": "Less", "LESS_EQUAL": "LessEqual", "LOGICAL_AND": "LogicalAnd", "LOGICAL_NOT": "LogicalNot",
    "LOGICAL_OR": "LogicalOr", "LOG_SOFTMAX": "LogSoftmax", "MAXIMUM": "MaximumMinimum", "MINIMUM": "MaximumMinimum",
    "MUL": "Mul", "NEG": "Neg", "NOT_EQUAL": "NotEqual", "PAD": "Pad", "POW": "Pow", "QUANTIZE": "Quantize",
    "REDUCE_ANY": "Reducer", "REDUCE_MAX": "Reducer", "REDUCE_MIN": "Reducer", "RESHAPE": "Reshape",
    "SELECT_V2": "SelectV2", "SLICE": "Slice", "SOFTMAX": "Softmax", "SQUARED_DIFFERENCE": "SquaredDifference",
    "SUB": "Sub", "SUM": "Reducer", "TOPK_V2": "TopKV2", "UNPACK": "Unpack", "WHILE": "While",
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

    def graph(self, name: str, signature: bool = True) -> Graph:
        """A new subgraph; one without a signature is part of another."""
        self._graphs.append(Graph(self, name, len(self._graphs), signature))
        return self._graphs[-1]

    def discard(self, graph: Graph) -> None:
        """Take a graph out again, and all that came after it: its parts."""
        del self._graphs[graph.number :]

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
        operators: dict[tuple[str, int], int] = {}
        numbers = {0: 0}
        p = Packer(self.schema)
        graphs: list[int] = []
        for graph in self._graphs:
            graph.settle(self._graphs[0] if graph.number and graph.has_signature else None)
            graphs.append(graph.packed(p, operators, numbers))
        signatures = [graph.signature(p) for graph in self._graphs if graph.has_signature]
        entries = []
        for name, place in self._metadata.items():
            entries.append(p.table("Metadata", Name=p.text(name), Buffer=numbers.setdefault(place, len(numbers))))
        contents = [self._buffers[place] for place in numbers]
        if sum(map(len, contents)) > _MAX_BYTES:
            raise FormatError(
                f"the TFLite model has {sum(map(len, contents)) / 2**30:.1f} GB, a file holds at most 2",
                "fit fewer or smaller trees, or leave out the format tflite",
            )
        buffers = [p.table("Buffer", Data=p.content(c)) if c else p.table("Buffer") for c in contents]
        root = p.table(
            "Model",
            Version=SCHEMA_VERSION,
            OperatorCodes=p.tables([self._code(p, op, number) for op, number in operators]),
            Subgraphs=p.tables(graphs),
            Description=p.text(self._description),
            Buffers=p.tables(buffers),
            Metadata=p.tables(entries),
            SignatureDefs=p.tables(signatures),
        )
        return p.finish(root, IDENTIFIER)

    def _code(self, p: Packer, op: str, number: int) -> int:
        code = getattr(self.schema.BuiltinOperator, op)
        # Runtimes from before the code was widened read the deprecated one; 127 says to look at the other.
        return p.table("OperatorCode", BuiltinCode=code, Version=number, DeprecatedBuiltinCode=min(code, 127))


@dataclass(slots=True)
class _Operator:
    op: str
    version: int
    inputs: list[int]
    outputs: list[int]
    options: Any


class Graph:
    """One subgraph: operators in execution order, and the names of its inputs and outputs, its signature."""

    def __init__(self, model: Model, name: str, number: int, signature: bool) -> None:
        self._model = model
        self._name = name
        self.number, self.has_signature = number, signature
        self._operators: list[_Operator] = []
        self._places: list[int] = []  # buffers of the tensors
        self._names: dict[int, str] = {}
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
        tensors = self._operands(inputs)
        return self.ops(op, tensors, [(dtype or tensors[0].dtype, shape)], name, quantization, **options)[0]

    def _operands(self, inputs: Sequence[Tensor | Array]) -> list[Tensor]:
        return [x if isinstance(x, Tensor) else self.constant(x) for x in inputs]

    def ops(
        self,
        op: str,
        inputs: Sequence[Tensor | Array],
        results: Sequence[tuple[str, Sequence[int]]],
        name: str = "",
        quantization: Quantization | None = None,
        **options: Any,
    ) -> list[Tensor]:
        """Append an operator with any number of results, each with its dtype and shape."""
        tensors, schema = self._operands(inputs), self._model.schema
        made = [self._tensor(name, dtype, shape, 0, quantization) for dtype, shape in results]
        scales = [t.quantization for t in (*tensors[:2], *made) if t.quantization is not None]
        number = version(op, [t.dtype for t in tensors], made[0].dtype, options, any(len(q.scale) > 1 for q in scales))
        filled = None
        if op in _OPTIONS:
            filled = getattr(schema, f"{_OPTIONS[op]}OptionsT")()
            for key, value in options.items():
                if not hasattr(filled, key):
                    raise AttributeError(f"{op} has no option {key}")
                setattr(filled, key, value)
        self._operators.append(_Operator(op, number, [t.index for t in tensors], [t.index for t in made], filled))
        return made

    def loop(
        self,
        state: Sequence[Tensor | Array],
        goes_on: Callable[[Graph, list[Tensor]], Tensor],
        step: Callable[[Graph, list[Tensor]], list[Tensor]],
    ) -> list[Tensor]:
        """The state when ``goes_on``, a bool of shape (1,), is false, after ``step`` has changed it so often.

        Both read the state and nothing else of this graph.
        """
        tensors, parts = self._operands(state), []
        for name, write in (("while", lambda g, x: [goes_on(g, x)]), ("do", step)):
            part = self._model.graph(f"{self._name}_{name}", signature=False)
            results = write(part, [part.input(f"in{i}", t.dtype, t.shape) for i, t in enumerate(tensors)])
            part.outputs = {f"out{i}": part.named(t, t.shape, f"out{i}") for i, t in enumerate(results)}
            parts.append(part.number)
        kinds = [(t.dtype, t.shape) for t in tensors]
        return self.ops("WHILE", tensors, kinds, condSubgraphIndex=parts[0], bodySubgraphIndex=parts[1])

    # --- the schema's form
    def settle(self, other: Graph | None) -> None:
        """Drop what no output depends on, and number the tensors that are left.

        What this graph computes at its end like ``other``, which has its numbers, gets the same ones there: operators
        and tensors are then equal bit for bit, and stored once.
        """
        needed = {t.index for t in self.outputs.values()}
        kept: list[_Operator] = []
        for operator in reversed(self._operators):
            if needed.intersection(operator.outputs):
                kept.append(operator)
                needed.update(operator.inputs, operator.outputs)
        self._operators = kept[::-1]
        needed.update(t.index for t in self.inputs.values())
        alike = {} if other is None else {a: n for a, n in self._alike(other).items() if n < len(needed)}
        free = iter(sorted(set(range(len(needed))) - set(alike.values())))
        numbers = {index: alike[index] if index in alike else next(free) for index in sorted(needed)}
        self._numbers = dict(sorted(numbers.items(), key=lambda item: item[1]))

    def _alike(self, other: Graph) -> dict[int, int]:
        """Numbers of ``other`` for tensors that are computed from its tensors as they are there."""
        mine, theirs = ({o: op for op in g._operators for o in op.outputs} for g in (self, other))
        waiting = [(t.index, other.outputs[name].index) for name, t in self.outputs.items() if name in other.outputs]
        found: dict[int, int] = {}
        taken: set[int] = set()
        while waiting:
            a, b = waiting.pop()
            if a in found or b in taken:
                continue
            found[a] = other._numbers[b]
            taken.add(b)
            x, y = mine.get(a), theirs.get(b)
            if x is not None and y is not None and (x.op, len(x.inputs)) == (y.op, len(y.inputs)):
                waiting += zip(x.inputs, y.inputs, strict=True)
        return found

    def packed(self, p: Packer, operators: dict[tuple[str, int], int], buffers: dict[int, int]) -> int:
        """The numbered graph. Numbers the operators and buffers it uses."""
        tensors = [self._packed_tensor(p, index, buffers) for index in self._numbers]
        return p.table(
            "SubGraph",
            Tensors=p.tables(tensors),
            Inputs=p.numbers([self._numbers[t.index] for t in self.inputs.values()]),
            Outputs=p.numbers([self._numbers[t.index] for t in self.outputs.values()]),
            Operators=p.tables([self._packed_operator(p, operator, operators) for operator in self._operators]),
            Name=p.text(self._name),
        )

    def _packed_tensor(self, p: Packer, index: int, buffers: dict[int, int]) -> int:
        tensor, place = self.tensors[index], self._places[index]
        fields = {"Shape": p.numbers([1 if n == ROWS else n for n in tensor.shape])}
        if ROWS in tensor.shape:
            fields["ShapeSignature"] = p.numbers(tensor.shape)
        if tensor.quantization is not None:
            q = tensor.quantization
            fields["Quantization"] = p.table(
                "QuantizationParameters",
                Scale=p.numbers(q.scale, "float32"),
                ZeroPoint=p.numbers(q.zero_point, "int64"),
                QuantizedDimension=q.axis,
            )
        if index in self._names:
            fields["Name"] = p.text(self._names[index])
        kind = getattr(self._model.schema.TensorType, DTYPES[tensor.dtype])
        return p.table("Tensor", **fields, Buffer=buffers.setdefault(place, len(buffers)), Type=kind)

    def _packed_operator(self, p: Packer, operator: _Operator, operators: dict[tuple[str, int], int]) -> int:
        fields = {
            "OpcodeIndex": operators.setdefault((operator.op, operator.version), len(operators)),
            "Inputs": p.numbers([self._numbers[index] for index in operator.inputs]),
            "Outputs": p.numbers([self._numbers[index] for index in operator.outputs]),
        }
        if operator.options is not None:
            fields["BuiltinOptions"] = p.options(operator.options)
            kind = getattr(self._model.schema.BuiltinOptions, f"{_OPTIONS[operator.op]}Options")
            fields["BuiltinOptionsType"] = kind
        return p.table("Operator", **fields)

    def signature(self, p: Packer) -> int:
        """Names of inputs and outputs under the graph's own name."""
        return p.table(
            "SignatureDef",
            Inputs=self._map(p, self.inputs),
            Outputs=self._map(p, self.outputs),
            SignatureKey=p.text(self._name),
            SubgraphIndex=self.number,
        )

    def _map(self, p: Packer, tensors: Mapping[str, Tensor]) -> int:
        return p.tables(
            [p.table("TensorMap", Name=p.text(n), TensorIndex=self._numbers[t.index]) for n, t in tensors.items()]
        )

    # --- everyday operators
    def named(self, x: Tensor, shape: Sequence[int], name: str) -> Tensor:
        """x under a name and in a shape: x itself where it is computed, has that shape, and no name yet."""
        computed = any(x.index in operator.outputs for operator in reversed(self._operators))
        if x.shape == tuple(shape) and computed and x.index not in self._names:
            self._names[x.index] = name
            return x
        return self.reshape(x, shape, name)

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
        """x in another shape, copied."""
        wanted = list(shape)
        # The options could hold the shape once more; all runtimes read the operand.
        return self.op("RESHAPE", [x, np.array(wanted, np.int32)], wanted, name=name)

    def reduce(self, op: str, x: Tensor, axis: int, *, keep: bool = False) -> Tensor:
        """SUM, REDUCE_MAX, REDUCE_MIN or REDUCE_ANY along one axis."""
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
        index = len(self.tensors)
        self._places.append(buffer)
        if name:
            self._names[index] = name
        self.tensors.append(Tensor(index, dtype, tuple(shape), quantization))
        return self.tensors[-1]

"""Builds programs the way NumPy code reads: values have operators, and the Builder has one method an op.

``Builder`` appends nodes and types each at once, so an illegal operation fails where it is written. Dtypes follow
NumPy's promotion: two values of different dtype meet in the common one, an array constant promotes like an array, a
Python number takes the value's dtype. Every converter and pass that adds operations goes through here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from edgeml.errors import ProgramError
from edgeml.ir.ops import OPS
from edgeml.ir.program import Attr, Dtype, Form, Input, Node, Output, Program, ValueType
from edgeml.ir.value import Value

# What a loop repeats: from the state and what is given to the next state, and whether to go on (bool, width 1).
Body = Callable[..., tuple[Value, Value]]


class Builder:
    """Collects inputs, nodes and outputs of one program."""

    def __init__(self) -> None:
        self._inputs: list[Input] = []
        self._nodes: list[Node] = []
        self._outputs: dict[str, Output] = {}
        self._origin: tuple[str, ...] = ()

    # --- inputs, outputs, result
    def input(self, name: str, dtype: Dtype, width: int = 1) -> Value:
        """Declare a raw column (or the one matrix). All inputs come before the first operation."""
        if self._nodes:
            raise ProgramError(f"input {name} declared after the first operation")
        self._inputs.append(Input(name, ValueType(dtype, width)))
        return Value(self, len(self._inputs) - 1, self._inputs[-1].type)

    def output(self, name: str, values: Sequence[Value], form: Form, dtype: str) -> None:
        """Declare what method ``name`` returns."""
        self._outputs[name] = Output(name, tuple(v.id for v in values), form, dtype)

    def finish(self) -> Program:
        """The program, checked."""
        from edgeml.ir.spec import check

        return check(Program(tuple(self._inputs), tuple(self._nodes), dict(self._outputs)))

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Nodes added inside carry ``name`` at the end of their origin path."""
        before = self._origin
        self._origin = (*before, name)
        try:
            yield
        finally:
            self._origin = before

    @contextmanager
    def at(self, origin: str) -> Iterator[None]:
        """Nodes added inside carry the path ``origin``: for operations that are added after their step has ended."""
        before = self._origin
        self._origin = tuple(origin.split("/")) if origin else ()
        try:
            yield
        finally:
            self._origin = before

    @property
    def origin(self) -> str:
        """Path of the step being built, such as ``prep/num/scale``."""
        return "/".join(self._origin)

    # --- nodes
    def op(self, name: str, *inputs: Value, **attrs: Attr) -> Value:
        """Append a node of op ``name`` from the op table."""
        op = OPS[name]
        types = [v.type for v in inputs]
        if (op.arity is not None and len(inputs) != op.arity) or not set(attrs) == set(op.attrs):
            raise ProgramError(f"{name} takes {op.arity} inputs and attributes {sorted(op.attrs)}")
        if any(v.builder is not self for v in inputs):
            raise ProgramError(f"{self.origin or 'program'}: {name} is given a value of another program")
        try:
            result = op.infer(types, attrs)
        except ProgramError as error:
            raise ProgramError(f"{self.origin or 'program'}: {name}: {error.cause}") from None
        return self.append(Node(name, tuple(v.id for v in inputs), result, attrs, self.origin))

    def mark(self) -> int:
        """Where the program stands, for ``back_to``."""
        return len(self._nodes)

    def back_to(self, mark: int) -> None:
        """Drop all nodes since ``mark``: what was built in an attempt that failed."""
        del self._nodes[mark:]

    def append(self, node: Node) -> Value:
        """Append a node that is known to be legal (a pass copying nodes)."""
        self._nodes.append(node)
        return Value(self, len(self._inputs) + len(self._nodes) - 1, node.type)

    def node_of(self, value: Value) -> Node | None:
        """The node that computes a value, None for an input."""
        return None if value.id < len(self._inputs) else self._nodes[value.id - len(self._inputs)]

    def value(self, id: int) -> Value:
        """The value of an id, an operand of some node."""
        n = len(self._inputs)
        return Value(self, id, self._inputs[id].type if id < n else self._nodes[id - n].type)

    def constant(self, value: Any, dtype: str | None = None) -> Value:
        """A row that is the same for every input row: a number, a sequence of numbers, or a tuple of string cells."""
        if isinstance(value, str) or value is None:
            value = (value,)
        if isinstance(value, tuple):
            return self.op("Constant", value=value)
        return self.op("Constant", value=np.atleast_1d(np.asarray(value, dtype=dtype)))

    def as_value(self, x: Any, like: Value) -> Value:
        """An operand as a value: arrays keep their dtype, Python numbers and strings take that of ``like``."""
        if isinstance(x, Value):
            return x
        if like.dtype == "string":
            return self.constant(x)
        if isinstance(x, np.ndarray) or (isinstance(x, np.generic) and not isinstance(x, (float, int, bool))):
            return self.constant(x)
        python_float = isinstance(x, float) and like.dtype in ("int64", "bool")
        return self.constant(x, "float64" if python_float else like.dtype)

    def binary(self, name: str, x: Any, y: Any) -> Value:
        """A two-operand op after NumPy's promotion."""
        like = x if isinstance(x, Value) else y
        a, b = self.as_value(x, like), self.as_value(y, like)
        if a.dtype != b.dtype and "string" not in (a.dtype, b.dtype):
            common = np.result_type(np.dtype(a.dtype), np.dtype(b.dtype)).name
            a, b = a.cast(common), b.cast(common)
        return self.op(name, a, b)

    def concat(self, values: Sequence[Value]) -> Value:
        """Values of one dtype side by side."""
        return values[0] if len(values) == 1 else self.op("Concat", *values)

    def where(self, condition: Value, x: Any, y: Any) -> Value:
        """x where the condition holds, else y; at least one of the two is a value."""
        like = x if isinstance(x, Value) else y
        return self.op("Where", condition, self.as_value(x, like), self.as_value(y, like))

    def minimum(self, x: Any, y: Any) -> Value:
        return self.binary("Minimum", x, y)

    def maximum(self, x: Any, y: Any) -> Value:
        return self.binary("Maximum", x, y)

    def clip(self, x: Value, low: Any, high: Any) -> Value:
        """numpy.clip: minimum(maximum(x, low), high)."""
        return self.minimum(self.maximum(x, low), high)

    def abs(self, x: Value) -> Value:
        return self.op("Abs", x)

    def sqrt(self, x: Value) -> Value:
        return self.op("Sqrt", x)

    def exp(self, x: Value) -> Value:
        return self.op("Exp", x)

    def log(self, x: Value) -> Value:
        return self.op("Log", x)

    def sigmoid(self, x: Value) -> Value:
        return self.op("Sigmoid", x)

    def tanh(self, x: Value) -> Value:
        return self.op("Tanh", x)

    def softmax(self, x: Value) -> Value:
        return self.op("Softmax", x)

    def pow(self, x: Any, y: Any) -> Value:
        """numpy.power of floats; at least one of the two is a value."""
        return self.binary("Pow", x, y)

    def mod(self, x: Any, y: Any) -> Value:
        """numpy.mod of floats: the remainder has the sign of y; at least one of the two is a value."""
        rest = self.fmod(x, y)
        y = self.as_value(y, rest).cast(rest.dtype)
        below = y < 0.0
        zero = self.where(below, self.constant(-0.0, rest.dtype), self.constant(0.0, rest.dtype))
        return self.where(rest == 0.0, zero, self.where((rest < 0.0) == below, rest, rest + y))

    def fmod(self, x: Any, y: Any) -> Value:
        """numpy.fmod of floats: the remainder has the sign of x; at least one of the two is a value."""
        return self.binary("Fmod", x, y)

    def log1p(self, x: Value) -> Value:
        return self.op("Log1p", x)

    def expm1(self, x: Value) -> Value:
        return self.op("Expm1", x)

    def sin(self, x: Value) -> Value:
        return self.op("Sin", x)

    def cos(self, x: Value) -> Value:
        return self.op("Cos", x)

    def erf(self, x: Value) -> Value:
        return self.op("Erf", x)

    def normal_quantile(self, x: Value) -> Value:
        """scipy.special.ndtri."""
        return self.op("NormalQuantile", x)

    def digamma(self, x: Value) -> Value:
        return self.op("Digamma", x)

    def log_gamma(self, x: Value) -> Value:
        """scipy.special.gammaln."""
        return self.op("LogGamma", x)

    def bessel_k(self, x: Value, order: float) -> Value:
        """scipy.special.kv(order, x)."""
        return self.op("BesselK", x, order=float(order))

    def floor(self, x: Value) -> Value:
        return self.op("Floor", x)

    def round(self, x: Value) -> Value:
        """To the nearest integer, of two the even one, as numpy.round."""
        return self.op("Round", x)

    def sign(self, x: Value) -> Value:
        return self.op("Sign", x)

    def sum(self, x: Value) -> Value:
        """Sum along the row, width 1."""
        return self.op("ReduceSum", x)

    def max(self, x: Value) -> Value:
        return self.op("ReduceMax", x)

    def min(self, x: Value) -> Value:
        return self.op("ReduceMin", x)

    def argmax(self, x: Value) -> Value:
        return self.op("ArgMax", x)

    def argmin(self, x: Value) -> Value:
        return self.op("ArgMin", x)

    def is_nan(self, x: Value) -> Value:
        return self.op("IsNaN", x)

    def is_none(self, x: Value) -> Value:
        return self.op("IsNone", x)

    def linear(self, x: Value, weight: Any, bias: Any = 0.0) -> Value:
        """x @ weight + bias in x's dtype; weight (x.width, k), bias a number or (k,)."""
        w = np.ascontiguousarray(weight, dtype=x.dtype)
        return self.op("Linear", x, weight=w, bias=np.broadcast_to(np.asarray(bias, dtype=x.dtype), w.shape[1]).copy())

    def lookup(self, x: Value, keys: Any) -> Value:
        """Position of a column's cell among keys, -1 where absent."""
        return self.op("Lookup", x, keys=keys if isinstance(keys, tuple) else np.asarray(keys, dtype=x.dtype))

    def take(self, index: Value, table: Any) -> Value:
        """Row ``index`` of a table (rows, k); of a tuple of string cells; a 1-D array is a table of width 1."""
        if isinstance(table, tuple):
            return self.op("Take", index, table=table)
        table = np.asarray(table)
        return self.op("Take", index, table=np.ascontiguousarray(table[:, None] if table.ndim == 1 else table))

    def one_hot(self, index: Value, width: int, dtype: str = "float64") -> Value:
        return self.op("OneHot", index, width=int(width), dtype=dtype)

    def distances(self, x: Value, points: Any, metric: str, *, p: float = 2.0, weights: Any = None) -> Value:
        """Distance of each row to each point (m, x.width), float64; see ops_distances.py for what is squared."""
        points = np.ascontiguousarray(points, dtype=x.dtype)
        weights = np.ones(x.width) if weights is None else np.ascontiguousarray(weights, dtype=np.float64)
        return self.op("Distances", x, points=points, metric=metric, p=float(p), weights=weights)

    def top_k(self, x: Value, k: int) -> Value:
        """Positions of a row's k smallest cells, smallest first, the leftmost of equals first."""
        return self.op("TopK", x, k=int(k))

    def heap_k(self, x: Value, k: int) -> Value:
        """Positions of k smallest cells of a row as a heap keeps them: which of equals is up to their order."""
        return self.op("HeapK", x, k=int(k))

    def take_along(self, x: Value, positions: Value) -> Value:
        """The cells of each row at computed positions; of a constant, the same row for all."""
        return self.op("TakeAlong", x, positions)

    def solve(self, matrix: Value, right: Value) -> Value:
        """Solution of a symmetric positive definite system a row; matrix (k * k,) row by row, right (k,)."""
        return self.op("Solve", matrix, right)

    def loop(self, state: Value, given: Sequence[Value], most: int, body: Body) -> Value:
        """``state`` after at most ``most`` rounds of ``state, more = body(state, *given)``, per row while ``more``.

        ``body`` is called once, with values of a program of its own: it reads nothing else but arrays and numbers.
        """
        inner = Builder()
        values = [inner.input(f"x{at}", v.dtype, v.width) for at, v in enumerate((state, *given))]
        with inner.at(self.origin):
            after, more = body(*values)
        inner.output("state", [after], "matrix", after.dtype)
        inner.output("more", [more], "vector", "bool")
        return self.op("Loop", state, *given, body=inner.finish(), most=int(most))

    def check_finite(self, x: Value, what: str, *, allow_nan: bool = False) -> Value:
        """x, refusing infinity (and NaN unless allowed) in the name of ``what``."""
        return self.op("CheckFinite", x, allow_nan=allow_nan, what=what)

    def require(self, x: Value, ok: Value, message: str, kind: str = "input") -> Value:
        """x, refusing rows where ``ok`` is false; kind "category" raises UnknownCategoryError, "input" InputError."""
        return self.op("Require", x, ok, message=message, kind=kind)


__all__ = ["Builder", "Value"]

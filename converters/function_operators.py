"""Operators of a function that is translated, as Python, NumPy or Numba compute them, on values that are known.

In come operands, numbers or stand-ins for arrays and cells; out goes the result. The base of what evaluates
expressions (function_expressions.py), which finds the operands; rows that Python would raise for are refused.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeml.converters.function_arrays import Trace, Traced
from edgeml.converters.function_state import Frame, either, is_plain, is_single, marked, negated

if TYPE_CHECKING:
    from edgeml.converters.function_source import Interpreter

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.MatMult: operator.matmul,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


class Operators:
    """What operators make of values in the frame of a call."""

    def __init__(self, interpreter: Interpreter) -> None:
        self.interpreter = interpreter
        self.trace: Trace = interpreter.trace

    def truth(self, x: Any) -> Any:
        """A condition: a bool, or one for each row."""
        if not isinstance(x, Traced):
            return bool(x)
        if x.shape:
            raise self.trace.refuse("a branch on a whole array", "use numpy.where, or a function of one cell")
        return x if x.dtype == bool else x.astype(bool)

    def operate(self, frame: Frame, op: ast.operator, a: Any, b: Any) -> Any:
        """``a op b``. Rows that divide by zero are refused where Python and Numba raise."""
        if type(op) not in _BINARY:
            raise self.trace.refuse("shifts of bits", "multiply by powers of two")
        if not (is_single(a) and is_single(b)) or not (isinstance(a, Traced) or isinstance(b, Traced)):
            return _BINARY[type(op)](a, b)
        plain = is_plain(a) and is_plain(b)
        raises = frame.mode == "numba" or (plain and frame.mode != "ufunc")
        logic = isinstance(op, (ast.BitAnd, ast.BitOr, ast.BitXor))
        a, b = (x if logic else self.number(x) for x in (a, b))
        if isinstance(op, (ast.Div, ast.FloorDiv, ast.Mod)) and raises:
            self.interpreter.require(frame, self.truth(b != 0), f"{frame.source.name} divides by zero")
        if isinstance(op, ast.Pow) and plain and frame.mode == "python":
            self._power_is_real(frame, a, b)
        result = _BINARY[type(op)](a, b)
        grows = isinstance(op, (ast.Add, ast.Sub, ast.Mult, ast.Pow))
        if grows and plain and frame.mode == "python" and isinstance(result, Traced) and result.dtype.kind == "i":
            size = np.abs(_BINARY[type(op)](*(x.astype(float) if isinstance(x, Traced) else float(x) for x in (a, b))))
            message = f"{frame.source.name} makes a whole number beyond 64 bits, which Python has and NumPy has not"
            self.interpreter.require(frame, self.truth(size < 2.0**63), message)
        return marked(result, plain)

    def number(self, x: Any) -> Any:
        """Python's and Numba's bools count as whole numbers."""
        return marked(x.astype(np.int64), x.plain) if isinstance(x, Traced) and x.dtype == bool else x

    def _power_is_real(self, frame: Frame, a: Any, b: Any) -> None:
        """Where Python's ** raises (0 to a negative power) or leaves the real numbers, rows are refused."""
        if isinstance(b, Traced):
            whole: Any = np.floor(b) == b if b.dtype.kind == "f" else True
            ok = ((a > 0) | (a != a)) | ((a == 0) & (b >= 0)) | ((a < 0) & whole)
        elif float(b).is_integer():
            ok = True if b >= 0 else a != 0
        else:
            ok = (a >= 0) | (a != a) if b > 0 else (a > 0) | (a != a)
        self.interpreter.require(frame, ok, f"{frame.source.name} leaves the real numbers")

    def compared(self, op: ast.cmpop, a: Any, b: Any) -> Any:
        if isinstance(op, (ast.Is, ast.IsNot)):
            return (a is b) == isinstance(op, ast.Is)
        if isinstance(op, (ast.In, ast.NotIn)):
            if isinstance(a, Traced):
                found: Any = False
                for item in b:
                    found = either(found, self.truth(a == item))
            else:
                found = a in b
            return found if isinstance(op, ast.In) else negated(found)
        a, b = (self.number(x) if is_single(x) else x for x in (a, b))
        return _COMPARE[type(op)](a, b)

"""The functions of Python's math on cells, in functions that are translated.

In come the expressions of the interpreter, the frame of the call and its arguments; rows for which math would raise are
refused. Called by function_expressions.py and function_builtins.py.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeml.converters.function_arrays import Traced
from edgeml.converters.function_state import Frame, marked
from edgeml.converters.function_ufuncs import call_ufunc

if TYPE_CHECKING:
    from edgeml.converters.function_expressions import Expressions

# math's functions: NumPy's of the same meaning, and where math raises (numpy's answer would be NaN or infinite).
_MATH: dict[str, tuple[str, Callable[[Any], Any] | None]] = {
    "sqrt": ("sqrt", lambda x: x >= 0),
    "exp": ("exp", lambda x: x < 709.782712893384),
    "expm1": ("expm1", lambda x: x < 709.782712893384),
    "log": ("log", lambda x: x > 0),
    "log2": ("log2", lambda x: x > 0),
    "log10": ("log10", lambda x: x > 0),
    "log1p": ("log1p", lambda x: x > -1),
    "sin": ("sin", np.isfinite),
    "cos": ("cos", np.isfinite),
    "tan": ("tan", np.isfinite),
    "tanh": ("tanh", None),
    "asin": ("arcsin", lambda x: np.abs(x) <= 1),
    "acos": ("arccos", lambda x: np.abs(x) <= 1),
    "atan": ("arctan", None),
    "atan2": ("arctan2", None),
    "asinh": ("arcsinh", None),
    "fabs": ("fabs", None),
    "radians": ("radians", None),
    "degrees": ("degrees", None),
    "isnan": ("isnan", None),
    "isinf": ("isinf", None),
    "isfinite": ("isfinite", None),
    "copysign": ("copysign", None),
    "hypot": ("hypot", None),
}


def call_math(e: Expressions, frame: Frame, name: str, args: list[Any]) -> Any:
    """A function of math on a cell; rows it would raise for are refused, outside Numba."""
    if name in ("floor", "ceil", "trunc"):
        return to_int(e, frame, getattr(np, name)(e.number(args[0])))
    if name == "pow":
        return e.operate(frame, ast.Pow(), *(1.0 * e.number(a) for a in args))
    if name == "log" and len(args) == 2:
        return call_math(e, frame, "log", args[:1]) / call_math(e, frame, "log", args[1:])
    if name not in _MATH:
        raise e.trace.refuse(
            f"math.{name} is not in the vocabulary", "use functions of the vocabulary (docs/functions.md)"
        )
    ufunc, fine = _MATH[name]
    if not any(isinstance(a, Traced) for a in args):
        return getattr(math, name)(*args)
    x = args[0]
    if fine is not None and frame.mode == "python":
        ok = e.truth(fine(x) | (x != x)) if name not in ("sin", "cos", "tan") else e.truth(~np.isinf(x))
        ok = ok | e.truth(x == math.inf) if name in ("exp", "expm1") else ok
        e.interpreter.require(frame, ok, f"math.{name} raises")
    numbers = [e.number(a) for a in args]
    numbers = [n.astype(float) if isinstance(n, Traced) and n.dtype.kind == "i" else n for n in numbers]
    result = call_ufunc(e.trace, getattr(np, ufunc), numbers)
    return marked(result, True)


def to_int(e: Expressions, frame: Frame, x: Any) -> Any:
    """int(x) of a whole float; what int64 cannot hold is refused where Python raises or needs more digits."""
    if x.dtype.kind != "f":
        return marked(x.astype(np.int64), True)
    fits = e.truth(np.abs(x) < 2.0**63)
    if frame.mode == "python":
        e.interpreter.require(frame, fits, f"{frame.source.name} makes a whole number of what is none")
    return marked(x.astype(np.int64), True)

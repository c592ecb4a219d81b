"""What the translation of a function's source keeps: the variables of a call, and the conditions of its statements.

Shared by the interpreter of statements (function_source.py), of expressions (function_expressions.py) and the built-in
functions (function_builtins.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgeml.converters.function_arrays import Rows, Trace, Traced
from edgeml.converters.function_text import Source


@dataclass
class RowIndex:
    """The number of the row at hand, in a loop over rows: it picks that row, and nothing else."""

    trace: Trace

    def _refuse(self, *_: object) -> Any:
        raise self.trace.across("the number of a row")

    __index__ = __int__ = __float__ = __bool__ = __add__ = __radd__ = __sub__ = __rsub__ = _refuse
    __mul__ = __rmul__ = __mod__ = __floordiv__ = __truediv__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse


@dataclass(frozen=True)
class Unknown:
    """A variable without a value for every row: reading it is refused with the reason."""

    reason: str


# Whether rows go on: True, False, or a bool for each.
Alive = Any


@dataclass
class Frame:
    """One call: its variables, what it returned and under which condition, and where its rows stand.

    ``path`` is the condition of the statement at hand, of the whole call; ``mode`` is whose arithmetic the code has:
    "python", "numba" (no exceptions but for division by 0), or "ufunc" (none at all). ``loops`` has, for each loop
    around the statement, the conditions under which rows left it or went on to its next round.
    """

    source: Source
    mode: str
    names: dict[str, Any]
    path: Any = True
    returns: list[tuple[Any, Any]] = field(default_factory=list)
    loops: list[list[Any]] = field(default_factory=list)
    in_rows: bool = False


def both(a: Any, b: Any) -> Any:
    """a and b, of conditions that may be known."""
    if a is True or b is False:
        return b
    if b is True or a is False:
        return a
    return a & b


def negated(a: Any) -> Any:
    """not a, of a condition that may be known."""
    return not a if isinstance(a, bool) else ~a


def either(a: Any, b: Any) -> Any:
    """a or b, of conditions that may be known."""
    return negated(both(negated(a), negated(b)))


def is_number(x: Any) -> bool:
    """Whether two such can meet in a Where."""
    return isinstance(x, (Traced, bool, int, float, np.number, np.bool_, np.ndarray))


def is_plain(x: Any) -> bool:
    """Whether Python, not NumPy, holds a number: then a division by zero raises."""
    return x.plain if isinstance(x, Traced) else isinstance(x, (int, float)) and not isinstance(x, np.generic)


class AllRows:
    """What a loop over rows goes through: ``item`` stands for the loop's variable in every row."""

    def __init__(self, item: Any) -> None:
        self.item = item


class Closure:
    """A function defined inside a function. Called by NumPy or pandas, it runs as any call."""

    def __init__(self, run: Callable[..., Any], name: str) -> None:
        self.run, self.__name__ = run, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(args, kwargs, True)


def marked(x: Any, plain: bool) -> Any:
    """The same number, known to be Python's own."""
    if isinstance(x, Traced) and plain and not x.plain:
        x = x.like(x.value)
        x.plain = True
    return x


def is_single(x: Any) -> bool:
    """Whether an operand is one number."""
    return not x.shape if isinstance(x, Traced) else isinstance(x, (bool, int, float, np.number, np.bool_))


def is_stand_in(x: Any) -> bool:
    """Whether something computed is in an argument, however deep in lists."""
    if isinstance(x, (list, tuple, set)):
        return any(is_stand_in(item) for item in x)
    if isinstance(x, dict):
        return any(is_stand_in(item) for item in x.values())
    known = (Traced, Rows, RowIndex, AllRows, Closure, Unknown)
    return isinstance(x, known) or hasattr(x, "_outranks_arrays") or hasattr(x, "_block")


def arrays_in(x: Any) -> Any:
    """Columns of frames as arrays, inside lists too."""
    if hasattr(x, "_outranks_arrays"):
        return x.to_numpy()
    return type(x)(arrays_in(item) for item in x) if type(x) in (list, tuple) else x


def is_hashable(x: Any) -> bool:
    try:
        hash(x)
    except TypeError:
        return False
    return True

"""Expressions of a function that is translated: operators as Python, NumPy or Numba compute them, and calls.

Part of the interpreter of function_source.py, which runs the statements. Calls of NumPy's functions go to the tables
of function_calls.py, those of other functions of the user's are translated in their turn, and what sees no stand-in is
simply called.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeml.converters.function_arrays import Rows, Trace, Traced
from edgeml.converters.function_calls import FUNCTIONS, call_function, traces
from edgeml.converters.function_text import Source, is_users, plain_function
from edgeml.converters.function_ufuncs import call_ufunc, expand

if TYPE_CHECKING:
    from edgeml.converters.function_source import Frame, Interpreter

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


class Expressions:
    """Evaluates expressions in the frame of a call."""

    def __init__(self, interpreter: Interpreter) -> None:
        self.interpreter = interpreter
        self.trace: Trace = interpreter.trace

    def value(self, frame: Frame, node: ast.expr) -> Any:
        """What an expression gives."""
        known = getattr(self, f"_{type(node).__name__.lower()}", None)
        if known is None:
            raise self.trace.refuse(
                f"{type(node).__name__.lower()} cannot be translated", "use numbers, calls, operators and comparisons"
            )
        return self.interpreter.located(frame, node, lambda: known(frame, node))

    # --- values
    def _constant(self, frame: Frame, node: ast.Constant) -> Any:
        return node.value

    def _name(self, frame: Frame, node: ast.Name) -> Any:
        from edgeml.converters.function_source import Unknown

        if node.id not in frame.names and node.id not in frame.source.names:
            raise NameError(f"name {node.id!r} is not defined")
        found = frame.names[node.id] if node.id in frame.names else frame.source.names[node.id]
        if isinstance(found, Unknown):
            raise self.trace.refuse(found.reason, "give it a value in every case")
        return found

    def _tuple(self, frame: Frame, node: ast.Tuple | ast.List) -> Any:
        items: list[Any] = []
        for element in node.elts:
            if isinstance(element, ast.Starred):
                items.extend(self.value(frame, element.value))
            else:
                items.append(self.value(frame, element))
        return tuple(items) if isinstance(node, ast.Tuple) else items

    _list = _tuple

    def _dict(self, frame: Frame, node: ast.Dict) -> Any:
        keys = [None if k is None else self.value(frame, k) for k in node.keys]
        if any(k is None for k in node.keys):
            raise self.trace.refuse("** in a dict", "name the entries")
        return dict(zip(keys, (self.value(frame, v) for v in node.values), strict=True))

    def _set(self, frame: Frame, node: ast.Set) -> Any:
        return {self.value(frame, e) for e in node.elts}

    def _joinedstr(self, frame: Frame, node: ast.JoinedStr) -> str:
        parts = [p.value if isinstance(p, ast.Constant) else str(self.value(frame, p.value)) for p in node.values]  # type: ignore[attr-defined]  # the other kind is FormattedValue
        return "".join(map(str, parts))

    def _slice(self, frame: Frame, node: ast.Slice) -> slice:
        return slice(*(None if p is None else self.value(frame, p) for p in (node.lower, node.upper, node.step)))

    def _attribute(self, frame: Frame, node: ast.Attribute) -> Any:
        return getattr(self.value(frame, node.value), node.attr)

    def _lambda(self, frame: Frame, node: ast.Lambda) -> Any:
        return self.closure(frame, node, "<lambda>")

    def closure(self, frame: Frame, node: ast.FunctionDef | ast.Lambda, name: str) -> Closure:
        """A function that sees the variables of the frame."""
        arguments = node.args
        named = [a.arg for a in (*arguments.posonlyargs, *arguments.args)]
        given = [self.value(frame, d) for d in arguments.defaults]
        defaults = dict(zip(named[len(named) - len(given) :], given, strict=True))
        defaults |= {
            a.arg: self.value(frame, d) for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if d
        }

        def run(args: Sequence[Any], kwargs: Mapping[str, Any], path: Any) -> Any:
            source = Source(node, {**frame.source.names, **frame.names}, name, defaults)
            return self.interpreter.run(source, args, kwargs, frame.mode, path)

        return Closure(run, name)

    # --- operators
    def truth(self, x: Any) -> Any:
        """A condition: a bool, or one for each row."""
        if not isinstance(x, Traced):
            return bool(x)
        if x.shape:
            raise self.trace.refuse("a branch on a whole array", "use numpy.where, or a function of one cell")
        return x if x.dtype == bool else x.astype(bool)

    def _boolop(self, frame: Frame, node: ast.BoolOp) -> Any:
        """Later operands count only where the earlier ones leave it open, and only there may they refuse a row."""
        from edgeml.converters.function_source import both, negated

        path, result = frame.path, self.value(frame, node.values[0])
        stop_at_false = isinstance(node.op, ast.And)
        for operand in node.values[1:]:
            holds = self.truth(result)
            open_ = holds if stop_at_false else negated(holds)
            if open_ is False:
                break
            frame.path = both(frame.path, open_)
            other = self.value(frame, operand)
            result = self.interpreter.merged(open_, other, result, "and" if stop_at_false else "or")
        frame.path = path
        return result

    def _ifexp(self, frame: Frame, node: ast.IfExp) -> Any:
        from edgeml.converters.function_source import both, negated

        condition, path = self.truth(self.value(frame, node.test)), frame.path
        if isinstance(condition, bool):
            return self.value(frame, node.body if condition else node.orelse)
        frame.path = both(path, condition)
        yes = self.value(frame, node.body)
        frame.path = both(path, negated(condition))
        no = self.value(frame, node.orelse)
        frame.path = path
        return self.interpreter.merged(condition, yes, no, "a conditional expression")

    def _unaryop(self, frame: Frame, node: ast.UnaryOp) -> Any:
        from edgeml.converters.function_source import is_plain, negated

        x = self.value(frame, node.operand)
        if isinstance(node.op, ast.Not):
            return negated(self.truth(x))
        if isinstance(x, Traced) and x.dtype == bool and x.plain:
            x = self._number(x)
        functions = {ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Invert: operator.invert}
        return _marked(functions[type(node.op)](x), is_plain(x))

    def _binop(self, frame: Frame, node: ast.BinOp) -> Any:
        return self.operate(frame, node.op, self.value(frame, node.left), self.value(frame, node.right))

    def operate(self, frame: Frame, op: ast.operator, a: Any, b: Any) -> Any:
        """``a op b``. Rows that divide by zero are refused where Python and Numba raise."""
        from edgeml.converters.function_source import is_plain

        if type(op) not in _BINARY:
            raise self.trace.refuse("shifts of bits", "multiply by powers of two")
        if not (_single(a) and _single(b)) or not (isinstance(a, Traced) or isinstance(b, Traced)):
            return _BINARY[type(op)](a, b)
        plain = is_plain(a) and is_plain(b)
        raises = frame.mode == "numba" or (plain and frame.mode != "ufunc")
        logic = isinstance(op, (ast.BitAnd, ast.BitOr, ast.BitXor))
        a, b = (x if logic else self._number(x) for x in (a, b))
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
        return _marked(result, plain)

    def _number(self, x: Any) -> Any:
        """Python's and Numba's bools count as whole numbers."""
        return _marked(x.astype(np.int64), x.plain) if isinstance(x, Traced) and x.dtype == bool else x

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

    def _compare(self, frame: Frame, node: ast.Compare) -> Any:
        from edgeml.converters.function_source import both

        left, path, result = self.value(frame, node.left), frame.path, None
        for op, right_node in zip(node.ops, node.comparators, strict=True):
            if result is not None:
                if result is False:
                    break
                frame.path = both(frame.path, self.truth(result))
            right = self.value(frame, right_node)
            one = self._compared(op, left, right)
            result = one if result is None else both(self.truth(result), self.truth(one))
            left = right
        frame.path = path
        return result

    def _compared(self, op: ast.cmpop, a: Any, b: Any) -> Any:
        if isinstance(op, (ast.Is, ast.IsNot)):
            return (a is b) == isinstance(op, ast.Is)
        if isinstance(op, (ast.In, ast.NotIn)):
            if isinstance(a, Traced):
                found: Any = False
                for item in b:
                    from edgeml.converters.function_source import either

                    found = either(found, self.truth(a == item))
            else:
                found = a in b
            from edgeml.converters.function_source import negated

            return found if isinstance(op, ast.In) else negated(found)
        a, b = (self._number(x) if _single(x) else x for x in (a, b))
        return _COMPARE[type(op)](a, b)

    # --- cells by position
    def _subscript(self, frame: Frame, node: ast.Subscript) -> Any:
        from edgeml.converters.function_source import RowIndex

        base, key = self.value(frame, node.value), self.value(frame, node.slice)
        if base is np.c_ or base is np.r_:
            parts = list(key) if isinstance(key, tuple) else [key]
            if not any(isinstance(p, Traced) or hasattr(p, "_outranks_arrays") for p in parts):
                return base[key]
            if base is np.r_:
                raise self.trace.across("numpy.r_")
            return np.column_stack([p.array if hasattr(p, "array") else p for p in parts])
        items = key if isinstance(key, tuple) else (key,)
        if any(isinstance(i, RowIndex) for i in items):
            return self._row(base, items)
        if isinstance(key, Traced) and isinstance(base, (np.ndarray, list, tuple)) and not isinstance(base, Traced):
            return np.take(np.asarray(base), key)
        return base[key]

    def _row(self, base: Any, items: tuple[Any, ...]) -> Any:
        """The cells of the row at hand."""
        from edgeml.converters.function_source import RowIndex

        array = base.array if hasattr(base, "array") else base
        if not isinstance(array, Traced) or array.row_axis != 0 or not isinstance(items[0], RowIndex):
            raise self.trace.across(f"a row of {type(base).__name__}")
        row = array.like(array.value, array.shape[1:], view=True)
        return row[items[1:]] if len(items) > 1 else row

    def store(self, frame: Frame, target: ast.Subscript, new: Any) -> None:
        """``target = new`` for cells: of the row at hand, or of a whole array; only on the path of the statement."""
        from edgeml.converters.function_source import RowIndex

        base, key = self.value(frame, target.value), self.value(frame, target.slice)
        items = key if isinstance(key, tuple) else (key,)
        if not isinstance(base, Traced) or not any(isinstance(i, RowIndex) for i in items):
            if frame.path is not True and isinstance(base, Traced):
                old = base[key]
                new = self.interpreter.merged(frame.path, new, old, "a cell")
            elif frame.path is not True and not isinstance(base, list):
                raise self.trace.refuse("an assignment inside a branch on cells", "assign to variables")
            base[key] = new
            return
        base._writable("an assignment to cells")
        row = base.like(base.value, base.shape[1:])
        rest = items[1:] if len(items) > 1 else (slice(None),) if row.shape else ()
        if frame.path is not True:
            old = row[rest] if rest else row
            cells = new if is_cells(new) else np.asarray(new)
            new = self.interpreter.merged(frame.path, cells, old, "a cell")
        if isinstance(new, (list, tuple)):
            new = np.stack(list(new)) if any(isinstance(n, Traced) for n in new) else np.asarray(new)
        if rest:
            row[rest] = new
        else:
            value = new.value if isinstance(new, Traced) else self.trace.builder.constant(np.asarray(new))
            row.value = value.cast(row.value.dtype)
        base.value = row.value.held_as(base.value.numpy)

    def rows_of(self, items: Any) -> Any:
        """What stands for a loop's variable when the loop goes over rows; None for any other loop."""
        if isinstance(items, AllRows):
            return items.item
        array = items.array if hasattr(items, "array") else items
        if isinstance(array, Traced) and array.row_axis == 0:
            return array.like(array.value, array.shape[1:], view=True)
        return None

    def gathered(self, entry: Any) -> Traced:
        """A list of one entry for each row, as the array NumPy makes of it."""
        cells = list(entry) if isinstance(entry, (list, tuple)) else [entry]
        if isinstance(entry, Traced) and entry.shape:
            value = entry.value
        else:
            parts = [p if isinstance(p, Traced) else np.asarray(p).reshape(1) for p in cells]
            value = (np.stack(parts) if any(isinstance(p, Traced) for p in cells) else self._constants(parts)).value
        rows = Rows(self.trace)
        one = isinstance(entry, Traced) and not entry.shape or not isinstance(entry, (list, tuple, Traced))
        return Traced(self.trace, value, (rows,) if one else (rows, value.width))

    def _constants(self, parts: Sequence[Any]) -> Traced:
        value = self.trace.builder.constant(np.concatenate(parts))
        return Traced(self.trace, value, (value.width,))

    def _listcomp(self, frame: Frame, node: ast.ListComp | ast.GeneratorExp) -> Any:
        if len(node.generators) != 1:
            raise self.trace.refuse("a comprehension of several loops", "write loops")
        generator, outer = node.generators[0], frame.names
        items = self.value(frame, generator.iter)
        rows = self.rows_of(items)
        result = []
        frame.names = dict(outer)
        for item in [rows] if rows is not None else items:
            self.interpreter.assign(frame, generator.target, item, True)
            kept = [self.truth(self.value(frame, test)) for test in generator.ifs]
            if not all(isinstance(k, bool) for k in kept):
                raise self.trace.across("a comprehension that leaves out entries by their cells")
            if all(kept):
                result.append(self.value(frame, node.elt))
        frame.names = outer
        return self.gathered(result[0]) if rows is not None else result

    _generatorexp = _listcomp

    # --- calls
    def _call(self, frame: Frame, node: ast.Call) -> Any:
        function = self.value(frame, node.func)
        args = list(self._tuple(frame, ast.Tuple(node.args, ast.Load())))
        kwargs: dict[str, Any] = {}
        for keyword in node.keywords:
            given = self.value(frame, keyword.value)
            kwargs.update(given if keyword.arg is None else {keyword.arg: given})
        return self.call(frame, function, args, kwargs)

    def call(self, frame: Frame, function: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """What a function gives: the user's by their source, others by a table or a plain call."""
        from edgeml.converters import function_builtins
        from edgeml.converters.function_source import over_cells

        if isinstance(function, partial):
            return self.call(frame, function.func, [*function.args, *args], {**function.keywords, **kwargs})
        if isinstance(function, Closure):
            return function.run(args, kwargs, frame.path)
        seen = any(is_stand_in(x) for x in (*args, *kwargs.values()))
        own = getattr(function, "__self__", None)
        if not seen and not is_stand_in(own):
            return function(*args, **kwargs)
        if isinstance(function, np.vectorize):
            if function.signature is not None or kwargs or function.excluded:
                raise self.trace.refuse("numpy.vectorize with signature, excluded or names", "pass cells by position")
            return over_cells(self.interpreter, frame, function.pyfunc, args, function.otypes)
        if hasattr(function, "_dispatcher"):
            return over_cells(self.interpreter, frame, function, args, None)
        if _hashable(function) and (getattr(function, "__module__", None) or "").startswith("pandas"):
            from edgeml.converters.function_frames import construct

            return construct(self.trace, function.__name__, args, kwargs)
        special = function_builtins.TABLE.get(function) if _hashable(function) else None
        if special is not None:
            return special(self, frame, *args, **kwargs)
        if getattr(function, "__module__", None) == "math" and _hashable(function):
            return self._math(frame, function.__name__, args)
        if _hashable(function) and function in FUNCTIONS:
            cells = [_arrays(a) for a in args]
            return call_function(self.trace, function, cells, {k: _arrays(v) for k, v in kwargs.items()})
        if is_users(plain_function(function)):
            return self.interpreter.call(function, args, kwargs, frame.mode, frame.path)
        if isinstance(own, list) and frame.path is not True and not frame.in_rows:
            pass  # lists were copied for the branch, and meet again after it
        return function(*args, **kwargs)

    def _math(self, frame: Frame, name: str, args: list[Any]) -> Any:
        """A function of math on a cell; rows it would raise for are refused, outside Numba."""
        if name in ("floor", "ceil", "trunc"):
            return self.to_int(frame, getattr(np, name)(self._number(args[0])))
        if name == "pow":
            return self.operate(frame, ast.Pow(), *(1.0 * self._number(a) for a in args))
        if name == "log" and len(args) == 2:
            return self._math(frame, "log", args[:1]) / self._math(frame, "log", args[1:])
        if name not in _MATH:
            raise self.trace.refuse(f"math.{name} is not in the vocabulary", "use functions of the vocabulary (README)")
        ufunc, fine = _MATH[name]
        if not any(isinstance(a, Traced) for a in args):
            return getattr(math, name)(*args)
        x = args[0]
        if fine is not None and frame.mode == "python":
            ok = self.truth(fine(x) | (x != x)) if name not in ("sin", "cos", "tan") else self.truth(~np.isinf(x))
            ok = ok | self.truth(x == math.inf) if name in ("exp", "expm1") else ok
            self.interpreter.require(frame, ok, f"math.{name} raises")
        numbers = [self._number(a) for a in args]
        numbers = [n.astype(float) if isinstance(n, Traced) and n.dtype.kind == "i" else n for n in numbers]
        result = call_ufunc(self.trace, getattr(np, ufunc), numbers)
        return _marked(result, True)

    def to_int(self, frame: Frame, x: Any) -> Any:
        """int(x) of a whole float; what int64 cannot hold is refused where Python raises or needs more digits."""
        if x.dtype.kind != "f":
            return _marked(x.astype(np.int64), True)
        fits = self.truth(np.abs(x) < 2.0**63)
        if frame.mode == "python":
            self.interpreter.require(frame, fits, f"{frame.source.name} makes a whole number of what is none")
        return _marked(x.astype(np.int64), True)


def _marked(x: Any, plain: bool) -> Any:
    """The same number, known to be Python's own."""
    if isinstance(x, Traced) and plain and not x.plain:
        x = x.like(x.value)
        x.plain = True
    return x


def _single(x: Any) -> bool:
    """Whether an operand is one number."""
    return not x.shape if isinstance(x, Traced) else isinstance(x, (bool, int, float, np.number, np.bool_))


def is_cells(x: Any) -> bool:
    """Whether a value is computed."""
    return isinstance(x, Traced)


def is_stand_in(x: Any) -> bool:
    """Whether something computed is in an argument, however deep in lists."""
    from edgeml.converters.function_source import RowIndex, Unknown

    if isinstance(x, (list, tuple, set)):
        return any(is_stand_in(item) for item in x)
    if isinstance(x, dict):
        return any(is_stand_in(item) for item in x.values())
    known = (Traced, Rows, RowIndex, AllRows, Closure, Unknown)
    return isinstance(x, known) or hasattr(x, "_outranks_arrays") or hasattr(x, "_block")


def _arrays(x: Any) -> Any:
    """Columns of frames as arrays, inside lists too."""
    if hasattr(x, "_outranks_arrays"):
        return x.to_numpy()
    return type(x)(_arrays(item) for item in x) if type(x) in (list, tuple) else x


def _hashable(x: Any) -> bool:
    try:
        hash(x)
    except TypeError:
        return False
    return True


@traces(np.apply_along_axis)
def _apply_along_axis(trace: Trace, func1d: Any, axis: int, arr: Any) -> Any:
    """A function of one row, for every row."""
    from edgeml.converters.function_source import of_row

    if not isinstance(arr, Traced) or arr.free_axis is None or axis % arr.ndim != arr.free_axis:
        raise trace.across(f"apply_along_axis with axis={axis}")
    row = arr.like(arr.value, (arr.value.width,), view=True)
    if isinstance(func1d, Closure) or is_users(plain_function(func1d)):
        return of_row(trace, func1d, row)
    return arr.like(func1d(row).value, (arr.shape[0],))


__all__ = ["AllRows", "Closure", "Expressions", "expand", "is_stand_in"]

"""Expressions of a function that is translated: names, cells by position, comprehensions and calls.

Part of the interpreter of function_source.py, which runs the statements; operators are those of function_operators.py.
Calls of NumPy's functions go to the tables of function_calls.py, those of other functions of the user's are translated
in their turn, and what sees no stand-in is simply called.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from edgeml.converters.function_arrays import Rows, Traced
from edgeml.converters.function_calls import FUNCTIONS, call_function
from edgeml.converters.function_math import call_math
from edgeml.converters.function_operators import Operators
from edgeml.converters.function_state import (
    AllRows,
    Closure,
    Frame,
    RowIndex,
    Unknown,
    arrays_in,
    both,
    is_hashable,
    is_plain,
    is_stand_in,
    marked,
    negated,
)
from edgeml.converters.function_text import Source, is_users, plain_function


class Expressions(Operators):
    """Evaluates expressions in the frame of a call."""

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
    def _boolop(self, frame: Frame, node: ast.BoolOp) -> Any:
        """Later operands count only where the earlier ones leave it open, and only there may they refuse a row."""
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
        x = self.value(frame, node.operand)
        if isinstance(node.op, ast.Not):
            return negated(self.truth(x))
        if isinstance(x, Traced) and x.dtype == bool and x.plain:
            x = self.number(x)
        functions: dict[type[ast.unaryop], Callable[[Any], Any]] = {
            ast.USub: operator.neg,
            ast.UAdd: operator.pos,
            ast.Invert: operator.invert,
        }
        return marked(functions[type(node.op)](x), is_plain(x))

    def _binop(self, frame: Frame, node: ast.BinOp) -> Any:
        return self.operate(frame, node.op, self.value(frame, node.left), self.value(frame, node.right))

    def _compare(self, frame: Frame, node: ast.Compare) -> Any:
        left, path, result = self.value(frame, node.left), frame.path, None
        for op, right_node in zip(node.ops, node.comparators, strict=True):
            if result is not None:
                if result is False:
                    break
                frame.path = both(frame.path, self.truth(result))
            right = self.value(frame, right_node)
            one = self.compared(op, left, right)
            result = one if result is None else both(self.truth(result), self.truth(one))
            left = right
        frame.path = path
        return result

    # --- cells by position
    def _subscript(self, frame: Frame, node: ast.Subscript) -> Any:
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
        array = base.array if hasattr(base, "array") else base
        if not isinstance(array, Traced) or array.row_axis != 0 or not isinstance(items[0], RowIndex):
            raise self.trace.across(f"a row of {type(base).__name__}")
        row = array.like(array.value, array.shape[1:], view=True)
        return row[items[1:]] if len(items) > 1 else row

    def store(self, frame: Frame, target: ast.Subscript, new: Any) -> None:
        """``target = new`` for cells: of the row at hand, or of a whole array; only on the path of the statement."""
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
            cells = new if isinstance(new, Traced) else np.asarray(new)
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
            parts: list[Any] = [p if isinstance(p, Traced) else np.asarray(p).reshape(1) for p in cells]
            whole: Any = np.stack(parts) if any(isinstance(p, Traced) for p in cells) else self._constants(parts)
            value = whole.value
        rows = Rows(self.trace)
        one = (isinstance(entry, Traced) and not entry.shape) or not isinstance(entry, (list, tuple, Traced))
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
        from edgeml.converters.function_cells import over_cells

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
        if type(function).__name__ == "GUFunc":
            raise self.trace.refuse("numba.guvectorize", "use numba.njit with a loop over the rows, which returns them")
        if hasattr(function, "_dispatcher"):
            return over_cells(self.interpreter, frame, function, args, None)
        if is_hashable(function) and (getattr(function, "__module__", None) or "").startswith("pandas"):
            from edgeml.converters.function_frames import construct

            return construct(self.trace, function.__name__, args, kwargs)
        special = function_builtins.TABLE.get(function) if is_hashable(function) else None
        if special is not None:
            return special(self, frame, *args, **kwargs)
        if getattr(function, "__module__", None) == "math" and is_hashable(function):
            return call_math(self, frame, function.__name__, args)
        if is_hashable(function) and function in FUNCTIONS:
            cells = [arrays_in(a) for a in args]
            return call_function(self.trace, function, cells, {k: arrays_in(v) for k, v in kwargs.items()})
        if is_users(plain_function(function)):
            return self.interpreter.call(function, args, kwargs, frame.mode, frame.path)
        if isinstance(own, list) and frame.path is not True and not frame.in_rows:
            pass  # lists were copied for the branch, and meet again after it
        return function(*args, **kwargs)

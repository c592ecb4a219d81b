"""Translates the source of a user's function: branches, loops and early returns over single cells become operations.

What records a call (function_arrays.py) cannot follow an ``if`` on a cell. Here the tree of the function is run with
the same stand-ins, both sides of such an ``if``, and what they assign or return meets in a Where; loops over constant
ranges are unrolled, a loop over rows runs once, for every row. Rows for which Python would raise are refused. Nothing
of the source is carried along. Called by functions.py; expressions and calls are in function_expressions.py.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from edgeml.converters.function_arrays import Refused, Rows, Trace, Traced
from edgeml.converters.function_expressions import Expressions
from edgeml.converters.function_state import (
    Alive,
    Closure,
    Frame,
    Unknown,
    both,
    either,
    is_number,
    is_plain,
    negated,
)
from edgeml.converters.function_text import Source, plain_function, source_of
from edgeml.converters.function_ufuncs import where

MOST_STEPS = 20_000  # statements of one function, unrolled
DEEPEST = 30  # calls inside calls


class Interpreter:
    """Runs trees of functions on stand-ins. One for each function to translate."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.steps = self.depth = 0
        self.expressions = Expressions(self)

    # --- calls
    def call(self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], mode: str, path: Any = True) -> Any:
        """What a user's function returns. Raises Refused where there is no source, or it cannot be translated."""
        if isinstance(function, Closure):
            return function.run(args, kwargs, path)
        plain = plain_function(function)
        source = source_of(plain)
        if source is None:
            name = getattr(plain, "__name__", repr(plain))
            raise self.trace.refuse(f"{name} has no source to read", "define it in a file, with def")
        return self.run(source, args, kwargs, mode_of(function, mode), path)

    def run(self, source: Source, args: Sequence[Any], kwargs: Mapping[str, Any], mode: str, path: Any) -> Any:
        """The same of its tree."""
        if self.depth >= DEEPEST:
            raise self.trace.refuse(f"{source.name} calls itself too deep", "write a loop over a range")
        frame = Frame(source, mode, dict(self._bound(source, args, kwargs)), path)
        self.depth += 1
        try:
            node = source.node
            if isinstance(node, ast.Lambda):
                return self.located(frame, node, lambda: self.expressions.value(frame, node.body))
            alive = self.block(frame, node.body)
        finally:
            self.depth -= 1
        return self._returned(frame, alive)

    def _bound(self, source: Source, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        arguments = source.node.args
        if arguments.vararg or arguments.kwarg:
            raise self.trace.refuse(f"{source.name} takes *args or **kwargs", "name every parameter")
        names = [a.arg for a in (*arguments.posonlyargs, *arguments.args)]
        if len(args) > len(names):
            cause = f"{source.name} takes {len(names)} arguments, got {len(args)}"
            raise self.trace.refuse(cause, "call it as Python would")
        given = {**source.defaults, **dict(zip(names, args, strict=False)), **kwargs}
        known = {*names, *(a.arg for a in arguments.kwonlyargs)}
        if set(given) != known:
            cause = f"{source.name} is called with other parameters than it has: {sorted(known ^ set(given))}"
            raise self.trace.refuse(cause, "call it as Python would")
        return given

    def _returned(self, frame: Frame, alive: Alive) -> Any:
        if alive is not False:
            frame.returns.append((True, None))
        *earlier, (_, result) = frame.returns
        for condition, value in reversed(earlier):
            result = self.merged(condition, value, result, f"what {frame.source.name} returns")
        return result

    def located(self, frame: Frame, node: Any, run: Any) -> Any:
        """``run()``, its refusals told with their line."""
        try:
            return run()
        except Refused as refusal:
            if not refusal.cause.startswith("line "):
                refusal.cause = f"line {node.lineno} of {frame.source.name}: {refusal.cause}"
            raise
        except (TypeError, ValueError, IndexError, KeyError, AttributeError, NameError, ZeroDivisionError) as error:
            cause = f"line {node.lineno} of {frame.source.name}: {type(error).__name__}: {error}"
            raise self.trace.refuse(cause, "use the documented vocabulary (docs/functions.md)") from None

    # --- statements
    def block(self, frame: Frame, statements: Sequence[ast.stmt]) -> Alive:
        """Run statements; the condition, of the rows that came in, under which rows come out at the end."""
        alive: Alive = True
        path = frame.path
        for statement in statements:
            if alive is False:
                break
            self.steps += 1
            if self.steps > MOST_STEPS:
                raise self.trace.refuse(f"more than {MOST_STEPS} statements when its loops are unrolled", "loop less")
            frame.path = both(path, alive)
            guard = alive if frame.loops else True  # rows that left a loop keep their variables
            going = self.located(frame, statement, partial(self._statement, frame, statement, guard))
            alive = both(alive, going)
        frame.path = path
        return alive

    def _statement(self, frame: Frame, node: ast.stmt, guard: Alive) -> Alive:
        value = partial(self.expressions.value, frame)
        match node:
            case ast.Return():
                frame.returns.append((frame.path, None if node.value is None else value(node.value)))
                if frame.in_rows:
                    raise self.trace.across("return inside a loop over rows")
                return False
            case ast.Assign():
                new = value(node.value)
                for target in node.targets:
                    self.assign(frame, target, new, guard)
            case ast.AnnAssign(value=ast.expr() as given):
                self.assign(frame, node.target, value(given), guard)
            case ast.AugAssign():
                old = value(_as_load(node.target))
                new = self.expressions.operate(frame, node.op, old, value(node.value))
                self.assign(frame, node.target, new, guard)
            case ast.If():
                return self._branch(frame, node, value(node.test))
            case ast.For():
                return self._for(frame, node, value(node.iter))
            case ast.While():
                return self._while(frame, node)
            case ast.Break() | ast.Continue():
                frame.loops[-1].append((frame.path, isinstance(node, ast.Break)))
                return False
            case ast.Raise() | ast.Assert():
                return self._raise(frame, node, value)
            case ast.Expr():
                value(node.value)
            case ast.FunctionDef():
                frame.names[node.name] = self.expressions.closure(frame, node, node.name)
            case ast.Import() | ast.ImportFrom():
                exec(compile(ast.Module([node], []), "<import>", "exec"), {}, frame.names)  # an import
            case ast.With() if all(_is_errstate(item) for item in node.items):
                return self.block(frame, node.body)
            case ast.Pass():
                pass
            case _:
                raise self.trace.refuse(
                    f"{type(node).__name__.lower()} cannot be translated", "use assignments, if, for, while and return"
                )
        return True

    def _branch(self, frame: Frame, node: ast.If, test: Any) -> Alive:
        condition = self.expressions.truth(test)
        if isinstance(condition, bool):
            return self.block(frame, node.body if condition else node.orelse)
        before, path = frame.names, frame.path
        sides, going = [], []
        for holds, body in ((condition, node.body), (negated(condition), node.orelse)):
            frame.names, frame.path = copied(before), both(path, holds)
            alive = self.block(frame, body)
            going.append((holds, alive))
            sides.append(frame.names)
        frame.path = path
        (yes, from_yes), (no, from_no) = going
        if not frame.loops and (from_yes is False or from_no is False):
            frame.names = sides[1] if from_yes is False else sides[0]  # the other side has returned
        else:
            frame.names = self._merged_names(condition, *sides)
        return True if from_yes is True and from_no is True else either(both(yes, from_yes), both(no, from_no))

    def _merged_names(self, condition: Any, yes: dict[str, Any], no: dict[str, Any]) -> dict[str, Any]:
        names: dict[str, Any] = {}
        for name in {**yes, **no}:
            if name not in yes or name not in no:
                names[name] = Unknown(f"{name} is assigned on one side of an if only")
                continue
            try:
                names[name] = self.merged(condition, yes[name], no[name], name)
            except Refused as refusal:  # a refusal only where the variable is read
                names[name] = Unknown(refusal.cause)
                self.trace.refusal = None
        return names

    def merged(self, condition: Any, a: Any, b: Any, what: str) -> Any:
        """a where the condition holds, else b."""
        if a is b or condition is True:
            return a
        if condition is False:
            return b
        if isinstance(a, (list, tuple)) and type(a) is type(b) and len(a) == len(b):
            return type(a)(self.merged(condition, x, y, what) for x, y in zip(a, b, strict=True))
        if not (is_number(a) and is_number(b)):
            if not isinstance(a, Traced) and not isinstance(b, Traced) and type(a) is type(b) and bool(np.all(a == b)):
                return a
            raise self.trace.refuse(
                f"{what} is {_kind(a)} in one case and {_kind(b)} in another", "give a number in every case"
            )
        rows = isinstance(condition, Traced) and not condition.shape and a.shape if isinstance(a, Traced) else ()
        if rows and rows[0:1] and isinstance(rows[0], Rows) and isinstance(b, Traced) and b.shape == rows:
            # A whole array, written to inside a loop over rows: a condition on the row at hand is one on each row.
            inner = where(self.trace, condition, a.like(a.value, rows[1:]), b.like(b.value, rows[1:]))
            return a.like(inner.value, rows)
        result: Traced = where(self.trace, condition, a, b)
        result.plain = is_plain(a) and is_plain(b)
        result.mixed = _letter(a) != _letter(b) or getattr(a, "mixed", False) or getattr(b, "mixed", False)
        return result

    def _for(self, frame: Frame, node: ast.For, items: Any) -> Alive:
        rows = self.expressions.rows_of(items)
        if rows is not None:
            return self._over_rows(frame, node, rows)
        if isinstance(items, Traced) and items.shape == ():
            raise self.trace.refuse("a loop over a cell", "loop over range(…)")
        return self._rounds(frame, node, iter(items))

    def _rounds(self, frame: Frame, node: ast.For | ast.While, items: Any) -> Alive:
        """A loop, unrolled. Rows that break keep their variables from then on."""
        path, returned = frame.path, len(frame.returns)
        staying: Alive = True
        left: Alive = False
        frame.loops.append([])
        for item in items:
            frame.path, frame.loops[-1] = both(path, staying), []
            before = copied(frame.names) if staying is not True else None
            if isinstance(node, ast.For):
                self.assign(frame, node.target, item, True)
            else:
                test = self.expressions.truth(self.expressions.value(frame, node.test))
                if not isinstance(test, bool):
                    raise self.trace.refuse(
                        "while goes on for as many rounds as a cell says", "use for … in range(…) with break"
                    )
                if not test:
                    break
            going = self.block(frame, node.body)
            if before is not None:
                frame.names = self._merged_names(staying, frame.names, before)
            for condition, is_break in frame.loops[-1]:
                left = either(left, condition) if is_break else left
                going = going if is_break else either(going, condition)
            staying = both(staying, going)
            if staying is False:
                break
        if node.orelse:
            raise self.trace.refuse("else of a loop", "use a variable that says whether the loop broke")
        frame.loops.pop()
        frame.path = path
        return True if len(frame.returns) == returned else either(staying, left)

    def _while(self, frame: Frame, node: ast.While) -> Alive:
        return self._rounds(frame, node, range(MOST_STEPS))

    def _over_rows(self, frame: Frame, node: ast.For, item: Any) -> Alive:
        """The body once, for every row at a time. What one row leaves to the next is refused where it is read."""
        if frame.in_rows:
            raise self.trace.across("a loop over rows inside another")
        outer, path = frame.names, frame.path
        assigned = {
            n.id for s in node.body for n in ast.walk(s) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
        }
        lists = {n: v for n, v in outer.items() if isinstance(v, list)}
        inner = {n: Unknown(f"{n} is carried from row to row") if n in assigned else v for n, v in outer.items()}
        inner.update({n: [] for n in lists if n not in assigned})
        frame.names, frame.in_rows = inner, True
        frame.loops.append([])
        self.assign(frame, node.target, item, True)
        alive = self.block(frame, node.body)
        if any(is_break for _, is_break in frame.loops.pop()):
            raise self.trace.across("break of a loop over rows")
        del alive  # rows that went on to the next round are done as well
        frame.in_rows, frame.path = False, path
        for name, value in frame.names.items():
            if name in lists and name not in assigned and isinstance(value, list) and value:
                if lists[name] or len(value) > 1:
                    raise self.trace.refuse(f"{name} does not get one entry a row", "append once in each row")
                outer[name] = self.expressions.gathered(value[0])
            elif name in assigned:
                outer[name] = Unknown(f"{name} is that of the last row")
            elif name in outer and isinstance(value, Traced) and value.row_axis is not None:
                outer[name] = value  # written to, row by row
        frame.names = outer
        return True

    def _raise(self, frame: Frame, node: ast.Raise | ast.Assert, value: Any) -> Alive:
        """Rows for which the function raises are refused, as scikit-learn refuses the batch they are in."""
        if isinstance(node, ast.Assert):
            self.require(frame, self.expressions.truth(value(node.test)), f"an assertion of {frame.source.name} fails")
            return True
        self.require(frame, False, f"{frame.source.name} raises an exception")
        return False

    def require(self, frame: Frame, holds: Any, message: str) -> None:
        """Refuse rows that get here without ``holds``."""
        refused = both(frame.path, negated(holds))
        if refused is False:
            return
        if refused is True:
            raise self.trace.refuse(message, "call it with rows for which it does not")
        ok = ~refused.value
        self.trace.builder.require(ok, ok, message)

    # --- variables
    def assign(self, frame: Frame, target: ast.expr, new: Any, guard: Alive) -> None:
        """Bind a name, unpack, or write to cells; rows for which ``guard`` does not hold keep what they had."""
        match target:
            case ast.Name():
                old = frame.names.get(target.id)
                if guard is not True and old is not None:
                    new = self.merged(guard, new, old, target.id)
                frame.names[target.id] = new
            case ast.Tuple() | ast.List():
                items = list(new)
                if len(items) != len(target.elts) or any(isinstance(e, ast.Starred) for e in target.elts):
                    raise self.trace.refuse("an assignment to a starred name", "unpack into as many names")
                for element, item in zip(target.elts, items, strict=True):
                    self.assign(frame, element, item, guard)
            case ast.Subscript():
                self.expressions.store(frame, target, new)
            case _:
                raise self.trace.refuse("an assignment to an attribute", "assign to variables")


def _letter(x: Any) -> str:
    """b, i or f: what a number counts as."""
    return str(x.dtype.kind if isinstance(x, Traced) else np.asarray(x).dtype.kind)


def _kind(x: Any) -> str:
    return "an array" if isinstance(x, Traced) and x.shape else "a number" if is_number(x) else repr(x)[:40]


def _as_load(target: ast.expr) -> ast.expr:
    loaded = ast.parse(ast.unparse(target), mode="eval").body
    return ast.copy_location(loaded, target)


def _is_errstate(item: ast.withitem) -> bool:
    return "errstate" in ast.unparse(item.context_expr) and item.optional_vars is None


def copied(names: dict[str, Any]) -> dict[str, Any]:
    """Variables that can be changed apart: lists and computed arrays are copied, one that has two names once."""
    known: dict[int, Any] = {}
    return {name: _copied(value, known) for name, value in names.items()}


def _copied(value: Any, known: dict[int, Any]) -> Any:
    if id(value) not in known:
        if isinstance(value, Traced) and value.shape and not value.given:
            known[id(value)] = value.like(value.value, view=value.view)
        else:
            known[id(value)] = [_copied(v, known) for v in value] if isinstance(value, list) else value
    return known[id(value)]


def mode_of(function: Any, mode: str) -> str:
    """Whose arithmetic a function follows, called from code of ``mode``."""
    if hasattr(function, "_dispatcher"):
        return "ufunc"  # numba.vectorize computes as NumPy's ufuncs do
    return "numba" if hasattr(function, "py_func") else mode

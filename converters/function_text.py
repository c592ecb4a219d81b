"""The source of a function as a syntax tree, and the objects its names stand for.

In comes a Python function, or what Numba or NumPy made of one; out goes a ``Source``, or None where there is no source
to read (built-in functions, functions typed into an interpreter). Called by function_source.py.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any

# Packages whose functions are part of the vocabulary or not, but never user's code to translate.
_LIBRARIES = ("numpy", "scipy", "pandas", "sklearn", "numba", "math", "builtins", "operator", "itertools", "functools")


@dataclass(frozen=True)
class Source:
    """``node`` is a FunctionDef or Lambda, its lines counted from 1; ``names`` are globals and closure."""

    node: ast.FunctionDef | ast.Lambda
    names: Mapping[str, Any]
    name: str
    defaults: Mapping[str, Any]


def plain_function(function: Any) -> Any:
    """The Python function behind a Numba dispatcher or ufunc; itself for any other object."""
    dispatcher = getattr(function, "_dispatcher", function)
    return getattr(dispatcher, "py_func", function)


def is_users(function: Any) -> bool:
    """Whether a function is one that a user wrote."""
    module = (getattr(function, "__module__", None) or "").partition(".")[0]
    return isinstance(function, FunctionType) and module not in _LIBRARIES


def source_of(function: Any) -> Source | None:
    """The tree of a user's function, or None."""
    if not is_users(function):
        return None
    try:
        text = textwrap.dedent("".join(inspect.getsourcelines(function)[0]))
        node = _tree(function, text)
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    if node is None:
        return None
    closure = inspect.getclosurevars(function)
    names = {**vars(builtins), **function.__globals__, **closure.nonlocals}
    parameters = inspect.signature(function, follow_wrapped=False).parameters
    defaults = {n: p.default for n, p in parameters.items() if p.default is not inspect.Parameter.empty}
    return Source(node, names, function.__name__, defaults)


def _tree(function: FunctionType, text: str) -> ast.FunctionDef | ast.Lambda | None:
    """The definition in the lines of a function; of several lambdas in them, the one that compiles to the same code."""
    if function.__name__ != "<lambda>":
        first = ast.parse(text).body[0]
        return first if isinstance(first, ast.FunctionDef) else None
    tree = _parsed(text)
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Lambda)] if tree is not None else []
    same = [node for node in found if _code_of(node) == _key(function.__code__)]
    return same[0] if same else None


def _parsed(text: str) -> ast.AST | None:
    """Lines that hold a lambda, which may begin or end in the middle of an expression."""
    for candidate in (text, f"({text})", f"({text.strip().rstrip(',')})", f"f({text.strip()}", f"{{{text.strip()}}}"):
        try:
            return ast.parse(candidate)
        except SyntaxError:
            continue
    at = text.find("lambda")
    for end in range(len(text), at, -1):
        try:
            return ast.parse(text[at:end].strip(), mode="eval")
        except SyntaxError:
            continue
    return None


def _code_of(node: ast.Lambda) -> object:
    expression = ast.Expression(node)
    code = compile(ast.fix_missing_locations(expression), "<lambda>", "eval")
    inner = next(c for c in code.co_consts if inspect.iscode(c))
    return _key(inner)


def _key(code: Any) -> object:
    """What tells lambdas apart: names and constants. Free names are global in a lambda that stands alone."""
    constants = tuple(c if not inspect.iscode(c) else _key(c) for c in code.co_consts)
    return code.co_varnames, {*code.co_names, *code.co_freevars}, repr(constants), _plain(code)


def _plain(code: Any) -> tuple[str, ...]:
    import dis

    skipped = ("COPY_FREE_VARS", "RESUME", "MAKE_CELL", "CACHE", "PUSH_NULL", "NOP")
    same = {"LOAD_DEREF": "LOAD_GLOBAL", "LOAD_CLASSDEREF": "LOAD_GLOBAL"}
    return tuple(
        same.get(i.opname, i.opname) + ("" if i.opname in same or "GLOBAL" in i.opname else f" {i.argrepr}")
        for i in dis.get_instructions(code)
        if i.opname not in skipped
    )

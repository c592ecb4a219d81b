"""The lists of docs/functions.md, made of the vocabulary; ``python -m tests.function_docs`` writes them."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import numpy as np

from edgeml.converters import function_builtins, functions
from edgeml.converters.function_arrays import _METHODS
from edgeml.converters.function_calls import FUNCTIONS
from edgeml.converters.function_emitters import NUMPY, SCIPY
from edgeml.converters.function_math import _MATH

PAGE = Path(__file__).parent.parent / "docs" / "functions.md"
assert functions  # importing it fills the tables


def lists() -> dict[str, str]:
    """Heading -> names, as the page has them."""
    cellwise = [name for name in NUMPY if hasattr(np, name)]
    arrays = {f"linalg.{f.__name__}" if "linalg" in f.__module__ else f.__name__ for f in FUNCTIONS}
    made = {f.__name__ for f in function_builtins.TABLE if f.__module__ == "numpy" or f.__module__ == "builtins"}
    return {
        "NumPy, cell by cell": _names(cellwise),
        "NumPy, along the row and side by side": _names(arrays),
        "Methods of arrays": _names([*_METHODS, "astype", "copy", "reshape", "ravel", "flatten", "squeeze", "T"]),
        "scipy.special": _names(SCIPY),
        "math": _names([*_MATH, "floor", "ceil", "trunc", "pow"]),
        "Built-in and constructing functions": _names(made),
    }


def _names(names: object) -> str:
    text = ", ".join(f"`{n}`" for n in sorted(set(names)))  # type: ignore[call-overload]  # any iterable of str
    return "\n".join(textwrap.wrap(text, 110, break_long_words=False))


def page(text: str) -> str:
    """The page with its lists as the tables have them now."""
    for heading, names in lists().items():
        text = re.sub(rf"(### {re.escape(heading)}\n\n).*?(?=\n\n|\Z)", lambda m, n=names: m[1] + n, text, flags=re.S)
    return text.rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))

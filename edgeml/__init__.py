"""EdgeML: a fitted scikit-learn pipeline in one file that gives the same answers on any device.

``compile`` makes the file, ``load`` opens it, ``verify`` checks it on the machine at hand. Importing
``edgeml`` imports nothing but the standard library: a name brings in what it needs when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgeml._version import __version__

if TYPE_CHECKING:
    from edgeml import errors as errors
    from edgeml.compiler import compile as compile
    from edgeml.quantize.budget import Budget as Budget
    from edgeml.runtimes.load import load as load
    from edgeml.runtimes.verify import verify as verify

__all__ = ["Budget", "__version__", "compile", "errors", "load", "verify"]

_WHERE = {
    "Budget": "edgeml.quantize.budget",
    "compile": "edgeml.compiler",
    "load": "edgeml.runtimes.load",
    "verify": "edgeml.runtimes.verify",
}
# What the extra [compile] brings and a device does without.
_COMPILER_NEEDS = ("sklearn", "pandas", "joblib")


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("edgeml.errors")
    if name not in _WHERE:
        raise AttributeError(f"module 'edgeml' has no attribute {name!r}")
    if name == "compile" and (absent := _absent()):
        return _compile_without(absent)
    value = getattr(import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _absent() -> list[str]:
    from importlib.util import find_spec

    return [package for package in _COMPILER_NEEDS if find_spec(package) is None]


def _compile_without(absent: list[str]) -> Any:
    """``compile`` on a device: it says what is missing, and asking for the name alone does no harm."""

    def compile(*args: Any, **options: Any) -> Any:
        from edgeml.errors import CompileError

        raise CompileError(
            f"compiling needs {', '.join(absent)}, not installed here; load and predict do without",
            "pip install 'edgeml-sdk[compile]'",
        )

    return compile

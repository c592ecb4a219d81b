"""The user's own step: FunctionTransformer with a function of NumPy's vocabulary, or one that is translated.

The function is called once, at compile time, with a stand-in for X that records what it computes (function_arrays.py,
function_frames.py). Where that fails because the function branches or loops over cells, its source is translated
instead (function_source.py). What comes out are ordinary operations: no code goes into a bundle, and parity compares
their answers with the function's own. ``apply`` is for converters of other estimators that hold functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from edgeml.converters import function_columns, function_order, function_tables  # noqa: F401  # they fill the table of functions
from edgeml.converters.block import Block, BlockForm
from edgeml.converters.function_arrays import Refused, Rows, Trace, Traced
from edgeml.converters.function_cells import translatable, translate
from edgeml.converters.registry import Conversion, Outputs, converter
from edgeml.errors import UnsupportedParameterError
from edgeml.ir import Value


@converter(
    "sklearn.FunctionTransformer",
    honours=("func", "validate", "kw_args"),
    ignores=("inverse_func", "accept_sparse", "check_inverse", "feature_names_out", "inv_kw_args"),
    note="func: NumPy and pandas functions of the documented vocabulary, and Python functions of one cell or row",
)
def function_transformer(c: Conversion, est: Any, X: Block) -> Outputs:
    """func(X, **kw_args); X as it is, or, with ``validate``, as one checked numeric matrix."""
    if est.validate:
        form: BlockForm = "sparse" if X.form == "sparse" else "array"
        X = Block(X.matrix(c, est, dtype=X.dtype), names=X.names, form=form)
    if est.func is None:
        return {"transform": X}
    return {"transform": apply(c, est, "func", est.func, X, est.kw_args or {})}


def apply(
    c: Conversion, est: Any, parameter: str, function: Any, X: Block, options: Mapping[str, Any] | None = None
) -> Block:
    """What ``function(X, **options)`` gives, ``est``'s parameter of that name being the function.

    Raises UnsupportedParameterError with what the function does that no program can, and what to write instead.
    """
    given = dict(options or {})
    mark = c.builder.mark()
    try:
        try:
            return _recorded(Trace(c.builder), function, X, given)
        except Refused:
            if not translatable(function):
                raise
            c.builder.back_to(mark)
            trace = Trace(c.builder)
            return _result(trace, translate(trace, function, argument(trace, X), given), X)
    except Refused as refusal:
        raise UnsupportedParameterError(
            f"step {c.builder.origin or 'pipeline'}: {type(est).__name__}({parameter}={name_of(function)!r}) "
            f"cannot be compiled: {refusal.cause}",
            refusal.remedy,
        ) from None


def name_of(function: Any) -> str:
    """The name a function is known by."""
    if isinstance(function, partial):
        return f"partial of {name_of(function.func)}"
    return str(getattr(function, "__name__", type(function).__name__))


def argument(trace: Trace, X: Block) -> Any:
    """The stand-in for what scikit-learn would call the function with."""
    if X.form == "frame":
        from edgeml.converters.function_frames import frame_of

        return frame_of(trace, X)
    array = X.as_array() if X.form == "array" else X
    if X.form == "sparse":
        return SparseArgument(trace, X)
    if len({v.dtype for v in array.values}) > 1 or X.form == "object" or not array.values:
        raise trace.refuse(
            "its argument is an array of objects of several types", "hand the step a frame, or columns of one type"
        )
    value = trace.builder.concat(list(array.values))
    return Traced(trace, value.held_as(_held(X, value)), (Rows(trace), value.width), given=True)


def _held(X: Block, value: Value) -> str:
    return "object" if value.dtype == "string" else X.numpy.name


class SparseArgument:
    """Stands for a SciPy matrix, of which only the dense form has a vocabulary."""

    def __init__(self, trace: Trace, X: Block) -> None:
        self._trace, self._block = trace, X

    def toarray(self) -> Any:
        """The same cells as a NumPy array."""
        dense = argument(self._trace, Block(*self._block.values, names=self._block.names))
        dense.given = False
        return dense

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise self._trace.refuse(
            f".{name} of a sparse matrix", "make it dense first: X.toarray(), or sparse_output=False in the step before"
        )


def _recorded(trace: Trace, function: Any, X: Block, options: dict[str, Any]) -> Block:
    """The function's answer by a call of it. Raises Refused when that cannot be recorded."""
    stand_in = argument(trace, X)
    try:
        answer = function(stand_in, **options)
    except Refused:
        raise
    except Exception as error:  # a user's function may raise anything, about a stand-in above all
        raise trace.refusal or trace.refuse(
            f"{type(error).__name__}: {error}",
            "call it with functions of the documented vocabulary (docs/functions.md)",
        ) from None
    if trace.refusal is not None:
        raise trace.refusal
    return _result(trace, answer, X)


def _result(trace: Trace, answer: Any, X: Block) -> Block:
    """The answer as a Block."""
    if isinstance(answer, SparseArgument):
        return X
    if hasattr(answer, "as_block"):
        block: Block = answer.as_block()
        return block
    if not isinstance(answer, Traced) or answer.row_axis != 0:
        what = repr(answer) if isinstance(answer, Traced) else type(answer).__name__
        raise trace.refuse(f"it gives {what}", "give an array with one row for each row of X")
    return Block(answer.value)

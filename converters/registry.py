"""How an estimator meets its converter: one decorated function an estimator, matched by library and class name.

A converter receives the estimator and the Block it would get as ``X``, and returns what each method of the estimator
returns. The decorator states which parameters the function honours and which have no bearing on new rows; a parameter
that is in neither list and is not at its default is refused by name, so nothing is dropped in silence, not even by a
newer scikit-learn. No estimator's library is imported here.

    @converter("sklearn.MaxAbsScaler", honours=("clip",), ignores=("copy",))
    def max_abs_scaler(c: Conversion, est: Any, X: Block) -> Outputs:
        x = X.matrix(c, est, allow_nan=True)
        return {"transform": Block(x / est.scale_)}
"""

from __future__ import annotations

import inspect
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from edgeml.converters.block import Block
from edgeml.errors import NotFittedError, UnsupportedEstimatorError, UnsupportedParameterError
from edgeml.ir import Builder, Value

# Method name -> what it returns for new rows. `transform` returns a Block, everything else a Value; of several outputs
# `predict` is a Block of one column an output, and a method that gives a list of arrays a Block of one value an array.
Outputs = Mapping[str, "Value | Block"]
Convert = Callable[["Conversion", Any, Block], Outputs]


@dataclass(frozen=True, slots=True)
class Converter:
    """One registry entry. ``honours`` and ``ignores`` name the estimator's parameters; ``alone`` says that its answer
    to a batch depends on the whole batch, ``company`` that its answer to rows without any cell does, ``squeezes`` that
    its answer to a single row lacks an axis, ``random`` names methods that draw random numbers: see answering.py.
    """

    key: str
    convert: Convert
    honours: frozenset[str]
    ignores: frozenset[str]
    note: str
    alone: bool = False
    random: frozenset[str] = frozenset()
    squeezes: bool = False
    company: bool = False


CONVERTERS: dict[str, Converter] = {}


def converter(
    *keys: str,
    honours: Iterable[str] = (),
    ignores: Iterable[str] = (),
    note: str = "",
    alone: bool = False,
    random: Iterable[str] = (),
    squeezes: bool = False,
    company: bool = False,
) -> Callable[[Convert], Convert]:
    """Register the decorated function for estimators such as ``"sklearn.PCA"``. ``note`` goes to the support table.

    ``alone``: the truth about a row is scikit-learn's answer to a batch of that row alone. ``random``: methods without
    a truth. ``squeezes``: the truth about a single row is asked for with a copy of it. ``company``: it is asked for
    beside a row that has its cells.
    """

    def register(convert: Convert) -> Convert:
        for key in keys:
            if key in CONVERTERS:
                raise ValueError(f"two converters for {key}")
            known = frozenset(honours), frozenset(ignores)
            CONVERTERS[key] = Converter(key, convert, *known, note, alone, frozenset(random), squeezes, company)
        return convert

    return register


# Registry key -> (reason, remedy): estimators that have methods for new rows which no program can give.
REFUSED: dict[str, tuple[str, str]] = {}


def refused(*keys: str, reason: str, remedy: str) -> None:
    """Refuse estimators by name. ``reason`` goes to the support table too."""
    for key in keys:
        if key in CONVERTERS or key in REFUSED:
            raise ValueError(f"{key} is converted, or refused twice")
        REFUSED[key] = reason, remedy


def refuse_by_name(est: Any, origin: str = "") -> None:
    """Raise UnsupportedEstimatorError for an estimator of ``REFUSED``."""
    if key_of(est) in REFUSED:
        reason, remedy = REFUSED[key_of(est)]
        raise UnsupportedEstimatorError(
            f"step {origin or 'pipeline'}: {type(est).__name__} cannot be compiled: {reason}", remedy
        )


def key_of(est: Any) -> str:
    """Registry key of an estimator: top-level package and class name."""
    cls = type(est)
    return f"{cls.__module__.partition('.')[0]}.{cls.__qualname__}"


def fallback(c: Conversion, est: Any, X: Block) -> Outputs:
    """What skl2onnx makes of an estimator that has no converter; the library is imported only here."""
    from edgeml.converters.skl2onnx import by_skl2onnx

    return by_skl2onnx(c, est, X)


def refuse_estimator(c: Conversion, est: Any, reason: str) -> UnsupportedEstimatorError:
    """The error for an estimator without a converter; ``reason`` is why skl2onnx cannot stand in."""
    return UnsupportedEstimatorError(
        f"step {c.builder.origin or 'pipeline'}: no converter for "
        f"{type(est).__module__}.{type(est).__qualname__}, and skl2onnx cannot stand in: {reason}",
        "replace the step by a supported estimator (README, supported estimators), or register one with "
        "edgeml.converters.converter",
    )


class Conversion:
    """State of one conversion, handed to every converter: the builder, and the way to convert nested estimators."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        # Methods an estimator has but a program cannot express; errors only when they are asked for.
        self.refusals: dict[str, UnsupportedParameterError] = {}

    def convert(self, est: Any, X: Block, step: str) -> Outputs:
        """Convert ``est`` fed with X as the step called ``step``. Raises CompileError when it cannot be honoured."""
        with self.builder.step(step) if step else nullcontext():
            check_fitted(est, self.builder.origin)
            refuse_by_name(est, self.builder.origin)
            entry = CONVERTERS.get(key_of(est))
            if entry is None:
                return fallback(self, est, X)
            _check_parameters(self, entry, est)
            return _in_container(est, entry.convert(self, est, X))

    def answer(self, outputs: Outputs, est: Any, step: str, method: str, remedy: str) -> Value | Block:
        """What ``method`` of a nested estimator gives. Raises CompileError where it is not among its outputs."""
        if method not in outputs:
            raise self.refusals.get(method) or UnsupportedEstimatorError(
                f"step {self.builder.origin or 'pipeline'}: {method} of {step} ({type(est).__name__}) "
                "cannot be compiled",
                remedy,
            )
        return outputs[method]

    def place(self, est: Any) -> str:
        """The step at hand and its class, as the messages of refused rows name it."""
        name = type(est).__name__
        return f"{self.builder.origin} ({name})" if self.builder.origin else name

    def refuse(self, est: Any, parameter: str, value: object, remedy: str) -> UnsupportedParameterError:
        """The error for a parameter value that cannot be honoured; the converter raises it."""
        return UnsupportedParameterError(
            f"step {self.builder.origin or 'pipeline'}: {type(est).__name__}({parameter}={value!r}) cannot be compiled",
            remedy,
        )

    def cannot_give(self, est: Any, method: str, reason: str, remedy: str) -> None:
        """Record why ``method`` is not among the outputs: the error when the pipeline is asked for it."""
        self.refusals[method] = UnsupportedParameterError(
            f"step {self.builder.origin or 'pipeline'}: {method} of {type(est).__name__} {reason}", remedy
        )

    def labels(self, index: Value, classes: Any) -> Value:
        """Class labels by position in ``classes_``, in their own type."""
        classes = np.asarray(classes)
        if classes.dtype.kind in "OUS":
            if not all(isinstance(label, str) for label in classes.tolist()):
                return self.builder.take(index, _plain_labels(self, classes))
            return self.builder.take(index, tuple(str(label) for label in classes))
        return self.builder.take(index, _plain_labels(self, classes))


def _in_container(est: Any, outputs: Outputs) -> Outputs:
    """The outputs, with ``transform`` as a frame where set_output asks for one: names reach the next steps."""
    from sklearn.utils._set_output import _auto_wrap_is_configured, _get_output_config

    if not hasattr(est, "transform") or not _auto_wrap_is_configured(est):
        return outputs
    container = _get_output_config("transform", est)["dense"]
    block = outputs.get("transform") if container != "default" else None
    if not isinstance(block, Block):
        return outputs
    try:
        names: tuple[str, ...] | None = tuple(est.get_feature_names_out())
    except Exception:  # scikit-learn leaves the names alone then, whatever went wrong
        names = block.names if block.form == "frame" else None
    values = list(block.values)
    if container == "pandas" and block.form != "frame" and _pandas_forgets_none():
        values = [_none_as_nan(v) if v.dtype == "string" else v for v in values]
    frame = Block(*values, names=names, form="frame")
    return ChainMap({"transform": frame}, cast("MutableMapping[str, Value | Block]", outputs))


def _pandas_forgets_none() -> bool:
    """Whether a frame made of an object array holds strings as pandas 3's ``str``: its one missing value is NaN."""
    import pandas as pd

    return pd.DataFrame(np.array([["a"], [None]], dtype=object)).iloc[1, 0] is not None


def _none_as_nan(value: Value) -> Value:
    c = value.builder
    return c.where(c.is_none(value), (float("nan"),), value)


def _plain_labels(c: Conversion, classes: Any) -> Any:
    """Labels of numbers or bools as an array of an IR dtype."""
    values = np.asarray(classes.tolist())
    kinds = {"b": "bool", "i": "int64", "u": "int64", "f": "float64"}
    if values.dtype.kind not in kinds:
        raise UnsupportedParameterError(
            f"step {c.builder.origin}: class labels of type {sorted({type(v).__name__ for v in classes.tolist()})}",
            "use str, int, float or bool labels of one type",
        )
    return values.astype(kinds[values.dtype.kind])


def check_fitted(est: Any, origin: str) -> None:
    """Raise NotFittedError unless scikit-learn itself holds the estimator for fitted."""
    from sklearn.exceptions import NotFittedError as SklearnNotFitted
    from sklearn.utils.validation import check_is_fitted

    if inspect.isclass(est) or not hasattr(est, "fit"):
        raise UnsupportedEstimatorError(
            f"step {origin}: {est!r} is not an estimator",
            "pass a fitted scikit-learn pipeline or estimator object",
        )
    try:
        check_is_fitted(est)
    except SklearnNotFitted:
        raise NotFittedError(
            f"step {origin}: {type(est).__name__} is not fitted",
            "call fit on the pipeline before compiling it",
        ) from None


def _check_parameters(c: Conversion, entry: Converter, est: Any) -> None:
    known = entry.honours | entry.ignores
    defaults = inspect.signature(type(est).__init__).parameters
    for name, value in est.get_params(deep=False).items():
        if name in known:
            continue
        default = defaults[name].default if name in defaults else inspect.Parameter.empty
        if default is inspect.Parameter.empty or not (value is default or value == default):
            raise c.refuse(
                est,
                name,
                value,
                f"leave {name} at its default, or report the parameter: this version does not know it",
            )

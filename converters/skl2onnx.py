"""The fallback for an estimator without a converter: skl2onnx converts it alone, into OnnxGraph nodes.

Breadth, not exactness: only the ONNX target can run such a node, skl2onnx may compute in float32, and the
parity check decides whether the result may ship. Converters that other libraries registered with skl2onnx
are used as well. Called by registry.fallback; skl2onnx and onnxruntime are imported when a pipeline needs
them and not before.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeml.converters.block import Block
from edgeml.converters.registry import Conversion, Outputs, refuse_estimator
from edgeml.ir import Value
from edgeml.ir.table import Array

# The opset the ONNX target writes, and the newest ai.onnx.ml that skl2onnx writes.
_OPSET, _ML_OPSET = 21, 3
_DTYPES = {
    "float64": "float64",
    "float32": "float32",
    "int64": "int64",
    "int32": "int64",
    "bool": "bool",
    "object": "string",
}


@dataclass(frozen=True)
class _Model:
    """A checked model: its bytes, and name, dtype and width of every output in order."""

    data: Array
    outputs: tuple[tuple[str, str, int], ...]


@dataclass(frozen=True)
class _Method:
    """A method of the estimator as skl2onnx offers it: its output's position, and the options it takes."""

    name: str
    position: int
    options: tuple[tuple[str, bool], ...] = ()


def by_skl2onnx(c: Conversion, est: Any, X: Block) -> Outputs:
    """Outputs of ``est`` as OnnxGraph nodes. Raises UnsupportedEstimatorError, quoting skl2onnx's reason."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside skl2onnx are not the caller's business
        try:
            import onnxruntime  # noqa: F401
            import skl2onnx  # noqa: F401
        except ImportError as error:
            raise refuse_estimator(c, est, f"{error} (pip install 'edgeml-sdk[compile]')") from None
        allowed = _allowed_options(est)
        if allowed is None:
            raise refuse_estimator(c, est, "it has no converter registered for this class")
        return _convert(c, est, X, allowed)


def _convert(c: Conversion, est: Any, X: Block, allowed: Mapping[str, Any]) -> Outputs:
    x, dtypes = _input(c, est, X)
    plain = [m for m in _methods(est, allowed) if not m.options]
    result: dict[str, Value | Block] = {}
    # float64 when every operator has a float64 kernel; onnxruntime says so when it loads and runs the model.
    reasons = {}
    for dtype in dtypes:
        try:
            model = _make(est, dtype, x.width, _base_options(allowed))
        except Exception as error:  # skl2onnx and onnxruntime raise whatever comes
            reasons[dtype] = _reason(error)
            continue
        for method in plain:
            if method.position < len(model.outputs):
                result[method.name] = _node(c, est, x.cast(dtype) if dtype != "string" else x, model, method)
        break
    else:
        raise refuse_estimator(c, est, "; ".join(f"with {dtype} inputs, {why}" for dtype, why in reasons.items()))
    for method in _methods(est, allowed):
        if method.name in result or not hasattr(est, method.name):
            continue
        try:
            model = _make(est, dtype, x.width, _base_options(allowed) | dict(method.options))
            if method.position >= len(model.outputs):
                raise ValueError("its model has no such output")
        except Exception as error:  # as above: then the method is refused, if someone asks for it
            _cannot(c, est, method.name, _reason(error))
            continue
        result[method.name] = _node(c, est, x.cast(dtype) if dtype != "string" else x, model, method)
    for name in ("predict", "predict_proba", "decision_function", "score_samples", "transform"):
        if hasattr(est, name) and name not in result and name not in c.refusals:
            _cannot(c, est, name, "it offers no such output")
    return result


def _cannot(c: Conversion, est: Any, method: str, reason: str) -> None:
    c.cannot_give(
        est,
        method,
        f"has no equivalent in skl2onnx: {reason}",
        "replace the step by a supported estimator (README)",
    )


def _reason(error: Exception) -> str:
    """First line of an error message that is often a page long."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]


def _input(c: Conversion, est: Any, X: Block) -> tuple[Value, tuple[str, ...]]:
    """The one matrix the estimator is fed with, and the dtypes to try for it in order."""
    kinds = {value.dtype for value in X.values}
    if kinds == {"string"}:
        return c.builder.concat(X.values), ("string",)
    if "string" in kinds:
        raise refuse_estimator(c, est, "the step is given string columns and numbers together")
    tags = getattr(est, "__sklearn_tags__", None)
    x = X.matrix(c, est, allow_nan=bool(tags and tags().input_tags.allow_nan))
    return x, ("float32", "float64") if x.dtype == "float32" else ("float64", "float32")


def _allowed_options(est: Any) -> Mapping[str, Any] | None:
    """Options of the estimator's registered converter, or None when it has no converter."""
    from skl2onnx._supported_operators import sklearn_operator_name_map
    from skl2onnx.common._registration import _converter_pool

    alias = sklearn_operator_name_map.get(type(est))
    if alias is None or alias not in _converter_pool:
        return None
    return _converter_pool[alias].get_allowed_options() or {}


def _base_options(allowed: Mapping[str, Any]) -> dict[str, bool]:
    # A ZipMap would make a list of dicts of every row.
    return {"zipmap": False} if "zipmap" in allowed else {}


def _methods(est: Any, allowed: Mapping[str, Any]) -> list[_Method]:
    """Which output of skl2onnx's model is which method: labels first, scores second, more by option."""
    from sklearn.base import is_classifier

    methods = []
    if hasattr(est, "predict"):
        methods.append(_Method("predict", 0))
        if hasattr(est, "predict_proba"):
            methods.append(_Method("predict_proba", 1))
        if hasattr(est, "decision_function"):
            raw = is_classifier(est) and "raw_scores" in allowed
            if raw or not hasattr(est, "predict_proba"):
                methods.append(_Method("decision_function", 1, (("raw_scores", True),) if raw else ()))
        elif hasattr(est, "transform"):
            methods.append(_Method("transform", 1))
        if hasattr(est, "score_samples") and "score_samples" in allowed:
            methods.append(_Method("score_samples", 2, (("score_samples", True),)))
    elif hasattr(est, "transform"):
        methods.append(_Method("transform", 0))
    return methods


def _make(est: Any, dtype: str, width: int, options: Mapping[str, bool]) -> _Model:
    """Convert, and run once to see that onnxruntime can and what comes out, in whatever shape."""
    from onnx import version_converter
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType

    kind = {"float64": DoubleTensorType, "float32": FloatTensorType, "string": StringTensorType}[dtype]
    proto = convert_sklearn(
        est,
        initial_types=[("X", kind([None, width]))],
        options={id(est): dict(options)} if options else None,
        target_opset={"": _OPSET, "ai.onnx.ml": _ML_OPSET},
    )
    # skl2onnx declares the oldest opset that has what it used; the ONNX target writes one opset only.
    if any(entry.domain == "" and entry.version < _OPSET for entry in proto.opset_import):
        proto = version_converter.convert_version(proto, _OPSET)
    rows = _probe(est, dtype, width)
    outputs = []
    for entry, result in zip(proto.graph.output, _run(proto, rows), strict=True):
        if not isinstance(result, np.ndarray) or result.dtype.name not in _DTYPES or result.size % len(rows):
            raise ValueError(f"output {entry.name} of its model is not one tensor of rows")
        outputs.append((entry.name, _DTYPES[result.dtype.name], result.size // len(rows)))
    return _Model(np.frombuffer(proto.SerializeToString(deterministic=True), dtype=np.uint8), tuple(outputs))


def _probe(est: Any, dtype: str, width: int) -> Array:
    """Three rows that the estimator accepts, to see what comes out of its model."""
    if dtype != "string":
        return np.ones((3, width), dtype=dtype)
    known = getattr(est, "categories_", [["a"]] * width)
    return np.array([[next((c for c in cells if isinstance(c, str)), "a") for cells in known]] * 3, dtype=object)


def _run(proto: Any, rows: Array) -> list[Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {"X": rows}))


def _node(c: Conversion, est: Any, x: Value, model: _Model, method: _Method) -> Value | Block:
    name, dtype, width = model.outputs[method.position]
    value = c.builder.op("OnnxGraph", x, model=model.data, output=name, width=width, dtype=dtype)
    if method.name == "decision_function" and width == 2 and len(getattr(est, "classes_", ())) == 2:
        value = value.select([1])  # skl2onnx gives both signs, scikit-learn the second class's score
    return Block(value) if method.name == "transform" else value

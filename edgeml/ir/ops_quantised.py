"""The quantised level of the op table: rounding to a grid, and linear maps with narrow weights.

The quantiser (edgeml/quantize) puts these in a program, and every target gives them its own form: int8 operators in
TFLite, QDQ nodes in ONNX, the kernels. What they mean is written here, in the dtype of their operand. A scale is a
number that float32 holds, since that is what the file formats store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgeml.errors import ProgramError
from edgeml.ir.ops_ml import linear
from edgeml.ir.program import Attr, ValueType
from edgeml.ir.table import Array, op, require_dtype

Types = Sequence[ValueType]
Attrs = Mapping[str, Attr]
FLOATS = ("float64", "float32")
BITS = (8, 16)
WEIGHTS = ("int8", "int16", "float16")


def largest_code(bits: int) -> int:
    """127 or 32767; the smallest code is one below its negative."""
    return (1 << (bits - 1)) - 1


def _check_bits(attrs: Attrs) -> None:
    if attrs["bits"] not in BITS:
        raise ProgramError(f"bits must be one of {BITS}, got {attrs['bits']}")


def _infer_fake_quantize(types: Types, attrs: Attrs) -> ValueType:
    require_dtype(types[0], *FLOATS)
    _check_bits(attrs)
    scale, zero, top = attrs["scale"], attrs["zero_point"], largest_code(attrs["bits"])
    if not (0 < scale < np.inf) or float(np.float32(scale)) != scale:
        raise ProgramError(f"a scale is a positive number of float32, got {scale!r}")
    if not -top - 1 <= zero <= top:
        raise ProgramError(f"zero point {zero} is no code of {attrs['bits']} bits")
    return types[0]


@op("FakeQuantize", 1, _infer_fake_quantize, {"scale": "float", "zero_point": "int", "bits": "int"})
def fake_quantize(x: Array, scale: float, zero_point: int, bits: int) -> Array:
    """scale * (code - zero_point), where the code is round(x / scale) + zero_point, within what ``bits`` bits hold.

    Rounds to even; NaN stays NaN. Clipped before it is rounded, which is the same since the bounds are integers.
    """
    top, step = largest_code(bits), x.dtype.type(scale)
    low, high = x.dtype.type(-top - 1 - zero_point), x.dtype.type(top - zero_point)
    steps = x / step
    steps = np.where(steps < low, low, np.where(steps > high, high, steps))
    # + 0.0: the codes of a format know no -0.0
    return np.asarray(np.rint(steps) * step + x.dtype.type(0), dtype=x.dtype)


def _infer_dynamic_quantize(types: Types, attrs: Attrs) -> ValueType:
    require_dtype(types[0], *FLOATS)
    _check_bits(attrs)
    return types[0]


@op("DynamicQuantize", 1, _infer_dynamic_quantize, {"bits": "int"})
def dynamic_quantize(x: Array, bits: int) -> Array:
    """Every row rounded to a grid of its own: step = largest absolute value of the row / 127 (or 32767), zero point 0.

    A row of zeros, or of numbers so small that there is no step, becomes zero; one with NaN or infinity becomes NaN.
    """
    top = x.dtype.type(largest_code(bits))
    size = np.abs(x).max(axis=1, keepdims=True, initial=0.0)
    step = size / top
    step = np.where(step == 0, x.dtype.type(1), step)
    return np.asarray(np.rint(x / step) * step + x.dtype.type(0), dtype=x.dtype)


def _infer_quantized_linear(types: Types, attrs: Attrs) -> ValueType:
    x, weight, scale, bias = types[0], attrs["weight"], attrs["scale"], attrs["bias"]
    require_dtype(x, *FLOATS)
    if weight.ndim != 2 or weight.shape[0] != x.width or {scale.shape, bias.shape} != {(weight.shape[1],)}:
        raise ProgramError(f"{x} times {weight.shape} times {scale.shape} plus {bias.shape} does not fit")
    if weight.dtype.name not in WEIGHTS:
        raise ProgramError(f"weights are one of {', '.join(WEIGHTS)}, got {weight.dtype}")
    if scale.dtype.name != x.dtype or bias.dtype.name != x.dtype:
        raise ProgramError(f"scale {scale.dtype} and bias {bias.dtype} must be {x.dtype}")
    if not ((scale > 0) & np.isfinite(scale)).all() or (scale != scale.astype(np.float32)).any():
        raise ProgramError("scales are positive numbers of float32")
    return ValueType(x.dtype, weight.shape[1])


@op("QuantizedLinear", 1, _infer_quantized_linear, {"weight": "array", "scale": "array", "bias": "array"})
def quantized_linear(x: Array, weight: Array, scale: Array, bias: Array) -> Array:
    """(x @ weight) * scale + bias: a linear map whose weights are ``weight * scale``, one scale an output.

    The products with the narrow weights are added in column order, as those of Linear.
    """
    wide = weight.astype(x.dtype)
    return np.asarray(linear(x, wide, np.zeros(len(bias), dtype=x.dtype)) * scale + bias, dtype=x.dtype)

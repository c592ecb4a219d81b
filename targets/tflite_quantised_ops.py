"""TFLite lowerings of the quantised level (edgeml/ir/ops_quantised.py).

    QuantizedLinear(FakeQuantize(x)), result on a grid   QUANTIZE, int8 FULLY_CONNECTED with a fused RELU, DEQUANTIZE
    QuantizedLinear(DynamicQuantize(x)), int8 weights    hybrid FULLY_CONNECTED, float outside and int8 within
    every other QuantizedLinear                          DEQUANTIZE of the weights, float FULLY_CONNECTED

Every value exists in float too, and what nothing reads is not written: an int8 layer behind another reads its codes.
A layer whose result has no grid (the last of a network) is computed in float, over the same codes. So is what has a
step below the normal numbers of float32: XNNPACK takes the process down with it.

Measured on 64 inputs and 32 outputs, ai-edge-litert 2.3 and tflite-runtime 2.14: int16 activations with int8 weights
take 1.0 us a row where float takes 0.06 to 0.15, for the same bytes, so 16-bit grids are rounded to and left again.
XNNPACK computes a hybrid layer over grids of its own, from a row's least to its largest number in 255 steps instead of
127 steps on either side: as fine or finer, and off by up to half a step from what the program says.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeml.ir.ops_quantised import largest_code
from edgeml.ir.program import Node
from edgeml.ir.table import Array
from edgeml.targets.tflite_graph import Quantization, Tensor
from edgeml.targets.tflite_lowering import Lowering, Value, lowers

# What XNNPACK takes for input scale * weight scale / output scale.
_RATIO = (2.0**-32, 256.0)
_INT32 = 2.0**31 - 1
_RELU = 1  # of the schema's ActivationFunctionType
_TINY, _LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


# --- weights --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Weights:
    """float32 (outputs, inputs); ``scale`` is what is left to multiply each output by, None when nothing is."""

    tensor: Tensor
    scale: Array | None


def wide(w: Lowering, node: Node, factor: float = 1.0) -> Weights:
    """The weights of a QuantizedLinear times a power of two, in float and narrow in the file."""
    codes, scale = np.ascontiguousarray(node.attrs["weight"].T), w.number(node.attrs["scale"] * factor)
    if (scale < _TINY).any():
        return Weights(w.graph.constant(codes.astype(np.float32) * scale[:, None]), None)
    if codes.dtype == np.int8:
        return Weights(_dequantized(w, codes, _by_channel(scale)), None)
    if codes.dtype == np.int16:  # runtimes have no DEQUANTIZE of it with a scale for each channel
        equal = bool((scale == scale[0]).all())
        grid = Quantization((float(scale[0]) if equal else 1.0,), (0,))
        return Weights(_dequantized(w, codes, grid), None if equal else scale)
    with np.errstate(over="ignore"):
        scaled = (codes * scale[:, None]).astype(np.float16)  # exact for the powers of two that scales of float16 are
    if (scaled == codes * scale[:, None].astype(np.float64)).all():
        return Weights(_dequantized(w, scaled, None), None)
    return Weights(_dequantized(w, codes, None), scale)


def _dequantized(w: Lowering, codes: Array, grid: Quantization | None) -> Tensor:
    return w.graph.op("DEQUANTIZE", [w.graph.constant(codes, grid)], codes.shape, "float32")


def _by_channel(scale: Array) -> Quantization:
    """A scale for each output, or one for all when they are equal: that every runtime understands."""
    if (scale == scale[0]).all():
        scale = scale[:1]
    return Quantization(tuple(map(float, scale)), (0,) * len(scale))


# --- linear maps ----------------------------------------------------------------------------------------------------
@lowers("QuantizedLinear")
def quantized_linear(w: Lowering, node: Node, x: Value) -> Tensor:
    g, shape, bias = w.graph, w.shape(node, x), w.number(node.attrs["bias"])
    rounded = w.node(node.inputs[0])
    if rounded is not None and _is_hybrid(rounded, node):
        codes = np.ascontiguousarray(node.attrs["weight"].T)
        weight = g.constant(codes, _by_channel(w.number(node.attrs["scale"])))
        return g.op("FULLY_CONNECTED", [w.value(rounded.inputs[0]).tensor, weight, bias], shape)
    weights = wide(w, node)
    if weights.scale is None:
        return g.op("FULLY_CONNECTED", [x.tensor, weights.tensor, bias], shape)
    product = g.op("FULLY_CONNECTED", [x.tensor, weights.tensor], shape)
    return g.op("ADD", [g.op("MUL", [product, weights.scale[None, :]], shape), bias[None, :]], shape)


def _is_hybrid(rounded: Node, node: Node) -> bool:
    """Whether a layer over ``rounded`` is one that quantises its rows by itself, in sums that int32 holds."""
    weight = node.attrs["weight"]
    if rounded.op != "DynamicQuantize" or rounded.attrs["bits"] != 8 or weight.dtype != np.int8:
        return False
    return bool(_largest_sum(weight).max() <= _INT32 and node.attrs["scale"].min() >= _TINY)


def _largest_sum(weight: Array) -> Array:
    """For each output the largest absolute value that int8 codes times its weights may add up to."""
    return np.asarray(256.0 * np.abs(weight.astype(np.float64)).sum(axis=0))


# --- grids ----------------------------------------------------------------------------------------------------------
@lowers("FakeQuantize")
def fake_quantize(w: Lowering, node: Node, x: Value) -> Tensor:
    g, bits, zero = w.graph, node.attrs["bits"], node.attrs["zero_point"]
    if node.attrs["scale"] < _TINY:  # nothing is rounded: the steps are too small for any division
        return _within_grid(w, node, x)
    if (bits == 16 and zero) or node.attrs["scale"] > 1 / _TINY:  # no runtime has such a grid
        step = np.full((1, 1), node.attrs["scale"], np.float32)
        steps = g.op("ROUND", [g.op("DIV", [_within_grid(w, node, x), step], x.shape)], x.shape)
        return g.op("MUL", [steps, step], x.shape)
    codes = _layer(w, node)
    if codes is None:
        grid = Quantization((float(node.attrs["scale"]),), (zero,))
        codes = g.op("QUANTIZE", [_within_grid(w, node, x)], x.shape, f"int{bits}", quantization=grid)
    w.cache[_codes_of(node)] = codes
    return g.op("DEQUANTIZE", [codes], codes.shape, "float32")


def _codes_of(node: Node) -> object:
    return ("codes", id(node))


def _within_grid(w: Lowering, node: Node, x: Value) -> Tensor:
    """x clipped to the ends of the grid: a number of steps beyond int32 has another code on every machine."""
    top, scale, zero = largest_code(node.attrs["bits"]), node.attrs["scale"], node.attrs["zero_point"]
    ends = np.clip([(code - zero) * scale for code in (-top - 1, top)], -_LARGEST, _LARGEST)
    low, high = (np.full((1, 1), end, np.float32) for end in ends)
    return w.graph.op("MINIMUM", [w.graph.op("MAXIMUM", [x.tensor, low], x.shape), high], x.shape)


def _layer(w: Lowering, node: Node) -> Tensor | None:
    """Codes of a grid that the int8 layer in front computes by itself; None where there is no such layer."""
    source, activation = w.node(node.inputs[0]), 0
    if source is not None and source.op == "Maximum" and w.is_zero(source.inputs[1]):
        source, activation = w.node(source.inputs[0]), _RELU
    if source is None or source.op != "QuantizedLinear" or source.type.width != node.type.width:
        return None
    before = w.node(source.inputs[0])
    codes = None if before is None else w.cache.get(_codes_of(before))
    weight = source.attrs["weight"]
    if before is None or codes is None or {codes.dtype, weight.dtype.name, f"int{node.attrs['bits']}"} != {"int8"}:
        return None
    unit = float(before.attrs["scale"]) * source.attrs["scale"].astype(np.float64)
    bias = np.rint(source.attrs["bias"].astype(np.float64) / unit)
    largest, ratio = np.abs(bias) + _largest_sum(weight), unit / node.attrs["scale"]
    if largest.max() > _INT32 or ratio.min() < _RATIO[0] or ratio.max() >= _RATIO[1]:
        return None
    if min(unit.min(), source.attrs["scale"].min()) < _TINY:
        return None
    g = w.graph
    return g.op(
        "FULLY_CONNECTED",
        [
            codes,
            g.constant(np.ascontiguousarray(weight.T), _by_channel(w.number(source.attrs["scale"]))),
            g.constant(bias.astype(np.int32), _by_channel(unit.astype(np.float32))),
        ],
        (codes.shape[0], node.type.width),
        quantization=Quantization((float(node.attrs["scale"]),), (node.attrs["zero_point"],)),
        fusedActivationFunction=activation,
    )


@lowers("DynamicQuantize")
def dynamic_quantize(w: Lowering, node: Node, x: Value) -> Tensor:
    """In float, where something other than a hybrid layer reads it."""
    g, one = w.graph, (x.shape[0], 1)
    size = g.reduce("REDUCE_MAX", g.op("ABS", [x.tensor], x.shape), 1, keep=True)
    top, least = (np.full((1, 1), v, np.float32) for v in (largest_code(node.attrs["bits"]), _TINY))
    step = g.op("MAXIMUM", [g.op("DIV", [size, top], one), least], one)
    # x - x is 0, or NaN where x is NaN or infinite, and so is their sum: such a row becomes NaN.
    nothing = g.reduce("SUM", g.op("SUB", [x.tensor, x.tensor], x.shape), 1, keep=True)
    step = g.op("ADD", [step, nothing], one)
    return g.op("MUL", [g.op("ROUND", [g.op("DIV", [x.tensor, step], x.shape)], x.shape), step], x.shape)

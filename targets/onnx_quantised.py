"""ONNX lowerings of the quantised level (edgeml/ir/ops_quantised.py), in forms that stock onnxruntime runs on its
integer kernels.

Static int8 is written as QuantizeLinear and DequantizeLinear around Gemm, which onnxruntime fuses into QGemm; dynamic
int8 as MatMulInteger with a scale a row (ONNX's DynamicQuantizeLinear has one a batch, so that answers would depend on
a row's neighbours); narrow weights on a float operand as a Cast that is folded when the model is loaded. Written
directly: onnxruntime.quantization and onnxconverter-common decide from a float32 graph what to quantise and measure
ranges themselves, where here the program says both.

Values of a program are float64 and these kernels are float32. A result is kept in both, and the nodes of the form that
nothing reads are dropped (onnx_compact.py); so a chain is cast at its entry and its exit only. Rows with NaN, and with
numbers beyond 1e30 where a row finds its own scale, are marked on the way and come out as NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from edgeml.ir.program import Node, Program
from edgeml.ir.table import Array
from edgeml.targets.onnx_graph import Single, Tensor, Writer, lowers

_LARGEST = 1e30
_OVERFLOW = 1e38
_MAX_TERMS = 2**31 // (255 * 128)
_ELEMENTWISE = {"Minimum": "Min", "Maximum": "Max", "Mul": "Mul", "Add": "Add", "Sub": "Sub", "Div": "Div"}
_FUNCTIONS = ("Tanh", "Sigmoid")
# Largest absolute value of the result, given the operand's and a row's.
_BOUNDS: dict[str, Callable[[float, Array], float]] = {
    "Minimum": lambda bound, row: max(bound, row.max()),
    "Maximum": lambda bound, row: max(bound, row.max()),
    "Mul": lambda bound, row: bound * row.max(),
    "Add": lambda bound, row: bound + row.max(),
    "Sub": lambda bound, row: bound + row.max(),
    "Div": lambda bound, row: bound / row.min(),
}


# --- float32 beside float64 ---------------------------------------------------------------------------------
def _single(w: Writer, x: Tensor) -> Single:
    """The float32 form of a value; made by a cast where it has none yet."""
    known = w.singles.get(x.value)
    if known is None or known.step is not None or (known.bad is not None and not known.chain):
        known = Single(x.value if x.type.dtype == "float32" else w.cast(x.value, "float32"))
        w.singles.setdefault(x.value, known)
    return known


def _result(w: Writer, single: Single, dtype: str, bad: ir.Value | None) -> ir.Value:
    """A result of the program from its float32 form, NaN where ``bad``."""
    value = single.value if dtype == "float32" else w.cast(single.value, dtype)
    if bad is not None:
        value = w.op("Where", bad, np.array([[np.nan]], dtype), value)
    w.singles[value] = single
    return value


def follow(w: Writer, program: Program, node: Node, xs: Sequence[Tensor], result: ir.Value) -> None:
    """Give the result of an elementwise op a float32 form, when its operand is the end of a quantised chain."""
    found = [w.singles.get(x.value) for x in xs]
    at, single = next(((i, s) for i, s in enumerate(found) if s is not None and s.chain), (0, None))
    if single is None or result in w.singles:
        return
    if node.op in _FUNCTIONS:
        w.singles[result] = Single(w.op(node.op, single.value), single.bad, bound=1.0, chain=True)
    elif node.op in _ELEMENTWISE and (row := _constant_row(program, node.inputs[1 - at])) is not None:
        if row.size not in (1, xs[at].type.width) or (node.op == "Div" and (at or not row.all())):
            return
        if node.op == "Maximum" and not row.any():
            value = w.op("Relu", single.value)  # which onnxruntime drops in front of a grid that begins at 0
        else:
            value = w.op(_ELEMENTWISE[node.op], *((row, single.value) if at else (single.value, row)))
        bound = _or_infinite(_BOUNDS[node.op](single.bound, np.abs(row.astype(np.float64))))
        w.singles[result] = Single(value, single.bad, bound=bound, chain=True)


def _constant_row(program: Program, value: int) -> Array | None:
    """float32 (1, width) of a Constant of finite numbers, else None."""
    node = program.node_of(value)
    if node is None or node.op != "Constant":
        return None
    with np.errstate(over="ignore"):
        row: Array = node.attrs["value"].astype(np.float32)[None, :]
    return row if np.isfinite(row).all() else None


def _rows(w: Writer, cells: ir.Value) -> ir.Value:
    """bool (rows, 1): whether any cell of a row holds."""
    return w.op("ReduceMax", cells, np.array([1]), keepdims=1)


def _either(w: Writer, a: ir.Value | None, b: ir.Value | None) -> ir.Value | None:
    return w.op("Or", a, b) if a is not None and b is not None else a if a is not None else b


def _own_nan(w: Writer, node: Node, single: Single) -> ir.Value | None:
    """bool (rows, width): NaN of an operand, when it may have any; None within a chain, which marks rows instead."""
    if single.chain or not w.columns.facts(node.inputs[0]).nan.any():
        return None
    return w.op("IsNaN", single.value)


# --- rounding to a grid -------------------------------------------------------------------------------------
@lowers("FakeQuantize")
def fake_quantize(w: Writer, node: Node, x: Tensor) -> ir.Value:
    bits, zero = node.attrs["bits"], node.attrs["zero_point"]
    half = 1 << (bits - 1)
    # Unsigned codes: onnxruntime's kernels for x86 take no other, and those for ARM take either.
    scale, point = np.float32(node.attrs["scale"]), np.dtype(f"uint{bits}").type(zero + half)
    operand = _single(w, x)
    codes = w.op("QuantizeLinear", operand.value, scale, point)
    value = w.op("DequantizeLinear", codes, scale, point)
    cells = _own_nan(w, node, operand)
    single = Single(
        value,
        operand.bad if cells is None else _rows(w, cells),
        bound=float(scale) * 2 * half,
        chain=cells is None,  # else cells are marked here, and the rows only for a linear map
        grid=float(scale) if bits == 8 else None,
    )
    return _result(w, single, x.type.dtype, operand.bad if cells is None else cells)


@lowers("DynamicQuantize")
def dynamic_quantize(w: Writer, node: Node, x: Tensor) -> ir.Value:
    """As the program writes it. QuantizedLinear takes the codes from the float32 form instead."""
    bits, dtype = node.attrs["bits"], np.dtype(x.type.dtype).type
    size = w.op("ReduceMax", w.op("Abs", x.value), np.array([1]), keepdims=1)
    top = dtype((1 << (bits - 1)) - 1)
    step = w.op("Div", size, top)
    step = w.op("Where", w.op("Equal", step, dtype(0)), dtype(1), step)
    value = w.op("Mul", w.op("Round", w.op("Div", x.value, step)), step)
    facts = w.columns.facts(node.inputs[0])
    if not facts.finite(x.type.dtype):
        # onnxruntime's ReduceMax skips NaN or not as its vector lanes fall.
        nan = _rows(w, w.op("IsNaN", w.op("Sub", x.value, x.value)))
        value = w.op("Where", nan, np.array([[np.nan]], dtype), value)
    if bits == 8:
        w.singles[value] = _row_codes(w, node, _single(w, x))
    return value


def _row_codes(w: Writer, node: Node, operand: Single) -> Single:
    """Codes of every row on a grid of its own, and its step."""
    facts = w.columns.facts(node.inputs[0])
    positive = bool((facts.low >= 0).all())
    size = operand.value if positive else w.op("Abs", operand.value)
    size = w.op("ReduceMax", size, np.array([1]), keepdims=1)
    step = w.op("Div", size, np.float32(127))
    bad = operand.bad
    bound = min(operand.bound, float(facts.magnitude.max(initial=0.0)))
    if bound > (_OVERFLOW if operand.chain else _LARGEST):
        bad = _either(w, bad, w.op("Greater", size, np.float32(_LARGEST)))
        bound = _LARGEST
    nan = _own_nan(w, node, operand)
    bad = _either(w, bad, None if nan is None else _rows(w, nan))
    # A row of zeros divides by zero: whatever its codes are, they are multiplied with a step of zero again.
    if positive:
        codes = w.op("QuantizeLinear", operand.value, w.op("Squeeze", step, np.array([1])), axis=0)
    else:
        shifted = w.op("Add", w.op("Round", w.op("Div", operand.value, step)), np.float32(128))
        codes = w.op("Cast", shifted, to=ir.DataType.UINT8)
    return Single(codes, bad, bound=bound, step=step, positive=positive)


# --- linear maps --------------------------------------------------------------------------------------------
@lowers("QuantizedLinear")
def quantized_linear(w: Writer, node: Node, x: Tensor) -> ir.Value:
    weight, operand = node.attrs["weight"], w.singles.get(x.value)
    integer = weight.dtype == np.int8 and len(weight) < _MAX_TERMS
    if operand is not None and integer and operand.step is not None:
        single = _after(node, operand, _by_rows(w, node, operand, operand.step))
    elif operand is not None and integer and operand.grid is not None:
        single = _after(node, operand, _fused(w, node, operand, operand.grid))
    elif operand is not None and operand.chain:
        single = _after(node, operand, _scaled_product(w, node, operand.value, "float32"))
    else:
        return _scaled_product(w, node, x.value, x.type.dtype)
    return _result(w, single, x.type.dtype, single.bad)


def _after(node: Node, operand: Single, value: ir.Value) -> Single:
    size = np.abs(node.attrs["weight"].astype(np.float64)).sum(axis=0) * node.attrs["scale"]
    with np.errstate(all="ignore"):
        bound = _or_infinite(1.02 * (operand.bound * size + np.abs(node.attrs["bias"])).max())
    return Single(value, operand.bad, bound=bound, chain=True)


def _or_infinite(bound: float) -> float:
    """The bound, and infinity for NaN: infinity times zero."""
    return float(bound) if np.isfinite(bound) else np.inf


def _scaled_product(w: Writer, node: Node, value: ir.Value, dtype: str) -> ir.Value:
    """A float product: onnxruntime widens the weights once, when it loads the model."""
    weight, scale, bias = (node.attrs[k] for k in ("weight", "scale", "bias"))
    wide, factor, offset = w.cast(w.constant(weight), dtype), scale.astype(dtype), bias.astype(dtype)
    if dtype == "float64":
        wide = w.op("Mul", wide, factor[None, :])
        return w.op("Gemm", value, wide, offset) if bias.any() else w.op("MatMul", value, wide)
    # Scaled afterwards: float32 weights right between DequantizeLinear and QuantizeLinear are rounded to 8 bits by
    # onnxruntime 1.32, and the operand with them (MatMulNBits).
    value = w.op("Mul", w.op("MatMul", value, wide), factor)
    return w.op("Add", value, offset) if bias.any() else value


def saturates(weight: Array, largest: int = 255) -> bool:
    """Whether int8 weights may saturate on x86 processors without VNNI, for codes up to ``largest``.

    Their instruction for unsigned times signed bytes (VPMADDUBSW) adds two neighbouring products into 16 bits:
    onnxruntime answered 41.1 for 81.3 on an emulated Haswell. Unsigned weights take another way, which is exact
    everywhere and slower where there is VNNI.
    """
    padded = np.concatenate([weight.astype(np.int64), np.zeros((len(weight) % 2, weight.shape[1]), np.int64)])
    pairs = padded.reshape(-1, 2, weight.shape[1])
    above, below = np.maximum(pairs, 0).sum(axis=1), np.minimum(pairs, 0).sum(axis=1)
    return bool((above * largest > 32767).any() or (below * largest < -32768).any())


def _weights(weight: Array, largest: int) -> tuple[Array, np.generic]:
    """The weights as the kernels take them, and their zero point."""
    if saturates(weight, largest):
        return (weight.astype(np.int16) + 128).astype(np.uint8), np.uint8(128)
    return weight, np.int8(0)


def _fused(w: Writer, node: Node, operand: Single, grid: float) -> ir.Value:
    """Gemm between DequantizeLinear of operand, weights and bias: QGemm. It wants all zero points spelled out."""
    scale, bias = node.attrs["scale"].astype(np.float32), node.attrs["bias"]
    codes, zero = _weights(node.attrs["weight"], 255)
    points = np.full(len(scale), zero)
    weight = w.op("DequantizeLinear", w.constant(codes), w.constant(scale), w.constant(points), axis=1)
    both = np.float32(grid) * scale
    with np.errstate(all="ignore"):
        steps = np.rint(bias / both.astype(np.float64))
    largest = np.abs(steps) + 255.0 * np.abs(node.attrs["weight"].astype(np.float64)).sum(axis=0)
    if not (largest < 2**31 - 1).all():  # NaN, too
        return w.op("Add", w.op("Gemm", operand.value, weight), bias.astype(np.float32))
    none = np.zeros(len(both), np.int32)
    held = w.op("DequantizeLinear", w.stored(steps.astype(np.int32)), w.constant(both), w.stored(none), axis=0)
    return w.op("Gemm", operand.value, weight, held)


def _by_rows(w: Writer, node: Node, operand: Single, step: ir.Value) -> ir.Value:
    """Integer products, then the scale of each output and the step of each row."""
    scale, bias = (node.attrs[k].astype(np.float32) for k in ("scale", "bias"))
    codes, zero = _weights(node.attrs["weight"], 127 if operand.positive else 255)
    points: list[np.generic] = [np.uint8(0 if operand.positive else 128), zero]
    while points and points[-1] == 0:
        points.pop()
    total = w.op("MatMulInteger", operand.value, w.constant(codes), *points)
    value = w.op("Mul", w.op("Mul", w.cast(total, "float32"), scale), step)
    return w.op("Add", value, bias) if bias.any() else value

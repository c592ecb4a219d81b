"""The quantised level: rounding to a grid of codes, and the scales of a linear map with narrow weights.

The narrow weights are widened once, when a program is opened, and multiplied by the kernel of Linear. Numbers are
rounded by an addition, which knows no -0.0: what LLVM has for rounding is a libm call on some machines.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeml.ir.elementary import round_core
from edgeml.ir.ops_quantised import largest_code
from edgeml.runtimes.kernels.registry import encodes, kernel
from edgeml.runtimes.kernels.scalar import keep, maximum, round32

if TYPE_CHECKING:
    from edgeml.ir import Node
    from edgeml.runtimes.kernels.encode import Encoder


# --- a static grid ------------------------------------------------------------------------------------------
def fake_quantize(name: str, rounded: Callable[[Any], Any]) -> None:
    """Register kernel ``name``. Words: those of an elementwise kernel, then scale, least and largest multiple of it."""

    @kernel(name, "words f cf n")
    def run(words: Any, f: Any, cf: Any, n: Any) -> None:
        outer, inner, o, o_step = words[0], words[1] * n, words[2], words[3]
        a, a_step, a_row, grid = words[4], words[5], words[6], words[7]
        scale, low, high = cf[grid], cf[grid + 1], cf[grid + 2]
        for j in range(outer):
            for r in range(inner):
                steps = rounded(f[a + j * a_step + r * a_row] / scale)
                steps = low if steps < low else steps
                steps = high if steps > high else steps
                f[o + j * o_step + r] = rounded(round_core(steps) * scale)


fake_quantize("fake_quantize", keep)
fake_quantize("fake_quantize32", round32)


@encodes("FakeQuantize")
def encode_fake_quantize(e: Encoder, node: Node, value: int) -> None:
    x = e.register(node.inputs[0])
    top, zero = largest_code(node.attrs["bits"]), node.attrs["zero_point"]
    grid = e.constants(value, "grid", lambda: np.array([node.attrs["scale"], -top - 1 - zero, top - zero]))
    name = "fake_quantize32" if x.dtype == "float32" else "fake_quantize"
    e.elementwise(name, e.allocate(value), x, more=[grid])


# --- a grid a row -------------------------------------------------------------------------------------------
def dynamic_quantize(name: str, rounded: Callable[[Any], Any]) -> None:
    """Register kernel ``name``. Words: result, its step, x, its steps, width, one column, largest code."""

    @kernel(name, "words f n")
    def run(words: Any, f: Any, n: Any) -> None:
        o, o_step, a, a_step, a_row = words[0], words[1], words[2], words[3], words[4]
        width, t, top = words[5], words[6], np.float64(words[7])
        for r in range(n):
            f[t + r] = 0.0
        for j in range(width):
            for r in range(n):
                f[t + r] = maximum(f[t + r], abs(f[a + j * a_step + r * a_row]))
        for r in range(n):
            step = rounded(f[t + r] / top)
            f[t + r] = 1.0 if step == 0.0 else step
        for j in range(width):
            for r in range(n):
                steps = rounded(f[a + j * a_step + r * a_row] / f[t + r])
                f[o + j * o_step + r] = rounded(round_core(steps) * f[t + r])


dynamic_quantize("dynamic_quantize", keep)
dynamic_quantize("dynamic_quantize32", round32)


@encodes("DynamicQuantize")
def encode_dynamic_quantize(e: Encoder, node: Node, value: int) -> None:
    x = e.register(node.inputs[0])
    out, column = e.allocate(value), e.temporary(1)
    name = "dynamic_quantize32" if x.dtype == "float32" else "dynamic_quantize"
    e.emit(
        name, out.offset, out.step, x.offset, x.step, x.row, x.width, column.offset, largest_code(node.attrs["bits"])
    )


# --- a linear map with narrow weights -----------------------------------------------------------------------
def rescale(name: str, rounded: Callable[[Any], Any]) -> None:
    """Register kernel ``name``: x * scale + bias in place, a scale and a bias a column. Words: x, its step, width,
    scales, biases.
    """

    @kernel(name, "words f cf n")
    def run(words: Any, f: Any, cf: Any, n: Any) -> None:
        x, step, width, scale, bias = words[0], words[1], words[2], words[3], words[4]
        for c in range(width):
            for r in range(n):
                f[x + c * step + r] = rounded(rounded(f[x + c * step + r] * cf[scale + c]) + cf[bias + c])


rescale("rescale", keep)
rescale("rescale32", round32)


@encodes("QuantizedLinear")
def encode_quantized_linear(e: Encoder, node: Node, value: int) -> None:
    x, attrs = e.register(node.inputs[0]), node.attrs
    out = e.allocate(value)
    weight = e.constants(value, "weight", lambda: attrs["weight"].astype(np.float64))
    zeros = e.constants(value, "zeros", lambda: np.zeros(out.width))
    scale = e.constants(value, "scale", lambda: attrs["scale"].astype(np.float64))
    bias = e.constants(value, "bias", lambda: attrs["bias"].astype(np.float64))
    suffix = "32" if x.dtype == "float32" else ""
    e.emit(f"linear{suffix}", out.offset, out.step, x.offset, x.step, x.row, *attrs["weight"].shape, weight, zeros)
    e.emit(f"rescale{suffix}", out.offset, out.step, out.width, scale, bias)

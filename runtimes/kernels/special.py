"""Kernels of the special functions (edgeml/ir/ops_special.py): the same formulas, made for compiled scalars.

Called by the encoder with the registers of a node; the loops are those of elementwise.py. Importing needs no Numba.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeml.ir.elementary_gamma import bessel_constants, bessel_k_of, digamma_of, log_gamma_of
from edgeml.ir.elementary_special import (
    Vocabulary,
    erf_of,
    expm1_of,
    floor_of,
    log1p_of,
    nearest_of,
    normal_quantile_of,
    pow_of,
    sign_of,
)
from edgeml.ir.elementary_trig import REDUCE_MAX, reduce_small, reducer_of_huge, turned
from edgeml.runtimes.kernels import elementwise, scalar
from edgeml.runtimes.kernels.registry import encodes, kernel

if TYPE_CHECKING:
    from edgeml.ir import Node
    from edgeml.runtimes.kernels.encode import Encoder


def _where(condition: Any, x: Any, y: Any) -> Any:
    return x if condition else y


_nearest = nearest_of(_where)
_reduce_huge = reducer_of_huge(_nearest)
_turn = turned(_where, _nearest)


def _turned(x: Any, shift: Any) -> Any:
    if abs(x) > REDUCE_MAX:
        k, r, s = _reduce_huge(x)
        return _turn(k, r, s, shift)
    k, r, s = reduce_small(x)
    return _turn(k, r, s, shift)


def _sin(x: Any) -> Any:
    if x == 0.0:
        return x
    return _turned(x, 0.0)


def _cos(x: Any) -> Any:
    return _turned(x, 1.0)


_SCALARS = Vocabulary(
    where=_where,
    nearest=_nearest,
    floor=floor_of(_where),
    exp=scalar.exp,
    log=scalar.log,
    sqrt=scalar.sqrt,
    sin=_sin,
    cos=_cos,
)

_unary = partial(elementwise.unary, module=__name__)
_unary("log1p", log1p_of(_SCALARS), "f", "f")
_unary("expm1", expm1_of(_SCALARS), "f", "f")
_unary("sin", _sin, "f", "f")
_unary("cos", _cos, "f", "f")
_unary("erf", erf_of(_SCALARS), "f", "f")
_unary("normal_quantile", normal_quantile_of(_SCALARS), "f", "f")
_unary("digamma", digamma_of(_SCALARS), "f", "f")
_unary("log_gamma", log_gamma_of(_SCALARS), "f", "f")
_unary("floor", _SCALARS.floor, "f", "f")
_unary("nearest", _nearest, "f", "f")
_unary("sign", sign_of(_where), "f", "f")
elementwise.binary("power", pow_of(_SCALARS), "f", "f", module=__name__)

_bessel_k = bessel_k_of(_SCALARS)


@kernel("bessel_k", "words f cf n")
def bessel_k(words: Any, f: Any, c: Any, n: Any) -> None:
    """Words as of elementwise kernels, then the place of the constants of the order and its whole part."""
    outer, inner, o, o_step = words[0], words[1] * n, words[2], words[3]
    a, a_step, a_row = words[4], words[5], words[6]
    at, steps = words[7], words[8]
    for j in range(outer):
        for r in range(inner):
            f[o + j * o_step + r] = _bessel_k(
                f[a + j * a_step + r * a_row], c[at], steps, c[at + 1], c[at + 2], c[at + 3], c[at + 4], c[at + 5]
            )


@kernel("convolve", "words f n")
def convolve(words: Any, f: Any, n: Any) -> None:
    """Words: result, its step, place and steps of x and y, width."""
    o, o_step, a, a_step, a_row = words[0], words[1], words[2], words[3], words[4]
    b, b_step, b_row, width = words[5], words[6], words[7], words[8]
    for k in range(width):
        for r in range(n):
            f[o + k * o_step + r] = f[a + k * a_step + r * a_row] * f[b + r * b_row]
        for j in range(1, width):
            column = k - j if k >= j else k - j + width
            for r in range(n):
                f[o + k * o_step + r] += f[a + column * a_step + r * a_row] * f[b + j * b_step + r * b_row]


@encodes("Convolve")
def encode_convolve(e: Encoder, node: Node, value: int) -> None:
    x, y = (e.register(v) for v in node.inputs)
    out = e.allocate(value)
    e.emit("convolve", out.offset, out.step, x.offset, x.step, x.row, y.offset, y.step, y.row, x.width)


_KERNELS = {
    "Pow": "power", "Log1p": "log1p", "Expm1": "expm1", "Sin": "sin", "Cos": "cos", "Erf": "erf",
    "NormalQuantile": "normal_quantile", "Digamma": "digamma", "LogGamma": "log_gamma", "Floor": "floor",
    "Round": "nearest", "Sign": "sign",
}  # fmt: skip


@encodes(*_KERNELS)
def special(e: Encoder, node: Node, value: int) -> None:
    operands = [e.register(v) for v in node.inputs]
    out = e.allocate(value)
    e.elementwise(_KERNELS[node.op], out, *operands)
    if node.type.dtype == "float32":
        e.elementwise("round32", out, out)


@encodes("BesselK")
def encode_bessel_k(e: Encoder, node: Node, value: int) -> None:
    x = e.register(node.inputs[0])
    out = e.allocate(value)
    constants = bessel_constants(node.attrs["order"])
    row = np.array([constants.mu, *constants[2:]])
    e.elementwise("bessel_k", out, x, more=(e.constants(value, "order", lambda: row), constants.steps))
    if node.type.dtype == "float32":
        e.elementwise("round32", out, out)

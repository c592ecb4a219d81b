"""Ops that refuse rows. They compute nothing: the result is another name for the operand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgeml.runtimes.kernels.registry import encodes, kernel
from edgeml.runtimes.kernels.scalar import round32

if TYPE_CHECKING:
    from edgeml.ir import Node
    from edgeml.runtimes.kernels.encode import Encoder

# Bits of |infinity|; anything above is NaN.
INFINITY = 0x7FF0000000000000
WITHOUT_SIGN = 0x7FFFFFFFFFFFFFFF


def _check(name: str, allow_nan: bool) -> None:
    """Register kernel ``name``. Words: x, its steps, width. One fast pass over all cells, a second to name the
    first.
    """

    @kernel(name, "words i n")
    def run(words: Any, i: Any, n: Any) -> Any:
        a, a_step, a_row, width = words[0], words[1], words[2], words[3]
        bad = 0
        for j in range(width):
            for r in range(n):
                size = i[a + j * a_step + r * a_row] & WITHOUT_SIGN
                bad |= size == INFINITY if allow_nan else size >= INFINITY
        if bad == 0:
            return 0
        for r in range(n):
            for j in range(width):
                size = i[a + j * a_step + r * a_row] & WITHOUT_SIGN
                if size == INFINITY or (size > INFINITY and not allow_nan):
                    return 1 + r * width + j
        return 0


_check("check_finite", False)
_check("check_not_infinite", True)


@encodes("CheckFinite")
def check_finite(e: Encoder, node: Node, value: int) -> None:
    x = e.register(node.inputs[0])
    name = "check_not_infinite" if node.attrs["allow_nan"] else "check_finite"
    e.emit(name, x.offset, x.step, x.row, x.width)
    e.alias(value, node.inputs[0], x)


@kernel("check_range", "words f cf ci n")
def check_range(words: Any, f: Any, cf: Any, ci: Any, n: Any) -> Any:
    """Words: x, its steps, width, least and largest values, whether NaN is allowed. Two passes, as above."""
    a, a_step, a_row, width = words[0], words[1], words[2], words[3]
    low, high, allow_nan = words[4], words[5], words[6]
    bad = 0
    for j in range(width):
        least, most, nan = cf[low + j], cf[high + j], ci[allow_nan + j]
        for r in range(n):
            x = f[a + j * a_step + r * a_row]
            bad |= ((x < least) | (x > most)) | ((x != x) & (nan == 0))
    if bad == 0:
        return 0
    for r in range(n):
        for j in range(width):
            x = f[a + j * a_step + r * a_row]
            if x < cf[low + j] or x > cf[high + j] or (x != x and ci[allow_nan + j] == 0):
                return 1 + r * width + j
    return 0


@encodes("CheckRange")
def encode_check_range(e: Encoder, node: Node, value: int) -> None:
    x, attrs = e.register(node.inputs[0]), node.attrs
    low = e.constants(value, "low", lambda: attrs["low"])
    high = e.constants(value, "high", lambda: attrs["high"])
    allow_nan = e.constants(value, "allow_nan", lambda: attrs["allow_nan"].astype(np.int64))
    e.emit("check_range", x.offset, x.step, x.row, x.width, low, high, allow_nan)
    e.alias(value, node.inputs[0], x)


@kernel("require", "words i n")
def require(words: Any, i: Any, n: Any) -> Any:
    """Words: the bool value, its steps, width."""
    a, a_step, a_row, width = words[0], words[1], words[2], words[3]
    for r in range(n):
        for j in range(width):
            if i[a + j * a_step + r * a_row] == 0:
                return 1 + r * width + j
    return 0


@encodes("Require")
def encode_require(e: Encoder, node: Node, value: int) -> None:
    ok = e.register(node.inputs[1])
    e.emit("require", ok.offset, ok.step, ok.row, ok.width)
    e.alias(value, node.inputs[0], e.register(node.inputs[0]))


@kernel("exact32", "words f n")
def exact32(words: Any, f: Any, n: Any) -> Any:
    """Refuses float64 cells that float32 does not hold; for rows given one by one. Words: x, its step, width."""
    a, a_step, width = words[0], words[1], words[2]
    for r in range(n):
        for j in range(width):
            x = f[a + j * a_step + r]
            if x == x and round32(x) != x:
                return 1 + r * width + j
    return 0

"""The kernel of Fmod (edgeml/ir/ops_remainder.py): a long division in binary, no step of which rounds.

Called by the encoder with the registers of a node; the loops are those of elementwise.py. Importing needs no Numba.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeml.runtimes.kernels.elementwise import binary
from edgeml.runtimes.kernels.registry import encodes

if TYPE_CHECKING:
    from edgeml.ir import Node
    from edgeml.runtimes.kernels.encode import Encoder

_INF = float("inf")


def _fmod(x: Any, y: Any) -> Any:
    """y is doubled until it reaches half of x, then taken off x and halved in turn: r - t is exact for t <= r < 2 t."""
    r, divisor = abs(x), abs(y)
    if not (r < _INF and divisor > 0.0):
        return x * 0.0 / 0.0
    if r < divisor:
        return x
    t = divisor
    while t <= r * 0.5:
        t = t + t
    while t > divisor:
        if r >= t:
            r = r - t
        t = t * 0.5
    if r >= divisor:
        r = r - divisor
    return -r if x < 0.0 else r


binary("fmod", _fmod, "f", "f", module=__name__)


@encodes("Fmod")
def fmod(e: Encoder, node: Node, value: int) -> None:
    """Of float32 the exact remainder is a float32 as it is."""
    operands = [e.register(v) for v in node.inputs]
    e.elementwise("fmod", e.allocate(value), *operands)

"""TFLite lowering of a Gaussian process classifier's probability, in float32 without cancellation.

scikit-learn adds five error functions of nearly one argument with weights up to 3500 whose sum is 1, so that float32
would keep three digits of a probability. Here one of the error functions stands for all, and what the others differ
from it by is a smooth function of two numbers, fitted by a polynomial when the graph is written. Called for every sum
by tflite_ops.py; found by its nodes, as converters/gaussian_process.py writes them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeml.ir.ops_special import erf
from edgeml.ir.program import Node
from edgeml.ir.table import Array
from edgeml.targets.terms import where
from edgeml.targets.tflite_graph import Tensor
from edgeml.targets.tflite_lowering import Lowering
from edgeml.targets.tflite_special import FORMULAS, Float32

# Beyond, the error functions are 1 to 1e-8 of the sum.
_LARGEST = 5.0
# Degrees of the polynomial in the square of the argument, and in the share of the variance. With them the fit of
# scikit-learn's five is off by less than 1e-8 of a probability (test_tflite_latent.py).
_DEGREES = 10, 6
# A latent mean below is one that float32 does not tell from 0, and its sign is the label.
_LEAST_MEAN = 1e-30


@dataclass(frozen=True, slots=True)
class _Integral:
    """sum of weights * erf(mean * slopes * sqrt(alpha / (alpha + slopes^2))) / 2; the values ``arguments`` of the error
    functions, ``alpha`` and ``mean``.
    """

    weights: Array
    slopes: Array
    arguments: int
    alpha: int
    mean: int


def latent_probability(w: Lowering, node: Node) -> Tensor | None:
    """The result of a ReduceSum that ends the integral, None for any other."""
    found = _integral(w, node)
    if found is None:
        return None
    middle = int(np.abs(found.slopes[:, None] - found.slopes).max(axis=1).argmin())
    base, low = found.slopes[middle], found.slopes.min() / found.slopes[middle]
    arguments, alpha, mean = (Float32(w, w.value(v).tensor) for v in (found.arguments, found.alpha, found.mean))
    if not w.value(found.mean).one_row:
        _refuse_undecided(w, mean)
    u = arguments.columns([middle])
    square = u * u
    share = float(base**2) / (alpha + float(base**2))
    t = square * (2.0 / _LARGEST**2) - 1.0
    of_square, of_share = _chebyshev(where(t > 1.0, 1.0, t), _DEGREES[0]), _chebyshev(share * 2.0 - 1.0, _DEGREES[1])
    table = w.number(_fitted(found.weights, found.slopes / base, float(low)))
    rest = of_square.linear(table.T.copy()) * of_share
    tail = square * -float(low**2)
    correction = rest.total() * u * tail.op("Exp", tail)
    result: Tensor = (FORMULAS["Erf"](u) * float(0.5 * found.weights.sum()) + correction).tensor
    return result


def _refuse_undecided(w: Lowering, mean: Float32) -> None:
    message = (
        f"a row at step {w.origin or 'of the pipeline'} is so far from those of training that the float32 arithmetic "
        "of TFLite does not tell its class"
    )
    w.check(w.none_of((abs(mean) < _LEAST_MEAN).tensor), {"op": "Require", "message": message, "kind": "range"})


def _chebyshev(x: Float32, degree: int) -> Float32:
    """The Chebyshev polynomials of x up to a degree, side by side."""
    parts = [x * 0.0 + 1.0, x]
    for _ in range(degree - 1):
        parts.append(x * 2.0 * parts[-1] - parts[-2])
    return parts[0].beside(parts[1:])


def _fitted(weights: Array, ratios: Array, low: float) -> Array:
    """Coefficients (degrees of u^2, of the share) of what the error functions differ by, over u exp(-low^2 u^2)."""
    t, s = (np.cos(np.pi * (np.arange(n) + 0.5) / n) for n in (40, 24))
    u, share = np.sqrt((t + 1) / 2)[:, None] * _LARGEST, (s[None, :] + 1) / 2
    size = u * np.exp(-((low * u) ** 2))
    exact = np.zeros((len(t), len(s)))
    for weight, ratio in zip(weights, ratios, strict=True):
        exact += 0.5 * weight * (erf(u * ratio / np.sqrt(1 - share + ratio**2 * share)) - erf(u))
    columns = [np.polynomial.chebyshev.chebvander(x, d) for x, d in zip((t, s), _DEGREES, strict=True)]
    design = np.einsum("ij,kl->ikjl", *columns).reshape(exact.size, -1)
    scale = np.broadcast_to(size, exact.shape).reshape(-1, 1)
    found = np.linalg.lstsq(design * scale, exact.reshape(-1), rcond=None)[0]
    return np.asarray(found.reshape(_DEGREES[0] + 1, _DEGREES[1] + 1))


def _integral(w: Lowering, node: Node) -> _Integral | None:
    product = w.node(node.inputs[0])
    weights, quotient = _constant_and(w, product)
    fraction = w.node(quotient) if weights is not None else None
    if weights is None or fraction is None or fraction.op != "Div" or len(weights) < 2:
        return None
    above = w.node(fraction.inputs[0])
    errors = [
        n for v in (above.inputs if above is not None and above.op == "Mul" else ()) if _is(n := w.node(v), "Erf")
    ]
    if len(errors) != 1 or errors[0] is None:
        return None
    arguments = w.node(errors[0].inputs[0])
    if arguments is None or arguments.op != "Mul":
        return None
    slopes, mean = _constant_and(w, w.node(arguments.inputs[0]))
    root = w.node(arguments.inputs[1])
    share = w.node(root.inputs[0]) if root is not None and root.op == "Sqrt" else None
    if slopes is None or share is None or share.op != "Div":
        return None
    squares, alpha = _constant_and(w, w.node(share.inputs[1]), "Add")
    if (
        squares is None
        or alpha != share.inputs[0]
        or not np.allclose(squares, slopes**2)
        or w.value(mean).type.width > 1
    ):
        return None
    return _Integral(weights, slopes, errors[0].inputs[0], alpha, mean)


def _is(node: Node | None, op: str) -> bool:
    return node is not None and node.op == op


def _constant_and(w: Lowering, node: Node | None, op: str = "Mul") -> tuple[Array | None, int]:
    """The constant operand of a node, None where it is another node, and the value of the other operand."""
    for at in (0, 1) if node is not None and node.op == op else ():
        assert node is not None
        constant = w.node(node.inputs[at])
        if constant is not None and constant.op == "Constant":
            return constant.attrs["value"], node.inputs[1 - at]
    return None, -1

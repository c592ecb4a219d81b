"""The lasso's coordinate descent on a Gram matrix, a problem a row: scikit-learn's enet_coordinate_descent_gram.

In come a row's products with the atoms; out goes its code, in float32 throughout where they are: the gap is then
nothing but rounding long before the tolerance. Which coordinates are left out by the gap-safe rules, and at which pass
a row is done, follow scikit-learn's own arithmetic, since its tolerance lies above what is compared. Called by
sparse_coding.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.converters.products import affine
from edgeml.ir import Value

Array = npt.NDArray[Any]
_TOLERANCE = 1e-8  # scikit-learn's own in sparse_encode


def coordinate_descent(x: Value, products: Value, gram: Array, penalty: float, most: int, *, positive: bool) -> Value:
    """Codes of width k from rows ``x`` and their products with the k atoms, after at most ``most`` passes."""
    return _Descent(gram, penalty, most, positive).code(x, products)


class _Descent:
    """Values are of the rows' dtype, rounded where scikit-learn's variables are; in between it computes in float64."""

    def __init__(self, gram: Array, penalty: float, most: int, positive: bool) -> None:
        self.gram, self.most, self.positive = gram.astype(np.float64), most, positive
        self.k, self.sizes, self.dtype = len(gram), np.diag(self.gram), gram.dtype.name
        self.penalty, self.tolerance = (float(gram.dtype.type(x)) for x in (penalty, _TOLERANCE))

    def code(self, x: Value, products: Value) -> Value:
        b, k = x.builder, self.k
        size = self._dot(x, x)
        zeros = b.constant(np.zeros(k, self.dtype))
        gap, gradient, norm = self._gap(zeros, zeros, products, size)
        done = (gap >= 0.0) & (gap <= self.tolerance * size)
        counts = b.constant((self.sizes != 0.0).astype(self.dtype))
        if self.penalty > 0.0:
            counts = counts * self._near(gap, gradient, norm).cast(self.dtype)
        start = b.concat([zeros, zeros, counts, b.constant([0.0], self.dtype)])
        found = b.loop(start, [products, size], self.most, self._pass).select(slice(0, k))
        return b.where(done, 0.0, found)

    def _pass(self, state: Value, products: Value, size: Value) -> tuple[Value, Value]:
        """Every coordinate that counts once, then the duality gap where the steps have become small."""
        b, k = state.builder, self.k
        code = [state.select([j]) for j in range(k)]
        product = state.select(slice(k, 2 * k))
        counts, passes = state.select(slice(2 * k, 3 * k)), state.select([3 * k])
        moved = largest = b.constant([0.0], self.dtype)
        for j in range(k):
            if self.sizes[j] == 0.0:
                continue
            before = code[j]
            target = products.select([j]) - product.select([j]) + before * float(self.sizes[j])
            least = b.maximum(b.abs(_wide(target)) - self.penalty, 0.0)
            after = b.where(target < 0.0, 0.0 * least if self.positive else -least, least) / float(self.sizes[j])
            in_play = counts.select([j]) > 0.5
            after = b.where(in_play, after.cast(self.dtype), before)
            change = after - before
            product = (_wide(product) + _wide(change) * self.gram[j]).cast(self.dtype)
            moved = b.maximum(moved, b.abs(change))
            largest = b.maximum(largest, b.where(in_play, b.abs(after), 0.0))
            code[j] = after
        now = b.concat(code)
        settled = (largest == 0.0) | (moved / largest <= self.tolerance) | (passes == float(self.most - 1))
        gap, gradient, norm = self._gap(now, product, products, size)
        done = settled & (gap <= self.tolerance * size)
        if self.penalty > 0.0:
            gone = settled & ~done & (counts > 0.5) & ~self._near(gap, gradient, norm)
            product = (_wide(product) - affine(b.where(gone, _wide(now), 0.0), self.gram)).cast(self.dtype)
            now, counts = b.where(gone, 0.0, now), b.where(gone, 0.0, counts)
        return b.concat([now, product, counts, passes + 1.0]), ~done

    def _gap(self, code: Value, product: Value, products: Value, size: Value) -> tuple[Value, Value, Value]:
        """The duality gap, the gradient and its norm; without a penalty the gradient's square is the gap."""
        b = code.builder
        gradient = products - product
        if self.penalty == 0.0:
            square = self._dot(gradient, gradient)
            return square, gradient, square
        norm = b.max(gradient if self.positive else b.abs(gradient))
        crossed = self._dot(code, products)
        residual = (_wide(size + self._dot(code, product)) - 2.0 * _wide(crossed)).cast(self.dtype)
        primal = (0.5 * _wide(residual) + _wide(self.penalty * b.sum(b.abs(code)))).cast(self.dtype)
        scale = b.where(norm > self.penalty, self.penalty / norm, b.constant(1.0, self.dtype))
        dual = -0.5 * _wide(scale * scale) * _wide(residual) + _wide(scale * (size - crossed))
        return primal - dual.cast(self.dtype), gradient, norm

    def _near(self, gap: Value, gradient: Value, norm: Value) -> Value:
        """Coordinates that may not be zero at the end: the gap-safe sphere, arXiv 1802.07481, equation 11."""
        b = gap.builder
        radius = (b.sqrt(2.0 * b.abs(_wide(gap))) / self.penalty).cast(self.dtype)
        sizes = np.where(self.sizes > 0.0, self.sizes, 1.0)
        part = b.abs(_wide(gradient / b.maximum(norm, self.penalty)))
        return ((1.0 - part) / np.sqrt(sizes)).cast(self.dtype) <= radius

    def _dot(self, x: Value, y: Value) -> Value:
        """BLAS adds up the products of few cells in float64."""
        return x.builder.sum(_wide(x * y)).cast(self.dtype)


def _wide(x: Value) -> Value:
    return x.cast("float64")

"""Sparse codes of rows over a fitted dictionary, and sparse principal components.

In comes a fitted SparseCoder, DictionaryLearning, MiniBatchDictionaryLearning, SparsePCA or MiniBatchSparsePCA; out
goes ``transform``. The searches (matching pursuit, least angles, coordinate descent) run on the device, a row each: the
program keeps which atoms are active as a mask where scikit-learn swaps them to the front.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.converters.block import Block
from edgeml.converters.products import affine, numeric
from edgeml.converters.registry import Conversion, Outputs, converter
from edgeml.converters.sparse_descent import coordinate_descent
from edgeml.ir import Builder, Value

Array = npt.NDArray[Any]
_LEARNING = (
    "n_components", "max_iter", "tol", "fit_algorithm", "code_init", "dict_init", "callback", "verbose", "random_state",
    "positive_dict", "batch_size", "shuffle", "max_no_improvement", "n_jobs",
)  # fmt: skip
_CODING = (
    "transform_algorithm", "transform_n_nonzero_coefs", "transform_alpha", "split_sign", "positive_code",
    "transform_max_iter",
)  # fmt: skip
_TINY32 = float(np.finfo(np.float32).tiny)
_EPS32 = float(np.finfo(np.float32).eps)
_EPS = float(np.finfo(np.float64).eps)
# Atoms whose part that others do not explain is smaller are left out (lars_path).
_DEGENERATE = 1e-7


@converter("sklearn.SparseCoder", honours=("dictionary", *_CODING), ignores=("n_jobs",), note="iterates (1e-6)")
def sparse_coder(c: Conversion, est: Any, X: Block) -> Outputs:
    """Codes over the dictionary that was given."""
    return {"transform": Block(_codes(c, est, X, np.asarray(est.dictionary), est.transform_alpha))}


@converter(
    "sklearn.DictionaryLearning",
    "sklearn.MiniBatchDictionaryLearning",
    honours=("alpha", *_CODING),
    ignores=_LEARNING,
    note="iterates (1e-6)",
)
def dictionary_learning(c: Conversion, est: Any, X: Block) -> Outputs:
    """Codes over the dictionary that was learnt."""
    alpha = est.alpha if est.transform_alpha is None else est.transform_alpha
    return {"transform": Block(_codes(c, est, X, est.components_, alpha))}


@converter(
    "sklearn.SparsePCA",
    "sklearn.MiniBatchSparsePCA",
    honours=("ridge_alpha",),
    ignores=(
        "n_components", "alpha", "max_iter", "tol", "method", "n_jobs", "U_init", "V_init", "verbose", "random_state",
        "callback", "batch_size", "shuffle", "max_no_improvement",
    ),
    squeezes=True,
)  # fmt: skip
def sparse_pca(c: Conversion, est: Any, X: Block) -> Outputs:
    """Ridge regression of the centred row on the components: a linear map once the equations are solved."""
    from scipy import linalg

    components = est.components_
    if components.shape[0] > components.shape[1]:  # scikit-learn solves the smaller of two systems
        kernel = components.T @ components
        kernel.flat[:: len(kernel) + 1] += est.ridge_alpha
        weight = linalg.solve(kernel, components.T, assume_a="pos").astype(components.dtype)
    else:
        gram = components @ components.T
        gram.flat[:: len(gram) + 1] += est.ridge_alpha
        weight = linalg.solve(gram, components, assume_a="pos").T
    return {"transform": Block(affine(numeric(c, est, X) - est.mean_, np.ascontiguousarray(weight)))}


def _codes(c: Conversion, est: Any, X: Block, dictionary: Array, alpha: float | None) -> Value:
    """scikit-learn's sparse_encode."""
    x = numeric(c, est, X)
    # Of float32 on both sides scikit-learn's products and its descent are float32.
    held = "float32" if x.dtype == "float32" and dictionary.dtype == np.float32 else "float64"
    x, dictionary = x.cast(held), dictionary.astype(held)
    products = affine(x, np.ascontiguousarray(dictionary.T))
    covariance, penalty = products.cast("float64"), 1.0 if alpha is None else float(alpha)
    single = np.dot(dictionary, dictionary.T)
    gram = single.astype(np.float64)
    most, positive = est.transform_max_iter, bool(est.positive_code)
    atoms = est.transform_n_nonzero_coefs
    atoms = int(min(max(x.width / 10, 1), len(dictionary)) if atoms is None else atoms)
    match est.transform_algorithm:
        case "threshold":
            code = _threshold(c.builder, covariance, penalty, positive)
        case "omp":
            code = _matching_pursuit(c.builder, covariance, gram, atoms)
        case "lars":
            code = _Angles(single, x.width, 0.0, atoms, lasso=False, positive=False).code(covariance)
        case "lasso_lars":
            code = _Angles(single, x.width, penalty / x.width, most, lasso=True, positive=positive).code(covariance)
        case "lasso_cd":
            code = coordinate_descent(x, products, single, penalty / x.width * x.width, most, positive=positive)
        case other:
            raise c.refuse(est, "transform_algorithm", other, "use lars, lasso_lars, lasso_cd, omp or threshold")
    code = code.cast(held)
    if not est.split_sign:
        return code
    return c.builder.concat([c.builder.maximum(code, 0.0), -c.builder.minimum(code, 0.0)]).cast("float64")


def _threshold(b: Builder, covariance: Value, penalty: float, positive: bool) -> Value:
    size = b.maximum(b.abs(covariance) - penalty, 0.0)
    code = b.where(covariance < 0.0, -size, size)
    return b.maximum(code, 0.0) if positive else code


# --- masks of active atoms ----------------------------------------------------------------------------------
def _pairs(active: Value, gram: Array) -> Value:
    """The Gram matrix of the active atoms, with ones on the diagonal in the place of the others."""
    b, k = active.builder, len(gram)
    both = active.select(np.repeat(np.arange(k), k)) & active.select(np.tile(np.arange(k), k))
    return b.where(both, gram.ravel(), np.eye(k).ravel())


def _solved(active: Value, gram: Array, right: Value) -> Value:
    """Solution of the active atoms' equations, zero for the others."""
    b = active.builder
    return b.solve(_pairs(active, gram), b.where(active, right, 0.0))


def _unexplained(active: Value, gram: Array, atom: Value) -> Value:
    """Squared length of what the active atoms do not explain of another one."""
    b = active.builder
    products = b.where(active, b.take(atom, gram), 0.0)
    return b.take(atom, np.diag(gram)) - b.sum(products * _solved(active, gram, products))


# --- orthogonal matching pursuit ----------------------------------------------------------------------------
def _matching_pursuit(b: Builder, covariance: Value, gram: Array, atoms: int) -> Value:
    """The atom with the largest residual product joins, the codes of all are solved anew: orthogonal_mp_gram."""
    k = len(gram)

    def body(state: Value, covariance: Value) -> tuple[Value, Value]:
        b = state.builder
        code, active, places = (state.select(slice(j * k, (j + 1) * k)) for j in range(3))
        active = active > 0.5
        residual = covariance - affine(code, gram)
        # Of equal ones the first, in the order that scikit-learn's swaps have made.
        size = b.abs(residual)
        atom = b.argmin(b.where(size == b.max(size), places, np.inf))
        here = b.one_hot(atom, k) > 0.5
        largest = b.sum(b.where(here, residual, 0.0))
        known = b.sum((here & active).cast("float64")) > 0.5
        # The first atom joins whatever its length is.
        first = ~(b.max(active.cast("float64")) > 0.5)
        dependent = ~first & (_unexplained(active, gram, atom) <= _EPS)
        stop = known | (largest * largest < _EPS) | dependent
        joined = active | here
        after = b.where(stop, code, _solved(joined, gram, covariance))
        front = b.sum(active.cast("float64"))
        swapped = b.where(places == front, b.sum(b.where(here, places, 0.0)), places)
        places = b.where(stop, places, b.where(here, front, swapped))
        joined = b.where(stop, active, joined)
        full = b.sum(joined.cast("float64")) >= float(atoms)
        return b.concat([after, joined.cast("float64"), places]), ~(stop | full)

    start = np.concatenate([np.zeros(2 * k), np.arange(k)])
    return b.loop(b.constant(start), [covariance], atoms, body).select(slice(0, k))


# --- least angle regression ---------------------------------------------------------------------------------
class _Angles:
    """lars_path on a precomputed Gram matrix: codes at the penalty ``least``, or after ``most`` steps."""

    def __init__(self, gram: Array, rows: int, least: float, most: int, *, lasso: bool, positive: bool) -> None:
        self.gram, self.rows, self.least, self.most = gram.astype(np.float64), rows, least, most
        self.single = gram.dtype == np.float32
        self.lasso, self.positive, self.k = lasso, positive, len(gram)

    def code(self, products: Value) -> Value:
        """The code of each row, given its products with the atoms."""
        k, b = self.k, products.builder
        start = b.concat([products, b.constant(np.zeros(4 * k + 4))])
        rounds = min((self.most + 1) * (k + 1), 1_000_000)
        return b.loop(start, [products], rounds, self._round).select(slice(k, 2 * k))

    def _round(self, state: Value, products: Value) -> tuple[Value, Value]:
        k, b = self.k, state.builder
        covariance, code, before, active, sign = (state.select(slice(j * k, (j + 1) * k)) for j in range(5))
        last, steps, dropped = (state.select([5 * k + j]) for j in range(3))
        active = active > 0.5
        strength = covariance if self.positive else b.abs(covariance)
        free = b.where(active, -np.inf, strength)
        any_free = b.min(active.cast("float64")) < 0.5
        largest = b.where(any_free, b.max(free), 0.0)
        penalty = largest / float(self.rows)
        # The end: at the penalty asked for, between the last two codes.
        reached = penalty <= self.least + _EPS32
        between = reached & (b.abs(penalty - self.least) > _EPS32) & (steps > 0.5)
        part = (last - self.least) / (last - penalty)
        ended = b.where(between, before + part * (code - before), code)
        over = ~reached & ((steps >= float(self.most)) | ~any_free)
        # The atom with the largest product joins, unless one has just left.
        atom = b.argmax(free)
        here = (b.one_hot(atom, k) > 0.5) & ~(dropped > 0.5)
        rest = b.sqrt(b.abs(_unexplained(active, self.gram, atom)))
        degenerate = (rest < _DEGENERATE) & ~(dropped > 0.5)
        joined = active | (here & ~degenerate)
        own = b.where(covariance < 0.0, b.constant(-np.ones(k)), b.constant(np.ones(k)))
        signs = b.where(here & ~active, 1.0 if self.positive else own, sign)
        rising = (steps > 0.5) & (last < penalty) & ~degenerate if self.lasso else reached & ~reached
        stop = reached | over | rising
        stepped = self._step(b, joined, signs, covariance, code, largest, products)
        covariance2, code2, active2, signs2, left = stepped
        skip = stop | degenerate
        emptied = b.where(here, 0.0, covariance)
        kept = b.where(degenerate & ~stop, emptied, covariance)
        after = [
            b.where(skip, kept, covariance2),
            b.where(skip, b.where(reached, ended, code), code2),
            b.where(skip, before, code),
            b.where(skip, active.cast("float64"), active2.cast("float64")),
            b.where(skip, sign, signs2),
            b.where(skip, last, penalty),
            b.where(skip, steps, steps + 1.0),
            b.where(skip, dropped, left.cast("float64")),
            stop.cast("float64"),
        ]
        return b.concat(after), ~stop

    def _step(
        self, b: Builder, active: Value, sign: Value, covariance: Value, code: Value, largest: Value, products: Value
    ) -> tuple[Value, Value, Value, Value, Value]:
        """A step along the active atoms' common angle: covariances, code, active atoms, signs, whether one has left."""
        direction = _solved(active, self.gram, sign)
        scale = 1.0 / b.sqrt(b.sum(direction * b.where(active, sign, 0.0)))
        direction = direction * scale
        common = affine(direction, self.gram)
        if self.single:  # rounded to the decimals of the dtype; the 15 of float64 are below what is compared
            common = b.op("Round", common * 1e6) / 1e6
        least = self._least_positive
        size = b.minimum(least((largest - covariance) / (scale - common + _TINY32), ~active), largest / scale)
        if not self.positive:
            size = b.minimum(size, least((largest + covariance) / (scale + common + _TINY32), ~active))
        crossing = -code / (direction + _TINY32)
        nearest = least(crossing, active)
        left = nearest < size
        crossed = left & active & (crossing == nearest)
        sign = b.where(crossed, -sign, sign)
        size = b.where(left, nearest, size) if self.lasso else size
        code = b.where(active, code + size * direction, 0.0)
        covariance = b.where(active, covariance, covariance - size * common)
        if self.lasso:
            covariance = b.where(crossed, products - affine(code, self.gram), covariance)
            active = active & ~crossed
        return covariance, code, active, sign, left

    @staticmethod
    def _least_positive(x: Value, where: Value) -> Value:
        """scikit-learn's min_pos of the cells that count."""
        b = x.builder
        return b.min(b.where(where & (x > 0.0), x, float(np.finfo(np.float64).max)))

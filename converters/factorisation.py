"""Factorisations that search for each row's weights: NMF, MiniBatchNMF and latent Dirichlet allocation.

In comes a fitted estimator; out goes ``transform``, whose iterations run on the device, per row, with scikit-learn's
own order of coordinates and criteria. NMF stops by a criterion of the whole batch, and MiniBatchNMF and the solver "mu"
start from its mean: their specification is scikit-learn's answer to each row alone (answering.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.converters.block import Block
from edgeml.converters.products import affine
from edgeml.converters.registry import Conversion, Outputs, converter
from edgeml.ir import Builder, Value

Array = npt.NDArray[Any]
_TRAINING = ("n_components", "init", "alpha_H", "verbose")
_ALONE = "iterates to a tolerance (1e-6); scikit-learn's answer depends on the batch, ours is that to each row alone"
# scikit-learn's own, of _nmf.py.
_EPSILON = float(np.finfo(np.float32).eps)
_LOSSES = {"frobenius": 2.0, "kullback-leibler": 1.0, "itakura-saito": 0.0}
_BETWEEN_CHECKS = 10


@converter(
    "sklearn.NMF",
    honours=("solver", "beta_loss", "tol", "max_iter", "alpha_W", "l1_ratio", "shuffle", "random_state"),
    ignores=_TRAINING,
    note=_ALONE,
    alone=True,
)
def nmf(c: Conversion, est: Any, X: Block) -> Outputs:
    """Weights of the components by coordinate descent ("cd") or by multiplicative updates ("mu")."""
    x = _not_negative(c, est, X.matrix(c, est))
    beta = _beta(est)
    x = _not_zero(c, est, x) if beta <= 0 else x
    l1, l2 = _penalties(est, x)
    if est.solver == "cd":
        return {"transform": Block(_coordinate_descent(c, est, x, l1, l2))}
    return {"transform": Block(_multiplicative(est, x, beta, l1, l2))}


@converter(
    "sklearn.MiniBatchNMF",
    honours=("beta_loss", "tol", "max_iter", "transform_max_iter", "alpha_W", "l1_ratio"),
    ignores=(
        *_TRAINING, "random_state", "batch_size", "max_no_improvement", "forget_factor", "fresh_restarts",
        "fresh_restarts_max_iter",
    ),
    note=_ALONE,
    alone=True,
)  # fmt: skip
def mini_batch_nmf(c: Conversion, est: Any, X: Block) -> Outputs:
    """Weights of the components by multiplicative updates, until they move by less than ``tol`` of their norm."""
    x = X.matrix(c, est)
    beta, (l1, l2), tol = _beta(est), _penalties(est, x), est.tol
    update = _Update(est.components_, beta, l1, l2)

    def body(weights: Value, x: Value) -> tuple[Value, Value]:
        b = weights.builder
        after = update.next(weights, x)
        change = _norm(after - weights) / _norm(after)
        return after, ~(change <= tol) if tol > 0 else b.constant([True])

    b = c.builder
    weights = b.loop(_average(est, x), [x], est._transform_max_iter, body)
    # scikit-learn takes SciPy's norms of them, which refuse what is not finite.
    message = f"{c.place(est)} finds no weights for the row, which scikit-learn refuses too"
    return {"transform": Block(b.require(weights, b.abs(weights) < np.inf, message))}


def _norm(x: Value) -> Value:
    return x.builder.sqrt(x.builder.sum(x * x))


def _not_negative(c: Conversion, est: Any, x: Value) -> Value:
    return c.builder.require(x, x >= 0.0, f"{c.place(est)} was given a negative number, which scikit-learn refuses too")


def _not_zero(c: Conversion, est: Any, x: Value) -> Value:
    message = f"{c.place(est)} was given a zero, which scikit-learn refuses with beta_loss <= 0 too"
    return c.builder.require(x, ~(x == 0.0), message)


def _beta(est: Any) -> float:
    return _LOSSES[est.beta_loss] if isinstance(est.beta_loss, str) else float(est.beta_loss)


def _penalties(est: Any, x: Value) -> tuple[float, float]:
    """Penalties on the absolute values and on the squares of the weights."""
    scaled = x.width * est.alpha_W
    return scaled * est.l1_ratio, scaled * (1.0 - est.l1_ratio)


def _average(est: Any, x: Value) -> Value:
    """sqrt(mean of the row / components) for each component."""
    count = len(est.components_)
    average = x.builder.sqrt(x.builder.sum(x) / float(x.width) / float(count))
    return x.builder.concat([average] * count)


# --- coordinate descent -------------------------------------------------------------------------------------
def _coordinate_descent(c: Conversion, est: Any, x: Value, l1: float, l2: float) -> Value:
    """One pass over the coordinates a round, until the projected gradients are ``tol`` of what they were at first."""
    components, builder = est.components_, c.builder
    count, tol = len(components), est.tol
    transposed = np.ascontiguousarray(components.T)
    gram = np.dot(transposed.T, transposed)  # as scikit-learn has it: the same bits
    if l2 != 0.0:
        gram.flat[:: count + 1] += l2
    product = affine(x, transposed)
    product = product - l1 if l1 != 0.0 else product
    orders = _orders(c, est, count)

    def body(state: Value, product: Value) -> tuple[Value, Value]:
        b = state.builder
        weights = [state.select([t]) for t in range(count)]
        first, passes = state.select([count]), state.select([count + 1])
        violation: Value | None = None
        if orders is None:
            for t in range(count):
                gradient = _gradient(product.select([t]), b.concat(weights) * gram[t])
                weights[t], size = _step(weights[t], gradient, gram[t, t])
                violation = size if violation is None else violation + size
            after = b.concat(weights)
        else:
            after = state.select(slice(0, count))
            at = passes.cast("int64")
            for s in range(count):
                which = b.take(at, orders[:, s])
                here = b.one_hot(which, count, state.dtype)
                gradient = _gradient(b.sum(product * here), after * b.take(which, gram))
                chosen, size = _step(b.sum(after * here), gradient, b.take(which, np.diag(gram)))
                after = b.where(here > 0.5, chosen, after)
                violation = size if violation is None else violation + size
        assert violation is not None
        first = b.where(b.is_nan(first), violation, first)
        return b.concat([after, first, passes + 1.0]), ~((first == 0.0) | (violation / first <= tol))

    start = builder.constant([0.0] * count + [np.nan, 0.0], x.dtype)
    return builder.loop(start, [product], est.max_iter, body).select(slice(0, count))


def _orders(c: Conversion, est: Any, count: int) -> Array | None:
    """The coordinates in the order of each round, int64 (rounds, count); None where that is their own."""
    if not est.shuffle:
        return None
    if not isinstance(est.random_state, (int, np.integer)):
        raise c.refuse(
            est,
            "random_state",
            est.random_state,
            "with shuffle=True the answer depends on random numbers: set random_state to an integer, or shuffle=False",
        )
    rng = np.random.RandomState(est.random_state)
    return np.stack([rng.permutation(count) for _ in range(est.max_iter)]).astype(np.int64)


def _gradient(product: Value, terms: Value) -> Value:
    """The terms added one by one to minus the product."""
    return product.builder.sum(product.builder.concat([-product, terms]))


def _step(weight: Value, gradient: Value, curvature: Any) -> tuple[Value, Value]:
    """A coordinate after Newton's step down to zero, and the size of its projected gradient."""
    b = weight.builder
    size = b.abs(b.where(weight == 0.0, b.minimum(gradient, 0.0), gradient))
    if isinstance(curvature, Value):
        return b.where(curvature == 0.0, weight, b.maximum(weight - gradient / curvature, 0.0)), size
    return (b.maximum(weight - gradient / float(curvature), 0.0) if curvature != 0 else weight), size


# --- multiplicative updates ---------------------------------------------------------------------------------
def _power(x: Value, exponent: float) -> Value:
    """x ** exponent, as NumPy computes it: its shortcuts for the simple ones."""
    b = x.builder
    if exponent == 1.0:
        return x
    if exponent == -1.0:
        return 1.0 / x
    if exponent == 2.0:
        return x * x
    if exponent == 0.5:
        return b.sqrt(x)
    return b.pow(x, exponent)


class _Update:
    """Multiplicative updates of a row's weights, as Fevotte and Idier (2011) have them, and the divergence."""

    def __init__(self, components: Array, beta: float, l1: float, l2: float) -> None:
        self.components, self.beta, self.l1, self.l2 = components, beta, l1, l2
        self.transposed = np.ascontiguousarray(components.T)
        self.gamma = 1.0 / (2.0 - beta) if beta < 1 else 1.0 / (beta - 1.0) if beta > 2 else 1.0

    def next(self, weights: Value, x: Value) -> Value:
        """The weights after one update."""
        b, beta = weights.builder, self.beta
        if beta == 2:
            numerator = affine(x, self.transposed)
            denominator = affine(weights, self.components @ self.transposed)
        else:
            plain = affine(weights, self.components)
            safe = _at_least(plain, _EPSILON) if beta < 2 else plain
            if beta == 1:
                quotient = x / safe
            elif beta == 0:
                inverse = 1.0 / safe
                quotient = inverse * inverse * x
            else:
                quotient = _power(safe, beta - 2) * x
            numerator = affine(quotient, self.transposed)
            if beta == 1:
                denominator = b.constant(self.components.sum(axis=1))
            else:
                bounded = _at_least(plain, _EPSILON) if beta < 1 else plain
                denominator = affine(_power(bounded, beta - 1), self.transposed)
        if self.l1 > 0:
            denominator = denominator + self.l1
        if self.l2 > 0:
            denominator = denominator + self.l2 * weights
        denominator = b.where(denominator == 0.0, _EPSILON, denominator)
        return weights * _power(numerator / denominator, self.gamma)

    def divergence(self, weights: Value, x: Value) -> Value:
        """The square root of twice the beta-divergence of a row and what its weights make of the components."""
        b, beta = weights.builder, self.beta
        plain = affine(weights, self.components)
        if beta == 2:
            rest = x - plain
            return b.sqrt(b.sum(rest * rest))
        counts = x > _EPSILON
        safe = _at_least(plain, _EPSILON)
        if beta == 1:
            terms = b.sum(b.where(counts, x * b.log(b.where(counts, x / safe, 1.0)), 0.0))
            total = b.sum(weights * self.components.sum(axis=1)) - b.sum(b.where(counts, x, 0.0))
            result = terms + total
        elif beta == 0:
            quotient = b.where(counts, x / safe, 0.0)
            logs = b.log(b.where(counts, x / safe, 1.0))
            result = b.sum(quotient) - float(x.width) - b.sum(logs)
        else:
            crossed = b.sum(b.where(counts, x * _power(safe, beta - 1), 0.0))
            own = b.sum(b.where(counts, _power(x, beta), 0.0))
            made = b.sum(_power(plain, beta))
            result = (own - beta * crossed + made * (beta - 1)) / (beta * (beta - 1))
        return b.sqrt(2.0 * b.maximum(result, 0.0))


def _at_least(x: Value, least: float) -> Value:
    """x, or ``least`` where x is below it."""
    return x.builder.where(x < least, least, x)


def _multiplicative(est: Any, x: Value, beta: float, l1: float, l2: float) -> Value:
    """Updates, and after every ten of them the question whether the divergence still falls by ``tol`` of the first."""
    b, count, tol = x.builder, len(est.components_), est.tol
    update = _Update(est.components_, beta, l1, l2)
    first = _average(est, x)
    if tol <= 0:
        return _rounds(update, first, x, est.max_iter)
    groups, rest = divmod(est.max_iter, _BETWEEN_CHECKS)
    at_first = update.divergence(first, x)

    def body(state: Value, x: Value, at_first: Value) -> tuple[Value, Value]:
        weights, before = state.select(slice(0, count)), state.select([count])
        after = _rounds(update, weights, x, _BETWEEN_CHECKS)
        error = update.divergence(after, x)
        done = (before - error) / at_first < tol
        inner = state.builder
        return inner.concat([after, error, done.cast(state.dtype)]), ~done

    state = b.concat([first, at_first, b.constant([0.0], x.dtype)])
    state = b.loop(state, [x, at_first], groups, body) if groups else state
    weights, done = state.select(slice(0, count)), state.select([count + 1])
    return b.where(done > 0.5, weights, _rounds(update, weights, x, rest)) if rest else weights


def _rounds(update: _Update, weights: Value, x: Value, rounds: int) -> Value:
    """The weights after so many updates."""
    tiny = float(np.finfo(np.float64).eps)

    def body(weights: Value, x: Value) -> tuple[Value, Value]:
        b = weights.builder
        after = update.next(weights, x)
        if update.beta < 1:
            after = b.where(after < tiny, 0.0, after)
        return after, b.constant([True])

    return weights.builder.loop(weights, [x], rounds, body)


# --- latent Dirichlet allocation ----------------------------------------------------------------------------
@converter(
    "sklearn.LatentDirichletAllocation",
    honours=("doc_topic_prior", "max_doc_update_iter", "mean_change_tol"),
    ignores=(
        "n_components", "topic_word_prior", "learning_method", "learning_decay", "learning_offset", "max_iter",
        "batch_size", "evaluate_every", "total_samples", "perp_tol", "n_jobs", "verbose", "random_state",
    ),
    note="iterates to a tolerance (1e-6)",
)  # fmt: skip
def latent_dirichlet_allocation(c: Conversion, est: Any, X: Block) -> Outputs:
    """Topics of a document: the E step of variational Bayes, then a sum of one."""
    x = _not_negative(c, est, X.matrix(c, est))
    words = est.exp_dirichlet_component_.astype(np.float64)
    count, eps = len(words), float(np.finfo(x.dtype).eps)
    transposed, prior = np.ascontiguousarray(words.T), est.doc_topic_prior_

    def body(state: Value, x: Value) -> tuple[Value, Value]:
        b = state.builder
        before, expected = state.select(slice(0, count)), state.select(slice(count, 2 * count))
        norm = affine(expected, words) + eps
        after = expected * affine(x / norm, transposed) + prior
        change = b.sum(b.abs(before - after)) / float(count)
        return b.concat([after, _expectation(after)]), ~(change < est.mean_change_tol)

    start = c.builder.constant(np.ones(count))
    state = c.builder.concat([start, _expectation(start)])
    if est.max_doc_update_iter:
        state = c.builder.loop(state, [x.cast("float64")], est.max_doc_update_iter, body)
    topics = state.select(slice(0, count))
    return {"transform": Block((topics / c.builder.sum(topics)).cast(x.dtype))}


def _expectation(topics: Value) -> Value:
    """exp(E[log theta]) of Dirichlet's distribution: exp(psi(topics) - psi(their sum))."""
    b = topics.builder
    psi = _psi(b, b.concat([topics, b.sum(topics)]))
    return b.exp(psi.select(slice(0, topics.width)) - psi.select([topics.width]))


def _psi(b: Builder, x: Value) -> Value:
    """scikit-learn's digamma (_online_lda_fast.pyx), which is good to some digits only: Bernardo, AS 103 (1976)."""
    small, result = x <= 1e-6, x * 0.0
    at: Value = x
    for _ in range(6):
        below = at < 6.0
        result = b.where(below, result - 1.0 / at, result)
        at = b.where(below, at + 1.0, at)
    r = 1.0 / at
    result = result + (b.log(at) - 0.5 * r)
    r = r * r
    result = result - r * (1.0 / 12.0 - r * (1.0 / 120.0 - r * (1.0 / 252.0)))
    return b.where(small, -np.euler_gamma - 1.0 / x, result)

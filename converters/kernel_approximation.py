"""Random features of kernels, and random projections.

In comes a Block of numbers, out goes ``transform``: products with the fitted random matrices, and cosines, in
scikit-learn's order of operations.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeml.converters.block import Block, BlockForm
from edgeml.converters.products import affine, numeric, weight_of
from edgeml.converters.registry import Conversion, Outputs, converter
from edgeml.ir import Value


def _cosines(x: Value, est: Any, factor: float) -> Block:
    """cos(x @ random_weights_ + random_offset_) * factor."""
    y = affine(x, est.random_weights_, est.random_offset_, in_place=True)
    return Block((x.builder.cos(y) * np.full(1, factor)).cast(y.dtype))


@converter("sklearn.RBFSampler", honours=("gamma", "n_components"), ignores=("random_state",))
def rbf_sampler(c: Conversion, est: Any, X: Block) -> Outputs:
    """Random Fourier features: gamma is part of the weights."""
    return {"transform": _cosines(numeric(c, est, X), est, (2.0 / est.n_components) ** 0.5)}


@converter("sklearn.SkewedChi2Sampler", honours=("skewedness", "n_components"), ignores=("random_state",))
def skewed_chi2_sampler(c: Conversion, est: Any, X: Block) -> Outputs:
    """Random Fourier features of log(x + skewedness); cells at or below -skewedness are refused."""
    x = X.matrix(c, est)
    message = f"{c.place(est)} was given a cell below -skewedness, which scikit-learn refuses too"
    x = c.builder.require(x, x > -float(est.skewedness), message)
    x = c.builder.log(x + float(est.skewedness))
    return {"transform": _cosines(x, est, float(np.sqrt(2.0) / np.sqrt(est.n_components)))}


@converter("sklearn.AdditiveChi2Sampler", honours=("sample_steps", "sample_interval"))
def additive_chi2_sampler(c: Conversion, est: Any, X: Block) -> Outputs:
    """Samples of the spectrum of the additive chi2 kernel, column by column; 0 stays 0, negative cells are refused."""
    b = c.builder
    x = numeric(c, est, X)
    form: BlockForm = "sparse" if X.form == "sparse" else "array"
    if x.dtype == "bool":  # stored as such: roots and cosines of a true cell are true, its sines are 0
        return {"transform": Block(x, *[x, x & ~x] * (est.sample_steps - 1), form=form)}
    message = f"{c.place(est)} was given a negative cell, which scikit-learn refuses too"
    x = b.require(x, x >= np.zeros(1, dtype=x.dtype), message)
    interval = est.sample_interval or {1: 0.8, 2: 0.5, 3: 0.4}[est.sample_steps]
    zero = x == np.zeros(1, dtype=x.dtype)
    dtype = x.dtype
    floats = "float32" if dtype == "float32" else "float64"
    cells = b.where(zero, np.ones(1, dtype=dtype), x)
    # Whole numbers are doubled as such: the largest of them wrap around.
    twice = (cells * np.full(1, 2, dtype=dtype)).cast(floats) * float(interval)
    positive = cells.cast(floats)
    nothing = np.zeros(1, dtype=floats)
    log = b.log(positive) * float(interval)

    def stored(value: Value) -> Value:
        """As scikit-learn stores it: in an array like X, so whole numbers stay whole."""
        return b.where(zero, nothing, value).cast(dtype)

    parts = [stored(b.sqrt(positive * float(interval)))]
    for j in range(1, est.sample_steps):
        factor = b.sqrt(twice.cast("float64") / np.cosh(np.pi * j * interval)).cast(positive.dtype)
        parts += [stored(factor * b.cos(log * float(j))), stored(factor * b.sin(log * float(j)))]
    return {"transform": Block(*parts, form=form)}


@converter(
    "sklearn.PolynomialCountSketch", honours=("gamma", "degree", "coef0", "n_components"), ignores=("random_state",)
)
def polynomial_count_sketch(c: Conversion, est: Any, X: Block) -> Outputs:
    """The circular convolution of the count sketches of sqrt(gamma) x.

    scikit-learn takes the way through Fourier transforms. Sums give the same but for rounding, and 0 where nothing
    falls; of a product that overflows its transform leaves NaN, all over the row.
    """
    b = c.builder
    x = numeric(c, est, X).cast("float64") * float(np.sqrt(est.gamma))
    if est.coef0 != 0:
        x = b.concat([x, b.constant(np.array([np.sqrt(est.coef0)]))])
    n = est.n_components
    # Of degree 1 too there is a convolution, with 1 at the first place: the transform's rounding is told by it.
    product: Value | None = b.constant(np.eye(1, n)[0]) if est.degree == 1 else None
    size = b.constant(np.ones(1))
    for hashes, signs in zip(est.indexHash_, est.bitHash_, strict=True):
        weight = np.zeros((x.width, n))
        weight[np.arange(x.width), hashes] = signs
        sketch = b.linear(x, weight)
        product = sketch if product is None else b.op("Convolve", product, sketch)
        size = b.sum(b.abs(sketch)) * size
    assert product is not None  # the degree is at least 1
    return {"transform": Block(b.where(size < np.inf, product, np.full(1, np.nan)))}


@converter(
    "sklearn.GaussianRandomProjection",
    honours=("n_components",),
    ignores=("eps", "compute_inverse_components", "random_state"),
)
def gaussian_random_projection(c: Conversion, est: Any, X: Block) -> Outputs:
    """x @ components_.T."""
    return {"transform": Block(affine(X.matrix(c, est), weight_of(est.components_)))}


@converter(
    "sklearn.SparseRandomProjection",
    honours=("n_components", "density", "dense_output"),
    ignores=("eps", "compute_inverse_components", "random_state"),
)
def sparse_random_projection(c: Conversion, est: Any, X: Block) -> Outputs:
    """x @ components_.T; components_ is sparse, and so is the result of a sparse matrix unless dense_output."""
    sparse = X.form == "sparse" and not est.dense_output
    y = affine(X.matrix(c, est), weight_of(est.components_))
    return {"transform": Block(y, form="sparse" if sparse else "array")}

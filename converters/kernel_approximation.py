"""Random features of kernels, and random projections.

In comes a Block of numbers, out goes ``transform``: products with the fitted random matrices, cosines and count sketches in
scikit-learn's order of operations.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeml.converters.block import Block
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
    message = f"{c.place(est)} was given a negative cell, which scikit-learn refuses too"
    x = b.require(x, x >= np.zeros(1, dtype=x.dtype), message)
    interval = est.sample_interval or {1: 0.8, 2: 0.5, 3: 0.4}[est.sample_steps]
    zero = x == np.zeros(1, dtype=x.dtype)
    dtype, whole = x.dtype, x.dtype == "int64"
    positive = b.where(zero, np.ones(1, dtype=dtype), x).cast("float64" if whole else dtype)
    nothing = np.zeros(1, dtype=positive.dtype)
    log, twice = b.log(positive) * float(interval), positive * 2.0 * float(interval)

    def stored(value: Value) -> Value:
        """As scikit-learn stores it: in an array like X, so whole numbers stay whole."""
        return b.where(zero, nothing, value).cast(dtype)

    parts = [stored(b.sqrt(positive * float(interval)))]
    for j in range(1, est.sample_steps):
        factor = b.sqrt((twice.cast("float64") / np.cosh(np.pi * j * interval))).cast(positive.dtype)
        parts += [stored(factor * b.cos(log * float(j))), stored(factor * b.sin(log * float(j)))]
    return {"transform": Block(*parts, form="sparse" if X.form == "sparse" else "array")}


@converter(
    "sklearn.PolynomialCountSketch", honours=("gamma", "degree", "coef0", "n_components"), ignores=("random_state",)
)
def polynomial_count_sketch(c: Conversion, est: Any, X: Block) -> Outputs:
    """The circular convolution of the count sketches of sqrt(gamma) x, by their Fourier transforms."""
    b = c.builder
    x = numeric(c, est, X).cast("float64") * float(np.sqrt(est.gamma))
    if est.coef0 != 0:
        x = b.concat([x, _every_row(x, float(np.sqrt(est.coef0)))])
    n = est.n_components
    angles = -2.0 * np.pi * (np.outer(np.arange(n), np.arange(n)) % n) / n
    cosine, sine = np.cos(angles), np.sin(angles)
    real, imaginary = None, None
    for hashes, signs in zip(est.indexHash_, est.bitHash_, strict=True):
        # Row j of the sketch's matrix has the sign of column j at its hash: its transform is a row of the DFT.
        re = b.linear(x, signs[:, None].astype(np.float64) * cosine[hashes])
        im = b.linear(x, signs[:, None].astype(np.float64) * sine[hashes])
        if real is None or imaginary is None:
            real, imaginary = re, im
        else:
            real, imaginary = real * re - imaginary * im, real * im + imaginary * re
    assert real is not None  # the degree is at least 1
    assert imaginary is not None
    # The inverse transform's real part; its kernel is the conjugate of the other's.
    return {"transform": Block(b.linear(real, cosine / n) + b.linear(imaginary, sine / n))}


def _every_row(x: Value, cell: float) -> Value:
    """A column of one number."""
    return x.builder.constant(np.array([cell], dtype=x.dtype))


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

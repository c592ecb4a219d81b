"""Transformers of columns, samplers and projections: refusals by name, and rows that the variants do not hold."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.kernel_approximation import AdditiveChi2Sampler, SkewedChi2Sampler
from sklearn.preprocessing import (
    KBinsDiscretizer,
    LabelBinarizer,
    LabelEncoder,
    MultiLabelBinarizer,
    PowerTransformer,
    QuantileTransformer,
    SplineTransformer,
)

import edgeml
from edgeml.converters.block import Block
from edgeml.converters.registry import Conversion
from edgeml.errors import InputError, UnsupportedEstimatorError, UnsupportedParameterError
from edgeml.ir import Builder, interpreter
from tests.oracle import converted

RNG = np.random.default_rng(5)
X = RNG.normal(size=(80, 3)) * [1.0, 10.0, 0.1]


def program(est, width=3, dtype="float64"):
    builder = Builder()
    x = builder.input("X", dtype, width)
    out = Conversion(builder).convert(est, Block(x), "")["transform"]
    builder.output("transform", list(out.values), "matrix", out.values[0].dtype)
    return builder.finish()


def answers(est, rows):
    rows = np.asarray(rows)
    return interpreter.run(program(est, rows.shape[1], rows.dtype.name), {"X": rows})["transform"]


@pytest.mark.parametrize(
    ("est", "reason"),
    [
        (LabelEncoder().fit(["a", "b"]), "it encodes targets y, not rows X"),
        (LabelBinarizer().fit(["a", "b", "c"]), "it encodes targets y"),
        (MultiLabelBinarizer().fit([["a"], ["b"]]), "it encodes targets y"),
    ],
)
def test_what_cannot_be_compiled_is_refused_by_name(est, reason):
    for refuse in (lambda: program(est), lambda: edgeml.compile(est, ["a", "b"])):
        with pytest.raises(UnsupportedEstimatorError) as caught:
            refuse()
        assert type(est).__name__ in str(caught.value)
        assert reason in str(caught.value)
        assert "use OrdinalEncoder" in caught.value.remedy


@pytest.mark.parametrize(
    ("est", "row", "message"),
    [
        (PowerTransformer("box-cox").fit(np.exp(X)), [0.0, 1.0, 1.0], "a cell that is not positive"),
        (SkewedChi2Sampler(random_state=0).fit(np.exp(X)), [-1.0, 1.0, 1.0], "below -skewedness"),
        (AdditiveChi2Sampler().fit(np.exp(X)), [1.0, -1e-9, 1.0], "a negative cell"),
        (SplineTransformer(extrapolation="error").fit(X), [0.0, 1e3, 0.0], "beyond the limits of the knots"),
        (SplineTransformer(degree=0).fit(X), [9.0, 0.0, 0.0], "scikit-learn fails for degree=0"),
        (KBinsDiscretizer(encode="ordinal").fit(X), [np.nan, 0.0, 0.0], "nan"),
    ],
)
def test_rows_that_scikit_learn_refuses_are_refused(est, row, message):
    with pytest.raises(ValueError, match=r"."):
        est.transform([row])
    with pytest.raises(InputError, match=message):
        answers(est, [row])


@pytest.mark.parametrize("strategy", ["uniform", "quantile", "kmeans"])
def test_bins_on_and_beside_every_edge(strategy):
    est = KBinsDiscretizer(n_bins=4, encode="ordinal", strategy=strategy, random_state=0).fit(X)
    edges = np.stack(est.bin_edges_, axis=1)
    rows = np.concatenate(
        [edges, np.nextafter(edges, np.inf), np.nextafter(edges, -np.inf), [[1e300] * 3, [-1e300] * 3]]
    )
    np.testing.assert_array_equal(answers(est, rows), est.transform(rows))
    rows = rows[:-2].astype(np.float32)
    np.testing.assert_array_equal(answers(est, rows), est.transform(rows))


@pytest.mark.parametrize("distribution", ["uniform", "normal"])
def test_quantiles_that_repeat_are_met_from_both_sides(distribution):
    fitted = np.round(X)
    est = QuantileTransformer(n_quantiles=30, output_distribution=distribution).fit(fitted)
    knots = np.unique(est.quantiles_)[:, None].repeat(3, axis=1)
    rows = np.concatenate(
        [knots, np.nextafter(knots, np.inf), np.nextafter(knots, -np.inf), knots + 0.37, [[np.nan] * 3]]
    )
    np.testing.assert_allclose(answers(est, rows), est.transform(rows), rtol=1e-10)


@pytest.mark.parametrize("extrapolation", ["constant", "linear", "continue", "periodic"])
@pytest.mark.parametrize("degree", [1, 2, 3, 5])
def test_splines_on_and_beside_every_knot(extrapolation, degree):
    est = SplineTransformer(n_knots=7, degree=degree, extrapolation=extrapolation).fit(X)
    knots = np.stack([s.t for s in est.bsplines_], axis=1)
    far = np.array([[1e3, -1e3, 7.0], [-1e3, 1e3, -7.0]])
    rows = np.concatenate([knots, np.nextafter(knots, np.inf), np.nextafter(knots, -np.inf), far])
    want = est.transform(rows)
    np.testing.assert_allclose(answers(est, rows), want, rtol=1e-12, atol=1e-13 * np.abs(want).max())


def test_splines_of_knots_that_repeat():
    fitted = np.round(X)
    est = SplineTransformer(n_knots=6, knots="quantile", extrapolation="continue").fit(fitted)
    np.testing.assert_allclose(answers(est, fitted), est.transform(fitted), rtol=1e-12, atol=1e-13)


def test_a_none_among_numbers_cannot_be_told_from_nan():
    from sklearn.preprocessing import TargetEncoder

    cells = np.array([[1.0], [2.0], [None]] * 10, dtype=object)
    est = TargetEncoder(cv=2).fit(cells, np.arange(30.0))
    with pytest.raises(UnsupportedParameterError, match="TargetEncoder"):
        program(est, 1)


@pytest.mark.parametrize("extrapolation", ["continue", "periodic", "error"])
def test_a_missing_cell_that_depends_on_the_batch_is_refused(extrapolation):
    rows = np.random.default_rng(3).normal(size=(60, 2))
    rows[::7, 1] = np.nan
    est = SplineTransformer(sparse_output=True, handle_missing="zeros", extrapolation=extrapolation).fit(rows)
    with pytest.raises(UnsupportedParameterError, match="sparse_output=True"):
        converted(est, rows)
    if extrapolation == "error":  # a row that is refused alone, and answered among others
        with pytest.raises(UnsupportedParameterError, match="depends on the other rows"):
            edgeml.compile(est, rows[::-1][4:])

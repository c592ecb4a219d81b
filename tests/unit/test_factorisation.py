"""Factorisations and sparse codes: rows and parameters that variants do not show."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import NMF, DictionaryLearning, LatentDirichletAllocation, MiniBatchNMF, SparseCoder

from edgeml.compare import compare
from edgeml.converters import to_program
from edgeml.errors import InputError
from edgeml.ir.interpreter import run
from edgeml.parity.truth import ask
from edgeml.sample import read_sample

pytestmark = [
    # Short fits do not converge; answers are compared, not quality.
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]


def answers(model, X):
    program = to_program(model, read_sample(model, X).schema, {"transform": ("matrix", "<f8")})
    return run(program, {"X": X})["transform"]


def expected(model, X):
    return ask(model, read_sample(model, X), ["transform"]).outputs["transform"]


def counts(rows=50, columns=6, seed=0):
    return np.random.default_rng(seed).poisson(1.0, (rows, columns)).astype(np.float64)


@pytest.mark.parametrize(
    "model",
    [
        NMF(4, init="nndsvda"),
        NMF(4, init="nndsvda", solver="mu"),
        MiniBatchNMF(4, random_state=0),
        LatentDirichletAllocation(4, random_state=0, max_iter=2),
    ],
    ids=lambda model: type(model).__name__ + getattr(model, "solver", ""),
)
@pytest.mark.parametrize("row", [[0.0] * 6, [0, 0, 0, 0, 0, 1], [1e6, 0, 0, 2, 0, 0], [1e-9] * 6, [3.0] * 6])
def test_rows_at_the_edge(model, row):
    X = counts()
    model.fit(X)
    asked = np.array([row, X[0]], dtype=np.float64)
    np.testing.assert_allclose(answers(model, asked), expected(model, asked), rtol=1e-6, atol=1e-12)


def test_components_of_nothing_keep_their_weight():
    """A component without a size is not moved by coordinate descent."""
    model = NMF(3, init="nndsvda").fit(counts())
    model.components_[1] = 0.0
    X = counts(seed=2)
    np.testing.assert_allclose(answers(model, X), expected(model, X), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("rounds", [1, 9, 10, 11, 25])
def test_multiplicative_updates_are_asked_every_tenth(rounds):
    X = counts()
    model = NMF(3, init="nndsvda", solver="mu", max_iter=rounds, tol=1e-2).fit(X)
    np.testing.assert_allclose(answers(model, X), expected(model, X), rtol=1e-9, atol=1e-14)


def test_negative_cells_and_zeros_are_refused():
    X = counts()
    models = [
        NMF(2, init="nndsvda").fit(X),
        NMF(2, init="nndsvda", solver="mu", beta_loss=0).fit(X + 1.0),
        LatentDirichletAllocation(2, random_state=0, max_iter=1).fit(X),
    ]
    for model in models:
        for row in ([1.0, 1, 2, 1, 3, 1], [1.0, 1, 2, -1, 3, 1], [1.0, 0, 2, 1, 3, 1], [1.0, 1, np.nan, 1, 3, 1]):
            asked = np.array([row])
            try:
                model.transform(asked)
            except ValueError:
                with pytest.raises(InputError, match=type(model).__name__):
                    answers(model, asked)
            else:
                answers(model, asked)


def dictionary(atoms, columns, seed=0):
    found = np.random.default_rng(seed).normal(size=(atoms, columns))
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.mark.parametrize("algorithm", ["omp", "lars", "lasso_lars", "lasso_cd"])
@pytest.mark.parametrize("atoms", [1, 3, 12])
@pytest.mark.parametrize("columns", [2, 9])
def test_sparse_codes_of_many_shapes(algorithm, atoms, columns):
    X = np.random.default_rng(1).normal(size=(30, columns))
    X[0] = 0.0
    count = {"transform_n_nonzero_coefs": min(atoms, columns)} if algorithm in ("omp", "lars") else {}
    penalty = {"transform_alpha": 0.2} if algorithm.startswith("lasso") else {}
    model = SparseCoder(dictionary(atoms, columns), transform_algorithm=algorithm, **count, **penalty).fit(X)
    np.testing.assert_allclose(answers(model, X), expected(model, X), rtol=1e-6, atol=1e-9)


def test_equal_atoms():
    """Two atoms that are one: the pursuit takes the first, and no second one that adds nothing."""
    atoms = dictionary(4, 6)
    atoms[2] = atoms[1]
    X = np.random.default_rng(1).normal(size=(30, 6))
    for algorithm in ("omp", "lasso_cd"):
        given = {"transform_n_nonzero_coefs": 4} if algorithm == "omp" else {"transform_alpha": 0.1}
        model = SparseCoder(atoms, transform_algorithm=algorithm, **given).fit(X)
        np.testing.assert_allclose(answers(model, X), expected(model, X), rtol=1e-6, atol=1e-9)


def test_the_penalty_of_training_is_that_of_codes_unless_another_is_given():
    X = np.random.default_rng(1).normal(size=(30, 6))
    options = {"n_components": 3, "max_iter": 3, "random_state": 0, "transform_algorithm": "threshold", "alpha": 0.5}
    for given in (None, 0.1):
        model = DictionaryLearning(transform_alpha=given, **options).fit(X)
        np.testing.assert_allclose(answers(model, X), expected(model, X), rtol=1e-9, atol=1e-14)


def test_codes_of_float32_are_searched_in_float32():
    """float32 decides which atoms count, and for how long: of a search in float64 37 cells are off, not 8."""
    off, largest = 0, 0.0
    for seed in range(3, 7):
        X = np.random.default_rng(seed).normal(size=(60, 6)).astype(np.float32)
        options = {"transform_algorithm": "lasso_cd", "transform_alpha": 0.1, "split_sign": True, "n_components": 4}
        off += int((np.abs(np.subtract(*_codes_of_float32(X, options))) > 1e-6).sum())
        options = {"transform_algorithm": "lasso_lars", "transform_alpha": 0.3, "n_components": 3}
        largest = max(largest, compare(*_codes_of_float32(X, options), "transform").max_rel)
    assert off < 20
    assert largest < 4e-4  # 1e-3 without the decimals that scikit-learn rounds to


def _codes_of_float32(X, options):
    model = DictionaryLearning(max_iter=5, random_state=0, **options).fit(X)
    want = model.transform(X)
    program = to_program(model, read_sample(model, X).schema, {"transform": ("matrix", want.dtype.str)})
    return want, run(program, {"X": X})["transform"]

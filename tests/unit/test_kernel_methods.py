"""Kernel methods: what is refused and with which way out, fits on sparse rows, many classes, votes that tie."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.decomposition import KernelPCA
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, DotProduct, PairwiseKernel
from sklearn.kernel_approximation import Nystroem
from sklearn.kernel_ridge import KernelRidge
from sklearn.svm import SVC, SVR, NuSVC, OneClassSVM

import edgeml
from edgeml.errors import InputError, NotFittedError, UnsupportedParameterError

RNG = np.random.default_rng(0)
X = np.abs(RNG.normal(size=(90, 3)))
Y = np.arange(90) % 3
NEW = np.abs(RNG.normal(size=(40, 3)))


def similarity(a, b):
    return a @ b.T


class OwnKernel(RBF):
    """A covariance function that is not scikit-learn's."""


def compiled(model, tmp_path, rows=X, formats=("native", "onnx")):
    edgeml.compile(model, rows, output=tmp_path / "m.edgeml", formats=list(formats)).close()
    return [edgeml.load(tmp_path / "m.edgeml", engine=name) for name in formats]


# --- refusals -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("model", "parameter", "remedy"),
    [
        (SVC(kernel=similarity), "SVC(kernel=", "kernel='precomputed'"),
        (NuSVC(kernel=similarity, nu=0.2), "NuSVC(kernel=", "kernel='precomputed'"),
        (SVR(kernel=similarity), "SVR(kernel=", "kernel='precomputed'"),
        (OneClassSVM(kernel=similarity), "OneClassSVM(kernel=", "kernel='precomputed'"),
        (KernelRidge(kernel=lambda a, b: float(a @ b)), "KernelRidge(kernel=", "use a kernel by name (linear, poly"),
        (KernelPCA(kernel=lambda a, b: float(a @ b)), "KernelPCA(kernel=", "use a kernel by name (linear, poly"),
        (Nystroem(kernel=lambda a, b: float(a @ b), n_components=5), "Nystroem(kernel=", "use a kernel by name"),
        (GaussianProcessRegressor(OwnKernel(), optimizer=None), "GaussianProcessRegressor(kernel=", "compose it of"),
        (
            GaussianProcessRegressor(
                PairwiseKernel(metric=lambda a, b, gamma: float(a @ b)), alpha=1.0, optimizer=None
            ),
            "GaussianProcessRegressor(kernel=",
            "use a kernel by name",
        ),
    ],
    ids=lambda x: type(x).__name__ if hasattr(x, "fit") else None,
)
def test_kernels_that_are_functions_are_refused(model, parameter, remedy, tmp_path):
    model.fit(X, Y)
    with pytest.raises(UnsupportedParameterError) as caught:
        edgeml.compile(model, X, output=tmp_path / "m.edgeml", formats=["native"])
    assert parameter in str(caught.value)
    assert remedy in str(caught.value)


def test_ties_cannot_be_broken_between_pairs(tmp_path):
    """scikit-learn refuses every row of this model, and so does compiling it."""
    model = SVC(break_ties=True, decision_function_shape="ovo").fit(X, Y)
    with pytest.raises(edgeml.errors.EdgeMLError, match="break_ties"):
        edgeml.compile(model, X, output=tmp_path / "m.edgeml", formats=["native"])


def test_a_process_of_pairs_of_classes_has_labels_only(tmp_path):
    model = GaussianProcessClassifier(RBF(), multi_class="one_vs_one", optimizer=None).fit(X, Y)
    for engine in compiled(model, tmp_path):
        with engine:
            assert list(engine.manifest["methods"]) == ["predict"]
            np.testing.assert_array_equal(engine.predict(NEW), model.predict(NEW))


def test_a_process_that_is_not_fitted_is_refused(tmp_path):
    with pytest.raises(NotFittedError, match="GaussianProcessRegressor"):
        edgeml.compile(GaussianProcessRegressor(), X, output=tmp_path / "m.edgeml", formats=["native"])


def test_negative_rows_have_no_chi_squared_kernel(tmp_path):
    model = KernelRidge(kernel="chi2", gamma=0.5).fit(X, Y)
    for engine in compiled(model, tmp_path):
        with engine:
            np.testing.assert_allclose(engine.predict(NEW), model.predict(NEW), rtol=1e-9)
            with pytest.raises(InputError):
                engine.predict(-NEW)


# --- what variants do not show --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "model",
    [
        SVC(),
        SVC(kernel="linear", probability=True, random_state=0),
        SVR(),
        OneClassSVM(nu=0.2),
        KernelRidge(kernel="rbf"),
        KernelRidge(kernel="cosine"),
        KernelPCA(n_components=2),
        Nystroem(n_components=5, random_state=0),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:The `probability` parameter:FutureWarning")
def test_fits_on_sparse_rows(model, tmp_path):
    sparse = csr_matrix(np.where(X > 0.8, X, 0.0))
    model.fit(sparse, Y)
    for engine in compiled(model, tmp_path):
        with engine:
            for method in ("predict", "decision_function", "predict_proba", "transform"):
                if hasattr(model, method):
                    expected = getattr(model, method)(NEW)
                    np.testing.assert_allclose(getattr(engine, method)(NEW), expected, rtol=1e-9, atol=1e-9)


def test_no_support_vectors(tmp_path):
    model = SVR(epsilon=1e3).fit(X, Y)
    assert not len(model.support_)
    for engine in compiled(model, tmp_path):
        with engine:
            np.testing.assert_array_equal(engine.predict(NEW), model.predict(NEW))


def test_pairs_of_many_classes_have_a_matrix_a_class(tmp_path, monkeypatch):
    """Labels and scores do not depend on how the coefficients are laid out."""
    monkeypatch.setattr("edgeml.converters.svm._MOST_CELLS", 0)
    for shape in ("ovr", "ovo"):
        model = SVC(decision_function_shape=shape).fit(X, np.arange(90) % 7)
        for engine in compiled(model, tmp_path):
            with engine:
                np.testing.assert_array_equal(engine.predict(NEW), model.predict(NEW))
                np.testing.assert_allclose(engine.decision_function(NEW), model.decision_function(NEW), rtol=1e-9)


def test_a_pair_at_zero_is_won_by_its_second_class(tmp_path):
    """libsvm's votes and scikit-learn's scores differ there; kernel values of whole numbers are exact."""
    model = SVC(kernel="precomputed").fit(np.eye(6), [0, 0, 1, 1, 2, 2])
    rows = np.array([[0.0] * 6, [1.0, 0, 1, 0, 1, 0], [0, 0, 1.0, 0, 0, 0]])
    assert (model._dense_decision_function(rows)[0] == 0.0).any()
    for engine in compiled(model, tmp_path, np.eye(6)):
        with engine:
            np.testing.assert_array_equal(engine.predict(rows), model.predict(rows))
            np.testing.assert_allclose(engine.decision_function(rows), model.decision_function(rows), rtol=1e-12)


def test_products_of_whole_numbers_wrap_around(tmp_path):
    """A DotProduct of int64 rows is numpy.inner's, modulo 2**64."""
    whole = RNG.integers(0, 9, (30, 3))
    model = GaussianProcessRegressor(DotProduct(), alpha=1.0, optimizer=None).fit(whole, whole.sum(axis=1))
    rows = np.array([[1, 2, 3], [2**62, 2**61, 5], [-(2**61), 7, 2**62]])
    for engine in compiled(model, tmp_path, whole):
        with engine:
            np.testing.assert_allclose(engine.predict(rows), model.predict(rows), rtol=1e-9)


@pytest.mark.parametrize("number", [1 + 4e-9, 1 - 2e-8, 1 + 5e-8])
def test_a_scale_of_nearly_one_is_not_taken_for_one(number, tmp_path):
    """onnxruntime leaves a multiplication away whose factor is 1 in float32."""
    model = GaussianProcessRegressor(number * RBF(number), alpha=1e-6, optimizer=None).fit(X, X[:, 0])
    for engine in compiled(model, tmp_path):
        with engine:
            np.testing.assert_allclose(engine.predict(NEW), model.predict(NEW), rtol=1e-9)

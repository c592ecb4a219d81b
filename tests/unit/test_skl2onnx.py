"""The fallback: estimators that skl2onnx converts, with onnxruntime in the place of the ONNX target."""

import warnings
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.cluster import MiniBatchKMeans
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.ensemble import AdaBoostClassifier
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.mixture import GaussianMixture
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, PowerTransformer
from sklearn.svm import SVC, SVR, LinearSVC, OneClassSVM

from edgeml.converters import CONVERTERS, to_program
from edgeml.converters.registry import key_of
from edgeml.errors import ProgramError, UnsupportedEstimatorError, UnsupportedParameterError
from edgeml.ir import interpreter
from edgeml.ir.ops import OPS
from edgeml.schema import Column, Schema
from tests.oracle import assert_same, columns_of, converted, reference, schema_of

RNG = np.random.default_rng(9)
X = RNG.normal(size=(120, 3))
POSITIVE = np.abs(X) + 0.5


def target(classes):
    return np.array(["b", "a", "ccc"])[(X[:, 0] > 0).astype(int) + (X[:, 1] > 0.3) * (classes - 2)]


@pytest.fixture
def fallback(monkeypatch):
    """Runs OnnxGraph with onnxruntime, and sends estimators to skl2onnx even when they have a converter."""

    def run(*xs, model, output, width, dtype):
        session = onnxruntime.InferenceSession(model.tobytes(), providers=["CPUExecutionProvider"])
        feed = {entry.name: x for entry, x in zip(session.get_inputs(), xs, strict=True)}
        (result,) = session.run([output], feed)
        assert result.dtype == (object if dtype == "string" else dtype)
        return result.reshape(-1, width)

    monkeypatch.setitem(OPS, "OnnxGraph", replace(OPS["OnnxGraph"], evaluate=run))

    def without_converter(est):
        monkeypatch.delitem(CONVERTERS, key_of(est), raising=False)
        return est

    return without_converter


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(
    "est",
    [GaussianNB(), QuadraticDiscriminantAnalysis(), KNeighborsClassifier(3)],
    ids=lambda e: type(e).__name__,
)
def test_classifiers_in_float64(fallback, est, classes):
    y = target(classes)
    assert_methods(fallback(est.fit(X, y)), X, ["predict", "predict_proba"])
    assert_methods(fallback(est.fit(X, np.unique(y, return_inverse=True)[1] * 2)), X, ["predict", "predict_proba"])


def assert_methods(est, rows, methods, tolerance=1e-6):
    """Compare some methods with scikit-learn."""
    expected = {m: r for m, r in reference(est, rows).items() if m in methods}
    assert set(expected) == set(methods)
    returns = {m: ("vector" if r.ndim == 1 else "matrix", r.dtype.str) for m, r in expected.items()}
    program = to_program(est, schema_of(rows), returns)
    assert any(node.op == "OnnxGraph" for node in program.nodes)
    actual = interpreter.run(program, columns_of(rows, schema_of(rows)))
    for method, want in expected.items():
        assert actual[method].shape == want.shape
        if want.dtype.kind == "f":
            np.testing.assert_allclose(actual[method], want, rtol=tolerance, atol=tolerance)
        else:
            np.testing.assert_array_equal(actual[method], want)
    return program


def test_models_are_brought_to_one_opset(fallback):
    program = converted(fallback(SVR().fit(X, X[:, 0])), X)
    model = next(node for node in program.nodes if node.op == "OnnxGraph").attrs["model"]
    versions = {e.domain: e.version for e in onnx.load_from_string(model.tobytes()).opset_import}
    assert versions[""] == 21


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("est", [LinearDiscriminantAnalysis(), SVC(), LinearSVC()], ids=lambda e: type(e).__name__)
def test_decision_functions(fallback, est, classes):
    assert_methods(fallback(est.fit(X, target(classes))), X, ["predict", "decision_function"], 1e-4)


def test_without_a_float64_kernel_it_is_float32(fallback):
    program = assert_methods(fallback(SVR().fit(X, X[:, 0])), X, ["predict"], 1e-4)
    assert [n.attrs["to"] for n in program.nodes if n.op == "Cast"] == ["float32"]
    program = assert_methods(fallback(KNeighborsRegressor().fit(X, X[:, 0])), X, ["predict"])
    assert not [n for n in program.nodes if n.op == "Cast"]


def test_float32_rows_stay_float32(fallback):
    rows = X.astype(np.float32)
    program = assert_methods(fallback(GaussianNB().fit(rows, target(2))), rows, ["predict", "predict_proba"], 1e-4)
    assert not [n for n in program.nodes if n.op == "Cast"]


@pytest.mark.parametrize(
    ("est", "methods"),
    [
        (GaussianProcessRegressor(optimizer=None), ["predict"]),
        (MiniBatchKMeans(3, random_state=0, n_init=1), ["predict", "transform"]),
        (GaussianMixture(2, random_state=0), ["predict", "predict_proba", "score_samples"]),
        (OneClassSVM(), ["predict", "decision_function"]),
        (PolynomialFeatures(2), ["transform"]),
        (PowerTransformer("box-cox", standardize=False), ["transform"]),
    ],
    ids=lambda e: type(e).__name__,
)
def test_other_kinds(fallback, est, methods):
    y = X[:, 0] if isinstance(est, GaussianProcessRegressor) else None
    assert_methods(fallback(est.fit(POSITIVE, y)), POSITIVE, methods, 2e-4)


def test_a_method_skl2onnx_lacks_is_refused_only_when_it_is_asked_for(fallback):
    est = fallback(OneClassSVM().fit(X))
    with pytest.raises(UnsupportedParameterError, match="score_samples of OneClassSVM"):
        converted(est, X)


def test_string_columns(fallback):
    rows = np.array([["one", "x"], ["two", "y"], ["red", "x"]], dtype=object)
    est = fallback(OneHotEncoder(sparse_output=False).fit(rows))
    schema = Schema("columns", (Column("number", "string"), Column("letter", "string")))
    program = to_program(est, schema, {"transform": ("matrix", "f8")})
    got = interpreter.run(program, {"number": rows[:, 0], "letter": rows[:, 1]})["transform"]
    np.testing.assert_array_equal(got, est.transform(rows))


def test_strings_and_numbers_together_are_refused(fallback):
    est = fallback(GaussianNB().fit(X[:, :2], target(2)))
    schema = Schema("columns", (Column("text", "string"), Column("x", "float64")))
    with pytest.raises(UnsupportedEstimatorError, match="string columns and numbers together"):
        to_program(est, schema, {"predict": ("vector", "O")})


class Doubler(TransformerMixin, BaseEstimator):
    """A third-party transformer that skl2onnx knows nothing of until a converter is registered."""

    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return np.asarray(X) * 2.0

    def __sklearn_is_fitted__(self):
        return hasattr(self, "n_features_in_")


def test_an_estimator_nobody_knows_is_refused_by_name(fallback):
    with pytest.raises(UnsupportedEstimatorError, match=r"no converter for .*Doubler.*registered for this class"):
        converted(Doubler().fit(X), X)


def test_a_converter_that_a_third_party_registered(fallback, monkeypatch):
    from skl2onnx import _supported_operators, update_registered_converter
    from skl2onnx.common import _registration

    for pool in (_registration._converter_pool, _registration._shape_calculator_pool):
        monkeypatch.delitem(pool, "TestDoubler", raising=False)
    monkeypatch.delitem(_supported_operators.sklearn_operator_name_map, Doubler, raising=False)

    def shape(operator):
        operator.outputs[0].type = operator.inputs[0].type.__class__([None, operator.inputs[0].type.shape[1]])

    def convert(scope, operator, container):
        name = operator.inputs[0].full_name
        container.add_node("Add", [name, name], [operator.outputs[0].full_name], op_version=13, name="double")

    update_registered_converter(Doubler, "TestDoubler", shape, convert)
    assert_same(Doubler().fit(X), X)


class BrokenVoter(ClassifierMixin, BaseEstimator):
    classes_ = np.array([0, 1])

    def fit(self, X, y):
        return self

    def predict(self, X):
        return np.zeros(len(X), dtype=int)

    def __sklearn_is_fitted__(self):
        return True


def test_the_reason_of_a_failing_conversion_is_quoted(fallback, monkeypatch):
    from skl2onnx import _supported_operators, update_registered_converter
    from skl2onnx.common import _registration

    def shape(operator):
        raise RuntimeError("the voter is broken")

    for pool in (_registration._converter_pool, _registration._shape_calculator_pool):
        monkeypatch.delitem(pool, "TestBroken", raising=False)
    monkeypatch.delitem(_supported_operators.sklearn_operator_name_map, BrokenVoter, raising=False)
    update_registered_converter(BrokenVoter, "TestBroken", shape, lambda scope, operator, container: None)
    with pytest.raises(UnsupportedEstimatorError, match="the voter is broken"):
        to_program(BrokenVoter(), schema_of(X), {"predict": ("vector", "i8")})


def test_warnings_inside_skl2onnx_do_not_leak(fallback, monkeypatch):
    import skl2onnx

    real = skl2onnx.convert_sklearn

    def noisy(*args, **kwargs):
        warnings.warn("an old API", DeprecationWarning, stacklevel=2)
        return real(*args, **kwargs)

    monkeypatch.setattr(skl2onnx, "convert_sklearn", noisy)
    assert_methods(fallback(AdaBoostClassifier(n_estimators=2).fit(X, target(2))), X, ["predict"])


def test_the_op_has_no_numpy_meaning(monkeypatch):
    est = GaussianNB().fit(X, target(2))
    monkeypatch.delitem(CONVERTERS, key_of(est), raising=False)
    with pytest.raises(ProgramError, match="only the ONNX target"):
        interpreter.run(converted(est, X), columns_of(X, schema_of(X)))

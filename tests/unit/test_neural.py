import inspect

import numpy as np
import pytest
from sklearn.neural_network import MLPClassifier, MLPRegressor

from edgeml.converters import CONVERTERS
from tests.awkward import with_awkward_rows
from tests.oracle import assert_same

pytestmark = [
    # Any weights will do: the networks stop long before they converge.
    pytest.mark.filterwarnings("ignore:Stochastic Optimizer"),
    pytest.mark.filterwarnings("ignore:lbfgs failed to converge"),
]

ACTIVATIONS = ("identity", "logistic", "tanh", "relu")


def options(**more):
    return {"hidden_layer_sizes": (7, 5), "max_iter": 15, "random_state": 0, **more}


def data(rows=80, features=4, dtype="float64"):
    rng = np.random.default_rng(3)
    return rng.normal(size=(rows, features)).astype(dtype), rng.integers(0, 3, rows)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("classes", [2, 3])
def test_classifier(activation, classes):
    X, y = data()
    labels = np.array(["low", "middle", "high"])[np.minimum(y, classes - 1)]
    est = MLPClassifier(activation=activation, solver="lbfgs", **options()).fit(X, labels)
    assert_same(est, X, with_awkward_rows(X))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("outputs", [0, 3])
def test_regressor(activation, outputs):
    X, _ = data()
    y = np.sin(X @ np.random.default_rng(0).normal(size=(4, outputs or 1)))
    est = MLPRegressor(activation=activation, **options()).fit(X, y if outputs else y[:, 0])
    assert_same(est, X, with_awkward_rows(X))


def test_poisson_regressor():
    X, y = data()
    est = MLPRegressor(loss="poisson", **options()).fit(X, y)
    assert est.out_activation_ == "exp"
    assert_same(est, X, with_awkward_rows(X, largest=50.0))


@pytest.mark.parametrize("labels", [2, 4])
def test_multi_label(labels):
    X, _ = data()
    Y = (X @ np.random.default_rng(1).normal(size=(4, labels)) > 0).astype(int)
    assert_same(MLPClassifier(**options()).fit(X, Y), X, with_awkward_rows(X))


@pytest.mark.parametrize("hidden", [(), (3,), (4, 4, 4)])
def test_number_of_layers(hidden):
    X, y = data(features=1)
    assert_same(MLPClassifier(**options(hidden_layer_sizes=hidden)).fit(X, y), X, with_awkward_rows(X))


def test_one_class():
    X, _ = data()
    est = MLPClassifier(**options()).fit(X, ["only"] * len(X))
    assert_same(est, X)
    est.intercepts_[-1][:] = 10.0  # whatever the output, there is but one class
    assert_same(est, X)


def test_partial_fit_and_early_stopping():
    X, y = data()
    est = MLPClassifier(**options()).partial_fit(X[:40], y[:40] % 2, classes=[0, 1, 2])
    assert_same(est, X)
    assert_same(MLPClassifier(early_stopping=True, **options()).fit(X, y), X)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("est", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize(
    ("fit_dtype", "dtype"), [("float32", "float32"), ("float32", "float64"), ("float64", "float32")]
)
def test_dtypes_follow_scikit_learn(est, activation, fit_dtype, dtype):
    X, y = data()
    model = est(activation=activation, **options()).fit(X.astype(fit_dtype), y.astype(fit_dtype))
    assert model.coefs_[0].dtype == fit_dtype
    # A float32 product differs in its last bits with the order of its additions.
    single = fit_dtype == dtype == "float32"
    assert_same(model, X.astype(dtype), **({"rtol": 2e-5, "atol": 2e-6} if single else {}))


def test_integers():
    X, y = data()
    X = (X * 5).astype("int64")
    assert_same(MLPClassifier(**options()).fit(X, y), X)


@pytest.mark.parametrize("cls", [MLPClassifier, MLPRegressor])
def test_every_parameter_is_known(cls):
    entry = CONVERTERS[f"sklearn.{cls.__name__}"]
    assert set(inspect.signature(cls.__init__).parameters) - {"self"} <= entry.honours | entry.ignores

import inspect

import numpy as np
import pytest
import sklearn.linear_model as lm
from sklearn.svm import LinearSVR

from edgeml.converters import CONVERTERS, to_program
from edgeml.converters.linear import _TRAINING
from edgeml.errors import NonFiniteError, UnsupportedParameterError
from edgeml.ir import interpreter
from tests.awkward import with_awkward_rows
from tests.oracle import assert_same, converted, schema_of

# scikit-learn 1.8 deprecates the class, not its results.
pytestmark = pytest.mark.filterwarnings("ignore:Class PassiveAggressiveRegressor is deprecated")


def data(rows=80, features=5, outputs=0, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, features)) * rng.uniform(0.1, 20, size=features) + rng.normal(size=features)
    weights = rng.normal(size=(features, outputs or 1))
    y = X @ weights + rng.normal(size=(rows, outputs or 1)) * 0.1 + 3.0
    return X, (y if outputs else y[:, 0])


SINGLE = {
    "LinearRegression": lm.LinearRegression(),
    "LinearRegression_positive": lm.LinearRegression(positive=True, fit_intercept=False),
    "Ridge": lm.Ridge(alpha=0.3, solver="svd"),
    "RidgeCV": lm.RidgeCV(alphas=(0.1, 1.0), store_cv_results=True),
    "Lasso": lm.Lasso(alpha=0.5, positive=True),
    "LassoCV": lm.LassoCV(alphas=5, cv=3),
    "ElasticNet": lm.ElasticNet(alpha=0.2, l1_ratio=0.3, selection="random", random_state=0),
    "ElasticNetCV": lm.ElasticNetCV(alphas=5, cv=3, fit_intercept=False),
    "Lars": lm.Lars(n_nonzero_coefs=3),
    "LarsCV": lm.LarsCV(cv=3),
    "LassoLars": lm.LassoLars(alpha=0.01, jitter=1e-9, random_state=0),
    "LassoLarsCV": lm.LassoLarsCV(cv=3),
    "LassoLarsIC": lm.LassoLarsIC(criterion="bic"),
    "OrthogonalMatchingPursuit": lm.OrthogonalMatchingPursuit(n_nonzero_coefs=2),
    "OrthogonalMatchingPursuitCV": lm.OrthogonalMatchingPursuitCV(cv=3),
    "BayesianRidge": lm.BayesianRidge(compute_score=True),
    "ARDRegression": lm.ARDRegression(threshold_lambda=1e3),
    "HuberRegressor": lm.HuberRegressor(epsilon=1.5, max_iter=2000),
    "TheilSenRegressor": lm.TheilSenRegressor(random_state=0, max_subpopulation=50),
    "QuantileRegressor": lm.QuantileRegressor(quantile=0.3, alpha=0.01),
    "SGDRegressor": lm.SGDRegressor(loss="huber", eta0=1e-4, average=True, random_state=0),
    "PassiveAggressiveRegressor": "made in the test: constructing it warns",
    "LinearSVR": LinearSVR(C=0.5, max_iter=50000, dual=False, loss="squared_epsilon_insensitive"),
}


def make(name):
    if name == "PassiveAggressiveRegressor":
        return lm.PassiveAggressiveRegressor(C=0.1, random_state=0)
    return SINGLE[name]


@pytest.mark.parametrize("name", SINGLE)
def test_one_output(name):
    X, y = data()
    assert_same(make(name).fit(X, y), X, with_awkward_rows(X))


def test_every_estimator_of_the_table_is_tested():
    tested = {type(make(name)).__name__ for name in SINGLE} | {type(est).__name__ for est in MULTIPLE}
    assert {*_TRAINING, "BayesianRidge", "ARDRegression"} == tested


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_one_feature(fit_intercept):
    X, y = data(features=1)
    assert_same(lm.LinearRegression(fit_intercept=fit_intercept).fit(X, y), X, with_awkward_rows(X))


MULTIPLE = [
    lm.LinearRegression(),
    lm.Ridge(alpha=[0.1, 1.0, 2.0], fit_intercept=False),
    lm.RidgeCV(alpha_per_target=True),
    lm.Lasso(alpha=0.1),
    lm.MultiTaskLasso(alpha=0.1),
    lm.MultiTaskElasticNet(alpha=0.1),
    lm.MultiTaskLassoCV(alphas=4, cv=3),
    lm.MultiTaskElasticNetCV(alphas=4, cv=3),
    lm.Lars(),
    lm.OrthogonalMatchingPursuit(n_nonzero_coefs=2),
]


@pytest.mark.parametrize("est", MULTIPLE, ids=lambda est: type(est).__name__)
def test_several_outputs(est):
    X, y = data(outputs=3)
    assert_same(est.fit(X, y), X, with_awkward_rows(X))


@pytest.mark.parametrize("est", [lm.LinearRegression(), lm.Ridge(), lm.Lasso(alpha=0.1)], ids=repr)
def test_one_output_given_as_a_column_keeps_the_shape_scikit_learn_returns(est):
    X, y = data(outputs=1)
    assert_same(est.fit(X, y), X)


GENERALISED = [
    lm.PoissonRegressor(alpha=0.1),
    lm.GammaRegressor(fit_intercept=False, solver="newton-cholesky"),
    lm.TweedieRegressor(power=0.0, link="auto"),
    lm.TweedieRegressor(power=0.0, link="log", max_iter=1000),
    lm.TweedieRegressor(power=1.5, link="auto", max_iter=1000),
    lm.TweedieRegressor(power=1.5, link="identity", alpha=1.0, max_iter=20),
]


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")  # the last one need not: any coefficients will do
@pytest.mark.parametrize("est", GENERALISED, ids=repr)
def test_generalised_linear_models(est):
    X = np.random.default_rng(1).uniform(0, 1, size=(60, 3))
    y = np.exp(X @ [0.3, -0.2, 0.5]) + 0.1
    # 300: exp of a score in the hundreds; 1e6 would be infinite and make scikit-learn warn.
    assert_same(est.fit(X, y), X, with_awkward_rows(X, largest=300.0))


def test_an_unknown_link_is_refused_by_name():
    X = np.ones((10, 1)) + np.arange(10.0)[:, None]
    est = lm.PoissonRegressor().fit(X, X[:, 0])

    class Probit:
        pass

    est._base_loss.link = Probit()
    returns = {"predict": ("vector", "<f8")}
    with pytest.raises(UnsupportedParameterError, match=r"PoissonRegressor\(link='Probit'\)"):
        to_program(est, schema_of(X), returns)


DTYPES = [lm.LinearRegression(), lm.Ridge(fit_intercept=False), lm.Lasso(alpha=0.1), lm.BayesianRidge()]


@pytest.mark.parametrize("fit_dtype", ["float64", "float32"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
@pytest.mark.parametrize(
    "est",
    [lm.LinearRegression(), lm.Ridge(fit_intercept=False), lm.Lasso(alpha=0.1), lm.BayesianRidge()],
    ids=repr,
)
def test_dtypes_follow_scikit_learn(est, dtype, fit_dtype):
    X, y = data()
    est.fit(X.astype(fit_dtype), y.astype(fit_dtype))
    rows = X.astype(dtype)
    # A float32 product differs in its last bits with the order of its additions.
    float32 = est.predict(rows).dtype == np.float32 or est.coef_.dtype == rows.dtype == np.float32
    assert_same(est, rows, **({"rtol": 1e-5, "atol": 1e-5} if float32 else {}))


def test_a_wide_intercept_widens_a_float32_sum():
    """NumPy adds a float64 scalar to a float32 array in float64, a Python float in float32."""
    X, y = data()
    X = X.astype("float32")
    est = lm.LinearRegression().fit(X, y.astype("float32"))
    est.coef_ = est.coef_.astype("float32")
    for intercept, dtype in ((np.float64(1 / 3), "float64"), (0.0, "float32")):
        est.intercept_ = intercept
        assert est.predict(X).dtype == dtype
        assert_same(est, X, rtol=1e-5, atol=1e-5)
    est.coef_ = np.zeros_like(est.coef_)  # the product is exact now: only the dtype of the sum is left to differ
    est.intercept_ = np.float64(1 / 3)
    assert_same(est, X)


def test_sparsified_coefficients():
    X, y = data()
    est = lm.SGDRegressor(penalty="l1", alpha=1.0, eta0=1e-4, tol=1e-2, random_state=0).fit(X, y).sparsify()
    assert hasattr(est.coef_, "toarray")
    assert_same(est, X)


RANSAC = [
    lm.RANSACRegressor(random_state=0),
    lm.RANSACRegressor(lm.Ridge(), min_samples=6, residual_threshold=9.0, random_state=0),
]


@pytest.mark.parametrize("est", RANSAC, ids=["default", "ridge"])
@pytest.mark.parametrize("outputs", [0, 2])
def test_ransac(est, outputs):
    X, y = data(outputs=outputs)
    y = y.copy()
    y[:5] += 1e4
    assert_same(est.fit(X, y), X, with_awkward_rows(X))


def test_ransac_leaves_the_check_to_the_inner_estimator():
    X, y = data()
    program = converted(lm.RANSACRegressor(random_state=0).fit(X, y), X)
    checks = [node.attrs["what"] for node in program.nodes if node.op == "CheckFinite"]
    assert checks == ["estimator_ (LinearRegression)"]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_scikit_learn_refuses_are_refused(bad):
    X, y = data()
    est = lm.Ridge().fit(X, y)
    rows = X.copy()
    rows[3, 2] = bad
    with pytest.raises(ValueError, match="contains"):
        est.predict(rows)
    program = converted(est, X)
    with pytest.raises(NonFiniteError, match=r"Ridge.*row 3, its column 2"):
        interpreter.run(program, {"X": rows})


@pytest.mark.parametrize(
    "name", [*_TRAINING, "PoissonRegressor", "GammaRegressor", "TweedieRegressor", "RANSACRegressor"]
)
def test_every_parameter_is_known(name):
    cls = LinearSVR if name == "LinearSVR" else getattr(lm, name)
    entry = CONVERTERS[f"sklearn.{name}"]
    assert set(inspect.signature(cls.__init__).parameters) - {"self"} <= entry.honours | entry.ignores

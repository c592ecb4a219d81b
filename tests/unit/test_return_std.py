"""predict(X, return_std=True): the pair that scikit-learn returns, and a clear error where it returns none."""

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.dummy import DummyRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel
from sklearn.linear_model import ARDRegression, BayesianRidge, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import edgeml
from edgeml.errors import EngineError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3)) * [1.0, 10.0, 0.1]
Y = X[:, 0] + RNG.normal(size=60) * 0.1
NEW = RNG.normal(size=(30, 3))
PROCESS = GaussianProcessRegressor(RBF() + WhiteKernel(), normalize_y=True)


@pytest.mark.parametrize("engine", ["native", "onnx"])
@pytest.mark.parametrize(
    ("model", "y"),
    [
        (PROCESS, Y),
        (PROCESS, np.column_stack([Y, 100.0 * Y**2])),
        (make_pipeline(StandardScaler(), make_pipeline(StandardScaler(), PROCESS)), Y),
        (make_pipeline(StandardScaler(), BayesianRidge()), Y),
        (ARDRegression(threshold_lambda=2.0), Y),
        (ARDRegression(threshold_lambda=1e-9), Y),
        (DummyRegressor(), Y),
    ],
    ids=["process", "two targets", "pipeline", "bayesian", "relevance", "nothing relevant", "dummy"],
)
def test_the_pair_of_scikit_learn(model, y, engine, tmp_path):
    model.fit(X, y)
    edgeml.compile(model, X, output=tmp_path / "m.edgeml", formats=[engine]).close()
    with edgeml.load(tmp_path / "m.edgeml", engine=engine) as compiled:
        for got, want in zip(compiled.predict(NEW, return_std=True), model.predict(NEW, return_std=True), strict=True):
            assert got.shape == want.shape
            assert got.dtype == want.dtype
            np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-12)
        np.testing.assert_array_equal(compiled.predict_std(NEW), compiled.predict(NEW, return_std=True)[1])
        assert "predict_std" in compiled.manifest["methods"]


@pytest.mark.parametrize("engine", ["native", "onnx"])
def test_the_pair_is_one_pass_over_the_rows(engine, tmp_path, monkeypatch):
    model = PROCESS.fit(X, Y)
    edgeml.compile(model, X, output=tmp_path / "m.edgeml", formats=[engine]).close()
    with edgeml.load(tmp_path / "m.edgeml", engine=engine) as compiled:
        alone = compiled.predict(NEW), compiled.predict_std(NEW)
        asked = []
        run = compiled._engine.run
        monkeypatch.setattr(compiled._engine, "run", lambda *given: (asked.append(given[2]), run(*given))[1])
        for got, want in zip(compiled.predict(NEW, return_std=True), alone, strict=True):
            np.testing.assert_array_equal(got, want)
        assert [tuple(methods) for methods in asked] == [("predict", "predict_std")]
        for got, want in zip(compiled.predict(csr_array(NEW), return_std=True), alone, strict=True):
            np.testing.assert_array_equal(got, want)


def test_of_its_own_rows_a_process_without_noise_knows_all(tmp_path):
    """Their variances are differences that cancel; a negative one is 0, as in scikit-learn, and never NaN."""
    model = GaussianProcessRegressor(optimizer=None).fit(X, Y)
    edgeml.compile(model, X, output=tmp_path / "m.edgeml", formats=["native"]).close()
    with edgeml.load(tmp_path / "m.edgeml") as compiled:
        deviations = compiled.predict(X, return_std=True)[1]
    assert ((deviations >= 0) & (deviations < 1e-4)).all()


def test_a_model_that_records_returns_the_pair(tmp_path):
    model = BayesianRidge().fit(X, Y)
    edgeml.compile(model, X, output=tmp_path / "m.edgeml", formats=["native"]).close()
    with edgeml.load(tmp_path / "m.edgeml") as compiled:
        compiled.record_to(tmp_path / "spool")
        np.testing.assert_allclose(compiled.predict(NEW, return_std=True)[1], model.predict(NEW, return_std=True)[1])


def test_without_deviations_return_std_is_an_error(tmp_path):
    edgeml.compile(Ridge().fit(X, Y), X, output=tmp_path / "m.edgeml", formats=["native"]).close()
    with edgeml.load(tmp_path / "m.edgeml") as compiled:
        assert not hasattr(compiled, "predict_std")
        assert "predict_std" not in dir(compiled)
        with pytest.raises(EngineError, match=r"Ridge takes no return_std.*\n?.*predict\(X\)"):
            compiled.predict(NEW, return_std=True)

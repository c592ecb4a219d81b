"""compile: what it refuses, by name and without a trace on disk; what it writes; that equal inputs give equal bytes."""

from __future__ import annotations

import zipfile
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.cluster import DBSCAN
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsOneClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, PolynomialFeatures, StandardScaler

import edgeml
from edgeml import errors
from edgeml.converters import CONVERTERS
from edgeml.targets.base import TARGETS

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "a": RNG.normal(size=80),
        "b": RNG.integers(0, 9, 80),
        "c": pd.Series(RNG.choice(["x", "y"], 80), dtype="str"),
        "when": pd.date_range("2024-01-01", periods=80),
    }
)
Y = (FRAME["a"] > 0).to_numpy()
# Of a type that no program reads.
AWARE = FRAME[["when"]].apply(lambda c: c.dt.tz_localize("UTC"))


def pipeline():
    prep = make_column_transformer((StandardScaler(), ["a", "b"]), (OneHotEncoder(), ["c"]))
    return make_pipeline(prep, LogisticRegression())


@pytest.fixture
def out(tmp_path):
    """Where the bundle goes; afterwards, a test that refused must have left nothing."""
    return tmp_path / "m.edgeml"


class Mine(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def transform(self, X):
        return X


def of_other_rows(X):
    return X - X.mean(axis=0)


def centred():
    return make_pipeline(FunctionTransformer(of_other_rows), LogisticRegression())


REFUSED = {
    "unfitted": (lambda: (pipeline(), FRAME), errors.NotFittedError, "not fitted"),
    "a class": (lambda: (LogisticRegression, FRAME), errors.CompileError, "fitted"),
    "not an estimator": (lambda: ("model.pkl", FRAME), errors.CompileError, "fitted"),
    "missing column": (lambda: (pipeline().fit(FRAME, Y), FRAME.drop(columns="b")), errors.SampleError, "'b'"),
    "extra column": (lambda: (pipeline().fit(FRAME, Y), FRAME.assign(target=Y)), errors.SampleError, "'target'"),
    "renamed column": (lambda: (pipeline().fit(FRAME, Y), FRAME.rename(columns={"a": "A"})), errors.SampleError, "'A'"),
    "array for a frame": (lambda: (pipeline().fit(FRAME, Y), FRAME.to_numpy()), errors.SampleError, "frame"),
    "no rows": (lambda: (pipeline().fit(FRAME, Y), FRAME[:0]), errors.SampleError, "no rows"),
    "one dimension": (lambda: (LogisticRegression().fit(FRAME[["a"]].to_numpy(), Y), np.zeros(5)), errors.SampleError, "dimension"),
    "wrong width": (lambda: (LogisticRegression().fit(FRAME[["a", "b"]].to_numpy(), Y), np.zeros((5, 3))), errors.SampleError, "2 columns"),
    "twice a column": (lambda: (pipeline().fit(FRAME, Y), pd.concat([FRAME, FRAME["a"]], axis=1)), errors.SampleError, "two columns"),
    "sparse of another width": (lambda: (LogisticRegression().fit(FRAME[["a"]].to_numpy(), Y), __import__("scipy.sparse").sparse.eye(4).tocsr()), errors.SampleError, "fitted on 1 columns, the sample has 4"),
    "all refused": (lambda: (LogisticRegression().fit(FRAME[["a"]], Y), FRAME[["a"]] * np.nan), errors.SampleError, "refuses every row"),
    "dates read": (lambda: (make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression()).fit(AWARE, Y), AWARE), errors.CompileError, "when"),
    "own estimator": (lambda: (make_pipeline(Mine(), LogisticRegression()).fit(FRAME[["a"]], Y), FRAME[["a"]]), errors.UnsupportedEstimatorError, "Mine"),
    "no method": (lambda: (DBSCAN().fit(FRAME[["a"]]), FRAME[["a"]]), errors.CompileError, "DBSCAN"),
    "own function": (lambda: (centred().fit(FRAME[["a"]].abs(), Y), FRAME[["a"]].abs()), errors.CompileError, "func"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.filterwarnings("ignore")
def test_refusals(what, out):
    make, error, text = REFUSED[what]
    model, X = make()
    with pytest.raises(error, match=text) as caught:
        edgeml.compile(model, X, output=out)
    assert caught.value.remedy
    assert not list(out.parent.iterdir())


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"formats": ["tvm"]}, errors.FormatError, "tvm"),
        ({"formats": []}, errors.FormatError, "format"),
        ({"quantize": "int4"}, errors.QuantizeError, "int4"),
        ({"target": "cortex-m0"}, errors.UnknownTargetError, "cortex-m0"),
        ({"budget": object()}, errors.BudgetValueError, "budget"),
        ({"version": 0}, errors.CompileError, "version"),
        ({"version": "2"}, errors.CompileError, "version"),
    ],
)
def test_options_refused(options, error, text, out):
    with pytest.raises(error, match=text):
        edgeml.compile(pipeline().fit(FRAME, Y), FRAME, output=out, **options)
    assert not list(out.parent.iterdir())


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(errors.CompileError, match="does not exist"):
        edgeml.compile(pipeline().fit(FRAME, Y), FRAME, output=tmp_path / "no" / "m.edgeml")


def test_equal_inputs_give_equal_bytes(tmp_path):
    model = make_pipeline(pipeline()[0], RandomForestClassifier(8, random_state=0)).fit(FRAME, Y)
    for name in ("one", "two"):
        edgeml.compile(model, FRAME, output=tmp_path / f"{name}.edgeml", name="m").close()
    assert (tmp_path / "one.edgeml").read_bytes() == (tmp_path / "two.edgeml").read_bytes()


def test_what_a_bundle_holds(out):
    bundle = edgeml.compile(pipeline().fit(FRAME, Y), FRAME, output=out, name="demo", version=3)
    assert bundle.manifest["name"] == "demo"
    assert bundle.manifest["version"] == 3
    assert set(bundle.manifest["artifacts"]) == {"native", "onnx", "tflite"}
    assert bundle.manifest["classes"] == [False, True]
    assert {c.name: (c.kind, c.used) for c in bundle.schema.columns} == {
        "a": ("float64", True),
        "b": ("int64", True),
        "c": ("string", True),
        "when": ("int64", False),
    }
    report = bundle.json("report.json")
    assert {(f["engine"], f["rows"]) for f in report["findings"]} >= {
        ("native", "sample"),
        ("onnx", "awkward rows"),
    }
    assert all(f["passed"] for f in report["findings"])
    awkward = next(f for f in report["findings"] if f["rows"] == "awkward rows" and f["engine"] == "native")
    assert 0 < awkward["refused"] < awkward["count"]
    assert zipfile.ZipFile(out).testzip() is None


def test_unused_columns_may_be_absent_and_refused_rows_are_named(out):
    edgeml.compile(pipeline().fit(FRAME, Y), FRAME, output=out).close()
    model = edgeml.load(out)
    X = FRAME[["c", "b", "a"]]
    assert np.array_equal(model.predict(X), pipeline().fit(FRAME, Y).predict(FRAME))
    bad = X.copy()
    bad.loc[3, "c"] = "z"
    with pytest.raises(errors.UnknownCategoryError, match="row 3"):
        model.predict(bad)
    bad = X.copy()
    bad.loc[5, "a"] = np.inf
    with pytest.raises(errors.NonFiniteError, match="row 5"):
        model.predict(bad)


def test_only_what_was_asked_for(out):
    bundle = edgeml.compile(pipeline().fit(FRAME, Y), FRAME, output=out, formats="native")
    assert set(bundle.manifest["artifacts"]) == {"native"}
    assert "onnx" in bundle.manifest["missing"]


@pytest.mark.parametrize("quantize", ["none", "lossless"])
def test_an_application_that_makes_errors_of_floating_point(out, quantize):
    """A process-wide seterr is the application's own; what compile does with tiny numbers is meant."""
    X = RNG.normal(size=(300, 4))
    model = HistGradientBoostingClassifier(max_iter=20, categorical_features=[3])
    X[:, 3] = RNG.integers(0, 5, 300)
    model.fit(X, X[:, 0] + X[:, 3] > 1)
    with np.errstate(all="raise"):
        with edgeml.compile(model, X, output=out, quantize=quantize, formats=["native"]):
            pass
        with edgeml.load(out) as loaded:
            np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


def test_trees_behind_a_step_of_skl2onnx(out, monkeypatch):
    monkeypatch.delitem(CONVERTERS, "sklearn.PolynomialFeatures")
    model = make_pipeline(PolynomialFeatures(2), RandomForestClassifier(3, random_state=0))
    model.fit(FRAME[["a"]].to_numpy(), Y)
    with edgeml.compile(model, FRAME[["a"]].to_numpy(), output=out) as bundle:
        assert list(bundle.manifest["artifacts"]) == ["onnx"]
        assert "polynomialfeatures" in bundle.manifest["missing"]["native"]
    with pytest.raises(errors.FormatError, match="polynomialfeatures"):
        edgeml.compile(model, FRAME[["a"]].to_numpy(), output=out, formats=["native"])


def test_a_forest_too_large_for_others_is_native_alone_unless_asked_by_name(out, monkeypatch):
    monkeypatch.setitem(TARGETS, "onnx", replace(TARGETS["onnx"], most_nodes=20))
    forest = RandomForestRegressor(5, random_state=0).fit(FRAME[["a"]], np.arange(len(FRAME)))
    with edgeml.compile(forest, FRAME[["a"]], output=out) as bundle:
        assert "onnx" not in bundle.manifest["artifacts"]
        assert "tree nodes: beyond 20" in bundle.manifest["missing"]["onnx"]
    with edgeml.compile(forest, FRAME[["a"]], output=out, formats=["onnx"]) as bundle:
        assert list(bundle.manifest["artifacts"]) == ["onnx"]


@pytest.mark.parametrize("engine", ["native", "onnx"])
def test_none_in_plain_python_is_the_missing_cell_of_the_column(engine, out):
    frame = FRAME[["a", "c"]].copy()
    frame.loc[::7, "c"] = np.nan
    prep = make_column_transformer((SimpleImputer(strategy="most_frequent"), ["c"]), (StandardScaler(), ["a"]))
    encode = make_column_transformer((OneHotEncoder(), [0]), remainder="passthrough")
    model = make_pipeline(prep, encode, LogisticRegression()).fit(frame, Y)
    edgeml.compile(model, frame, output=out).close()
    expected = model.predict_proba(frame.iloc[:1])
    a = float(frame["a"].iloc[0])
    with edgeml.load(out, engine=engine) as loaded:
        assert frame["c"].isna().iloc[0]
        for row in ({"a": a, "c": None}, {"a": a, "c": float("nan")}, [a, None]):
            np.testing.assert_allclose(loaded.predict_proba_one(row), expected[0], rtol=1e-12)
        for rows in ([{"a": a, "c": None}], {"a": [a], "c": [None]}, [[a, None]]):
            np.testing.assert_allclose(loaded.predict_proba(rows), expected, rtol=1e-12)


def test_targets_are_compared_and_wrong_ones_refused(out):
    model = pipeline().fit(FRAME, Y)
    report = edgeml.compile(model, FRAME, Y, output=out).json("report.json")
    assert (
        report["metrics"]["accuracy of native"]
        == report["metrics"]["accuracy of scikit-learn"]
        == model.score(FRAME, Y)
    )
    out.unlink()
    for wrong, text in ((Y[:5], "5 rows"), (np.where(Y, "yes", "no"), "none of the classes")):
        with pytest.raises(errors.SampleError, match=text):
            edgeml.compile(model, FRAME, wrong, output=out)
    assert not list(out.parent.iterdir())


@pytest.mark.parametrize("engine", ["native", "onnx"])
def test_an_estimator_by_itself(engine, out):
    X = RNG.normal(size=(60, 2))
    edgeml.compile(LogisticRegression().fit(X, (X[:, 0] > 0).astype(int)), X, output=out)
    with edgeml.load(out, engine=engine) as model:
        assert type(model.predict(X)[0]) is np.int64
        assert type(model.predict_one(X[0])) is np.int64
        with pytest.raises(errors.NonFiniteError, match=r"^LogisticRegression was given (?i:nan)"):
            model.predict([[np.nan, 0.0]])


def test_a_model_of_skl2onnx_that_onnx_refuses(out, monkeypatch):
    monkeypatch.delitem(CONVERTERS, "sklearn.OneVsOneClassifier")
    X = RNG.normal(size=(60, 2))
    est = OneVsOneClassifier(LogisticRegression()).fit(X, RNG.integers(0, 3, 60))
    with pytest.raises(errors.FormatError, match=r"onnx\.checker refuses the model, which holds what skl2onnx made"):
        edgeml.compile(est, X, output=out)
    assert not out.exists()


def test_a_frame_for_a_pipeline_fitted_on_an_array_gives_the_names(out):
    X = FRAME[["a", "b"]].astype(float)
    model = LogisticRegression().fit(X.to_numpy(), Y)
    edgeml.compile(model, X, output=out).close()
    with edgeml.load(out) as loaded:
        expected = model.predict(X.to_numpy())
        assert np.array_equal(loaded.predict(X), expected)
        assert np.array_equal(loaded.predict(X[["b", "a"]]), expected)
        assert np.array_equal(loaded.predict(X.to_numpy()), expected)
        assert loaded.predict_one({"b": 1.0, "a": 2.0}) == model.predict([[2.0, 1.0]])[0]

"""load and Model on a small bundle: the methods that are there, what they return, every refusal."""

import copy
import multiprocessing
import pickle  # noqa: TID251  # a Model may be sent to a worker process
import sys
import threading

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier

import edgeml
from edgeml.bundle import generate_key
from edgeml.errors import (
    BundleError,
    BundleFileError,
    CompileError,
    EngineError,
    EngineNotInBundleError,
    EngineNotInstalledError,
    InputError,
    ManifestError,
    MissingColumnError,
    NonFiniteError,
    NotSignedError,
    ShapeError,
    UnknownEngineError,
)
from edgeml.runtimes import engines
from tests import small_bundle
from tests.small_bundle import ROWS, YES

pytestmark = pytest.mark.usefixtures("interpreted")


# --- answers
def test_answers(any_path):
    with edgeml.load(any_path) as model:
        assert model.predict(ROWS).tolist() == ["yes", "no", "yes"]
        assert model.predict(ROWS).dtype == "<U3"
        np.testing.assert_allclose(model.predict_proba(ROWS), np.stack([1 - YES, YES], axis=1), rtol=1e-13)
        assert model.classes_.tolist() == ["no", "yes"]
        assert model.classes_.dtype == "<U3"
        assert [model.engine] == list(model.manifest["artifacts"])
        assert model.threads == 1
        assert model.schema == small_bundle.SCHEMA
        assert model.manifest["version"] == 3


def test_one_row(any_path):
    with edgeml.load(str(any_path)) as model:
        label = model.predict_one(ROWS[1])
        assert label == "no"
        assert isinstance(label, str)
        proba = model.predict_proba_one((0.5, "AA", None))
        assert proba.shape == (2,)
        np.testing.assert_array_equal(proba, model.predict_proba(ROWS)[0])


def test_one_row_calls_the_engine_with_nothing_in_between(path, monkeypatch):
    def one(self, method):
        return {"predict": len, "predict_proba": repr}[method]

    monkeypatch.setattr(small_bundle.InterpreterEngine, "one", one)
    with edgeml.load(path) as model:
        assert model.predict_one is len
        assert model.predict_proba_one is repr
        assert vars(model)["predict_one"] is len


def test_refused_rows(any_path):
    with edgeml.load(any_path) as model:
        with pytest.raises(NonFiniteError):
            model.predict([{"x": np.inf, "c": "AA"}])
        with pytest.raises(NonFiniteError):
            model.predict_one({"x": -np.inf, "c": "AA"})
        with pytest.raises(MissingColumnError, match="'c'"):
            model.predict_one({"x": 1.0})
        with pytest.raises(ShapeError, match="not one row"):
            model.predict_one(ROWS)
        assert model.predict_one(ROWS[0]) == "yes"  # a refused row spoils nothing


def test_many_threads_one_model(any_path):
    with edgeml.load(any_path) as model:
        expected = model.predict_proba(ROWS)
        wrong = []

        def work():
            for i in range(40):
                row = i % len(ROWS)
                if not np.array_equal(model.predict_proba_one(ROWS[row]), expected[row]):
                    wrong.append(row)
                if not np.array_equal(model.predict_proba(ROWS[row:]), expected[row:]):
                    wrong.append(row)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert not wrong


# --- which methods are there
def test_a_method_is_there_exactly_when_the_pipeline_had_it(tmp_path):
    with edgeml.load(small_bundle.write(tmp_path / "t.edgeml", outputs=["transform"])) as model:
        assert model.transform(ROWS).shape == (3, 2)
        absent = ["predict", "predict_proba", "predict_log_proba", "decision_function", "score_samples"]
        for name in [*absent, "predict_one", "predict_proba_one", "classes_"]:
            assert not hasattr(model, name), name
            assert name not in dir(model)
        assert hasattr(model, "transform")
        assert "transform" in dir(model)
        with pytest.raises(
            AttributeError, match=r"no predict_one: .*Pipeline\(Small\).* no predict. It has: transform"
        ):
            _ = model.predict_one
        with pytest.raises(AttributeError, match="not a classifier"):
            _ = model.classes_


def test_methods_of_a_classifier(path):
    with edgeml.load(path) as model:
        assert {"predict", "predict_proba", "predict_one", "predict_proba_one", "classes_"} <= set(dir(model))
        assert not hasattr(model, "transform")
        assert "columns in the order of" in model.predict_proba.__doc__
        assert model.predict_proba.__name__ == "predict_proba"


def test_repr(path):
    model = edgeml.load(path, threads=2)
    assert repr(model) == (
        "<Model 'small' version 3: Pipeline(Small), 3 columns -> predict, predict_proba; engine interpreted, threads 2>"
    )
    model.close()
    assert "closed" in repr(model)


@pytest.mark.parametrize(
    ("classes", "dtype", "want"),
    [
        ([0, 1], "<i8", np.array([0, 1])),
        ([0, 1], "|u1", np.array([0, 1], dtype=np.uint8)),
        ([False, True], "|b1", np.array([False, True])),
        ([0.5, 1.5], "<f8", np.array([0.5, 1.5])),
        (["a", "b"], "O", np.array(["a", "b"], dtype=object)),
    ],
)
def test_classes_have_the_dtype_of_predict(tmp_path, classes, dtype, want):
    def change(manifest, members):
        manifest["classes"], manifest["methods"]["predict"]["dtype"] = classes, dtype

    with edgeml.load(small_bundle.write(tmp_path / "c.edgeml", change=change)) as model:
        assert model.classes_.dtype == want.dtype
        np.testing.assert_array_equal(model.classes_, want)


def test_a_dummy_knows_labels_longer_than_the_one_it_predicts(tmp_path):
    names = np.array(["no", "perhaps", "a"])[np.arange(9) % 3]
    dummy = DummyClassifier(strategy="constant", constant="a").fit(np.zeros((9, 1)), names)
    edgeml.compile(dummy, np.zeros((9, 1)), output=tmp_path / "m.edgeml", formats=["native"]).close()
    with edgeml.load(tmp_path / "m.edgeml") as model:
        assert model.classes_.dtype == dummy.classes_.dtype
        np.testing.assert_array_equal(model.classes_, dummy.classes_)
        np.testing.assert_array_equal(model.predict([[0.0]]), ["a"])


@pytest.mark.parametrize("dtype", ["<U20000", "<U1000000000", "no such dtype", "<i8"])
def test_classes_of_a_hostile_manifest(tmp_path, dtype):
    def change(manifest, members):
        manifest["methods"]["predict"]["dtype"] = dtype

    with (
        edgeml.load(small_bundle.write(tmp_path / "c.edgeml", change=change)) as model,
        pytest.raises(ManifestError, match="labels"),
    ):
        _ = model.classes_


# --- life
def test_a_closed_model_refuses(any_path):
    model = edgeml.load(any_path)
    one = model.predict_one
    with model:
        pass
    model.close()
    assert one(ROWS[0]) == "yes"  # a call that began before close finishes
    for call, rows in (
        (model.predict, ROWS),
        (model.predict_one, ROWS[0]),
        (model.predict_proba_one, ROWS[0]),
    ):
        with pytest.raises(EngineError, match=r"the model is closed(.|\n)*edgeml.load\("):
            call(rows)


def test_the_file_may_be_deleted_while_a_model_runs(any_path):
    with edgeml.load(any_path) as model:
        any_path.unlink()
        assert model.predict_one(ROWS[0]) == "yes"


def test_pickling_opens_the_file_again(path):
    with edgeml.load(path, threads=2) as model:
        data = pickle.dumps(model)
        assert b"interpreted.bin" not in data
        assert len(data) < 1000  # the path, not the model
        for other in (pickle.loads(data), copy.copy(model), copy.deepcopy(model)):
            assert other.threads == 2
            assert other.predict(ROWS).tolist() == model.predict(ROWS).tolist()
            other.close()
        assert model.predict_one(ROWS[0]) == "yes"


def test_pickling_notices_another_model_in_the_file(path):
    def change(manifest, members):
        manifest["version"] = 4

    with edgeml.load(path) as model:
        data = pickle.dumps(model)
    small_bundle.write(path, change=change)
    with pytest.raises(EngineError, match="holds another model"):
        pickle.loads(data)


def test_a_spawned_worker_predicts(tmp_path):
    path = small_bundle.write(tmp_path / "s.edgeml", formats=["onnx"])
    with edgeml.load(path) as model, multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_predict, (model, ROWS)) == ["yes", "no", "yes"]


def _predict(model, rows):
    return model.predict(rows).tolist()


# --- engines
def test_unknown_engine_lists_the_names(path):
    with pytest.raises(UnknownEngineError, match=r"no engine 'nativ'(.|\n)*auto, native, onnx"):
        edgeml.load(path, engine="nativ")


def test_engine_not_in_bundle_quotes_the_reason(tmp_path):
    def change(manifest, members):
        manifest["missing"]["onnx"] = "op Frobnicate has no ONNX form"

    path = small_bundle.write(tmp_path / "small.edgeml", change=change)
    with pytest.raises(EngineNotInBundleError, match="no ONNX form") as caught:
        edgeml.load(path, engine="onnx")
    assert caught.value.remedy == "use engine='interpreted'"


def test_no_engine_at_all(path, monkeypatch):
    monkeypatch.delitem(engines.ENGINES, "interpreted")
    with pytest.raises(EngineNotInBundleError, match="it has: interpreted"):
        edgeml.load(path)
    with pytest.raises(EngineNotInBundleError, match=r"not asked for(.|\n)*compile the pipeline again"):
        edgeml.load(path, engine="native")


@pytest.mark.parametrize("how", ["absent", "blocked"])
def test_engine_not_installed_says_the_command(tmp_path, monkeypatch, how):
    path = small_bundle.write(tmp_path / "small.edgeml", formats=["onnx"])
    if how == "blocked":
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
    else:
        monkeypatch.setattr(engines, "_installed", lambda package: package != "onnxruntime")
    for name in ("onnx", "auto"):
        with pytest.raises(EngineNotInstalledError, match="onnxruntime") as caught:
            edgeml.load(path, engine=name)
        assert "pip install" in caught.value.remedy


def test_an_engine_whose_package_cannot_be_imported(path, monkeypatch):
    def broken(cls, bundle, threads):
        raise ImportError("libgomp.so.1: cannot open shared object file", name="json.broken")

    entry = engines.Entry("tests.small_bundle", "InterpreterEngine", "interpreted", "json", "pip install x")
    monkeypatch.setitem(engines.ENGINES, "interpreted", entry)
    monkeypatch.setattr(small_bundle.InterpreterEngine, "open", classmethod(broken))
    with pytest.raises(EngineNotInstalledError, match=r"cannot be imported: libgomp(.|\n)*pip install x"):
        edgeml.load(path)


def test_auto_prefers_native(tmp_path):
    path = small_bundle.write(tmp_path / "small.edgeml", formats=["onnx", "native"])
    with edgeml.load(path) as model:
        assert model.engine == "native"
    with edgeml.load(path, engine="onnx") as model:
        assert model.engine == "onnx"


def test_opening_fails_and_the_bundle_is_closed(path, monkeypatch):
    closed = []
    monkeypatch.setattr("edgeml.bundle.read.Bundle.close", lambda self: closed.append(self))
    with pytest.raises(UnknownEngineError):
        edgeml.load(path, engine="nativ")
    assert len(closed) == 1


# --- the file
def test_no_such_file(tmp_path):
    with pytest.raises(BundleFileError, match=r"absent\.edgeml cannot be opened") as caught:
        edgeml.load(tmp_path / "absent.edgeml")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("path", [None, 3, b"small.edgeml"])
def test_no_path(path):
    with pytest.raises(BundleFileError, match="a str or a Path, not a"):
        edgeml.load(path)


def test_a_truncated_file(path):
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BundleError):
        edgeml.load(path)


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2", None, True])
def test_threads(path, threads):
    with pytest.raises(EngineError, match="threads="):
        edgeml.load(path, threads=threads)


def test_threads_may_be_a_numpy_integer(path):
    with edgeml.load(path, threads=np.int64(2)) as model:
        assert model.threads == 2
        assert type(model.threads) is int


def test_signature(tmp_path):
    private, public = generate_key(tmp_path / "key")
    signed = small_bundle.write(tmp_path / "signed.edgeml", sign_with=private)
    with edgeml.load(signed, verify_with=public) as model:
        assert pickle.loads(pickle.dumps(model)).predict_one(ROWS[0]) == "yes"
    with pytest.raises(NotSignedError):
        edgeml.load(small_bundle.write(tmp_path / "unsigned.edgeml"), verify_with=public)


# --- the package
def test_names_of_the_package():
    assert set(edgeml.__all__) <= set(dir(edgeml))
    assert edgeml.errors.InputError is InputError
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = edgeml.lode


def test_compile_without_its_packages_says_the_command(monkeypatch):
    monkeypatch.setattr(edgeml, "_COMPILER_NEEDS", ("numpy", "sklearn_that_is_not_installed"))
    monkeypatch.delitem(vars(edgeml), "compile", raising=False)
    assert hasattr(edgeml, "compile")
    with pytest.raises(CompileError, match="compiling needs sklearn_that_is_not_installed,") as caught:
        edgeml.compile(object(), [[1.0]], output="x.edgeml")
    assert caught.value.remedy == "pip install 'edgeml-sdk[compile]'"


def test_a_pipeline_fitted_on_polars_where_a_null_is_a_category(tmp_path):
    pl = pytest.importorskip("polars")
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    X = pl.DataFrame({"c": [None if i % 5 == 0 else "AU"[i % 2] for i in range(200)]})
    y = (np.arange(200) % 5 == 0).astype(int)
    pipeline = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression()).fit(X, y)
    assert pipeline.predict(X)[:2].tolist() == [1, 0]
    edgeml.compile(pipeline, X, output=tmp_path / "p.edgeml")
    with edgeml.load(tmp_path / "p.edgeml") as model:
        assert model.schema.columns[0].null == "none"
        np.testing.assert_array_equal(model.predict(X), pipeline.predict(X))
        np.testing.assert_array_equal(model.predict(X.to_arrow()), pipeline.predict(X))
        np.testing.assert_array_equal(model.predict(X.to_dicts()), pipeline.predict(X))

"""load, Model and verify on a small bundle: the methods that are there, what they return, every refusal."""

import copy
import multiprocessing
import pickle  # noqa: TID251  # a Model may be sent to a worker process
import sys
import threading

import numpy as np
import pytest

import edgeml
from edgeml.bundle import generate_key, open_bundle
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
    VerificationError,
)
from edgeml.jsonutil import dumps
from edgeml.runtimes import engines
from tests import small_bundle

ROWS = [{"x": 0.5, "c": "AA"}, {"x": -1.0, "c": "UA"}, {"x": float("nan"), "c": None}]
YES = 1 / (1 + np.exp(-np.array([1.5, -3.0, 0.375])))


@pytest.fixture(autouse=True)
def _interpreted(monkeypatch):
    monkeypatch.setitem(engines.ENGINES, "interpreted", small_bundle.ENTRY)


@pytest.fixture
def path(tmp_path):
    return small_bundle.write(tmp_path / "small.edgeml")


@pytest.fixture(params=["interpreted", "native", "onnx"])
def any_path(request, tmp_path):
    """The bundle with one artifact, for each engine there is."""
    return small_bundle.write(tmp_path / "small.edgeml", formats=[request.param])


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


# --- verify
def test_verify(any_path):
    result = edgeml.verify(any_path)
    assert result.passed
    assert result.live is None
    assert (result.golden.rows, result.golden.refused, result.golden.refused_equal) == (6, 1, True)
    assert set(result.golden.methods) == {"predict", "predict_proba"}
    assert result.golden.bounds["predict_proba"] == 1e-9
    assert result.versions["numpy"] == np.__version__
    assert dumps(result.to_json())


def rewrite_golden(path, tmp_path, edit, report=None):
    """The bundle at path with its golden columns, outputs and refused marks edited."""
    from edgeml.golden import read_golden, write_golden

    with open_bundle(path) as bundle:
        golden = read_golden(bundle)
    parts = {"columns": dict(golden.columns), "outputs": {k: v.copy() for k, v in golden.outputs.items()}}
    parts["refused"] = golden.refused.copy()
    edit(parts)

    def change(manifest, members):
        description, blob = write_golden(**parts)
        members["golden.json"], members["golden.bin"] = dumps(description), blob
        if report is not None:
            members["report.json"] = dumps(report)

    return small_bundle.write(tmp_path / "edited.edgeml", change=change)


def nudge(parts):
    parts["outputs"]["predict_proba"][0, 0] *= 1 + 1e-7


def test_verify_names_a_number_that_is_off(path, tmp_path):
    edited = rewrite_golden(path, tmp_path, nudge)
    with pytest.raises(VerificationError, match=r"golden rows: predict_proba: relative error 1e-07 is over 1e-09") as e:
        edgeml.verify(edited)
    assert e.value.exit_code == 1
    assert np.__version__ in e.value.remedy


def test_verify_keeps_the_bound_of_the_parity_report(path, tmp_path):
    wide = rewrite_golden(path, tmp_path, nudge, {"bounds": {"predict_proba": 1e-6}})
    assert edgeml.verify(wide).golden.bounds["predict_proba"] == 1e-6
    with pytest.raises(ManifestError, match="bounds"):
        edgeml.verify(rewrite_golden(path, tmp_path, nudge, {"bounds": {"predict_proba": "wide"}}))


def test_verify_names_a_flipped_label(path, tmp_path):
    def edit(parts):
        parts["outputs"]["predict"][:2] = parts["outputs"]["predict"][:2][::-1]

    with pytest.raises(VerificationError, match="predict: 2 of 5 rows have another answer"):
        edgeml.verify(rewrite_golden(path, tmp_path, edit))


def test_verify_names_a_row_that_should_be_refused(path, tmp_path):
    def edit(parts):
        parts["refused"][0] = True
        parts["outputs"] = {k: v[1:] for k, v in parts["outputs"].items()}

    with pytest.raises(VerificationError, match="row 0 is answered, which scikit-learn refuses"):
        edgeml.verify(rewrite_golden(path, tmp_path, edit))


def test_verify_names_a_row_that_should_be_answered(path, tmp_path):
    def edit(parts):
        parts["refused"][5] = False
        parts["outputs"] = {k: np.concatenate([v, v[:1]]) for k, v in parts["outputs"].items()}

    with pytest.raises(VerificationError, match="a row that scikit-learn answers is refused: scale was given inf"):
        edgeml.verify(rewrite_golden(path, tmp_path, edit))


def test_verify_names_another_shape(path, tmp_path):
    def edit(parts):
        parts["outputs"]["predict_proba"] = parts["outputs"]["predict_proba"][:, 1]

    with pytest.raises(VerificationError, match=r"predict_proba returns float64\[5, 2\], scikit-learn float64\[5\]"):
        edgeml.verify(rewrite_golden(path, tmp_path, edit))


def test_verify_needs_an_answer_for_every_method_and_column(path, tmp_path):
    with pytest.raises(ManifestError, match="no answers of predict"):
        edgeml.verify(rewrite_golden(path, tmp_path, lambda parts: parts["outputs"].pop("predict")))
    with pytest.raises(ManifestError, match="lacks the column 'c'"):
        edgeml.verify(rewrite_golden(path, tmp_path, lambda parts: parts["columns"].pop("c")))


def test_verify_judges_no_label_of_a_score_that_overflows(path, tmp_path):
    def edit(parts):
        parts["outputs"]["predict_proba"][0] = np.nan
        parts["outputs"]["predict"][0] = "no"

    result = edgeml.verify(rewrite_golden(path, tmp_path, edit))
    assert result.golden.unjudged == 1
    assert result.golden.methods["predict"].rows == 4


class Pipeline:
    """What verify needs of a pipeline, with the small program's own answers moved by ``off``."""

    def __init__(self, off=0.0):
        self.off = off

    def predict(self, X):
        return np.where(self.predict_proba(X)[:, 1] > 0.5, "yes", "no").astype("<U9")

    def predict_proba(self, X):
        if any(row["x"] == 99 for row in X):
            raise ValueError("no 99")
        proba = np.stack([1 - YES, YES], axis=1)[: len(X)]
        return proba * (1 + self.off)


def test_verify_against_a_live_pipeline(path):
    result = edgeml.verify(path, Pipeline(), ROWS)
    assert result.passed
    assert result.live.rows == 3
    with pytest.raises(VerificationError, match="pipeline: predict_proba: relative error 1e-06"):
        edgeml.verify(path, Pipeline(1e-6), ROWS)


def test_verify_and_what_it_is_given(path):
    for arguments in ((Pipeline(),), (None, ROWS)):
        with pytest.raises(InputError, match="a pipeline and rows for it, or neither"):
            edgeml.verify(path, *arguments)
    with pytest.raises(InputError, match="predict refuses the rows: ValueError: no 99"):
        edgeml.verify(path, Pipeline(), [{"x": 99.0, "c": "AA"}])
    with pytest.raises(InputError, match="the pipeline has no predict"):
        edgeml.verify(path, object(), ROWS)
    with pytest.raises(VerificationError, match="answers is refused"):
        edgeml.verify(path, Pipeline(), [{"x": np.inf, "c": "AA"}])


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

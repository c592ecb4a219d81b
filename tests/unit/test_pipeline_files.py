"""Pipeline files the command reads: what needs trust, and what is refused."""

import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_classification
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from edgeml.cli.load_pipeline import load_pipeline
from edgeml.errors import PipelineFileError
from tests.cli_tools import ROOT


def sneaky(x):
    return x


@pytest.mark.parametrize(
    "estimator",
    [
        RandomForestClassifier(3),
        HistGradientBoostingClassifier(max_iter=3),
        GradientBoostingClassifier(n_estimators=3),
        MLPClassifier((3,), max_iter=300, tol=0.1),
        CalibratedClassifierCV(LogisticRegression(), ensemble=False, cv=2),
        make_pipeline(SelectKBest(k=2), StandardScaler(), LogisticRegression()),
    ],
    ids=lambda e: type(e).__name__,
)
def test_everyday_estimators_need_no_trust(tmp_path, estimator):
    from skops import io as skops_io

    X, y = make_classification(60, 4, n_redundant=0, random_state=0)
    skops_io.dump(estimator.fit(X, y), tmp_path / "p.skops")
    assert (load_pipeline(tmp_path / "p.skops").predict(X) == estimator.predict(X)).all()


def test_untrusted_types_are_named_and_refused(tmp_path):
    from skops import io as skops_io

    path = tmp_path / "odd.skops"
    skops_io.dump(make_pipeline(FunctionTransformer(sneaky), LogisticRegression()), path)
    with pytest.raises(PipelineFileError) as caught:
        load_pipeline(path)
    name = next(iter(skops_io.get_untrusted_types(file=path)))
    assert name in caught.value.cause
    assert f"--trust {name}" in caught.value.remedy
    assert load_pipeline(path, [name]).steps[0][1].func is not None
    with pytest.raises(PipelineFileError):
        load_pipeline(path, ["some.other.type"])


@pytest.mark.parametrize("name", ["bad.skops", "bad.joblib", "bad.pkl"])
def test_broken_pipeline_files(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"not a pipeline at all")
    with pytest.raises(PipelineFileError, match="cannot be read"):
        load_pipeline(path)


def test_a_pipeline_of_missing_code_says_so(tmp_path):
    path = tmp_path / "custom.pkl"
    path.write_bytes(b"cno_such_module_here\nThing\n.")
    with pytest.raises(PipelineFileError, match="not importable here: No module named 'no_such_module_here'"):
        load_pipeline(path)


def test_only_one_module_unpickles():
    for path in (ROOT / "edgeml").rglob("*.py"):
        if path.name != "load_pipeline.py" and "edgeml/cli" in str(path):
            text = path.read_text()
            assert "joblib.load" not in text
            assert "pickle" not in text.replace("unpickle", "").replace(".pickle", "") or path.name == "demo.py"

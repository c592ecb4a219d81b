"""Every variant of every estimator x engines: compile, load, and give scikit-learn's answers, all methods.

Compiling judges each engine on the sample and on awkward rows; here the models are asked again, about rows that were
not in the sample too. An engine that a variant skips must be refused with that very reason.
"""

from __future__ import annotations

import numpy as np
import pytest
import sklearn

import edgeml
from edgeml.compare import Measure, compare, side_by_side, ties, usual_sizes
from edgeml.parity.truth import ask, methods_of
from edgeml.sample import read_sample
from tests.conformance.estimators import variants

ENGINES = ("native", "numpy", "onnx", "tflite")
FORMATS = ("native", "onnx", "tflite")


def _minor(version):
    return tuple(int(part) for part in version.split(".")[:2])


@pytest.mark.parametrize("variant", variants(), ids=lambda v: v.name)
def test_same_answers(variant, tmp_path, monkeypatch, record_engine):
    if variant.since and _minor(sklearn.__version__) < _minor(variant.since):
        pytest.skip(f"shown with scikit-learn {variant.since} and later")
    model, X = variant.fit()
    part = _sample(X)
    path = tmp_path / "m.edgeml"
    formats = [f for f in FORMATS if f not in variant.skip]
    with edgeml.compile(model, part, output=path, formats=formats) as bundle:
        report = bundle.json("report.json")
    bounds = report["bounds"]
    sample = read_sample(model, X)
    # A method at which scikit-learn fails for every row (transform of a discriminant analysis by "lsqr") is no method.
    truth = ask(model, sample, [m for m in methods_of(model) if m not in report["methods_left_out"]])
    assert not truth.refused.any(), truth.reason
    for engine in ENGINES:
        format_ = "native" if engine == "numpy" else engine
        if format_ in variant.skip:
            continue
        with monkeypatch.context() as patch:
            if engine == "numpy":
                patch.setenv("EDGEML_KERNELS", "numpy")
            with edgeml.load(path, engine=format_) as compiled:
                _same(compiled, engine, sample, truth, variant.bound, bounds)
        record_engine(engine, variant.of)


def _sample(X):
    """Two thirds of the rows, for compiling."""
    return X.iloc[: 2 * len(X) // 3] if hasattr(X, "iloc") else X[: 2 * X.shape[0] // 3]


def _same(compiled, engine, sample, truth, allowed, bounds):
    single = engine == "tflite"
    measure = Measure("float32" if single else "float64", usual_sizes(truth.outputs))
    for method, expected in truth.outputs.items():
        actual = side_by_side(getattr(compiled, method)(sample.rows))
        assert actual.dtype == expected.dtype, (engine, method)
        assert actual.shape == expected.shape, (engine, method)
        labels = method == "predict"
        tied = ties(truth.outputs, actual, getattr(compiled, "classes_", None), measure) if labels else None
        difference = compare(expected, actual, method, measure, tied)
        assert difference.flips == 0, (engine, method)
        # A float32 answer, or one that BLAS itself does not determine, has the bound that the report tells.
        limit = max(measure.limit(expected.dtype), allowed, bounds.get(method, 0.0))
        assert difference.max_rel <= limit, (engine, method, difference)
    absent = {"predict", "predict_proba", "decision_function", "score_samples", "transform"} - set(truth.outputs)
    assert not any(hasattr(compiled, m) for m in absent), engine


@pytest.mark.parametrize("variant", [v for v in variants() if v.skip] or [None], ids=lambda v: v and v.name)
def test_what_is_skipped_is_refused_by_name(variant, tmp_path):
    assert variant is not None, "TFLite alone refuses some"
    model, X = variant.fit()
    for engine, reason in variant.skip.items():
        # A format that cannot express it, or float32 arithmetic that does not keep its digits.
        with pytest.raises((edgeml.errors.FormatError, edgeml.errors.ParityError)) as caught:
            edgeml.compile(model, _sample(X), output=tmp_path / "m.edgeml", formats=[engine])
        assert reason in str(caught.value), engine


def test_a_method_that_differs_is_noticed(tmp_path):
    """The comparison has teeth: an answer off by 1e-8 fails it."""
    variant = next(v for v in variants() if v.name.startswith("Ridge(") or v.name.startswith("LogisticRegression("))
    model, X = variant.fit()
    edgeml.compile(model, X, output=tmp_path / "m.edgeml", formats=["native"]).close()
    model.coef_ = np.asarray(model.coef_) * (1 + 1e-8)
    sample = read_sample(model, X)
    truth = ask(model, sample, ["decision_function" if hasattr(model, "decision_function") else "predict"])
    with edgeml.load(tmp_path / "m.edgeml", engine="native") as compiled, pytest.raises(AssertionError, match="native"):
        _same(compiled, "native", sample, truth, 1e-9, {})

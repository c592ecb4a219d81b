"""Cases x engines: compile, load, and give scikit-learn's answers. Compiling also runs parity on awkward rows."""

from __future__ import annotations

import re

import numpy as np
import pytest

import edgeml
from edgeml.compare import Measure, compare, usual_sizes
from edgeml.parity.truth import ask, methods_of
from edgeml.sample import read_sample
from tests.conformance.cases import CASES, Case

ENGINES = ("native", "numpy", "onnx", "tflite")
FORMATS = ("native", "onnx", "tflite")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Each case is fitted and compiled once; (pipeline, rows, bundle path) by case name."""
    folder = tmp_path_factory.mktemp("bundles")
    cache: dict[str, tuple] = {}

    def get(case: Case):
        if case.name not in cache:
            model, X = case.fit()
            path = folder / f"{len(cache)}.edgeml"
            formats = [f for f in FORMATS if f not in dict(case.skip)]
            edgeml.compile(model, X, output=path, formats=formats).close()
            sample = read_sample(model, X)
            cache[case.name] = (sample, ask(model, sample, methods_of(model)), path)
        return cache[case.name]

    return get


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_same_answers(case, engine, compiled, monkeypatch):
    reason = dict(case.skip).get(engine)
    if reason:
        pytest.skip(reason)
    if engine == "numpy":
        monkeypatch.setenv("EDGEML_KERNELS", "numpy")
    sample, truth, path = compiled(case)
    assert not truth.refused.any()
    with edgeml.load(path, engine="native" if engine == "numpy" else engine) as model:
        single = engine == "tflite" or any(c.kind == "float32" for c in sample.schema.columns)
        measure = Measure("float32" if engine == "tflite" else "float64", usual_sizes(truth.outputs))
        for method, expected in truth.outputs.items():
            actual = getattr(model, method)(sample.rows)
            assert actual.dtype == expected.dtype
            assert actual.shape == expected.shape
            difference = compare(expected, actual, method, measure)
            assert difference.flips == 0, method
            assert difference.max_rel <= (1e-5 if single else 1e-9), (method, difference)
        absent = {"predict", "predict_proba", "decision_function", "score_samples", "transform"} - set(truth.outputs)
        assert not any(hasattr(model, m) for m in absent)


@pytest.mark.parametrize("case", [c for c in CASES if c.skip], ids=lambda c: c.name)
def test_what_is_skipped_is_refused_by_name(case, tmp_path):
    model, X = case.fit()
    for engine, reason in case.skip:
        with pytest.raises(edgeml.errors.FormatError, match=re.escape(reason)):
            edgeml.compile(model, X, output=tmp_path / "m.edgeml", formats=[engine])
        with edgeml.compile(model, X, output=tmp_path / "m.edgeml") as bundle:
            assert bundle.manifest["missing"][engine] == reason


@pytest.mark.parametrize(
    "case",
    [c for c in CASES if "transformer" not in c.name and "strings" not in c.name],
    ids=lambda c: c.name,
)
def test_single_rows(case, compiled):
    """predict_one gives what predict gives for the same row, from a dict and from a sequence."""
    sample, truth, path = compiled(case)
    with edgeml.load(path) as model:
        for i in range(12):
            row = sample.take(np.array([i]))
            cells = {str(k): v for k, v in row.iloc[0].items()} if sample.is_frame else row[0]
            assert model.predict_one(cells) == model.predict(row)[0]
            if "predict_proba" in truth.outputs:
                np.testing.assert_array_equal(model.predict_proba_one(cells), model.predict_proba(row)[0])


def test_a_wrong_kernel_is_noticed(tmp_path, monkeypatch):
    """Parity has teeth: a program whose scaling is off by 1e-7 is refused and no file is written."""
    from edgeml import converters
    from edgeml.compiler import source

    def off(*arguments, **options):
        program = converters.to_program(*arguments, **options)
        from dataclasses import replace

        nodes = tuple(
            replace(n, attrs={**n.attrs, "bias": n.attrs["bias"] * (1 + 1e-7)}) if n.op == "Linear" else n
            for n in program.nodes
        )
        return replace(program, nodes=nodes)

    monkeypatch.setattr(source, "to_program", off)
    model, X = next(c for c in CASES if c.name == "logistic binary").fit()
    with pytest.raises(edgeml.errors.ParityError, match="relative error"):
        edgeml.compile(model, X, output=tmp_path / "m.edgeml")
    assert not list(tmp_path.iterdir())

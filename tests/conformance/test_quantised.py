"""Cases x ways to quantise x formats: the budget is kept, and stock runtimes run the files in a process without EdgeML.

int8, which rounds most, is tried on every case; the other ways on one case of every kind. Every file that is made is
handed to the stock runtime of its format.
"""

from __future__ import annotations

import numpy as np
import pytest

import edgeml
from edgeml.parity.truth import ask, methods_of
from edgeml.quantize.budget import Budget
from edgeml.quantize.forms import ROUNDING
from edgeml.quantize.judge import judge
from edgeml.quantize.truth import Truth
from edgeml.sample import read_sample
from tests import stock
from tests.conformance.cases import CASES, Case

# One of every kind of weights and of what stands around them.
KINDS = (
    "logistic three classes", "ridge regression", "forest three classes grown out", "boosting regression huber",
    "hist boosting native categories", "mlp three classes tanh", "k-means", "pca logistic", "float32 scaler logistic",
    "voting soft", "stacking classification", "calibrated isotonic", "transformer only",
)  # fmt: skip
PAIRS = [(case, "int8") for case in CASES] + [
    (case, mode) for case in CASES if case.name in KINDS for mode in ROUNDING if mode != "int8"
]
# Samples of some hundred rows: one flip among the judged half is 0.3 %.
BUDGET = Budget(label_flips=0.01, metric_drop=0.01)


@pytest.fixture(scope="module")
def fitted():
    cache: dict[str, tuple] = {}

    def get(case: Case):
        if case.name not in cache:
            pipeline, X = case.fit()
            sample = read_sample(pipeline, X)
            cache[case.name] = (pipeline, sample, ask(pipeline, sample, methods_of(pipeline)))
        return cache[case.name]

    return get


@pytest.mark.parametrize(("case", "mode"), PAIRS, ids=[f"{case.name}-{mode}" for case, mode in PAIRS])
def test_budget_and_stock_runtimes(case, mode, fitted, tmp_path):
    pipeline, sample, truth = fitted(case)
    formats = [f for f in ("native", "onnx", "tflite") if f not in dict(case.skip)]
    path = tmp_path / "m.edgeml"
    bundle = edgeml.compile(pipeline, sample.rows, output=path, formats=formats, quantize=mode, budget=BUDGET)
    report = bundle.json("report.json")["quantization"]
    assert list(report["formats"]) == formats
    assert all(found["kept"] for found in report["formats"].values())
    known = Truth(truth.outputs, None, getattr(pipeline, "classes_", None))
    every = Budget(label_flips=0.02, metric_drop=0.02)  # of all rows, not those alone that were judged
    answers = {}
    for engine in formats:
        with edgeml.load(path, engine=engine) as model:
            answers[engine] = {m: getattr(model, m)(sample.rows) for m in truth.outputs}
        for method, expected in truth.outputs.items():
            assert answers[engine][method].dtype == expected.dtype
            assert answers[engine][method].shape == expected.shape
        verdict = judge(known, answers[engine], every, intervals=False)
        assert verdict.kept, (engine, verdict.broken())
        assert edgeml.verify(path, engine=engine).passed
    alone = stock.answers(path, sample.rows)
    assert list(alone) == [f for f in formats if f != "native"]
    for engine, found in alone.items():
        for method, expected in answers[engine].items():
            if expected.dtype.kind == "f":
                np.testing.assert_allclose(found[method], expected, rtol=1e-6, atol=1e-6, err_msg=method)
            else:
                np.testing.assert_array_equal(found[method], expected, err_msg=method)

"""Property tests: any row at all, Hypothesis's choice, against scikit-learn, on the native, NumPy and ONNX engines.

A row is either answered alike or refused by both. Rows go through one at a time, so that one refusal hides no other.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import edgeml
from edgeml.compare import compare
from edgeml.errors import InputError
from edgeml.parity.check import overflowed
from edgeml.parity.truth import ask, methods_of
from edgeml.sample import Sample, read_sample
from tests.conformance.cases import CASES, mixed

NAMES = (
    "logistic three classes",
    "forest three classes grown out",
    "boosting binary",
    "hist boosting native categories",
    "mlp binary",
    "stacking classification",
    "calibrated isotonic",
    "voting hard",
    "indicator",
)

# Beyond 1e150 squares and sums overflow in an order that only BLAS knows.
numbers = st.one_of(
    st.floats(-1e150, 1e150),
    st.sampled_from([np.nan, np.inf, -np.inf, -0.0, 5e-324, 3.5e38]),
    st.sampled_from(mixed()[0]["ratio"].dropna().tolist()),
)
text = st.one_of(st.none(), st.just(np.nan), st.text(max_size=6), st.sampled_from(["red", "green", "blue", "", "c3"]))
rows = st.lists(
    st.fixed_dictionaries(
        {
            "age": st.integers(-(2**63), 2**63 - 1),
            "income": numbers,
            "ratio": numbers,
            "colour": text,
            "city": text,
            "member": st.booleans(),
            "rooms": st.integers(-3, 300),
        }
    ),
    min_size=1,
    max_size=6,
)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    made = {}
    for case in CASES:
        if case.name in NAMES:
            pipeline, X = case.fit()
            path = folder / f"{len(made)}.edgeml"
            edgeml.compile(pipeline, X, output=path).close()
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("EDGEML_KERNELS", "numpy")
                slow = edgeml.load(path, engine="native")
            made[case.name] = (
                pipeline,
                read_sample(pipeline, X),
                [edgeml.load(path), edgeml.load(path, engine="onnx"), slow],
            )
    return made


def frame_of(cells, like):
    frame = pd.DataFrame({name: [row.get(name) for row in cells] for name in like.columns if name != "unused"})
    frame["unused"] = like["unused"].iloc[0]
    for name in frame.columns:
        if like[name].dtype == "str":
            frame[name] = pd.Series([np.nan if c is None else c for c in frame[name]], dtype="str")
        else:
            frame[name] = frame[name].astype(like[name].dtype)
    return frame[list(like.columns)]


@pytest.mark.parametrize("name", NAMES)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(cells=rows)
def test_any_row(name, models, cells):
    pipeline, sample, engines = models[name]
    frame = frame_of(cells, sample.rows)
    methods = methods_of(pipeline)
    for i in range(len(frame)):
        row = Sample(frame.iloc[i : i + 1].reset_index(drop=True), sample.schema)
        try:
            truth = ask(pipeline, row, methods)
        except edgeml.errors.SampleError:
            truth = None
        for model in engines:
            for method in methods:
                if truth is None:
                    with pytest.raises(InputError):
                        getattr(model, method)(row.rows)
                    continue
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    actual = getattr(model, method)(row.rows)
                if overflowed(truth).any():
                    continue
                difference = compare(truth.outputs[method], actual, method)
                assert difference.flips == 0, (model.engine, method, truth.outputs[method], actual)
                assert difference.max_rel <= 1e-9, (model.engine, method, difference)

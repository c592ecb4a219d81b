"""Real data, every held-out row: New York's flights through the five everyday pipelines, on every engine."""

from __future__ import annotations

import numpy as np
import pytest

import edgeml
from edgeml.compare import compare
from edgeml.parity.leaves import leaf_program
from tests.conformance.flights import PIPELINES, data, fitted


@pytest.mark.parametrize("name", PIPELINES)
def test_held_out_flights(name, tmp_path):
    X_train, _, X, _ = data()
    assert len(X) == 98_204
    assert X["carrier"].isna().any()
    assert X["wind_gust"].isna().mean() > 0.5
    pipeline = fitted(name)
    labels, proba = pipeline.predict(X), pipeline.predict_proba(X)
    path = tmp_path / "flights.edgeml"
    bundle = edgeml.compile(pipeline, X_train.iloc[:20_000], output=path, formats=["native", "onnx"])
    trees = bundle.json("report.json")["leaves"]
    if "forest" in name or "hist" in name or "categories" in name:
        assert trees["trees"] >= 100
        assert trees["different"] == {"native": 0, "onnx": 0}
    for engine in ("native", "onnx"):
        with edgeml.load(path, engine=engine) as model:
            assert np.array_equal(model.predict(X), labels)
            assert compare(proba, model.predict_proba(X), "predict_proba").max_rel <= 1e-9, engine


def test_leaves_of_every_held_out_flight(tmp_path):
    """The forest's leaves on all held-out rows, from the program itself, are those of scikit-learn's apply."""
    from edgeml.converters import to_program
    from edgeml.ir import interpreter
    from edgeml.parity.leaves import sklearn_leaves
    from edgeml.runtimes.frames import read_rows
    from edgeml.sample import read_sample

    _, _, X, _ = data()
    pipeline = fitted("forest")
    schema = read_sample(pipeline, X).schema
    program = leaf_program(to_program(pipeline, schema, {"predict_proba": ("matrix", "<f8")}))
    columns, _ = read_rows(X, schema)
    assert np.array_equal(interpreter.run(program, columns, ["leaves_0"])["leaves_0"], sklearn_leaves(pipeline, X))

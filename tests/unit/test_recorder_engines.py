"""Compiled pipelines, recorded on every engine: what the windows hold is what the profile's own counting finds."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC

import edgeml
from edgeml.profile import bin_counts
from edgeml.runtimes.frames import read_rows
from edgeml.schema import MATRIX
from edgeml.telemetry.window import check_window, dense
from tests.recording_tools import MemorySpool, use

ENGINES = ("native", "onnx", "tflite")


def table(rows=400, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "a": rng.normal(size=rows),
            "n": rng.integers(0, 50, rows),
            "f": rng.random(rows) < 0.5,
            "s": rng.choice(["x", "y", "z"], rows),
            "q": rng.normal(size=rows).astype(np.float32),
        }
    )


def mixed(estimator):
    X = table()
    y = np.where(X.a + (X.s == "x") > 0.3, "yes", "no")
    encode = make_column_transformer(
        (StandardScaler(), ["a", "n", "q", "f"]), (OneHotEncoder(handle_unknown="ignore"), ["s"])
    )
    return make_pipeline(encode, estimator).fit(X, y), X


def matrix(estimator, dtype=np.float64):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 3)).astype(dtype)
    y = X[:, 0] * 2 + X[:, 1] if isinstance(estimator, LinearRegression) else np.digitize(X[:, 0], [-0.5, 0.5])
    return estimator.fit(X, y), X


CASES = {
    "columns": lambda: mixed(LogisticRegression()),
    "margins": lambda: mixed(LinearSVC()),
    "matrix": lambda: matrix(LinearRegression()),
    "float32 matrix, three classes": lambda: matrix(RandomForestClassifier(5, random_state=0), np.float32),
}


@pytest.fixture(scope="module", params=list(CASES))
def compiled(request, tmp_path_factory):
    pipeline, X = CASES[request.param]()
    path = tmp_path_factory.mktemp("bundle") / "m.edgeml"
    edgeml.compile(pipeline, X, output=path, formats=list(ENGINES)).close()
    return path, X


@pytest.mark.parametrize("engine", ENGINES)
def test_windows_count_what_the_profile_counts(compiled, engine, monkeypatch, tmp_path):
    path, sample = compiled
    spool = use(monkeypatch, MemorySpool())
    framed = hasattr(sample, "iloc")
    many = table(300, seed=1) if framed else np.random.default_rng(1).normal(size=(300, 3)).astype(sample.dtype)
    if framed:
        many.loc[::7, "s"] = "never seen"
        many.loc[::5, "a"] = 1e6
    with edgeml.load(path, engine=engine) as model:
        methods = [m for m in model.manifest["methods"] if m not in ("transform", "predict_log_proba")]
        expected = {m: getattr(model, m)(many) for m in methods}
        rows = many.to_dict("records") if framed else list(many)
        model.record_to(tmp_path / "spool")
        for method in methods:
            np.testing.assert_array_equal(getattr(model, method)(many), expected[method])
        singles = [m for m in methods if hasattr(model, f"{m}_one")]
        for method in singles:
            one = getattr(model, f"{method}_one")
            for row in rows:
                one(row)
        schema = model.schema
        columns, _ = read_rows(many, schema)
    (window,) = spool.windows
    (profile,) = (json.loads(body) for body in spool.profiles.values())
    check_window(window, profile)
    times = len(methods) + len(singles)
    assert window["rows"] == 300 * times
    assert window["errors"] == {}
    assert window["calls"] == {"one": 300 * len(singles), "batch": len(methods)}
    for record, pairs in zip(profile["features"], window["features"], strict=True):
        name = record["name"]
        cells = columns[name] if framed else columns[MATRIX][:, schema.names.index(name)]
        once = bin_counts(record, cells)["counts"]
        assert dense(pairs, len(once)) == [times * n for n in once], name
    for record, pairs in zip(profile["scores"], window["scores"], strict=True):
        method, _, column = record["name"].partition("[")
        values = expected[method][:, int(column[:-1])] if column else expected[method]
        found = dense(pairs, len(record["counts"]))
        assert sum(found) == 300 * (1 + (method in singles)), record["name"]
        if engine == "native":  # other engines may answer one row another way than a batch, in the last digits
            assert found == [(1 + (method in singles)) * n for n in bin_counts(record, values)["counts"]]

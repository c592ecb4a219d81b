"""Counting of matrices, of labels of any dtype, of maxima, without a profile; what is refused before it is counted."""

import numpy as np
import pytest

from edgeml.errors import ProfileError, ProgramError
from edgeml.profile import bin_counts, build_profile
from edgeml.schema import MATRIX as X
from edgeml.schema import Column, Schema
from edgeml.telemetry.counting import Layout
from edgeml.telemetry.window import dense
from tests.counting_tools import (
    MACHINES,
    METHODS,
    PROFILE,
    by_record,
    counts_of,
    expected,
    machine_of,
    one_row,
    recorded,
)
from tests.recording_tools import MATRIX, SCHEMA, sample


@pytest.fixture(params=list(MACHINES))
def machine(request):
    return machine_of(request.param)


@pytest.mark.parametrize("kind", ["float64", "float32", "int64", "bool", "string"])
def test_a_matrix_is_counted_by_its_used_columns(machine, kind):
    rng = np.random.default_rng(1)
    schema = Schema("matrix", tuple(Column(c.name, kind, used=c.used) for c in MATRIX.columns))
    values = rng.normal(size=(500, 4)) * 100
    cells = np.array([["a", "b"][int(v > 0)] for v in values.ravel()], dtype=object).reshape(500, 4) if (
        kind == "string") else (values > 0 if kind == "bool" else values.astype(kind))  # fmt: skip
    made = build_profile({X: cells}, schema, {"predict": values[:, 0]})
    counts = counts_of(machine, schema, made, methods=("predict",))
    one = recorded(counts, 0, lambda row: 1.5)
    counts.add("predict", "batch", {X: cells}, 500, values[:, 0], 1)
    one(cells[0].tolist())
    one(tuple(cells[1].tolist()))
    if kind != "string":
        one(cells[2])
    rows = np.concatenate([cells, cells[: 2 if kind == "string" else 3]])
    fields = counts.layout.fields(counts.take(1.0))
    for pairs, record in zip(fields["features"], made["features"], strict=True):
        column = int(record["name"][1:])
        assert dense(pairs, len(record["counts"])) == bin_counts(record, rows[:, column])["counts"]


@pytest.mark.parametrize(
    "labels",
    [np.array([0, 1, 7]), np.array([True, False, True]), np.array(["u", "v", "w"], dtype=object),
     np.array([0.5, 1.5, 2]), np.array([1, 2, 3], dtype=np.uint8)],
)  # fmt: skip
def test_labels_of_any_dtype(machine, labels):
    columns, _ = sample(300)
    some = labels[np.arange(300) % 2]
    made = build_profile(columns, SCHEMA, {"predict": some, "predict_proba": np.full((300, 2), 0.5)})
    counts = counts_of(machine, made=made, methods=("predict", "predict_proba"))
    one = recorded(counts, 0, lambda row: labels[2])
    counts.add("predict", "batch", columns, 300, labels[np.arange(300) % 3], 1)
    one(one_row())
    record, pairs = made["scores"][0], counts.layout.fields(counts.take(1.0))["scores"][0]
    every = np.concatenate([labels[np.arange(300) % 3], labels[2:3]])
    assert dense(pairs, len(record["counts"])) == bin_counts(record, every)["counts"]


def test_of_many_columns_the_maximum_is_counted(machine):
    columns, _ = sample(300)
    proba = np.random.default_rng(0).dirichlet(np.ones(40), 300)
    made = build_profile(columns, SCHEMA, {"predict_proba": proba})
    counts = counts_of(machine, made=made, methods=("predict_proba",))
    counts.add("predict_proba", "batch", columns, 300, proba.astype(np.float32), 1)
    recorded(counts, 0, lambda row: proba[7])(one_row())
    record, pairs = made["scores"][0], counts.layout.fields(counts.take(1.0))["scores"][0]
    every = np.concatenate([proba.astype(np.float32).max(axis=1), [proba[7].max()]])
    assert dense(pairs, len(record["counts"])) == bin_counts(record, every)["counts"]


def test_a_model_without_a_profile_counts_rows_and_latencies(machine):
    counts = counts_of(machine, made=None)
    columns, scores = sample(10)
    counts.add("transform", "batch", columns, 10, scores["transform"], 10**6)
    recorded(counts, 0, lambda row: "x")(one_row())
    fields = counts.layout.fields(counts.take(1.0))
    assert (fields["rows"], fields["calls"]) == (11, {"one": 1, "batch": 1})
    assert fields["features"] == fields["scores"] == []


def test_methods_the_profile_has_no_scores_of_count_features(machine):
    counts = counts_of(machine)
    columns, scores = sample(50)
    counts.add("transform", "batch", columns, 50, scores["transform"], 1)
    found, _ = by_record(counts)
    assert found == expected(columns, {})


@pytest.mark.parametrize(
    ("method", "answer"),
    [("predict_proba", np.zeros((5, 2))), ("predict_proba", np.zeros(5)), ("predict", np.array(["x"] * 4)),
     ("decision_function", np.zeros((5, 2)))],
)  # fmt: skip
def test_answers_of_another_shape_count_nothing_and_read_no_memory(machine, method, answer):
    counts = counts_of(machine)
    columns, _ = sample(2000)
    columns = {name: x[:5] for name, x in columns.items()}
    with pytest.raises(ProgramError):
        counts.add(method, "batch", columns, 5, answer, 1)
    with pytest.raises(ProgramError, match="cells"):
        counts.add("transform", "batch", {**columns, "double": np.zeros(4)}, 5, np.zeros((5, 2)), 1)
    assert set(counts.take(1.0)) == {0}


def test_a_profile_of_other_columns_is_refused():
    for schema in (Schema("columns", SCHEMA.columns[:3]), Schema("columns", (Column("double", "string"),))):
        with pytest.raises(ProfileError, match="does not fit"):
            Layout(schema, PROFILE, METHODS)


def test_edges_that_are_no_numbers_of_their_dtype_are_refused(machine):
    record = next(r for r in PROFILE["features"] if r["name"] == "whole")
    broken = {**PROFILE, "features": [{**record, "edges": [0, 2**70]}]}
    with pytest.raises(ProfileError, match="int64"):
        counts_of(machine, made=broken)

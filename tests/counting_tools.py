"""What the tests of counting share: counts on a layout of every kind of column, and what the profile would count."""

from __future__ import annotations

import pytest

from edgeml.profile import bin_counts
from edgeml.runtimes.kernels import library
from edgeml.runtimes.recording_counts import Counts
from edgeml.runtimes.recording_row import row_recorder
from edgeml.telemetry.counting import Layout
from edgeml.telemetry.window import dense
from tests.recording_tools import SCHEMA, profile

PROFILE = profile()
METHODS = ("predict", "predict_proba", "decision_function", "transform")
MACHINES = {"kernels": library.entry(), "numpy": None}


def machine_of(name):
    """The kernels' library, or None for NumPy."""
    if name == "kernels" and MACHINES["kernels"] is None:
        pytest.skip("no compiled kernels on this machine: EDGEML_KERNELS=numpy, or no Numba")
    return MACHINES[name]


def counts_of(machine, schema=SCHEMA, made=PROFILE, enough=10**9, methods=METHODS):
    return Counts(Layout(schema, made, methods), enough, machine)


def by_record(counts):
    """Dense counts by the record's name, and the rest of the fields."""
    fields = counts.layout.fields(counts.take(1.0))
    found = {}
    for kind in ("features", "scores"):
        for record, pairs in zip(PROFILE[kind], fields[kind], strict=True):
            found[record["name"]] = dense(pairs, len(record["counts"]))
    return found, fields


def expected(columns, answers):
    found = {r["name"]: bin_counts(r, columns[r["name"]])["counts"] for r in PROFILE["features"]}
    for record in PROFILE["scores"]:
        method, _, column = record["name"].partition("[")
        values = answers.get(method)
        if values is None:
            found[record["name"]] = [0] * len(record["counts"])
        else:
            cells = values[:, int(column[:-1])] if column else values
            found[record["name"]] = bin_counts(record, cells)["counts"]
    return found


def recorded(counts, index, engine_one, slow=None, failed=None, enough=None):
    def no(*arguments):
        raise AssertionError(arguments)

    slow_one = no if slow is None else lambda *arguments: slow.append(arguments)
    return row_recorder(engine_one, counts, index, failed or no, slow_one, enough or no)


def one_row(**changed):
    row = {"double": 0.5, "single": 0.5, "whole": 3, "flag": True, "text": "a", "rare": "v1", "wide": 1.0,
           "constant": 0.0, "empty": 1.0}  # fmt: skip
    return row | changed

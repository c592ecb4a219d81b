"""What the tests of OTLP share: a reference profile of every kind of column, windows on it, and a message's points."""

import numpy as np

from edgeml.profile import bin_counts, build_profile
from edgeml.schema import Column, Schema
from edgeml.telemetry.otlp import to_request
from edgeml.telemetry.window import check_window, sparse
from tests.otlp_receiver import read

MODEL = {"name": "churn", "version": 3, "manifest_sha256": "0" * 64}


def columns():
    """A sample of each kind of column, by name."""
    rng = np.random.default_rng(0)
    return {
        "age": rng.normal(40, 9, 2000),
        "visits": rng.integers(0, 5, 2000),
        "dose": rng.integers(0, 4, 2000).astype(float),
        "town": np.array(rng.choice(["Bern", "other", "Zürich"], 2000), dtype=object),
        "late": rng.random(2000) < 0.3,
        "empty": np.full(2000, np.nan),
        "big": 2**60 + rng.integers(0, 3, 2000),
    }


def profile_of(columns):
    """The reference profile of ``columns`` and of a classifier's scores."""
    kinds = {"f": "float64", "i": "int64", "O": "string", "b": "bool"}
    schema = Schema("columns", tuple(Column(n, kinds[v.dtype.kind]) for n, v in columns.items()))
    rng = np.random.default_rng(1)
    positive = rng.random(2000)
    scores = {"predict": (positive > 0.5).astype(int), "predict_proba": np.column_stack([1 - positive, positive])}
    return build_profile(columns, schema, scores)


def window_of(profile, values, scores=None, **more):
    """A window that counted ``values`` by column."""

    def counted(records, values):
        return [sparse(bin_counts(r, values[r["name"]])["counts"]) if r["name"] in values else [] for r in records]

    window = {
        "window_version": 1,
        "model": MODEL,
        "profile_sha256": profile["sha256"],
        "process": {"pid": 77, "boot_id": "b"},
        "start": 100.0,
        "end": 160.0,
        "wall": 1_700_000_000.0,
        "rows": 9,
        "calls": {"one": 4, "batch": 1},
        "latency": {"one": [], "batch": []},
        "features": counted(profile["features"], values),
        "scores": counted(profile["scores"], scores or {}),
        "errors": {},
        "system": {},
        "feedback": None,
        **more,
    }
    check_window(window, profile)
    return window


def points_of(readings, temporality="delta"):
    """{(metric, attributes): point} of a message, read as strictly as a receiver can."""
    request = to_request(readings, temporality)
    found = read(type(request).FromString(request.SerializeToString()))
    return {(name, attributes): point for (_, name, attributes, _), point in found.items()}

"""What the recorder's tests share: a schema of every kind with a profile, a spool in memory, a small bundle."""

from __future__ import annotations

import json
import threading

import numpy as np

from edgeml.errors import SpoolError
from edgeml.jsonutil import dumps
from edgeml.profile import build_profile
from edgeml.schema import Column, Schema
from edgeml.telemetry import outlet
from tests import small_bundle
from tests.waiting import PATIENCE

SCHEMA = Schema(
    "columns",
    (
        Column("double", "float64"),
        Column("skipped", "float64", used=False),
        Column("single", "float32"),
        Column("whole", "int64"),
        Column("flag", "bool"),
        Column("text", "string", null="both"),
        Column("rare", "string", null="both"),
        Column("any", "any", used=False),
        Column("wide", "float64"),
        Column("constant", "float64"),
        Column("empty", "float64"),
    ),
)
MATRIX = Schema("matrix", tuple(Column(f"x{i}", "float64", used=i != 1) for i in range(4)))
SMALL_PROFILE_SCORES = {"predict": np.array(["no", "yes"] * 10), "predict_proba": np.full((20, 2), 0.5)}
BIG = 2**60


def sample(rows: int = 2000, seed: int = 0):
    """Columns of ``SCHEMA`` and scores of methods, to make a profile from."""
    rng = np.random.default_rng(seed)
    text = np.array([None, "a", "b", "\U0001f600", "\ud800", ""], dtype=object)
    columns = {
        "double": np.where(rng.random(rows) < 0.1, np.nan, rng.normal(size=rows)),
        "single": rng.normal(size=rows).astype(np.float32),
        "whole": rng.integers(-BIG, BIG, rows),
        "flag": rng.random(rows) < 0.5,
        "text": text[rng.integers(0, len(text), rows)],
        "rare": np.array([f"v{i}" for i in rng.integers(0, rows, rows)] , dtype=object),
        "wide": np.exp(rng.normal(scale=100, size=rows)),
        "constant": np.full(rows, -0.0),
        "empty": np.full(rows, np.nan),
    }  # fmt: skip
    columns["rare"][: rows // 2] = "often"
    proba = rng.dirichlet(np.ones(3), rows)
    scores = {
        "predict": np.array(["x", "y", "zebra"])[rng.integers(0, 3, rows)],
        "predict_proba": proba,
        "decision_function": rng.normal(size=rows),
        "transform": rng.normal(size=(rows, 2)),
    }
    return columns, scores


def profile(rows: int = 2000):
    columns, scores = sample(rows)
    return build_profile(columns, SCHEMA, scores)


class MemorySpool:
    """A spool in memory that can be made to fail and to be slow."""

    def __init__(self):
        self.items, self.losses, self.profiles = [], [], {}
        self.failing = None
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.appended = threading.Condition()
        self.closed = 0

    def append(self, items, losses=()):
        self.entered.set()
        assert self.gate.wait(PATIENCE)
        if self.failing is not None:
            raise self.failing
        with self.appended:
            self.items += items
            self.losses += losses
            self.appended.notify_all()

    def put_profile(self, sha256, body):
        self.profiles[sha256] = body

    def stats(self):
        raise SpoolError("has no figures")

    def close(self):
        self.closed += 1

    @property
    def windows(self):
        return [json.loads(item.payload) for item in self.items if item.kind == "window"]

    def wait_for(self, condition, seconds=30):
        with self.appended:
            assert self.appended.wait_for(lambda: condition(self), seconds)


def use(monkeypatch, spool):
    """Every recorder opens ``spool`` from now on."""
    monkeypatch.setattr(outlet, "open_spool", lambda settings: spool)
    return spool


def small(path, **options):
    """The small bundle of ``small_bundle`` with a reference profile."""
    n = 20
    columns = {
        "x": np.linspace(-1, 1, n),
        "c": np.array(["AA", "UA"] * (n // 2), dtype=object),
    }
    made = build_profile(columns, small_bundle.SCHEMA, SMALL_PROFILE_SCORES)

    def change(manifest, members):
        members["profile.json"] = dumps(made)
        manifest["profile_sha256"] = made["sha256"]

    return small_bundle.write(path, change=change, **options)


def total(windows, field="rows"):
    return sum(window[field] for window in windows)

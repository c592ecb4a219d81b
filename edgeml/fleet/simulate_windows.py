"""Windows that simulated devices send: real in form and size, drawn from a reference profile.

Comes in: a bundle, or nothing for a built-in model of 30 features. Goes out: templates of windows, drawn once, which a
device fills in with its clocks; drawing each anew would cost more than the server's own work. ``simulate.py`` calls it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from edgeml.bundle import open_bundle
from edgeml.errors import SimulationError
from edgeml.jsonutil import dumps
from edgeml.profile import build_profile, check_profile
from edgeml.schema import Column, Schema
from edgeml.telemetry.window import LATENCY_BINS, WINDOW_VERSION, check_window, latency_bin, sparse

FEATURES = 30
VARIANTS = 64
_SAMPLE_ROWS = 4000
_TOWNS = ("Aarau", "Basel", "Bern", "Chur", "Davos", "Genf", "Lugano", "Olten", "Sitten", "Thun", "Zug", "Zürich")

# What a template is made with and a device replaces; no other part of a window looks like these.
_END, _START, _WALL, _PID, _BOOT = 7771777.25, 6661666.25, 5551555.25, 444144414441, "@boot@"


@dataclass(frozen=True, slots=True)
class SimulatedModel:
    """``window_model`` is the window's field ``model``; ``profile`` is None for a bundle without one."""

    window_model: dict[str, Any]
    profile: dict[str, Any] | None

    @property
    def profile_sha256(self) -> str | None:
        return None if self.profile is None else str(self.profile["sha256"])


@dataclass(frozen=True, slots=True)
class Template:
    """A window of ``rows`` rows but for its clocks and its process."""

    rows: int
    form: bytes

    def fill(self, *, start: float, end: float, wall: float, pid: int, boot_id: str) -> bytes:
        """The payload of an item: canonical JSON. Monotonic ``start`` and ``end``, and ``wall``, in seconds."""
        return self.form % (
            repr(round(end, 3)).encode(),
            boot_id.encode(),
            b"%d" % pid,
            repr(round(start, 3)).encode(),
            repr(round(wall, 3)).encode(),
        )


def built_in_model(name: str) -> SimulatedModel:
    """A model of 30 features, 24 of them numbers, that scores two classes; its profile is the same in every run."""
    rng = np.random.default_rng(30)
    columns: dict[str, Any] = {}
    for index in range(12):
        columns[f"measure_{index:02}"] = rng.normal(index, 1 + index / 4, _SAMPLE_ROWS)
    for index in range(8):
        columns[f"amount_{index:02}"] = np.round(rng.lognormal(3, 0.5 + index / 10, _SAMPLE_ROWS), 2)
    for index in range(4):
        columns[f"number_{index:02}"] = rng.poisson(2 + 3 * index, _SAMPLE_ROWS)
    for index in range(4):
        columns[f"place_{index:02}"] = np.array(rng.choice(_TOWNS[: 4 + 2 * index], _SAMPLE_ROWS), dtype=object)
    for index in range(2):
        columns[f"flag_{index:02}"] = rng.random(_SAMPLE_ROWS) < 0.2 + index / 2
    for name_of, share in (("measure_00", 0.05), ("amount_03", 0.01)):
        columns[name_of][rng.random(_SAMPLE_ROWS) < share] = np.nan
    kinds = {"f": "float64", "i": "int64", "b": "bool", "O": "string"}
    schema = Schema("columns", tuple(Column(n, kinds[v.dtype.kind]) for n, v in columns.items()))  # type: ignore[arg-type]  # a str of kinds
    positive = rng.beta(2, 5, _SAMPLE_ROWS)
    scores = {"predict": (positive > 0.5).astype(int), "predict_proba": np.column_stack([1 - positive, positive])}
    profile = build_profile(columns, schema, scores)
    manifest = sha256(dumps(profile)).hexdigest()
    return SimulatedModel({"name": name, "version": 1, "manifest_sha256": manifest}, profile)


def model_of_bundle(path: Path, name: str | None = None) -> SimulatedModel:
    """The model of a bundle, under another name when one is given. Raises BundleError."""
    with open_bundle(path) as bundle:
        profile = check_profile(bundle.json("profile.json")) if "profile.json" in bundle else None
        manifest = sha256(bundle.member("manifest.json")).hexdigest()
        known = bundle.manifest
    if not isinstance(known["version"], int):
        raise SimulationError(f"{path}: its version is not a number", "compile the bundle again")
    return SimulatedModel(
        {"name": name or known["name"], "version": known["version"], "manifest_sha256": manifest}, profile
    )


def templates(model: SimulatedModel, rng: np.random.Generator, count: int = VARIANTS) -> list[Template]:
    """``count`` windows of some hundreds of rows, each drawn from the profile with a little of the unusual."""
    return [_template(model, rng) for _ in range(count)]


def _template(model: SimulatedModel, rng: np.random.Generator) -> Template:
    rows = int(rng.lognormal(5.3, 0.4)) + 1  # some 200 rows
    single = int(rows * rng.uniform(0.3, 1.0))
    batches = -(-(rows - single) // 32)
    profile = model.profile or {"features": [], "scores": []}
    window = {
        "window_version": WINDOW_VERSION,
        "model": model.window_model,
        "profile_sha256": model.profile_sha256,
        "process": {"pid": _PID, "boot_id": _BOOT},
        "start": _START,
        "end": _END,
        "wall": _WALL,
        "rows": rows,
        "calls": {"one": single, "batch": batches},
        "latency": {"one": _latencies(rng, single, 25e3), "batch": _latencies(rng, batches, 150e3)},
        "features": [_drawn(record, rng, rows) for record in profile["features"]],
        "scores": [_drawn(record, rng, rows) for record in profile["scores"]],
        "errors": {"InputError": int(rng.integers(1, 4))} if rng.random() < 0.1 else {},
        "system": {
            "cpu_percent": round(float(rng.uniform(2, 60)), 1),
            "rss_bytes": int(rng.integers(40, 90)) * 2**20,
            "disk_free_bytes": int(rng.integers(1, 20)) * 2**30,
            "temperature_celsius": round(float(rng.normal(45, 6)), 1),
        },
        "feedback": None,
    }
    check_window({**window, "start": 1.0, "end": 2.0}, model.profile)
    form = dumps(window).replace(b"%", b"%%")
    for mark in (repr(_END), _BOOT, str(_PID), repr(_START), repr(_WALL)):
        form = form.replace(mark.encode(), b"%s", 1)
    return Template(rows, form)


def _latencies(rng: np.random.Generator, calls: int, median_ns: float) -> list[int]:
    counts = [0] * LATENCY_BINS
    for nanoseconds in rng.lognormal(np.log(median_ns), 0.3, calls):
        counts[latency_bin(int(nanoseconds))] += 1
    return sparse(counts)


def _drawn(record: Mapping[str, Any], rng: np.random.Generator, rows: int) -> list[int]:
    """Counts of ``rows`` values: as the sample was spread, now and then a value in a slot that it had none in."""
    shares = np.asarray(record["counts"], dtype=np.float64) + 0.02
    return sparse(rng.multinomial(rows, shares / shares.sum()).tolist())

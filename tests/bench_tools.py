"""Benchmark runs for tests: quick ones, and one made by hand whose ratios can be worked out in the head."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from tests.cli_tools import run

# A run that takes no time, since none is asserted.
QUICK = ("--seconds", 0.005, "--batch", 20)


def figures(rows: int, p50: float, *, threads: int | None = 1, single: bool = False) -> dict[str, Any]:
    """One case: from half the median to twice the median."""
    times = {"min_s": p50 / 2, "p10_s": p50 / 2, "p50_s": p50, "p90_s": 2 * p50, "p99_s": 4 * p50}
    return {"rows": rows, "single": single, "threads": threads, **times, "repeats": 20, "rows_per_s": rows / p50}


def engine(name: str, one: float, batch: float, *, threads: int | None = 1, rows: int = 100) -> dict[str, Any]:
    """An engine that takes ``one`` seconds for a row and ``batch`` for 100."""
    agreement = {
        "against": "golden rows", "rows": 132, "labels_different": 0, "max_abs": 0.0, "max_rel": 0.0, "allowed": 1e-9,
        "agrees": True, "problems": [],
    }  # fmt: skip
    return {
        "engine": name, "kernels": "the cache" if name == "native" else None, "bytes": 1000, "problem": None,
        "agreement": agreement, "load_s": 1e-3, "first_answer_s": 0.25, "peak_bytes": 50_000_000,
        "above_numpy_bytes": 20_000_000,
        "runs": [figures(1, one, threads=threads, single=True), figures(rows, batch, threads=threads)],
    }  # fmt: skip


RUN: dict[str, Any] = {
    "format": "edgeml bench 1",
    "label": "laptop",
    "date": "2026-11-26T10:00:00+00:00",
    "timer_s": 4e-8,
    "bundle": {
        "name": "churn", "version": 3, "manifest_sha256": "a" * 64, "bytes": 26_000, "estimator": "Pipeline(Ridge)",
        "columns": 12,
    },
    "settings": {
        "method": "predict", "rows_from": "golden rows", "distinct_rows": 32, "rows_sha256": "b" * 64,
        "batches": [100], "threads": [1], "seconds": 0.5, "fast": None,
    },
    "machine": {
        "cpu": "Fast CPU", "architecture": "x86_64", "board": None, "cores": 8, "cores_usable": 8,
        "cores_quota": None, "governor": None, "max_mhz": None, "memory_bytes": 16_000_000_000, "os": "Debian 13",
        "kernel": "Linux 6.12", "libc": "glibc 2.41", "virtual": None, "container": None, "emulated": None,
    },
    "software": {"edgeml": "0.1.0", "python": "3.13.1", "numpy": "2.4.6", "onnxruntime": None},
    "noise": {
        "load_before": 0.1, "load_after": 1.0, "yardstick_p10_s": 5e-4, "yardstick_p50_s": 5e-4,
        "yardstick_p90_s": 5.1e-4, "cpu_share": 1.0, "steal": 0.0, "busy": [],
    },
    "numpy": {"start_s": 0.1, "peak_bytes": 30_000_000},
    "engines": [
        engine("scikit-learn", 8e-3, 16e-3, threads=None),
        engine("native", 2e-6, 40e-6),
        engine("onnx", 40e-6, 200e-6),
    ],
}  # fmt: skip


def run_of(label: str = "laptop", slower: float = 1.0, without: tuple[str, ...] = (), **changes: Any) -> dict[str, Any]:
    """The run of a machine that takes ``slower`` times as long. ``changes``: fields by a path, a__b=value."""
    run = copy.deepcopy(RUN)
    run["label"] = label
    run["engines"] = [e for e in run["engines"] if e["engine"] not in without]
    for entry in run["engines"]:
        for r in entry["runs"]:
            r.update({k: r[k] * slower for k in r if k.endswith("_s") and k != "rows_per_s"})
            r["rows_per_s"] = r["rows"] / r["p50_s"]
        entry["first_answer_s"] *= slower
    for path, value in changes.items():
        *outer, last = path.split("__")
        part = run
        for name in outer:
            part = part[name]
        part[last] = value
    return run


def saved(folder: Path, name: str, **changes: Any) -> Path:
    """A run in a file."""
    path = folder / f"{name}.json"
    path.write_text(json.dumps(run_of(**changes)))
    return path


def measured(*args: Any) -> dict[str, Any]:
    """The record of a quick run of ``edgeml bench``."""
    done = run("bench", *args, *QUICK, "--json")
    assert done.exit_code == 0, done.output
    record: dict[str, Any] = json.loads(done.stdout)
    return record


def by_name(record: dict[str, Any]) -> dict[str, Any]:
    """Entries of engines by their names."""
    return {e["engine"]: e for e in record["engines"]}

"""``python -m benchmarks.recording [--peers-python PATH] [--json FILE]``: what recording a row of 30 features costs.

Ours is timed as it runs in a model, by calls that record and calls that do not in turns, and by itself, with the answer
given instead of predicted. Peers record the same row as their documentation says: imported from this Python, or run by
the one of ``--peers-python``; one that is missing or fails is shown so. Figures are medians over the turns of one run,
of the CPU time of the calling thread; differences are taken within a turn. So a shared machine disturbs little.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TURNS = 41
BATCH = 256
PEERS = ("whylogs", "OpenTelemetry", "prometheus_client")
Call = Callable[[], Any]


# --- ours -----------------------------------------------------------------------------------------------------------
def features(mixed: bool, rows: int, seed: int) -> dict[str, Any]:
    """30 numeric columns, or 20 and 10 of strings."""
    import numpy as np  # which the Python of the peers may do without

    rng = np.random.default_rng(seed)
    columns: dict[str, Any] = {f"f{i}": rng.normal(size=rows) for i in range(20 if mixed else 30)}
    if mixed:
        columns |= {f"s{i}": rng.choice([f"category {j}" for j in range(12)], rows).astype(object) for i in range(10)}
    return columns


def compiled(mixed: bool, folder: Path) -> Path:
    """A bundle of a linear classifier on the columns: a model so fast that recording would show."""
    import pandas as pd
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    import edgeml

    X = pd.DataFrame(features(mixed, 4000, 0))
    texts = [name for name in X if name.startswith("s")]
    encode = make_column_transformer(
        (StandardScaler(), [name for name in X if name not in texts]), (OneHotEncoder(handle_unknown="ignore"), texts)
    )
    pipeline = make_pipeline(encode, LogisticRegression()).fit(X, (X.f0 + X.f1 > 0).astype(int))
    path = folder / f"{'mixed' if mixed else 'numeric'}.edgeml"
    edgeml.compile(pipeline, X, output=path, formats=["native"]).close()
    return path


def ours(mixed: bool, folder: Path) -> tuple[dict[str, Call], Callable[[], dict[str, int]]]:
    """Calls by name; the second function ends recording and gives the bytes of a window of 100,000 rows."""
    import edgeml
    from edgeml.runtimes.frames import read_rows
    from edgeml.runtimes.recording_row import row_recorder

    path = compiled(mixed, folder)
    plain, model = edgeml.load(path), edgeml.load(path)
    recorder = model.record_to(folder / f"spool-{path.stem}", window_rows=2**50, window_seconds=3600)
    columns = features(mixed, BATCH, 1)
    row = first_row(mixed)
    recording = model._recording
    assert recording is not None
    counts = recording._counts
    arrays, _ = read_rows(columns, model.schema)
    answers, answer = plain.predict_proba(columns), plain.predict_proba_one(row)
    index = [plan.method for plan in counts.plans.rows].index("predict_proba")

    def given(row: Any) -> Any:
        return answer

    def never(*arguments: Any) -> None:
        raise AssertionError("the row did not take the fast way")

    alone = row_recorder(given, counts, index, never, never, never)
    calls: dict[str, Call] = {
        "one row, not recorded": lambda: plain.predict_proba_one(row),
        "one row, recorded": lambda: model.predict_proba_one(row),
        "one row, recording alone": lambda: alone(row),
        "batch, not recorded": lambda: plain.predict_proba(columns),
        "batch, recorded": lambda: model.predict_proba(columns),
        "batch, recording alone": lambda: counts.add("predict_proba", "batch", arrays, BATCH, answers, 1000),
    }

    def end() -> dict[str, int]:
        recorder.flush()
        for seed in range(20):
            model.predict_proba(features(mixed, 5000, seed))
        drafts = recorder._collect(True)
        model.close()
        plain.close()
        return {"window_bytes": len(drafts[0].payload), "window_rows": drafts[0].rows}

    return calls, end


# --- peers ----------------------------------------------------------------------------------------------------------
def whylogs(row: dict[str, Any]) -> Call:
    """One profile, each row tracked into it."""
    import whylogs as why
    from whylogs.core import DatasetProfile, DatasetSchema

    del why
    profile = DatasetProfile(schema=DatasetSchema())
    return lambda: profile.track(row)


def opentelemetry(row: dict[str, Any]) -> Call:
    """A histogram a numeric feature, a counter with the category as attribute a text; read by an in-memory reader."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    meter = MeterProvider(metric_readers=[InMemoryMetricReader()]).get_meter("benchmark")
    numbers = [(name, meter.create_histogram(name)) for name, cell in row.items() if not isinstance(cell, str)]
    texts = [(name, meter.create_counter(name)) for name, cell in row.items() if isinstance(cell, str)]

    def call() -> None:
        for name, histogram in numbers:
            histogram.record(row[name])
        for name, counter in texts:
            counter.add(1, {"category": row[name]})

    return call


def prometheus(row: dict[str, Any]) -> Call:
    """A histogram a numeric feature, a labelled counter a text."""
    from prometheus_client import CollectorRegistry, Counter, Histogram

    registry = CollectorRegistry()
    buckets = [-2 + i / 5 for i in range(20)]
    numbers = [
        (name, Histogram(name, name, registry=registry, buckets=buckets))
        for name, cell in row.items()
        if not isinstance(cell, str)
    ]
    texts = [(name, Counter(name, name, ["category"], registry=registry)) for name in row if isinstance(row[name], str)]

    def call() -> None:
        for name, histogram in numbers:
            histogram.observe(row[name])
        for name, counter in texts:
            counter.labels(row[name]).inc()

    return call


MAKERS = dict(zip(PEERS, (whylogs, opentelemetry, prometheus), strict=True))


def first_row(mixed: bool) -> dict[str, Any]:
    """The row that everybody records."""
    return {name: cells[:1].tolist()[0] for name, cells in features(mixed, BATCH, 1).items()}


def peers(row: dict[str, Any]) -> tuple[dict[str, Call], dict[str, str]]:
    """Calls by peer, and why the others cannot be timed."""
    calls, failed = {}, {}
    logging.disable(logging.WARNING)
    for name, make in MAKERS.items():
        try:
            calls[name] = make(row)
            calls[name]()
        except Exception as error:  # a peer that is missing or fails is shown so
            calls.pop(name, None)
            failed[name] = f"{type(error).__name__}: {error}".splitlines()[0][:160]
    return calls, failed


# --- timing ---------------------------------------------------------------------------------------------------------
def timed(calls: dict[str, Call], seconds: float) -> dict[str, list[float]]:
    """Microseconds a call, one figure a turn; each turn is some ``seconds`` long."""
    repeats = {}
    for name, call in calls.items():
        start = time.thread_time()
        for _ in range(5):
            call()
        repeats[name] = max(1, int(seconds / max((time.thread_time() - start) / 5, 1e-7)))
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(TURNS):
        for name, call in calls.items():
            start = time.thread_time()
            for _ in range(repeats[name]):
                call()
            found[name].append((time.thread_time() - start) / repeats[name] * 1e6)
    return found


def peers_elsewhere(python: str, seconds: float, row: dict[str, Any]) -> tuple[dict[str, list[float]], dict[str, str]]:
    """The peers' figures from another Python, which needs nothing of EdgeML, and why the others have none."""
    command = [python, str(Path(__file__).resolve()), "--peers-only", "--seconds", str(seconds)]
    done = subprocess.run(command, input=json.dumps(row), capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        return {}, dict.fromkeys(PEERS, last[0][:160])
    times, failed = json.loads(done.stdout.splitlines()[-1])
    return times, failed


def measure(folder: Path, seconds: float, python: str | None) -> dict[str, Any]:
    """All figures by kind of row."""
    results = {}
    for kind in ("numeric", "mixed"):
        calls, end = ours(kind == "mixed", folder)
        row = first_row(kind == "mixed")
        others, failed = peers(row) if python is None else ({}, {})
        times = timed({**calls, **others}, seconds)
        if python is not None:
            elsewhere, failed = peers_elsewhere(python, seconds, row)
            times |= elsewhere
        added = {}
        for name, rows in (("one row", 1), ("batch", BATCH)):
            recorded, plain = times[f"{name}, recorded"], times[f"{name}, not recorded"]
            added[name] = statistics.median(a - b for a, b in zip(recorded, plain, strict=True)) / rows
            added[f"{name}, by itself"] = statistics.median(times[f"{name}, recording alone"]) / rows
            added[f"{name}, by itself, fastest turn"] = min(times[f"{name}, recording alone"]) / rows
        medians = {name: statistics.median(found) for name, found in times.items()}
        ratios = {name: medians[name] / added["one row, by itself"] for name in PEERS if name in medians}
        results[kind] = {"median_us": medians, "added_us_a_row": added, "ratios": ratios, "failed": failed, **end()}
    return results


def show(results: dict[str, Any]) -> None:
    for kind, found in results.items():
        print(f"\n30 features, {kind}: microseconds a row; peers also as multiples of one row by itself")
        for name, value in found["added_us_a_row"].items():
            print(f"  EdgeML adds, {name:34} {value:8.2f}")
        for name in PEERS:
            if name in found["ratios"]:
                print(f"  {name:46} {found['median_us'][name]:8.2f}  x {found['ratios'][name]:.1f}")
            else:
                print(f"  {name:46} not timed: {found['failed'][name]}")
        print(f"  a window of {found['window_rows']} rows has {found['window_bytes']} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recording", description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.01, help=f"length of a turn; each contender has {TURNS}")
    parser.add_argument("--peers-python", help="a Python that has the peers installed; by default this one is asked")
    parser.add_argument("--peers-only", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    if options.peers_only:
        calls, failed = peers(json.load(sys.stdin))
        print(json.dumps([timed(calls, options.seconds), failed]))
        return
    with tempfile.TemporaryDirectory(prefix="edgeml-recording-") as folder:
        results = measure(Path(folder), options.seconds, options.peers_python)
    show(results)
    if options.json:
        machine = {"python": platform.python_version(), "machine": platform.machine()}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"machine": machine, "results": results}, indent=1))


if __name__ == "__main__":
    main()

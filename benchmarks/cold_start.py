"""``python -m benchmarks.cold_start [--json] [--quick]``: from the start of a process to its first answer, and memory.

Each contender is a program of a few lines in a fresh interpreter, on one pipeline (logistic regression over numbers and
strings). They take turns, so that a noisy machine slows all alike. Reported are medians of wall time, the smallest CPU
time (what the machine's other work disturbs least), and the peak of resident memory. Byte code is compiled beforehand,
as it is after pip. The one run on a cold cache, which compiles the kernels, fills the cache of the others. After
``SECONDS`` no new turn begins: a busy machine gives fewer runs, and the records say how many. Answers are compared
with scikit-learn's. ``records`` is what the table of all benchmarks takes.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import joblib
import numpy as np

import edgeml
from benchmarks.runners import with_empty_strings
from tests.cli_tools import fitted, frame

RUNS, QUICK_RUNS = 15, 5
SECONDS, QUICK_SECONDS = 240, 60  # of turns; compiling the kernels comes before
TIMEOUT = 120  # seconds of one process: one that hangs is shown as failed, and does not stop the rest
WARM = "from edgeml.runtimes.kernels import library; print(library.warm(make=False).path)"
COLD = "EdgeML native, cold cache"
# The kernel's count for this program alone: ru_maxrss begins with the memory of the process that started it.
PEAK = """
import time
print(time.process_time(), open("/proc/self/status").read().partition("VmHWM:")[2].split()[0])
"""
EDGEML = """
import edgeml
model = edgeml.load({bundle!r}, engine={engine!r})
answer = model.predict_one({row!r})
"""
SCIKIT_LEARN = """
import joblib, pandas
pipeline = joblib.load({joblib!r})
answer = pipeline.predict(pandas.DataFrame([{row!r}]))[0]
"""
ONNXRUNTIME = """
import numpy, onnxruntime
settings = onnxruntime.SessionOptions()
settings.intra_op_num_threads = 1  # as EdgeML: no pool to be started
session = onnxruntime.InferenceSession({onnx!r}, settings, providers=["CPUExecutionProvider"])
kinds = {kinds!r}
feeds = {{name: numpy.array([[cell]], dtype=kinds[name]) for name, cell in {row!r}.items()}}
answer = session.run(None, feeds)[0][0]
"""


def records(quick: bool = False) -> list[dict[str, Any]]:
    """One record a contender: milliseconds, megabytes, or ``failed``."""
    with tempfile.TemporaryDirectory(prefix="edgeml-cold-") as name:
        folder = Path(name)
        contenders, measured, failed = _contenders(folder)
        runs, end = QUICK_RUNS if quick else RUNS, time.monotonic() + (QUICK_SECONDS if quick else SECONDS)
        for turn in range(runs + 1):
            if turn > 1 and time.monotonic() > end:
                break
            for name, (code, environment) in contenders.items():
                if name in failed or name == COLD:
                    continue
                try:
                    found = _run(code, environment)
                except RuntimeError as error:
                    failed[name] = str(error)
                    continue
                if turn:  # the first run fills the disk's cache
                    measured.setdefault(name, []).append(found)
    return [_record(name, measured.get(name, []), failed.get(name)) for name in contenders]


Measured = tuple[float, float, float]  # wall ms, CPU ms, peak MB


def _contenders(
    folder: Path,
) -> tuple[dict[str, tuple[str, dict[str, str]]], dict[str, list[Measured]], dict[str, str]]:
    """Program and environment by name; what the cold cache has measured; what has failed."""
    sample = frame()
    pipeline, X = fitted(sample), sample.drop(columns="late")
    bundle, warm = folder / "m.edgeml", {"EDGEML_CACHE_DIR": str(folder / "cache")}
    edgeml.compile(pipeline, X, output=bundle).close()
    joblib.dump(pipeline, folder / "m.joblib")
    whole = X.dropna()[:1]
    row = {str(k): v.item() if isinstance(v, np.generic) else v for k, v in whole.iloc[0].items()}
    names: dict[str, Any] = {"bundle": str(bundle), "row": row, "joblib": str(folder / "m.joblib")}
    same = f"\nassert str(answer) == {str(pipeline.predict(whole)[0])!r}, f'another answer: {{answer}}'\n"
    native, onnx, tflite = (EDGEML.format(engine=e, **names) + same for e in ("native", "onnx", "tflite"))
    measured: dict[str, list[Measured]] = {}
    failed: dict[str, str] = {}
    try:
        measured[COLD] = [_run(native, warm)]
    except RuntimeError as error:
        failed[COLD] = str(error)
    found: dict[str, tuple[str, dict[str, str]]] = {
        "Python alone": ("pass", {}),
        "import edgeml": ("import edgeml", {}),
        "import numpy": ("import numpy", {}),
        "EdgeML native, warm cache": (native, warm),
        COLD: (native, warm),
    }
    if library := _library(warm):
        found["EdgeML native, library by EDGEML_KERNELS"] = (native, {"EDGEML_KERNELS": library})
    found |= {
        "EdgeML native, EDGEML_KERNELS=numpy": (native, {"EDGEML_KERNELS": "numpy"}),
        "EdgeML onnx": (onnx, warm),
        "EdgeML tflite": (tflite, warm),
        "scikit-learn, joblib": (SCIKIT_LEARN.format(**names) + same, {}),
        "skl2onnx + onnxruntime": (_skl2onnx(pipeline, X, folder / "m.onnx", row) + same, {}),
    }
    return found, measured, failed


def _library(environment: Mapping[str, str]) -> str | None:
    """The library that a process of this very EdgeML finds in the cache; None where it keeps none."""
    command = [sys.executable, "-c", WARM]
    said = subprocess.run(command, capture_output=True, text=True, env=_environment(environment), timeout=TIMEOUT)
    return said.stdout.strip() or None


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONDONTWRITEBYTECODE", "EDGEML_KERNELS")} | {**more}


def _skl2onnx(pipeline: Any, X: Any, path: Path, row: Mapping[str, Any]) -> str:
    """The program of a model converted by skl2onnx; one that fails where the conversion does."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    kinds = {name: "float32" if X[name].dtype.kind in "fi" else "object" for name in X}
    types = [(n, (FloatTensorType if k == "float32" else StringTensorType)([None, 1])) for n, k in kinds.items()]
    try:
        pipeline = with_empty_strings(copy.deepcopy(pipeline))  # it refuses NaN among strings
        proto = to_onnx(pipeline, initial_types=types, options={id(pipeline): {"zipmap": False}})
        path.write_bytes(proto.SerializeToString())
    except Exception as error:  # a peer that fails is shown so
        return f"raise SystemExit({f'{type(error).__name__}: {error}'[:160]!r})"
    return ONNXRUNTIME.format(onnx=str(path), row=row, kinds=kinds)


def _run(code: str, environment: dict[str, str]) -> Measured:
    """(wall ms, CPU ms, peak MB) of a fresh interpreter. Raises RuntimeError with its last words."""
    start = time.perf_counter()
    command = [sys.executable, "-c", code + PEAK]
    try:
        child = subprocess.run(command, capture_output=True, env=_environment(environment), timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"not done after {TIMEOUT} s") from None
    wall = time.perf_counter() - start
    if child.returncode:
        said = child.stderr.decode(errors="replace").strip().splitlines()
        raise RuntimeError((said or ["no words"])[-1][:160])
    cpu, peak = map(float, child.stdout.split()[-2:])
    return wall * 1e3, cpu * 1e3, peak / 1024


def _record(name: str, found: list[Measured], failed: str | None) -> dict[str, Any]:
    record: dict[str, Any] = {"contender": name}
    if failed is not None or not found:
        return record | {"failed": failed or "was not run"}
    wall, cpu, peak = np.array(found).T
    return record | {
        "start_ms": float(np.median(wall)),
        "start_ms_min": float(wall.min()),
        "cpu_ms": float(cpu.min()),
        "peak_mb": float(np.median(peak)),
        "runs": len(found),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cold_start", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the records")
    parser.add_argument("--quick", action="store_true", help="fewer runs")
    options = parser.parse_args()
    found = records(options.quick)
    if options.json:
        print(json.dumps(found, indent=1))
        return
    print(f"{'process start to first answer':42}{'ms':>8}{'min':>8}{'CPU ms':>8}{'peak MB':>9}")
    for r in found:
        if "failed" in r:
            print(f"{r['contender']:42}  fails: {r['failed']}")
        else:
            print(
                f"{r['contender']:42}{r['start_ms']:8.0f}{r['start_ms_min']:8.0f}{r['cpu_ms']:8.0f}{r['peak_mb']:9.1f}"
            )


if __name__ == "__main__":
    main()

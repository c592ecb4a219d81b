"""``python -m benchmarks.cold_start [--json] [--quick]``: from the start of a process to its first answer, and memory.

Each contender is a program of a few lines in a fresh interpreter, on one pipeline (logistic regression over numbers and
strings). They take turns, so that a noisy machine slows all alike. Reported are medians of wall time, the smallest CPU
time (what the machine's other work disturbs least), and the peak of resident memory. Byte code is compiled beforehand,
as it is after pip. ``records`` is what the table of all benchmarks takes.
"""

from __future__ import annotations

import argparse
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
from tests.cli_tools import fitted, frame

RUNS, QUICK_RUNS = 15, 5
COLD_RUNS = 2  # each compiles for seconds
# The kernel's count for this program alone: ru_maxrss begins with the memory of the process that started it.
PEAK = """
import time
print(time.process_time(), open("/proc/self/status").read().partition("VmHWM:")[2].split()[0])
"""
EDGEML = """
import edgeml
model = edgeml.load({bundle!r}, engine={engine!r})
print(model.predict_one({row!r}))
"""
SCIKIT_LEARN = """
import joblib, pandas
pipeline = joblib.load({joblib!r})
print(pipeline.predict(pandas.DataFrame([{row!r}]))[0])
"""
ONNXRUNTIME = """
import numpy, onnxruntime
session = onnxruntime.InferenceSession({onnx!r}, providers=["CPUExecutionProvider"])
kinds = {kinds!r}
feeds = {{name: numpy.array([[cell]], dtype=kinds[name]) for name, cell in {row!r}.items()}}
print(session.run(None, feeds)[0][0])
"""


def records(quick: bool = False) -> list[dict[str, Any]]:
    """One record a contender: milliseconds, megabytes, or ``failed``."""
    with tempfile.TemporaryDirectory(prefix="edgeml-cold-") as name:
        folder = Path(name)
        contenders = _contenders(folder)
        found: dict[str, list[tuple[float, float, float]]] = {}
        failed: dict[str, str] = {}
        for turn in range((QUICK_RUNS if quick else RUNS) + 1):
            for contender, (code, environment) in contenders.items():
                cold = "cold cache" in contender
                if contender in failed or (cold and not 0 < turn <= (1 if quick else COLD_RUNS)):
                    continue
                if cold:
                    environment = {**environment, "EDGEML_CACHE_DIR": str(folder / f"cold{turn}")}
                try:
                    measured = _run(code, environment)
                except RuntimeError as error:
                    failed[contender] = str(error)
                    continue
                if turn:  # the first run fills the cache and the disk's
                    found.setdefault(contender, []).append(measured)
    return [_record(name, found.get(name, []), failed.get(name)) for name in contenders]


def _contenders(folder: Path) -> dict[str, tuple[str, dict[str, str]]]:
    """Program and environment by name."""
    sample = frame()
    pipeline, X = fitted(sample), sample.drop(columns="late")
    bundle, warm = folder / "m.edgeml", {"EDGEML_CACHE_DIR": str(folder / "cache")}
    edgeml.compile(pipeline, X, output=bundle).close()
    joblib.dump(pipeline, folder / "m.joblib")
    row = {str(k): v.item() if isinstance(v, np.generic) else v for k, v in X.iloc[0].items()}
    names: dict[str, Any] = {"bundle": str(bundle), "row": row, "joblib": str(folder / "m.joblib")}
    native, onnx, tflite = (EDGEML.format(engine=e, **names) for e in ("native", "onnx", "tflite"))
    _run(native, warm)
    found: dict[str, tuple[str, dict[str, str]]] = {
        "Python alone": ("pass", {}),
        "import edgeml": ("import edgeml", {}),
        "import numpy": ("import numpy", {}),
        "EdgeML native, warm cache": (native, warm),
        "EdgeML native, cold cache": (native, {}),
    }
    if library := next((folder / "cache").glob("*.so"), None):
        found["EdgeML native, library by EDGEML_KERNELS"] = (native, {"EDGEML_KERNELS": str(library)})
    found |= {
        "EdgeML native, EDGEML_KERNELS=numpy": (native, {"EDGEML_KERNELS": "numpy"}),
        "EdgeML onnx": (onnx, warm),
        "EdgeML tflite": (tflite, warm),
        "scikit-learn, joblib": (SCIKIT_LEARN.format(**names), {}),
    }
    return found | {"skl2onnx + onnxruntime": (_skl2onnx(pipeline, X, folder / "m.onnx", row), {})}


def _skl2onnx(pipeline: Any, X: Any, path: Path, row: Mapping[str, Any]) -> str:
    """The program of a model converted by skl2onnx; one that fails where the conversion does."""
    from skl2onnx import to_onnx

    try:
        path.write_bytes(to_onnx(pipeline, X[:1], options={"zipmap": False}).SerializeToString())
    except Exception as error:  # a peer that fails is shown so
        return f"raise SystemExit({f'{type(error).__name__}: {error}'[:160]!r})"
    kinds = {name: "object" if X[name].dtype.kind not in "fib" else str(X[name].dtype) for name in X}
    return ONNXRUNTIME.format(onnx=str(path), row=row, kinds=kinds)


def _run(code: str, environment: dict[str, str]) -> tuple[float, float, float]:
    """(wall ms, CPU ms, peak MB) of a fresh interpreter. Raises RuntimeError with its last words."""
    keep = {k: v for k, v in os.environ.items() if k not in ("PYTHONDONTWRITEBYTECODE", "EDGEML_KERNELS")}
    start = time.perf_counter()
    command = [sys.executable, "-c", code + PEAK]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**keep, **environment}
    ) as child:
        out, said = child.communicate()
    wall = time.perf_counter() - start
    if child.returncode:
        raise RuntimeError((said.decode(errors="replace").strip().splitlines() or ["no words"])[-1][:160])
    cpu, peak = map(float, out.split()[-2:])
    return wall * 1e3, cpu * 1e3, peak / 1024


def _record(name: str, found: list[tuple[float, float, float]], failed: str | None) -> dict[str, Any]:
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

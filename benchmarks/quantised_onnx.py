"""``python -m benchmarks.quantised_onnx``: quantised forms of one net in stock onnxruntime, against the float ones.

A multi-layer perceptron of 64-512-512-10 with random weights, as the quantiser writes it, on one thread. The
contenders run in turn, several times, and the medians of these runs are compared: the machines are shared and noisy.
All of them check their rows for NaN first, as a compiled pipeline does.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from rich.console import Console
from rich.table import Table

from benchmarks.__main__ import microseconds
from edgeml.ir import Builder, Program
from edgeml.schema import MATRIX, Column, Schema
from edgeml.targets.base import About
from edgeml.targets.onnx import lower

DIMS = (64, 512, 512, 10)
BATCHES = (1, 32, 256)
# Ranges of the inputs and of what the layers hold behind ReLU, for the static grids.
INPUT, HIDDEN = 4.0, 6.0


def program(form: str, limit: int = 127) -> Program:
    """The net in one form; its weights are rounded to codes up to ``limit`` unless it is a float form."""
    rng, b = np.random.default_rng(0), Builder()
    value = b.check_finite(b.input("X", "float64", DIMS[0]), "net")
    if form == "float32":
        value = value.cast("float32")
    scale, zero = float(np.float32(INPUT / 128)), 0
    for layer, (k, m) in enumerate(itertools.pairwise(DIMS)):
        weight, bias = rng.normal(size=(k, m)) * np.sqrt(2 / k), rng.normal(size=m) * 0.1
        step = (np.abs(weight).max(axis=0) / limit).astype(np.float32).astype(np.float64)
        if form in ("float64", "float32"):
            value = b.linear(value, weight.astype(form), bias.astype(form))
        else:
            if form == "static":
                value = b.op("FakeQuantize", value, scale=scale, zero_point=zero, bits=8)
            elif form == "dynamic":
                value = b.op("DynamicQuantize", value, bits=8)
            codes = np.rint(weight / step).astype(np.int8)
            value = b.op("QuantizedLinear", value, weight=codes, scale=step, bias=bias)
        if layer < len(DIMS) - 2:
            value, scale, zero = b.maximum(value, 0.0), float(np.float32(HIDDEN / 255)), -128
    b.output("predict", [value], "matrix", "<f8")
    return b.finish()


CONTENDERS = {
    "float64": program("float64"),
    "float32": program("float32"),
    "int8 weights, float64 operands": program("weights"),
    "static int8": program("static"),
    # Weights of seven bits cannot saturate where there is no VNNI, and so take the faster kernel (onnx_quantised.py).
    "static int8, weights of 7 bits": program("static", 63),
    "dynamic int8": program("dynamic"),
    "dynamic int8, weights of 7 bits": program("dynamic", 63),
}


def measure(repeats: int, seconds: float) -> list[dict[str, Any]]:
    """One record a contender and batch, in microseconds."""
    about = About("net", 1, Schema(MATRIX, tuple(Column(f"x{i}", "float64") for i in range(DIMS[0]))))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    rows = np.random.default_rng(1).normal(size=(max(BATCHES), DIMS[0]))
    sessions, sizes = {}, {}
    for name, net in CONTENDERS.items():
        data = lower(net, about)["model.onnx"]
        sessions[name] = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        sizes[name] = len(data)
    times: dict[tuple[str, int], list[float]] = {}
    for _ in range(repeats):
        for batch in BATCHES:
            for name, session in sessions.items():
                feed = {"X": rows[:batch]}
                median, _ = microseconds(partial(session.run, None, feed), seconds)
                times.setdefault((name, batch), []).append(median)
    return [
        {"contender": name, "batch": batch, "us": float(np.median(runs)), "bytes": sizes[name]}
        for (name, batch), runs in times.items()
    ]


def table(records: list[dict[str, Any]]) -> Table:
    """A line a contender; how many times faster than float32 and float64 it is."""
    out = Table(title=f"A net {'-'.join(map(str, DIMS))}: microseconds a call, times float32's and float64's speed")
    for column in ("form", "bytes", *(f"{batch} rows" for batch in BATCHES)):
        out.add_column(column, justify="left" if column == "form" else "right")
    us = {(r["contender"], r["batch"]): r["us"] for r in records}
    for name in CONTENDERS:
        cells = [
            f"{us[name, batch]:.0f} us ({us['float32', batch] / us[name, batch]:.2f} x, "
            f"{us['float64', batch] / us[name, batch]:.1f} x)"
            for batch in BATCHES
        ]
        out.add_row(name, f"{next(r['bytes'] for r in records if r['contender'] == name):,}", *cells)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quantised_onnx", description=__doc__)
    parser.add_argument("--repeats", type=int, default=7, help="runs whose median counts")
    parser.add_argument("--seconds", type=float, default=0.2, help="time spent on each figure of a run")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/out/quantised_onnx.json"), help="where to write")
    options = parser.parse_args()
    records = measure(options.repeats, options.seconds)
    console = Console(width=max(Console().width, 130))
    console.print(table(records))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    machine = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "onnxruntime": onnxruntime.__version__,
    }
    options.json.write_text(json.dumps({"machine": machine, "records": records}, indent=1))


if __name__ == "__main__":
    main()

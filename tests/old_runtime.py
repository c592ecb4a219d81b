"""``make old-runtime``: bundles of this environment on tflite-runtime 2.14, the runtime that ARMv7 has.

It needs NumPy 1 and so an environment of its own, into which the built wheel goes, too. There tests/stock/device.py
replays golden rows, compares with the answers that ai-edge-litert gave here, and then, under NumPy 2, reads the error.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import edgeml
from edgeml.runtimes.frames import read_rows
from tests.conformance.cases import CASES
from tests.wheel import build, run

RUNTIME = "tflite-runtime==2.14.0"
DEVICE = Path(__file__).parent / "stock" / "device.py"
ROWS = 300
LINEAR = ("logistic three classes", "mlp binary", "pca logistic", "k-means")
TREES = ("forest binary", "hist boosting native categories")
# Mode and target of the device, and what the two runtimes may differ by: in the share of labels, and in numbers,
# relative to themselves. A layer's int8 result may be the next step of its grid. Rows that are quantised as they come
# are on ai-edge-litert's CPU delegate on another grid than anywhere else (there is a zero point), so that these answers
# are as far apart as such a model is from the float one.
BOUNDS = {
    ("none", "generic"): (0.0, 1e-5),
    ("float16", "generic"): (0.0, 1e-4),
    ("int16", "generic"): (0.0, 1e-3),
    ("int8", "generic"): (0.01, 0.05),
    ("dynamic", "cortex-a7"): (0.02, 0.5),
}
# A layer with a scale for each of its outputs and rows quantised as they come, which the old runtime computes wrongly.
REFUSED = [("logistic three classes", "dynamic", "generic", "'FULLY_CONNECTED' version '12'")]
# So much that the smallest form of each mode is kept: the forms are what is tried here.
BUDGET = edgeml.Budget(label_flips=0.2, metric_drop=None)


def write(
    folder: Path, number: int, name: str, quantize: str = "none", target: str = "generic", refused: str = ""
) -> dict[str, Any]:
    """Compile a case; write the bundle, some rows and what ai-edge-litert answers. An entry of models.json."""
    pipeline, X = next(case for case in CASES if case.name == name).fit()
    path = folder / f"{number}.edgeml"
    budget = None if quantize == "none" else BUDGET
    edgeml.compile(
        pipeline, X, output=path, formats=["tflite"], quantize=quantize, target=target, budget=budget
    ).close()
    rows = X[:ROWS]
    with edgeml.load(path, engine="tflite") as model:
        columns, _ = read_rows(rows, model.schema)
        written = {
            "matrix": model.schema.kind if model.schema.form == "matrix" else None,
            "columns": {column: x.tolist() for column, x in columns.items()},
        }
        answers = {method: getattr(model, method)(rows) for method in model.manifest["methods"]}
    path.with_suffix(".json").write_text(json.dumps(written))
    np.savez(path.with_suffix(".npz"), **{m: x.astype(str) if x.dtype == object else x for m, x in answers.items()})
    labels, numbers = BOUNDS.get((quantize, target), (0.0, 0.0))
    return {
        "file": path.stem,
        "name": f"{name}, {quantize} for {target}",
        "labels": labels,
        "numbers": numbers,
        "refused": refused,
    }


def main(folder: Path) -> None:
    asked = [(name, *how, "") for how in BOUNDS for name in (*LINEAR, *TREES)] + REFUSED
    models = [write(folder, i, *what) for i, what in enumerate(asked)]
    (folder / "models.json").write_text(json.dumps(models))
    run(sys.executable, "-m", "venv", folder / "device", folder=folder)
    python = folder / "device" / "bin" / "python"
    install = (python, "-m", "pip", "install", "--quiet")
    run(*install, build(folder), RUNTIME, "numpy<2", folder=folder)
    run(python, "-I", "-W", "error", DEVICE, folder, "answers", folder=folder)
    run(*install, "--upgrade", "numpy>=2", folder=folder)
    run(python, "-I", "-W", "error", DEVICE, folder, "numpy2", folder=folder)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))

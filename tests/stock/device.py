"""Asks the bundles of tests/old_runtime.py, in a virtual environment with the wheel, NumPy 1 and tflite-runtime.

``python -I device.py FOLDER answers`` replays golden rows and compares with ai-edge-litert's answers, a line a bundle;
``python -I device.py FOLDER numpy2`` wants the engine to say that tflite-runtime does not work with this NumPy.
"""

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import edgeml

NOT_THERE = ("ai_edge_litert", "numba", "sklearn", "pandas", "onnxruntime")


def rows_of(path):
    """Raw rows: the matrix of a pipeline that was fitted on an array, else a dict of columns."""
    written = json.loads(path.read_text())
    return np.array(written["columns"]["X"], written["matrix"]) if written["matrix"] else written["columns"]


def furthest(expected, actual):
    """Share of labels that differ, or the largest difference relative to an answer, or to 1 where that is less."""
    if expected.dtype.kind != "f":
        return float(np.mean(expected != actual.astype(expected.dtype)))
    known = np.isfinite(expected)
    if not np.array_equal(expected[~known], actual[~known], equal_nan=True):
        return np.inf
    a, b = actual[known], expected[known]
    return float(np.max(np.abs(a - b) / np.maximum(1, np.abs(b)), initial=0.0))


def check(folder, model):
    """None, or what is wrong with a bundle's answers."""
    path = folder / model["file"]
    try:
        with edgeml.load(path.with_suffix(".edgeml"), engine="tflite") as loaded:
            rows = rows_of(path.with_suffix(".json"))
            with np.load(path.with_suffix(".npz")) as stored:
                expected = dict(stored)
            found = {method: furthest(want, getattr(loaded, method)(rows)) for method, want in expected.items()}
        edgeml.verify(path.with_suffix(".edgeml"), engine="tflite")
    except edgeml.errors.EngineError as error:
        return None if model["refused"] and model["refused"] in str(error) else f"refused: {error}"
    except edgeml.errors.EdgeMLError as error:
        return str(error)
    if model["refused"]:
        return f"answered, and should be refused with {model['refused']!r}"
    limits = {m: model["numbers" if expected[m].dtype.kind == "f" else "labels"] for m in found}
    wrong = [f"{method} {by:.2g}" for method, by in found.items() if not by <= limits[method]]
    return f"not the answers of ai-edge-litert: {', '.join(wrong)}" if wrong else None


def answers(folder):
    from edgeml.runtimes.tflite import load_runtime

    assert load_runtime().__name__ == "tflite_runtime.interpreter"
    assert not [name for name in NOT_THERE if find_spec(name)]
    failed = 0
    models = json.loads((folder / "models.json").read_text())
    for model in models:
        problem = check(folder, model)
        failed += problem is not None
        print(f"{model['name']}: {problem or ('refused' if model['refused'] else 'the same')}")
    print(f"tflite-runtime under NumPy {np.__version__}: {len(models) - failed} passed, {failed} failed")
    return failed


def numpy2(folder):
    assert int(np.__version__.partition(".")[0]) >= 2
    name = json.loads((folder / "models.json").read_text())[0]["file"]
    try:
        edgeml.load((folder / name).with_suffix(".edgeml"), engine="tflite")
    except edgeml.errors.EngineNotInstalledError as error:
        said = str(error)
    else:
        said = "nothing"
    right = f"tflite-runtime does not work with NumPy 2 (here is {np.__version__})" in said and '"numpy<2"' in said
    print(f"tflite-runtime under NumPy {np.__version__}: {'the engine says so' if right else f'wrong message: {said}'}")
    return not right


if __name__ == "__main__":
    sys.exit({"answers": answers, "numpy2": numpy2}[sys.argv[2]](Path(sys.argv[1])) > 0)

"""``make wheel``: builds the wheel and uses it as others do, in a new virtual environment with NumPy and nothing else.

There a bundle is loaded, asked and verified, and a caller's code is type-checked against the installed package; then
the package inside the wheel itself passes mypy's strict check. Stops with the first step that fails.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import edgeml

ROOT = Path(__file__).resolve().parents[1]
DATA_FILES = ("edgeml/py.typed", "edgeml/bundle/FORMAT.md", "edgeml/telemetry/WIRE.md")
DEVICE = """
import importlib.util, sys
import numpy as np
import edgeml
assert not [name for name in ("numba", "sklearn", "pandas", "onnxruntime") if importlib.util.find_spec(name)]
X, expected = np.load(sys.argv[2]), np.load(sys.argv[3])
with edgeml.load(sys.argv[1]) as model:
    assert model.engine == "native"
    np.testing.assert_allclose(model.predict_proba(X), expected, rtol=1e-9)
    np.testing.assert_allclose(model.predict_proba_one(X[0]), expected[0], rtol=1e-9)
edgeml.verify(sys.argv[1])
"""
CALLER = """
from typing import assert_type

import edgeml
from edgeml.runtimes.base import Model

assert_type(edgeml.load("a.edgeml"), Model)
assert_type(edgeml.__version__, str)
edgeml.errors.EdgeMLError
"""


def run(*command: str | Path, folder: Path, **variables: str) -> None:
    """Run a command in ``folder``, away from the sources; stops the script when it fails."""
    subprocess.run([str(part) for part in command], cwd=folder, env=os.environ | variables, check=True)


def build(folder: Path) -> Path:
    """The wheel, by way of the source distribution, so that nothing of an older build in the tree gets in."""
    run(sys.executable, "-m", "build", "--quiet", "--outdir", folder, ROOT, folder=folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


def main(folder: Path) -> None:
    wheel = build(folder)
    with zipfile.ZipFile(wheel) as file:
        assert set(DATA_FILES) <= set(file.namelist()), file.namelist()
        file.extractall(folder / "site")

    X = np.random.default_rng(0).normal(size=(200, 3))
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, X[:, 0] > 0)
    edgeml.compile(pipeline, X, output=folder / "model.edgeml").close()
    np.save(folder / "rows.npy", X)
    np.save(folder / "expected.npy", pipeline.predict_proba(X))

    run(sys.executable, "-m", "venv", folder / "device", folder=folder)
    python = folder / "device" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", wheel, folder=folder)
    run(python, "-I", "-W", "error", "-c", DEVICE, "model.edgeml", "rows.npy", "expected.npy", folder=folder)

    (folder / "caller.py").write_text(CALLER)
    mypy = (sys.executable, "-m", "mypy", "--cache-dir", folder / "cache")
    run(*mypy, "--config-file=", "--strict", "--python-executable", python, "caller.py", folder=folder)
    run(*mypy, "--config-file", ROOT / "pyproject.toml", folder=folder, MYPYPATH=str(folder / "site"))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))

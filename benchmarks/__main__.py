"""``python -m benchmarks [PATTERN] [--quick] [--section NAME]… [--json FILE]``: EdgeML against its peers.

Writes every figure to JSON, in benchmarks/results/latest.json unless told otherwise, and prints the table of the
ratios that EdgeML promises. ``python -m benchmarks.report`` then puts the tables into README.md and the pictures
into docs/img. A part of the sections, or of the models by PATTERN, is measured anew into the same file: a file
may so come from several runs, and each record says what it was measured beside.
"""

from __future__ import annotations

import os

# Read by the libraries when they are loaded: one thread is what is compared.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.measure import Record, machine, reason
from benchmarks.report import RESULTS, promises
from benchmarks.sections import SECTIONS, Options


def measure(names: list[str], options: Options) -> tuple[dict[str, list[Record]], dict[str, str]]:
    """(records by section, reason by section that could not run)."""
    found: dict[str, list[Record]] = {}
    missing: dict[str, str] = {}
    for name in names:
        start = time.perf_counter()
        try:
            found[name] = list(SECTIONS[name](options))
        except ImportError as error:
            missing[name] = reason(error)
        options.report(f"{name}: {time.perf_counter() - start:.0f} s")
    return found, missing


def merged(old: dict[str, Any], new: dict[str, list[Record]]) -> dict[str, list[Record]]:
    """The old records, but for the sections and models that were measured anew."""
    result: dict[str, list[Record]] = dict(old.get("records", {}))
    for section, records in new.items():
        models = {r.get("model") for r in records}
        result[section] = [r for r in result.get(section, []) if r.get("model") not in models] + records
    return {name: result[name] for name in SECTIONS if name in result}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("pattern", nargs="?", default="", help="only models whose name holds this")
    parser.add_argument("--quick", action="store_true", help="a few models, a few turns: minutes instead of an hour")
    parser.add_argument("--section", action="append", choices=list(SECTIONS), help="only this one; may be repeated")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the records are kept")
    options = parser.parse_args()
    log = Console(stderr=True, highlight=False)
    before = machine()
    found, missing = measure(
        options.section or list(SECTIONS),
        Options(options.quick, options.pattern, lambda text: log.print(text, markup=False)),
    )
    for name, why in missing.items():
        log.print(f"section {name} is missing: {why}", markup=False)
    if not any(found.values()):
        parser.error(f"no model holds {options.pattern!r} in its name")
    old = json.loads(options.json.read_text()) if options.json.exists() else {}
    result = {"machine": before, "quick": options.quick, "records": merged(old, found)}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(result, indent=1) + "\n")
    print(promises(result))


if __name__ == "__main__":
    main()

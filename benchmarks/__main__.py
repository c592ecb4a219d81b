"""``python -m benchmarks [PATTERN] [--quick] [--section NAME]… [--json FILE]``: EdgeML against its peers.

Writes every figure to JSON, in benchmarks/results/latest.json unless told otherwise, and prints the table of the
ratios that EdgeML promises. ``python -m benchmarks.report`` then puts the tables into README.md and the pictures
into docs/img. A part of the sections, or of the models by PATTERN, is measured anew into the same file: a file
may so come from several runs, and each record says what it was measured beside.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.measure import Record, machine, reason
from benchmarks.report import RESULTS, promises
from benchmarks.sections import SECTIONS, Options


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
    parser.add_argument("--busy", action="store_true", help="CPU time instead of wall time: others use the machine")
    parser.add_argument("--section", action="append", choices=list(SECTIONS), help="only this one; may be repeated")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the records are kept")
    options = parser.parse_args()
    log = Console(stderr=True, highlight=False)
    before, old = machine(), {}
    how = Options(options.quick, options.busy, options.pattern, lambda text: log.print(text, markup=False))
    for name in options.section or list(SECTIONS):
        start = time.perf_counter()
        try:
            found = list(SECTIONS[name](how))
        except ImportError as error:
            log.print(f"section {name} is missing: {reason(error)}", markup=False)
            continue
        # Written section by section: an hour's work is not lost to what goes wrong in its last minute.
        old = json.loads(options.json.read_text()) if options.json.exists() else {}
        old = {"machine": before, "quick": options.quick, "busy": options.busy, "records": merged(old, {name: found})}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(old, indent=1) + "\n")
        log.print(f"{name}: {len(found)} records, {time.perf_counter() - start:.0f} s")
    if old:
        print(promises(old))


if __name__ == "__main__":
    # Bundles and compiled libraries of every contender go with the run.
    with tempfile.TemporaryDirectory(prefix="edgeml-benchmarks-") as tempfile.tempdir:
        main()

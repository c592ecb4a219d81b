"""What ``quantize="auto"`` does with each estimator: ``python -m tests.quantised_table`` measures it anew.

For the first variant of each estimator: the ops of its program that have narrow forms, and whether artifacts in every
format that can hold it keep the default budget. The result is ``quantised.json`` beside the variants, from which the
table of supported estimators has its column; tests/conformance/test_quantised_estimators.py holds it to the compiler.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import edgeml
from edgeml.errors import BudgetError
from tests.conformance.estimators import Variant
from tests.support_table import ENGINES, eligible, shown

ROWS = 64  # half to calibrate on, half to judge on
STORED = Path(__file__).parent / "conformance" / "estimators" / "quantised.json"


def first_variants() -> dict[str, Variant]:
    """The variant that stands for each eligible estimator: the first with rows enough to quantise with."""
    by_name, result = shown(), {}
    for name in sorted(eligible()):
        enough = (v for v in by_name.get(name, ()) if len(v.data()[0]) >= ROWS)
        result[name] = next(enough, by_name[name][0])
    return result


def measured(variant: Variant, folder: Path) -> str:
    """One cell of the column."""
    model, X = variant.fit()
    formats = [f for f in ENGINES if f not in variant.skip]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's own, about rows that are awkward
        try:
            bundle = edgeml.compile(model, X, output=folder / "m.edgeml", formats=formats, quantize="auto")
        except BudgetError:
            return "beyond the default budget"
    with bundle:
        ops = {op["op"] for op in bundle.json("report.json")["quantization"]["ops"]}
    return ", ".join(sorted(ops)) or "nothing to round"


def stored() -> dict[str, Any]:
    """The column as it was measured last."""
    found: dict[str, Any] = json.loads(STORED.read_text()) if STORED.exists() else {}
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        cells = {}
        for name, variant in first_variants().items():
            cells[name] = measured(variant, Path(folder))
            print(f"{name:32} {cells[name]}", flush=True)
    STORED.write_text(json.dumps(cells, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()

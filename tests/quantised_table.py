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

import numpy as np

import edgeml
from edgeml.errors import BudgetError, SampleError
from tests.conformance.estimators import Variant
from tests.support_table import ENGINES, QUANTISED, in_table, variants_of

ROWS = 130  # half to calibrate on, half to judge on


def measured(name: str, folder: Path) -> str:
    """One cell of the column: of the estimator's first variant with rows enough to quantise with."""
    refusal: SampleError | None = None
    for variant in sorted(variants_of(name), key=lambda v: _rows(v) < ROWS):
        try:
            return _measured(variant, folder)
        except SampleError as error:
            refusal = error
    assert refusal is not None
    raise refusal


def _rows(variant: Variant) -> int:
    X, _ = variant.data()
    return int(X.shape[0] if hasattr(X, "shape") else len(X))


def _measured(variant: Variant, folder: Path) -> str:
    model, X = variant.fit()
    if _rows(variant) < ROWS:  # each row ten times: both halves then hold different ones enough
        more = np.arange(10 * _rows(variant)) % _rows(variant)
        X = X.iloc[more] if hasattr(X, "iloc") else [X[i] for i in more] if isinstance(X, list) else X[more]
        if isinstance(X, np.ndarray) and X.dtype.kind == "f":
            X = X * np.linspace(1.0, 0.99, len(X)).reshape(-1, *[1] * (X.ndim - 1))
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


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        cells = {}
        for name in sorted(in_table()):
            cells[name] = measured(name, Path(folder))
            print(f"{name:32} {cells[name]}", flush=True)
    QUANTISED.write_text(json.dumps(cells, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()

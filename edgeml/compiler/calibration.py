"""The two parts of the sample that quantisation needs: rows to calibrate on, and other rows to judge on.

In comes a ``Source``; out go ``Halves``, with scikit-learn's answers. A row of which scikit-learn has no answer, or
whose score overflows, is in neither.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeml.compiler.source import SEED, Converted, Source
from edgeml.errors import SampleError
from edgeml.ir.table import Array
from edgeml.parity.check import overflowed
from edgeml.parity.truth import ask
from edgeml.quantize.budget import MIN_ROWS
from edgeml.quantize.truth import Truth
from edgeml.runtimes.frames import read_rows
from edgeml.sample import Sample

# Ranges and rounding settle long before; flips of 0.1 % want some thousands of judged rows.
CALIBRATION_ROWS = 10_000
JUDGED_ROWS = 20_000


@dataclass(frozen=True)
class Part:
    """Rows as the caller gave them and as raw columns, with scikit-learn's answers."""

    sample: Sample
    columns: dict[str, Array]
    truth: Truth


@dataclass(frozen=True)
class Halves:
    calibration: Part
    judged: Part


def split_sample(source: Source, converted: Converted, mode: str) -> Halves:
    """Half of the sample's rows for each, drawn at random. Raises SampleError when there are too few."""
    rows = len(source.sample)
    if rows < 2 * MIN_ROWS:
        raise SampleError(
            f"quantize={mode!r} needs {2 * MIN_ROWS} rows or more, half to calibrate on and half to judge on; "
            f"the sample has {rows}",
            "pass more raw training rows: some thousands make the budget's bounds tight",
        )
    order = np.random.default_rng(SEED).permutation(rows)
    middle = rows // 2
    parts = [np.sort(order[:middle][:CALIBRATION_ROWS]), np.sort(order[middle:][:JUDGED_ROWS])]
    calibration, judged = (_part(source, converted, chosen) for chosen in parts)
    for part, use in ((calibration, "calibrate"), (judged, "judge")):
        if len(part.sample) < MIN_ROWS:
            raise SampleError(
                f"quantize={mode!r} needs {MIN_ROWS} rows to {use} on that scikit-learn answers with finite numbers; "
                f"the sample has {len(part.sample)}",
                "pass more rows, or rows without what the pipeline refuses",
            )
    return Halves(calibration, judged)


def _part(source: Source, converted: Converted, chosen: Array) -> Part:
    sample, pipeline = source.sample, source.pipeline
    asked = ask(pipeline, Sample(sample.take(chosen), sample.schema), tuple(converted.returns))
    kept = ~overflowed(asked)
    rows = chosen[asked.answered[kept]]
    outputs = {method: answer[kept] for method, answer in asked.outputs.items()}
    targets = None if source.targets is None else np.asarray(source.targets)[rows]
    classes = getattr(pipeline, "classes_", None) if "predict" in outputs else None
    taken = Sample(sample.take(rows), sample.schema)
    columns = read_rows(taken.rows, sample.schema)[0] if len(rows) else {}
    known = classes if isinstance(classes, np.ndarray) and classes.ndim == 1 else None
    return Part(taken, columns, Truth(outputs, targets, known))

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
    """Half of the sample's rows for each, drawn at random. Raises SampleError for too few rows or a y that misfits."""
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
    classes = getattr(pipeline, "classes_", None) if "predict" in outputs else None
    taken = Sample(sample.take(rows), sample.schema)
    columns = read_rows(taken.rows, sample.schema)[0] if len(rows) else {}
    known = classes if isinstance(classes, np.ndarray) and classes.ndim == 1 else None
    targets = None
    if source.targets is not None and "predict" in outputs:
        targets = _targets(np.asarray(source.targets)[rows], outputs["predict"], known)
    return Part(taken, columns, Truth(outputs, targets, known))


def _targets(targets: Array, predictions: Array, classes: Array | None) -> Array | None:
    """Targets in the shape of the predictions, those of a regressor as float64; None where labels have no classes.

    Raises SampleError for targets that cannot be compared with what the pipeline predicts.
    """
    if classes is None and predictions.dtype.kind != "f":
        return None  # a clusterer's or an outlier detector's labels are names of its own
    if targets.size == predictions.size and 1 in (targets.ndim, predictions.ndim):
        targets = targets.reshape(predictions.shape)  # y as a column
    if targets.shape != predictions.shape:
        raise SampleError(
            f"y has the shape {targets.shape}, what the pipeline predicts of the same rows {predictions.shape}",
            "pass y as it was at fit",
        )
    if classes is not None:
        return targets
    try:
        return targets.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise SampleError(f"y cannot be compared with the predictions: {error}", "pass y as it was at fit") from None

"""The two parts of the sample that quantisation needs: rows to calibrate on, and other rows to judge on.

In comes a ``Source``; out go ``Halves``, with scikit-learn's answers. A row of which scikit-learn has no answer, or
whose score overflows, is in neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgeml.compiler.source import ROWS_ALONE, SEED, Converted, Source
from edgeml.converters.answering import answers_alone
from edgeml.errors import SampleError
from edgeml.ir.table import Array
from edgeml.parity.check import overflowed
from edgeml.parity.truth import Truth as RowsTruth
from edgeml.parity.truth import ask
from edgeml.quantize.budget import MIN_ROWS, Budget
from edgeml.quantize.near import Near, mixtures
from edgeml.quantize.truth import Truth
from edgeml.runtimes.frames import read_rows
from edgeml.sample import Sample, classes_of

# Ranges and rounding settle long before; flips of 0.1 % want some thousands of judged rows.
CALIBRATION_ROWS = 10_000
JUDGED_ROWS = 20_000


@dataclass(frozen=True)
class Part:
    """Rows as the caller gave them and as raw columns, with scikit-learn's answers.

    ``near``: rows between them, where the pipeline predicts.
    """

    sample: Sample
    columns: dict[str, Array]
    truth: Truth
    near: Near | None = None


@dataclass(frozen=True)
class Halves:
    calibration: Part
    judged: Part


def split_sample(source: Source, converted: Converted, mode: str, budget: Budget) -> Halves:
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
        different = _different(part.columns)
        if different < (MIN_ROWS if _has_fractions(part.columns) else 2):
            raise SampleError(
                f"quantize={mode!r} needs {MIN_ROWS} different rows to {use} on; those of the sample are {different}, "
                "repeated",
                "pass raw training rows as they are, thousands of them where there are that many",
            )
    if budget.label_flips is not None or budget.metric_drop is not None:
        calibration, judged = (_with_near(part, source.pipeline) for part in (calibration, judged))
    return Halves(calibration, judged)


def _different(columns: Mapping[str, Array]) -> int:
    """How many different rows there are; missing cells are equal."""
    import pandas as pd

    parts = [pd.DataFrame(np.asarray(cells)) for cells in columns.values()]
    return len(pd.concat(parts, axis=1).drop_duplicates()) if parts else 0


def _has_fractions(columns: Mapping[str, Array]) -> bool:
    """Whether any number is not whole: of flags and categories there may be few rows that differ, of others there are
    not.
    """
    for cells in columns.values():
        if cells.dtype.kind == "f":
            known = cells[np.isfinite(cells)]
            if (known != np.rint(known)).any():
                return True
    return False


def _with_near(part: Part, pipeline: Any) -> Part:
    """The part with rows between its own, where scikit-learn predicts and they hold different cells."""
    if "predict" not in part.truth.outputs or not part.columns:
        return part
    rows, neighbours, taken = mixtures(part.columns, part.truth.rows, SEED)
    if answers_alone(pipeline):  # scikit-learn is asked row by row
        few = np.linspace(0, len(rows) - 1, min(len(rows), ROWS_ALONE)).astype(np.int64)
        rows, neighbours, taken = rows[few], neighbours[few], taken[few]
    mixed = part.sample.take(rows)
    others = part.sample.take(neighbours)
    if part.sample.is_frame:
        # The columns a program reads are those that tell neighbours; the others stay with their row.
        for at, name in enumerate(part.columns):
            place = list(map(str, mixed.columns)).index(name)
            label = mixed.columns[place]
            mixed[label] = mixed[label].where(~taken[:, at], others[label])
    else:
        mixed = np.where(taken, others, mixed)
    sample = Sample(mixed, part.sample.schema)
    asked = ask(pipeline, sample, ("predict",), like=_only_predict(part))
    answered = Sample(sample.take(asked.answered), sample.schema)
    if not len(answered):
        return part
    columns = read_rows(answered.rows, sample.schema)[0]
    predictions = asked.outputs["predict"]
    return replace(part, near=Near(columns, predictions, part.truth.is_label("predict"), sample.schema))


def _only_predict(part: Part) -> RowsTruth:
    """What an answer looks like, for rows that may all be refused."""
    return RowsTruth({"predict": part.truth.outputs["predict"]}, np.zeros(part.truth.rows, dtype=bool), "")


def _part(source: Source, converted: Converted, chosen: Array) -> Part:
    sample, pipeline = source.sample, source.pipeline
    asked = ask(pipeline, Sample(sample.take(chosen), sample.schema), tuple(converted.returns))
    kept = ~overflowed(asked)
    rows = chosen[asked.answered[kept]]
    outputs = {method: answer[kept] for method, answer in asked.outputs.items()}
    classes = classes_of(pipeline) if "predict" in outputs else None
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

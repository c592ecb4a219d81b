"""Accuracy or R2 against known targets, of scikit-learn and of every artifact, for the report in the bundle."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgeml.errors import SampleError
from edgeml.parity.truth import ask
from edgeml.runtimes.base import Model
from edgeml.runtimes.engines import precision
from edgeml.runtimes.in_range import run_in_range
from edgeml.runtimes.load import open_model
from edgeml.sample import Sample, classes_of


def check_targets(y: Any, sample: Sample, pipeline: Any) -> Any:
    """y as an array. Raises SampleError when it cannot be the targets of the sample."""
    targets = np.asarray(y)
    if len(targets) != len(sample):
        raise SampleError(f"y has {len(targets)} rows, the sample {len(sample)}", "pass the targets of the sample")
    if not hasattr(pipeline, "predict"):
        raise SampleError(f"{type(pipeline).__name__} predicts nothing that y could be compared with", "leave y out")
    classes = classes_of(pipeline)
    if isinstance(classes, np.ndarray) and targets.ndim == 1 and not set(targets.tolist()) & set(classes.tolist()):
        raise SampleError(
            f"y holds none of the classes the pipeline knows: {classes.tolist()[:6]}, not {targets.tolist()[:3]}",
            "pass the targets the pipeline was fitted on, in the same form",
        )
    return targets


def metrics_against(
    targets: Any, trial: Path, artifacts: Iterable[str], pipeline: Any, sample: Sample, most: int
) -> dict[str, float]:
    """Accuracy (classifiers) or R2 by contender, on the first ``most`` rows; ``trial`` is the bundle under test.

    Rows beyond an engine's range do not count for it.
    """
    from sklearn.base import is_classifier
    from sklearn.metrics import accuracy_score, r2_score

    score, name = (accuracy_score, "accuracy") if is_classifier(pipeline) else (r2_score, "r2")
    if name == "accuracy" and targets.ndim == 2:
        score = _all_outputs_right  # accuracy_score refuses several outputs of several classes
    truth = ask(pipeline, Sample(sample.take(np.arange(min(len(sample), most))), sample.schema), ["predict"])
    rows, targets = sample.take(truth.answered), targets[truth.answered]
    answered = Sample(rows, sample.schema)
    answers = {"scikit-learn": (truth.outputs["predict"], np.ones(len(targets), dtype=bool))}
    for engine in artifacts:
        with open_model(trial, engine=engine) as model:
            found, within = run_in_range(partial(_predict, model, answered), len(targets), precision(engine))
        if within.any():
            answers[engine] = found["predict"], within
    try:
        return {f"{name} of {who}": float(score(targets[within], y)) for who, (y, within) in answers.items()}
    except ValueError as error:
        raise SampleError(f"y cannot be compared with the predictions: {error}", "pass y as it was at fit") from None


def _all_outputs_right(targets: Any, labels: Any) -> float:
    """Share of the rows with every output right, as ``MultiOutputClassifier.score`` counts them."""
    if targets.shape != labels.shape:
        raise ValueError(f"y has shape {targets.shape}, the predictions {labels.shape}")
    return float(np.mean(np.all(targets == labels, axis=1)))


def _predict(model: Model, sample: Sample, rows: Any) -> dict[str, Any]:
    return {"predict": model.predict(sample.take(rows))}

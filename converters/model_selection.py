"""Wrappers left by model selection: a search answers with its best estimator, a threshold classifier with its own cut.

In comes a fitted GridSearchCV (or another search) or a Fixed-/TunedThresholdClassifier; out goes what the estimator
inside returns, with ``predict`` put anew for a threshold.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeml.converters.block import Block
from edgeml.converters.registry import Conversion, Outputs, converter
from edgeml.ir import Value

_SEARCH = (
    "estimator", "scoring", "n_jobs", "refit", "cv", "verbose", "pre_dispatch", "error_score", "return_train_score",
    "random_state",
)  # fmt: skip
_HALVING = ("factor", "resource", "max_resources", "min_resources", "aggressive_elimination")


@converter("sklearn.GridSearchCV", ignores=(*_SEARCH, "param_grid"))
@converter("sklearn.RandomizedSearchCV", ignores=(*_SEARCH, "param_distributions", "n_iter"))
@converter("sklearn.HalvingGridSearchCV", ignores=(*_SEARCH, *_HALVING, "param_grid"))
@converter("sklearn.HalvingRandomSearchCV", ignores=(*_SEARCH, *_HALVING, "param_distributions", "n_candidates"))
def search(c: Conversion, est: Any, X: Block) -> Outputs:
    """The best estimator, refitted on all data; without ``refit`` there is none to ask."""
    if not hasattr(est, "best_estimator_"):
        raise c.refuse(est, "refit", est.refit, "fit with refit=True, or compile the estimator you choose")
    return c.convert(est.best_estimator_, X, "best_estimator_")


@converter("sklearn.FixedThresholdClassifier", honours=("estimator", "threshold", "pos_label", "response_method"))
def fixed_threshold(c: Conversion, est: Any, X: Block) -> Outputs:
    """The positive class from ``threshold`` on; "auto" is 0.5 of probabilities and 0 of a decision function."""
    method = _response_method(est)
    threshold = est.threshold
    if isinstance(threshold, str):  # "auto"
        threshold = 0.5 if method == "predict_proba" else 0.0
    return _cut(c, est, X, method, threshold, est.pos_label)


@converter(
    "sklearn.TunedThresholdClassifierCV",
    honours=("estimator", "response_method"),
    ignores=("scoring", "thresholds", "cv", "refit", "n_jobs", "random_state", "store_cv_results"),
)
def tuned_threshold(c: Conversion, est: Any, X: Block) -> Outputs:
    """The positive class, which the scorer names, from ``best_threshold_`` on."""
    return _cut(c, est, X, _response_method(est), est.best_threshold_, est._curve_scorer._get_pos_label())


def _response_method(est: Any) -> str:
    if est.response_method != "auto":
        return str(est.response_method)
    return "predict_proba" if hasattr(est.estimator_, "predict_proba") else "decision_function"


def _cut(c: Conversion, est: Any, X: Block, method: str, threshold: Any, positive: Any) -> Outputs:
    """The estimator's own scores, and labels by where the positive class's score lies; of NaN the negative class."""
    outputs = c.convert(est.estimator_, X, "estimator_")
    remedy = "put a supported classifier under the threshold (README, supported estimators)"
    scores = c.answer(outputs, est.estimator_, "estimator_", method, remedy)
    assert isinstance(scores, Value)
    at = 1 if positive is None else int(np.flatnonzero(est.classes_ == positive)[0])
    if method == "predict_proba":
        scores = scores.select([at])
    elif at == 0:
        scores = -scores
    # A Python number is compared in the dtype of the scores, a NumPy float64 makes float64 of them.
    scores = scores.cast(np.result_type(np.dtype(scores.dtype), threshold).name)
    hit = (scores >= float(threshold)).cast("int64")
    result: dict[str, Value | Block] = {
        name: outputs[name]
        for name in ("predict_proba", "predict_log_proba", "decision_function")
        if hasattr(est, name) and name in outputs
    }
    result["predict"] = c.labels(hit if at == 1 else 1 - hit, est.classes_)
    return result

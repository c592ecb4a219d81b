"""How estimators answer that do not answer about each row by itself, and once and for all.

In comes a fitted pipeline; out goes whether its answer to a batch is one about the batch, so that the truth about a row
is what scikit-learn says of that row alone, whether it can answer about a single row at all, and which methods draw
random numbers whenever they are called, or give back nothing but rounding errors. The compiler asks, when it asks
scikit-learn.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from edgeml.converters.registry import CONVERTERS, key_of

# Relative error that is left of a quadratic form when its matrix is inverted.
_FEWEST_DIGITS = 1e-4
# Beyond them the units of the columns are taken as they are: finding eigenvalues is cubic.
_MOST_COLUMNS = 500


def answers_alone(pipeline: Any) -> bool:
    """Whether an estimator of the pipeline stops, or starts, by the whole batch: NMF's transform does."""
    return any(entry.alone for est in _inside(pipeline, set()) if (entry := CONVERTERS.get(key_of(est))))


def needs_company(pipeline: Any) -> bool:
    """Whether an estimator of the pipeline answers otherwise where no row of a batch has any cell: IterativeImputer."""
    return any(entry.company for est in _inside(pipeline, set()) if (entry := CONVERTERS.get(key_of(est))))


def squeezes(pipeline: Any) -> bool:
    """Whether an estimator of the pipeline drops an axis of its answer to a single row, which the next step refuses:
    SparsePCA's transform does.
    """
    return any(entry.squeezes for est in _inside(pipeline, set()) if (entry := CONVERTERS.get(key_of(est))))


def unrepeatable_methods(pipeline: Any) -> dict[str, str]:
    """Methods of the pipeline that no program can repeat, and why."""
    last = pipeline
    while True:
        if getattr(last, "steps", None):
            last = last.steps[-1][1]
        elif hasattr(last, "best_estimator_"):
            last = last.best_estimator_
        else:
            break
    key = key_of(last)
    if key in ("sklearn.PCA", "sklearn.FactorAnalysis") and hasattr(last, "noise_variance_") and _is_singular(last):
        return {"score_samples": f"{type(last).__name__} inverts a singular matrix: what it gives is rounding errors"}
    entry = CONVERTERS.get(key)
    reason = f"{type(last).__name__} draws random numbers for every answer"
    return dict.fromkeys(entry.random, reason) if entry else {}


def _is_singular(est: Any) -> bool:
    """Whether the covariance that a PCA or FactorAnalysis inverts keeps fewer than four digits, whatever the units of
    the columns: of columns that add up, as dummies of categories do, or fewer rows than columns.
    """
    components, noise = np.asarray(est.components_, dtype=np.float64), np.asarray(est.noise_variance_, dtype=np.float64)
    width, most = components.shape[1], _FEWEST_DIGITS / np.finfo(np.asarray(est.components_).dtype).eps
    with np.errstate(all="ignore"):
        if noise.ndim:  # FactorAnalysis: a column that the factors explain entirely
            return bool((np.sum(components**2, axis=0) / noise).max() > most)
        spectrum = np.asarray(est.explained_variance_, dtype=np.float64)
        if est.whiten:  # scikit-learn's precision multiplies the components by their deviations first
            spectrum = spectrum**2
        least = min(spectrum.min(initial=np.inf), noise if len(components) < width else np.inf)
        if spectrum.max(initial=0.0) <= least * most or width > _MOST_COLUMNS:
            return bool(spectrum.max(initial=0.0) > least * most)
        covariance = np.asarray(est.get_covariance(), dtype=np.float64)
        scale = np.sqrt(np.diagonal(covariance))
        scaled = covariance / np.where(scale > 0, scale, 1.0) / np.where(scale > 0, scale, 1.0)[:, np.newaxis]
        found = np.linalg.eigvalsh(scaled)
        return bool(found[-1] > found[0] * most)


def float32_starts(pipeline: Any) -> list[str]:
    """The gradient boosting models of the pipeline that start from another model, which is given float32 rows."""
    return sorted(
        {
            f"{type(est).__name__}(init={type(est.init_).__name__}())"
            for est in _inside(pipeline, set())
            if key_of(est) in ("sklearn.GradientBoostingClassifier", "sklearn.GradientBoostingRegressor")
            and not isinstance(getattr(est, "init_", "zero"), str)
            and not type(est.init_).__name__.startswith("Dummy")
        }
    )


# Cells of lists and dictionaries, such as a vocabulary of 100,000 terms, which are looked through for every question.
_PLAIN = frozenset({bool, bytes, float, int, str, type(None), np.bool_, np.float64, np.int64, np.str_})


def _inside(value: Any, seen: set[int]) -> Iterator[Any]:
    """The estimator and all that are among its parameters and fitted attributes."""
    if id(value) in seen or isinstance(value, type):
        return
    if hasattr(value, "get_params"):
        seen.add(id(value))
        yield value
        parts = list(vars(value).values()) if hasattr(value, "__dict__") else []
    elif isinstance(value, dict):
        parts = list(value.values())
    elif isinstance(value, (list, tuple, set)) or (isinstance(value, np.ndarray) and value.dtype == object):
        parts = list(value)
    else:
        return
    for part in parts:
        if type(part) not in _PLAIN:
            yield from _inside(part, seen)

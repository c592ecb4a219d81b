"""Feature selectors: the columns a selector kept in training, in their order.

In comes any fitted selector of scikit-learn, out goes its ``transform``: the kept columns of the Block
with their names, strings as strings. RFE and RFECV also predict, with the estimator fitted on the kept
columns.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import numpy as np

from edgeml.converters.block import Block
from edgeml.converters.lazy import LazyOutputs
from edgeml.converters.registry import Conversion, Outputs, converter
from edgeml.errors import UnsupportedEstimatorError
from edgeml.ir import Value


def _checked(c: Conversion, est: Any, X: Block) -> Block:
    """X after validate_data(dtype=None).

    Numbers get one dtype, and NaN and infinity are refused unless the selector allows NaN. In an object array
    scikit-learn looks for NaN only. Where set_output asks for a frame, a frame stays as it is, unchecked.
    """
    from sklearn.utils import get_tags
    from sklearn.utils._set_output import _get_output_config

    if X.form == "frame" and _get_output_config("transform", est)["dense"] == "pandas":
        X.check(c, est)
        return X
    allow_nan = get_tags(est).input_tags.allow_nan
    if not X.is_object:
        # Of bool and numbers in one frame pandas would make objects; check_array converts such a frame before.
        x = X.matrix(c, est, dtype=X.dtype, check=not allow_nan)
        return Block(x, names=X.names, form="sparse" if X.form == "sparse" else "array")
    array = X.as_array()
    X.check(c, est)
    if allow_nan:
        return array
    what = c.place(est)
    values = [_without_nan(c, value, what) for value in array.values]
    return Block(*values, names=array.names, form=array.form)


def _without_nan(c: Conversion, value: Value, what: str) -> Value:
    if value.dtype in ("int64", "bool"):
        return value
    message = f"{what} was given NaN, which scikit-learn refuses too"
    return c.builder.require(value, ~c.builder.is_nan(value), message)


def _selected(c: Conversion, est: Any, X: Block) -> Block:
    return _checked(c, est, X).columns(np.flatnonzero(est.get_support()).tolist())


@converter("sklearn.SelectKBest", honours=("k",), ignores=("score_func",))
@converter("sklearn.SelectPercentile", honours=("percentile",), ignores=("score_func",))
@converter("sklearn.SelectFpr", honours=("alpha",), ignores=("score_func",))
@converter("sklearn.SelectFdr", honours=("alpha",), ignores=("score_func",))
@converter("sklearn.SelectFwe", honours=("alpha",), ignores=("score_func",))
@converter("sklearn.GenericUnivariateSelect", honours=("mode", "param"), ignores=("score_func",))
@converter("sklearn.VarianceThreshold", honours=("threshold",))
@converter(
    "sklearn.SelectFromModel",
    honours=("estimator", "threshold", "prefit", "norm_order", "max_features", "importance_getter"),
)
@converter(
    "sklearn.SequentialFeatureSelector",
    ignores=("estimator", "n_features_to_select", "tol", "direction", "scoring", "cv", "n_jobs"),
)
def selector(c: Conversion, est: Any, X: Block) -> Outputs:
    """The columns of get_support()."""
    return {"transform": _selected(c, est, X)}


_DELEGATED = ("predict", "predict_proba", "predict_log_proba", "decision_function")


@converter(
    "sklearn.RFE",
    "sklearn.RFECV",
    honours=("estimator", "n_features_to_select"),
    ignores=("step", "verbose", "importance_getter", "min_features_to_select", "cv", "scoring", "n_jobs"),
)
def recursive_elimination(c: Conversion, est: Any, X: Block) -> Outputs:
    """The kept columns, and what ``estimator_`` returns for them.

    In the middle of a pipeline ``estimator_`` plays no part, so it is converted when one of its methods is
    asked for: until then it adds neither work nor checks, and need not be one that can be converted.
    """
    kept = _selected(c, est, X)
    inner = cache(lambda: c.convert(est.estimator_, kept, "estimator_"))

    def delegate(method: str) -> Value | Block:
        outputs = inner()
        if method in outputs:
            return outputs[method]
        if method == "predict_log_proba" and "predict_proba" in outputs:
            proba = outputs["predict_proba"]
            assert isinstance(proba, Value)
            return c.builder.log(proba)
        raise c.refusals.get(method) or UnsupportedEstimatorError(
            f"step {c.builder.origin}: no converter for {method} of {type(est.estimator_).__name__}",
            "report it: every method of a supported estimator is meant to compile",
        )

    functions = {m: partial(delegate, m) for m in _DELEGATED if hasattr(est, m)}
    return LazyOutputs(c, {"transform": lambda: kept, **functions})

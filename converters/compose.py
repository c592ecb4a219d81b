"""Composition: Pipeline, FeatureUnion and ColumnTransformer.

In comes a Block, out goes what the parts return: the last step's methods of a Pipeline, the parts' columns
side by side of the other two, in the container (array, sparse matrix, frame) that scikit-learn would stack
them in, since the container decides dtypes and names for the steps behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from edgeml.converters.block import Block, BlockForm
from edgeml.converters.registry import Conversion, Outputs, converter
from edgeml.errors import SampleError, UnsupportedEstimatorError


def _passes(step: Any) -> bool:
    return step is None or (isinstance(step, str) and step == "passthrough")


def _drops(step: Any) -> bool:
    return isinstance(step, str) and step == "drop"


@converter("sklearn.Pipeline", honours=("steps",), ignores=("memory", "verbose", "transform_input"))
def pipeline(c: Conversion, est: Any, X: Block) -> Outputs:
    """The methods of the last step, fed with what the steps before it make of X."""
    return through(c, est.steps, X)


def through(c: Conversion, steps: Sequence[tuple[str, Any]], X: Block) -> Outputs:
    """What the last of some steps gives for what the others make of X."""
    *before, (last_name, last) = steps
    for name, step in before:
        X = _transformed(c, step, X, name)
    if _passes(last):
        return {"transform": X}
    return c.convert(last, X, last_name)


def _transformed(c: Conversion, step: Any, X: Block, name: str) -> Block:
    """What ``step`` makes of X, as a Block."""
    if _passes(step):
        return X
    before = c.refusals.get("transform")
    result = c.convert(step, X, name).get("transform")
    if not isinstance(result, Block):
        refusal = c.refusals.get("transform")
        if refusal is not None and refusal is not before:
            raise refusal
        raise UnsupportedEstimatorError(
            f"step {c.builder.origin}/{name}: the transform of {type(step).__name__} cannot be compiled",
            "replace the step by a supported transformer (README, supported estimators)",
        )
    return result


@converter(
    "sklearn.FeatureUnion",
    honours=("transformer_list", "transformer_weights"),
    ignores=("n_jobs", "verbose", "verbose_feature_names_out"),
)
def feature_union(c: Conversion, est: Any, X: Block) -> Outputs:
    """Every transformer on the same X, results side by side, each times its weight."""
    weights = est.transformer_weights or {}
    parts = [
        _weighted(c, est, _transformed(c, step, X, name), weights.get(name))
        for name, step in est.transformer_list
        if not _drops(step)
    ]
    sparse = any(part.form == "sparse" for part in parts)
    return {"transform": Block.hstack(parts, _container(est, parts, sparse=sparse))}


@converter(
    "sklearn.ColumnTransformer",
    honours=("transformers", "remainder", "transformer_weights"),
    ignores=(
        "sparse_threshold",
        "n_jobs",
        "verbose",
        "verbose_feature_names_out",
        "force_int_remainder_cols",
    ),
    note="columns by name, position, slice, mask, callable and make_column_selector",
)
def column_transformer(c: Conversion, est: Any, X: Block) -> Outputs:
    """Every transformer on its columns, results side by side, each times its weight.

    The columns are those resolved in fit, remainder included: callables and selectors are not asked again.
    """
    weights = est.transformer_weights or {}
    parts = []
    for name, step, _ in est.transformers_:
        indices = est._transformer_to_input_indices[name]
        if _drops(step) or len(indices) == 0:
            continue
        chosen = X.columns(_positions(c, est, X, indices))
        parts.append(_weighted(c, est, _transformed(c, step, chosen, name), weights.get(name)))
    return {"transform": Block.hstack(parts, _container(est, parts, sparse=getattr(est, "sparse_output_", False)))}


def _positions(c: Conversion, est: Any, X: Block, indices: Iterable[int]) -> list[int]:
    """Positions in X of columns by their positions in fit: by name where fit and X both have names."""
    names = getattr(est, "feature_names_in_", None)
    if names is None or X.names is None or X.form != "frame":
        X.check(c, est)
        return [int(i) for i in indices]
    places = {name: i for i, name in enumerate(X.names)}
    missing = [names[i] for i in indices if names[i] not in places]
    if missing:
        raise SampleError(
            f"step {c.builder.origin or 'pipeline'}: ColumnTransformer was fitted with the column "
            f"{missing[0]!r}, which is not there",
            "pass a sample with the columns the pipeline was fitted on",
        )
    return [places[names[i]] for i in indices]


def _container(est: Any, parts: Iterable[Block], *, sparse: bool) -> BlockForm:
    """What scikit-learn stacks the parts in: a frame when set_output asks for one and every part is one."""
    from sklearn.utils._set_output import _get_output_config

    if _get_output_config("transform", est)["dense"] != "default" and all(p.form == "frame" for p in parts):
        return "frame"
    return "sparse" if sparse else "array"


def _weighted(c: Conversion, est: Any, X: Block, weight: Any) -> Block:
    """X * weight in NumPy's promotion."""
    if weight is None:
        return X
    if any(v.dtype == "string" for v in X.values):
        raise c.refuse(
            est,
            "transformer_weights",
            est.transformer_weights,
            "leave strings without a weight, or encode them first",
        )
    if X.form == "frame" and isinstance(weight, np.generic):
        weight = weight.item()  # pandas takes the dtype off a scalar, NumPy does not
    values = []
    for value in X.values if X.form in ("frame", "object") else X.as_array().values:
        factor = weight if type(weight) in (float, int) else np.asarray([weight])
        if value.dtype == "bool":  # a Python number gives way to the dtype of numbers, never to bool
            factor = np.asarray([weight])
        values.append(value * factor)
    return Block(*values, names=X.names, form=X.form)

"""IterativeImputer: missing cells predicted from the other columns, in the order and the rounds of training.

In comes a Block, out goes ``transform``. Each step is an estimator that was fitted on the columns as they stood then:
it is converted like any other. scikit-learn leaves rows at their first filling where all cells of a batch are missing,
so the specification is its answer to a row in company of one that has its cells.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeml.converters.block import Block
from edgeml.converters.imputing import is_scalar_nan, missing_cells
from edgeml.converters.registry import Conversion, Outputs, converter
from edgeml.ir import Value


@converter(
    "sklearn.IterativeImputer",
    honours=(
        "estimator", "missing_values", "sample_posterior", "initial_strategy", "fill_value", "min_value", "max_value",
        "add_indicator", "keep_empty_features",
    ),
    ignores=(
        "max_iter", "tol", "n_nearest_features", "imputation_order", "skip_complete", "verbose", "random_state",
    ),
    note="a row all of whose cells are missing is answered as among others, where scikit-learn predicts them",
    company=True,
)  # fmt: skip
def iterative_imputer(c: Conversion, est: Any, X: Block) -> Outputs:
    """The first filling, then one column after the other as imputation_sequence_ has them."""
    if est.sample_posterior:
        raise c.refuse(
            est, "sample_posterior", True, "it draws random numbers for every answer: use sample_posterior=False"
        )
    b = c.builder
    x = X.matrix(c, est, allow_nan=is_scalar_nan(est.missing_values))
    found = missing_cells(c, est, x)
    missing = b.constant(np.zeros(x.width, dtype=bool)) if found is None else found
    first = _matrix(c, c.convert(est.initial_imputer_, Block(x), "initial_imputer_"))
    empty = np.asarray(est._is_empty_feature)
    # Columns that were all missing in training are gone, or keep what they were filled with.
    if est.keep_empty_features:
        predicted = missing & ~empty
        given = b.where(b.constant(empty), first, x) if empty.any() else x
    else:
        predicted, given = missing.select(~empty), x.select(~empty)
    parts = [_rounds(c, est, first, given, predicted)]
    if est.add_indicator:
        parts.append(missing.select(est.indicator_.features_).cast(x.dtype))
    return {"transform": Block(*parts)}


def _matrix(c: Conversion, outputs: Outputs) -> Value:
    """The columns of a transformer as one matrix."""
    block = outputs["transform"]
    assert isinstance(block, Block)
    return c.builder.concat(list(block.values))


def _rounds(c: Conversion, est: Any, first: Value, given: Value, missing: Value) -> Value:
    """Every step of the sequence."""
    b = c.builder
    if est.n_iter_ == 0:
        return first
    columns = [first.select([j]) for j in range(first.width)]
    usual = np.asarray(est.initial_imputer_.statistics_, dtype=first.dtype)
    usual = np.nan_to_num(usual if est.keep_empty_features else usual[~np.asarray(est._is_empty_feature)])
    for at, step in enumerate(est.imputation_sequence_):
        j, near = int(step.feat_idx), np.asarray(step.neighbor_feat_idx, dtype=np.int64)
        # Rows that have the cell are not asked about: what their other cells hold must not be refused.
        others = b.where(missing.select([j]), b.concat([columns[k] for k in near]), usual[near])
        outputs = c.convert(step.estimator, Block(others), f"imputation_sequence_[{at}]")
        answer = c.answer(outputs, step.estimator, "estimator", "predict", "use a regressor as estimator")
        assert isinstance(answer, Value)
        low, high = float(est._min_value[j]), float(est._max_value[j])
        value = answer if low == -np.inf else b.maximum(answer, low)
        value = value if high == np.inf else b.minimum(value, high)
        columns[j] = b.where(missing.select([j]), value.cast(first.dtype), columns[j])
    return b.where(missing, b.concat(columns), given)

"""TransformedTargetRegressor: a regressor of a transformed target, and the way back to the target's own units."""

from __future__ import annotations

from typing import Any

from edgeml.converters.block import Block
from edgeml.converters.inverses import inverse
from edgeml.converters.members import value_of
from edgeml.converters.registry import Conversion, Outputs, converter


@converter(
    "sklearn.TransformedTargetRegressor",
    honours=("regressor", "transformer", "func", "inverse_func"),
    ignores=("check_inverse",),
)
def transformed_target(c: Conversion, est: Any, X: Block) -> Outputs:
    """``transformer_.inverse_transform`` of the regressor's predictions."""
    outputs = c.convert(est.regressor_, X, "regressor_")
    predicted = value_of(c, outputs, est.regressor_, "regressor_", "predict")
    with c.builder.step("transformer_"):
        return {"predict": inverse(c, est.transformer_, predicted)}

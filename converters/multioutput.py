"""Several outputs by one estimator each: side by side, or in a chain where each sees the answers of those before it.

In comes a fitted MultiOutputClassifier, MultiOutputRegressor, ClassifierChain or RegressorChain; out go the members'
answers in the order of the outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgeml.converters.block import Block
from edgeml.converters.lazy import LazyOutputs, Output
from edgeml.converters.members import beside, common, one_array, value_of
from edgeml.converters.registry import Conversion, Outputs, converter
from edgeml.ir import Value

_STEP = "estimators_"  # of all members, so that what they check alike is checked once


@converter("sklearn.MultiOutputClassifier", "sklearn.MultiOutputRegressor", honours=("estimator",), ignores=("n_jobs",))
def multi_output(c: Conversion, est: Any, X: Block) -> Outputs:
    """The members' predictions as columns; predict_proba is the list of theirs."""
    pairs = [(member, c.convert(member, X, _STEP)) for member in est.estimators_]

    def all_of(method: str) -> list[Value]:
        return [value_of(c, outputs, member, _STEP, method) for member, outputs in pairs]

    def predict() -> Output:
        columns = all_of("predict")
        # Labels of an object array keep their own types.
        own = any(np.asarray(getattr(member, "classes_", ())).dtype.kind in "OUS" for member, _ in pairs)
        return Block(*columns) if own else beside(common(columns))

    functions: dict[str, Callable[[], Output]] = {"predict": predict}
    if hasattr(est, "predict_proba"):
        functions["predict_proba"] = lambda: Block(*all_of("predict_proba"))
    return LazyOutputs(c, functions)


_CHAIN = ("cv", "random_state", "verbose")


@converter("sklearn.ClassifierChain", honours=("estimator", "order", "chain_method"), ignores=_CHAIN)
@converter("sklearn.RegressorChain", honours=("estimator", "order"), ignores=_CHAIN)
def chain(c: Conversion, est: Any, X: Block) -> Outputs:
    """Each member sees X and, in float64, what those before it answered by ``chain_method``."""
    array = one_array(c, est, X)
    method = getattr(est, "chain_method_", "predict")
    converted: list[tuple[Any, Outputs]] = []
    columns: list[Value] = []
    for member in est.estimators_:
        seen = Block(*(v.cast("float64") for v in (*array.values, *columns)), form=array.form)
        outputs = c.convert(member, seen, _STEP)
        converted.append((member, outputs))
        if len(converted) < len(est.estimators_):
            columns.append(_response(c, outputs, member, method).cast("float64"))
    places = np.argsort(np.asarray(est.order_))

    def responses(wanted: str) -> Callable[[], Value]:
        found = [converted[at] for at in places]
        return lambda: beside([_response(c, outputs, member, wanted).cast("float64") for member, outputs in found])

    methods = [m for m in ("predict", "predict_proba", "decision_function") if hasattr(est, m)]
    return LazyOutputs(c, {m: responses(m) for m in methods})


def _response(c: Conversion, outputs: Outputs, member: Any, method: str) -> Value:
    """One column: of probabilities, and of their logarithms, that of the second of two classes."""
    if method == "predict_log_proba" and method not in outputs:
        return c.builder.log(_response(c, outputs, member, "predict_proba"))
    answer = value_of(c, outputs, member, _STEP, method)
    return answer.select([1]) if method in ("predict_proba", "predict_log_proba") else answer

"""What a variant is: an estimator with some parameters, the data it is fitted on, and what engines cannot do with it.

``variant(OneHotEncoder(drop="first"), strings)`` is a whole entry: it is named by the estimator's own repr, fitted once,
compiled for every engine that is not skipped, and asked about rows that are not in the sample.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sklearn.base import clone

# Makes rows and targets: (X, y); y is None where nothing is learnt from targets.
Data = Callable[[], tuple[Any, Any]]


@dataclass(frozen=True)
class Variant:
    """``estimator`` is not fitted yet; ``skip`` maps an engine (native, onnx, tflite) to a part of the reason with which
    the compiler refuses it; ``bound`` is the largest relative error from float64 engines, 1e-6 where scikit-learn itself
    iterates to a tolerance; ``of`` is the estimator that the variant shows, where that is not ``estimator`` itself.
    """

    name: str
    of: str
    estimator: Any
    data: Data
    skip: Mapping[str, str] = field(default_factory=dict)
    bound: float = 1e-9
    since: str = ""

    def fit(self) -> tuple[Any, Any]:
        """The fitted estimator, and raw rows to ask it about."""
        X, y = self.data()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # short fits do not converge; answers are compared, not quality
            model = clone(self.estimator)
            return (model.fit(X) if y is None else model.fit(X, y)), X


def deprecated(estimator: type, **parameters: Any) -> Any:
    """An estimator of a class whose use scikit-learn warns of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return estimator(**parameters)


def variant(
    estimator: Any,
    data: Data,
    *,
    of: str = "",
    native: str = "",
    onnx: str = "",
    tflite: str = "",
    bound: float = 1e-9,
    what: str = "",
    since: str = "",
) -> Variant:
    """One entry. ``native``, ``onnx``, ``tflite``: why that engine cannot; ``what`` tells equal ones apart;
    ``since``: the scikit-learn that the variant needs, where an older one fails at it or is not determined to the bound.
    """
    shown = re.sub(r"\s+", " ", re.sub(r" at 0x[0-9a-f]+", "", repr(estimator)))  # of functions, their address
    name = f"{shown} on {data.__name__}{f', {what}' if what else ''}"
    skip = {"native": native, "onnx": onnx, "tflite": tflite}
    reasons = {engine: reason for engine, reason in skip.items() if reason}
    return Variant(name, of or type(estimator).__name__, estimator, data, reasons, bound, since)

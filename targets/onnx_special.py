"""ONNX lowerings of the special functions (edgeml/ir/ops_special.py).

onnxruntime has kernels of its own for the power, sine, cosine and rounding of doubles; for the others the formulas of
edgeml/ir/elementary_*.py are written out in the graph, through values that have operators.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeml.ir.elementary_gamma import bessel_constants, bessel_k_of, digamma_of, log_gamma_of
from edgeml.ir.elementary_special import (
    Vocabulary,
    erf_of,
    expm1_of,
    log1p_of,
    normal_quantile_of,
    sign_of,
)
from edgeml.ir.program import Node
from edgeml.targets.onnx_graph import Tensor, Writer, lowers
from edgeml.targets.onnx_terms import Cells
from edgeml.targets.terms import unary, where

_GRAPH = Vocabulary(
    where=where,
    nearest=unary("Round"),
    floor=unary("Floor"),
    exp=unary("Exp"),
    log=unary("Log"),
    sqrt=unary("Sqrt"),
    sin=unary("Sin"),
    cos=unary("Cos"),
)
_FORMULAS = {
    "Log1p": log1p_of(_GRAPH),
    "Expm1": expm1_of(_GRAPH),
    "Erf": erf_of(_GRAPH),
    "NormalQuantile": normal_quantile_of(_GRAPH),
    "Digamma": digamma_of(_GRAPH),
    "LogGamma": log_gamma_of(_GRAPH),
    # onnxruntime's Sign of NaN is 0.
    "Sign": sign_of(where),
}
_bessel_k = bessel_k_of(_GRAPH)


@lowers("Sin", "Cos", "Floor", "Round", "Pow")
def own(w: Writer, node: Node, *xs: Tensor) -> ir.Value:
    return _rounded(w, node, w.op(node.op, *(w.as_float64(x) for x in xs)))


@lowers(*_FORMULAS)
def formula(w: Writer, node: Node, x: Tensor) -> ir.Value:
    return _rounded(w, node, _FORMULAS[node.op](Cells(w, w.as_float64(x))).value)


@lowers("BesselK")
def bessel_k(w: Writer, node: Node, x: Tensor) -> ir.Value:
    result = _bessel_k(Cells(w, w.as_float64(x)), *bessel_constants(node.attrs["order"]))
    return _rounded(w, node, result.value)


@lowers("Convolve")
def convolve(w: Writer, node: Node, x: Tensor, y: Tensor) -> ir.Value:
    columns = np.arange(node.type.width)
    a, b = Cells(w, x.value), Cells(w, y.value)
    total = a * Cells(w, w.op("Gather", b.value, np.array([0]), axis=1))
    for j in columns[1:]:
        moved = Cells(w, w.op("Gather", a.value, np.roll(columns, j), axis=1))
        total = total + moved * Cells(w, w.op("Gather", b.value, np.array([j]), axis=1))
    return total.value


def _rounded(w: Writer, node: Node, value: ir.Value) -> ir.Value:
    """The float64 result in the dtype of the node."""
    return value if node.type.dtype == "float64" else w.cast(value, "float32")

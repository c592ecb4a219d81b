"""ONNX lowering of Fmod (edgeml/ir/ops_remainder.py): the standard's Mod as C's fmod, which onnxruntime has for
doubles."""

from __future__ import annotations

import onnx_ir as ir

from edgeml.ir.program import Node
from edgeml.targets.onnx_graph import Tensor, Writer, lowers


@lowers("Fmod")
def fmod(w: Writer, node: Node, x: Tensor, y: Tensor) -> ir.Value:
    return w.op("Mod", x.value, y.value, fmod=1)

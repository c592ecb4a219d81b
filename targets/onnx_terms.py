"""A value of an ONNX graph with Python's operators: what the lowerings of formulas and of metrics compute with."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from edgeml.targets.onnx_graph import Writer
from edgeml.targets.terms import Term


class Cells(Term):
    """A float64 or bool value; plain numbers beside it are float64."""

    def __init__(self, writer: Writer, value: ir.Value) -> None:
        self.writer, self.value = writer, value

    def op(self, name: str, *operands: Any) -> Cells:
        return Cells(self.writer, self.writer.op(name, *(_operand(x) for x in operands)))


def _operand(x: Any) -> Any:
    return x.value if isinstance(x, Cells) else np.float64(x)

"""Why nothing of a model would be left for TFLite: the error, in the words of the step that stands in the way.

In come a program and the values that must be computed in front, in float64 or on strings. Called by tflite_split.py.
"""

from __future__ import annotations

from collections.abc import Set

from edgeml.errors import FormatError
from edgeml.ir import Program
from edgeml.targets.tflite_kinds import WEIGHTS
from edgeml.targets.tflite_ml_ops import is_steep

_REMEDY = "leave out the format tflite"


def nothing_left(program: Program, pinned: Set[int]) -> FormatError:
    """The error for a program whose weights all stand in front."""
    nodes = list(enumerate(program.nodes, len(program.inputs)))
    for _, node in nodes:
        if node.op == "Interp" and is_steep(node):
            return FormatError(
                f"step {node.origin}: its isotonic calibration has steps too steep for the numbers of TFLite "
                "(float32), and all of the model stands in front of it",
                f"calibrate with method='sigmoid' or 'temperature', or {_REMEDY}",
            )
    origins = [node.origin for value, node in nodes if value in pinned and node.op in (*WEIGHTS, "Loop")]
    return FormatError(
        f"step {origins[-1] if origins else '?'}: what follows the model needs its answers in float64, and TFLite "
        "computes in float32",
        _REMEDY,
    )

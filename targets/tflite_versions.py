"""The version of a TFLite operator: how new a runtime must be to compute what a graph means.

A runtime refuses a version above the ones it knows, so a version that is too low makes an old one compute something
else in silence. The numbers are those of TensorFlow Lite's own table (lite/tools/versioning/op_version.cc), for the
operators and dtypes the writer uses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# Operator -> dtype of its first input -> version; version 1 where nothing is listed.
_BY_DTYPE: dict[str, dict[str, int]] = {
    "ABS": {"int32": 5, "int16": 3, "int8": 2},
    "ADD": {"int64": 4, "int16": 3, "int8": 2},
    "ARG_MAX": {"bool": 3, "int8": 2},
    "ARG_MIN": {"bool": 3, "int8": 2},
    "CONCATENATION": {"int16": 3, "int8": 2},
    "DEQUANTIZE": {"int16": 3, "float16": 3, "int8": 2},
    "EQUAL": {"int16": 4, "int8": 2},
    "EXP": {"int16": 2, "int8": 2},
    "GATHER": {"int16": 4, "bool": 3, "int8": 2},
    "GREATER": {"int8": 2},
    "GREATER_EQUAL": {"int16": 3, "int8": 2},
    "LESS": {"int16": 3, "int8": 2},
    "LESS_EQUAL": {"int8": 2},
    "LOG": {"int16": 2, "int8": 2},
    "LOGISTIC": {"int16": 3, "int8": 2},
    "LOG_SOFTMAX": {"int8": 2},
    "MAXIMUM": {"int16": 4, "int8": 2},
    "MINIMUM": {"int16": 4, "int8": 2},
    "MUL": {"int64": 5, "int16": 4, "int8": 2},
    "NOT_EQUAL": {"int8": 2},
    "REDUCE_MAX": {"int16": 3, "int8": 2},
    "REDUCE_MIN": {"int16": 3, "int8": 2},
    "RELU": {"int16": 3, "int8": 2, "uint8": 2},
    "SLICE": {"int16": 4, "int8": 2},
    "SOFTMAX": {"int16": 3, "int8": 2},
    "SQUARED_DIFFERENCE": {"int8": 2},
    "SUB": {"int16": 5, "int64": 4, "int8": 2},
    "SUM": {"int8": 2},
    "TANH": {"int16": 3, "int8": 2},
}


def version(op: str, inputs: Sequence[str], output: str, options: Mapping[str, Any], per_channel: bool = False) -> int:
    """Version of an operator by the dtypes of its inputs and its output.

    ``per_channel`` says that its weights, or the value it (de)quantises, have a scale for each channel.
    """
    if op == "FULLY_CONNECTED":
        return _fully_connected(inputs, output, per_channel)
    if op == "CAST":
        return 5 if "float16" in (inputs[0], output) else 3 if "int8" in (inputs[0], output) else 1
    if op == "GATHER" and options.get("batchDims"):
        return 5
    if op == "QUANTIZE":
        return 3 if per_channel else 2 if output == "int16" else 1
    if op == "DEQUANTIZE" and per_channel:
        return 5
    return _BY_DTYPE.get(op, {}).get(inputs[0], 1)


def _fully_connected(inputs: Sequence[str], output: str, per_channel: bool) -> int:
    x, weight = inputs[:2]
    if x == "int8" and per_channel:
        # TensorFlow's table says 4, which runtimes have that take the first channel's scale for all. The oldest one
        # that is known to answer rightly, tflite-runtime 2.14, has 10.
        return 10
    if x == "float32" and weight == "int8":
        # Runtimes before version 12 take the first channel's scale for all, and answer with garbage.
        return 12 if per_channel else 3
    if x == "int16" and weight == "int16":
        return 7
    if len(inputs) == 2:
        return 6
    return 4 if x == "int8" else 1

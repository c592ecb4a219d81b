"""Programs quantised by hand, for tests of the targets: every linear map in one of the quantised forms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgeml.ir import interpreter
from edgeml.ir.ops_quantised import largest_code
from edgeml.ir.program import Output, Program
from edgeml.passes.rewrite import rewrite

FORMS = ("static", "dynamic", "int8", "int16", "float16")


def linear_quantised(program: Program, columns, form: str, per_channel: bool = True) -> Program:
    """The program with weights of ``form``; static and dynamic have int8 weights, and grids in front of each layer.

    Grids are those of the least and largest number that each layer sees of ``columns``.
    """
    seen = iter(_layer_inputs(program, columns))

    def rule(node, graph):
        if node.op != "Linear":
            return None
        x, ends = node.inputs[0], next(seen)
        if form == "static":
            attrs = grid_of(*ends)
            x = graph.emit("FakeQuantize", (x,), attrs, node.origin)
        elif form == "dynamic":
            x = graph.emit("DynamicQuantize", (x,), {"bits": 8}, node.origin)
        weight = node.attrs["weight"].astype(np.float64)
        dtype = form if form in ("int16", "float16") else "int8"
        codes, scale = narrow(weight, dtype, per_channel)
        attrs = {"weight": codes, "scale": scale, "bias": node.attrs["bias"]}
        return graph.emit("QuantizedLinear", (x,), attrs, node.origin)

    return rewrite(program, rule)[0]


def narrow(weight, dtype: str, per_channel: bool = True):
    """Codes of a weight matrix and the scale of each output."""
    if dtype == "float16":
        return weight.astype(np.float16), np.ones(weight.shape[1])
    top = largest_code(np.dtype(dtype).itemsize * 8)
    size = np.abs(weight).max(axis=0 if per_channel else None, keepdims=True)
    scale = np.broadcast_to((np.where(size == 0, 1, size) / top).astype(np.float32), (1, weight.shape[1]))[0]
    return np.rint(weight / scale).clip(-top, top).astype(dtype), scale.astype(np.float64)


def grid_of(low: float, high: float, bits: int = 8):
    """Attributes of the grid from ``low`` to ``high``, zero among its steps."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = float(np.float32((high - low) / (2 * largest_code(bits) + 1))) or 1.0
    return {"scale": scale, "zero_point": int(np.rint(-low / scale)) - largest_code(bits) - 1, "bits": bits}


def _layer_inputs(program: Program, columns):
    """The least and largest number that each linear map is given."""
    layers = [n.inputs[0] for n in program.nodes if n.op == "Linear"]
    outputs = [Output(f"layer{i}", (v,), "matrix", "<f8") for i, v in enumerate(layers)]
    found = interpreter.run(program.with_outputs(outputs), columns) if outputs else {}
    return [(float(x.min()), float(x.max())) for x in found.values()]


def leaves_quantised(program: Program, dtype: str) -> Program:
    """Every ensemble with whole leaf values that ``dtype`` holds, or with those that float16 holds."""

    def rule(node, graph):
        if node.op != "TreeEnsemble":
            return None
        leaves = node.attrs["leaf_values"]
        if dtype == "float16":
            codes, scale = leaves.astype(np.float16).astype(np.float64), np.ones(leaves.shape[1])
        else:
            limits = np.iinfo(dtype)
            scale = np.abs(leaves).max(axis=0) / limits.max
            codes = np.rint(leaves / scale).clip(limits.min, limits.max)
        base = node.attrs["base"]
        attrs = {**node.attrs, "leaf_values": codes, "base": np.zeros_like(base)}
        value = graph.append(replace(node, attrs=attrs))
        for op, row in (("Mul", scale), ("Add", base)):
            constant = graph.emit("Constant", (), {"value": row}, node.origin)
            value = graph.emit(op, (value, constant), {}, node.origin)
        return value

    return rewrite(program, rule)[0]

"""What rounding alone does to the answers of a quantised program: the same rows, with grids that round the other way.

Kernels of two runtimes agree on an integer sum and not on which way its quotient rounds, and XNNPACK gives every row of
a dynamic layer a grid of its own making. Golden rows of a bundle must allow for both, on any device.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgeml.ir import Program, interpreter
from edgeml.ir.ops import OPS
from edgeml.ir.ops_quantised import largest_code
from edgeml.ir.table import Array, numpy_dtype


def perturbed(program: Program, columns: Mapping[str, Array], seed: int) -> dict[str, Array]:
    """Answers by method when what is rounded is moved first: by up to half a step, of a dynamic grid by up to one.

    ``columns`` are rows the program answers; a check in it refuses nothing here.
    """
    rng = np.random.default_rng(seed)
    rows = len(next(iter(columns.values())))
    values: list[Array] = []
    for entry in program.inputs:
        column = np.asarray(columns[entry.name], dtype=numpy_dtype(entry.type.dtype))
        values.append(column[:, None] if column.ndim == 1 else column)
    with np.errstate(all="ignore"):
        for node in program.nodes:
            inputs = [values[v] for v in node.inputs]
            if OPS[node.op].effect:
                values.append(inputs[0])
                continue
            if node.op == "FakeQuantize":
                off = rng.uniform(-0.5, 0.5, inputs[0].shape) * node.attrs["scale"]
                inputs = [(inputs[0] + off).astype(inputs[0].dtype)]
            elif node.op == "DynamicQuantize":
                step = np.abs(inputs[0]).max(axis=1, keepdims=True, initial=0.0) / largest_code(node.attrs["bits"])
                inputs = [(inputs[0] + rng.uniform(-1.0, 1.0, inputs[0].shape) * step).astype(inputs[0].dtype)]
            values.append(OPS[node.op].evaluate(*inputs, **node.attrs))
    return {
        name: interpreter.assemble([values[v] for v in output.values], output, rows)
        for name, output in program.outputs.items()
    }

"""The ways to quantise, and the forms each op may take in each of them, smallest first.

One table: an op that has weights enters here, with a function that says whether a node can take a form and one that
puts it in the program. Everything else (activations between layers, scalers, softmax, sigmoid, checks) stays in float.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgeml._version import __version__
from edgeml.errors import QuantizeError
from edgeml.ir import Node
from edgeml.ir.table import Array
from edgeml.quantize import linear, trees
from edgeml.quantize.linear import LinearForm
from edgeml.quantize.trace import Trace
from edgeml.quantize.trees import TreeForm

Form = LinearForm | TreeForm | None  # None: as it is

STATIC8 = LinearForm("int8 weights, int8 activations", "int8", "static")
DYNAMIC8 = LinearForm("int8 weights, int8 activations by row", "int8", "dynamic")
WEIGHTS8 = LinearForm("int8 weights, float activations", "int8")
STATIC16 = LinearForm("int8 weights, int16 activations", "int8", "static", 16)
WEIGHTS16 = LinearForm("int16 weights, float activations", "int16")
HALF = LinearForm("float16 weights, float activations", "float16")
LEAVES8 = TreeForm("int8 leaves", "int8")
LEAVES16 = TreeForm("int16 leaves", "int16")
LEAVES_HALF = TreeForm("float16 leaves", "float16")

# Mode -> op -> forms, smallest first; a later one is taken where the budget asks for it. "none" and "lossless" round
# nothing and are not here.
LADDERS: Mapping[str, Mapping[str, tuple[Form, ...]]] = {
    "float16": {"Linear": (HALF,), "TreeEnsemble": (LEAVES_HALF,)},
    "dynamic": {"Linear": (DYNAMIC8, WEIGHTS8, WEIGHTS16), "TreeEnsemble": (LEAVES8, LEAVES16, LEAVES_HALF)},
    "int8": {"Linear": (STATIC8, WEIGHTS8, WEIGHTS16), "TreeEnsemble": (LEAVES8, LEAVES16, LEAVES_HALF)},
    "int16": {"Linear": (STATIC16, WEIGHTS16), "TreeEnsemble": (LEAVES16,)},
    "auto": {"Linear": (STATIC8, WEIGHTS8, WEIGHTS16, None), "TreeEnsemble": (LEAVES8, LEAVES16, LEAVES_HALF, None)},
}
ROUNDING = tuple(LADDERS)
QUANTIZE = ("none", "lossless", *ROUNDING)


@dataclass(frozen=True, slots=True)
class Quantizer:
    """How one op is quantised: ``fits`` says why a node cannot take a form ('' when it can), ``apply`` puts it in."""

    fits: Callable[[Node, Any, Array], str]
    apply: Callable[[Trace, int, Any], int]
    parameters: tuple[str, ...]  # the attributes that become narrow


QUANTIZERS: Mapping[str, Quantizer] = {
    "Linear": Quantizer(linear.fits, linear.quantize_linear, ("weight",)),
    "TreeEnsemble": Quantizer(lambda node, form, x: trees.fits(node, form), trees.quantize_trees, ("leaf_values",)),
}


def check_quantize(quantize: str) -> None:
    """Raise QuantizeError for a value that is none of QUANTIZE."""
    if quantize not in QUANTIZE:
        raise QuantizeError(
            f"quantize={quantize!r} is not known to edgeml-sdk {__version__}", f"use one of: {', '.join(QUANTIZE)}"
        )


def ladder(mode: str, op: str, *, int8_activations: bool = True, per_channel_dynamic: bool = True) -> Sequence[Form]:
    """Forms of an op in a mode for a device, smallest first."""
    forms = []
    for form in LADDERS[mode].get(op, ()):
        if isinstance(form, LinearForm):
            if form.activations == "static" and not int8_activations:
                continue
            if form.activations == "dynamic" and not per_channel_dynamic:
                form = replace(form, per_tensor=True)
        forms.append(form)
    return forms


def narrow_bytes(node: Node, form: Form) -> tuple[int, int]:
    """Bytes of the parameters of a node as they are in float64, and in a form."""
    count = sum(int(np.size(node.attrs[name])) for name in QUANTIZERS[node.op].parameters)
    if form is None:
        return 8 * count, 8 * count
    dtype = form.weights if isinstance(form, LinearForm) else form.leaves
    return 8 * count, np.dtype(dtype).itemsize * count

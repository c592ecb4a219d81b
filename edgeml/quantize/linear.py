"""Linear maps with narrow weights: column equalisation, one scale an output, calibrated or dynamic activations.

In comes a Linear node whose operand is already in the quantised program, with its calibration values; out goes the
value of a QuantizedLinear that takes its place. How a column is equalised is chosen by the error of the layer's own
result on the calibration rows; the bias takes in the mean error that is left (Nagel et al., Data-Free Quantization,
2019, there from the statistics of batch norm, here measured).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeml.ir import Node
from edgeml.ir.ops_quantised import dynamic_quantize, fake_quantize, largest_code
from edgeml.ir.table import Array
from edgeml.quantize.trace import Trace

# The size of a column moves into its weights to this power (SmoothQuant, Xiao et al. 2023, calls it alpha); None: no
# equalisation. 0 makes all columns of weights alike, 1 all columns of activations.
ALPHAS: tuple[float | None, ...] = (None, 0.0, 0.25, 0.5, 0.75, 1.0)
# Rows that the choice is made on, and the share of the largest errors that it ignores: one odd row decides nothing.
_CHOICE_ROWS = 2000
_IGNORED = 0.01
# Fewer rows leave the range of a column to chance: the next row is beyond that of n rows with a chance of 2 / (n + 1).
STATIC_ROWS = 200
# A column counts as stuck where its one value is this large, in units of a usual column.
_STUCK = 0.5
# Three of 15 bits, for rows beyond the range of the calibration rows.
_HEADROOM16 = 8.0
# int32 accumulators hold a bias of this many units.
_BIAS_UNITS = 2.0**30
# A column that is nearly zero in all calibration rows may be large in another row.
_MULTIPLIERS = 2.0**-40, 2.0**40
# What float32 holds, less the room that two multipliers of a scale need: one in front of a layer, one behind it.
_SMALLEST, _LARGEST = 1e-20, 1e20
# A bias that is larger than all products by this leaves nothing of them on the grid it asks for.
_MOST_BIAS = 1e10
_SCALES = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class LinearForm:
    """``weights``: dtype of the weights. ``activations``: "static" (calibrated), "dynamic" (a scale a row) or "float".

    ``bits`` are those of static activations. ``per_tensor``: one scale for all outputs, where a runtime knows no other.
    """

    name: str
    weights: str
    activations: str = "float"
    bits: int = 8
    per_tensor: bool = False


@dataclass(frozen=True, slots=True)
class _Fit:
    """One way to quantise a layer: multipliers of the columns, codes, scales, and the error it leaves."""

    multiplier: Array
    codes: Array
    scale: Array
    grid: tuple[float, int] | None
    error: float


def fits(node: Node, form: LinearForm, x: Array) -> str:
    """Why a Linear cannot take the form; '' when it can."""
    size, bias = (float(np.abs(node.attrs[name]).max(initial=0.0)) for name in ("weight", "bias"))
    if not np.isfinite(size) or not np.isfinite(bias):
        return "its weights are not finite"
    if (size and not _SMALLEST < size < _LARGEST) or bias > _LARGEST:
        return "its weights are beyond the range of float32"
    if form.activations == "float":
        return ""
    most = float(np.abs(x).max(initial=0.0))
    if not np.isfinite(most):
        return "what it is given is not finite on the calibration rows"
    if most and not _SMALLEST < most < _LARGEST:
        return "what it is given is beyond the range of float32 on the calibration rows"
    if form.activations == "static" and (why := _unsettled(node, form, x)):
        return why
    if form.activations == "static" and size and most and bias > _MOST_BIAS * size * most:
        return "its bias is too large for a grid of its sums"
    return ""


def _unsettled(node: Node, form: LinearForm, x: Array) -> str:
    """Why the calibration rows do not tell the range of what a layer is given; '' when they do."""
    if len(x) < STATIC_ROWS:
        return f"{len(x)} calibration rows are too few for the range of activations"
    # A column that was constant in training is 0 behind its scaler, one that was nearly so (a pixel that is seldom lit)
    # near 0; one that is constant here alone is anything, and other rows leave its range.
    low, high = x.min(axis=0), x.max(axis=0)
    usual = np.sqrt(np.mean(np.square(x), axis=0))
    typical = float(np.median(usual[low < high])) if (low < high).any() else 0.0
    read = np.abs(node.attrs["weight"]).max(axis=1, initial=0.0) > 0
    stuck = read & (low == high) & (low != 1) & (np.abs(low) > _STUCK * typical)
    if stuck.any():
        return "a column that it reads is the same in every calibration row, but not in training"
    return ""


def quantize_linear(trace: Trace, index: int, form: LinearForm) -> int:
    """Put a QuantizedLinear in the place of node ``index``; its value in the new program."""
    node = trace.exact.program.nodes[index]
    target = trace.exact.values[len(trace.exact.program.inputs) + index]
    x = trace.place[node.inputs[0]]
    if form.weights == "float16":
        return _float16(trace, node, x)
    slot = _slot(trace, node.inputs[0], x, form)
    best = _best(trace.values[x], node, form, slot.free, target)
    x = slot.apply(best.multiplier)
    if form.activations == "dynamic":
        x = trace.emit("DynamicQuantize", (x,), {"bits": 8}, node.origin)
    elif best.grid is not None:
        scale, zero = best.grid
        x = trace.emit("FakeQuantize", (x,), {"scale": scale, "zero_point": zero, "bits": form.bits}, node.origin)
    dtype = node.attrs["weight"].dtype
    bias = node.attrs["bias"].astype(np.float64)
    attrs = {"weight": best.codes, "scale": best.scale.astype(dtype), "bias": bias.astype(dtype)}
    value = trace.emit("QuantizedLinear", (x,), attrs, node.origin)
    with np.errstate(all="ignore"):
        mended = bias + _middle(target.astype(np.float64) - trace.values[value])
        bias = np.where(np.abs(mended) <= _LARGEST, mended, bias)
    trace.change(value, attrs | {"bias": _bias(trace, x, bias, best.scale).astype(dtype)})
    return value


def _bias(trace: Trace, x: int, bias: Array, scale: Array) -> Array:
    """A bias as the formats store it: float32, or a whole number of the units that int8 operands are added up in."""
    grid = trace.graph.node_if(x, "FakeQuantize")
    if grid is None or grid.attrs["bits"] != 8:
        return bias.astype(np.float32)
    unit = grid.attrs["scale"] * scale
    return np.asarray(np.rint(bias / unit) * unit)


def _float16(trace: Trace, node: Node, x: int) -> int:
    codes, scale = half_codes(node.attrs["weight"].astype(np.float64))
    attrs = {"weight": codes, "scale": scale.astype(node.attrs["weight"].dtype), "bias": node.attrs["bias"]}
    return trace.emit("QuantizedLinear", (x,), attrs, node.origin)


# --- codes --------------------------------------------------------------------------------------------------------
def half_codes(weight: Array) -> tuple[Array, Array]:
    """float16 codes, and a power of two an output as scale, so that neither large nor small weights are lost."""
    size = np.abs(weight).max(axis=0, initial=0.0)
    scale = 2.0 ** np.clip(np.floor(np.log2(np.where(size > 0, size, 1.0))), -100, 100)
    return (weight / scale).astype(np.float16), scale


def whole_codes(
    weight: Array, dtype: str, *, per_tensor: bool = False, least: Array | float = 0.0
) -> tuple[Array, Array]:
    """Symmetric codes, and a scale an output, or one for all: numbers that float32 holds, none below ``least``."""
    top = np.iinfo(dtype).max
    size = np.abs(weight).max(axis=0, initial=0.0)
    if per_tensor:
        size = np.full_like(size, size.max(initial=0.0))
    scale = np.maximum(np.where(size > 0, size / top, 1.0), least)
    scale = np.array([_float32_up(s) for s in scale])
    return np.clip(np.rint(weight / scale), -top, top).astype(dtype), scale


def _float32_up(number: float) -> float:
    """The smallest number of float32 that is not below."""
    near = np.float32(number)
    return float(near if float(near) >= number else np.nextafter(near, np.float32(np.inf)))


# --- how well a layer can be done ---------------------------------------------------------------------------------
def _best(x: Array, node: Node, form: LinearForm, free: Array, target: Array) -> _Fit:
    step = max(1, len(x) // _CHOICE_ROWS)
    weight, bias = node.attrs["weight"].astype(np.float64), node.attrs["bias"].astype(np.float64)
    rows, wanted = x[::step].astype(np.float64), target[::step].astype(np.float64)
    size = np.abs(x).max(axis=0, initial=0.0).astype(np.float64)
    usual = size
    if form.activations == "float":
        with np.errstate(over="ignore"):
            usual = np.sqrt(np.mean(np.square(rows), axis=0))
    tried: list[_Fit] = []
    for alpha in ALPHAS:
        multiplier = _multiplier(weight, usual, size, alpha, free)
        if alpha is not None and (multiplier == 1).all():
            continue
        tried.append(_fit(rows, x, weight, bias, multiplier, form, wanted))
    return min(tried, key=lambda fit: fit.error)


def _multiplier(weight: Array, usual: Array, size: Array, alpha: float | None, free: Array) -> Array:
    """What each column is multiplied by, numbers that float32 holds; its weights are divided by it.

    With alpha 0 a single output's weights become all alike, and as exact as the multipliers: float16 would not do.
    """
    result = np.ones(len(weight))
    largest = np.abs(weight).max(axis=1, initial=0.0)
    chosen = free & (usual > _SMALLEST) & (usual < _LARGEST) & (largest > _SMALLEST)
    if alpha is None or not chosen.any():
        return result
    wanted = largest[chosen] ** (1 - alpha) / usual[chosen] ** alpha
    wanted /= np.exp(np.mean(np.log(wanted)))
    level = (largest[chosen] / wanted).max()
    if not free.all() and largest[~free].any():  # those keep 1: the largest weights of both groups shall be alike
        wanted *= level / largest[~free].max()
        level = largest[~free].max()
    result[chosen] = wanted
    # Columns that are zero in every calibration row: whatever their weights are, they shall not set the scale.
    unseen = free & (usual <= _SMALLEST) & (largest > 0)
    result[unseen] = largest[unseen] / level
    return np.clip(result, *_MULTIPLIERS).astype(np.float32).astype(np.float64)


def _fit(rows: Array, x: Array, weight: Array, bias: Array, multiplier: Array, form: LinearForm, wanted: Array) -> _Fit:
    grid, least = None, np.zeros(len(bias))
    if form.activations == "static":
        grid = _grid(x.min(axis=0) * multiplier, x.max(axis=0) * multiplier, form.bits)
        least = np.abs(bias) / (grid[0] * _BIAS_UNITS)
    codes, scale = whole_codes(weight / multiplier[:, None], form.weights, per_tensor=form.per_tensor, least=least)
    with np.errstate(all="ignore"):  # where activations stay in float they may be of any size
        moved = rows * multiplier
        if grid is not None:
            moved = fake_quantize(moved, *grid, form.bits)
        elif form.activations == "dynamic":
            moved = dynamic_quantize(moved, 8)
        off = wanted - ((moved @ codes.astype(np.float64)) * scale + bias)
        off -= _middle(off)
        squares = np.sort(np.nan_to_num(np.square(off).mean(axis=1), nan=np.inf, posinf=np.inf))
        kept = max(1, int(len(squares) * (1 - _IGNORED)))
        return _Fit(multiplier, codes, scale, grid, float(squares[:kept].mean()))


def _grid(low: Array, high: Array, bits: int) -> tuple[float, int]:
    """Scale and zero point of calibrated activations, from the least and largest cell of each column and zero."""
    top = largest_code(bits)
    least, most = min(0.0, float(low.min(initial=0.0))), max(0.0, float(high.max(initial=0.0)))
    if bits == 16:  # symmetric, as int16 activations are in every runtime
        size = _HEADROOM16 * max(-least, most)
        return _float32_up(size / top) if size > 0 else 1.0, 0
    scale = _float32_up((most - least) / (2 * top + 1)) if most > least else 1.0
    return scale, int(np.clip(np.rint(-top - 1 - least / scale), -top - 1, top))


def _middle(off: Array) -> Array:
    """Mean of each column without the outermost hundredths: what a bias can mend for the usual row."""
    if not len(off):
        return np.zeros(off.shape[1])
    low, high = np.quantile(off, [_IGNORED, 1 - _IGNORED], axis=0)
    result = np.clip(off, low, high).mean(axis=0)
    return np.where(np.isfinite(result), result, 0.0)


# --- where a column can be multiplied -----------------------------------------------------------------------------
class _Slot:
    """A place in front of a layer for multipliers of its columns. ``free`` marks the columns that may have one."""

    def __init__(self, trace: Trace, x: int, free: Array) -> None:
        self.trace, self.x, self.free = trace, x, free

    def apply(self, multiplier: Array) -> int:
        """The value with its columns multiplied."""
        return self.x if (multiplier == 1).all() else _multiply(self.trace, self.x, multiplier)


class _BehindRelu(_Slot):
    """Multipliers go into the layer before: relu(a * x) = a * relu(x) for a > 0, so they cost nothing."""

    def __init__(self, trace: Trace, x: int, before: int) -> None:
        super().__init__(trace, x, np.ones(trace.graph.type_of(x).width, dtype=bool))
        self.before = before

    def apply(self, multiplier: Array) -> int:
        if (multiplier == 1).all():
            return self.x
        node = self.trace.graph.node(self.before)
        assert node is not None
        dtype = node.attrs["scale"].dtype
        scale = np.clip(node.attrs["scale"] * multiplier, *_SCALES).astype(np.float32).astype(dtype)
        bias = _bias(self.trace, node.inputs[0], node.attrs["bias"] * multiplier, scale).astype(dtype)
        self.trace.change(self.before, {**node.attrs, "scale": scale, "bias": bias})
        self.trace.recompute(self.x)
        return self.x


class _Columns(_Slot):
    """The parts of a Concat one by one; a one-hot part is left alone, since it travels as one code."""

    def __init__(self, trace: Trace, x: int, parts: tuple[int, ...]) -> None:
        widths = [trace.graph.type_of(p).width for p in parts]
        free = [np.full(w, _is_number(trace, p)) for w, p in zip(widths, parts, strict=True)]
        super().__init__(trace, x, np.concatenate(free))
        self.parts, self.widths = parts, widths

    def apply(self, multiplier: Array) -> int:
        if (multiplier == 1).all():
            return self.x
        moved, first = [], 0
        for part, width in zip(self.parts, self.widths, strict=True):
            own = multiplier[first : first + width]
            moved.append(part if (own == 1).all() else _multiply(self.trace, part, own))
            first += width
        node = self.trace.graph.node(self.parts[0])
        return self.trace.emit("Concat", moved, {}, node.origin if node else "")


def _multiply(trace: Trace, value: int, multiplier: Array) -> int:
    node = trace.graph.node(value)
    origin = node.origin if node else ""
    row = trace.constant(multiplier, value, origin)
    return trace.emit("Mul", (value, row), {}, origin)


def _slot(trace: Trace, old: int, x: int, form: LinearForm) -> _Slot:
    graph, program = trace.graph, trace.exact.program
    if form.per_tensor:  # its weights share a scale: columns of one size are all there is to gain, or to lose
        return _Slot(trace, x, np.zeros(graph.type_of(x).width, dtype=bool))
    relu = graph.node_if(x, "Maximum")
    if relu is not None and trace.readers[old] == 1:
        zero = graph.constant(relu.inputs[1])
        layer = graph.node_if(relu.inputs[0], "QuantizedLinear")
        source = program.node_of(old)
        alone = source is not None and trace.readers[source.inputs[0]] == 1
        if zero is not None and not zero.any() and layer is not None and alone:
            return _BehindRelu(trace, x, relu.inputs[0])
    inner = x
    while (check := graph.node_if(inner, "CheckFinite", "Require")) is not None:
        inner = check.inputs[0]
    concat = graph.node_if(inner, "Concat")
    if concat is not None:
        return _Columns(trace, x, concat.inputs)
    return _Slot(trace, x, np.full(graph.type_of(x).width, _is_number(trace, inner)))


def _is_number(trace: Trace, value: int) -> bool:
    """Whether a value holds numbers of many sizes, rather than flags and one-hot columns."""
    graph = trace.graph
    node = graph.node(value)
    if node is not None and node.op in ("OneHot", "Take"):
        return False
    return not (node is not None and node.op == "Cast" and graph.type_of(node.inputs[0]).dtype == "bool")

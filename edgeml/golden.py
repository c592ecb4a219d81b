"""Golden rows: raw inputs and scikit-learn's own answers to them, kept in the bundle bit for bit.

The compiler writes them, plain and awkward rows and some that scikit-learn refuses; ``verify`` replays them
on the machine at hand. ``golden.json`` describes the arrays, ``golden.bin`` holds them
(``edgeml.bundle.arrays``). Strings and objects are stored as tagged bytes, so that None, NaN, every character
and every bit of a float come back.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeml.bundle.arrays import pack, unpack
from edgeml.errors import ArrayError, ManifestError, SampleError

if TYPE_CHECKING:
    from edgeml.bundle.read import Bundle

Array = npt.NDArray[Any]

JSON_MEMBER, BINARY_MEMBER = "golden.json", "golden.bin"

# Kinds of a cell of an object array.
_STRING, _NONE, _FLOAT, _INTEGER, _BOOLEAN = range(5)
_MAX_TEXT_WIDTH = 10_000  # characters of a fixed-width string array, the longest label a manifest allows


@dataclass(frozen=True)
class Golden:
    """``columns`` hold all rows as a program reads them; ``refused`` marks those scikit-learn refuses.

    ``outputs[method]`` holds the answers to the rows that are not refused, in their order.
    """

    rows: int
    columns: dict[str, Array]
    outputs: dict[str, Array]
    refused: Array

    def take(self, rows: Array) -> dict[str, Array]:
        """The columns of some rows, by position or mask."""
        return {name: column[rows] for name, column in self.columns.items()}


def write_golden(
    columns: Mapping[str, Array], outputs: Mapping[str, Array], refused: Array
) -> tuple[dict[str, Any], bytes]:
    """``golden.json`` as a dict and the bytes of ``golden.bin``.

    Args:
        columns: raw columns, each (rows,), or a matrix (rows, columns), as ``read_rows`` gives them.
        outputs: for each method scikit-learn's answers to the rows not refused, (answered,) or (answered, k).
        refused: bool (rows,): rows scikit-learn refuses.

    Raises SampleError for a cell that is neither str, None, float, int nor bool, and for lengths that differ.
    """
    refused = np.asarray(refused, dtype=bool)
    rows, answered = len(refused), int((~refused).sum())
    arrays: list[Array] = []

    def entries(values: Mapping[str, Array], length: int, what: str) -> list[dict[str, Any]]:
        result = []
        for name, value in values.items():
            if len(value) != length:
                raise SampleError(f"golden rows: {what} {name!r} has {len(value)} rows, not {length}")
            result.append({"name": name, **_encode(value, arrays, f"{what} {name!r}")})
        return result

    description = {
        "rows": rows,
        "columns": entries(columns, rows, "column"),
        "outputs": entries(outputs, answered, "method"),
        "refused": _encode(refused, arrays, "refused"),
    }
    index, blob = pack(arrays)
    return {**description, "arrays": index}, blob


def read_golden(bundle: Bundle) -> Golden:
    """The golden rows of a bundle. Raises ManifestError or ArrayError when they are malformed."""
    data = bundle.json(JSON_MEMBER)
    if not isinstance(data, Mapping) or not {"rows", "columns", "outputs", "refused", "arrays"} <= set(data):
        raise ManifestError(f"{JSON_MEMBER} must have rows, columns, outputs, refused and arrays")
    arrays = unpack(data["arrays"], bundle.member(BINARY_MEMBER))
    rows = data["rows"]
    if type(rows) is not int or rows < 0:
        raise ManifestError(f"{JSON_MEMBER}: rows must be a count")
    refused = _decode(data["refused"], arrays, "refused")
    if refused.dtype != bool or refused.shape != (rows,):
        raise ManifestError(f"{JSON_MEMBER}: refused must be {rows} booleans")
    columns = _named(data["columns"], arrays, rows, "column")
    outputs = _named(data["outputs"], arrays, int((~refused).sum()), "method")
    return Golden(rows, columns, outputs, refused)


def _named(entries: Any, arrays: Sequence[Array], length: int, what: str) -> dict[str, Array]:
    if not isinstance(entries, list):
        raise ManifestError(f"{JSON_MEMBER}: {what}s must be a list")
    result: dict[str, Array] = {}
    for entry in entries:
        name = entry.get("name") if isinstance(entry, Mapping) else None
        if not isinstance(name, str) or name in result:
            raise ManifestError(f"{JSON_MEMBER}: a {what} without a name, or with the name of another")
        array = _decode(entry, arrays, f"{what} {name!r}")
        if array.ndim not in (1, 2) or array.shape[0] != length:
            raise ManifestError(f"{JSON_MEMBER}: {what} {name!r} has shape {array.shape}, {length} rows are due")
        result[name] = array
    return result


# --- one array ----------------------------------------------------------------------------------------------
def _encode(array: Array, arrays: list[Array], what: str) -> dict[str, Any]:
    """Append an array's parts to ``arrays``; return dtype, shape and which parts are its own."""
    array = np.asarray(array)
    first = len(arrays)
    if array.dtype.kind in "OU":
        arrays.extend(_encode_cells(array.ravel().tolist(), what))
    else:
        arrays.append(np.ascontiguousarray(array))
    dtype = "object" if array.dtype == object else array.dtype.newbyteorder("<").str
    return {"dtype": dtype, "shape": list(array.shape), "parts": list(range(first, len(arrays)))}


def _encode_cells(cells: Sequence[Any], what: str) -> tuple[Array, Array, Array]:
    kinds, ends, data = bytearray(), [], bytearray()
    for cell in cells:
        if isinstance(cell, str):
            kind, payload = _STRING, cell.encode("utf-8", "surrogatepass")
        elif cell is None:
            kind, payload = _NONE, b""
        elif isinstance(cell, (bool, np.bool_)):
            kind, payload = _BOOLEAN, bytes([bool(cell)])
        elif isinstance(cell, (float, np.floating)):
            kind, payload = _FLOAT, struct.pack("<d", cell)
        elif isinstance(cell, (int, np.integer)):
            kind, payload = _INTEGER, str(int(cell)).encode()
        else:
            raise SampleError(
                f"golden rows: {what} holds {cell!r:.80}, a {type(cell).__name__}",
                "impute or encode the column before it reaches the output, or leave it out of the pipeline",
            )
        kinds.append(kind)
        data += payload
        ends.append(len(data))
    return (
        np.frombuffer(bytes(kinds), dtype=np.uint8),
        np.array(ends, dtype=np.int64),
        np.frombuffer(bytes(data), dtype=np.uint8),
    )


def _decode(entry: Any, arrays: Sequence[Array], what: str) -> Array:
    where = f"{JSON_MEMBER}: {what}"
    try:
        dtype, shape = np.dtype(entry["dtype"]), tuple(entry["shape"])
        parts = [arrays[_place(i, len(arrays))] for i in entry["parts"]]
    except (KeyError, TypeError, ValueError, IndexError):
        raise ManifestError(f"{where} needs dtype, shape and parts") from None
    if not all(type(n) is int and n >= 0 for n in shape) or len(shape) not in (1, 2):
        raise ManifestError(f"{where}: the shape {shape} is not one of rows and columns")
    if dtype.kind not in "OU":
        if len(parts) != 1 or parts[0].dtype != dtype or parts[0].shape != shape:
            raise ArrayError(f"{where}: the array is not {dtype} of shape {shape}")
        return parts[0]
    if dtype.kind == "U" and dtype.itemsize > 4 * _MAX_TEXT_WIDTH:
        raise ArrayError(f"{where}: strings of {dtype.itemsize // 4} characters")
    if len(parts) != 3:
        raise ManifestError(f"{where}: strings need three parts")
    cells = _decode_cells(*parts, where=where)
    if len(cells) != prod(shape):
        raise ArrayError(f"{where}: {len(cells)} cells do not make the shape {shape}")
    if dtype.kind == "U":
        if not all(isinstance(c, str) for c in cells):
            raise ArrayError(f"{where}: a cell of {dtype} is not a string")
        return np.array(cells, dtype=dtype).reshape(shape)
    return np.fromiter(cells, dtype=object, count=len(cells)).reshape(shape)


def _place(index: Any, count: int) -> int:
    if type(index) is not int or not 0 <= index < count:
        raise IndexError(index)
    return index


def _decode_cells(kinds: Array, ends: Array, data: Array, *, where: str) -> list[Any]:
    typed = kinds.dtype == np.uint8 and ends.dtype == np.int64 and data.dtype == np.uint8
    if not typed or kinds.ndim != 1 or kinds.shape != ends.shape or data.ndim != 1:
        raise ArrayError(f"{where}: the three parts of strings are uint8, int64 and uint8")
    bounds = [0, *ends.tolist()]
    if bounds != sorted(bounds) or bounds[-1] != len(data):
        raise ArrayError(f"{where}: the ends of the cells do not follow one another to the end")
    text = data.tobytes()
    cells: list[Any] = []
    for kind, start, end in zip(kinds.tolist(), bounds, bounds[1:], strict=False):
        payload = text[start:end]
        try:
            cells.append(_decode_cell(kind, payload))
        except (ValueError, struct.error):
            raise ArrayError(f"{where}: cell {len(cells)} is malformed") from None
    return cells


def _decode_cell(kind: int, payload: bytes) -> Any:
    if kind == _STRING:
        return payload.decode("utf-8", "surrogatepass")
    if kind == _FLOAT:
        return struct.unpack("<d", payload)[0]
    if kind == _INTEGER and len(payload) <= 400:  # int() of a long text takes quadratic time
        return int(payload)
    if kind == _BOOLEAN and payload in (b"\0", b"\1"):
        return payload == b"\1"
    if kind == _NONE and not payload:
        return None
    raise ValueError(kind)

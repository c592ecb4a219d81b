"""Arrays in fewer bytes, without losing a bit: what ships to a device should be small.

``shrink`` stores numbers in the narrowest dtype that holds them, whole floats as integers, few different numbers as a
palette, and what repeats or counts not at all. Trees in preorder (preorder.py) store which nodes are leaves in place of
children and roots, and what inner nodes and leaves hold apart. ``restore`` undoes it and trusts nothing.
targets/native.py writes so, runtimes/native.py reads; bundle/FORMAT.md lists the recipes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from edgeml.errors import ArrayError
from edgeml.ir.preorder import Shape, shape_of
from edgeml.ir.serial import ARRAY_DTYPES
from edgeml.ir.table import Array

# What is not stored may take this much memory, and besides this many bytes for each byte that is stored.
SPARE_BYTES = 2**24
BYTES_PER_BYTE = 64
# Fewer elements than this are stored as they are: a longer recipe would take what it saves.
_FEW = 16
_LONGEST_NUMBER = 8
_PROBE = 4096
_NARROW = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "float16", "float32")
_UNSIGNED = {1: "uint8", 2: "uint16", 4: "uint32", 8: "uint64"}
Recipe = list[Any] | dict[str, Any]


# --- writing ------------------------------------------------------------------------------------------------
def shrink(arrays: Sequence[Array], trees: Mapping[int, tuple[str, int]]) -> tuple[list[Recipe], list[Array]]:
    """JSON-ready recipes, one an array, and what to store: all elements of a dtype as one array.

    ``trees`` has the arrays of ensembles in preorder: position -> (part, position of the ensemble's features). The part
    is "feature" (-1 in leaves), "roots", "left", "right" (0 in leaves), or "node" for one more number a node.
    """
    pools = _Pools()
    recipes: list[Recipe] = []
    for position, array in enumerate(arrays):
        if position not in trees or (trees[position][0] == "node" and _is_repeated(array)):
            recipes.append(pools.add(array))
        else:
            part, by = trees[position]
            recipes.append(_add_tree(pools, part, by, array, arrays[by] < 0))
    return recipes, pools.arrays()


def _add_tree(pools: _Pools, part: str, by: int, array: Array, leaf: Array) -> Recipe:
    """Put an array of an ensemble in, given which nodes are leaves; its recipe."""
    if part in ("roots", "right"):
        return {"by": by, "is": part}
    if part == "left":
        return {"by": by, "is": part, "leaf": pools.add(array[leaf])}
    if part == "feature":
        return {"inner": pools.add(array[~leaf]), "leaf": pools.add(leaf)}
    return {"by": by, "inner": pools.add(array[~leaf]), "leaf": pools.add(array[leaf])}


def stored_bytes(array: Array) -> int:
    """Bytes that ``shrink`` stores for an array by itself."""
    pools = _Pools()
    pools.add(array)
    return sum(pool.nbytes for pool in pools.arrays())


class _Pools:
    """What is to be stored, by dtype."""

    def __init__(self) -> None:
        self._parts: dict[str, list[Array]] = {}

    def add(self, array: Array) -> list[Any]:
        """Put an array in; its recipe."""
        array = np.ascontiguousarray(array)
        flat, head = array.reshape(-1), [array.dtype.name, list(array.shape)]
        if _is_repeated(flat) and (number := _number(flat)) is not None:
            return [*head, "repeat", number]
        if array.ndim == 1 and array.dtype.kind in "iu" and array.dtype != np.uint64 and array.size > 1:
            distance = array.astype(np.int64) - np.arange(array.size)
            if _is_repeated(distance):
                return [*head, "count", int(distance[0])]
        if array.size > _FEW and (array.dtype.kind == "b" or (array.dtype.kind in "iu" and not (flat >> 1).any())):
            self._put(np.packbits(flat.astype(bool)))
            return [*head, "bits"]
        short = _shortest(flat)
        palette, index = _palette(short)
        if palette.nbytes + index.nbytes + _FEW < short.nbytes:
            self._put(palette)
            self._put(index)
            return [*head, "palette", palette.dtype.name, len(palette), index.dtype.name]
        self._put(short)
        return head if short.dtype == array.dtype else [*head, short.dtype.name]

    def arrays(self) -> list[Array]:
        """One array a dtype."""
        return [np.concatenate(self._parts[name]) for name in ARRAY_DTYPES if name in self._parts]

    def _put(self, flat: Array) -> None:
        if flat.size:
            self._parts.setdefault(flat.dtype.name, []).append(flat)


def _is_repeated(array: Array) -> bool:
    bits = _bits(array.reshape(-1))
    return bits.size > 0 and bits[0] == bits[-1] and bool((bits == bits[0]).all())


def _bits(flat: Array) -> Array:
    """The elements as integers: two NaNs may differ, and minus zero is not zero."""
    return np.ascontiguousarray(flat).view(_UNSIGNED[flat.dtype.itemsize])


def _number(flat: Array) -> Any:
    """The element that is repeated, as JSON; None where JSON has none, or where storing it is shorter."""
    number = flat[0].item()
    stored = flat.size == 1 and len(repr(number)) > _LONGEST_NUMBER
    return None if stored or not math.isfinite(number) else number


def _shortest(flat: Array) -> Array:
    """The elements in the narrowest dtype that gives every bit back."""
    narrower = [
        dtype
        for dtype in map(np.dtype, _NARROW)
        if dtype.itemsize < flat.dtype.itemsize and np.can_cast(dtype, flat.dtype, "safe")
    ]
    with np.errstate(all="ignore"):
        for dtype in narrower:
            for part in (flat[:_PROBE], flat):  # the first elements tell of most dtypes that they are too narrow
                short = part.astype(dtype)
                if not np.array_equal(_bits(short.astype(flat.dtype)), _bits(part)):
                    break
            else:
                return short
    return flat


def _palette(flat: Array) -> tuple[Array, Array]:
    """(different elements, which of them each element is); NaNs of different bits are different."""
    bits, index = np.unique(_bits(flat), return_inverse=True)
    return bits.view(flat.dtype), index.reshape(-1).astype(np.min_scalar_type(max(len(bits) - 1, 0)))


# --- reading ------------------------------------------------------------------------------------------------
def restore(recipes: Any, stored: Sequence[Array]) -> list[Array]:
    """The arrays as they were, read-only where they are views. Raises ArrayError for recipes that make no sense."""
    if not isinstance(recipes, list):
        raise ArrayError("the recipes of arrays must be a list")
    result: list[Array] = [np.empty(0)] * len(recipes)
    parts: dict[int, dict[str, Array]] = {}
    leaves: dict[int, Array] = {}
    shapes: dict[int, Shape] = {}
    position = 0
    try:
        reader = _Reader(stored)
        for position, recipe in enumerate(recipes):
            if isinstance(recipe, list):
                result[position] = reader.read(recipe)
                continue
            parts[position] = {key: reader.read(recipe[key]) for key in ("inner", "leaf") if key in recipe}
            if recipe.keys() == {"inner", "leaf"}:
                leaves[position] = parts[position].pop("leaf")
                result[position] = _feature(parts[position]["inner"], leaves[position], reader)
        reader.end()
        for position in parts.keys() - leaves.keys():
            by = recipes[position]["by"]
            if by not in shapes:
                reader.spend(8 * len(leaves[by]))
                shapes[by] = shape_of(leaves[by])
            result[position] = _of_tree(recipes[position], parts[position], leaves[by], shapes[by], reader)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ArrayError(f"array {position}: a recipe that makes no sense: {type(error).__name__}: {error}") from None
    return result


class _Reader:
    """What is stored, from its beginning to its end, and how much memory may be taken for it."""

    def __init__(self, stored: Sequence[Array]) -> None:
        self._pools = {array.dtype.name: array for array in stored}
        if len(self._pools) < len(stored) or any(array.ndim != 1 for array in stored):
            raise ValueError("stored are two arrays of one dtype, or one of several axes")
        self._at = dict.fromkeys(self._pools, 0)
        self._budget = SPARE_BYTES + BYTES_PER_BYTE * sum(array.nbytes for array in stored)

    def read(self, recipe: Any) -> Array:
        """The next array, by its recipe."""
        dtype, shape, how, *more = recipe if len(recipe) > 2 else [*recipe, recipe[0]]
        if dtype not in ARRAY_DTYPES or not isinstance(shape, list) or any(type(n) is not int or n < 0 for n in shape):
            raise ValueError(f"an array {dtype!s:.40}{shape!s:.40}")
        size = prod(shape)
        self.spend(size * np.dtype(dtype).itemsize)
        return self._flat(np.dtype(dtype), size, how, more).reshape(shape)

    def _flat(self, dtype: np.dtype[Any], size: int, how: Any, more: list[Any]) -> Array:
        if how in ARRAY_DTYPES and not more:
            return self._widened(self._take(how, size), dtype)
        if how == "bits" and not more and dtype.kind in "biu":
            packed = self._take("uint8", -(-size // 8))
            if size % 8 and packed[-1] & (0xFF >> size % 8):
                raise ValueError("bits behind the last one")
            return np.unpackbits(packed, count=size).astype(dtype)
        if how == "palette":
            name, count, index_name = more
            colours, index = self._take(name, count), self._take(index_name, size)
            if index.dtype.kind != "u":
                raise ValueError(f"a palette by {index.dtype}")
            return self._widened(colours, dtype)[index]
        (number,) = more
        first = np.array([number], dtype=dtype)
        if type(number) not in (bool, int, float) or first.tolist() != [number]:
            raise ValueError(f"{number!s:.40} as {dtype}")
        if how == "repeat":
            return np.repeat(first, size)
        if how == "count" and dtype.kind in "iu" and dtype != np.uint64:
            self.spend(size * 8)
            return (first.astype(np.int64) + np.arange(size)).astype(dtype)
        raise ValueError(f"{how!s:.40} of {dtype}")

    def _take(self, name: Any, size: int) -> Array:
        """The next elements of a dtype."""
        if type(size) is not int or size < 0:
            raise ValueError(f"{size!r} elements")
        if size == 0:
            return np.empty(0, dtype=_known(name))
        start = self._at[name]
        if start + size > len(self._pools[name]):
            raise ValueError(f"{size} elements of {name}, {len(self._pools[name]) - start} are left")
        self._at[name] += size
        return self._pools[name][start : start + size]

    @staticmethod
    def _widened(array: Array, dtype: np.dtype[Any]) -> Array:
        if not np.can_cast(array.dtype, dtype, "safe"):
            raise ValueError(f"{array.dtype} as {dtype}")
        return array.astype(dtype, copy=False)

    def spend(self, count: int) -> None:
        """Refuse what is out of proportion to what is stored."""
        self._budget -= count
        if self._budget < 0:
            raise ValueError(f"{count} bytes are out of proportion to what is stored")

    def end(self) -> None:
        """Refuse elements that no recipe has read."""
        if any(at != len(self._pools[name]) for name, at in self._at.items()):
            raise ValueError("there are elements that belong to no array")


def _known(name: Any) -> str:
    if name not in ARRAY_DTYPES:
        raise ValueError(f"dtype {name!s:.40}")
    return str(name)


def _feature(inner: Array, leaf: Array, reader: _Reader) -> Array:
    """The features of an ensemble, which columns its splits compare."""
    if leaf.dtype != bool or leaf.ndim != 1:
        raise ValueError("which nodes are leaves is not told by booleans")
    blank = np.array([-1]).astype(inner.dtype)
    return _joined(leaf, inner, np.repeat(blank, np.count_nonzero(leaf)), reader)


def _of_tree(recipe: Recipe, parts: dict[str, Array], leaf: Array, shape: Shape, reader: _Reader) -> Array:
    """An array of an ensemble by its recipe, given which nodes are leaves."""
    assert isinstance(recipe, dict)
    what, keys = recipe.get("is"), recipe.keys() - {"by", "is"}
    if what in ("roots", "right") and not keys:
        found: Array = shape.roots if what == "roots" else shape.right
        return found
    if what == "left" and keys == {"leaf"}:
        return _joined(leaf, shape.left[~leaf], parts["leaf"], reader)
    if "is" not in recipe and keys == {"inner", "leaf"}:
        return _joined(leaf, parts["inner"], parts["leaf"], reader)
    raise ValueError(f"{sorted(recipe)} of a tree")


def _joined(leaf: Array, inner: Array, ends: Array, reader: _Reader) -> Array:
    """The elements of inner nodes and of leaves, each where it belongs."""
    count = int(np.count_nonzero(leaf))
    if inner.dtype != ends.dtype or inner.shape != (len(leaf) - count,) or ends.shape != (count,):
        raise ValueError(f"{inner.dtype}{inner.shape} and {ends.dtype}{ends.shape} for {len(leaf)} nodes")
    reader.spend(len(leaf) * inner.dtype.itemsize)
    array = np.empty(len(leaf), dtype=inner.dtype)
    array[~leaf], array[leaf] = inner, ends
    return array

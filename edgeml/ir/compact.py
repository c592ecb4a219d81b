"""Arrays in fewer bytes, without losing a bit: what ships to a device should be small.

``shrink`` stores integers, whole floats too, in the narrowest dtype that holds them, or as distances from their
position (a left child is mostly the next node), float64 that float32 holds as float32, and one repeated element as
that element. The arrays of trees are split first, inner nodes and leaves apart, since each of the two repeats itself
where both together do not. ``restore`` undoes it and trusts nothing. targets/native.py writes so, runtimes/native.py
reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from edgeml.errors import ArrayError
from edgeml.ir.serial import ARRAY_DTYPES
from edgeml.ir.table import Array

# Repeated elements may take this much memory, and besides this many bytes for each byte that is stored.
SPARE_BYTES = 2**24
BYTES_PER_BYTE = 64
_NARROW = ("int8", "uint8", "int16", "uint16", "int32", "uint32")
Recipe = dict[str, Any]


def shrink(arrays: Sequence[Array], split_by: Mapping[int, int]) -> tuple[list[Recipe], list[Array]]:
    """JSON-ready recipes, one an array, and the arrays to store.

    ``split_by`` maps the position of an array to that of another of the same length: its elements where that one is
    negative are stored apart from the others.
    """
    stored: list[Array] = []
    recipes: list[Recipe] = []
    for position, array in enumerate(arrays):
        by = split_by.get(position)
        if by is None:
            recipes.append(_shrink(np.ascontiguousarray(array), stored))
            continue
        negative = arrays[by] < 0
        parts = [_shrink(array[~negative], stored), _shrink(array[negative], stored)]
        recipes.append({"how": "split", "dtype": array.dtype.name, "by": by, "parts": parts})
    return recipes, stored


def _shrink(array: Array, stored: list[Array]) -> Recipe:
    recipe: Recipe = {"how": "same", "dtype": array.dtype.name, "at": len(stored)}
    if _is_repeated(array):
        stored.append(array.reshape(-1)[:1])
        return {**recipe, "how": "repeat", "shape": list(array.shape)}
    if array.dtype.kind in "iu" and array.size:
        short = array.astype(_narrowest(array))
        if array.ndim == 1 and array.dtype != np.uint64:
            distance = array.astype(np.int64) - np.arange(array.size)
            if _is_repeated(distance):
                stored.append(distance[:1])
                return {**recipe, "how": "count", "shape": [array.size]}
            if _narrowest(distance).itemsize < short.itemsize:
                short, recipe["how"] = distance.astype(_narrowest(distance)), "distance"
        stored.append(short)
    elif array.dtype in (np.float64, np.float32):
        stored.append(_shortest_float(array))
    else:
        stored.append(array)
    return recipe


def _shortest_float(array: Array) -> Array:
    """Whole numbers as integers (ranks of thresholds are), float64 that float32 holds as float32."""
    with np.errstate(all="ignore"):
        for dtype in (*_NARROW, "float32"):
            short = array.astype(dtype)
            fits = np.can_cast(dtype, array.dtype, "safe") and short.dtype.itemsize < array.dtype.itemsize
            if fits and short.astype(array.dtype).tobytes() == array.tobytes():
                return short
    return array


def _is_repeated(array: Array) -> bool:
    flat = array.reshape(-1)
    return flat.size > 1 and flat.tobytes() == flat[:1].tobytes() * flat.size


def _narrowest(array: Array) -> np.dtype[Any]:
    low, high = int(array.min()), int(array.max())
    for name in _NARROW:
        limits = np.iinfo(name)
        fits = limits.min <= low and high <= limits.max and limits.dtype.itemsize < array.dtype.itemsize
        if fits and np.can_cast(limits.dtype, array.dtype):  # an unsigned array is read back from an unsigned one
            return np.dtype(name)
    return array.dtype


def restore(recipes: Any, stored: Sequence[Array]) -> list[Array]:
    """The arrays as they were, read-only where they are views. Raises ArrayError for recipes that make no sense."""
    budget = SPARE_BYTES + BYTES_PER_BYTE * sum(a.nbytes for a in stored)
    result: dict[int, Array] = {}
    if not isinstance(recipes, list):
        raise ArrayError("the recipes of arrays must be a list")
    splits = [isinstance(recipe, Mapping) and recipe.get("how") == "split" for recipe in recipes]
    try:
        for position in sorted(range(len(recipes)), key=splits.__getitem__):
            recipe = recipes[position]
            if splits[position]:
                array = _join(recipe, result[recipe["by"]], stored, budget)
            else:
                array = _restore(recipe, stored, budget)
            budget -= array.nbytes
            result[position] = array
    except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        raise ArrayError(f"array {position}: a recipe that makes no sense: {type(error).__name__}: {error}") from None
    return [result[position] for position in range(len(recipes))]


def _join(recipe: Recipe, by: Array, stored: Sequence[Array], budget: int) -> Array:
    """The elements where ``by`` is negative put among the others."""
    others, negatives = (_restore(part, stored, budget) for part in recipe["parts"])
    negative = by < 0
    array = np.empty(by.shape, dtype=_dtype(recipe))
    if array.ndim != 1 or (others.ndim, negatives.ndim) != (1, 1) or {others.dtype, negatives.dtype} != {array.dtype}:
        raise ValueError("the parts of a split array are of another kind")
    array[~negative], array[negative] = _exactly(others, ~negative), _exactly(negatives, negative)
    return array


def _exactly(part: Array, places: Array) -> Array:
    if part.size != np.count_nonzero(places):
        raise ValueError(f"{part.size} elements for {np.count_nonzero(places)} places")
    return part


def _restore(recipe: Recipe, stored: Sequence[Array], budget: int) -> Array:
    how, dtype, at = recipe["how"], _dtype(recipe), recipe["at"]
    if type(at) is not int or at < 0:
        raise ValueError(f"there is no stored array {at}")
    array = stored[at]
    if how == "same" and np.can_cast(array.dtype, dtype, "safe"):
        return array.astype(dtype, copy=False)
    counts = array.ndim == 1 and array.dtype.kind in "iu" and array.dtype != np.uint64 and dtype.kind in "iu"
    if how == "distance" and counts:
        return (array.astype(np.int64) + np.arange(array.size)).astype(dtype)
    shape = tuple(recipe["shape"])
    if array.size != 1 or not all(type(n) is int and n > 0 for n in shape):
        raise ValueError(f"{how} of {array.size} elements to {shape}")
    if prod(shape) * max(dtype.itemsize, 8) > budget:
        raise ValueError(f"{shape} is out of proportion to what is stored")
    if how == "repeat" and np.can_cast(array.dtype, dtype, "safe"):
        return np.ascontiguousarray(np.broadcast_to(array.reshape(-1).astype(dtype), shape))
    if how == "count" and counts and len(shape) == 1:
        return (array.astype(np.int64) + np.arange(shape[0])).astype(dtype)
    raise ValueError(f"{how} of {array.dtype} to {dtype}")


def _dtype(recipe: Recipe) -> np.dtype[Any]:
    if recipe["dtype"] not in ARRAY_DTYPES:
        raise ValueError(f"dtype {recipe['dtype']!r:.40}")
    return np.dtype(recipe["dtype"])

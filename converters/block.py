"""A Block is what an estimator receives as ``X`` while a pipeline is being converted: columns that may differ in dtype.

scikit-learn turns a frame into one array inside each estimator; a Block keeps the columns apart until an estimator asks
for a matrix, so that strings, integers and floats travel side by side, and then applies check_array's dtype rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeml.errors import UnsupportedParameterError
from edgeml.ir import Builder, Value

if TYPE_CHECKING:
    from edgeml.converters.registry import Conversion


class Block:
    """Columns side by side, as a tuple of values of any width. ``names`` are the column names where there are any."""

    __slots__ = ("names", "values")

    def __init__(self, *values: Value, names: Sequence[str] | None = None) -> None:
        self.values = tuple(v for v in values if v.width)
        self.names = tuple(names) if names is not None else None

    @property
    def width(self) -> int:
        return sum(v.width for v in self.values)

    def column(self, index: int) -> Value:
        """One column as a value of width 1."""
        if not 0 <= index < self.width:
            raise IndexError(index)
        for value in self.values:
            if index < value.width:
                return value.select([index])
            index -= value.width
        raise AssertionError

    def columns(self, indices: Sequence[int]) -> Block:
        """Some columns, in the order given. Neighbours of one value stay one value."""
        parts: list[Value] = []
        starts = np.cumsum([0, *(v.width for v in self.values)])
        runs: list[tuple[int, list[int]]] = []
        for index in indices:
            owner = int(np.searchsorted(starts, index, side="right")) - 1
            if runs and runs[-1][0] == owner:
                runs[-1][1].append(int(index - starts[owner]))
            else:
                runs.append((owner, [int(index - starts[owner])]))
        parts = [self.values[owner].select(positions) for owner, positions in runs]
        names = None if self.names is None else [self.names[i] for i in indices]
        return Block(*parts, names=names)

    @property
    def dtype(self) -> str:
        """dtype of the array scikit-learn would make of the columns: "string" stands for object."""
        dtypes = {v.dtype for v in self.values}
        if "string" in dtypes:
            return "string"
        return np.result_type(*(np.dtype(d) for d in dtypes)).name if dtypes else "float64"

    def matrix(
        self,
        c: Conversion,
        est: Any,
        *,
        dtype: str = "float",
        allow_nan: bool = False,
        check: bool = True,
    ) -> Value:
        """One matrix, as check_array(X, dtype=...) makes it inside ``est``.

        ``dtype="float"`` is scikit-learn's FLOAT_DTYPES: float32 stays, all else becomes float64; otherwise the named
        dtype. ``check`` refuses infinity, and NaN unless ``allow_nan``, in the estimator's name.
        """
        builder: Builder = c.builder
        common = self.dtype
        if common == "string":
            raise UnsupportedParameterError(
                f"step {builder.origin}: {type(est).__name__} is given the string column {self._first_string()}",
                "encode string columns (OneHotEncoder, OrdinalEncoder) or drop them before this step",
            )
        joined = builder.concat([v.cast(common) for v in self.values])
        target = ("float32" if common == "float32" else "float64") if dtype == "float" else dtype
        x = joined.cast(target)
        if check and target in ("float64", "float32") and common in ("float64", "float32"):
            x = builder.check_finite(x, f"{builder.origin} ({type(est).__name__})", allow_nan=allow_nan)
        return x

    def _first_string(self) -> str:
        at = 0
        for value in self.values:
            if value.dtype == "string":
                return repr(self.names[at]) if self.names else str(at)
            at += value.width
        return "?"

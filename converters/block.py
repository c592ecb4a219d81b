"""A Block is what an estimator receives as ``X`` during conversion: columns that may differ in dtype.

scikit-learn turns a frame into one array inside each estimator; a Block keeps the columns apart until an
estimator asks for a matrix, so that strings, integers and floats travel side by side, and then applies
check_array's dtype rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edgeml.errors import SampleError, UnsupportedParameterError
from edgeml.ir import Builder, Value

if TYPE_CHECKING:
    from edgeml.converters.registry import Conversion


# What scikit-learn holds in the Block's place.
# "frame": each column has its own dtype and is met by its name.
# "array": one dense array; with strings among the columns its dtype is object.
# "object": an object array of numbers only, which keep their own dtypes.
# "sparse": a SciPy matrix; the same numbers, but some transformers compute in another order.
BlockForm = Literal["frame", "array", "object", "sparse"]


class Block:
    """Columns side by side, as a tuple of values of any width.

    ``names`` are the column names as far as they are known; they count as feature names when ``form`` is
    "frame", and serve messages otherwise.
    """

    __slots__ = ("form", "names", "values")

    def __init__(self, *values: Value, names: Sequence[str] | None = None, form: BlockForm = "array") -> None:
        self.values = tuple(v for v in values if v.width)
        self.names = tuple(names) if names is not None else None
        self.form: BlockForm = form

    @classmethod
    def hstack(cls, blocks: Iterable[Block], form: BlockForm = "array") -> Block:
        """Blocks side by side in one container: one array of their common dtype, or a frame."""
        parts = [b if form == "frame" else b.as_array() for b in blocks]
        unnamed = any(b.names is None and b.width for b in parts)
        names = None if unnamed else [n for b in parts for n in b.names or ()]
        values = [v for b in parts for v in b.values]
        if form == "frame":
            return cls(*values, names=names, form=form)
        if form != "sparse" and any(b.is_object for b in parts):
            return cls(*values, names=names, form="array" if any(b.has_strings for b in parts) else "object")
        # An empty array is float64 and promotes like any other.
        common = np.result_type(*(b.numpy for b in parts)) if parts else np.dtype("float64")
        return cls(*(_cast(v, common) for v in values), names=names, form=form)

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
        # Numbers taken out of an object array stay objects.
        form: BlockForm = "object" if self.form == "array" and self.dtype == "string" else self.form
        return Block(*parts, names=names, form=form)

    def label(self, index: int) -> str:
        """A column as messages name it."""
        return f"column {self.names[index]!r}" if self.names else f"column {index}"

    def kind(self, index: int) -> str:
        """Kind of a column as messages name it; of dates and what else no program can read, its dtype."""
        value = self.column(index)
        return value.numpy if value.dtype == "string" and value.numpy != "object" else value.dtype

    @property
    def is_object(self) -> bool:
        """Whether the one array scikit-learn would make of the columns has dtype object."""
        return self.form == "object" or any(v.dtype == "string" or v.numpy == "object" for v in self.values)

    @property
    def has_strings(self) -> bool:
        return any(v.dtype == "string" for v in self.values)

    def as_array(self) -> Block:
        """The Block as numpy.asarray makes it; of bool and numbers in one frame pandas makes objects."""
        if self.form == "sparse":
            return self
        if self.is_object:
            form: BlockForm = "array" if self.has_strings else "object"
            return Block(*self.values, names=self.names, form=form)
        dtypes = {v.dtype for v in self.values}
        if self.form == "frame" and "bool" in dtypes and len(dtypes) > 1:
            return Block(*self.values, names=self.names, form="object")
        return Block(*(_cast(v, self.numpy) for v in self.values), names=self.names)

    def check(self, c: Conversion, est: Any) -> None:
        """Raise SampleError unless the columns are those ``est`` was fitted on, as validate_data does."""
        width = getattr(est, "n_features_in_", None) or self.width  # 0 in a CatBoost model that was loaded
        fitted = getattr(est, "feature_names_in_", None)
        step = f"step {c.builder.origin or 'pipeline'}: {type(est).__name__}"
        remedy = "pass a sample with the columns the pipeline was fitted on, in their order"
        if width != self.width:
            raise SampleError(f"{step} was fitted on {width} columns, and is given {self.width}", remedy)
        if self.form != "frame" or fitted is None or self.names is None:
            return
        for want, got in zip(fitted, self.names, strict=True):
            if want != got:
                raise SampleError(f"{step} was fitted with column {want!r} where it is given {got!r}", remedy)

    @property
    def dtype(self) -> str:
        """dtype scikit-learn computes in when it is not forced: "string" stands for object with strings."""
        return "string" if self.has_strings else _of_a_program(self.numpy)

    @property
    def numpy(self) -> np.dtype[Any]:
        """dtype of the one array NumPy would make of the columns; scikit-learn makes float64 of objects."""
        if self.is_object:
            return np.dtype("float64")
        return np.result_type(*(np.dtype(v.numpy) for v in self.values)) if self.values else np.dtype("float64")

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

        ``dtype="float"`` is scikit-learn's FLOAT_DTYPES: float32 stays, all else becomes float64; otherwise
        the named dtype. ``check`` refuses infinity, and NaN unless ``allow_nan``, in the estimator's name.
        Raises SampleError when the columns are not those ``est`` was fitted on.
        """
        builder: Builder = c.builder
        self.check(c, est)
        common = self.dtype
        if common == "string":
            at = next(i for i in range(self.width) if self.column(i).dtype == "string")
            strings = self.kind(at) == "string"
            raise UnsupportedParameterError(
                f"step {builder.origin or 'pipeline'}: {type(est).__name__} is given "
                f"{'strings' if strings else self.kind(at)}: {self.label(at)}",
                "encode string columns (OneHotEncoder, OrdinalEncoder) or drop them before this step"
                if strings
                else "turn the column into numbers or strings before the pipeline, or leave it out of this step",
            )
        joined = builder.concat([v.cast(common) for v in self.values])
        if dtype == "float" and self.numpy == np.float16:
            raise UnsupportedParameterError(
                f"step {builder.origin or 'pipeline'}: {type(est).__name__} computes on float16, which has three "
                "digits and no place in a compiled pipeline",
                "fit the pipeline on float32 or float64: X.astype('float32')",
            )
        target = ("float32" if common == "float32" else "float64") if dtype == "float" else dtype
        x = joined.cast(target)
        if check and target in ("float64", "float32") and common in ("float64", "float32"):
            x = builder.check_finite(x, c.place(est), allow_nan=allow_nan)
        return x.held_as(self.numpy.name) if dtype == self.dtype else x


def _of_a_program(dtype: np.dtype[Any]) -> str:
    """The dtype in which a program holds the cells of a NumPy dtype without changing one."""
    if dtype.kind in "iuM":  # dates are met as their ticks
        return "int64"
    return "float64" if dtype.kind == "f" and dtype != np.float32 else dtype.name


def _cast(value: Value, dtype: np.dtype[Any]) -> Value:
    return value.cast(_of_a_program(dtype)).held_as(dtype.name)

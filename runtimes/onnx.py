"""Runs a bundle's ``model.onnx`` with onnxruntime.

In come raw columns as ``frames.read_rows`` gives them; out go results in scikit-learn's shapes and dtypes.
What the model is, it says itself in its metadata (targets/onnx.py lists the keys): how missing string cells
are spelled, which graph outputs make a method, and what each node that may fail stands for, so that a refused
row ends in the same error as on every other engine. onnxruntime is imported when an engine is opened and not
before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.bundle.read import Bundle
from edgeml.errors import ColumnTypeError, EngineError, EngineNotInstalledError, ManifestError
from edgeml.ir.ops_ml import non_finite_error, require_error
from edgeml.runtimes.frames import read_row
from edgeml.schema import Schema

Array = npt.NDArray[Any]
Feeds = dict[str, Array]
Row = Mapping[str, Any] | Sequence[Any]

MEMBER = "model.onnx"
# Rows a call of onnxruntime. Its temporaries are as long as the batch: 7 KB a row for a forest of 100 trees
# behind a one-hot of 500 columns. Measured on pipelines with 14 raw columns, us a row in calls of 64, 1,024
# and 20,000 rows: logistic regression 1.7, 1.7, 1.6; forest of 100 trees 4.9, 5.0, 5.0; histogram boosting
# 4.6, 4.0, 4.6.
CHUNK = 1024
# Cells of such a call where texts are taken apart: as many as its documents times the characters of the longest, or the
# terms of the vocabulary. A character takes 32 bytes in each of some ten temporaries.
TEXT_CELLS = 1 << 20
# The oldest onnxruntime that adds up every forest right: 1.23 answers for some with leaves of other trees.
OLDEST = (1, 24)


class OnnxEngine:
    """One onnxruntime session. ``run`` may be called by several threads at once."""

    name = "onnx"
    text_library = None  # onnxruntime takes objects

    def __init__(self, session: Any, methods: Mapping[str, Mapping[str, str]], schema: Schema) -> None:
        self._session = session
        self._schema = schema
        self._methods = methods
        facts = session.get_modelmeta().custom_metadata_map
        try:
            self._outputs: dict[str, list[str]] = _json(facts, "edgeml.outputs")
            self._inputs: dict[str, str] = _json(facts, "edgeml.inputs")
            self._checks = {name: _check(check) for name, check in _json(facts, "edgeml.checks").items()}
            spelled = _json(facts, "edgeml.missing_strings")
            self._none, self._nan = str(spelled["None"]), str(spelled["NaN"])
            self._rows_only = facts.get("edgeml.rows_only")
            self._terms = int(facts.get("edgeml.terms", 0))  # of the largest vocabulary
            kinds = {entry.name: entry.type for entry in session.get_inputs()}
            self._kinds = {column: kinds[entry] for column, entry in self._inputs.items()}
            for method in methods:
                self._outputs[method][0]
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise ManifestError(
                f"{MEMBER}: its metadata is malformed: {error!r}", "compile the pipeline again"
            ) from None

    @classmethod
    def open(cls, bundle: Bundle, threads: int) -> OnnxEngine:
        """A session on the bundle's model. Raises EngineNotInstalledError without onnxruntime, EngineError
        when it is older than ``OLDEST`` or cannot load the model.
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise EngineNotInstalledError(
                f"the engine 'onnx' needs onnxruntime, which cannot be imported: {error}",
                'pip install "edgeml-sdk[onnx]"',
            ) from error
        _check_version(onnxruntime.__version__)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # a refused row is an error of ours, not a line on stderr
        try:
            session = onnxruntime.InferenceSession(
                bytes(bundle.member(MEMBER)), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime has a dozen classes of its own
            version = onnxruntime.__version__
            raise EngineError(
                f"onnxruntime {version} cannot load {MEMBER} of {bundle.path}: {_first_line(error)}",
                'pip install --upgrade "edgeml-sdk[onnx]"',
            ) from error
        return cls(session, bundle.manifest["methods"], bundle.schema)

    # --- many rows
    def run(self, columns: Mapping[str, Array], rows: int, methods: Sequence[str]) -> dict[str, Array]:
        """Results of ``methods``. Raises InputError where the program refuses a row, EngineError when
        onnxruntime fails.
        """
        feeds = self._feeds(columns, rows)
        names = [name for method in methods for name in self._outputs[method]]
        parts = []
        for start, end in self._calls(feeds, rows):
            part = {name: x[start:end] for name, x in feeds.items()} if end - start < rows else feeds
            try:
                parts.append(self._session.run(names, part))
            except Exception as error:  # classes of onnxruntime, and UnicodeEncodeError
                raise self._refusal(error, part, start) from error
        joined = parts[0] if len(parts) == 1 else [np.concatenate(p) for p in zip(*parts, strict=True)]
        results = iter(joined)
        return {m: self._result(m, [next(results) for _ in self._outputs[m]]) for m in methods}

    def _calls(self, feeds: Feeds, rows: int) -> Iterator[tuple[int, int]]:
        """Rows of each call: where it starts, and where it ends."""
        if not self._terms:
            yield from ((start, min(start + CHUNK, rows)) for start in range(0, rows, CHUNK))
            return
        start, most = 0, self._terms
        texts = [x.reshape(rows, -1) for x in feeds.values() if x.dtype == object]
        for at in range(rows):
            longest = max(most, *(len(text) for x in texts for text in x[at]))
            if at > start and ((at + 1 - start) * longest > TEXT_CELLS or at - start == CHUNK):
                yield start, at
                start, longest = at, max(self._terms, *(len(text) for x in texts for text in x[at]))
            most = longest
        yield start, rows

    def _feeds(self, columns: Mapping[str, Array], rows: int) -> Feeds:
        feeds = {}
        for column, name in self._inputs.items():
            kind = self._kinds[column]
            if column == self._rows_only and column not in columns:
                empty: Any = "" if kind == "tensor(string)" else 0
                feeds[name] = np.full((rows, 1), empty, dtype=_DTYPES[kind])
                continue
            x = columns[column]
            if kind == "tensor(string)":
                x = self._spell(x, column)
            feeds[name] = x.reshape(rows, -1)
        return feeds

    def _spell(self, cells: Array, column: str) -> Array:
        """String cells with missing ones in their spelling; they must not hold the spellings already."""
        flat = cells.ravel().tolist()
        reserved = {self._none, self._nan}
        if not reserved.isdisjoint(flat):
            at = next(i for i, cell in enumerate(flat) if cell in reserved)
            raise ColumnTypeError(
                f"column {column!r} holds {flat[at]!r} in row {at // (cells.size // len(cells))}, "
                "which an ONNX model reserves for missing cells",
                "use engine='native', or replace the value",
            )
        if not all(cell.__class__ is str for cell in flat):
            none, nan = self._none, self._nan
            flat = [c if isinstance(c, str) else none if c is None else nan for c in flat]
        return np.fromiter(flat, dtype=object, count=len(flat)).reshape(cells.shape)

    def _result(self, method: str, parts: Sequence[Array]) -> Array:
        dtype = np.dtype(self._methods[method]["dtype"])
        if dtype.kind != "O":
            # onnxruntime's int64 is NumPy's longlong, which equals int64 but whose scalars are no np.int64.
            arrays = [part.astype(dtype, copy=False).view(dtype) for part in parts]
        else:
            arrays = [self._objects(part) for part in parts]
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=1)

    def _objects(self, part: Array) -> Array:
        """A part of an object result: spelled cells become missing again."""
        if part.dtype != object:
            return part.astype(object)
        part[part == self._none] = None
        part[part == self._nan] = np.nan
        return part

    # --- one row
    def one(self, method: str) -> Callable[[Row], Any]:
        """A function of one raw row: a dict of all columns of plain Python values takes the fast way."""
        schema, names = self._schema, self._outputs[method]
        session, result = self._session, self._result
        keys = frozenset(schema.names)
        readers = {"float64": _number, "int64": _integer, "bool": _truth}
        columns = [c for c in schema.columns if c.name in self._inputs]

        def slow(row: Row) -> Any:
            return self.run(read_row(row, schema), 1, (method,))[method][0]

        if schema.form == "matrix" or any(c.kind not in readers and c.kind != "string" for c in columns):
            return slow
        plan = [
            (
                c.name,
                self._inputs[c.name],
                self._text_reader(c.null) if c.kind == "string" else readers[c.kind],
                np.dtype(_DTYPES[self._kinds[c.name]]),
            )
            for c in columns
        ]

        def one(row: Row) -> Any:
            if row.__class__ is not dict or row.keys() != keys:
                return slow(row)
            try:
                feeds = {name: np.array([[read(row[c])]], dtype) for c, name, read, dtype in plan}
                parts = session.run(names, feeds)
            except Exception:  # classes of onnxruntime, or a cell of another type
                return slow(row)  # which reads anything a batch may hold, and raises errors in our words
            return result(method, parts)[0]

        return one

    def _text_reader(self, null: str) -> Callable[[Any], Any]:
        """The function that spells a string cell of one row; None is the column's missing cell, ``null``, as in a list.

        It raises TypeError for what ``read_row`` has to look at.
        """
        none, nan = self._none, self._nan
        missing = nan if null == "nan" else none

        def text(cell: Any) -> Any:
            if cell.__class__ is str and cell != none and cell != nan:
                return cell
            if cell is None:
                return missing
            if cell.__class__ is float and cell != cell:
                return nan
            raise TypeError

        return text

    # --- errors
    def _refusal(self, error: Exception, feeds: Feeds, start: int) -> Exception:
        """The error that a failed call of onnxruntime stands for; ``start`` is the row where its chunk begins."""
        if isinstance(error, UnicodeEncodeError):
            return self._not_unicode(feeds, start)
        if self._failed_check(error) is None:
            return EngineError(f"onnxruntime failed: {_first_line(error)}", "report it with the bundle and the row")
        row, error = self._first_refused(feeds, error)
        check = self._failed_check(error)
        assert check is not None
        if check["op"] == "Require":
            return require_error(start + row, check["message"], check["kind"])
        # CheckFinite fails with width - column as the index.
        index = re.search(r"idx=(\d+)", str(error))
        column = check["width"] - int(index[1]) if index else 0
        return non_finite_error(
            start + row, column, check["what"], "infinity" if check["allow_nan"] else "NaN or infinity"
        )

    def _failed_check(self, error: Exception) -> dict[str, Any] | None:
        name = re.search(r"Name:'([^']*)'", str(error))
        return self._checks.get(name[1]) if name else None

    def _first_refused(self, feeds: Feeds, error: Exception) -> tuple[int, Exception]:
        """The first row that the model refuses by itself, found by halving, and the error it gives."""
        low, high = 0, len(next(iter(feeds.values())))
        names = [entry.name for entry in self._session.get_outputs()][:1]
        while high - low > 1:
            middle = (low + high) // 2
            try:
                self._session.run(names, {name: x[low:middle] for name, x in feeds.items()})
                low = middle
            except Exception as smaller:  # the bad row is in this half
                high, error = middle, smaller
        try:
            self._session.run(names, {name: x[low:high] for name, x in feeds.items()})
        except Exception as last:  # the failure of the one row that is left
            error = last
        return low, error

    def _not_unicode(self, feeds: Feeds, start: int) -> Exception:
        for column, name in self._inputs.items():
            for at, cells in enumerate(feeds[name].tolist() if feeds[name].dtype == object else ()):
                for cell in cells:
                    try:
                        cell.encode()
                    except UnicodeEncodeError:
                        return ColumnTypeError(
                            f"column {column!r} holds {cell!r} in row {start + at}: not valid Unicode",
                            "decode the data with the right encoding, or use engine='native'",
                        )
        return EngineError("onnxruntime refused a string", "report it with the bundle and the row")


_DTYPES = {
    "tensor(double)": "float64", "tensor(float)": "float32", "tensor(int64)": "int64", "tensor(bool)": "bool",
    "tensor(string)": "object",
}  # fmt: skip


# One cell of a single row, when it needs no conversion. All else is for ``read_row``.
def _number(cell: Any) -> Any:
    if cell.__class__ is float or cell.__class__ is np.float64:
        return cell
    raise TypeError


def _integer(cell: Any) -> Any:
    if cell.__class__ is int or cell.__class__ is np.int64:
        return cell
    raise TypeError


def _truth(cell: Any) -> Any:
    if cell.__class__ is bool or cell.__class__ is np.bool_:
        return cell
    raise TypeError


def _json(facts: Mapping[str, str], key: str) -> Any:
    value = json.loads(facts[key])
    if not isinstance(value, dict):
        raise TypeError(key)
    return value


def _check(check: Any) -> dict[str, Any]:
    """An entry of the checks. Raises KeyError, TypeError or ValueError when it does not say what a refusal tells."""
    if check["op"] == "Require":
        return dict(check, message=str(check["message"]), kind=str(check["kind"]))
    return dict(check, width=int(check["width"]), what=str(check["what"]), allow_nan=bool(check["allow_nan"]))


def _check_version(version: str) -> None:
    """Raises EngineError for an onnxruntime that loads models and answers wrongly; what has no number passes."""
    found = re.match(r"(\d+)\.(\d+)", version)
    if found and (int(found[1]), int(found[2])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise EngineError(
            f"the engine 'onnx' needs onnxruntime {oldest} or newer and finds {version}, "
            "which adds up some forests wrongly",
            "pip install --upgrade \"edgeml-sdk[onnx]\", or use engine='native'",
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:500]

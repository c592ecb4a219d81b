"""The Model an application holds, and what an engine under it has to be.

``load`` opens a bundle, opens an engine on it and wraps both in a Model, which reads rows by the schema and
hands them to the engine. A Model has the methods its pipeline had, and no others. Nothing of it changes while
it predicts, so any number of threads may call one Model at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, update_wrapper
from hashlib import sha256
from itertools import accumulate, pairwise
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, overload

import numpy as np
import numpy.typing as npt

from edgeml.bundle.manifest import several_outputs
from edgeml.bundle.read import Bundle
from edgeml.errors import EngineError, ManifestError
from edgeml.jsonutil import dumps
from edgeml.runtimes.frames import read_columns, read_row
from edgeml.runtimes.recordable import LOCK, ONE_ROW, Recordable
from edgeml.runtimes.sparse import dense_parts, is_sparse
from edgeml.schema import Schema

if TYPE_CHECKING:
    from edgeml.runtimes.kernels.library import Library
    from edgeml.runtimes.recording import Recording
    from edgeml.telemetry.settings import Settings

Array = npt.NDArray[Any]
Row = Mapping[str, Any] | Sequence[Any]

_MAX_LABEL_BYTES = 40_000  # of a fixed-width string label: 10,000 characters, as the manifest allows


class Engine(Protocol):
    """Computes a program's outputs. Must be safe to call from several threads at once."""

    name: str

    @property
    def text_library(self) -> Library | None:
        """Kernels to which ``run`` hands columns of strings as they lie in memory (text_column.py); None for an engine
        that takes arrays of objects.
        """
        ...

    @classmethod
    def open(cls, bundle: Bundle, threads: int) -> Engine:
        """An engine on the bundle's artifact, using up to ``threads`` threads for one batch."""
        ...

    def run(self, columns: Mapping[str, Any], rows: int, methods: Sequence[str]) -> dict[str, Array]:
        """Results by method, in scikit-learn's shapes and dtypes; ``columns`` as ``read_columns`` gives them."""
        ...

    def one(self, method: str) -> Callable[[Row], Any]:
        """A function of one raw row, made for ``method``: a label or number, or an array of shape (k,)."""
        ...


def generic_one(engine: Engine, schema: Schema, method: str) -> Callable[[Row], Any]:
    """``Engine.one`` by way of ``run``, for an engine that has nothing faster."""
    methods = (method,)

    def one(row: Row) -> Any:
        return engine.run(read_row(row, schema), 1, methods)[method][0]

    return one


class _Method:
    """A method of Model that is there only when the pipeline had it, as ``hasattr`` asks in scikit-learn."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._name = function.__name__
        update_wrapper(self, function)  # for help(): docstring and signature

    @overload
    def __get__(self, model: None, owner: type) -> _Method: ...
    @overload
    def __get__(self, model: Model, owner: type) -> Callable[..., Any]: ...
    def __get__(self, model: Model | None, owner: type) -> _Method | Callable[..., Any]:
        if model is None:
            return self
        model._require(self._name, self._name)
        bound: Callable[..., Any] = self._function.__get__(model, owner)
        return bound

    def __call__(self, model: Model, X: Any, **options: Any) -> Any:
        return self.__get__(model, type(model))(X, **options)


class _OneRow:
    """A function of one row, made at first use and kept in the model: then a call has no layer in between.

    A ``cached_property`` would keep what it made even when recording began or ended meanwhile.
    """

    def __init__(self, function: Callable[[Model], Callable[[Row], Any]]) -> None:
        self._function = function
        self._name = function.__name__
        self.__doc__ = function.__doc__

    @overload
    def __get__(self, model: None, owner: type) -> _OneRow: ...
    @overload
    def __get__(self, model: Model, owner: type) -> Callable[[Row], Any]: ...
    def __get__(self, model: Model | None, owner: type) -> _OneRow | Callable[[Row], Any]:
        if model is None:
            return self
        with LOCK:
            found: Callable[[Row], Any] | None = vars(model).get(self._name)
            if found is None:
                found = vars(model)[self._name] = self._function(model)
        return found


class Model(Recordable):
    """A compiled pipeline, ready to answer. Made by ``edgeml.load``; close it, or use it in a ``with`` block.

    The rows ``X`` of every method may be a pandas or polars frame, an Arrow table, a NumPy array, a dict of
    columns or a list of dicts, with raw columns as at fit. All methods raise InputError, by the kind of what
    is wrong with the rows, and EngineError once the model is closed.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        threads: int = 1,
        verify_with: Any = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.schema: Schema = bundle.schema
        self.manifest: dict[str, Any] = bundle.manifest
        self.path = os.path.abspath(bundle.path)
        self.engine: str = engine.name
        self.threads = threads
        self._engine: Engine = engine
        self._bundle = bundle
        self._verify_with = verify_with
        self._options = options
        super().__init__()

    # --- many rows
    @_Method
    def predict(self, X: Any, return_std: bool = False) -> Array | tuple[Array, Array]:
        """Labels or numbers, (rows,), or (rows, outputs) where the pipeline returns that.

        With ``return_std``, for a regressor that takes it, also their standard deviations, as ``predict_std`` gives
        them. Raises EngineError for a model without them.
        """
        if not return_std:
            return self._answer("predict", X)
        if "predict_std" not in self.manifest["methods"]:
            raise EngineError(
                f"{self._name} has no standard deviations: predict of {self.manifest['estimator']} takes no return_std",
                "call predict(X), or compile a GaussianProcessRegressor, BayesianRidge or ARDRegression",
            )
        mean, deviation = self._answers(("predict", "predict_std"), X)
        return mean, deviation

    @_Method
    def predict_std(self, X: Any) -> Array:
        """Standard deviations of what ``predict`` returns, as its ``return_std`` gives them."""
        return self._answer("predict_std", X)

    @_Method
    def predict_proba(self, X: Any) -> Array | list[Array]:
        """Probabilities, (rows, classes), columns in the order of ``classes_``; of several outputs a list, one each."""
        return self._as_returned("predict_proba", self._answer("predict_proba", X))

    @_Method
    def predict_log_proba(self, X: Any) -> Array | list[Array]:
        """Logarithms of the probabilities, (rows, classes); of several outputs a list, one each."""
        return self._as_returned("predict_log_proba", self._answer("predict_log_proba", X))

    @_Method
    def decision_function(self, X: Any) -> Array | list[Array]:
        """Scores before they become labels, (rows,) or (rows, classes); a list where the pipeline returns that."""
        return self._as_returned("decision_function", self._answer("decision_function", X))

    @_Method
    def score_samples(self, X: Any) -> Array:
        """Score of each row, (rows,)."""
        return self._answer("score_samples", X)

    @_Method
    def transform(self, X: Any) -> Array | list[Array]:
        """Transformed rows, (rows, features); dense also where scikit-learn returns a sparse matrix."""
        return self._as_returned("transform", self._answer("transform", X))

    # --- one row: the engine's own function, bound at first use, so that a call has no layer in between
    @_OneRow
    def predict_one(self) -> Callable[[Row], Any]:
        """``predict_one(row)``: label or number of a raw row, a dict or a sequence in the schema's order; of several
        outputs an array, (outputs,).
        """
        return self._one("predict_one", "predict")

    @_OneRow
    def predict_proba_one(self) -> Callable[[Row], Any]:
        """``predict_proba_one(row)``: probabilities of one raw row, (classes,); of several outputs a list, one each."""
        return self._one("predict_proba_one", "predict_proba")

    @cached_property
    def classes_(self) -> Array | list[Array]:
        """The labels, (classes,), with the dtype ``predict`` returns; of several outputs a list, one each."""
        classes = self.manifest["classes"]
        if classes is None:
            raise AttributeError(f"{self._name} has no classes_: its estimator is not a classifier")
        name = self.manifest["methods"].get("predict", {"dtype": "O"})["dtype"]
        try:
            dtype = np.dtype(name)
            if dtype.itemsize > _MAX_LABEL_BYTES:
                raise ValueError("labels are too wide")
            if several_outputs(classes):
                return [_labels(labels, dtype) for labels in classes]
            return _labels(classes, dtype)
        except (TypeError, ValueError, OverflowError) as error:
            raise ManifestError(f"{self.path}: the labels are not of dtype {name[:40]!r}: {error}") from None

    # --- life
    def close(self) -> None:
        """Free the engine and the bundle. Calls that are under way finish; later ones raise EngineError."""
        if isinstance(self._engine, _Closed):
            return
        self.stop_recording()
        with LOCK:
            self._engine = _Closed(self.path)
            for name in ONE_ROW:
                if name in self.__dict__:
                    self.__dict__[name] = self._engine.one(name)
        self._bundle.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Callable[..., Model], tuple[Any, ...]]:
        # Not the engine's memory but the way to open it again travels to a worker process.
        how = (self.path, self.engine, self.threads, self._verify_with, self._options)
        portable = None if self._recording is None else self._recording.settings.portable()
        return _reopen, (*how, _fingerprint(self.manifest), *(() if portable is None else (portable,)))

    def __dir__(self) -> list[str]:
        absent = {name for name in _METHOD_NAMES if name not in self.manifest["methods"]}
        absent |= {f"{name}_one" for name in ("predict", "predict_proba") if name in absent}
        if self.manifest["classes"] is None:
            absent.add("classes_")
        return [name for name in super().__dir__() if name not in absent]

    def __repr__(self) -> str:
        columns = len(self.schema.columns)
        closed = ", closed" if isinstance(self._engine, _Closed) else ""
        return (
            f"<Model {self._name!r} version {self.manifest['version']}: {self.manifest['estimator']}, "
            f"{columns} column{'s' * (columns != 1)} -> {', '.join(self.manifest['methods'])}; "
            f"engine {self.engine}, threads {self.threads}{closed}>"
        )

    # --- helpers
    @property
    def _name(self) -> str:
        return str(self.manifest["name"])

    def _answer(self, method: str, X: Any) -> Array:
        return self._answers((method,), X)[0]

    def _answers(self, methods: Sequence[str], X: Any) -> list[Array]:
        """What ``_run`` gives, recorded or not; of sparse rows part by part."""
        if is_sparse(X):
            parts = [self._run(methods, part) for part in dense_parts(X)]
            return [np.concatenate([part[method] for part in parts]) for method in methods]
        answers = self._run(methods, X)
        return [answers[method] for method in methods]

    def _run(self, methods: Sequence[str], X: Any) -> dict[str, Array]:
        """The rows are read once for all methods, and what these share is computed once."""
        engine = self._engine
        columns, rows = read_columns(X, self.schema, engine.text_library)
        return engine.run(columns, rows, methods)

    def _one(self, name: str, method: str) -> Callable[[Row], Any]:
        self._require(name, method)
        recording = self._recording
        one = self._engine.one(method) if recording is None else recording.one(method)
        widths = self.manifest["methods"][method].get("widths")
        return one if widths is None else lambda row: _split(one(row), widths)

    def _as_returned(self, method: str, answer: Array) -> Array | list[Array]:
        """What an engine computed in the form the pipeline returns it: as it is, or its columns as several arrays."""
        facts = self.manifest["methods"][method]
        if "widths" not in facts:
            return answer
        parts = _split(answer, facts["widths"])
        return parts if facts["form"] == "list" else np.stack(parts)

    def _start_recording(self, settings: Settings) -> Recording:
        from edgeml.runtimes.recording import Recording

        if isinstance(self._engine, _Closed):
            raise self._engine.error()
        return Recording(self._bundle, self._engine, settings)

    def _require(self, name: str, method: str) -> None:
        methods = self.manifest["methods"]
        if method not in methods:
            raise AttributeError(
                f"{self._name} has no {name}: the pipeline it was compiled from "
                f"({self.manifest['estimator']}) has no {method}. It has: {', '.join(methods)}"
            )


_METHOD_NAMES = tuple(name for name, value in vars(Model).items() if isinstance(value, _Method))


class _Closed:
    """Stands where the engine was, once a model is closed."""

    name = "closed"
    text_library = None

    def __init__(self, path: str) -> None:
        self._path = path

    def run(self, columns: Mapping[str, Any], rows: int, methods: Sequence[str]) -> dict[str, Array]:
        raise self.error()

    def one(self, method: str) -> Callable[[Row], Any]:
        def closed(row: Row) -> Any:
            raise self.error()

        return closed

    @classmethod
    def open(cls, bundle: Bundle, threads: int) -> Engine:
        raise NotImplementedError

    def error(self) -> EngineError:
        return EngineError("the model is closed", f"load it again: edgeml.load({self._path!r})")


def _labels(labels: Sequence[Any], dtype: np.dtype[Any]) -> Array:
    if dtype.kind == "O":
        return np.fromiter(labels, dtype=object, count=len(labels))
    # A dummy predicts one label, in a dtype that is too narrow for the others.
    return np.array(labels, dtype=np.promote_types(dtype, np.array(labels).dtype) if dtype.kind == "U" else dtype)


def _split(answer: Array, widths: Sequence[int]) -> list[Array]:
    """Columns side by side, (rows, k) or (k,), as one array an output. Raises EngineError for another number."""
    stops = list(accumulate(widths, initial=0))
    if answer.shape[-1] != stops[-1]:
        raise EngineError(
            f"the artifact gives {answer.shape[-1]} columns, the manifest says {stops[-1]}",
            "compile the pipeline again",
        )
    return [answer[..., start:stop] for start, stop in pairwise(stops)]


def _fingerprint(manifest: Mapping[str, Any]) -> str:
    return sha256(dumps(manifest)).hexdigest()


def _reopen(
    path: str,
    engine: str,
    threads: int,
    verify_with: Any,
    options: Mapping[str, Any] | None,
    fingerprint: str,
    recording: Mapping[str, Any] | None = None,
) -> Model:
    """The other half of ``Model.__reduce__``, run in the process the model was sent to."""
    from edgeml.runtimes.load import load, record

    model = load(path, engine=engine, threads=threads, verify_with=verify_with, options=options)
    if _fingerprint(model.manifest) != fingerprint:
        model.close()
        raise EngineError(
            f"{path} holds another model than the one that was sent to this process",
            "give every version its own file, or load the model in the worker",
        )
    if recording is not None:
        record(model, recording)
    return model

"""Runs a bundle's ``model.tflite``, and in front of it the program that turns raw columns into the model's inputs.

The front runs on the native engine's kernels, in float64; targets/tflite.py says what is where. LiteRT (ai-edge-litert)
computes the core; tflite-runtime, its older name, is used where only that is installed. Neither interpreter may be
shared by threads: every thread that calls gets its own. Nothing of either is imported before an engine is opened.

Answers are those of float32: see targets/tflite.py. A row with a number that float32 cannot hold is refused.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.bundle.read import Bundle
from edgeml.errors import EngineError, EngineNotInstalledError, InputError, ManifestError, OutOfRangeError
from edgeml.ir.ops_ml import require_error
from edgeml.runtimes.base import Row
from edgeml.runtimes.kernels.library import Library
from edgeml.runtimes.native import NativeEngine, read_program
from edgeml.runtimes.tflite_file import read_metadata
from edgeml.schema import Schema

Array = npt.NDArray[Any]

MEMBER = "model.tflite"
FRONT_PROGRAM, FRONT_ARRAYS = "front/program.json", "front/arrays.bin"
ENTRY = "edgeml"
REFUSED = "refused"
INSTALL = 'pip install "edgeml-sdk[tflite]"'
# Modules that hold an Interpreter, the preferred one first.
RUNTIMES = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")
# Results that are finite for every row float32 can follow; a transformation may hand on NaN.
SCORES = ("predict", "predict_proba", "decision_function", "score_samples")
OPTIONS = ("delegate", "delegate_options", "xnnpack")


class TfliteEngine:
    """A model for any number of threads, each with an interpreter of its own."""

    name = "tflite"

    def __init__(
        self,
        make: Callable[[], Any],
        front: NativeEngine,
        facts: Mapping[str, Any],
        methods: Mapping[str, Mapping[str, str]],
        schema: Schema,
    ) -> None:
        """``make`` gives a new interpreter, ``facts`` is the model's metadata."""
        self._make, self._front, self._schema, self._methods = make, front, schema, methods
        try:
            self._inputs = tuple(facts["inputs"])
            self._checks = [_check(check) for check in facts["checks"]]
            self._rows = max(1, int(facts["rows"]))
            self._outputs = [*facts["outputs"], *([REFUSED] if self._checks else [])]
            self._labels = {m: self._tables(m, facts["outputs"][m].get("labels")) for m in methods}
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise _malformed(repr(error)) from None
        self._local = threading.local()
        self._runner()  # what is wrong with the model shows now

    @classmethod
    def open(cls, bundle: Bundle, threads: int, options: Mapping[str, Any] | None = None) -> TfliteEngine:
        """The engine for a bundle.

        ``options``: ``delegate`` is a delegate's shared library, or a loaded delegate, that computes what it can
        (``delegate_options`` is handed to it); ``xnnpack=False`` leaves out the CPU delegate that LiteRT uses by
        itself.

        Raises EngineNotInstalledError without a runtime, EngineError when it cannot load the model or an option is
        unknown, and the errors of BundleError for members that are malformed.
        """
        runtime = load_runtime()
        data = bytes(bundle.member(MEMBER))
        arguments = _arguments(runtime, threads, dict(options or {}))
        coded = read_program(bundle, FRONT_PROGRAM, FRONT_ARRAYS)
        facts = read_metadata(data, ENTRY, MEMBER)
        if not isinstance(facts.get("inputs"), dict) or not facts["inputs"]:
            raise _malformed("there are no inputs")
        for name in facts["inputs"]:
            if name not in coded.program.outputs:
                raise ManifestError(f"{FRONT_PROGRAM}: it does not give {name}", "compile the pipeline again")

        def make() -> Any:
            try:
                return runtime.Interpreter(model_content=data, **arguments)
            except (RuntimeError, ValueError) as error:
                raise EngineError(
                    f"{runtime.__name__} cannot load {MEMBER} of {bundle.path}: {_first_line(error)}",
                    'pip install --upgrade "edgeml-sdk[tflite]"',
                ) from error

        return cls(make, NativeEngine(coded, bundle.schema, threads), facts, bundle.manifest["methods"], bundle.schema)

    # --- many rows
    @property
    def text_library(self) -> Library | None:
        """That of the program in front."""
        return self._front.text_library

    def run(self, columns: Mapping[str, Any], rows: int, methods: Sequence[str]) -> dict[str, Array]:
        """Results by method. Raises InputError where the program refuses a row, EngineError when the runtime fails."""
        inputs = self._front.run(columns, rows, self._inputs)
        runner = self._runner()
        wanted = [*methods, *([REFUSED] if self._checks else [])]
        parts: dict[str, list[Array]] = {name: [] for name in wanted}
        for start in range(0, rows, self._rows):
            results = runner.run([x[start : start + self._rows] for x in inputs.values()], wanted)
            if self._checks and results[REFUSED].any():
                raise self._refusal(results[REFUSED], start)
            for name in wanted:
                parts[name].append(results[name])
        return {m: self._result(m, parts[m]) for m in methods}

    def _result(self, method: str, parts: Sequence[Array]) -> Array:
        """A method's chunks as one array of scikit-learn's shape and dtype."""
        values = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if method in SCORES and values.dtype.kind == "f" and not np.isfinite(values).all():
            raise self._overflow(values)
        tables = self._labels[method]
        if tables is not None:
            columns = [values] if values.ndim == 1 else values.T
            try:
                looked_up = [table[x] for table, x in zip(tables, columns, strict=True)]
            except (IndexError, ValueError) as error:
                raise _malformed(f"labels of {method}: {error}") from None
            values = looked_up[0] if values.ndim == 1 else np.stack(looked_up, axis=1)
        return values.astype(self._methods[method]["dtype"], copy=False)

    def _tables(self, method: str, labels: Any) -> list[Array] | None:
        """Labels by class index, one table a column, in the dtype that scikit-learn returns."""
        if labels is None:
            return None
        tables = []
        for cells in labels:
            if not all(isinstance(cell, str | float | int | None) for cell in cells):
                raise ValueError(f"labels of {method}")
            table = np.empty(len(cells), dtype=object)
            table[:] = cells
            tables.append(table.astype(self._methods[method]["dtype"]))
        return tables

    def _overflow(self, values: Array) -> OutOfRangeError:
        row = int(np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))[0])
        return OutOfRangeError(
            f"row {row}: an answer is beyond the range of float32 (3.4e38), in which TFLite computes",
            "use engine='native', which computes in float64",
        )

    def _refusal(self, refused: Array, start: int) -> InputError:
        """The error for the first row that a check of the core refuses; ``start`` is the row its chunk begins with."""
        row = int(np.flatnonzero(refused)[0])
        number = int(refused[row])
        if not 1 <= number <= len(self._checks):
            raise _malformed(f"there is no check {number}")
        check = self._checks[number - 1]
        if check["op"] == "Require":
            return require_error(start + row, check["message"], check["kind"])
        return OutOfRangeError(
            f"row {start + row}: {check['what']} is handed a number beyond the range of float32 (3.4e38), in which "
            "TFLite computes",
            "use engine='native', which computes in float64",
        )

    # --- one row
    def one(self, method: str) -> Callable[[Row], Any]:
        """A function of one raw row."""
        fronts = [self._front.one(name) for name in self._inputs]
        wanted = (method, REFUSED) if self._checks else (method,)

        def one(row: Row) -> Any:
            inputs = [front(row)[None, :] for front in fronts]
            results = self._runner().run(inputs, wanted)
            if self._checks and results[REFUSED][0]:
                raise self._refusal(results[REFUSED], 0)
            return self._result(method, [results[method]])[0]

        return one

    def _runner(self) -> _Runner:
        """This thread's interpreter."""
        runner: _Runner | None = getattr(self._local, "runner", None)
        if runner is None:
            runner = self._local.runner = _Runner(self._make(), self._inputs, self._outputs)
        return runner


class _Runner:
    """One interpreter, made ready for a number of rows at a time."""

    def __init__(self, interpreter: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        self._interpreter = interpreter
        details = {d["name"]: d["index"] for d in (*interpreter.get_input_details(), *interpreter.get_output_details())}
        try:
            self._inputs = [details[name] for name in inputs]
            self._outputs = {name: details[name] for name in outputs}
        except KeyError as error:
            raise ManifestError(f"{MEMBER}: it has no tensor {error}", "compile the pipeline again") from None
        self._rows = 0

    def run(self, inputs: Sequence[Array], wanted: Sequence[str]) -> dict[str, Array]:
        """Outputs by name for inputs of shape (rows, width). Raises EngineError when the runtime fails."""
        interpreter, rows = self._interpreter, len(inputs[0])
        try:
            if rows != self._rows:
                self._rows = 0
                for index, x in zip(self._inputs, inputs, strict=True):
                    interpreter.resize_tensor_input(index, x.shape)
                interpreter.allocate_tensors()
                self._rows = rows
            for index, x in zip(self._inputs, inputs, strict=True):
                interpreter.set_tensor(index, x)
            interpreter.invoke()
            return {name: interpreter.get_tensor(self._outputs[name]) for name in wanted}
        except (RuntimeError, ValueError) as error:
            raise EngineError(
                f"the TFLite runtime failed: {_first_line(error)}", "report it with the bundle and the row"
            ) from error


# --- runtimes -----------------------------------------------------------------------------------------------
def load_runtime() -> Any:
    """The module of an installed runtime, the preferred one first.

    Raises EngineNotInstalledError when there is none, or none that works with this NumPy.
    """
    reasons = []
    for name in RUNTIMES:
        package = name.partition(".")[0]
        if package == "tflite_runtime" and int(np.__version__.partition(".")[0]) >= 2:
            # It imports, and fails with a SystemError when an interpreter is made.
            reasons.append(f"tflite-runtime does not work with NumPy 2 (here is {np.__version__})")
            continue
        try:
            return import_module(name)
        except ImportError as error:
            reasons.append(f"{package}: {error}")
    raise EngineNotInstalledError(
        f"the engine 'tflite' needs ai-edge-litert: {'; '.join(reasons)}",
        f'{INSTALL}; where only tflite-runtime exists (ARMv7): pip install "numpy<2" tflite-runtime',
    )


def _arguments(runtime: Any, threads: int, options: dict[str, Any]) -> dict[str, Any]:
    """Arguments of an Interpreter. Raises EngineError for an option that is unknown or cannot be honoured."""
    unknown = sorted(options.keys() - set(OPTIONS))
    if unknown:
        raise EngineError(f"the engine 'tflite' has no option {unknown[0]!r}", f"use some of: {', '.join(OPTIONS)}")
    arguments: dict[str, Any] = {"num_threads": threads}
    if not options.get("xnnpack", True):
        resolver = runtime.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        arguments["experimental_op_resolver_type"] = resolver
    delegate = options.get("delegate")
    if isinstance(delegate, str):
        try:
            ctypes.CDLL(delegate)  # load_delegate leaves a half-made object behind when it fails
            delegate = runtime.load_delegate(delegate, dict(options.get("delegate_options") or {}))
        except (ValueError, OSError) as error:
            raise EngineError(
                f"the delegate {options['delegate']!r} cannot be loaded: {_first_line(error)}",
                "install the delegate's library, or leave the option out",
            ) from error
    if delegate is not None:
        arguments["experimental_delegates"] = [delegate]
    return arguments


def _check(check: Any) -> dict[str, Any]:
    """An entry of ``checks``. Raises KeyError or TypeError when it does not say what the engine tells the caller."""
    for key in ("message", "kind") if check["op"] == "Require" else ("what",):
        check[key]
    return dict(check)


def _malformed(reason: str) -> ManifestError:
    return ManifestError(f"{MEMBER}: malformed metadata: {reason}", "compile the pipeline again")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:500]

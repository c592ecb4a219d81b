"""What scikit-learn answers: every method on every row, and which rows it refuses.

scikit-learn refuses a whole batch for one bad row, so refused rows are found by bisection, among rows that look alike:
each batch that is answered costs a call of every method, 10 ms of a forest, and rows with a bad cell stand among good
ones. The compiler uses the result as the reference of parity and as golden rows.
"""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np

from edgeml.compare import compare, side_by_side
from edgeml.converters import CONVERTERS
from edgeml.converters.answering import answers_alone, needs_company, squeezes, unrepeatable_methods
from edgeml.converters.registry import key_of
from edgeml.errors import SampleError, UnsupportedEstimatorError
from edgeml.ir.program import Form
from edgeml.ir.table import Array
from edgeml.sample import Sample, not_fitted
from edgeml.sparse_rows import as_given

_COMPANY = 8  # rows
STD = "predict_std"  # what predict(X, return_std=True) returns beside the mean
METHODS = (
    "predict",
    STD,
    "predict_proba",
    "predict_log_proba",
    "decision_function",
    "score_samples",
    "transform",
)


@dataclass(frozen=True)
class Truth:
    """``outputs[method]`` holds the rows that were answered, in order; ``refused`` marks the others, bool (rows,)."""

    outputs: dict[str, Array]
    refused: Array
    reason: str

    @property
    def answered(self) -> Array:
        """Positions of the answered rows, int64."""
        return np.flatnonzero(~self.refused)


@lru_cache(maxsize=1)
def _thread_pools(modules: int) -> Any:
    """The ThreadpoolController of the libraries loaded, found anew when modules were imported since: libraries come
    with them. Looking takes 3 ms, and ``quiet`` is entered a dozen times for each compilation.
    """
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@contextmanager
def quiet() -> Iterator[None]:
    """scikit-learn's own warnings about our deliberately awkward rows are not the caller's business."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        # One thread: the order in which a forest's trees are added is then the order of estimators_, and the hundreds
        # of short calls here do not wait for other threads (measured on a busy machine: 76 s became 7 s).
        from joblib import parallel_config

        with parallel_config(backend="sequential"), _thread_pools(len(sys.modules)).limit(limits=1):
            yield


def methods_of(pipeline: Any) -> tuple[str, ...]:
    """The methods for new rows that the pipeline has, without those that no program can repeat."""
    with quiet():
        left_out = unrepeatable_methods(pipeline)
        return tuple(m for m in METHODS if _has(pipeline, m) and m not in left_out)


def _has(pipeline: Any, method: str) -> bool:
    """Whether there is such a method; of ``predict_std``, whether the last step's predict takes ``return_std``."""
    if method != STD:
        return callable(getattr(pipeline, method, None))
    last = pipeline
    while getattr(last, "steps", None):
        last = last.steps[-1][1]
    if key_of(last) not in CONVERTERS:  # skl2onnx has the mean alone
        return False
    predict = getattr(last, "predict", None)
    try:
        return callable(predict) and "return_std" in inspect.signature(predict).parameters
    except (TypeError, ValueError):  # a method of compiled code tells no signature
        return False


def _ask_one(pipeline: Any, method: str, rows: Any) -> Any:
    """The method's own answer, in the form it has."""
    if method == STD:
        return pipeline.predict(as_given(rows), return_std=True)[1]
    return getattr(pipeline, method)(as_given(rows))


def call(pipeline: Any, method: str, rows: Any) -> Array:
    """What one method returns, as one dense array: of a list or stack of arrays all columns side by side; about each
    row alone where an estimator's answer is one about the batch.
    """
    count = len(rows)
    if not count or (count > 1 and not answers_alone(pipeline)):
        return _call(pipeline, method, rows)
    copies = 2 if squeezes(pipeline) else 1
    parts = [_copies(rows, i, copies) for i in range(count)]
    return _joined([_call(pipeline, method, part)[:1] for part in parts], [1] * count)


def _copies(rows: Any, at: int, count: int) -> Any:
    """One row so many times, as rows of its own: IterativeImputer writes into a single row that it is given."""
    return rows.iloc[[at] * count] if hasattr(rows, "iloc") else rows[[at] * count]


def _joined(answers: Sequence[Array], counts: Sequence[int]) -> Array:
    """Answers to batches of so many rows, one behind the other; of a single row and column an axis may be missing."""
    wide = any(a.ndim > 1 for a in answers)
    return np.concatenate([a.reshape(count, -1) if wide else a for a, count in zip(answers, counts, strict=True)])


def _call(pipeline: Any, method: str, rows: Any) -> Array:
    return _dense(pipeline, method, _ask_one(pipeline, method, rows), len(rows))


def _dense(pipeline: Any, method: str, result: Any, count: int) -> Array:
    """A method's answer to so many rows as one dense array."""
    if hasattr(result, "toarray"):
        result = result.toarray()  # a model returns dense arrays: a device has no SciPy
    if isinstance(result, (list, tuple)) and not all(np.ndim(part) == 2 and hasattr(part, "shape") for part in result):
        raise UnsupportedEstimatorError(
            f"{type(pipeline).__name__}.{method} returns a {type(result).__name__} of {type(result[0]).__name__}",
            "give an array with one row for each row of X: numpy.array(…)",
        )
    answer = side_by_side(result)
    if answer.ndim and len(answer) != count:  # a FunctionTransformer may do anything
        raise UnsupportedEstimatorError(
            f"{type(pipeline).__name__}.{method} returns {len(answer)} rows for {count}",
            "drop rows before the pipeline: a model has one answer for each row",
        )
    return answer


def widths(pipeline: Any, method: str, rows: Any) -> tuple[Form, list[int]] | None:
    """Whether a method returns a list of arrays or a stack of them, and the columns of each; None for one array."""
    with quiet():
        try:
            result = _ask_one(pipeline, method, rows)
        except Exception:  # a row answered among others only, by a transform that looks at the batch: no list
            return None
    if isinstance(result, (list, tuple)):
        return "list", [part.shape[1] for part in result]
    return ("stack", [part.shape[1] for part in result]) if np.ndim(result) == 3 else None


def ask(pipeline: Any, sample: Sample, methods: Sequence[str], *, like: Truth | None = None) -> Truth:
    """Every method on all rows of a sample.

    Raises SampleError when not a single row is answered, unless ``like``, the truth about other rows, says what an
    answer looks like: rows made to be awkward may all be refused.
    """
    from sklearn.exceptions import NotFittedError as SklearnNotFitted

    refused = np.zeros(len(sample), dtype=bool)
    answered: list[Array] = []
    pieces: dict[str, list[Array]] = {m: [] for m in methods}
    reason = ""

    def visit(indices: Array) -> None:
        nonlocal reason
        try:
            answers = in_company(indices) if company.size else every_method(sample.take(indices))
        except UnsupportedEstimatorError:
            raise
        except SklearnNotFitted:
            raise not_fitted(pipeline) from None
        except Exception as error:  # whatever scikit-learn refuses a row with, it is a refusal
            reason = reason or f"{type(error).__name__}: {error}"
            if len(indices) == 1:
                refused[indices] = True
                return
            suspect = suspects[indices]
            if suspect.any() and not suspect.all():
                parts = [indices[~suspect], indices[suspect]]
            else:
                parts = np.array_split(indices, 2)
            for part in parts:
                visit(part)
            return
        answered.append(indices)
        for m, answer in answers.items():
            pieces[m].append(answer)

    def in_company(indices: Array) -> dict[str, Array]:
        try:
            answers = every_method(sample.take(np.concatenate([indices, company])))
        except Exception:  # it may be the company that is refused
            return every_method(sample.take(indices))
        return {m: answer[: len(indices)] for m, answer in answers.items()}

    suspects = _suspects(sample)
    everyone, alone = np.arange(len(sample)), answers_alone(pipeline)
    every_method = _of_one_row(pipeline, methods) if alone else partial(_of_rows, pipeline, methods)
    company = _company(pipeline, sample)
    with quiet():
        # Where rows are asked about one by one, a batch that is refused would only be asked about again.
        for indices in everyone[:, None] if alone else [everyone]:
            visit(indices)
    if refused.all() and like is not None:
        return Truth({m: like.outputs[m][:0] for m in methods}, refused, reason)
    if refused.all():
        first = reason.splitlines()[0] if reason else "no reason"
        raise SampleError(
            f"the pipeline refuses every row of the sample: {first}",
            "pass raw training rows, as they were before fit, without the target",
        )
    order = np.argsort(np.concatenate(answered))
    counts = [len(indices) for indices in answered]
    outputs = {m: _joined(p, counts)[order] for m, p in pieces.items()}
    if like is not None:
        for m, usual in like.outputs.items():
            # RadiusNeighborsRegressor answers in the integers of its targets when no row of a batch has a neighbour.
            if outputs[m].dtype.kind == "i" and usual.dtype.kind == "f":
                outputs[m] = outputs[m].astype(usual.dtype)
    return Truth(outputs, refused, reason)


def _of_rows(pipeline: Any, methods: Sequence[str], rows: Any) -> dict[str, Array]:
    return {m: call(pipeline, m, rows) for m in methods}


def _of_one_row(pipeline: Any, methods: Sequence[str]) -> Callable[[Any], dict[str, Array]]:
    """What answers about one row by every method. The steps before the last, where the time goes, are asked once."""
    from sklearn.pipeline import Pipeline

    last = pipeline.steps[-1][1] if type(pipeline) is Pipeline and len(pipeline.steps) > 1 else None
    # "passthrough" and None are no estimators.
    before = pipeline[:-1] if len(methods) > 1 and hasattr(last, "get_params") else None
    copies = 2 if squeezes(pipeline) else 1

    def answer(row: Any) -> dict[str, Array]:
        if before is None:
            return {m: _call(pipeline, m, _copies(row, 0, copies))[:1] for m in methods}
        given = before.transform(as_given(_copies(row, 0, copies)))
        # A copy for each: a step may be told to work in place.
        return {m: _dense(pipeline, m, _ask_one(last, m, given.copy()), copies)[:1] for m in methods}

    return answer


def _company(pipeline: Any, sample: Sample) -> Array:
    """Places of some rows beside which others are asked about, int64; none where an answer does not depend on that."""
    if not needs_company(pipeline):
        return np.zeros(0, dtype=np.int64)
    # Of missing cells that are not NaN nothing is known here: one of several rows will have a cell.
    return np.argsort(_suspects(sample), kind="stable")[:_COMPANY]


def _suspects(sample: Sample) -> Array:
    """Rows with a cell that is missing or that float32 cannot hold, bool (rows,): the ones most often refused."""
    import pandas as pd

    rows = sample.rows
    columns = [rows[c] for c in rows] if sample.is_frame else [rows] if rows.ndim == 1 else list(rows.T)
    found = np.zeros(len(sample), dtype=bool)
    for column in columns:
        found |= np.asarray(pd.isna(column))
        if column.dtype.kind == "f":
            cells = pd.Series(column).to_numpy(dtype=np.float64, na_value=np.nan)
            found |= np.abs(cells) > np.finfo(np.float32).max
    return found


def noise(pipeline: Any, sample: Sample, method: str) -> float:
    """How far scikit-learn differs from itself: the same rows as one batch and one by one (BLAS adds in another order).

    A relative error as ``edgeml.compare`` defines it; 0 for labels.
    """
    with quiet():
        batch = call(pipeline, method, sample.rows)
        if batch.dtype.kind != "f":
            return 0.0
        single, company = batch.copy(), _company(pipeline, sample)
        for i in range(len(sample)):
            try:
                single[i : i + 1] = call(pipeline, method, sample.take([i, *company]))[:1]
            except Exception:  # a frame of one row may get other dtypes between the steps, and be refused for them
                continue
    return compare(batch, single, method).max_rel

"""The fast way to count one raw row: cells and answer go straight into a buffer, and one call of the kernels counts.

``row_recorder`` wraps an engine's function of one row, made for one schema and method. What the fast way does not take
(a row that is no dict, list, tuple or array, a cell that needs converting) goes to ``slow``, which reads the row as a
batch of one. Whatever happens while counting, the caller gets its answer; what the engine raises passes unchanged.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence
from operator import getitem
from typing import Any

import numpy as np

from edgeml.runtimes.base import Row
from edgeml.runtimes.native_row import getter
from edgeml.runtimes.recording_counts import Counts
from edgeml.runtimes.recording_plans import RowPlan
from edgeml.telemetry.counting import Places

_NAN = float("nan")
One = Callable[[Row], Any]
Numbers = Callable[[Any], Sequence[Any]]


def row_recorder(
    engine_one: One,
    counts: Counts,
    index: int,
    failed: Callable[[Exception], None],
    slow: Callable[[Row, Any, int], None],
    enough: Callable[[], None],
) -> One:
    """``engine_one``, recorded on row plan ``index`` of ``counts``.

    ``failed`` is told what the engine raised, ``slow(row, answer, nanoseconds)`` counts what the fast way cannot, and
    ``enough`` is called when the window has its rows; none of them raises.
    """
    plan, schema = counts.plans.rows[index], counts.layout.schema
    groups = (plan.float_features, plan.int_features, plan.texts)
    by_name = tuple(getter([f.name for f in group]) for group in groups)
    by_position = tuple(getter([f.position for f in group]) for group in groups)
    tables: list[Any] = [f.places for f in plan.texts]
    scores, labels = _scores(plan), _labels(plan)
    pack = struct.Struct(f"={len(plan.floats)}d{plan.ns + 1 - len(plan.floats)}q").pack_into
    width = len(schema.columns)
    array = (np.dtype(schema.kind), (width,)) if schema.form == "matrix" and schema.kind != "string" else None
    run, fresh, clock = counts.run, counts.fresh, time.perf_counter_ns

    def one(row: Any) -> Any:
        start = clock()
        try:
            answer = engine_one(row)
        except Exception as error:  # counted by its kind, and raised again as it is
            failed(error)
            raise
        nanoseconds = clock() - start
        cells = row
        try:
            kind = row.__class__
            if kind is dict:
                get_floats, get_ints, get_texts = by_name
            else:
                if kind is np.ndarray and array == (row.dtype, row.shape):
                    cells = row.tolist()
                elif (kind is not list and kind is not tuple) or len(row) != width:
                    slow(row, answer, nanoseconds)
                    return answer
                get_floats, get_ints, get_texts = by_position
            pool = counts.pool
            try:
                buffer = pool.pop()
            except IndexError:
                pool, buffer = fresh()
            try:
                ints, texts = get_ints(cells), map(getitem, tables, get_texts(cells))
                floats, shown = get_floats(cells), scores(answer)
                try:
                    pack(buffer.memory, 0, *floats, *shown, *ints, *texts, *labels(answer), nanoseconds)
                except struct.error:  # as None is no float
                    floats = tuple(_NAN if cell is None else cell for cell in floats)
                    texts = map(getitem, tables, get_texts(cells))
                    pack(buffer.memory, 0, *floats, *shown, *ints, *texts, *labels(answer), nanoseconds)
                full = run(buffer.arguments[index])
            finally:
                pool.append(buffer)
            if full:
                enough()
        except Exception:  # a cell of another type, or any fault of ours: the answer is not to suffer
            slow(row, answer, nanoseconds)
        return answer

    return one


def _scores(plan: RowPlan) -> Numbers:
    """The numeric scores of an answer."""
    columns = [score.column for score in plan.scores]
    if not columns:
        return lambda answer: ()
    if columns == [None]:
        return lambda answer: (answer,)
    if columns == [-1]:
        return lambda answer: (answer.max(),)
    if len(columns) == 1:
        column = columns[0]
        return lambda answer: (answer.item(column),)
    if columns == list(range(len(columns))):
        count = len(columns)

        def all_columns(answer: Any) -> Sequence[Any]:
            cells: list[Any] = answer.tolist()
            if len(cells) != count:
                raise ValueError(f"{len(cells)} scores where {count} are due")
            return cells

        return all_columns
    return lambda answer: [answer.item(column) for column in columns]


def _labels(plan: RowPlan) -> Numbers:
    """Where the labels of an answer are counted."""
    found: list[tuple[Places, int | None]] = [(s.places, s.column) for s in plan.labels if s.places is not None]
    if not found:
        return lambda answer: ()
    if len(found) == 1 and found[0][1] is None:
        table = found[0][0]
        return lambda answer: (table[answer],)
    return lambda answer: [places[answer.item(column)] for places, column in found]

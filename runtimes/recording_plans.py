"""What a buffer of counts holds, and the kernels' instructions that count a row or a batch.

Comes in: the layout of a model's counts. A buffer is one row of 8-byte cells: first those a single row is written into
(floats, then integers, then places of categories, then the call's nanoseconds), then the counts. ``Counts`` runs the
plans, ``row_recorder`` writes the cells of a ``RowPlan``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgeml.errors import ProfileError, ProgramError
from edgeml.ir.table import Array
from edgeml.runtimes.kernels.constants import ALIGNMENT, CELL, aligned
from edgeml.runtimes.kernels.registry import number
from edgeml.schema import MATRIX
from edgeml.telemetry.counting import LATENCY, ROWS, Bins, Feature, Layout, Places, Score

# Starts of a float record's bins are filled up to a multiple of this, which suits vector instructions.
_LANES = 4
# Shapes of answers of one method; more than these is a fault, not a model.
_MAX_PLANS = 64
_COUNTERS = {"float64": "count_float64", "float32": "count_float32", "int64": "count_int64", "bool": "count_bool"}
ROW_METHODS = ("predict", "predict_proba")


@dataclass(frozen=True, slots=True)
class RowPlan:
    """One row of ``method``. Its cells: ``floats`` of features, then ``scores``, ``ints``, one for each of ``texts``
    and ``labels``, and at ``ns`` the nanoseconds.
    """

    method: str
    code: Array
    floats: Sequence[Bins]
    ints: Sequence[Bins]
    float_features: Sequence[Feature]
    int_features: Sequence[Feature]
    texts: Sequence[Feature]
    scores: Sequence[Score]
    labels: Sequence[Score]
    ns: int


@dataclass(frozen=True, slots=True)
class Port:
    """An array of a batch. ``read(columns, answer)`` gives it, of ``dtype`` and ``width`` columns."""

    read: Callable[[Mapping[str, Array], Array], Array]
    dtype: str
    width: int


@dataclass(slots=True)
class BatchPlan:
    """A batch whose answers have ``width`` columns, 0 for a vector. ``records`` says, for NumPy, what the instructions
    do: port, column, record, place. ``tallied`` are columns of categories, read as lists.
    """

    kind: str
    ports: list[Port] = field(default_factory=list)
    records: list[tuple[int, int, Mapping[str, Any], int]] = field(default_factory=list)
    tallied: list[tuple[Places, Callable[[Mapping[str, Array], Array], Array]]] = field(default_factory=list)
    code: Array = field(default_factory=lambda: np.empty(0, dtype=np.int64))


class Plans:
    """All plans of one layout. Raises ProfileError for edges that are no numbers of their dtype."""

    def __init__(self, layout: Layout, enough: int) -> None:
        self._layout = layout
        self._enough = enough
        self._edges: list[Array] = []
        self._edge_places: dict[int, tuple[int, int, int]] = {}
        self._batches: dict[tuple[str, str, int], BatchPlan] = {}
        numeric = [f.bins for f in layout.features] + [s.bins for found in layout.scores.values() for s in found]
        for bins in numeric:
            if bins is not None:
                self._place_edges(bins)
        self.constants = aligned(sum(map(len, self._edges)) + _LANES)
        if self._edges:
            np.concatenate(self._edges, out=self.constants[: sum(map(len, self._edges))])
        cells = [len(layout.features) + len(scores) + 1 for scores in layout.scores.values()]
        self.batch_ns = 0  # no row is written while a batch is counted
        self.first_count = -(-max(cells, default=1) // (ALIGNMENT // CELL)) * (ALIGNMENT // CELL)
        self.cells = self.first_count + layout.size
        self.rows = [self._row(method) for method in ROW_METHODS if method in layout.scores]

    # --- one row
    def _row(self, method: str) -> RowPlan:
        features, found = self._layout.features, self._layout.scores[method]
        floats = [f for f in features if f.kind in ("float64", "float32")]
        ints = [f for f in features if f.kind == "int64"]
        texts = [f for f in features if f.places is not None]
        scores = [s for s in found if s.bins is not None]
        labels = [s for s in found if s.places is not None]
        float_bins = [b for b in (*(f.bins for f in floats), *(s.bins for s in scores)) if b is not None]
        int_bins = [f.bins for f in ints if f.bins is not None]
        first_place = len(float_bins) + len(int_bins)
        places = len(texts) + len(labels)
        code: list[int] = []
        for name, at, bins in (("count_cells", 0, float_bins), ("count_int_cells", len(float_bins), int_bins)):
            if bins:
                words = [word for b in bins for word in (self.first_count + b.place, *self._edge_places[b.place])]
                self._emit(code, name, at, len(bins), *words)
        if places:
            self._emit(code, "count_places", first_place, places, self.first_count)
        ns = first_place + places
        self._emit_call(code, "one", ns)
        return RowPlan(method, self._code(code), float_bins, int_bins, floats, ints, texts, scores, labels, ns)

    # --- a batch
    def batch(self, method: str, kind: str, width: int) -> BatchPlan:
        """The plan for answers of ``width`` columns, 0 for a vector; made at first use."""
        key = method, kind, width
        plan = self._batches.get(key)
        if plan is None:
            if len(self._batches) >= _MAX_PLANS:
                raise ProgramError(f"{method} returned another number of columns each time")
            plan = self._batches[key] = self._batch(method, kind, width)
        return plan

    def _batch(self, method: str, kind: str, width: int) -> BatchPlan:
        plan, code = BatchPlan(kind), list[int]()
        schema = self._layout.schema
        matrix = schema.form == "matrix"
        for feature in self._layout.features:
            read = _column(feature, matrix)
            if feature.kind == "string":
                assert feature.places is not None
                plan.tallied.append((feature.places, read))
                continue
            if matrix:
                if not plan.ports:
                    plan.ports.append(Port(lambda columns, answer: columns[MATRIX], schema.kind, len(schema.columns)))
                self._count(plan, code, 0, feature.position, feature, feature.kind)
            else:
                plan.ports.append(Port(read, feature.kind, 1))
                self._count(plan, code, len(plan.ports) - 1, 0, feature, feature.kind)
        whole = -1
        for score in self._layout.scores.get(method, ()):
            if (score.column is None) != (width == 0) or not (score.column is None or score.column < width):
                raise ProgramError(f"{method} returned {width} columns, its profile has {score.name}")
            if score.places is not None:
                plan.tallied.append((score.places, _answer(score)))
            elif score.column == -1:
                plan.ports.append(Port(lambda columns, answer: answer.max(axis=1), "float64", 1))
                self._count(plan, code, len(plan.ports) - 1, 0, score, "float64")
            else:
                if whole < 0:
                    plan.ports.append(Port(lambda columns, answer: answer, "float64", max(width, 1)))
                    whole = len(plan.ports) - 1
                self._count(plan, code, whole, score.column or 0, score, "float64")
        self._emit_call(code, kind, self.batch_ns)
        plan.code = self._code(code)
        return plan

    def _count(self, plan: BatchPlan, code: list[int], port: int, column: int, of: Feature | Score, dtype: str) -> None:
        total = plan.ports[port].width
        plan.records.append((port, column, of.record, of.place))
        if of.bins is None:
            assert of.places is not None
            false, true = (self.first_count + of.places[value] for value in (False, True))
            self._emit(code, "count_bool", port, column, total, false, true)
        else:
            edges = self._edge_places[of.place]
            self._emit(code, _COUNTERS[dtype], port, column, total, self.first_count + of.place, *edges)

    # --- instructions
    def _emit(self, code: list[int], kernel: str, *words: int) -> None:
        code += [number(kernel, "counting"), len(words), 0, *words]

    def _emit_call(self, code: list[int], kind: str, ns: int) -> None:
        first = self.first_count
        self._emit(code, "count_call", ns, first + LATENCY[kind], first + ROWS, self._enough)

    def _code(self, code: list[int]) -> Array:
        return np.array([*code, -1], dtype=np.int64)

    def _place_edges(self, bins: Bins) -> None:
        """Last edge, starts, and for floats NaN up to a multiple of lanes."""
        start = sum(map(len, self._edges))
        count = bins.bins
        dtype = np.int64 if bins.dtype == "int64" else np.float64
        padded = count if dtype is np.int64 else -(-count // _LANES) * _LANES
        try:
            edges = np.zeros(1 + padded, dtype=dtype) if dtype is np.int64 else np.full(1 + padded, np.nan)
            if count:
                edges[0], edges[1 : 1 + count] = bins.edges[-1], bins.edges[:-1]
            elif dtype is np.float64:
                edges[0] = -np.inf  # without a finite reference value all lie above
        except (OverflowError, ValueError, TypeError) as error:
            raise ProfileError(f"the reference profile holds edges that are no {bins.dtype}: {error}") from None
        self._edges.append(edges.view(np.int64))
        self._edge_places[bins.place] = start, padded, count


def _column(feature: Feature, matrix: bool) -> Callable[[Mapping[str, Array], Array], Array]:
    name, position = feature.name, feature.position
    if matrix:
        return lambda columns, answer: columns[MATRIX][:, position]
    return lambda columns, answer: columns[name]


def _answer(score: Score) -> Callable[[Mapping[str, Array], Array], Array]:
    column = score.column
    if column is None:
        return lambda columns, answer: answer
    return lambda columns, answer: answer[:, column]

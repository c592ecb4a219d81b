"""Where everything a window counts has its place: one row of int64 counts, laid out from schema and reference profile.

The counter in ``edgeml.runtimes`` adds to such counts while the model predicts; the recorder turns them into a window's
fields. ``Places`` finds the place of a category, as ``profile.bin_counts`` would.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter as Tally
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from edgeml.errors import ProfileError
from edgeml.profile import slot_names
from edgeml.schema import Schema
from edgeml.telemetry.window import LATENCY_BINS, sparse

# The first places: rows, and latencies of calls with one row and with many.
ROWS = 0
LATENCY = {"one": 1, "batch": 1 + LATENCY_BINS}
FIRST_RECORD = 1 + 2 * LATENCY_BINS


class Counter(Protocol):
    """Counts what a model sees, on a layout. Any number of threads may predict while ``take`` runs."""

    def take(self, wait: float) -> list[int]:
        """The counts since the last ``take``, in the layout's places. Calls that are under way are waited for, at most
        ``wait`` seconds; what they add later comes with the next ``take``, so that nothing is lost or counted twice.
        """
        ...

    def forget(self) -> None:
        """Start empty: the process was forked, and its parent reports what was counted."""
        ...


class Places(dict[Any, int]):
    """Category -> place of its count. None and NaN are missing; any other value, if hashable, is counted as the rest.

    ``texts_only`` is for string columns: what is neither str, None nor NaN raises KeyError.
    """

    __slots__ = ("_missing", "_rest", "_texts_only")

    def __init__(self, record: Mapping[str, Any], place: int, *, texts_only: bool) -> None:
        categories = record["categories"]
        super().__init__({category: place + at for at, category in enumerate(categories)})
        self._rest = place + len(categories) + (1 if record["complete"] else 0)
        self._missing = self[None] = place + len(categories) + 2
        self._texts_only = texts_only

    def __missing__(self, cell: Any) -> int:
        if isinstance(cell, str):
            return self._rest
        if cell != cell:
            return self._missing
        if self._texts_only:
            raise KeyError(type(cell).__name__)
        return self._rest

    def tally(self, cells: Iterable[Any]) -> dict[int, int]:
        """How often each place is met."""
        counts: dict[int, int] = {}
        for cell, count in Tally(cells).items():
            place = self[cell]
            counts[place] = counts.get(place, 0) + count
        return counts


@dataclass(frozen=True, slots=True)
class Bins:
    """A numeric record: the place of its first slot, its edges, and how many bins they make."""

    place: int
    edges: tuple[float, ...]
    dtype: str
    bins: int

    def place_of(self, x: float) -> int:
        """The place of one cell. Without a finite reference value every finite cell lies above."""
        bins = self.bins
        if x - x == 0:
            return self.place + (bisect_right(self.edges, x, 0, bins) + (x > self.edges[-1]) if bins else 1)
        if x != x:
            return self.place + bins + 2
        return self.place + bins + 3 + (x > 0)


@dataclass(frozen=True, slots=True)
class Feature:
    """One raw column: its name, its position in the schema, its kind, and its record in the profile.

    ``bins`` is for numbers, ``places`` for strings and booleans.
    """

    name: str
    position: int
    kind: str
    place: int
    record: Mapping[str, Any]
    bins: Bins | None
    places: Places | None


@dataclass(frozen=True, slots=True)
class Score:
    """One score of a method. ``column`` is a column of its result, -1 for the row's maximum, None for a vector."""

    name: str
    column: int | None
    place: int
    record: Mapping[str, Any]
    bins: Bins | None
    places: Places | None


class Layout:
    """Places of all counts of one model. Without a profile, rows and latencies only."""

    def __init__(self, schema: Schema, profile: Mapping[str, Any] | None, methods: Iterable[str]) -> None:
        """``profile`` as ``check_profile`` gives it. Raises ProfileError where it does not fit the schema."""
        self.schema = schema
        self.features: list[Feature] = []
        self.scores: dict[str, list[Score]] = {method: [] for method in methods}
        self._records: list[tuple[str, int, int]] = []
        self.size = FIRST_RECORD
        for record in profile["features"] if profile is not None else ():
            self._add_feature(record)
        for record in profile["scores"] if profile is not None else ():
            self._add_score(record)

    def fields(self, counts: Sequence[int]) -> dict[str, Any]:
        """The fields of a window that ``counts``, (size,), hold."""
        latency = {kind: counts[at : at + LATENCY_BINS] for kind, at in LATENCY.items()}
        fields: dict[str, Any] = {
            "rows": counts[ROWS],
            "calls": {kind: sum(found) for kind, found in latency.items()},
            "latency": {kind: sparse(found) for kind, found in latency.items()},
            "features": [],
            "scores": [],
        }
        for field, start, end in self._records:
            fields[field].append(sparse(counts[start:end]))
        return fields

    def _add_feature(self, record: Mapping[str, Any]) -> None:
        name = record["name"]
        try:
            position = self.schema.names.index(name)
        except ValueError:
            raise _misfit(f"it has a column {name!r}, which the schema has not") from None
        kind = self.schema.columns[position].kind
        texts = kind in ("string", "bool")
        if (record["kind"] == "categories") != texts or (record["dtype"] != kind):
            raise _misfit(f"{name!r} is a column of {kind}, and counted as {record['dtype']}")
        place, bins, places = self._take("features", record, texts_only=kind == "string")
        self.features.append(Feature(name, position, kind, place, record, bins, places))

    def _add_score(self, record: Mapping[str, Any]) -> None:
        name: str = record["name"]
        place, bins, places = self._take("scores", record, texts_only=False)
        method, column = name, None
        if name.endswith(".max"):
            method, column = name[:-4], -1
        elif name.endswith("]") and name.partition("[")[2][:-1].isdecimal():
            method, column = name.partition("[")[0], int(name.partition("[")[2][:-1])
        if method in self.scores:
            self.scores[method].append(Score(name, column, place, record, bins, places))

    def _take(
        self, field: str, record: Mapping[str, Any], *, texts_only: bool
    ) -> tuple[int, Bins | None, Places | None]:
        place = self.size
        self.size += len(slot_names(record))
        self._records.append((field, place, self.size))
        if record["kind"] == "numeric":
            edges = tuple(record["edges"])
            return place, Bins(place, edges, record["dtype"], max(len(edges) - 1, 0)), None
        return place, None, Places(record, place, texts_only=texts_only)


def _misfit(why: str) -> ProfileError:
    return ProfileError(f"the reference profile does not fit the model: {why}", "compile the pipeline again")

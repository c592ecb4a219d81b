"""The reference profile: how the training sample is spread, in bins that new values are counted on later.

Comes in: the sample's used columns and the pipeline's scores for it, at compile time. Goes out:
``profile.json``. A device counts what it sees on the same bins with ``bin_counts``, counts add up over time
and devices with ``merge_counts``, and the monitor compares them with the reference. Counts over different
bins are never added: every record carries the SHA-256 of its bins.

**Privacy.** A profile travels with the bundle, so it holds counts, and as few raw values as will do: a
category is named when at least 5 rows of the sample hold it and it has at most 128 characters (rarer or
longer ones, free text for instance, are only counted, as "other"); boolean values and predicted classes are
always named. The edges of numeric bins are values of the sample, the smallest and the largest among them:
leave a column out of the pipeline, or round it, if its extremes must not be known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeml.errors import ColumnTypeError, ProfileError, ProfileMismatchError, SampleError
from edgeml.jsonutil import dumps
from edgeml.schema import MATRIX, Schema

PROFILE_VERSION = 1
# A chi-square test wants 10 expected rows a bin: 10 bins suit a window of some hundreds, 20 need twice that.
MIN_BINS, MAX_BINS = 10, 20
ROWS_PER_BIN = 100
MAX_CATEGORIES = 30
MIN_CATEGORY_ROWS = 5
MAX_CATEGORY_CHARACTERS = 128
MAX_LABELS = 1000
MAX_SCORE_COLUMNS = 30
PROBABILITY_BINS = 20

Record = dict[str, Any]
Array = NDArray[Any]

_NUMERIC_DTYPES = ("float64", "float32", "int64")
_DEFINITION = ("name", "kind", "dtype", "edges", "categories", "complete")
# Outputs that are no scores, or say again what another method says.
_NOT_PROFILED = ("transform", "predict_log_proba")


def build_profile(columns: Mapping[str, Array], schema: Schema, scores: Mapping[str, Array | None]) -> dict[str, Any]:
    """The reference profile of a sample, JSON-ready; equal samples give equal profiles, in any order of rows.

    Args:
        columns: arrays of shape (rows,) by column name, or one (rows, columns) array named "X" for a matrix
            schema, in the schema's kinds; a string cell is a str, None or NaN. Columns the model does not
            read may be absent.
        schema: names and kinds of the columns; only used ones are profiled.
        scores: what each method returned for rows of the sample, (rows,) or (rows, k), or None. ``transform``
            and ``predict_log_proba`` are not profiled. Of more than 30 columns the row's maximum is.

    Returns:
        ``{"profile_version", "n_ref", "features", "scores", "sha256"}``. A record of ``features`` or
        ``scores`` is ``{"name", "kind", "dtype", "sha256", "counts"}`` with ``edges`` for kind "numeric",
        ``categories`` and ``complete`` for kind "categories"; ``slot_names`` says what each count is of.

    Raises:
        SampleError: a column is missing, empty, or of another length.
        ColumnTypeError: a cell is not of its column's kind.
    """
    features: list[Record] = []
    lengths: dict[str, int] = {}
    for position, column in enumerate(schema.columns):
        if not column.used:
            continue
        name = MATRIX if schema.form == "matrix" else column.name
        if name not in columns:
            raise SampleError(f"the sample has no column {name!r}", "profile the sample the schema was made from")
        values = columns[name] if schema.form == "columns" else columns[name][:, position]
        lengths[column.name] = len(values)
        if column.kind == "bool":
            features.append(_finish(_categories(column.name, "bool", [False, True], complete=True), values))
        elif schema.rows == "documents" or column.items is not None:
            # No two are alike, and what they say is nobody's business: only missing ones are told apart.
            features.append(_finish(_categories(column.name, "string", (), complete=False), values))
        elif column.kind == "string":
            features.append(_finish(_string_categories(column.name, values), values))
        else:
            features.append(_finish(_numeric(column.name, column.kind, values), values))
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        raise SampleError(f"columns of the sample have no rows, or different numbers of them: {lengths}")
    records = _score_records({m: s for m, s in scores.items() if s is not None})
    return {
        "profile_version": PROFILE_VERSION,
        "n_ref": max(lengths.values(), default=0),
        "features": features,
        "scores": records,
        "sha256": _whole_sha256(features, records),
    }


def slot_names(record: Mapping[str, Any]) -> list[str]:
    """What each entry of ``counts`` counts, in order.

    numeric: below the first edge; the bins, closed on the left, the last on both sides; above the last edge;
    NaN; minus and plus infinity. categories: the categories; "other", not named though the sample may have
    held it; "unseen", which the sample did not hold (told apart only when every category of the sample is
    named, ``complete``); "missing", None or NaN.
    """
    if record["kind"] == "numeric":
        edges = record["edges"]
        inner = [f"[{a}, {b})" for a, b in pairwise(edges)]
        if inner:
            inner[-1] = inner[-1][:-1] + "]"
        return ["below", *inner, "above", "nan", "-inf", "+inf"]
    return [*map(str, record["categories"]), "other", "unseen", "missing"]


def bin_counts(record: Mapping[str, Any], values: ArrayLike) -> Record:
    """Count ``values``, (rows,), on the bins of a record of a profile.

    Returns ``{"name", "sha256", "counts"}``, JSON-ready, the counts ordered as ``slot_names`` says. Without a
    finite reference value every finite value counts as above. Raises ColumnTypeError naming the record.
    """
    counts = _count_numeric(record, values) if record["kind"] == "numeric" else _count_categories(record, values)
    return {"name": record["name"], "sha256": record["sha256"], "counts": counts}


def merge_counts(first: Mapping[str, Any], second: Mapping[str, Any]) -> Record:
    """The sum of two counts on the same bins. Raises ProfileMismatchError when the bins differ."""
    if first["sha256"] != second["sha256"] or len(first["counts"]) != len(second["counts"]):
        raise ProfileMismatchError(
            f"counts of {first['name']!r} and {second['name']!r} are over different bins",
            "merge counts that were made with one bundle's profile only",
        )
    counts = [a + b for a, b in zip(first["counts"], second["counts"], strict=True)]
    return {"name": first["name"], "sha256": first["sha256"], "counts": counts}


def check_profile(data: Any) -> dict[str, Any]:
    """A profile read from a bundle, with its hashes recomputed. Raises ProfileError naming what is wrong."""
    try:
        if data["profile_version"] != PROFILE_VERSION:
            raise ProfileError(f"profile version {data['profile_version']!r} is not known", "upgrade edgeml-sdk")
        for record in (*data["features"], *data["scores"]):
            if record["sha256"] != _sha256(record):
                raise ProfileError(f"profile: the bins of {record['name']!r} do not match their hash")
            _check_bins(record)
            counts = record["counts"]
            if len(counts) != len(slot_names(record)) or any(type(n) is not int or n < 0 for n in counts):
                raise ProfileError(f"profile: the counts of {record['name']!r} do not fit its bins")
        if data["sha256"] != _whole_sha256(data["features"], data["scores"]):
            raise ProfileError("profile: the records do not match the profile's hash")
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ProfileError(f"profile: malformed: {type(error).__name__}: {error}") from None
    return dict(data)


def _check_bins(record: Mapping[str, Any]) -> None:
    name = record["name"]
    if record["kind"] == "numeric":
        edges = record["edges"]
        if record["dtype"] not in _NUMERIC_DTYPES or any(type(e) not in (int, float) for e in edges):
            raise ProfileError(f"profile: the edges of {name!r} are not numbers of a known dtype")
        if len(edges) == 1 or any(a > b for a, b in pairwise(edges)):
            raise ProfileError(f"profile: the edges of {name!r} do not ascend")
    elif record["kind"] != "categories" or len(set(record["categories"])) != len(record["categories"]):
        raise ProfileError(f"profile: {name!r} has neither edges nor different categories")


def _numeric(name: str, dtype: str, values: Array) -> Record:
    """Quantile bins: edges are values of the sample, equal ones merged, be they integers or a constant."""
    finite = np.sort(values[np.isfinite(values)])
    distinct = np.unique(finite)
    if len(distinct) <= MAX_BINS:
        # Few values: a bin for each. The last edge stands twice, for a bin that holds that one value.
        edges = np.concatenate([distinct, distinct[-1:]])
    else:
        bins = int(np.clip(len(finite) // ROWS_PER_BIN, MIN_BINS, MAX_BINS))
        starts = np.unique(finite[np.arange(bins) * len(finite) // bins])
        edges = np.concatenate([starts, finite[-1:]])
    # Adding 0 turns -0.0 into 0.0: which of the two is met first depends on the order of rows.
    return {"name": name, "kind": "numeric", "dtype": dtype, "edges": (edges + edges.dtype.type(0)).tolist()}


def _string_categories(name: str, values: Array) -> Record:
    seen = _tally(name, values)
    seen.pop(None, 0)
    ranked = sorted(seen, key=lambda c: (-seen[c], c))
    named = [c for c in ranked if seen[c] >= MIN_CATEGORY_ROWS and len(c) <= MAX_CATEGORY_CHARACTERS]
    return _categories(name, "string", named[:MAX_CATEGORIES], complete=named[:MAX_CATEGORIES] == ranked)


def _categories(name: str, dtype: str, categories: Sequence[Any], *, complete: bool) -> Record:
    return {
        "name": name,
        "kind": "categories",
        "dtype": dtype,
        "categories": list(categories),
        "complete": complete,
    }


def _score_records(scores: Mapping[str, Array]) -> list[Record]:
    # A float prediction is a class label when the estimator also scores classes, a quantity otherwise.
    classifies = "predict_proba" in scores or "decision_function" in scores
    records: list[Record] = []
    for method in sorted(set(scores) - set(_NOT_PROFILED)):
        values = np.asarray(scores[method])
        labels = method == "predict" and (classifies or values.dtype.kind != "f")
        for name, column in _score_columns(method, values):
            if labels:
                records.append(_finish(_label_record(name, column), column))
            elif method == "predict_proba":
                edges = [i / PROBABILITY_BINS for i in range(PROBABILITY_BINS + 1)]
                records.append(_finish({"name": name, "kind": "numeric", "dtype": "float64", "edges": edges}, column))
            else:
                column = np.asarray(column, dtype=np.float64)
                records.append(_finish(_numeric(name, "float64", column), column))
    return records


def _score_columns(method: str, values: Array) -> list[tuple[str, Array]]:
    """Columns of a score, named. Two probabilities that sum to 1 are one score: the second class's."""
    if values.ndim == 1:
        return [(method, values)]
    if method == "predict_proba" and values.shape[1] == 2:
        return [(f"{method}[1]", values[:, 1])]
    if values.shape[1] > MAX_SCORE_COLUMNS:
        return [(f"{method}.max", values.max(axis=1))]
    return [(f"{method}[{j}]", values[:, j]) for j in range(values.shape[1])]


def _label_record(name: str, values: Array) -> Record:
    seen = _tally(name, values)
    seen.pop(None, 0)
    ranked = sorted(seen, key=lambda c: (-seen[c], str(c)))
    return _categories(name, "label", ranked[:MAX_LABELS], complete=len(ranked) <= MAX_LABELS)


def _tally(name: str, values: ArrayLike) -> Counter[Any]:
    """How often each value occurs; None and NaN both count as None."""
    try:
        counted = Counter(np.asarray(values).tolist())
    except TypeError:
        raise ColumnTypeError(f"column {name!r} holds a value that is not a category") from None
    result: Counter[Any] = Counter()
    for value, count in counted.items():
        result[None if value is None or value != value else value] += count
    return result


def _count_categories(record: Mapping[str, Any], values: ArrayLike) -> list[int]:
    categories = record["categories"]
    place = {category: i for i, category in enumerate(categories)}
    other, unseen, missing = range(len(categories), len(categories) + 3)
    place[None] = missing
    rest = unseen if record["complete"] else other
    counts = [0] * (len(categories) + 3)
    for value, count in _tally(record["name"], values).items():
        if record["dtype"] == "string" and not (value is None or isinstance(value, str)):
            raise ColumnTypeError(
                f"column {record['name']!r} holds {ascii(value)[:80]}, a {type(value).__name__}",
                "a string column holds str, None or NaN",
            )
        counts[place.get(value, rest)] += count
    return counts


def _count_numeric(record: Mapping[str, Any], values: ArrayLike) -> list[int]:
    numbers = np.asarray(values)
    if numbers.dtype.kind not in "fiub":
        raise ColumnTypeError(f"column {record['name']!r} holds {numbers.dtype} where numbers are due")
    edges = np.asarray(record["edges"], dtype=record["dtype"])
    bins = max(len(edges) - 1, 0)
    finite = numbers[np.isfinite(numbers)]
    # 0 is below, bin i is i + 1, and bins + 1 is above.
    place = np.searchsorted(edges[:-1], finite, side="right")
    place[finite > edges[-1] if bins else slice(None)] = bins + 1
    counts = np.bincount(place, minlength=bins + 2).tolist()
    infinite = [np.isnan(numbers), numbers == -np.inf, numbers == np.inf]
    return [*counts, *(int(np.count_nonzero(mask)) for mask in infinite)]


def _finish(record: Record, values: Array) -> Record:
    """A record with its hash and the sample's own counts."""
    record["sha256"] = _sha256(record)
    record["counts"] = bin_counts(record, values)["counts"]
    return record


def _sha256(record: Mapping[str, Any]) -> str:
    """Hash of the bins, not of the counts: equal hashes mean that counts may be added."""
    return sha256(dumps({key: record[key] for key in _DEFINITION if key in record})).hexdigest()


def _whole_sha256(features: Sequence[Record], scores: Sequence[Record]) -> str:
    return sha256(dumps([[r["sha256"] for r in features], [r["sha256"] for r in scores]])).hexdigest()

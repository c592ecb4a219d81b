"""How right the model was: truths that arrive later, matched with what was predicted, summed for the window.

``Model.track`` keeps a prediction under an id, ``Model.feedback`` brings the truth for it. Of a classifier the window
gets a confusion matrix, of a regressor sums from which mean error, RMSE and R2 follow; no row is ever kept.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

from edgeml.errors import TelemetryError
from edgeml.telemetry.window import MAX_FEEDBACK_LABELS, MAX_NAME

TRACKED = 65_536
OTHER = "other"
_NONE = object()


class Truths:
    """Any number of threads may call; a lock is held for look-ups only."""

    def __init__(self, classes: Sequence[Any] | None, tracked: int = TRACKED) -> None:
        self._classes = None if classes is None else list(classes)
        # The last place is for labels the model does not know, and for classes beyond the bound.
        named = [] if classes is None else list(classes)[: MAX_FEEDBACK_LABELS - 1]
        self._names = dict(zip(named, _names(named), strict=True))
        self._most = tracked
        self.forget()

    def forget(self) -> None:
        self._lock = threading.Lock()
        self._tracked: OrderedDict[Hashable, Any] = OrderedDict()
        self._begin()

    def _begin(self) -> None:
        self._touched = False
        self._unmatched = 0
        self._confusion: dict[str, dict[str, int]] = {}
        self._rows = self._correct = 0
        self._sums = [0.0] * 5

    def track(self, ids: Any, predictions: Any) -> None:
        """Keep predictions until their truths come; of more than ``tracked`` the oldest are forgotten.

        Raises TelemetryError for ids and predictions of different numbers, and for an id that cannot be a key.
        """
        pairs = [(key, self._prediction(value)) for key, value in _pairs(ids, predictions, "predictions")]
        with self._lock:
            for key, value in pairs:
                self._tracked[key] = value
                self._tracked.move_to_end(key)
            while len(self._tracked) > self._most:
                self._tracked.popitem(last=False)

    def feedback(self, ids: Any, truths: Any, predictions: Any = None) -> None:
        """Count truths. ``predictions`` where the application kept them, else those that were tracked; a truth without
        a prediction, or one that is no number where numbers are predicted, is counted as unmatched.

        Raises as ``track`` does.
        """
        pairs = _pairs(ids, truths, "truths")
        if predictions is None:
            with self._lock:
                given = [self._tracked.pop(key, _NONE) for key, _ in pairs]
        else:
            given = [self._prediction(value) for _, value in _pairs(ids, predictions, "predictions")]
        found = [(_plain(truth), prediction) for (_, truth), prediction in zip(pairs, given, strict=True)]
        with self._lock:
            self._touched = True
            for truth, prediction in found:
                if prediction is _NONE or not self._count(truth, prediction):
                    self._unmatched += 1

    def take(self) -> dict[str, Any] | None:
        """A window's field ``feedback``, None without any; counting begins anew."""
        with self._lock:
            if not self._touched:
                return None
            found: dict[str, Any] = {"rows": self._rows, "unmatched": self._unmatched}
            if self._classes is None:
                names = ("error", "absolute_error", "squared_error", "y", "y_squared")
                found |= dict(zip(names, self._sums, strict=True))
            else:
                found |= {"correct": self._correct, "confusion": self._confusion}
            self._begin()
            return found

    def _count(self, truth: Any, prediction: Any) -> bool:
        if self._classes is not None:
            label, predicted = self._name(truth), self._name(prediction)
            row = self._confusion.setdefault(label, {})
            row[predicted] = row.get(predicted, 0) + 1
            self._rows += 1
            self._correct += label == predicted and (label != OTHER or _equal(truth, prediction))
            return True
        try:
            y, p = float(truth), float(prediction)
            error = p - y
            sums = [a + b for a, b in zip(self._sums, (error, abs(error), error * error, y, y * y), strict=True)]
        except (TypeError, ValueError, OverflowError):
            return False
        if not all(map(math.isfinite, sums)):
            return False
        self._sums = sums
        self._rows += 1
        return True

    def _name(self, label: Any) -> str:
        try:
            return str(self._names.get(label, OTHER))
        except TypeError:  # a label that cannot be looked up is none of the model's
            return OTHER

    def _prediction(self, value: Any) -> Any:
        """A label or number. Of a classifier's probabilities, one a class, the most probable class."""
        value = _plain(value)
        if self._classes is not None and isinstance(value, list) and len(value) == len(self._classes):
            return self._classes[max(range(len(value)), key=value.__getitem__)]
        return value


def _names(labels: Sequence[Any]) -> Iterator[str]:
    """A printable name for each label, no two alike."""
    taken = {OTHER}
    for label in labels:
        text = str(label)
        if not text or not text.isprintable() or text in taken:
            text = ascii(label)
        text = text[:MAX_NAME]
        number = 2
        while text in taken:
            ending = f" ({number})"
            text, number = text.removesuffix(f" ({number - 1})")[: MAX_NAME - len(ending)] + ending, number + 1
        taken.add(text)
        yield text


def _pairs(ids: Any, values: Any, what: str) -> list[tuple[Hashable, Any]]:
    """One pair, or as many as a list, an array or a column of ids has; a tuple or a string is one id."""
    many = not isinstance(ids, (str, bytes, tuple)) and hasattr(ids, "__len__") and hasattr(ids, "__iter__")
    if not many:
        pairs = [(ids, values)]
    else:
        keys, cells = list(ids), list(values) if hasattr(values, "__len__") and not isinstance(values, str) else None
        if cells is None or len(keys) != len(cells):
            found = "one value" if cells is None else f"{len(cells)} values"
            raise TelemetryError(f"{len(keys)} ids and {found} as {what}", "give one for each id")
        pairs = list(zip(keys, cells, strict=True))
    try:
        return [(_hashed(_plain(key)), value) for key, value in pairs]
    except TypeError:
        raise TelemetryError("an id cannot be looked up", "give strings or numbers as ids") from None


def _hashed(key: Any) -> Hashable:
    hash(key)
    result: Hashable = key
    return result


def _plain(value: Any) -> Any:
    """A NumPy scalar or array as Python's own."""
    return value.tolist() if hasattr(value, "tolist") and hasattr(value, "dtype") else value


def _equal(a: Any, b: Any) -> bool:
    try:
        return bool(a == b)
    except Exception:  # labels of the application's own types compare as they like
        return False

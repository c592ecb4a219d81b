"""Someone who has a ``model.tflite`` and nothing else: makes the inputs of raw columns as the file's metadata says.

Imports nothing of EdgeML. Read by test_tflite_metadata.py; targets/tflite_metadata.py describes the entries.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

_DTYPES = {"features": np.float32, "codes": np.int32}
_TABLES = ("find", "take")


class Refused(Exception):
    """A row that the pipeline refuses."""


class ByHand:
    """The file's signature ``serve`` for raw columns by name, or for a matrix under "X"."""

    def __init__(self, data: bytes) -> None:
        model = schema.ModelT.InitFromPackedBuf(data, 0)
        self._entries = {m.name: bytes(model.buffers[m.buffer].data) for m in model.metadata}
        self.facts: dict[str, Any] = json.loads(self._entries[b"edgeml"])
        self._serve = Interpreter(model_content=data, num_threads=1).get_signature_runner("serve")

    def answers(self, columns: dict[str, Any]) -> dict[str, Any]:
        """Results by method, with labels looked up."""
        given = self._serve(**{name: self.input(name, columns) for name in self.facts["inputs"]})
        if "refused" in given and given["refused"].any():
            raise Refused(self.facts["checks"][given["refused"].max() - 1])
        results = {}
        for method, described in self.facts["outputs"].items():
            x = given[method]
            if "labels" in described:
                tables = [np.array(cells, dtype=object) for cells in described["labels"]]
                x = tables[0][x] if x.ndim == 1 else np.stack([t[c] for t, c in zip(tables, x.T, strict=True)], 1)
            results[method] = x
        return results

    def input(self, name: str, columns: dict[str, Any]) -> Any:
        parts = []
        for group in self.facts["inputs"][name]:
            sources = group["from"]
            if len(sources) == 3 and sources[1] == "to":
                sources = [*range(sources[0], sources[2] + 1)]
            for j, source in enumerate(sources):
                raw = columns["X"][:, source] if isinstance(source, int) else columns[source]
                x = self._column(group, j, len(sources), raw)
                parts.append(x - group["minus"][j] if "minus" in group else x)
        return np.stack(parts, axis=1).astype(_DTYPES[name])

    def _column(self, group: dict[str, Any], j: int, width: int, raw: Any) -> Any:
        if "codes" in group:
            return self._codes(group["codes"][j], raw)
        x = raw if raw.dtype == np.float32 else raw.astype(np.float64)
        for name, *numbers in group["how"]:
            x = self._step(name, self._number(name, numbers[0], j, width) if numbers else None, x)
        if "edges" in group:
            edges = self._place(group["edges"][j])
            x = np.where(np.isnan(x), len(edges) + 1, (edges[None, :] < x[:, None]).sum(axis=1))
        return x

    def _number(self, name: str, numbers: Any, j: int, width: int) -> Any:
        if not isinstance(numbers, list):
            return numbers
        found = self._place(numbers)
        assert name in _TABLES or len(found) == width
        return found if name in _TABLES else float(found[j])

    def _place(self, place: Any) -> Any:
        dtype, first, count = place
        return np.frombuffer(self._entries[b"edgeml_edges"], dtype, count, first).astype(np.float64)

    @staticmethod
    def _step(name: str, numbers: Any, x: Any) -> Any:
        if name == "fill":
            return np.where(np.isnan(x), x.dtype.type(numbers), x)
        if name == "float32":
            return x.astype(np.float32)
        if name == "take":
            return numbers[x.astype(int)]
        if name == "find":
            equal = (x[:, None] == numbers) | (np.isnan(x)[:, None] & np.isnan(numbers))
            return np.where(equal.any(axis=1), equal.argmax(axis=1), -1).astype(np.float64)
        result = getattr(np, name)(x) if numbers is None else getattr(np, name)(x, numbers)
        return result.astype(np.float64) if result.dtype == bool else result

    @staticmethod
    def _codes(table: Any, raw: Any) -> Any:
        cells, values, other = table
        if isinstance(values, int):
            values = range(values, values + len(cells))
        known = dict(zip(cells, values, strict=True))
        found = [known.get("(NaN)" if isinstance(c, float) else c, other) for c in raw.tolist()]
        if None in found:
            raise Refused(raw[found.index(None)])
        return np.array(found)

"""Packs tables, vectors and strings into a flatbuffer, each content once: a TFLite file without repetitions.

The schema's object API writes every shape, every table of options and every tensor anew, some 100 bytes an operator;
a walk through trees has hundreds of operators that differ in nothing but their operands. A flatbuffer may point to a
table or a vector from as many places as it likes, which readers do not notice. Called by tflite_graph.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

ALIGNMENT = 16


class Packer:
    """One flatbuffer, built from its leaves to its root. Every method gives the place of what it has written."""

    def __init__(self, schema: Any) -> None:
        import flatbuffers

        self.schema = schema
        self._builder = flatbuffers.Builder(1024)
        self._places: dict[object, int] = {}

    def finish(self, root: int, identifier: bytes) -> bytes:
        """The file."""
        self._builder.Finish(root, identifier)
        return bytes(self._builder.Output())

    def numbers(self, values: Sequence[float], dtype: str = "int32") -> int:
        """A vector of numbers."""
        array = np.asarray(values, dtype=np.dtype(dtype).newbyteorder("<"))
        key = (dtype, array.tobytes())
        if key not in self._places:
            self._places[key] = self._builder.CreateNumpyVector(array)
        return self._places[key]

    def tables(self, places: Sequence[int]) -> int:
        """A vector of tables."""
        self._builder.StartVector(4, len(places), 4)
        for place in reversed(places):
            self._builder.PrependUOffsetTRelative(place)
        result: int = self._builder.EndVector()
        return result

    def text(self, text: str) -> int:
        """A string."""
        result: int = self._builder.CreateSharedString(text)
        return result

    def content(self, content: bytes) -> int:
        """A vector of bytes at a multiple of ALIGNMENT: what the schema asks for with ``force_align``."""
        builder, size = self._builder, len(content)
        builder.StartVector(1, size, ALIGNMENT)
        builder.head -= size
        builder.Bytes[builder.head : builder.head + size] = content
        result: int = builder.EndVector()
        return result

    def table(self, kind: str, **fields: int) -> int:
        """A table of the schema; fields in its spelling, numbers or places."""
        key = (kind, tuple(fields.items()))
        if key not in self._places:
            getattr(self.schema, f"{kind}Start")(self._builder)
            for name, value in fields.items():
                getattr(self.schema, f"{kind}Add{name}")(self._builder, value)
            self._places[key] = getattr(self.schema, f"{kind}End")(self._builder)
        return self._places[key]

    def options(self, filled: Any) -> int:
        """A table of an operator's options, from the schema's object."""
        key = (type(filled), tuple(sorted(vars(filled).items())))
        if key not in self._places:
            self._places[key] = filled.Pack(self._builder)
        return self._places[key]

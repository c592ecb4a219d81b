"""Outputs whose operations are added when a method is first asked for.

In the middle of a pipeline only ``transform`` counts. A method that is costly to convert, or that refuses
rows or parameters ``transform`` accepts, is given as a function here, so that it has no effect unless it
is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from edgeml.converters.block import Block
from edgeml.converters.registry import Conversion
from edgeml.ir import Value

Output = Value | Block


class LazyOutputs(Mapping[str, Output]):
    """Method name -> what it returns, from functions that are each called at most once."""

    def __init__(self, c: Conversion, outputs: Mapping[str, Callable[[], Output]]) -> None:
        self._builder, self._origin = c.builder, c.builder.origin
        self._functions = dict(outputs)
        self._known: dict[str, Output] = {}

    def __getitem__(self, method: str) -> Output:
        if method not in self._known:
            function = self._functions[method]
            with self._builder.at(self._origin):
                self._known[method] = function()
        return self._known[method]

    def __contains__(self, method: object) -> bool:
        return method in self._functions

    def __iter__(self) -> Iterator[str]:
        return iter(self._functions)

    def __len__(self) -> int:
        return len(self._functions)

"""Lines of an LLVM function in the making, with names for what they compute; ``row_entry.py`` writes its text so."""

from __future__ import annotations

from edgeml.runtimes.kernels.row_layout import SIGNATURES, TYPE_OFFSET, VALUE_OFFSET, Python


class Text:
    """Lines of a function in the making; names are made unique by a number."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._count = 0

    def name(self) -> str:
        self._count += 1
        return f"%v{self._count}"

    def line(self, text: str) -> None:
        self.lines.append(f"  {text}")

    def label(self, name: str) -> None:
        self.lines.append(f"{name}:")

    def value(self, text: str) -> str:
        """An instruction with a result; its name."""
        name = self.name()
        self.line(f"{name} = {text}")
        return name

    def field(self, base: str, at: int, kind: str = "ptr") -> str:
        """What lies in 8-byte field ``at`` behind ``base``."""
        return self.value(f"load {kind}, ptr {self.value(f'getelementptr i64, ptr {base}, i64 {at}')}")

    def python(self, what: Python) -> str:
        """An address of the table."""
        return self.value(f"load ptr, ptr getelementptr ([{len(Python)} x i64], ptr @python, i64 0, i64 {what})")

    def call(self, what: Python, arguments: str) -> str:
        """The result of a function of Python; empty for one that has none."""
        result, _ = SIGNATURES[what.name]
        call = f"call {result} {self.python(what)}({arguments})"
        if result == "void":
            self.line(call)
            return ""
        return self.value(call)

    def at_value(self, cell: str, kind: str) -> str:
        """The value within a float or a scalar."""
        return self.value(f"load {kind}, ptr {self.value(f'getelementptr i8, ptr {cell}, i64 {VALUE_OFFSET}')}")

    def type_of(self, cell: str) -> str:
        return self.value(f"load ptr, ptr {self.value(f'getelementptr i8, ptr {cell}, i64 {TYPE_OFFSET}')}")

    def branch(self, condition: str, yes: str, no: str) -> None:
        self.line(f"br i1 {self.value(condition)}, label %{yes}, label %{no}")

    def same(self, x: str, what: Python, yes: str, no: str) -> None:
        """To ``yes`` where ``x`` is that type or object."""
        self.branch(f"icmp eq ptr {x}, {self.python(what)}", yes, no)

    def to(self, label: str) -> None:
        self.line(f"br label %{label}")

"""Prints a program so that a person sees what runs on the device."""

from __future__ import annotations

import numpy as np

from edgeml.ir.program import Attr, Program

_CELLS = 4


def _text(value: Attr) -> str:
    if isinstance(value, np.ndarray):
        if value.size <= _CELLS:
            return np.array2string(value, separator=", ", precision=6, threshold=_CELLS).replace("\n", "")
        return f"{value.dtype}{list(value.shape)}"
    if isinstance(value, Program):
        return f"program of {len(value.nodes)} steps"
    if isinstance(value, tuple):
        shown = ", ".join(repr(c) for c in value[:_CELLS])
        return f"[{shown}, … {len(value)}]" if len(value) > _CELLS else f"[{shown}]"
    return repr(value)


def _attrs(op: str, attrs: dict[str, Attr]) -> str:
    if op in ("TreeEnsemble", "TreeLeaves"):
        nodes, leaves = len(attrs["feature"]), attrs["leaf_values"].shape
        return f"{len(attrs['roots'])} trees, {nodes} nodes, leaves {leaves[0]}x{leaves[1]}"
    return ", ".join(f"{k}={_text(v)}" for k, v in attrs.items())


def to_text(program: Program) -> str:
    """The program, a line a value: id, type, operation, and the pipeline step it came from."""
    rows: list[tuple[str, str, str, str]] = []
    for i, entry in enumerate(program.inputs):
        rows.append((f"%{i}", str(entry.type), f"input {entry.name!r}", ""))
    n = len(program.inputs)
    for i, node in enumerate(program.nodes):
        arguments = [f"%{v}" for v in node.inputs]
        attrs = _attrs(node.op, dict(node.attrs))
        rows.append(
            (
                f"%{n + i}",
                str(node.type),
                f"{node.op}({', '.join([*arguments, attrs] if attrs else arguments)})",
                node.origin,
            )
        )
    widths = [max((len(r[c]) for r in rows), default=0) for c in range(3)]
    lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:<{min(widths[2], 72)}}  {d}".rstrip() for a, b, c, d in rows]
    for i, node in reversed(list(enumerate(program.nodes))):
        bodies = [value for value in node.attrs.values() if isinstance(value, Program)]
        inner = [f"    {line}" for body in bodies for line in to_text(body).splitlines()]
        lines[n + i + 1 : n + i + 1] = inner
    for output in program.outputs.values():
        values = ", ".join(f"%{v}" for v in output.values)
        lines.append(f"{output.name} = {output.form} of {values} as {output.dtype}")
    return "\n".join(lines)

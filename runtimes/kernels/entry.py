"""The virtual machine, as LLVM text: ``int64_t edgeml_run(int64_t *call)``.

``call`` is a struct of 8-byte fields, see ``Call``: one pointer is what ctypes passes fastest. The machine
takes the rows from ``start`` to ``end`` in blocks and runs the instructions on each. An instruction is kernel
number, number of operands, value it computes, operands; a negative kernel number ends the stream. The result is
0, or 1 when a kernel refuses a cell: then ``value``, ``first`` (the block's first row) and ``cell`` (row in the
block * width + column) say which. A kernel that ends a round of a loop gives a negative number to go back by so many
words, from its own instruction; whether it does is asked behind the test that every kernel's result takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from edgeml.runtimes.kernels.registry import VIEWS, Kernel

VIEW_ORDER = tuple(VIEWS)


class Call(IntEnum):
    """Position of each field in the call."""

    CODE = 0  # instructions, int64
    CONSTANTS = 1
    PORTS = 2  # addresses of the input arrays, then of the output arrays
    SCRATCH = 3
    START = 4
    END = 5
    BLOCK = 6
    VALUE = 7  # from here on: where a row was refused
    FIRST = 8
    CELL = 9


HEADER = 3  # words of an instruction before its operands


def _type(view: str) -> str:
    return "ptr" if VIEWS[view].endswith("*") else "i64"


def _parameter(view: str) -> str:
    return f"{_type(view)} noalias %{view}" if view == "apart" else f"{_type(view)} %{view}"


_PARAMETERS = ", ".join(map(_parameter, VIEW_ORDER))


def thunk_text(kernel: Kernel, symbol: str, returns: bool) -> str:
    """``edgeml_op_NAME`` with all views as parameters, around a function of Numba: (result*, exception**,
    arguments).
    """
    declared = ", ".join(_type(view) for view in kernel.views)
    passed = ", ".join(f"{_type(view)} %{view}" for view in kernel.views)
    result = "%value = load i64, ptr %result\n  ret i64 %value" if returns else "ret i64 0"
    # LLVM's name for a function without vectors of its own making.
    scalar = " noimplicitfloat" if kernel.scalar else ""
    return f"""
declare i32 @{symbol}(ptr, ptr, {declared})
define i64 @edgeml_op_{kernel.name}({_PARAMETERS}){scalar} {{
  %result = alloca i64
  %exception = alloca ptr
  %status = call i32 @{symbol}(ptr %result, ptr %exception, {passed})
  {result}
}}
"""


def entry_text(kernels: Sequence[Kernel], identity: str) -> str:
    """The machine itself, and ``edgeml_identity``."""
    names = {kernel.number: f"edgeml_op_{kernel.name}" for kernel in kernels}
    count = max(names, default=0) + 1
    table = ", ".join(f"ptr @{names[number]}" if number in names else "ptr null" for number in range(count))
    types = ", ".join(_type(view) for view in VIEW_ORDER)
    source = {
        "words": "ptr %words", "f": "ptr %scratch", "i": "ptr %scratch", "h": "ptr %scratch",
        "b": "ptr %scratch", "apart": "ptr %scratch",
        "cf": "ptr %constants", "ci": "ptr %constants", "c32": "ptr %constants",
        "c8": "ptr %constants",
        "p64": "ptr %ports", "p32": "ptr %ports", "p8": "ptr %ports", "pi": "ptr %ports",
        "first": "i64 %first", "n": "i64 %n",
    }  # fmt: skip
    arguments = ", ".join(source[view] for view in VIEW_ORDER)
    fields = "\n".join(
        f"  %{name}_at = getelementptr i64, ptr %call, i64 {field}\n  %{name} = load {kind}, ptr %{name}_at"
        for name, field, kind in (
            ("code", Call.CODE, "ptr"),
            ("constants", Call.CONSTANTS, "ptr"),
            ("ports", Call.PORTS, "ptr"),
            ("scratch", Call.SCRATCH, "ptr"),
            ("start", Call.START, "i64"),
            ("end", Call.END, "i64"),
            ("block", Call.BLOCK, "i64"),
        )
    )
    declarations = "\n".join(f"declare i64 @{name}({types})" for name in names.values())
    return f"""
{declarations}
@edgeml_identity = constant [{len(identity) + 1} x i8] c"{identity}\\00"
@kernels = private constant [{count} x ptr] [{table}]

define i64 @edgeml_run(ptr %call) {{
entry:
{fields}
  br label %blocks
blocks:
  %first = phi i64 [ %start, %entry ], [ %next_first, %block_done ]
  %more = icmp slt i64 %first, %end
  br i1 %more, label %block_start, label %done
block_start:
  %next_first = add i64 %first, %block
  %rest = sub i64 %end, %first
  %short = icmp slt i64 %rest, %block
  %n = select i1 %short, i64 %rest, i64 %block
  br label %instructions
instructions:
  %at = phi ptr [ %code, %block_start ], [ %next_at, %ok ], [ %again_at, %jump ]
  %number = load i64, ptr %at
  %last = icmp slt i64 %number, 0
  br i1 %last, label %block_done, label %run
run:
  %length_at = getelementptr i64, ptr %at, i64 1
  %length = load i64, ptr %length_at
  %words = getelementptr i64, ptr %at, i64 {HEADER}
  %next_at = getelementptr i64, ptr %words, i64 %length
  %kernel_at = getelementptr [{count} x ptr], ptr @kernels, i64 0, i64 %number
  %kernel = load ptr, ptr %kernel_at
  %refused = call i64 %kernel({arguments})
  %fine = icmp eq i64 %refused, 0
  br i1 %fine, label %ok, label %not_fine
ok:
  br label %instructions
block_done:
  br label %blocks
not_fine:
  %back = icmp slt i64 %refused, 0
  br i1 %back, label %jump, label %refuse
jump:
  %again_at = getelementptr i64, ptr %at, i64 %refused
  br label %instructions
refuse:
  %value_from = getelementptr i64, ptr %at, i64 2
  %value = load i64, ptr %value_from
  %value_at = getelementptr i64, ptr %call, i64 {Call.VALUE}
  store i64 %value, ptr %value_at
  %first_at = getelementptr i64, ptr %call, i64 {Call.FIRST}
  store i64 %first, ptr %first_at
  %cell = sub i64 %refused, 1
  %cell_at = getelementptr i64, ptr %call, i64 {Call.CELL}
  store i64 %cell, ptr %cell_at
  ret i64 1
done:
  ret i64 0
}}
"""

"""What a kernel is, and how an op of the program reaches it: two decorators and two tables.

A kernel is a plain function over pointers that Numba can compile: no allocation, no objects, no exceptions. It
names the views it works on, in the order of its parameters, from ``VIEWS``. An encoder turns a node of a
program into instructions; it stands beside its kernels, so that adding an op touches one file. Importing needs
no Numba.

Values lie in the scratch buffer as 8-byte cells: float64, int64, bool as int64 0 or 1, and float32 as the
float64 of the same value, rounded to float32 after every operation that may leave float32. Column ``j`` of a
value at ``o`` starts at ``o + j * block``, its rows stand one behind the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgeml.errors import ProgramError

if TYPE_CHECKING:
    from edgeml.ir import Node
    from edgeml.runtimes.kernels.encode import Encoder

# View -> Numba type (see build.py). Several views are the same address under different types.
VIEWS = {
    "words": "int64*",  # operands of the instruction
    "f": "float64*",  # scratch
    "i": "int64*",  # scratch
    "h": "uint16*",  # scratch
    "b": "uint8*",  # scratch
    "apart": "uint8*",  # scratch that the kernel reaches by no other view: LLVM need not look whether they overlap
    "cf": "float64*",  # constants
    "ci": "int64*",  # constants
    "c32": "int32*",  # constants
    "c8": "uint8*",  # constants
    "p64": "int64**",  # ports: addresses of input and output arrays of 8-byte elements
    "p32": "float32**",
    "p8": "uint8**",
    "pi": "int32**",
    "first": "int64",  # row of the call that the block starts with
    "n": "int64",  # rows in the block
}

# Modules with kernels, in the order of compilation. A new file is entered here.
MODULES = (
    "move", "elementwise", "along_rows", "quantised", "tables", "ranks", "tree_ranks", "tree_codes", "tree_bits",
    "tree_deep", "trees", "checks", "counting", "text", "distances", "pairs", "iterate", "special", "remainder",
    "search",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Kernel:
    """``function(*views)`` works on one block of rows. It returns nothing, or 0 for done, 1 + (row * width +
    column) of the cell it refuses, or minus the words to go back by. LLVM makes no vectors in a ``scalar`` one.
    """

    name: str
    function: Callable[..., Any]
    views: tuple[str, ...]
    scalar: bool


KERNELS: dict[str, Kernel] = {}
Encode = Callable[["Encoder", "Node", int], None]
ENCODERS: dict[str, Encode] = {}


def kernel(name: str, views: str, *, scalar: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated function as kernel ``name`` over the named views, such as ``"words f n"``."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        names = tuple(views.split())
        if name in KERNELS or not set(names) <= VIEWS.keys():
            raise ProgramError(f"kernel {name} is declared twice, or over views that do not exist: {views}")
        KERNELS[name] = Kernel(name, function, names, scalar)
        return function

    return register


def encodes(*ops: str) -> Callable[[Encode], Encode]:
    """Register the decorated function as the encoder of ops: ``encode(encoder, node, value)`` emits instructions."""

    def register(encode: Encode) -> Encode:
        for op in ops:
            if op in ENCODERS:
                raise ProgramError(f"two encoders for op {op}")
            ENCODERS[op] = encode
        return encode

    return register


def load_all() -> Sequence[Kernel]:
    """Every kernel, in the order of their numbers in instructions."""
    for module in MODULES:
        import_module(f"edgeml.runtimes.kernels.{module}")
    # Whoever imports a module by itself has registered its kernels before others.
    return sorted(KERNELS.values(), key=lambda kernel: MODULES.index(kernel.function.__module__.rpartition(".")[2]))

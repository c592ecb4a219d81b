"""What a kernel is, and how an op of the program reaches it: two decorators and two tables.

A kernel is a plain function over pointers that Numba can compile: no allocation, no objects, no exceptions. It
names the views it works on, in the order of its parameters, from ``VIEWS``. An encoder turns a node of a
program into instructions; it stands beside its kernels, so that adding an op touches one file. Importing needs
no Numba. A module is imported when one of its kernels or encoders is asked for: most programs need few of them.

Values lie in the scratch buffer as 8-byte cells: float64, int64, bool as int64 0 or 1, and float32 as the
float64 of the same value, rounded to float32 after every operation that may leave float32. Column ``j`` of a
value at ``o`` starts at ``o + j * block``, its rows stand one behind the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgeml.errors import ProgramError
from edgeml.ir.ops import OPS

if TYPE_CHECKING:
    from edgeml.ir import Node
    from edgeml.runtimes.kernels.encode import Encoder

_PACKAGE = __name__.rpartition(".")[0]

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

# Modules with kernels, in the order of compilation. A new file is entered here. A kernel's number is its module's place
# in this list and its own in the module, so that it is the same whatever else is imported.
MODULES = (
    "move", "elementwise", "along_rows", "quantised", "tables", "ranks", "tree_ranks", "tree_codes", "tree_bits",
    "tree_deep", "trees", "checks", "counting", "text", "distances", "pairs", "iterate", "special", "remainder",
    "search",
)  # fmt: skip
SLOTS = 64  # numbers a module has
# Those with the encoders of ops_tensor, ops_ml and ops_raw; the encoders of the ops of another file are in the module
# that is called as it is.
_COMMON = ("move", "elementwise", "along_rows", "checks", "tables", "ranks", "trees")


@dataclass(frozen=True, slots=True)
class Kernel:
    """``function(*views)`` works on one block of rows. It returns nothing, or 0 for done, 1 + (row * width +
    column) of the cell it refuses, or minus the words to go back by. LLVM makes no vectors in a ``scalar`` one.
    It is kernel ``place`` of ``module``.
    """

    name: str
    function: Callable[..., Any]
    views: tuple[str, ...]
    scalar: bool
    module: str
    place: int

    @property
    def number(self) -> int:
        """Its number in instructions."""
        return MODULES.index(self.module) * SLOTS + self.place


KERNELS: dict[str, Kernel] = {}
Encode = Callable[["Encoder", "Node", int], None]
ENCODERS: dict[str, Encode] = {}


_counts: Counter[str] = Counter()


def kernel(
    name: str, views: str, *, scalar: bool = False, module: str = ""
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated function as kernel ``name`` over the named views, such as ``"words f n"``.

    ``module`` is the ``__name__`` of the file it belongs to, by default the one it is written in.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        names = tuple(views.split())
        if name in KERNELS or not set(names) <= VIEWS.keys():
            raise ProgramError(f"kernel {name} is declared twice, or over views that do not exist: {views}")
        home = (module or function.__module__).rpartition(".")[2]
        if _counts[home] == SLOTS:
            raise ProgramError(f"kernel {name} is one more than the {SLOTS} that a module may have")
        KERNELS[name] = Kernel(name, function, names, scalar, home, _counts[home])
        _counts[home] += 1
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


def encoder(op: str) -> Encode | None:
    """The encoder of an op, None where there is none."""
    if op not in ENCODERS and op in OPS:
        file = OPS[op].evaluate.__module__.rpartition("ops_")[2]
        _import_for(op, ENCODERS, (file,) if file in MODULES else _COMMON)
    return ENCODERS.get(op)


@cache
def number(name: str, module: str | None = None) -> int:
    """The number of a kernel in instructions; ``module`` is where it is likely to be."""
    _import_for(name, KERNELS, _COMMON if module is None else (module,))
    return KERNELS[name].number


def _import_for(name: str, table: Mapping[str, Any], likely: Sequence[str]) -> None:
    """Import modules until ``name`` is in the table: the likely ones, then all."""
    for module in (*likely, *MODULES):
        if name in table:
            return
        import_module(f"{_PACKAGE}.{module}")


def load_all() -> Sequence[Kernel]:
    """Every kernel, in the order of their numbers."""
    for module in MODULES:
        import_module(f"{_PACKAGE}.{module}")
    return sorted((kernel for kernel in KERNELS.values() if kernel.module in MODULES), key=lambda kernel: kernel.number)

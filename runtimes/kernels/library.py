"""Finds the compiled kernels: a library built beforehand, the object in the cache, or Numba now.

``entry`` gives the machine's address and what holds it in memory, or None with the reason in the log: then the
engine runs on NumPy. ``EDGEML_KERNELS`` decides: ``numpy`` for none, a path for a shared library, else the
first that is there.
"""

from __future__ import annotations

import ctypes
import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any

from edgeml.errors import EngineError
from edgeml.ir import elementary
from edgeml.runtimes.kernels import cache as objects
from edgeml.runtimes.kernels.registry import MODULES

_LOG = logging.getLogger("edgeml.kernels")
_LOCK = threading.Lock()
_FOLDER = Path(__file__).parent
# A library built for this platform lies here when the package brings one.
PREBUILT = _FOLDER / "_prebuilt"
_SYMBOLS = ("edgeml_run", "edgeml_row", "edgeml_python")


@dataclass(frozen=True, slots=True)
class Library:
    """``run`` holds the GIL: for single rows. ``run_blocks`` lets other threads run. ``row`` and ``python`` are the
    addresses of row_entry.py's function and table. ``source`` says where it is from.
    """

    run: Any
    run_blocks: Any
    row: int
    python: int
    source: str
    holder: Any


def identity() -> str:
    """SHA-256 of everything the kernels are made from. A library of other kernels does not fit our instructions."""
    digest = sha256()
    names = (*MODULES, "scalar", "registry", "entry", "row_entry", "row_layout", "build", "encode")
    for path in (*(_FOLDER / f"{name}.py" for name in names), Path(elementary.__file__)):
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()


def entry() -> Library | None:
    """The kernels' entry, the same for the life of the process as long as ``EDGEML_KERNELS`` stays as it is.

    Raises EngineError when ``EDGEML_KERNELS`` names a library that cannot be used.
    """
    with _LOCK:
        return _entry(os.environ.get("EDGEML_KERNELS", ""))


@cache
def _entry(choice: str) -> Library | None:
    if choice == "numpy":
        _LOG.info("EDGEML_KERNELS=numpy: the native engine runs on NumPy")
        return None
    if choice:
        return _shared(Path(choice))
    if PREBUILT.is_dir():
        for path in sorted(PREBUILT.iterdir()):
            try:
                return _shared(path)
            except EngineError as error:
                _LOG.warning("%s", error.cause)
    return _compiled()


# --- a shared library ---------------------------------------------------------------------------------------
def _shared(path: Path) -> Library:
    remedy = "build it from this version of EdgeML, or unset EDGEML_KERNELS"
    try:
        library = ctypes.CDLL(str(path))
        text = ctypes.cast(library.edgeml_identity, ctypes.c_char_p).value
        addresses = [ctypes.cast(getattr(library, name), ctypes.c_void_p).value for name in _SYMBOLS]
    except (OSError, AttributeError) as error:
        raise EngineError(f"the kernels' library {path} cannot be loaded: {error}", remedy) from None
    if text != identity().encode() or None in addresses:
        raise EngineError(f"the kernels' library {path} was built from other kernels", remedy)
    return _library([a or 0 for a in addresses], str(path), library)


def _library(addresses: Sequence[int], source: str, holder: Any) -> Library:
    arguments = (ctypes.c_int64, ctypes.c_void_p)
    run, row, python = addresses
    return Library(ctypes.PYFUNCTYPE(*arguments)(run), ctypes.CFUNCTYPE(*arguments)(run), row, python, source, holder)


# --- an object, from the cache or compiled now --------------------------------------------------------------
def _compiled() -> Library | None:
    try:
        import llvmlite
        from llvmlite import binding as llvm
    except ImportError as error:
        return _without(f"llvmlite cannot be imported ({error})")
    source = identity()
    key = cache_key(source, llvmlite.__version__, llvm)
    data, origin = objects.read(key), "the cache"
    if data is None:
        try:
            from edgeml.runtimes.kernels import build

            data, origin = build.emit(build.llvm_text(source), build.host()), "Numba"
        except Exception as error:  # not installed, or a version that compiles otherwise: NumPy gives the same answers
            return _without(f"Numba cannot compile them ({type(error).__name__}: {error})")
        kept = objects.write(key, data)
        _LOG.info("compiled the kernels; kept in %s", kept or "memory: the cache folder cannot be written")
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple().create_target_machine(codemodel="jitdefault", jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target)
    engine.add_object_file(llvm.ObjectFileRef.from_data(data))
    engine.finalize_object()
    found = [engine.get_function_address(n) or engine.get_global_value_address(n) for n in _SYMBOLS]
    return _library(found, origin, engine)


def cache_key(source: str, llvmlite_version: str, llvm: Any) -> str:
    """What the object depends on: kernels, compilers, and this machine's CPU."""
    versions = f"numba {_version('numba')} llvmlite {llvmlite_version}"
    machine = f"{llvm.get_process_triple()} {llvm.get_host_cpu_name()} {llvm.get_host_cpu_features().flatten()}"
    return sha256(f"{source} {versions} {machine}".encode()).hexdigest()[:32]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def _without(reason: str) -> Library | None:
    _LOG.warning(
        'no compiled kernels: %s; the native engine runs on NumPy, slower. pip install "edgeml-sdk[kernels]"', reason
    )
    return None

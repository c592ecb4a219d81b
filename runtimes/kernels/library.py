"""Finds the compiled kernels: a library built beforehand, the one in the cache, or Numba now.

``entry`` gives the machine's address and what holds it in memory, or None with the reason in the log: then the
engine runs on NumPy. ``EDGEML_KERNELS`` decides: ``numpy`` for none, a path for a shared library, else the
first that is there. ``edgeml warm`` calls ``entry`` and tells.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeml.errors import EngineError, KernelsError
from edgeml.runtimes.kernels import cache as objects
from edgeml.runtimes.kernels.key import FOLDER, cache_key, identity

if TYPE_CHECKING:
    import logging

_LOCK = threading.Lock()
# Where a shared library is an ELF file.
_LINKS = sys.platform == "linux"
# A library built for this platform lies here when the package brings one.
PREBUILT = FOLDER / "_prebuilt"
_SYMBOLS = ("edgeml_run", "edgeml_row", "edgeml_python")


@dataclass(frozen=True, slots=True)
class Library:
    """``run`` holds the GIL: for single rows. ``run_blocks`` lets other threads run. ``row`` and ``python`` are the
    addresses of row_entry.py's function and table. ``source`` says where it is from; ``path`` is its file, and where
    it has none ``unkept`` says why.
    """

    run: Any
    run_blocks: Any
    row: int
    python: int
    source: str
    holder: Any
    path: Path | None = None
    unkept: str = ""


def entry() -> Library | None:
    """The kernels' entry, the same for the life of the process as long as ``EDGEML_KERNELS`` stays as it is.

    Raises EngineError when ``EDGEML_KERNELS`` names a library that cannot be used.
    """
    with _LOCK:
        return _entry(os.environ.get("EDGEML_KERNELS", ""))


@cache
def _entry(choice: str) -> Library | None:
    if choice == "numpy":
        _log().info("EDGEML_KERNELS=numpy: the native engine runs on NumPy")
        return None
    try:
        source = identity()
    except OSError as error:
        return _without(f"EdgeML's own sources cannot be read ({error})")
    if choice:
        return _shared(Path(choice), source)
    if PREBUILT.is_dir():
        for path in sorted(PREBUILT.iterdir()):
            try:
                return _shared(path, source)
            except EngineError as error:
                _log().warning("%s", error.cause)
    return _compiled(source)


def warm(*, make: bool) -> Library:
    """The kernels that the next process will find, for ``edgeml warm``; made where there are none and ``make`` is set.

    Raises KernelsError where there are none, none can be made, or what was made cannot be kept, and EngineError where
    ``EDGEML_KERNELS`` names a library that cannot be used.
    """
    choice = os.environ.get("EDGEML_KERNELS", "")
    if choice or PREBUILT.is_dir():
        library = entry()
    else:
        source = identity()
        key = cache_key(source)
        library = _cached(key, source)
        if library is None and not make:
            raise KernelsError(f"no kernels of this version are kept in {objects.folder()}", "run `edgeml warm`")
        library = library or _make(key, source)
    if library is None:
        raise KernelsError(f"EDGEML_KERNELS={choice} asks for no compiled kernels", "unset EDGEML_KERNELS")
    if library.path is None:
        remedy = "let EDGEML_CACHE_DIR name a folder that this user, and no other, can write"
        raise KernelsError(f"the kernels compile, but cannot be kept: {library.unkept}", remedy)
    return library


# --- a shared library ---------------------------------------------------------------------------------------
def _shared(path: Path, source: str) -> Library:
    remedy = "build it from this version of EdgeML, or unset EDGEML_KERNELS"
    try:
        library = ctypes.CDLL(str(path.absolute()))  # a name without a folder is looked for where the system's are
        text = ctypes.cast(library.edgeml_identity, ctypes.c_char_p).value
        addresses = [ctypes.cast(getattr(library, name), ctypes.c_void_p).value for name in _SYMBOLS]
    except (OSError, AttributeError) as error:
        raise EngineError(f"the kernels' library {path} cannot be loaded: {error}", remedy) from None
    if text != source.encode() or None in addresses:
        raise EngineError(f"the kernels' library {path} was built from other kernels", remedy)
    return _library([a or 0 for a in addresses], str(path), library, path)


def _library(addresses: Sequence[int], source: str, holder: Any, path: Path | None = None) -> Library:
    run, row, table = addresses
    arguments = (ctypes.c_int64, ctypes.c_void_p)
    python = ctypes.CFUNCTYPE(ctypes.c_void_p)(table)() or 0
    return Library(
        ctypes.PYFUNCTYPE(*arguments)(run), ctypes.CFUNCTYPE(*arguments)(run), row, python, source, holder, path
    )


# --- the cache, or Numba ------------------------------------------------------------------------------------
def _compiled(source: str) -> Library | None:
    try:
        key = cache_key(source)
    except ImportError as error:
        return _without(f"llvmlite cannot be imported ({error})")
    if library := _cached(key, source):
        return library
    try:
        library = _make(key, source)
    except KernelsError as error:
        return _without(error.cause)
    _log().info("compiled the kernels; kept in %s", library.path or f"memory: {library.unkept}")
    return library


def _make(key: str, source: str) -> Library:
    try:
        from edgeml.runtimes.kernels import build

        data = build.emit(build.llvm_text(source), build.host())
    except Exception as error:  # not installed, or a version that compiles otherwise: NumPy gives the same answers
        cause = f"Numba cannot compile them ({type(error).__name__}: {error})"
        raise KernelsError(cause, "pip install 'edgeml-sdk[kernels]'") from error
    return _keep(key, source, data)


def _cached(key: str, source: str) -> Library | None:
    if _LINKS and (found := objects.read(key, ".so")):
        try:
            return replace(_shared(found[0], source), source="the cache")
        except EngineError as error:
            _log().info("%s", error.cause)
    if found := objects.read(key, ".o"):
        try:
            return replace(_in_memory(found[1], "the cache"), path=found[0])
        except ImportError as error:
            _log().info("an object needs llvmlite: %s", error)
    return None


def _keep(key: str, source: str, data: bytes) -> Library:
    """The object as a library, and in the cache if that can be.

    It is kept linked, except where that cannot be loaded: no ELF, a processor link.py does not know, a folder mounted
    without the right to execute. There the object itself is kept, for llvmlite.
    """
    if _LINKS:
        from edgeml.runtimes.kernels.link import LinkError, shared

        try:
            path = objects.write(key, ".so", shared(data))
            if isinstance(path, str):
                return replace(_in_memory(data, "Numba"), unkept=path)
            try:
                return replace(_shared(path, source), source="Numba")
            except EngineError as error:
                objects.remove(path)
                _log().info("%s", error.cause)
        except LinkError as error:
            _log().info("the kernels cannot be linked: %s", error)
    path = objects.write(key, ".o", data)
    library = _in_memory(data, "Numba")
    return replace(library, unkept=path) if isinstance(path, str) else replace(library, path=path)


def _in_memory(data: bytes, source: str) -> Library:
    """An object, placed in memory by LLVM: 50 MB of llvmlite, needed by whoever has just compiled."""
    from llvmlite import binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple().create_target_machine(codemodel="jitdefault", jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target)
    engine.add_object_file(llvm.ObjectFileRef.from_data(data))
    engine.finalize_object()
    return _library([engine.get_function_address(name) for name in _SYMBOLS], source, engine)


def _log() -> logging.Logger:
    import logging  # 7 ms, and a start with kernels says nothing

    return logging.getLogger("edgeml.kernels")


def _without(reason: str) -> Library | None:
    _log().warning(
        'no compiled kernels: %s; the native engine runs on NumPy, slower. pip install "edgeml-sdk[kernels]"', reason
    )
    return None

"""From the kernels to one object file, for this machine or another: Numba gives LLVM text, llvmlite the object.

The object defines ``edgeml_run``, the virtual machine that ``entry.py`` describes, ``edgeml_row``, the reader of
``row_entry.py``, a function ``edgeml_op_NAME`` a kernel, and needs no symbol of any library. Host and cross targets
take one path.
``library.py`` calls this when there is no cached object; the tests call it for ARM in a child process, because
LLVM aborts the process on some failures.
"""

from __future__ import annotations

import dis
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CellType, FunctionType
from typing import Any

from edgeml.runtimes.kernels.entry import entry_text, thunk_text
from edgeml.runtimes.kernels.key import features
from edgeml.runtimes.kernels.registry import VIEWS, Kernel, load_all
from edgeml.runtimes.kernels.row_entry import row_text


@dataclass(frozen=True, slots=True)
class Machine:
    """What to compile for: LLVM's target triple, CPU name and feature string."""

    triple: str
    cpu: str = ""
    features: str = ""


def host() -> Machine:
    """This machine."""
    from llvmlite import binding as llvm

    return Machine(llvm.get_process_triple(), llvm.get_host_cpu_name(), features(llvm.get_host_cpu_features()))


def emit(text: str, machine: Machine) -> bytes:
    """An object file for ``machine`` from the text of ``llvm_text``."""
    from llvmlite import binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    if machine.triple != llvm.get_process_triple():
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
    target = llvm.Target.from_triple(machine.triple).create_target_machine(
        cpu=machine.cpu, features=machine.features, opt=3, reloc="pic", codemodel="default"
    )
    module = llvm.parse_assembly(text)
    module.triple = machine.triple
    module.data_layout = str(target.target_data)
    module.verify()
    # The O3 pipeline with vectorisation. No fast-math flag is set anywhere, so sums keep their order.
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = True
    options.slp_vectorization = True
    passes = llvm.create_pass_builder(target, options)
    passes.getModulePassManager().run(module, passes)
    return bytes(target.emit_object(module))


# --- Numba: from functions to LLVM text ---------------------------------------------------------------------
def llvm_text(identity: str) -> str:
    """One LLVM module, as text without a target, with every kernel and the entry.

    ``identity`` is kept in it as the string ``edgeml_identity``. Takes a few seconds: Numba reads every kernel.
    """
    from llvmlite import binding as llvm

    kernels, jit = load_all(), _Jit()
    merged = llvm.parse_assembly("")
    with _plain_numba():
        for kernel in kernels:
            for text, symbol, returns in jit.compile(kernel):
                part = llvm.parse_assembly(_without_target(text))
                for function in part.functions:
                    if not function.is_declaration and not function.name.startswith("NRT_"):
                        function.add_function_attribute("alwaysinline")
                for variable in part.global_variables:
                    if not variable.is_declaration:
                        variable.linkage = "internal"
                merged.link_in(part)
                if symbol:
                    merged.link_in(llvm.parse_assembly(thunk_text(kernel, symbol, returns)))
    merged.link_in(llvm.parse_assembly(entry_text(kernels, identity)))
    merged.link_in(llvm.parse_assembly(row_text()))
    public = {"edgeml_run", "edgeml_row", "edgeml_python", *(f"edgeml_op_{k.name}" for k in kernels)}
    for function in merged.functions:
        if not function.is_declaration and function.name not in public:
            function.linkage = "internal"
    return _freestanding(_without_target(str(merged)))


class _Jit:
    """Compiles kernels. The functions a kernel calls are plain Python too: they are compiled in its place."""

    def __init__(self) -> None:
        self._dispatchers: dict[int, Any] = {}
        self._seen: list[Any] = []

    def compile(self, kernel: Kernel) -> Iterator[tuple[str, str, bool]]:
        """(LLVM text, symbol, whether it returns a number) of the kernel; for the functions it calls the symbol
        is empty.
        """
        from numba.core import compiler, types
        from numba.core.registry import cpu_target

        flags = compiler.Flags()
        flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
        flags.release_gil = True
        flags.error_model = "numpy"
        arguments = tuple(_numba_type(VIEWS[view]) for view in kernel.views)
        result = compiler.compile_extra(
            cpu_target.typing_context,
            cpu_target.target_context,
            self._clone(kernel.function),
            arguments,
            None,
            flags,
            {},
        )
        returns = result.signature.return_type
        if returns not in (types.none, types.int64):
            raise TypeError(f"kernel {kernel.name} returns {returns}, it may return int64 or nothing")
        for library in result.library._linking_libraries:
            if library not in self._seen:
                self._seen.append(library)
                yield library.get_llvm_str(), "", False
        yield result.library.get_llvm_str(), result.fndesc.mangled_name, returns == types.int64

    def _clone(self, function: FunctionType | Callable[..., Any]) -> FunctionType:
        """The function with the EdgeML functions it names replaced by compiled ones."""
        assert isinstance(function, FunctionType)
        names = {i.argval for i in dis.get_instructions(function) if i.opname == "LOAD_GLOBAL"}
        scope = {k: self._resolve(v) for k, v in function.__globals__.items() if k in names}
        scope["__builtins__"] = __builtins__
        scope["__name__"] = function.__module__
        cells = tuple(CellType(self._resolve(cell.cell_contents)) for cell in function.__closure__ or ())
        clone = FunctionType(function.__code__, scope, function.__name__, function.__defaults__, cells)
        clone.__qualname__ = function.__qualname__
        return clone

    def _resolve(self, value: Any) -> Any:
        from numba import njit

        if not isinstance(value, FunctionType) or not value.__module__.startswith("edgeml."):
            return value
        if value.__name__ in _INTRINSICS and id(value) not in self._dispatchers:
            self._dispatchers[id(value)] = _INTRINSICS[value.__name__]()
        if id(value) not in self._dispatchers:
            options = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
            self._dispatchers[id(value)] = njit(nogil=True, error_model="numpy", **options)(self._clone(value))
        return self._dispatchers[id(value)]


def _trailing_zeros() -> Any:
    """scalar.trailing_zeros as LLVM's own, which has vectors of it: two instructions where sums of bits take twelve."""
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic

    @intrinsic  # type: ignore[untyped-decorator]  # Numba has no types
    def trailing_zeros(context: Any, x: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

        return types.uint8(types.uint8), emit

    return trailing_zeros


# Functions of ours, by name, that LLVM has an instruction for.
_INTRINSICS = {"trailing_zeros": _trailing_zeros}


def _numba_type(name: str) -> Any:
    from numba import types

    stars = len(name) - len(name.rstrip("*"))
    result = getattr(types, name.rstrip("*"))
    for _ in range(stars):
        result = types.CPointer(result)
    return result


@contextmanager
def _plain_numba() -> Iterator[None]:
    """Numba without its optimiser, which would vectorise for this CPU; under its lock, so that no one else is
    touched.
    """
    from numba.core import config
    from numba.core.compiler_lock import global_compiler_lock

    with global_compiler_lock:
        before = config.OPT, config.LOOP_VECTORIZE, config.DISABLE_JIT
        config.OPT, config.LOOP_VECTORIZE, config.DISABLE_JIT = type(config.OPT)(0), 0, 0
        try:
            yield
        finally:
            config.OPT, config.LOOP_VECTORIZE, config.DISABLE_JIT = before


def _without_target(text: str) -> str:
    """LLVM text without what ties it to the machine it was made on."""
    lines = (line for line in text.split("\n") if not line.startswith("target "))
    return "\n".join(line.replace("= common ", "= internal ") for line in lines)


def _freestanding(text: str) -> str:
    """LLVM text whose loops do not become calls of memset, whose functions need no unwinder, and whose square
    root is the instruction: Numba calls libm's, trusting LLVM to know that name.
    """
    text = text.replace("@sqrt(", "@llvm.sqrt.f64(")
    return re.sub(r"(?m)^(define .*) \{$", r'\1 nounwind "no-builtins" {', text)

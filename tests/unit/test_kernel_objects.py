"""The kernels compile for other machines and need no library there; a library of them is found and checked."""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from edgeml.errors import EngineError
from edgeml.runtimes.kernels import key, library
from edgeml.runtimes.kernels.registry import load_all
from tests.kernel_tools import RUN, run_child

# LLVM aborts the process on some failures, so objects for other machines are made in a child.
CHILD = """
import json, sys
from edgeml.runtimes.kernels.build import Machine, emit, llvm_text
text = llvm_text("identity")
for path, machine in json.loads(sys.argv[1]).items():
    with open(path, "wb") as file:
        file.write(emit(text, Machine(*machine)))
"""
MACHINES = {
    "arm64": ("aarch64-unknown-linux-gnu", "cortex-a72", ""),
    "armv7": ("armv7-unknown-linux-gnueabihf", "cortex-a7", "+vfp4,+neon"),
}
# What the ARM run-time ABI gives every program: 64-bit integers to and from floating point.
ARMV7_HELPERS = {"__aeabi_d2lz", "__aeabi_l2d", "__aeabi_l2f", "__aeabi_ul2d"}


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    """Object files by machine."""
    folder = tmp_path_factory.mktemp("objects")
    paths = {name: folder / f"{name}.o" for name in MACHINES}
    machines = json.dumps({str(paths[name]): machine for name, machine in MACHINES.items()})
    done = subprocess.run([sys.executable, "-c", CHILD, machines], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {name: path.read_bytes() for name, path in paths.items()}


def symbols(data):
    """(defined, undefined) symbol names of an ELF object, read by hand: llvmlite cannot list them."""
    wide = data[4] == 2
    number = {2: np.uint16, 4: np.uint32, 8: np.uint64}

    def field(at, size):
        return int(np.frombuffer(data, number[size], 1, at)[0])

    table, size, count = (field(0x28, 8), field(0x3A, 2), field(0x3C, 2)) if wide else (
        field(0x20, 4), field(0x2E, 2), field(0x30, 2))  # fmt: skip
    sections = []
    for i in range(count):
        at = table + i * size
        kind = field(at + 4, 4)
        place = (field(at + 0x18, 8), field(at + 0x20, 8), field(at + 0x28, 4)) if wide else (
            field(at + 0x10, 4), field(at + 0x14, 4), field(at + 0x18, 4))  # fmt: skip
        sections.append((kind, *place))
    defined, undefined = set(), set()
    for kind, start, length, link in sections:
        if kind != 2:  # SHT_SYMTAB
            continue
        entry = 24 if wide else 16
        for at in range(start + entry, start + length, entry):  # the first entry is empty
            name_at = sections[link][1] + field(at, 4)
            name = data[name_at : data.index(b"\0", name_at)].decode()
            (undefined if field(at + (6 if wide else 14), 2) == 0 else defined).add(name)
    return defined, undefined


def public():
    return {
        "edgeml_run",
        "edgeml_row",
        "edgeml_python",
        "edgeml_identity",
        *(f"edgeml_op_{kernel.name}" for kernel in load_all()),
    }


def test_every_kernel_compiles_for_arm64_without_a_library(objects):
    defined, undefined = symbols(objects["arm64"])
    assert objects["arm64"][18] == 183  # EM_AARCH64
    assert undefined == set()
    assert public() <= defined


def test_every_kernel_compiles_for_armv7_with_integer_helpers_only(objects):
    defined, undefined = symbols(objects["armv7"])
    assert objects["armv7"][18] == 40  # EM_ARM
    assert undefined <= ARMV7_HELPERS
    assert public() <= defined


def test_no_fused_multiply_add_reaches_an_object(shared):
    """A fused operation rounds once where scikit-learn rounds twice."""
    objdump = shutil.which("llvm-objdump") or shutil.which("objdump")
    if objdump is None:
        pytest.skip("neither llvm-objdump nor objdump is installed")
    path = shared
    listing = subprocess.run([objdump, "-d", str(path)], capture_output=True, text=True, check=True).stdout
    assert "edgeml_op_linear" in listing
    assert [line for line in listing.split("\n") if "vfmadd" in line or "fmla" in line or "\tfmadd" in line] == []


# --- a library built beforehand -----------------------------------------------------------------------------
@pytest.fixture(scope="module")
def shared():
    """The library that the cache holds for this machine: a file like any other."""
    found = library.entry()
    assert found is not None
    if found.path is None or found.path.suffix != ".so":
        pytest.skip(f"this platform keeps no shared library: {found.unkept or found.path}")
    return found.path


def test_a_shared_library_needs_no_llvmlite(shared):
    assert run_child(RUN, EDGEML_KERNELS=str(shared)).stdout.split() == [str(shared), "True"]


def test_a_library_of_other_kernels_is_refused(shared, tmp_path, monkeypatch):
    other = tmp_path / "other.so"
    text = key.identity().encode()
    other.write_bytes(shared.read_bytes().replace(text, text[::-1]))
    monkeypatch.setenv("EDGEML_KERNELS", str(other))
    with pytest.raises(EngineError, match="was built from other kernels"):
        library.entry()


def test_a_library_beside_the_package_is_taken_first(shared, tmp_path, monkeypatch):
    folder = tmp_path / "_prebuilt"
    folder.mkdir()
    shutil.copy(shared, folder / "edgeml.so")
    (folder / "broken.so").write_bytes(b"not a library")
    monkeypatch.setattr(library, "PREBUILT", folder)
    found = library._entry.__wrapped__("")
    assert found is not None
    assert found.source == str(folder / "edgeml.so")


def test_the_struct_of_a_call_is_as_the_machine_reads_it():
    """An empty stream over no rows returns 0 and touches nothing."""
    found = library.entry()
    call = np.zeros(10, dtype=np.int64)
    code = np.array([-1], dtype=np.int64)
    call[0], call[5], call[6] = code.ctypes.data, 1, 1
    before = call.copy()
    assert found.run(ctypes.c_void_p(call.ctypes.data)) == 0
    np.testing.assert_array_equal(call, before)

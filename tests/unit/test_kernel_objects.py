"""The kernels compile for other machines, need no library there, and are found, kept and guarded on this one."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from edgeml.errors import EngineError
from edgeml.runtimes.kernels import cache, library
from edgeml.runtimes.kernels.registry import load_all

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
ARMV7_HELPERS = {"__aeabi_d2lz", "__aeabi_l2d", "__aeabi_l2f"}


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


def test_no_fused_multiply_add_reaches_an_object(tmp_path):
    """A fused operation rounds once where scikit-learn rounds twice."""
    objdump = shutil.which("llvm-objdump") or shutil.which("objdump")
    if objdump is None:
        pytest.skip("neither llvm-objdump nor objdump is installed")
    path = tmp_path / "host.o"
    path.write_bytes(host_object())
    listing = subprocess.run([objdump, "-d", str(path)], capture_output=True, text=True, check=True).stdout
    assert "edgeml_op_linear" in listing
    assert [line for line in listing.split("\n") if "vfmadd" in line or "fmla" in line or "\tfmadd" in line] == []


def host_object():
    """The object this process runs, from the cache."""
    import llvmlite
    from llvmlite import binding as llvm

    assert library.entry() is not None
    data = cache.read(library.cache_key(library.identity(), llvmlite.__version__, llvm))
    assert data is not None, f"the tests need a cache folder that can be written, not {cache.folder()}"
    return data


# --- a library built beforehand -----------------------------------------------------------------------------
@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """The host's object, linked by the C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler is installed to link with")
    folder = tmp_path_factory.mktemp("shared")
    (folder / "kernels.o").write_bytes(host_object())
    path = folder / "kernels.so"
    subprocess.run([compiler, "-shared", "-nostdlib", "-o", str(path), str(folder / "kernels.o")], check=True)
    return path


RUN = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("numba", "llvmlite"):
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Blocked())
import numpy as np
from edgeml.ir import Builder
from edgeml.runtimes.kernels import library
from edgeml.runtimes.native_code import KernelExecutor, NumpyExecutor
b = Builder()
x = b.input("x", "float64", 3)
b.output("y", [b.softmax(x)], "matrix", "<f8")
program, columns = b.finish(), {"x": np.random.default_rng(0).normal(size=(1000, 3))}
found = library.entry()
executors = KernelExecutor(program, found, 1), NumpyExecutor(program)
same = np.array_equal(*(executor.run(columns, 1000, ("y",))["y"][0] for executor in executors))
print(found.source, same)
"""


def run_child(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


def test_a_shared_library_needs_no_llvmlite(shared):
    assert run_child(RUN, EDGEML_KERNELS=str(shared)).stdout.split() == [str(shared), "True"]


def test_a_library_of_other_kernels_is_refused(shared, tmp_path, monkeypatch):
    other = tmp_path / "other.so"
    text = library.identity().encode()
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


# --- the cache ----------------------------------------------------------------------------------------------
@pytest.fixture
def folder(tmp_path, monkeypatch):
    path = tmp_path / "cache"
    monkeypatch.setenv("EDGEML_CACHE_DIR", str(path))
    return path


def test_the_cache_gives_back_what_it_was_given(folder):
    assert cache.read("k") is None
    assert cache.write("k", b"an object") == folder / "kernels-k.o"
    assert cache.read("k") == b"an object"
    assert cache.write("k", b"another") is not None
    assert cache.read("k") == b"another"
    assert [p.name for p in folder.iterdir()] == ["kernels-k.o"]


@pytest.mark.parametrize(
    "damage", [lambda d: d[:-1], lambda d: d[:40] + b"x" + d[41:], lambda d: d[:10], lambda d: b""]
)
def test_a_damaged_object_is_not_used(folder, damage):
    path = cache.write("k", b"an object")
    path.write_bytes(damage(path.read_bytes()))
    assert cache.read("k") is None


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows has no permission bits")
def test_an_object_others_may_write_is_not_used(folder):
    path = cache.write("k", b"an object")
    path.chmod(0o666)
    assert cache.read("k") is None


def test_a_folder_that_cannot_be_made_is_no_failure(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("EDGEML_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert cache.write("k", b"an object") is None
    assert cache.read("k") is None


def test_a_folder_that_cannot_be_written_is_no_failure(folder, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError("read-only file system")

    monkeypatch.setattr(cache.tempfile, "mkstemp", refuse)
    assert cache.write("k", b"an object") is None


def test_a_write_that_fails_leaves_nothing_behind(folder, monkeypatch):
    def refuse(*args):
        raise OSError("no space left on device")

    monkeypatch.setattr(cache.os, "replace", refuse)
    assert cache.write("k", b"an object") is None
    assert list(folder.iterdir()) == []


def test_the_key_follows_the_kernels(monkeypatch, tmp_path):
    before = library.identity()
    copied = tmp_path / "kernels"
    shutil.copytree(library._FOLDER, copied, ignore=shutil.ignore_patterns("__pycache__", "_prebuilt"))
    monkeypatch.setattr(library, "_FOLDER", copied)
    assert library.identity() == before
    (copied / "trees.py").write_text((copied / "trees.py").read_text() + "\n# changed\n")
    assert library.identity() != before


def test_the_folder_follows_the_platform(monkeypatch):
    monkeypatch.delenv("EDGEML_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    if sys.platform == "linux":
        assert str(cache.folder()) == "/somewhere/edgeml"


def test_two_processes_may_start_at_once(folder, tmp_path):
    """Both find an empty cache, both compile, both run, and the one object that stays is whole."""
    few = "from edgeml.runtimes.kernels import registry; registry.MODULES = ('move', 'along_rows')"  # fewer seconds
    code = RUN.replace('in ("numba", "llvmlite")', "in ()").replace("import numpy as np", few + "\nimport numpy as np")
    environment = {**os.environ, "EDGEML_CACHE_DIR": str(folder)}
    command = [sys.executable, "-c", code]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    assert [p.communicate()[0].strip() for p in running] == ["Numba True", "Numba True"]
    assert len(list(folder.iterdir())) == 1
    assert run_child(code).stdout.strip() == "the cache True"


def test_a_numba_that_cannot_compile_is_no_failure(folder, monkeypatch, caplog):
    from edgeml.runtimes.kernels import build

    def refuse(identity):
        raise TypeError("another version of Numba")

    monkeypatch.setattr(build, "llvm_text", refuse)
    assert library._compiled() is None
    assert "Numba cannot compile them (TypeError: another version of Numba)" in caplog.text

"""The key of compiled kernels: it changes with all they depend on, and with nothing else."""

from __future__ import annotations

import ast
import os
import shutil
import sys
from pathlib import Path
from types import FunctionType

import pytest

from edgeml.runtimes.kernels import key
from edgeml.runtimes.kernels.registry import load_all


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """The kernels' sources, to be changed."""
    path = tmp_path / "kernels"
    shutil.copytree(key.FOLDER, path, ignore=shutil.ignore_patterns("__pycache__", "_prebuilt"))
    monkeypatch.setattr(key, "FOLDER", path)
    return path


@pytest.mark.parametrize("file", ["trees.py", "scalar.py", "registry.py", "build.py", "entry.py", "encode.py"])
def test_the_key_follows_kernels_and_what_they_call(copied, file):
    """numba#4807: a function that a kernel calls has changed, and neither the kernel nor the file's time has."""
    before, status = key.identity(), (copied / file).stat()
    (copied / file).write_text((copied / file).read_text() + "\n# changed\n")
    os.utime(copied / file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert key.identity() != before
    assert key.cache_key(key.identity()) != key.cache_key(before)


def test_the_key_follows_nothing_but_the_text(copied):
    before = key.identity()
    for path in copied.iterdir():
        os.utime(path, (0, 0))
    assert key.identity() == before
    shutil.copy(copied / "trees.py", copied / "more_trees.py")  # a new file of kernels
    assert key.identity() != before


def reached(function, found):
    """Files of every function of ours that a kernel calls, however far."""
    if (
        isinstance(function, FunctionType)
        and (function.__module__ or "").startswith("edgeml.")
        and function not in found
    ):
        found[function] = Path(function.__code__.co_filename).resolve()
        cells = [cell.cell_contents for cell in function.__closure__ or ()]
        for value in [*(function.__globals__.get(name) for name in function.__code__.co_names), *cells]:
            reached(value, found)
    return found


def test_the_key_covers_every_file_a_kernel_reaches():
    covered = {path.resolve() for path in key.sources()}
    found = {}
    for kernel in load_all():
        reached(kernel.function, found)
    assert len(found) > len(load_all())
    assert set(found.values()) <= covered


def test_the_key_covers_the_constants_that_kernels_read():
    """A number of another module is compiled in: such a module must be one whose text is in the key."""
    covered = {path.stem for path in key.sources()}
    for kernel in load_all():
        module = sys.modules[kernel.function.__module__]
        imported = {
            alias.asname or alias.name: node.module
            for node in ast.walk(ast.parse(Path(module.__file__).read_text()))
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("edgeml")
            for alias in node.names
        }
        for name in kernel.function.__code__.co_names:
            if name in imported:
                assert imported[name].rpartition(".")[2] in covered, (kernel.name, name)


CPUINFO = "processor : 0\nvendor_id : V\nmodel name : M\nflags : fpu avx2\ncpu MHz : {}\n\nprocessor : 1\nflags : fpu\n"


def test_the_key_follows_the_cpu_and_not_its_speed(monkeypatch):
    assert key._read_cpu(CPUINFO.format(1)) == {"vendor_id": "V", "model name": "M", "flags": "fpu avx2"}
    assert key._read_cpu(CPUINFO.format(1)) == key._read_cpu(CPUINFO.format(2))
    keys = set()
    for flags in ("fpu avx2", "fpu avx"):
        monkeypatch.setattr(key, "cpu_lines", lambda flags=flags: {"flags": flags})
        keys.add(key.cache_key("source"))
    assert len(keys) == 2


def test_the_key_follows_the_versions(monkeypatch):
    before = key.cache_key("source")
    assert key.cache_key("another") != before
    monkeypatch.setattr(key, "__version__", "0.0.0")
    assert key.cache_key("source") != before
    monkeypatch.undo()
    monkeypatch.setattr(sys, "path", [])
    assert key.cache_key("source") != before  # without Numba


def test_versions_are_read_from_the_names_of_folders(tmp_path, monkeypatch):
    from importlib import metadata

    assert key.installed(["numba", "absent"]) == {"numba": metadata.version("numba"), "absent": "none"}
    (tmp_path / "numba-0.1.dist-info").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path / "absent"), str(tmp_path), *sys.path])
    assert key.installed(["numba"]) == {"numba": "0.1"}


def test_features_that_linux_does_not_name_are_not_used(monkeypatch):
    of_llvm = {
        "avx2": True,
        "sse4.2": True,
        "bmi": True,
        "avx512vl": True,
        "newer": True,
        "amx-tile": True,
        "sse3": False,
    }
    lines = {"flags": "fpu avx2 sse4_2 bmi1 avx512vl amx_tile pni"}
    monkeypatch.setattr(key, "cpu_lines", lambda: lines)
    assert key.features(of_llvm) == "+avx2,+sse4.2,+bmi,+avx512vl,-newer,+amx-tile,-sse3"
    lines.clear()  # no x86, or no Linux: LLVM is believed
    assert "+newer" in key.features(of_llvm)


@pytest.mark.skipif(not key.cpu_lines().get("flags"), reason="Linux's names of x86 features")
def test_linux_names_the_features_that_make_kernels_fast():
    """A wrong name in the table would cost speed without a word."""
    from llvmlite import binding as llvm

    of_llvm = llvm.get_host_cpu_features()
    used = set(key.features(of_llvm).split(","))
    fast = (
        "avx",
        "avx2",
        "avx512f",
        "avx512bw",
        "avx512vl",
        "bmi",
        "bmi2",
        "lzcnt",
        "popcnt",
        "sse3",
        "ssse3",
        "sse4.2",
    )
    assert {f"+{name}" for name in fast if of_llvm.get(name)} <= used

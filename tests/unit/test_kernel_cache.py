"""The cache of kernels: what is kept and refused, folders that fail, and processes that start at once."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeml.runtimes.kernels import cache, key, library
from tests import small_bundle
from tests.kernel_tools import RUN, run_child

UNIX = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows has no permission bits")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="a library is kept on Linux")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    path = tmp_path / "cache"
    monkeypatch.setenv("EDGEML_CACHE_DIR", str(path))
    return path


def kept(name="k", suffix=".so"):
    found = cache.read(name, suffix)
    return None if found is None else found[1]


def give_to_another(path, monkeypatch):
    """Make the file look like another user's."""
    if os.geteuid() == 0:
        os.chown(path, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)


def test_a_folder_may_be_named_relative_to_where_one_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEML_CACHE_DIR", ".")
    assert cache.folder() == tmp_path


@LINUX
def test_a_library_in_the_folder_one_is_in_is_loaded_by_its_name(tmp_path, monkeypatch):
    made = library.warm() if library.entry() is None or library.entry().path is None else library.entry()
    (tmp_path / "kernels.so").write_bytes(made.path.read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEML_KERNELS", "kernels.so")
    assert library.entry().path == Path("kernels.so")


# --- files --------------------------------------------------------------------------------------------------
def test_the_cache_gives_back_what_it_was_given(folder):
    assert kept() is None
    assert cache.write("k", ".so", b"a library") == folder / "kernels-k.so"
    assert cache.read("k", ".so") == (folder / "kernels-k.so", b"a library")
    assert kept("k", ".o") is None
    assert kept("l") is None
    cache.write("k", ".so", b"another")
    assert kept() == b"another"
    assert [p.name for p in folder.iterdir()] == ["kernels-k.so"]


def flipped(data, bit):
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]


def test_a_damaged_file_is_not_used(folder):
    path = cache.write("k", ".so", b"a library")
    whole = path.read_bytes()
    shorter = [whole[:length] for length in range(len(whole))]
    for damaged in [*shorter, whole + b"x", bytes(len(whole)), *(flipped(whole, bit) for bit in range(8 * len(whole)))]:
        path.write_bytes(damaged)
        assert kept() is None
    path.write_bytes(whole)
    assert kept() == b"a library"


@UNIX
@pytest.mark.parametrize("mode", [0o666, 0o620, 0o602])
def test_a_file_others_may_write_is_not_used(folder, mode):
    cache.write("k", ".so", b"a library").chmod(mode)
    assert kept() is None


@UNIX
def test_a_file_of_another_user_is_not_used(folder, monkeypatch):
    give_to_another(cache.write("k", ".so", b"a library"), monkeypatch)
    assert kept() is None


@UNIX
@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_a_folder_others_may_write_is_not_used(folder, mode):
    """They could exchange the file between our look at it and the loader's."""
    cache.write("k", ".so", b"a library")
    folder.chmod(mode)
    assert kept() is None
    assert "other users can write there" in cache.write("k", ".so", b"a library")
    folder.chmod(0o755)
    assert kept() == b"a library"


@UNIX
def test_a_folder_of_another_user_is_not_used(folder, monkeypatch):
    cache.write("k", ".so", b"a library")
    give_to_another(folder, monkeypatch)
    assert kept() is None
    assert "other users can write there" in cache.write("k", ".so", b"a library")


@UNIX
def test_no_link_is_followed_and_a_write_replaces_it(folder, tmp_path):
    path = cache.write("k", ".so", b"a library")
    elsewhere = tmp_path / "planted.so"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    before = elsewhere.read_bytes()
    assert kept() is None
    assert cache.write("k", ".so", b"ours") == path
    assert not path.is_symlink()
    assert (kept(), elsewhere.read_bytes()) == (b"ours", before)


@UNIX
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_not_read(folder, make):
    folder.mkdir(mode=0o700)
    make(folder / "kernels-k.so", 0o600)
    assert kept() is None


# --- folders that fail --------------------------------------------------------------------------------------
@pytest.mark.parametrize("place", ["file", "file/cache", "\N{SNOWMAN}" * 300])
def test_a_folder_that_cannot_be_made_is_no_failure(tmp_path, monkeypatch, place):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("EDGEML_CACHE_DIR", str(tmp_path / place))
    assert str(tmp_path / place) in cache.write("k", ".so", b"a library")
    assert kept() is None


@LINUX
def test_a_folder_to_be_read_only_is_no_failure(monkeypatch):
    monkeypatch.setenv("EDGEML_CACHE_DIR", "/sys")  # where not even root makes files
    assert isinstance(cache.write("k", ".so", b"a library"), str)
    assert kept() is None


def test_no_home_is_no_failure(monkeypatch):
    def homeless():
        raise RuntimeError("no home")

    for name in ("EDGEML_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert cache.write("k", ".so", b"a library") == "this user has no home folder"
    assert kept() is None


@UNIX
def test_a_write_that_stops_in_the_middle_leaves_nothing_behind(folder):
    """As a full disk does: the limit of a file's size is the way to have that without a disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        assert str(folder) in cache.write("k", ".so", bytes(10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(folder.iterdir()) == []
    assert cache.write("k", ".so", bytes(10_000)) == folder / "kernels-k.so"


def test_the_folder_follows_the_platform(monkeypatch):
    monkeypatch.delenv("EDGEML_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    if sys.platform == "linux":
        assert str(cache.folder()) == "/somewhere/edgeml"


# --- what goes ----------------------------------------------------------------------------------------------
def aged(path, days):
    then = time.time() - days * 86400
    os.utime(path, (then, then))


def test_a_write_takes_away_leftovers_and_what_nobody_has_used(folder):
    for name, days in [("old", 91), ("young", 89)]:
        aged(cache.write(name, ".so", b"a library"), days)
    for name, days in [(".kernels-1-1", 1), (".kernels-2-2", 0)]:
        (folder / name).write_bytes(b"half a libr")
        aged(folder / name, days)
    (folder / "of someone else").write_bytes(b"")
    aged(folder / "of someone else", 1000)
    cache.write("k", ".so", b"a library")
    left = {".kernels-2-2", "kernels-k.so", "kernels-young.so", "of someone else"}
    assert {p.name for p in folder.iterdir()} == left


def test_the_oldest_beyond_a_number_go(folder):
    for number in range(40):
        aged(cache.write(str(number), ".so", b"a library"), 80 - number)
    names = {p.name for p in folder.iterdir()}
    assert names == {f"kernels-{number}.so" for number in range(40 - cache._MOST, 40)}


def test_a_read_marks_what_is_in_use(folder):
    path = cache.write("k", ".so", b"a library")
    aged(path, 80)
    assert kept() == b"a library"
    assert time.time() - path.stat().st_mtime < 3600


# --- processes ----------------------------------------------------------------------------------------------
# The fewest kernels that are a library, and a program of them: fifteen processes compile them here.
FEW = "from edgeml.runtimes.kernels import registry; registry.MODULES = ('move', 'text')"
MOVES = RUN.replace("b.softmax(x)", "b.op('Select', x, indices=np.array([2, 0]))")
COMPILES = MOVES.replace('BLOCKED = ("numba", "llvmlite")', f"BLOCKED = ()\n{FEW}")
WARM = MOVES.replace("import numpy as np", f"{FEW}\nimport numpy as np", 1)


def test_eight_processes_may_start_at_once(folder):
    """All find an empty cache, compile and answer; one library stays, and is whole."""
    running = [
        subprocess.Popen([sys.executable, "-c", COMPILES], stdout=subprocess.PIPE, text=True, env=dict(os.environ))
        for _ in range(8)
    ]
    answers = {process.communicate()[0].strip() for process in running}
    assert answers <= {"Numba True", "the cache True"}
    assert len(list(folder.iterdir())) == 1
    if sys.platform == "linux":
        assert run_child(WARM).stdout.strip() == "the cache True"  # neither Numba nor llvmlite can be imported there


@LINUX
def test_a_damaged_library_is_made_anew(folder):
    run_child(COMPILES)
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    path.write_bytes(flipped(whole, 8 * 5000))
    assert run_child(COMPILES).stdout.strip() == "Numba True"
    assert [len(p.read_bytes()) for p in folder.iterdir()] == [len(whole)]
    assert run_child(WARM).stdout.strip() == "the cache True"


@LINUX
def test_without_a_cache_the_kernels_are_compiled_in_memory(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("EDGEML_CACHE_DIR", str(tmp_path / "file"))
    assert run_child(COMPILES).stdout.strip() == "Numba True"


REFUSE = """
import ctypes
load = ctypes.CDLL
def refuse(path, *more):
    if "kernels-" in path:
        raise OSError("failed to map segment from shared object: Operation not permitted")
    return load(path, *more)
ctypes.CDLL = refuse
"""


@LINUX
def test_where_no_library_can_be_loaded_the_object_is_kept(folder):
    """As on a folder mounted without the right to execute."""
    assert run_child(REFUSE + COMPILES).stdout.strip() == "Numba True"
    assert [p.suffix for p in folder.iterdir()] == [".o"]
    assert run_child(REFUSE + COMPILES).stdout.strip() == "the cache True"
    assert (
        run_child(REFUSE + COMPILES.replace("BLOCKED = ()", 'BLOCKED = ("numba",)')).stdout.strip() == "the cache True"
    )


def test_a_numba_that_cannot_compile_is_no_failure(folder, monkeypatch, caplog):
    from edgeml.runtimes.kernels import build

    def refuse(identity):
        raise TypeError("another version of Numba")

    monkeypatch.setattr(build, "llvm_text", refuse)
    assert library._compiled(key.identity()) is None
    assert "Numba cannot compile them (TypeError: another version of Numba)" in caplog.text


def test_sources_that_cannot_be_read_are_no_failure(tmp_path, monkeypatch, caplog):
    """As in an application that was frozen."""
    monkeypatch.setattr(key.ir, "__file__", str(tmp_path / "absent" / "__init__.py"))
    assert library._entry.__wrapped__("") is None
    assert "EdgeML's own sources cannot be read" in caplog.text


LOADED = """
import json, sys
import edgeml
with edgeml.load({path!r}, engine="native") as model:
    assert model.predict_one({{"x": 0.5, "c": "AA"}}) == "yes"
    source = model._engine.source
print(source, *sorted(m for m in sys.modules if m in {names!r}))
"""


@LINUX
def test_a_warm_start_imports_no_compiler_and_little_else(tmp_path):
    assert library.entry() is not None  # so that the cache holds the kernels
    path = small_bundle.write(tmp_path / "small.edgeml", formats=("native",))
    names = ("numba", "llvmlite", "edgeml.runtimes.kernels.build", "edgeml.runtimes.kernels.link", "importlib.metadata",
             "logging", "concurrent.futures", "edgeml.bundle.write", "edgeml.telemetry", "secrets", "inspect",
             "subprocess", "tempfile")  # fmt: skip
    before = set(re.findall(r"\S+", run_child("import numpy, sys; print(*sys.modules)").stdout))
    source = run_child(LOADED.format(path=str(path), names=tuple(n for n in names if n not in before))).stdout
    assert source.strip() == "the cache"

"""``edgeml warm``: what it says of a cache that is warm, cold, or cannot be kept, and of bundles."""

from __future__ import annotations

import json
import os
import sys

import pytest
from click.testing import CliRunner

from edgeml.cli.app import cli
from edgeml.runtimes.kernels import build, cache, library
from tests import small_bundle


def warm(*arguments):
    return CliRunner().invoke(cli, ["warm", *map(str, arguments)])


@pytest.fixture(scope="module", autouse=True)
def _kernels():
    """The cache of the tests is warm."""
    assert library.entry() is not None


@pytest.fixture
def cold(tmp_path, monkeypatch):
    path = tmp_path / "cache"
    monkeypatch.setenv("EDGEML_CACHE_DIR", str(path))
    return path


def test_a_warm_cache_is_said_with_place_and_size():
    done = warm("--check", "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert (said["kept"], said["warm"], said["bundles"]) == (True, True, [])
    assert os.path.getsize(said["path"]) == said["bytes"]
    shown = warm("--check")
    assert "kernels were warm" in shown.stdout
    assert said["path"] in shown.stdout


def test_check_compiles_nothing(cold, monkeypatch):
    monkeypatch.setattr(build, "llvm_text", lambda identity: pytest.fail("compiled"))
    done = warm("--check")
    assert done.exit_code == 1
    assert f"no kernels of this version are kept in {cold}" in done.stderr
    assert "run `edgeml warm`" in done.stderr
    assert not cold.exists()


def test_a_cold_cache_is_filled_once(cold, monkeypatch):
    """The object is that of few kernels: what is compiled does not matter here."""
    monkeypatch.setattr(build, "load_all", lambda: [])
    first, second = (json.loads(warm("--json").stdout) for _ in range(2))
    assert (first["warm"], second["warm"]) == (False, True)
    assert [path.name for path in cold.iterdir()] == [os.path.basename(second["path"])]


def test_a_folder_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("EDGEML_CACHE_DIR", str(tmp_path / "file"))
    monkeypatch.setattr(build, "load_all", lambda: [])
    done = warm("--json")
    assert done.exit_code == 1
    said = json.loads(done.stdout)
    assert not said["kept"]
    assert str(tmp_path / "file") in said["cause"]
    assert "EDGEML_CACHE_DIR" in done.stderr


def test_kernels_that_cannot_be_compiled_are_said(cold, monkeypatch):
    def refuse(identity):
        raise ImportError("no numba here")

    monkeypatch.setattr(build, "llvm_text", refuse)
    done = warm()
    assert done.exit_code == 1
    assert "Numba cannot compile them (ImportError: no numba here)" in done.stderr
    assert "edgeml-sdk[kernels]" in done.stderr


def test_kernels_that_are_switched_off_are_said(monkeypatch):
    monkeypatch.setenv("EDGEML_KERNELS", "numpy")
    done = warm()
    assert done.exit_code == 1
    assert "unset EDGEML_KERNELS" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="a library is kept on Linux")
def test_the_path_it_says_is_a_library_by_itself(tmp_path, monkeypatch):
    """So that it can be shipped, and Numba and llvmlite removed."""
    path = json.loads(warm("--check", "--json").stdout)["path"]
    monkeypatch.setenv("EDGEML_KERNELS", path)
    monkeypatch.setattr(cache, "folder", lambda: pytest.fail("looked into the cache"))
    assert json.loads(warm("--json").stdout)["path"] == path


def test_bundles_answer_their_golden_rows(tmp_path):
    path = small_bundle.write(tmp_path / "small.edgeml", formats=["native"])
    done = warm(path, "--json")
    assert done.exit_code == 0, done.output
    (said,) = json.loads(done.stdout)["bundles"]
    assert (said["path"], said["passed"], said["reason"]) == (str(path), True, None)
    assert "answers its golden rows" in warm(path).stdout


def test_a_bundle_that_answers_otherwise_is_said(tmp_path, monkeypatch):
    from edgeml.errors import VerificationError
    from edgeml.runtimes import verify

    def differs(path, engine):
        raise VerificationError("predict: 3 of 8 labels differ", "compile it again")

    monkeypatch.setattr(verify, "verify", differs)
    done = warm(small_bundle.write(tmp_path / "small.edgeml", formats=["native"]))
    assert done.exit_code == 1
    assert "predict: 3 of 8 labels differ" in done.stdout


def test_a_bundle_that_is_absent_is_said(tmp_path):
    assert warm(tmp_path / "absent.edgeml").exit_code == 2

"""The layout that packaging relies on: folders, pyproject's list, imports by installed names, data files."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAPPED = ("converters", "runtimes", "targets")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PYPROJECT["tool"]["setuptools"]
CODE_SUFFIXES = {".py", ".pyc"}


def roots():
    """Folder of each top-level package, by installed name."""
    return {"edgeml": ROOT / "edgeml"} | {f"edgeml.{name}": ROOT / name for name in MAPPED}


def files(pattern="*"):
    """Files of the package on disk, each with its package. The links of `make dev` are passed over."""
    for package, top in roots().items():
        for path in sorted(top.rglob(pattern)):
            inside = path.relative_to(top)
            linked = package == "edgeml" and inside.parts[0] in MAPPED
            if path.is_file() and not linked and "__pycache__" not in inside.parts:
                yield ".".join((package, *inside.parent.parts)), path


def imported(path):
    """(line, module) of every import of a file, at any depth; relative ones with their dots."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or "")
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


def test_the_list_of_packages_equals_the_folders_on_disk():
    on_disk = {package for package, _ in files("*.py")}
    assert set(SETUPTOOLS["packages"]) == on_disk
    assert len(SETUPTOOLS["packages"]) == len(on_disk)


def test_the_mapping_names_the_folders():
    assert SETUPTOOLS["package-dir"] == {"edgeml": "edgeml"} | {f"edgeml.{name}": name for name in MAPPED}


@pytest.mark.parametrize("package", SETUPTOOLS["packages"])
def test_every_package_has_its_init(package):
    top = max((p for p in roots() if package == p or package.startswith(f"{p}.")), key=len)
    folder = roots()[top].joinpath(*package[len(top) :].strip(".").split("."))
    assert (folder / "__init__.py").is_file(), f"{folder}/__init__.py is missing"


def test_data_files_are_declared_and_declared_ones_exist():
    declared = {
        (package, path)
        for package, patterns in SETUPTOOLS["package-data"].items()
        for owner, path in files()
        for pattern in patterns
        if owner == package and path.match(pattern)
    }
    on_disk = {(package, path) for package, path in files() if path.suffix not in CODE_SUFFIXES}
    assert on_disk - declared == set(), "not in [tool.setuptools.package-data]: a wheel would lack them"
    for package, patterns in SETUPTOOLS["package-data"].items():
        for pattern in patterns:
            assert any(p == package and path.match(pattern) for p, path in declared), (package, pattern)
    assert ("edgeml", ROOT / "edgeml" / "py.typed") in declared


def test_no_test_or_cache_lies_in_a_mapped_folder():
    assert [path for _, path in files("*.py") if path.name.startswith(("test_", "conftest"))] == []


@pytest.mark.parametrize("folder", ["edgeml", *MAPPED, "tests", "benchmarks"])
def test_nothing_imports_the_bare_names(folder):
    for path in sorted((ROOT / folder).rglob("*.py")):
        for line, module in imported(path):
            assert module.split(".")[0] not in MAPPED, f"{path}:{line}: import edgeml.{module}"


def test_the_package_imports_no_pickle():
    banned = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "marshal", "shelve"}
    for _, path in files("*.py"):
        for line, module in imported(path):
            # The one place that reads pipeline files goes through joblib and skops, and says what they run.
            assert module.split(".")[0] not in banned, f"{path}:{line} imports {module}"


def test_the_package_loads_no_arrays_that_may_hold_pickles():
    for _, path in files("*.py"):
        assert not re.search(r"allow_pickle\s*=\s*True", path.read_text()), path


def test_this_test_sees_imports(tmp_path):
    file = tmp_path / "sample.py"
    file.write_text("def f():\n    import pickle\n    from converters.x import y\n    import_module('runtimes')\n")
    assert [m for _, m in imported(file)] == ["pickle", "converters.x", "runtimes"]

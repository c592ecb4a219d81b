"""What a device application imports, asked of fresh Python processes."""

import json
import subprocess
import sys

import pytest

from tests import small_bundle

COMPILER_SIDE = (
    "sklearn",
    "pandas",
    "onnx",
    "onnxruntime",
    "pyarrow",
    "polars",
    "scipy",
    "skl2onnx",
    "joblib",
)
OURS = (
    "edgeml.compiler",
    "edgeml.converters",
    "edgeml.targets",
    "edgeml.passes",
    "edgeml.parity",
    "edgeml.cli",
)


def imported_by(code, *arguments):
    """Names of all modules a fresh process holds after running ``code``."""
    program = f"import sys\n{code}\nimport json\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def tops(modules):
    return {name.partition(".")[0] for name in modules}


def test_import_edgeml_needs_nothing_but_the_standard_library():
    added = imported_by("import edgeml; edgeml.__version__; dir(edgeml)") - imported_by("")
    outside = {n for n in tops(added) if n not in sys.stdlib_module_names and n != "edgeml"}
    assert outside == set()
    assert {n for n in added if n.startswith("edgeml.")} == {"edgeml._version"}


def test_the_errors_need_nothing_but_the_standard_library():
    added = imported_by("import edgeml; edgeml.errors.EdgeMLError") - imported_by("")
    assert {n for n in tops(added) if n not in sys.stdlib_module_names} == {"edgeml"}


@pytest.mark.parametrize("module", ["load", "verify", "base", "frames", "cells", "engines"])
def test_a_runtime_module_needs_numpy_and_nothing_else(module):
    added = imported_by(f"import edgeml.runtimes.{module}") - imported_by("import numpy")
    outside = {n for n in tops(added) if n not in sys.stdlib_module_names and n != "edgeml"}
    assert outside - {"numpy"} == set()
    assert not [n for n in added if n.startswith(OURS)]


def test_the_onnx_engine_imports_onnxruntime_when_it_is_opened_and_not_before(tmp_path):
    added = imported_by("import edgeml.runtimes.onnx") - imported_by("")
    assert not tops(added) & set(COMPILER_SIDE)


PREDICT = """
import edgeml
with edgeml.load(sys.argv[1]) as model:
    assert model.engine == "native"
    rows = [{"x": 0.5, "c": "AA"}, {"x": -1.0, "c": None}]
    assert model.predict(rows).tolist() == ["yes", "no"], model.predict(rows)
    assert model.predict({"x": [0.5], "c": ["AA"]}).tolist() == ["yes"]
    assert model.predict_proba(rows).shape == (2, 2)
    assert model.predict_one(rows[1]) == "no"
    assert model.predict_proba_one(rows[0]).shape == (2,)
    for wrong in ([], [{"x": 1.0}], [{"x": "a", "c": "AA"}], [{"x": float("inf"), "c": "AA"}]):
        try:
            model.predict(wrong)
        except edgeml.errors.InputError:
            continue
        raise SystemExit("not refused")
assert edgeml.verify(sys.argv[1]).passed
"""


def test_loading_predicting_and_verifying_a_native_bundle_imports_nothing_of_the_compiler(tmp_path):
    path = small_bundle.write(tmp_path / "small.edgeml", formats=["native", "onnx"])
    added = imported_by(PREDICT, path)
    assert tops(added) & set(COMPILER_SIDE) == set()
    assert not [n for n in added if n.startswith(OURS)]


LOOK_UP = """
from edgeml.ir.ops import OPS
assert "Add" in OPS and "Exec" not in OPS and OPS.get("Exec") is None
assert not [n for n in sys.modules if n == "edgeml.ir.ops_special"]
assert OPS["Erf"].name == "Erf" and len(set(OPS)) == len(OPS) > 60
"""


def test_files_of_seldom_ops_are_imported_when_one_is_asked_for():
    assert {"edgeml.ir.ops_special", "edgeml.ir.ops_text"} <= imported_by(LOOK_UP)


def test_a_start_imports_the_ops_and_kernels_of_its_program_alone(tmp_path, kernels):
    path = small_bundle.write(tmp_path / "small.edgeml", formats=["native"])
    added = imported_by("import edgeml; edgeml.load(sys.argv[1]).predict_one({'x': 0.5, 'c': 'AA'})", path)
    ours = {name.removeprefix("edgeml.") for name in added if name.startswith("edgeml.")}
    assert {name for name in ours if name.startswith("ir.ops_")} == {"ir.ops_tensor", "ir.ops_ml", "ir.ops_raw"}
    assert not {name for name in ours if name.startswith("ir.elementary_")} | ours & {"ir.metrics", "ir.text"}
    seldom = ("distances", "iterate", "pairs", "quantised", "remainder", "search", "special", "counting", "trees")
    assert not {f"runtimes.kernels.{name}" for name in seldom} & ours

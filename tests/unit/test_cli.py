"""The command line: what each command prints and writes, its exit codes, and the meaning of data files."""

import json
from pathlib import Path

import pytest

from edgeml.errors import ParityError
from edgeml.quantize.budget import Budget
from tests.cli_tools import compile_to, fitted, frame, run


# --- compile
def test_compile_says_what_was_made(work, tmp_path):
    done = compile_to(work, tmp_path / "m.edgeml")
    assert done.exit_code == 0
    for part in ("m.edgeml", "Pipeline(ColumnTransformer, LogisticRegression)", "visits", "int64", "native", "Parity"):
        assert part in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80 + len(str(tmp_path))
    assert done.stderr == ""


def test_compile_as_json_and_nothing_else(work, tmp_path):
    done = compile_to(work, tmp_path / "m.edgeml", "--json", "--name", "churn", "--model-version", 3)
    report = json.loads(done.stdout)
    assert (report["name"], report["version"]) == ("churn", 3)
    assert report["bytes"] == (tmp_path / "m.edgeml").stat().st_size
    assert {c["name"]: c["kind"] for c in report["schema"]["columns"]} == {
        "age": "float64",
        "visits": "int64",
        "town": "string",
    }
    assert done.stderr == ""


def test_compile_passes_every_option_on(work, tmp_path, monkeypatch):
    import edgeml.compiler

    seen = {}

    def fake(pipeline, X, y=None, **options):
        seen.update(options, X=X, y=y)
        options["progress"]("working", 0.5)
        raise ParityError("the answers differ", "report it")

    monkeypatch.setattr(edgeml.compiler, "compile", fake)
    out = tmp_path / "m.edgeml"
    options = [
        "--format",
        "onnx",
        "--format",
        "native",
        "--quantize",
        "int8",
        "--target",
        "cortex-a72",
        "--budget",
        "max_bytes=1KB",
    ]
    done = compile_to(work, out, *options, "--name", "n", "--model-version", "7", "--sign-with", "k", "--drop", "town")
    assert done.exit_code == 1
    assert done.stderr == "error: the answers differ\n  report it\n"
    assert done.stdout == ""
    assert not out.exists()
    assert seen["formats"] == ["onnx", "native"]
    assert (seen["quantize"], seen["target"], seen["budget"]) == ("int8", "cortex-a72", Budget(max_bytes=1000))
    assert (seen["name"], seen["version"], seen["sign_with"], seen["output"]) == ("n", 7, Path("k"), out)
    assert list(seen["X"].columns) == ["age", "visits"]
    assert seen["y"].tolist() == frame()["late"].tolist()


@pytest.mark.parametrize(
    ("options", "formats"),
    [
        ([], "auto"),
        (["--format", "auto"], "auto"),
        (["--format", "onnx,native"], ["onnx", "native"]),
        (["--format", "onnx, native", "--format", "tflite"], ["onnx", "native", "tflite"]),
    ],
)
def test_compile_takes_formats_with_commas_or_one_by_one(work, tmp_path, monkeypatch, options, formats):
    import edgeml.compiler

    def fake(pipeline, X, y=None, **options):
        raise ParityError(repr(options["formats"]))

    monkeypatch.setattr(edgeml.compiler, "compile", fake)
    assert compile_to(work, tmp_path / "m.edgeml", *options).stderr == f"error: {formats!r}\n"


def test_compile_says_when_the_target_does_not_run_what_was_asked_for(work, tmp_path):
    done = compile_to(work, tmp_path / "m.edgeml", "--format", "onnx", "--target", "cortex-a7", "--json")
    assert done.exit_code == 0, done.output
    assert done.stderr == "note: the target cortex-a7 does not run onnx; made as --format asks for it\n"
    report = json.loads(done.stdout)
    assert (report["target"], report["quantize"], report["classes"]) == ("cortex-a7", "none", [0, 1])


def test_compile_warns_that_joblib_runs_code(work, tmp_path):
    done = run(
        "compile", work / "model.joblib", "--data", work / "train.csv", "--drop", "late", "-o", tmp_path / "m.edgeml"
    )
    assert done.exit_code == 0
    assert "runs the code it holds" in done.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pipeline": "absent.skops"}, "absent.skops: No such file"),
        ({"pipeline": "train.csv"}, "a pipeline file ends in .skops, .joblib, .pkl, .pickle"),
        ({"data": "absent.csv"}, "absent.csv: No such file"),
        ({"data": "model.skops"}, "a data file ends in .csv"),
        ({"more": ["--target-column", "nope"]}, "has no column 'nope'"),
        ({"more": ["--drop", "nope"]}, "has no column 'nope'"),
        ({"more": ["--drop", "age", "--drop", "late"]}, "lacks 'age'"),
        ({"more": ["--drop", "late", "--format", "tflight"]}, "unknown format 'tflight'"),
        ({"more": ["--drop", "late", "--dtype", "age"]}, "COLUMN=KIND is due"),
        ({"more": ["--drop", "late", "--dtype", "age=float16"]}, "KIND is one of"),
        ({"more": ["--drop", "late", "--dtype", "nope=string"]}, "has no column 'nope'"),
        ({"more": ["--drop", "late", "--dtype", "town=int64"]}, "column 'town' holds"),
        ({"more": ["--drop", "late", "--quantize", "int3"]}, "quantize='int3'"),
        ({"output": "absent/m.edgeml"}, "folder"),
        ({"output": "train.csv"}, "is an input file"),
    ],
)
def test_compile_refuses_bad_input_and_writes_nothing(work, change, message):
    before = {path: path.read_bytes() for path in work.iterdir()}
    done = run(
        "compile",
        work / change.get("pipeline", "model.skops"),
        "--data",
        work / change.get("data", "train.csv"),
        "-o",
        work / change.get("output", "new.edgeml"),
        *change.get("more", ["--drop", "late"]),
    )
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stdout == ""
    assert {path: path.read_bytes() for path in work.iterdir()} == before


# --- inspect, verify
def test_inspect_shows_what_runs(work):
    done = run("inspect", work / "model.edgeml")
    assert done.exit_code == 0
    for part in ("not signed", "visits", "predict_proba", "classes: 0, 1", "native/arrays.bin", "Parity", "Linear("):
        assert part in done.stdout
    assert "steps" not in done.stderr
    assert "Linear(" not in run("inspect", work / "model.edgeml", "--no-program").stdout


def test_inspect_as_json(work):
    report = json.loads(run("inspect", work / "model.edgeml", "--json").stdout)
    assert report["signature"] == {"signed": False, "key_id": None, "checked": False}
    assert sum(report["sizes"].values()) < report["bytes"]
    assert "predict_proba = matrix" in report["program"]


def test_keys_sign_and_are_checked(work, tmp_path):
    key, bundle = tmp_path / "release.key", tmp_path / "signed.edgeml"
    made = json.loads(run("keys", "generate", key, "--json").stdout)
    assert run("keys", "generate", key).exit_code == 2
    for path in (key, key.with_name("release.key.pub")):
        shown = json.loads(run("keys", "show", path, "--json").stdout)
        assert shown["key_id"] == made["key_id"]
    assert compile_to(work, bundle, "--sign-with", key).exit_code == 0
    assert "not checked" in run("inspect", bundle).stdout
    assert "(checked)" in run("inspect", bundle, "--public-key", f"{key}.pub").stdout
    assert run("verify", bundle, "--public-key", f"{key}.pub").exit_code == 0
    unsigned = run("verify", work / "model.edgeml", "--public-key", f"{key}.pub")
    assert unsigned.exit_code == 1
    assert "not signed" in unsigned.stderr
    assert run("predict", bundle, work / "test.csv", "--public-key", key).exit_code == 2


def test_verify_replays_the_golden_rows(work):
    done = run("verify", work / "model.edgeml")
    assert done.exit_code == 0
    assert "gives scikit-learn's answers" in done.stdout
    report = json.loads(run("verify", work / "model.edgeml", "--json").stdout)
    assert report["passed"] is True
    assert report["live"] is None


def test_verify_against_the_pipeline(work):
    args = (
        "verify",
        work / "model.edgeml",
        "--pipeline",
        work / "model.skops",
        "--data",
        work / "train.csv",
        "--drop",
        "late",
    )
    done = run(*args)
    assert done.exit_code == 0, done.output
    assert "Against the pipeline" in done.stdout
    assert json.loads(run(*args, "--json").stdout)["live"]["rows"] == 300


def test_verify_of_a_quantised_bundle_speaks_of_its_budget(work, tmp_path):
    path = tmp_path / "m.edgeml"
    options = ("--quantize", "int8", "--format", "native", "--budget", "label_flips=5%,metric_drop=off")
    assert compile_to(work, path, *options).exit_code == 0
    done = run("verify", path)
    assert done.stdout.splitlines()[0] == (
        f"{path}: the native engine gives the answers it gave when it was compiled on this machine"
    )
    done = run("verify", path, "--pipeline", work / "model.skops", "--data", work / "train.csv", "--drop", "late")
    assert done.exit_code == 0, done.output
    assert "stays inside its budget" in done.stdout
    against = " ".join(done.stdout.partition("Against the pipeline")[2].split())
    assert against.startswith("method rows flips share max error decision_function 300 ")
    assert against.endswith("budget: label_flips 5 %")


def test_verify_says_no(work, tmp_path):
    from skops import io as skops_io

    other = frame()
    other["late"] = 1 - other["late"]
    skops_io.dump(fitted(other), tmp_path / "other.skops")
    args = (
        "verify",
        work / "model.edgeml",
        "--pipeline",
        tmp_path / "other.skops",
        "--data",
        work / "train.csv",
        "--drop",
        "late",
    )
    done = run(*args)
    assert done.exit_code == 1
    assert "rows have another answer" in done.stderr
    as_json = run(*args, "--json")
    assert as_json.exit_code == 1
    assert json.loads(as_json.stdout)["passed"] is False


def test_verify_needs_both(work):
    done = run("verify", work / "model.edgeml", "--data", work / "test.csv")
    assert done.exit_code == 2
    assert "--pipeline and --data go together" in done.stderr

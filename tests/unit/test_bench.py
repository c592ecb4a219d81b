"""``edgeml bench``: what is measured, how answers are judged, what is refused, and that nothing is left behind."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import edgeml.runtimes.load
from edgeml.cli import bench_contenders, bench_file, bench_machine, bench_rows, bench_run, timing
from edgeml.errors import EngineError, EngineNotInstalledError
from edgeml.runtimes.engines import ENGINES
from edgeml.targets import devices
from edgeml.targets.base import TARGETS
from tests import small_bundle
from tests.bench_tools import QUICK, by_name, measured
from tests.cli_tools import ROOT, answers, run
from tests.waiting import PATIENCE, until


@pytest.fixture
def quiet(monkeypatch):
    """A machine that has nothing else to do."""
    monkeypatch.setattr(bench_machine, "_busy", lambda found: [])


# --- what is measured
def test_engines_and_scikit_learn_side_by_side(work, no_starts, tmp_path):
    record = measured(
        work / "model.edgeml",
        "--pipeline",
        work / "model.skops",
        "--data",
        work / "test.csv",
        "-o",
        tmp_path / "r.json",
    )
    assert record == bench_file.read(tmp_path / "r.json"), "what is printed is what is written, and can be read"
    found = by_name(record)
    assert list(found) == ["scikit-learn", *TARGETS]
    for name, entry in found.items():
        assert entry["problem"] is None
        assert entry["agreement"]["agrees"] is True
        assert (entry["agreement"]["against"], entry["agreement"]["rows"]) == ("scikit-learn", 50 + 50)
        single, batch = entry["runs"]
        assert (single["single"], single["rows"], batch["single"], batch["rows"]) == (True, 1, False, 20)
        assert single["threads"] == (None if name == "scikit-learn" else 1)
        for r in (single, batch):
            assert 0 < r["min_s"] <= r["p10_s"] <= r["p50_s"] <= r["p90_s"] <= r["p99_s"]
            assert r["rows_per_s"] == pytest.approx(r["rows"] / r["p50_s"])
            assert r["repeats"] >= timing.LEAST_TURNS
        if name == "scikit-learn":
            assert entry["bytes"] == (work / "model.skops").stat().st_size
            assert entry["load_s"] is entry["first_answer_s"] is None
        else:
            assert entry["load_s"] > 0
            assert (entry["first_answer_s"], entry["above_numpy_bytes"]) == (0.6, 20_000_000)
    assert record["numpy"] == {"start_s": 0.6, "peak_bytes": 30_000_000}
    assert record["settings"] | {"rows_sha256": ""} == {
        "method": "predict",
        "rows_from": "rows of --data",
        "distinct_rows": 50,
        "rows_sha256": "",
        "batches": [20],
        "threads": [1],
        "seconds": 0.005,
        "fast": None,
    }
    assert record["software"]["scikit-learn"]
    assert record["bundle"]["bytes"] == (work / "model.edgeml").stat().st_size


def test_the_child_gets_a_row_and_the_engine(work, no_starts):
    measured(work / "model.edgeml", "--engine", "numpy", "--engine", "onnx", "--method", "decision_function")
    assert {start[:3] + start[4:] for start in no_starts} == {
        ("", "", "decision_function", None),
        ("model.edgeml", "native", "decision_function", "numpy"),
        ("model.edgeml", "onnx", "decision_function", None),
    }
    assert len(no_starts) == 3 * (1 + bench_run._STARTS)
    row = no_starts[1][3]
    assert [sorted(r) for r in row] == [["age", "town", "visits"]]


def test_golden_rows_need_no_pandas(work, no_starts, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    record = measured(work / "model.edgeml", "--method", "predict_proba")
    assert record["settings"]["rows_from"] == "golden rows"
    assert {e["agreement"]["against"] for e in record["engines"]} == {"golden rows"}
    assert all(e["agreement"]["agrees"] for e in record["engines"])
    # No pipeline and rows of a file: the first engine is what the others are compared with.
    record = measured(work / "model.edgeml", "--data", work / "test.csv")
    assert {e["agreement"]["against"] for e in record["engines"]} == {"native"}


def test_threads_batches_and_engines_are_those_asked_for(work, no_starts, monkeypatch):
    given = []
    open_model = edgeml.runtimes.load.open_model

    def spy(path, **options):
        given.append((options["engine"], options["threads"]))
        return open_model(path, **options)

    monkeypatch.setattr(edgeml.runtimes.load, "open_model", spy)
    args = ("--engine", "native", "--engine", "native", "--batch", 7, "--threads", 2, "--threads", 1, "--threads", 2)
    record = measured(work / "model.edgeml", *args)
    assert set(given) == {("native", 1), ("native", 2)}
    assert [(r["single"], r["rows"], r["threads"]) for r in by_name(record)["native"]["runs"]] == [
        (True, 1, 2), (False, 7, 2), (False, 20, 2), (True, 1, 1), (False, 7, 1), (False, 20, 1),
    ]  # fmt: skip


def test_threads_are_the_devices_where_none_are_asked_for(monkeypatch):
    monkeypatch.setattr(devices, "device", lambda name: devices.Device(name, threads=3))
    assert bench_run._threads({"target": "generic"}) == 3
    assert bench_run._threads({"target": "my-board"}) == 1, "a profile of one's own is not here"


def test_native_without_kernels_is_a_contender_of_its_own(work, no_starts, monkeypatch):
    monkeypatch.delenv("EDGEML_KERNELS", raising=False)
    found = by_name(measured(work / "model.edgeml", "--engine", "native", "--engine", "numpy"))
    assert found["numpy"]["kernels"] == "NumPy"
    assert found["native"]["kernels"] in ("the cache", "Numba")
    assert "EDGEML_KERNELS" not in os.environ
    shown = run("bench", work / "model.edgeml", "--engine", "numpy", *QUICK).stdout
    assert "native (NumPy)" in shown


def test_every_method_of_a_matrix(tmp_path, no_starts):
    path = small_bundle.write(tmp_path / "m.edgeml", formats=["native", "onnx"], outputs=("transform",))
    record = measured(path)
    assert record["settings"]["method"] == "transform"
    assert record["settings"]["distinct_rows"] == 4, "neither the refused row nor that of 1e300"
    assert all(e["agreement"]["agrees"] for e in record["engines"])


def test_tables_for_people(work, no_starts, quiet):
    done = run("bench", work / "model.edgeml", "--pipeline", work / "model.skops", *QUICK, "--label", "my laptop")
    assert done.exit_code == 0, done.output
    shown = done.stdout
    assert "on my laptop" in shown.splitlines()[0]
    for part in (
        "predict, one row",
        "predict, batches of 20",
        "Start, memory, size",
        "golden rows",
        "--data",
        "(NumPy alone)",
    ):
        assert part in shown, part
    assert re.search(r"scikit-learn +\S+ \w+ .* equal", shown)
    assert re.search(r"native .* [\d,]+x +equal", shown)
    assert "ratio: times as fast as scikit-learn" in " ".join(shown.split())
    assert max(map(len, shown.splitlines())) <= 90
    assert "warning" not in done.stderr


def test_reading_rows_once_more_gives_the_same_digest(work, tmp_path):
    from edgeml.bundle import open_bundle

    with open_bundle(work / "model.edgeml") as bundle:
        golden = [bench_rows.read(bundle, None, (), 10).digest() for _ in range(2)]
        first = bench_rows.read(bundle, work / "test.csv", (), 1000)
        assert golden[0] == golden[1] != first.digest()
        # The same rows from another kind of file.
        frame = pd.read_csv(work / "test.csv", keep_default_na=False, na_values=[""])
        frame.to_parquet(tmp_path / "test.parquet")
        assert bench_rows.read(bundle, tmp_path / "test.parquet", (), 1000).digest() == first.digest()
        other = bench_rows.read(bundle, work / "test.csv", (), 49)
        assert (other.count, other.digest() == first.digest()) == (49, False)
        assert first.batch(120)["age"][50:100].tolist() == pytest.approx(first.batch(50)["age"].tolist(), nan_ok=True)
        assert first.single(3)[1].keys() == {"age", "visits", "town"}


# --- what is missing or wrong
def test_an_engine_that_is_not_installed(work, no_starts, monkeypatch):
    open_model = edgeml.runtimes.load.open_model

    def absent(path, **options):
        if options["engine"] != "native":
            raise EngineNotInstalledError(f"the engine {options['engine']!r} needs a package", "pip install it")
        return open_model(path, **options)

    monkeypatch.setattr(edgeml.runtimes.load, "open_model", absent)
    found = by_name(measured(work / "model.edgeml"))
    assert found["onnx"]["problem"] == "the engine 'onnx' needs a package: pip install it"
    assert found["native"]["runs"]
    done = run("bench", work / "model.edgeml", *QUICK)
    assert re.search(r"\n  onnx +— ", done.stdout)
    assert "note: onnx was not measured: the engine 'onnx' needs a package: pip install it" in done.stderr
    done = run("bench", work / "model.edgeml", "--engine", "onnx", *QUICK)
    assert done.exit_code != 0, "asked for by name it is an error"
    assert "needs a package\n  pip install it" in done.stderr
    monkeypatch.setattr(edgeml.runtimes.load, "open_model", lambda path, **o: absent(path, **o | {"engine": "x"}))
    done = run("bench", work / "model.edgeml", *QUICK)
    assert done.exit_code != 0
    assert "no engine of" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--engine", "cuda"], "there is no engine 'cuda'\n  use one of: native, onnx, tflite, numpy"),
        (["--method", "transform"], "no method 'transform'\n  use one of: decision_function, predict"),
        (["--data", "absent.csv"], "No such file"),
        (["--data", "model.skops"], "a data file ends in"),
        (["--data", "test.csv", "--drop", "nope"], "has no column 'nope'"),
        (["--data", "test.csv", "--drop", "age"], "column 'age' is missing"),
        (["--data", "empty.csv"], "empty.csv is empty"),
        (["--data", "header.csv"], "header.csv has no rows"),
        (["--pipeline", "test.csv"], "a pipeline file ends in"),
        (["-o", "run.txt"], "a run is written as .json"),
        (["-o", "no/run.json"], "No such file"),
        (["-o", "folder.json"], "is not a file"),
        (["--label", " "], "a name of 1 to 80 printable characters"),
        (["--label", "a\x1b[31m"], "printable characters"),
        (["--seconds", "0"], "--seconds"),
        (["--seconds", "nan"], "--seconds"),
        (["--batch", "0"], "--batch"),
        (["--threads", "0"], "--threads"),
        (["--rows", "10"], "No such option"),
        (["more"], "unexpected extra argument"),
    ],
)
def test_mistakes_are_named_before_anything_is_measured(work, tmp_path, monkeypatch, options, message):
    monkeypatch.setattr(timing, "take_turns", lambda *a, **o: pytest.fail("measured"))
    for path in work.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "empty.csv").touch()
    (tmp_path / "header.csv").write_text("age,visits,town\n")
    (tmp_path / "folder.json").mkdir()
    before = sorted(tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    done = run("bench", "model.edgeml", *options)
    assert done.exit_code in (2, 3), done.output
    assert message in done.stderr
    assert "internal error" not in done.stderr
    assert done.stdout == ""
    assert sorted(tmp_path.iterdir()) == before


def test_a_bundle_that_is_none(tmp_path, work):
    assert run("bench").exit_code == 2
    assert "No such file" in run("bench", tmp_path / "absent.edgeml").stderr
    done = run("bench", work / "train.csv")
    assert done.exit_code == 2
    assert "ZIP" in done.stderr


def test_another_pipeline_is_refused_or_differs(work, tmp_path, no_starts):
    from sklearn.linear_model import LinearRegression
    from skops import io as skops_io

    skops_io.dump(LinearRegression().fit([[0.0], [1.0]], [0, 1]), tmp_path / "other.skops")
    done = run("bench", work / "model.edgeml", "--pipeline", tmp_path / "other.skops", *QUICK)
    assert done.exit_code == 2
    assert "refuses the rows" in done.stderr
    done = run(
        "bench", work / "model.edgeml", "--pipeline", tmp_path / "other.skops", "--method", "predict_proba", *QUICK
    )
    assert done.exit_code == 2
    assert "has no method predict_proba\n  give the pipeline the bundle was compiled from" in done.stderr


def test_a_bundle_called_compare(work, tmp_path, monkeypatch, no_starts):
    (tmp_path / "compare").write_bytes((work / "model.edgeml").read_bytes())
    monkeypatch.chdir(tmp_path)
    assert run("bench", "compare").exit_code == 2, "the command, which wants files"
    assert by_name(measured("./compare", "--engine", "native"))["native"]["runs"]
    done = run("bench", *QUICK, "--engine", "native", "./compare")
    assert done.exit_code == 0, "options may come first"


def test_help_of_the_group_has_its_options_and_its_command():
    done = run("bench", "--help")
    assert done.exit_code == 0
    assert "bench [OPTIONS] BUNDLE\n" in done.stdout
    for part in ("--batch", "compare  Put the runs", "edgeml bench model.edgeml\n", "./compare"):
        assert part in done.stdout


def test_too_little_memory_is_said(work, no_starts, monkeypatch):
    def none(self, rows):
        raise MemoryError

    monkeypatch.setattr(bench_rows.Rows, "batch", none)
    done = run("bench", work / "model.edgeml", *QUICK)
    assert done.exit_code == 2
    assert "not enough memory for batches of 20 rows\n  give a smaller --batch" in done.stderr


def test_models_are_closed_and_an_interrupt_leaves_nothing(work, tmp_path, no_starts, monkeypatch):
    opened = []
    open_model = edgeml.runtimes.load.open_model
    monkeypatch.setattr(
        edgeml.runtimes.load, "open_model", lambda *a, **o: opened.append(open_model(*a, **o)) or opened[-1]
    )

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(timing, "take_turns", interrupted)
    done = run("bench", work / "model.edgeml", "-o", tmp_path / "r.json", *QUICK)
    assert done.exit_code == 130
    assert done.stderr.strip() == "error: interrupted\n  no file was changed"
    assert list(tmp_path.iterdir()) == []
    assert opened
    for model in opened:
        with pytest.raises(EngineError, match="closed"):
            model.predict_one({"age": 1.0, "visits": 1, "town": "Bern"})


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts processes in /proc")
def test_an_interrupt_of_a_real_process_ends_its_children(work, tmp_path):
    command = [sys.executable, "-m", "edgeml.cli", "bench", str(work / "model.edgeml"), "-o", str(tmp_path / "r.json")]
    process = subprocess.Popen(
        [*command, "--seconds", "0.001", "--batch", "1", "--engine", "native"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    until(children.read_text)
    child = children.read_text().split()
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 130
    assert "interrupted" in process.stderr.read()
    process.stderr.close()
    assert child
    # One that was just being started is not known yet, and ends because nobody talks to it.
    until(lambda: not any(os.path.exists(f"/proc/{number}") for number in child))
    assert list(tmp_path.iterdir()) == []


def test_a_first_answer_that_fails_is_no_failure_of_the_run(work, monkeypatch):
    def fails(*args, **options):
        raise RuntimeError("no processes here")

    monkeypatch.setattr(timing, "first_answer", fails)
    done = run("bench", work / "model.edgeml", "--engine", "native", *QUICK)
    assert done.exit_code == 0
    assert "note: no first answer of native was measured: no processes here" in done.stderr
    assert re.search(r"\(NumPy alone\) +— +—", done.stdout)


def test_the_warning_is_seen_with_json_too(work, no_starts, monkeypatch):
    monkeypatch.setattr(bench_machine, "_busy", lambda found: ["a load of 9.0 on 2 cores"])
    monkeypatch.setattr(bench_machine, "emulated", lambda: "qemu-arm")
    done = run("bench", work / "model.edgeml", "--engine", "native", *QUICK, "--json", "--label", "b")
    assert json.loads(done.stdout)["noise"]["busy"] == ["a load of 9.0 on 2 cores"]
    assert "warning: b was busy: a load of 9.0 on 2 cores. Measure again when it is quiet" in done.stderr
    assert "warning: b is emulated (qemu-arm): its times are no device's, publish none" in done.stderr


def test_the_record_names_nobody(work, no_starts, monkeypatch):
    monkeypatch.setattr(bench_machine.platform, "node", lambda: "annas-laptop")
    text = json.dumps(measured(work / "model.edgeml"))
    for private in (os.path.expanduser("~"), "annas-laptop", str(work)):
        assert private not in text


def test_single_answers_keep_their_kind():
    labels = np.array(["no", "yes"], dtype=object)
    assert bench_contenders.stacked(["yes", "no"], labels).tolist() == ["yes", "no"]
    assert bench_contenders.stacked([np.array([0.5, 0.5])] * 3, np.zeros((3, 2))).shape == (3, 2)


def test_bench_measures_the_engines_of_the_table():
    assert (*ENGINES, "numpy") == bench_contenders.NAMES


def test_the_answers_it_times_are_right(work):
    with bench_contenders.open_engine(work / "model.edgeml", "native", 1) as model:
        frame = pd.read_csv(work / "test.csv", keep_default_na=False, na_values=[""])
        rows = frame.to_dict("records")
        call = bench_rows.one_by_one(model, "predict_proba", rows)
        np.testing.assert_allclose([call(i) for i in range(50)], answers(work), rtol=1e-9)
        assert call(50).tolist() == call(0).tolist()

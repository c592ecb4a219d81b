"""``edgeml bench compare``: ratios worked out by hand, what may stand beside what, files that are none, pictures."""

import copy
import json
import re
import sys
from xml.etree import ElementTree

import pytest

from edgeml.cli import bench_file
from edgeml.cli.bench_compare import merge
from edgeml.errors import InputError
from tests.bench_tools import RUN, engine, figures, run_of, saved
from tests.cli_tools import ROOT, run

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def two(tmp_path):
    """A laptop, and a board that is four times as slow and has no scikit-learn."""
    return [saved(tmp_path, "laptop"), saved(tmp_path, "board", label="board", slower=4, without=("scikit-learn",))]


def compared(*files, **options):
    done = run("bench", "compare", *files, "--json", **options)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def case(merged, name, single, threads=1):
    """An engine's figures by label."""
    found = [c for c in merged["cases"] if (c["engine"], c["single"], c["threads"]) == (name, single, threads)]
    assert len(found) == 1
    return found[0]["machines"]


# --- ratios
def test_ratios_between_machines_and_between_engines(two):
    merged = compared(*two)
    assert (merged["format"], merged["base"], merged["base_engine"]) == ("edgeml bench comparison 1", "laptop", "onnx")
    one = case(merged, "native", True)
    assert one["laptop"]["p50_s"] == 2e-6
    assert one["board"]["p50_s"] == pytest.approx(8e-6)
    assert one["laptop"]["ratio"] == 1
    assert one["board"]["ratio"] == pytest.approx(0.25)  # 2 us over 8 us
    assert one["laptop"]["engine_ratio"] == pytest.approx(20)  # onnx takes 40 us
    assert one["board"]["engine_ratio"] == pytest.approx(20)
    batch = case(merged, "native", False)
    assert batch["laptop"]["engine_ratio"] == pytest.approx(5)  # 200 us over 40 us
    assert batch["laptop"]["rows_per_s"] == pytest.approx(2_500_000)  # 100 rows in 40 us
    assert batch["board"]["rows_per_s"] == pytest.approx(625_000)
    sklearn = case(merged, "scikit-learn", True, None)
    assert sklearn["board"] is None
    assert sklearn["laptop"]["engine_ratio"] == pytest.approx(0.005)  # 40 us over 8 ms


def test_the_base_is_the_one_asked_for(two):
    one = case(compared(*two, "--base", "board"), "native", True)
    assert (one["laptop"]["ratio"], one["board"]["ratio"]) == (pytest.approx(4), 1)
    done = run("bench", "compare", *two, "--base", "desk")
    assert done.exit_code == 2
    assert "--base desk: no run has this label" in done.stderr
    assert "'laptop', 'board'" in done.stderr


def test_scikit_learn_is_what_engines_are_compared_with_where_all_have_it(tmp_path):
    merged = compared(saved(tmp_path, "a"), saved(tmp_path, "b", label="b", slower=2))
    assert merged["base_engine"] == "scikit-learn"
    assert case(merged, "native", True)["b"]["engine_ratio"] == pytest.approx(4000)  # 16 ms over 4 us
    assert case(merged, "onnx", False)["laptop"]["engine_ratio"] == pytest.approx(80)  # 16 ms over 200 us


def test_numbers_of_threads_stand_apart(tmp_path):
    twice = engine("native", 2e-6, 40e-6)
    twice["runs"].append(figures(100, 20e-6, threads=2))
    merged = compared(saved(tmp_path, "a", engines=[RUN["engines"][0], twice]))
    assert case(merged, "native", False, 2)["laptop"]["engine_ratio"] == pytest.approx(800)  # 16 ms over 20 us
    shown = run("bench", "compare", tmp_path / "a.json").stdout
    assert "native, 1 thread " in shown
    assert "native, 2 threads" in shown


def test_tables_say_it_all(two):
    shown = run("bench", "compare", *two).stdout
    assert "churn version 3: predict" in shown
    assert re.search(r"A  laptop +x86_64 +8  quiet", shown)
    table = shown.partition("one row: median")[2].partition("\n\n")[0]
    assert [line.split() for line in table.strip().splitlines()] == [
        ["engine", "A", "B", "ratio"],
        ["scikit-learn", "8", "ms", "—", "—"],
        ["native", "2", "us", "8", "us", "0.25x"],
        ["onnx", "40", "us", "160", "us", "0.25x"],
    ]
    assert re.search(r"batches of 100: rows/s\n.*\n.*\n  native +2.5M +625k", shown)
    assert re.search(r"native, one row +20x +20x", shown)
    assert re.search(r"First answer of a new process\n.*\n.*\n  native +250 ms +1 s +0.25x", shown)


@pytest.mark.parametrize("machines", [1, 3, 4, 5, 9])
def test_many_machines_are_told_in_several_tables(tmp_path, machines):
    files = [saved(tmp_path, f"m{i}", label=f"machine {i}", slower=i + 1) for i in range(machines)]
    shown = run("bench", "compare", *files).stdout
    assert max(map(len, shown.splitlines())) <= 80
    heads = [line for line in shown.partition("Times as fast")[0].splitlines() if line.startswith("  engine")]
    assert {name for head in heads for name in head.split()} >= set("ABCDEFGHI"[:machines])


def test_one_label_twice_is_numbered_and_one_run_twice_refused(tmp_path):
    files = [saved(tmp_path, "a"), saved(tmp_path, "b", slower=2), saved(tmp_path, "c", slower=3)]
    files.insert(1, saved(tmp_path, "d", label="laptop (2)", slower=5))
    assert [m["label"] for m in compared(*files)["machines"]] == ["laptop", "laptop (2)", "laptop (3)", "laptop (4)"]
    done = run("bench", "compare", files[0], saved(tmp_path, "again"))
    assert done.exit_code == 2
    assert "hold the same run" in done.stderr


# --- what may stand beside what
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"bundle__manifest_sha256": "c" * 64},
            "ran churn version 3 (cccccccccccc), 'laptop' ran churn version 3 (aaaa",
        ),
        ({"settings__method": "predict_proba"}, "'other' measured predict_proba, 'laptop' predict"),
        ({"settings__rows_sha256": "c" * 64}, "other rows"),
    ],
)
def test_runs_that_do_not_belong_together_are_refused_unless_forced(tmp_path, change, message):
    files = [saved(tmp_path, "a"), saved(tmp_path, "b", label="other", **change)]
    done = run("bench", "compare", *files, "-o", tmp_path / "p.png")
    assert done.exit_code == 2
    assert done.stdout == ""
    assert message in done.stderr
    assert "--force" in done.stderr
    assert not (tmp_path / "p.png").exists()
    done = run("bench", "compare", *files, "--force")
    assert done.exit_code == 0
    assert message in done.stderr.partition("warning: ")[2]


def test_no_time_of_an_emulated_machine_is_shown(tmp_path):
    files = [saved(tmp_path, "a"), saved(tmp_path, "q", label="q", slower=7.3, machine__emulated="qemu-aarch64")]
    merged = compared(*files)
    assert case(merged, "native", True)["q"] == {"ratio": None, "engine_ratio": pytest.approx(4000)}
    assert all(s["machines"]["q"] is None for s in merged["starts"])
    done = run("bench", "compare", *files, "-o", tmp_path / "p.svg")
    assert "14.6 us" not in done.stdout  # 7.3 times 2 us
    assert re.search(r"B  q +x86_64 +8  emulated", done.stdout)
    assert "q is emulated (qemu-aarch64): its times are no device's" in done.stderr
    assert "14.6 us" not in (tmp_path / "p.svg").read_text()
    assert "14.6 us" in run("bench", "compare", saved(tmp_path, "b", slower=7.3)).stdout
    # As the base it has nothing to give ratios of, and alone nothing to draw.
    assert case(compared(*files, "--base", "q"), "native", True)["laptop"]["ratio"] is None
    done = run("bench", "compare", files[1], "-o", tmp_path / "alone.png")
    assert done.exit_code == 2
    assert "nothing to draw" in done.stderr


def test_doubts_of_a_run_are_passed_on(tmp_path):
    wrong = engine("native", 2e-6, 40e-6)
    wrong["agreement"] |= {"agrees": False, "problems": ["a batch: 7 of 100 rows have another answer"]}
    path = saved(tmp_path, "a", noise__busy=["a load of 3.0 on 2 cores before it began"], engines=[wrong])
    done = run("bench", "compare", path)
    assert "warning: laptop was busy: a load of 3.0 on 2 cores" in done.stderr
    assert "laptop: native answers otherwise than golden rows: a batch: 7 of 100" in done.stderr
    assert "busy" in done.stdout


# --- files
def paths(fields=bench_file.FIELDS, at=()):
    """The path of every field of the file; of a list the first entry's."""
    for name, kind in fields.items():
        here = (*at, name)
        yield here
        inner = getattr(kind, "kind", kind)
        if isinstance(inner, dict):
            yield from paths(inner, (*here, 0) if isinstance(kind, bench_file.Many) else here)


def part(run, path):
    for name in path:
        run = run[name]
    return run


@pytest.mark.parametrize("path", list(paths()), ids=lambda path: ".".join(map(str, path)))
def test_every_field_is_due_and_of_its_type(tmp_path, path):
    file = tmp_path / "a.json"
    broken = copy.deepcopy(RUN)
    del part(broken, path[:-1])[path[-1]]
    file.write_text(json.dumps(broken))
    with pytest.raises(InputError, match=r"edgeml bench|is missing") as caught:
        bench_file.read(file)
    assert str(file) in caught.value.cause
    broken = copy.deepcopy(RUN)
    part(broken, path[:-1])[path[-1]] = [{"odd": 1}] if path[-1] != "software" else [1]
    file.write_text(json.dumps(broken))
    with pytest.raises(InputError, match=re.escape(str(file))):
        bench_file.read(file)


def test_every_field_is_documented():
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    for path in paths():
        assert f"`{path[-1]}`" in text, path
    assert f"`{bench_file.FORMAT}`" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"engines": []}, "engines is [], a list of 1 entries or more is due"),
        ({"timer_s": -1.0}, "timer_s is -1.0, a number from 0 is due"),
        ({"timer_s": True}, "timer_s is true, a number from 0 is due"),
        ({"bundle__version": 1.5}, "bundle.version is 1.5, an integer from 0 is due"),
        ({"label": None}, "label is null, a text is due"),
        ({"software": {"numpy": 2}}, "software.numpy is 2, a text is due"),
        ({"format": "edgeml bench 2"}, "has format 'edgeml bench 2', this version of EdgeML reads 'edgeml bench 1'"),
        ({"format": "edgeml bench 0"}, "has format 'edgeml bench 0'"),
        ({"format": "edgeml bench comparison 1"}, "its format is 'edgeml bench comparison 1'"),
        ({"format": 3}, "it has no format"),
        ({"engines": [RUN["engines"][1]] * 2}, "engine 'native' has two figures for one case"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_the_field(tmp_path, change, message):
    done = run("bench", "compare", saved(tmp_path, "a", **change))
    assert done.exit_code == 2
    assert done.stdout == ""
    assert message in done.stderr
    assert "\n  " in done.stderr  # a remedy


def test_a_median_of_zero_is_no_figure(tmp_path):
    path = saved(tmp_path, "a")
    changed = json.loads(path.read_text())
    changed["engines"][1]["runs"][0]["p50_s"] = 0.0
    path.write_text(json.dumps(changed))
    assert "engines[1].runs[0].p50_s is 0.0, a number above 0 is due" in run("bench", "compare", path).stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("  \n", "is empty"),
        (json.dumps(RUN)[:-200], "is cut short: its JSON does not end"),
        (json.dumps(RUN)[: len(json.dumps(RUN)) // 2], "is cut short"),
        ("age,town\n1,Bern\n", "is no file of edgeml bench"),
        ("[]", "it has no format"),
        ('{"a": 1, "a": 2}', "key 'a' stands twice"),
        (json.dumps(RUN).replace("4e-08", "NaN"), "NaN is not JSON"),
        ("[" * 5000, "nested more than"),
        ("\x00\x01PK", "is no file of edgeml bench"),
    ],
)
def test_what_is_no_run_is_refused(tmp_path, text, message):
    path = tmp_path / "a.json"
    path.write_text(text)
    done = run("bench", "compare", path)
    assert done.exit_code == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_bytes_that_are_no_text_and_files_that_are_not_there(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"{\xff\xfe}")
    assert "is no file of edgeml bench" in run("bench", "compare", path).stderr
    for name, message in (("absent.json", "No such file"), ("", "directory")):
        done = run("bench", "compare", tmp_path / name)
        assert done.exit_code == 2
        assert message in done.stderr
    assert run("bench", "compare").exit_code == 2


def test_a_later_writer_may_add_fields(tmp_path):
    assert compared(saved(tmp_path, "a", weather="fine", machine__colour="red"))["base"] == "laptop"


def test_what_is_written_is_read_back(tmp_path):
    path = tmp_path / "a.json"
    odd = run_of(label="Gerät \U0001f600")
    odd["engines"][0]["agreement"]["max_abs"] = float("inf")
    path.write_bytes(bench_file.encode(odd))
    odd["engines"][0]["agreement"]["max_abs"] = "inf"
    assert bench_file.read(path) == odd


# --- pictures
def test_pictures_are_what_their_names_say(two, tmp_path):
    for name in ("p.png", "p.svg", "p.html"):
        done = run("bench", "compare", *two, "-o", tmp_path / name)
        assert done.exit_code == 0, done.output
        assert f"{name} is written" in done.stderr
    assert (tmp_path / "p.png").read_bytes().startswith(PNG)
    svg = (tmp_path / "p.svg").read_text()
    assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
    texts = set(re.findall(r"<!-- (.*?) -->", svg))
    for text in ("laptop", "board", "native", "onnx", "scikit-learn", "2 us", "8 us", "2.5M/s", "625k/s"):
        assert text in texts, text
    assert any("edgeml 0.1.0, python 3.13.1, numpy 2.4.6" in text for text in texts)
    page = (tmp_path / "p.html").read_text()
    assert "<?xml" not in page
    assert page.count("<svg") == 1
    assert "<td>2 us<td>1x<td>8 us<td>0.25x" in page


def test_equal_comparisons_give_equal_pictures(two):
    from edgeml.cli.bench_plot import draw

    merged = merge([(path, bench_file.read(path)) for path in two])
    assert draw(merged, "svg") == draw(merged, "svg")
    assert draw(merged, "png") == draw(merged, "png")


@pytest.mark.parametrize(
    "change",
    [
        {"label": "costs $5 and $6 <b>&amp; \x1b[31m"},
        {"bundle__name": "a$b$" * 20, "bundle__estimator": "Pipeline(" + "Step, " * 60 + ")"},
        {"engines": [RUN["engines"][1] | {"runs": RUN["engines"][1]["runs"][:1]}]},
        {"engines": [engine("native", 1e-9, 1e-7), engine("onnx", 3e3, 9e4), engine("fpga", 1e-5, 1e-4)]},
        {"engines": [RUN["engines"][1] | {"runs": []}, RUN["engines"][2]]},
    ],
)
def test_odd_runs_are_drawn_too(tmp_path, change):
    path = saved(tmp_path, "a", **change)
    for name in ("p.png", "p.html"):
        done = run("bench", "compare", path, "-o", tmp_path / name)
        assert done.exit_code == 0, done.output
    assert (tmp_path / "p.png").read_bytes().startswith(PNG)
    assert "\x1b" not in (tmp_path / "p.html").read_text() + done.stdout
    assert "<b>" not in (tmp_path / "p.html").read_text()


def test_a_picture_of_another_kind_or_over_an_input_is_refused(two, tmp_path):
    done = run("bench", "compare", *two, "-o", tmp_path / "p.pdf")
    assert done.exit_code == 2
    assert "a picture ends in .png, .svg, .html" in done.stderr
    before = two[0].rename(tmp_path / "run.svg").read_bytes()
    done = run("bench", "compare", tmp_path / "run.svg", "-o", tmp_path / "run.svg")
    assert done.exit_code == 2
    assert "is an input file" in done.stderr
    assert (tmp_path / "run.svg").read_bytes() == before
    done = run("bench", "compare", two[1], "-o", tmp_path / "no" / "p.png")
    assert done.exit_code == 2
    assert "No such file" in done.stderr


def test_without_matplotlib_the_command_says_what_to_install(two, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = run("bench", "compare", *two, "-o", tmp_path / "p.png")
    assert done.exit_code == 2
    assert "pip install 'edgeml-sdk[plot]'" in done.stderr
    assert done.stdout == ""
    assert run("bench", "compare", *two).exit_code == 0

"""The README's figures are those that were measured, and the guards of the benchmarks themselves hold."""

from __future__ import annotations

import json
import time
from functools import partial

import numpy as np
import pytest

from benchmarks import instructions
from benchmarks.measure import Effort, Turn, against, take_turns
from benchmarks.promises import PROMISES, judged
from benchmarks.report import RESULTS, ROOT, promises, rendered, troubles


def test_the_readme_has_the_tables_of_the_committed_records():
    text = (ROOT / "README.md").read_text()
    assert rendered(text, json.loads(RESULTS.read_text())) == text, "run `python -m benchmarks.report`"


def test_records_name_no_host_and_no_path():
    import platform

    text = RESULTS.read_text()
    assert platform.node() not in text or len(platform.node()) < 4
    assert not {part for part in ("/home/", "/tmp/", "/root/", "/work/") if part in text}


# --- promises ------------------------------------------------------------------------------------------------------
def one(contender, us, model="32 columns: logistic", kind="linear", form="pandas", **more):
    record = {"model": model, "kind": kind, "contender": contender, "form": form, "what": "one", "us": us}
    return record | more


def test_a_promise_is_judged_by_its_worst_model():
    slow = one("EdgeML", 4.0, model="32 columns: ridge")
    verdicts = {v.text: v for v in judged({"pipelines": [one("EdgeML", 2.0), slow]})}
    verdict = verdicts["one row, linear model"]
    assert (verdict.worst, verdict.best) == (("32 columns: ridge", 4.0), ("32 columns: logistic", 2.0))
    assert not verdict.reached
    assert verdict.reason


def test_a_ratio_is_of_the_same_model_and_the_named_form():
    peer = "skl2onnx + onnxruntime"
    records = [
        one("EdgeML", 2.0),
        one(peer, 30.0, form="inputs already split"),
        one(peer, 90.0, form="splitting included"),
        one(peer, 1.0, form="inputs already split", model="32 columns: other"),
    ]
    verdicts = {v.text: v for v in judged({"pipelines": records})}
    verdict = verdicts["one row, against onnxruntime, its inputs already split"]
    assert verdict.worst == verdict.best == ("32 columns: logistic", 15.0)
    assert verdict.reached


def test_a_contender_that_failed_counts_nowhere_and_is_shown():
    failed = {"model": "m", "kind": "linear", "contender": "peer", "form": "", "what": "batch", "failed": "No: reason"}
    assert judged({"pipelines": [one("EdgeML", 2.0, failed="No: reason")]}) == []
    assert "peer fails on m: `No: reason`" in troubles({"pipelines": [failed]})


def test_a_section_of_its_own_states_its_promise():
    record = {"model": "RF100", "promise": "compiling RF100", "value": 0.8, "bound": 1.0, "unit": "s"}
    assert "| compiling RF100 | ≤ 1 s | **0.8 s** (RF100) |  | yes |  |" in promises(
        {"records": {"compile time": [record]}}
    )


def test_every_promise_has_a_text_of_its_own():
    assert len({p.text for p in PROMISES}) == len(PROMISES)


# --- measuring -----------------------------------------------------------------------------------------------------
def test_contenders_take_turns_over_all_items():
    seen = {"a": [], "b": []}

    def call(name, item):
        time.sleep(1e-4)  # longer than a stretch, so that a sample is one item
        seen[name].append(item)

    turns = {name: Turn(partial(call, name), range(4)) for name in seen}
    times = take_turns(turns, Effort(0.0, 8))
    assert {len(t) for t in times.values()} == {8}
    assert all(set(items) == {0, 1, 2, 3} for items in seen.values())


def test_answers_are_compared_on_every_row():
    expected = np.array([[0.9, 0.1], [0.2, 0.8]])
    found = against(np.array([[0.9, 0.1], [0.6, 0.4]]), expected)
    assert found["labels_differ"] == 1
    assert found["largest_difference"] == pytest.approx(0.4)
    with pytest.raises(ValueError, match="shape"):
        against(expected[:1], expected)


# --- instructions --------------------------------------------------------------------------------------------------
CALLGRIND = """version: 1
events: Ir
fn=(1) edgeml_counted
16 30
cfn=(2) edgeml_op_linear
calls=2 0
16 500
+3 7
fn=(2)
* 480
+4 20
fn=(3) edgeml_op_trees'2
9 100
totals: 637
"""


def test_instructions_are_counted_without_those_of_called_functions():
    assert instructions.functions(CALLGRIND) == {"edgeml_counted": 37, "linear": 500, "trees": 100}


def counts(total, linear):
    return {"model/256 rows": {"total": total, "linear": linear, "trees": total - linear}}


def test_a_slower_kernel_is_named_with_its_share():
    (change,) = instructions.changes(counts(10_000, 4_000), counts(10_600, 4_600))
    assert str(change) == "model/256 rows: 10,000 -> 10,600 instructions, 6.0% more, most of it in linear"


def test_a_faster_kernel_asks_for_a_new_baseline_too():
    (change,) = instructions.changes(counts(10_000, 4_000), counts(9_000, 3_000))
    assert "10.0% fewer" in str(change)


def test_five_percent_pass():
    assert instructions.changes(counts(10_000, 4_000), counts(10_500, 4_500)) == []


def test_a_model_that_is_gone_or_new_is_a_change():
    (gone,) = instructions.changes(counts(10_000, 4_000), {})
    (new,) = instructions.changes({}, counts(10_000, 4_000))
    assert (gone.now, new.before) == (0, 0)


def run(monkeypatch, capsys, path, now, *arguments):
    monkeypatch.setattr(instructions, "BASELINE", path)
    monkeypatch.setattr(instructions, "count", lambda pattern: now)
    monkeypatch.setattr("sys.argv", ["instructions", *arguments])
    code = instructions.main()
    return code, capsys.readouterr()


def test_the_command_fails_says_how_to_accept_and_accepts(monkeypatch, capsys, tmp_path):
    path = tmp_path / "instructions.json"
    assert run(monkeypatch, capsys, path, counts(10_000, 4_000), "--update")[0] == 0
    assert run(monkeypatch, capsys, path, counts(10_000, 4_000))[0] == 0
    code, printed = run(monkeypatch, capsys, path, counts(12_000, 6_000))
    assert code == 1
    assert "20.0% more, most of it in linear" in printed.out
    assert "--update" in printed.err
    assert run(monkeypatch, capsys, path, counts(12_000, 6_000), "--update")[0] == 0
    assert run(monkeypatch, capsys, path, counts(12_000, 6_000))[0] == 0


def test_counts_of_another_llvm_are_not_compared(monkeypatch, capsys, tmp_path):
    path = tmp_path / "instructions.json"
    path.write_text(json.dumps({"LLVM 3, i386": counts(1, 1)}))
    code, printed = run(monkeypatch, capsys, path, counts(10_000, 4_000))
    assert code == 0
    assert "not compared" in printed.out
    run(monkeypatch, capsys, path, counts(10_000, 4_000), "--update")
    assert set(json.loads(path.read_text())) == {"LLVM 3, i386", instructions.key()}

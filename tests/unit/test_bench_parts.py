"""What ``edgeml bench`` is made of: turns and processes (timing.py), the machine's record (bench_machine.py)."""

import os
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest

from edgeml.cli import bench_machine, timing
from tests.cli_tools import ROOT
from tests.waiting import PATIENCE


def test_first_answer_of_a_real_process(work, monkeypatch, tmp_path):
    monkeypatch.setenv("EDGEML_TELEMETRY", str(tmp_path / "spool"))
    monkeypatch.chdir(tmp_path)
    row = {"age": float("nan"), "visits": 3, "town": "\U0001f600"}
    bare = timing.first_answer()
    found = timing.first_answer(str(work / "model.edgeml"), "native", "predict_one", row, "numpy")
    assert found.seconds > 0
    assert found.peak_bytes > bare.peak_bytes > 1_000_000
    assert list(tmp_path.iterdir()) == [], "a measurement is no traffic"
    with pytest.raises(RuntimeError, match="MissingColumnError: column 'age' is missing"):
        timing.first_answer(str(work / "model.edgeml"), "native", "predict_one", {"town": "x" * 300_000})
    with pytest.raises(RuntimeError, match="BundleFileError"):
        timing.first_answer("absent.edgeml", "native", "predict_one", row)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "absent"))
    with pytest.raises(RuntimeError, match="Python cannot be started"):
        timing.first_answer()


def test_turns_are_fair(monkeypatch):
    now = [0]  # nanoseconds, which pass in the calls alone
    clock = SimpleNamespace(perf_counter=lambda: now[0] * 1e-9, perf_counter_ns=lambda: now[0])
    monkeypatch.setattr(timing, "time", clock)
    names = ("a", "b", "slow")
    calls, rounds, order = {name: [] for name in names}, {name: [] for name in names}, []

    def call(name, nanoseconds=20_000):
        def run(i):
            calls[name].append(i)
            rounds[name].append(len(seen))
            if not order or order[-1] != name:
                order.append(name)
            now[0] += nanoseconds

        return run

    seen = []
    times = timing.take_turns({"a": call("a"), "b": call("b"), "slow": call("slow", 50_000_000)}, 0.02, seen.append)
    assert len(times["slow"]) == timing.LEAST_TURNS, "of what takes longer than its time"
    assert len(calls["a"]) == len(times["a"]) + 2, "two calls do not count"
    assert calls["a"][2:] == list(range(len(times["a"])))
    assert seen == pytest.approx([(i + 1) / timing.ROUNDS for i in range(timing.ROUNDS)])
    assert rounds["slow"][2:] == [6, 13, 19], "spread over all rounds"
    assert order.count("a") > timing.ROUNDS / 2, "a round a turn, side by side with the others"
    assert min(times["slow"]) == pytest.approx(0.05)


def test_figures_are_percentiles():
    found = timing.figures([float(i) for i in range(101)])
    assert found == {"min_s": 0, "p10_s": 10, "p50_s": 50, "p90_s": 90, "p99_s": 99, "repeats": 101}


QUIET = {
    "load_before": 0.1, "load_after": 0.9, "yardstick_p10_s": 1.0, "yardstick_p50_s": 1.0, "yardstick_p90_s": 1.1,
    "cpu_share": 0.99, "steal": 0.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"load_before": 1.0}, "a load of 1.0 on 2 cores before it began"),
        ({"yardstick_p90_s": 2.0}, "a fixed piece of work took up to 2.0 times as long"),
        ({"cpu_share": 0.7}, "other processes had the core for 30% of the time"),
        ({"steal": 0.25}, "the hypervisor gave 25% of the time to others"),
        ({"load_before": None, "steal": None}, None),
    ],
)
def test_a_busy_machine_is_called_so(monkeypatch, change, reason):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    assert bench_machine._busy(QUIET | change) == ([reason] if reason else [])


def test_steal_is_a_part_of_the_time():
    assert bench_machine._steal([0] * 10, [10, 0, 10, 60, 0, 0, 0, 20, 5, 0]) == 0.2
    assert bench_machine._steal([], [1] * 10) is None
    assert bench_machine._steal([5] * 10, [5] * 10) == 0


ARM = "processor : 0\nCPU implementer : 0x41\nCPU part : 0xd08\nCPU implementer : 0x41\nCPU part : 0xd03\n"
INTEL = "processor : 0\nvendor_id : GenuineIntel\nmodel name : 11th Gen Intel(R) Core(TM) i7-1165G7 @ 2.80GHz\n"


@pytest.mark.parametrize(
    ("here", "cpuinfo", "name", "emulator"),
    [
        ("aarch64", ARM, "Cortex-A53 + Cortex-A72", None),
        ("armv7l", ARM.replace("0xd03", "0xeee"), "Cortex-A72 + ARM part 0xeee", None),
        ("x86_64", INTEL, "11th Gen Intel Core i7-1165G7", None),
        ("x86_64", "vendor_id : AMD\nmodel name : AMD EPYC 7763 64-Core Processor\n", "AMD EPYC 7763", None),
        ("aarch64", INTEL, "11th Gen Intel Core i7-1165G7", "the CPU of /proc/cpuinfo is x86, this Python is ARM's"),
        ("x86_64", ARM, None, "the CPU of /proc/cpuinfo is ARM's, this Python is x86"),
        ("x86_64", INTEL.replace("11th Gen", "QEMU Virtual CPU version 2.5+"), None, "QEMU"),
        ("riscv64", "", None, None),
    ],
)  # fmt: skip
def test_cpus_and_emulators(monkeypatch, here, cpuinfo, name, emulator):
    monkeypatch.setattr(bench_machine.platform, "machine", lambda: here)
    monkeypatch.setattr(bench_machine, "_read", lambda path: cpuinfo if str(path) == "/proc/cpuinfo" else "")
    monkeypatch.setattr(bench_machine, "_command", lambda *words: "")
    assert bench_machine.emulated() == emulator
    assert bench_machine.cpu()
    if name is not None:
        assert bench_machine.cpu() == name


def test_the_label_names_no_host(monkeypatch):
    monkeypatch.setattr(bench_machine.platform, "node", lambda: "annas-laptop")
    label = bench_machine.label("Fast CPU")
    assert re.fullmatch(r"Fast CPU [0-9a-f]{4}", label)
    monkeypatch.setattr(bench_machine.platform, "node", lambda: "bobs-laptop")
    assert bench_machine.label("Fast CPU") != label


@pytest.mark.skipif(shutil.which("qemu-x86_64") is None, reason="qemu-user is not installed")
def test_a_program_under_qemu_is_found_out():
    code = "from edgeml.cli import bench_machine; print(bench_machine.emulated())"
    command = ["qemu-x86_64", "-cpu", "max", os.path.realpath(sys.executable), "-c", code]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=PATIENCE, check=False)
    assert done.stdout.startswith("qemu-x86_64"), done.stderr[-500:]

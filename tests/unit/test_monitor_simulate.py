"""``edgeml monitor serve``, a real process, under ``edgeml monitor simulate``: the whole chain, with its count."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli_tools import run
from tests.otlp_receiver import Receiver
from tests.waiting import PATIENCE

EDGEML = str(Path(sys.executable).with_name("edgeml"))


@pytest.fixture
def served(database, tmp_path):
    """A function of more options of serve: its URL, an enrolment token, an access token."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("EDGEML_", "OTEL_"))}
    environment["OTEL_METRIC_EXPORT_INTERVAL"] = "200"
    environment |= {"EDGEML_MONITOR_DATABASE": database, "EDGEML_MONITOR_PASSWORD": "a long password of the test"}
    started = []

    def edgeml(*arguments):
        command = [EDGEML, "monitor", *arguments, "--json"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def start(*arguments):
        edgeml("init")
        token = edgeml("enrol-token", "create", "simulated", "--fleet")["token"]
        access = edgeml("token", "create", "check", "--role", "viewer")["token"]
        command = [EDGEML, "monitor", "serve", "--port", "0", "--json", "--no-access-log", *arguments]
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
        )
        started.append(process)
        return json.loads(process.stdout.readline())["url"], token, access

    yield start
    for process in started:
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        process.stdout.close()


def test_a_simulated_fleet_is_counted_to_the_window(served, database):
    with Receiver() as receiver:
        url, token, access = served("--otlp", receiver.url)
        arguments = ["monitor", "simulate", "--server", url, "--token", token, "--devices", 12, "--interval", 0.5]
        arguments += ["--duration", 2, "--json"]
        result = run(*arguments, "--database", database)
        assert result.exit_code == 0, result.stderr
        report = json.loads(result.stdout)
        assert report["check"]["ok"]
        assert report["windows"] == report["acknowledged"] == report["check"]["kept"] >= 36
        receiver.wait(lambda: receiver.total("edgeml.telemetry.windows") == report["acknowledged"])
        again = run(*arguments, "--access-token", access, "--faults", "0.1,clone=0.3")
        assert again.exit_code == 0, again.stderr
        report = json.loads(again.stdout)
        assert report["check"]["ok"], report
        assert report["check"]["by"] == "API"
        assert not [name for name in report["counts"] if name.startswith(("unexpected", "refused", "given up"))], report


def test_a_count_that_differs_is_exit_code_1(served, database):
    url, token, _ = served()
    from edgeml.fleet import simulate_check

    real = simulate_check._compare

    def one_less(engine, devices, model):
        devices[0].acknowledged |= 1 << devices[0].sequence + 3
        return real(engine, devices, model)

    simulate_check._compare = one_less
    try:
        arguments = ["--server", url, "--token", token, "--devices", 2, "--interval", 0.5, "--duration", 1]
        result = run("monitor", "simulate", *arguments, "--database", database)
    finally:
        simulate_check._compare = real
    assert result.exit_code == 1
    assert "THE COUNTS DIFFER" in result.stdout


def test_a_token_that_is_no_good(served):
    url, _, _ = served()
    result = run("monitor", "simulate", "--server", url, "--token", "em_no", "--devices", 2, "--duration", 1)
    assert result.exit_code == 2
    assert "enrol" in result.stderr


def test_usage():
    for wrong in (["--faults", "fire=1"], ["--server", "nowhere"]):
        result = run("monitor", "simulate", "--server", "http://127.0.0.1:9", "--token", "t", *wrong)
        assert result.exit_code == 2
        assert result.stderr

"""The agent's OTLP side: a copy never touches delivery to the monitor, and a collector alone acknowledges windows."""

import base64
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeml.errors import SpoolError
from edgeml.fleet.simulate_windows import built_in_model, templates
from edgeml.jsonutil import dumps
from edgeml.telemetry.agent_settings import AgentSettings
from edgeml.telemetry.items import Item, Loss
from edgeml.telemetry.otlp_agent import OtlpAgent, OtlpCopy, OtlpThread, Source
from edgeml.telemetry.otlp_settings import settings
from edgeml.telemetry.spool import Spool
from tests.agent_tools import KEY, STREAM, Bench, SimulatedClock
from tests.cli_tools import run
from tests.otlp_receiver import Receiver, collector, rotel
from tests.ports import free_port
from tests.waiting import PATIENCE

MODEL = built_in_model("pump")
DRAWN = templates(MODEL, np.random.default_rng(0), 4)


def windows(count, first=0):
    """Items with real windows, and the profile they need kept."""
    made = []
    for n in range(first, first + count):
        template = DRAWN[n % len(DRAWN)]
        payload = template.fill(start=60.0 * n, end=60.0 * n + 60, wall=1.7e9 + 60 * n, pid=1, boot_id="b")
        made.append(Item(STREAM, n, "window", payload, template.rows))
    return made


def rows_of(items):
    return sum(item.rows for item in items)


class Device:
    """A spool, and an agent that sends it to a collector alone."""

    def __init__(self, folder, receiver, **options):
        self.clock = SimulatedClock()
        self.spool = Spool(folder, key=KEY)
        self.spool.put_profile(MODEL.profile_sha256, dumps(MODEL.profile))
        self.settings = settings(receiver.url, environment={}, **options)
        self.agent = self.new_agent()

    def new_agent(self):
        source = Source(self.spool, self.settings, more={"host.name": "pump-7"}, clock=self.clock)
        return OtlpAgent(self.spool, self.settings, source, clock=self.clock)

    def run(self, steps=20):
        for _ in range(steps):
            wait = self.agent.step()
            if self.agent.drained:
                return
            self.clock.pass_(wait)
        raise AssertionError(self.agent.status.error)

    def close(self):
        self.agent.close()
        self.spool.close()


@pytest.fixture
def device(tmp_path):
    """A function of (receiver, **settings) that makes a Device, closed at the end."""
    made = []

    def make(receiver, **options):
        made.append(Device(tmp_path / "spool", receiver, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


# --- a collector alone -----------------------------------------------------------------------------------------------
def test_the_collector_is_the_acknowledgement(device):
    with Receiver() as receiver:
        pump, items = device(receiver), windows(3)
        pump.spool.append(items, [Loss("9" * 32, 4, 6, "window", "the spool is full", 300)])
        pump.run()
        assert pump.spool.stats().items == 0
        assert receiver.total("edgeml.model.rows") == rows_of(items)
        assert receiver.total("edgeml.telemetry.lost.items", edgeml__loss__reason="the spool is full") == 3
        assert receiver.total("edgeml.telemetry.lost.rows") == 300
        resources = [dict(key[0]) for key in receiver.points if key[1] == "edgeml.model.rows"]
        assert {r["host.name"] for r in resources} == {"pump-7"}
        assert pump.agent.status.items == 3
        assert len(receiver.requests) == 1


@pytest.mark.parametrize("answer", [(503, {"Retry-After": "30"}, b""), None, (429, {}, b"")])
def test_windows_stay_until_the_collector_has_them(device, answer):
    with Receiver([answer, answer]) as receiver:
        pump, items = device(receiver), windows(2)
        pump.spool.append(items)
        wait = pump.agent.step()
        assert pump.spool.stats().items == 2
        assert pump.agent.status.error
        assert wait >= (30 if answer and answer[0] == 503 else 0)
        pump.clock.pass_(wait)
        pump.run()
        assert receiver.total("edgeml.model.rows") == rows_of(items)
        assert pump.agent.status.error is None


def test_a_process_that_died_before_it_knew_sends_again(device):
    """At least once: OTLP has no number by which a collector could know a message."""
    with Receiver([None]) as receiver:
        pump, items = device(receiver), windows(2)
        pump.spool.append(items)
        pump.agent.step()
        pump.agent.close()
        pump.agent = pump.new_agent()
        pump.run()
        assert receiver.total("edgeml.model.rows") == rows_of(items)


def test_what_the_collector_refuses_is_given_up_and_counted(device):
    with Receiver([(400, {}, b"not wanted")]) as receiver:
        pump = device(receiver)
        pump.spool.append(windows(2))
        pump.run()
        assert pump.spool.stats().items == 0
        assert pump.agent.status.refused == 2
        assert sum(pump.spool.stats().refused.values()) == 2


def test_a_message_too_large_is_made_smaller(device):
    with Receiver([(413, {}, b""), (413, {}, b"")]) as receiver:
        pump, items = device(receiver), windows(8)
        pump.spool.append(items)
        pump.run()
        assert receiver.total("edgeml.model.rows") == rows_of(items)
        assert pump.agent.status.refused == 0


def test_windows_go_in_the_order_of_time(device):
    with Receiver() as receiver:
        pump, items = device(receiver), windows(120)
        pump.spool.append(items)
        pump.run()
        ends = [key[3] for key in receiver.points if key[1] == "edgeml.telemetry.windows"]
        assert len(receiver.requests) > 1
        assert len(ends) == 120
        assert ends == sorted(ends)
        assert receiver.total("edgeml.model.rows") == rows_of(items)


def test_one_window_that_cannot_be_read_holds_up_no_other(device):
    with Receiver([(503, {}, b"")]) as receiver:
        pump, items = device(receiver), windows(3)
        strange = json.loads(items[1].payload) | {"profile_sha256": "f" * 64}
        pump.spool.append([items[0], Item(STREAM, 1, "window", dumps(strange), 5), items[2]])
        pump.run()
        assert receiver.total("edgeml.model.rows") == items[0].rows + items[2].rows
        assert pump.agent.status.refused == 1
        assert pump.agent.status.items == 2


def test_a_disk_that_fails_for_a_moment_costs_no_window(device, monkeypatch):
    def failed(sha256):
        raise SpoolError("the database is locked")

    with Receiver() as receiver:
        pump, items = device(receiver), windows(3)
        pump.spool.append(items)
        with monkeypatch.context() as moment:
            moment.setattr(pump.spool, "profile", failed)
            pump.agent.step()
        assert "locked" in pump.agent.status.error
        pump.agent.hurry()
        pump.run()
        assert receiver.total("edgeml.model.rows") == rows_of(items)
        assert pump.agent.status.refused == 0


def test_sampled_rows_have_no_form_in_otlp(device):
    with Receiver() as receiver:
        pump = device(receiver)
        pump.spool.append([Item(STREAM, 0, "rows", dumps({"sealed": "x"}), 3)])
        pump.run()
        assert receiver.requests == []
        assert pump.spool.stats().items == 0
        assert pump.agent.status.refused == 1


def test_totals_hold_a_window_once_however_often_it_is_sent(device):
    with Receiver([(503, {}, b""), None]) as receiver:
        pump, items = device(receiver, temporality="cumulative"), windows(3)
        for item in items:
            pump.spool.append([item])
            pump.run()
        rows = sorted(p[-1] for key, p in receiver.points.items() if key[1] == "edgeml.model.rows")
        assert rows == np.cumsum([i.rows for i in items]).tolist()


# --- a copy beside the monitor ---------------------------------------------------------------------------------------
def test_a_copy_of_what_the_monitor_took(tmp_path):
    with Receiver() as receiver:
        bench, items = Bench(tmp_path), windows(3)
        chosen = settings(receiver.url, environment={})
        copy = OtlpCopy(Source(bench.spool, chosen, lambda: bench.agent.status.device), chosen)
        bench.spool.put_profile(MODEL.profile_sha256, dumps(MODEL.profile))
        bench.options["on_delivered"] = copy.on_delivered
        bench.agent = bench.new_agent()
        bench.spool.append(items, [Loss("9" * 32, 0, 0, "window", "evicted", 7)])
        bench.run()
        copy.close(20)
        assert receiver.total("edgeml.model.rows") == rows_of(items)
        assert receiver.total("edgeml.telemetry.lost.rows") == 7
        device = bench.identity.enrolment.device
        assert {dict(key[0])["device.id"] for key in receiver.points} == {device}
        assert copy.status()["sent"] == 4
        bench.close()


def test_a_collector_that_is_gone_delays_nothing(tmp_path):
    chosen = settings(f"http://127.0.0.1:{free_port()}", environment={})
    bench, items = Bench(tmp_path), windows(3)
    copy = OtlpCopy(Source(bench.spool, chosen), chosen)
    bench.spool.put_profile(MODEL.profile_sha256, dumps(MODEL.profile))
    bench.options["on_delivered"] = copy.on_delivered
    bench.agent = bench.new_agent()
    bench.spool.append(items)
    bench.run()
    assert bench.kept() == 0
    assert len(bench.monitor.sequences(STREAM)) == 3
    copy.close(0.01)
    assert copy.status()["dropped"] == 3
    bench.close()


# --- the thread and the command --------------------------------------------------------------------------------------
def test_the_thread_sends_and_stops(tmp_path):
    with Receiver() as receiver, Spool(tmp_path, key=KEY) as spool:
        spool.put_profile(MODEL.profile_sha256, dumps(MODEL.profile))
        spool.append(windows(2))
        thread = OtlpThread(spool, tmp_path, AgentSettings(idle_seconds=0.05), settings(receiver.url, environment={}))
        thread.start()
        assert thread.flush(PATIENCE)
        spool.append(windows(1, first=2))
        thread.wake()
        receiver.wait(lambda: receiver.total("edgeml.telemetry.windows") == 3)
        assert thread.stop(PATIENCE)
        assert thread.status.state == "stopped"


@pytest.mark.skipif(rotel() is None, reason="the collector is not installed: pip install rotel")
def test_the_command_sends_to_a_real_collector(tmp_path):
    items = windows(4)
    with Spool(tmp_path, key=KEY) as spool:
        spool.put_profile(MODEL.profile_sha256, dumps(MODEL.profile))
        spool.append(items)
    (tmp_path / "key").write_bytes(base64.urlsafe_b64encode(KEY))
    with Receiver() as receiver, collector(receiver) as url:
        edgeml = str(Path(sys.executable).with_name("edgeml"))
        command = [edgeml, "agent", "run", "--spool", str(tmp_path), "--otlp", url]
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("EDGEML_", "OTEL_"))}
        process = subprocess.Popen([*command, "--otlp-only", "--key", str(tmp_path / "key")], env=environment)
        try:
            receiver.wait(lambda: receiver.total("edgeml.telemetry.windows") == 4, timeout=60)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
    assert receiver.total("edgeml.model.rows") == rows_of(items)
    with Spool(tmp_path, key=KEY) as spool:
        assert spool.stats().items == 0


def test_options_that_need_a_collector(tmp_path):
    for options in (["--otlp-only"], ["--otlp-header", "a=b"], ["--otlp", "nowhere"]):
        result = run("agent", "run", "--spool", tmp_path / "spool", *options)
        assert result.exit_code == 2
        assert "otlp" in result.stderr.lower()

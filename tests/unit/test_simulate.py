"""The load generator is honest: its devices send what real ones would, and its latencies hide no stall of a server."""

import asyncio
import json
import random
import statistics
import threading
import time
from hashlib import sha256

import numpy as np
import pytest

from edgeml.errors import SimulationError, WireError
from edgeml.fleet.simulate import Simulation, SimulationSettings
from edgeml.fleet.simulate_device import SimulatedDevice
from edgeml.fleet.simulate_faults import Faults
from edgeml.fleet.simulate_http import Client, NoReply
from edgeml.fleet.simulate_latency import Latencies
from edgeml.fleet.simulate_windows import FEATURES, built_in_model, model_of_bundle, templates
from edgeml.telemetry import wire
from edgeml.telemetry.window import check_window
from tests import small_bundle
from tests.simulate_stub import StubMonitor, served
from tests.waiting import PATIENCE


@pytest.fixture(scope="module")
def model():
    return built_in_model("simulated")


def play(stub, model, *, token="token", watch=lambda progress: None, connections=16, **settings):
    """The simulation after a run against ``stub``."""

    async def run(url):
        client = Client(url, connections=connections, timeout=PATIENCE)
        try:
            simulation = Simulation(SimulationSettings(**settings), client, model, watch)
            await simulation.enrol(token)
            await simulation.play()
            return simulation
        finally:
            client.close()

    with served(stub) as url:
        return asyncio.run(run(url))


def expected(simulation):
    """{(device, stream, sequence): rows} of all that was acknowledged."""
    streams = [*simulation.devices, *simulation.twins]
    return {
        (d.device, d.stream, i): d.rows_of(i) for d in streams for i in range(d.sequence) if d.acknowledged >> i & 1
    }


def test_every_window_is_sent_once_and_counted(model):
    stub = StubMonitor()
    simulation = play(stub, model, devices=40, interval=0.5, duration=2.0)
    report = simulation.report()
    assert stub.problems == []
    assert stub.counted == expected(simulation)
    assert report["windows"] == report["acknowledged"] == len(stub.counted) >= 120
    assert report["latency"]["count"] == report["windows"]
    assert report["enrolment"]["devices"] == 40
    assert set(report["counts"]) <= {"accepted", "batches", "deferred", "windows"}
    json.dumps(report)


def test_all_faults_and_still_no_window_is_lost_or_counted_twice(model):
    stub = StubMonitor(misbehave=lambda number: {7: 500, 11: 429, 13: 503}.get(number % 40))
    faults = Faults(duplicate=0.2, late=0.2, offline=0.2, clone=0.2, clock=0.5)
    simulation = play(stub, model, devices=40, interval=0.2, duration=2.0, faults=faults)
    counts = simulation.report()["counts"]
    assert stub.problems == []
    assert stub.counted == expected(simulation)
    assert len(stub.counted) == sum(d.sequence for d in [*simulation.devices, *simulation.twins])
    for happened in ("repeated batches", "late windows", "absences", "clones", "conflict: closed", "retry: HTTP 500"):
        assert counts[happened] > 0, (happened, counts)
    assert not [name for name in counts if name.startswith(("unexpected", "given up", "refused"))]
    assert any(abs(skew) > 60 for skew in stub.skews)
    assert statistics.median(abs(skew) for skew in stub.skews) < 3600


def test_a_server_that_counts_twice_is_found_out(model):
    """Accepting what was sent again is the very fault the generator looks for."""
    stub = StubMonitor()
    real = stub.batch

    def forgetful(headers, content):
        status, answer = real(headers, content)
        if "results" in answer:
            answer = {**answer, "results": [["accepted", ""] for _ in answer["results"]]}
        return status, answer

    stub.batch = forgetful
    simulation = play(stub, model, devices=20, interval=0.3, duration=1.0, faults=Faults(duplicate=0.5))
    assert simulation.report()["counts"]["unexpected: windows sent again"] > 0


def test_a_stall_is_charged_to_every_window_it_made_wait(model):
    """The load is open: while the server stands still windows come due all the same, and their latency says so."""
    stalled = threading.Event()

    def stall(number):
        if number == 100 and not stalled.is_set():
            stalled.set()
            time.sleep(1.0)  # in the server's own loop: it answers nobody
        return None

    stub = StubMonitor(misbehave=stall)
    simulation = play(stub, model, devices=100, interval=0.5, duration=2.5, connections=4)
    latency = simulation.report()["latency"]
    assert stalled.is_set()
    # About a second of the two and a half: on average those windows waited for half of it.
    assert latency["p90"] > 0.3
    assert latency["p50"] < latency["p90"]


def test_the_load_is_spread_over_the_interval(model, monkeypatch):
    """Windows come due all over it; when they are sent is the machine's affair, too."""
    due = []
    real = Simulation._window
    monkeypatch.setattr(
        Simulation, "_window", lambda self, device, at, now: (due.append(at), real(self, device, at, now))
    )
    play(StubMonitor(), model, devices=200, interval=2.0, duration=2.0)
    parts, _ = np.histogram(np.array(due) - due[0], bins=5, range=(0, 2.0))
    assert parts.min() > 30  # of 40 in each


def test_a_token_that_is_no_good(model):
    with pytest.raises(SimulationError, match="the token is not known") as caught:
        play(StubMonitor(), model, token="other", devices=3)
    assert caught.value.remedy


def test_a_server_that_is_no_monitor(model):
    async def page(scope, receive, send):
        if scope["type"] == "http":
            await receive()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"<html>"})

    with pytest.raises(SimulationError, match="not a monitor"):
        play(page, model, devices=3)


def test_a_refused_device_stops_and_is_reported(model):
    stub = StubMonitor(misbehave=lambda number: 403)
    simulation = play(stub, model, devices=3, interval=0.2, duration=1.0)
    report = simulation.report()
    assert report["acknowledged"] == 0
    assert report["counts"]["refused: HTTP 403"] == 3
    assert "told to" in report["examples"]["refused: HTTP 403"]


def test_progress_is_told(model):
    seen = []
    play(StubMonitor(), model, devices=10, interval=0.5, duration=2.5, watch=seen.append)
    stages = [p.stage for p in seen]
    assert stages[0] == "enrolling devices"
    assert "sending windows" in stages
    assert any(p.rate > 0 and p.p99 is not None for p in seen)


# --- windows and devices ---------------------------------------------------------------------------------------------
def test_windows_are_of_the_form_and_the_size_of_real_ones(model):
    assert len(model.profile["features"]) == FEATURES
    drawn = templates(model, np.random.default_rng(0), 20)
    for template in drawn:
        payload = template.fill(start=5.0, end=65.25, wall=1e9, pid=7, boot_id="boot")
        window = json.loads(payload)
        check_window(window, model.profile)
        assert (window["start"], window["end"], window["wall"]) == (5.0, 65.25, 1e9)
        assert window["process"] == {"pid": 7, "boot_id": "boot"}
        assert window["rows"] == template.rows == sum(window["features"][0][1::2])
        assert 1000 < len(payload) < 10_000
    assert len({t.rows for t in drawn}) > 5


def test_the_built_in_model_is_the_same_in_every_run(model):
    assert built_in_model("other").profile == model.profile


def test_windows_of_a_bundle(tmp_path):
    path = tmp_path / "small.edgeml"
    small_bundle.write(path)
    model = model_of_bundle(path)
    (template, *_) = templates(model, np.random.default_rng(0), 3)
    check_window(json.loads(template.fill(start=0, end=1, wall=0, pid=1, boot_id="b")), model.profile)
    assert model_of_bundle(path, "mine").window_model["name"] == "mine"


def test_batches_are_newest_first_and_follow_one_another(model):
    drawn = templates(model, np.random.default_rng(0), 4)
    device = SimulatedDevice(3, model, drawn, 1000.0)
    device.device = "d" * 32
    device.backlog = [device.close_window(2000.0 + i, 60.0, None) for i in range(5)]
    first = device.begin()
    assert [w.item.sequence for w in first.windows] == [4, 3, 2, 1, 0]
    device.advance(first)
    device.settle(first, [["accepted", ""], ["deferred", ""], ["refused", "x"], ["duplicate", ""], ["accepted", ""]])
    assert [w.item.sequence for w in device.backlog] == [3]
    assert device.acknowledged == 0b10011
    second = wire.read_header(device.begin().header)
    assert second.number == 1
    assert second.previous == sha256(first.header).hexdigest()


# --- faults and figures ----------------------------------------------------------------------------------------------
def test_shares_of_faults():
    assert Faults.parse("0.25") == Faults(0.25, 0.25, 0.25, 0.25, 0.25)
    assert Faults.parse("late=0.5, clone=0.01") == Faults(late=0.5, clone=0.01)
    assert Faults.parse("0") == Faults()
    for wrong in ("2", "-1", "nan", "late", "late=", "fire=0.1", "x"):
        with pytest.raises(SimulationError):
            Faults.parse(wrong)


def test_wrong_clocks():
    rng = random.Random(0)
    assert {Faults().clock_error(rng) for _ in range(50)} == {0.0}
    errors = [Faults(clock=1.0).clock_error(rng) for _ in range(200)]
    assert min(errors) < -86400 < 86400 < max(errors)


def test_quantiles_are_within_two_percent():
    rng = np.random.default_rng(0)
    values = rng.lognormal(-5, 2, 20_000)
    found = Latencies()
    for value in values:
        found.add(float(value))
    for share in (0.5, 0.9, 0.99, 0.999):
        assert found.quantile(share) == pytest.approx(np.quantile(values, share), rel=0.03)
    assert found.greatest == values.max()
    assert Latencies().quantile(0.5) is None
    assert Latencies().summary()["p99"] is None


# --- the client ------------------------------------------------------------------------------------------------------
def raw_server(answers):
    """A server of bytes: for each connection, after each request, the next of ``answers``; None closes."""
    answers = list(answers)

    async def handle(reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                await reader.readexactly(length)
                answer = answers.pop(0)
                if answer is None:
                    return
                writer.write(answer)
                await writer.drain()
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    return handle


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def ask(answers, count, **options):
    """Replies to ``count`` requests, one after another, and how many connections they took."""

    async def run():
        server = await asyncio.start_server(raw_server(answers), "127.0.0.1", 0)
        client = Client(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", **options)
        try:
            request = client.request("POST", "/x", {"A": "b"}, b"body")
            return [await client.send(request) for _ in range(count)], client.opened
        finally:
            client.close()
            server.close()
            await server.wait_closed()

    return asyncio.run(run())


def test_connections_are_kept_and_bodies_read_whole():
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nch\r\n3\r\nunk\r\n0\r\n\r\n"
    replies, opened = ask([OK, chunked, OK], 3)
    assert [r.body for r in replies] == [b"ok", b"chunk", b"ok"]
    assert opened == 1


def test_a_kept_connection_that_the_server_closed_is_made_anew():
    replies, opened = ask([OK, None, OK], 2)
    assert [r.status for r in replies] == [200, 200]
    assert opened == 2


def test_a_reply_that_says_close_is_believed():
    replies, opened = ask([OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1), OK], 2)
    assert [r.body for r in replies] == [b"ok", b"ok"]
    assert opened == 2


@pytest.mark.parametrize(
    "answer", [None, OK[:20], OK[:-1] + b"", b"SSH-2.0\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"]
)
def test_half_a_reply_is_none(answer):
    with pytest.raises(NoReply):
        ask([answer, None], 1, timeout=0.5)


def test_a_server_that_is_not_there():
    async def run():
        client = Client("http://127.0.0.1:9", timeout=1)
        with pytest.raises(NoReply):
            await client.send(client.request("GET", "/", {}, b""))

    asyncio.run(run())
    with pytest.raises(SimulationError):
        Client("localhost:80")


def test_retry_after_is_bounded():
    replies, _ = ask([OK.replace(b"\r\n\r\n", b"\r\nRetry-After: 99999\r\n\r\n", 1), OK], 2)
    assert replies[0].retry_after() == 30.0
    assert replies[1].retry_after() == 0.0


def test_the_windows_form_is_checked(model):
    broken = model.window_model | {"version": -1}
    with pytest.raises(WireError):
        templates(type(model)(broken, model.profile), np.random.default_rng(0), 1)

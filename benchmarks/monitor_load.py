"""What ``benchmarks/monitor.py`` is made of: a server as a real process, watched, and clients that saturate it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from edgeml.fleet.simulate_device import SimulatedDevice
from edgeml.fleet.simulate_enrol import enrol
from edgeml.fleet.simulate_http import Client
from edgeml.fleet.simulate_latency import Latencies
from edgeml.fleet.simulate_windows import built_in_model, templates
from edgeml.telemetry import wire

PASSWORD = "a password of the benchmark"
SAMPLE_SECONDS = 2.0


class Process:
    """A server in a process of its own, with what it uses: CPU of it and its children, resident memory over time."""

    def __init__(self, command: Sequence[str], log: Path, environment: dict[str, str]) -> None:
        self._log = log.open("wb")
        self.popen = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._log, env=environment, text=True
        )
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        if not line:
            raise RuntimeError(f"the server did not start: {log.read_text()[-2000:]}")
        self.url = str(json.loads(line)["url"])
        self._watched = psutil.Process(self.popen.pid)
        self._stop = threading.Event()
        self.memory: list[tuple[float, int]] = []
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        start = time.monotonic()
        while not self._stop.is_set():
            try:
                self.memory.append((time.monotonic() - start, self._watched.memory_info().rss))
            except psutil.NoSuchProcess:
                return
            self._stop.wait(SAMPLE_SECONDS)

    def cpu_seconds(self) -> float:
        times = self._watched.cpu_times()
        return float(times.user + times.system)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self.popen.terminate()
        self.popen.wait(60)
        assert self.popen.stdout is not None
        self.popen.stdout.close()
        self._log.close()


def monitor(database: str, folder: Path, environment: dict[str, str]) -> tuple[Process, str]:
    """A monitor on an empty database, and a token for any number of devices."""
    edgeml = [str(Path(sys.executable).with_name("edgeml")), "monitor"]
    environment = {**environment, "EDGEML_MONITOR_DATABASE": database, "EDGEML_MONITOR_PASSWORD": PASSWORD}

    def run(*arguments: str) -> Any:
        done = subprocess.run([*edgeml, *arguments, "--json"], env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return json.loads(done.stdout)

    run("init")
    token = run("enrol-token", "create", "benchmark", "--fleet")["token"]
    options = ["--port", "0", "--no-access-log", "--log-level", "warning", "--enrolment-rate", "100000"]
    return Process([*edgeml, "serve", "--json", *options], folder / "monitor.log", environment), str(token)


def bare(folder: Path, environment: dict[str, str]) -> Process:
    """The framework alone: ``monitor_bare.py``."""
    return Process([sys.executable, "-m", "benchmarks.monitor_bare"], folder / "bare.log", environment)


def slope(memory: Sequence[tuple[float, int]], since: float) -> dict[str, float]:
    """Growth of resident memory in MB a minute by least squares from ``since`` seconds on, and its ends in MB."""
    late = np.array([(at / 60, rss / 1e6) for at, rss in memory if at >= since])
    if len(late) < 3:
        return {"mb_per_minute": float("nan"), "first_mb": float("nan"), "last_mb": float("nan")}
    return {
        "mb_per_minute": float(np.polyfit(late[:, 0], late[:, 1], 1)[0]),
        "first_mb": float(late[0, 1]),
        "last_mb": float(late[-1, 1]),
    }


async def saturate(
    url: str, token: str | None, devices: int, batches: int, at_once: int, cpu: Callable[[], float]
) -> dict[str, Any]:
    """How many batches of one window a second a server takes when ``at_once`` clients each wait for its reply only.

    Every request is made beforehand, so that the client has nothing to do but to send and to read. Without ``token``
    the server asks no questions: device ids are made up.
    """
    model = built_in_model("saturation")
    drawn = templates(model, np.random.default_rng(1))
    fleet = [SimulatedDevice(i, model, drawn, time.time() - 86400) for i in range(devices)]
    client = Client(url, connections=at_once)
    if token is None:
        for device in fleet:
            device.device = f"{device.index:032x}"
    else:
        await enrol(client, fleet, token, lambda progress: None)
        fleet[0].wants_profile = True  # the first batch of all brings the profile
    requests = [_chain(client, device, batches) for device in fleet]
    if token is not None:
        await _send(client, requests[0].pop(0))
    latencies, errors = Latencies(), 0
    # A device's batches follow one another; devices are taken by turns, so that no limit of one device is met.
    waiting = [iter(chain) for chain in requests]
    total = sum(map(len, requests))

    async def work(own: Sequence[Any]) -> None:
        nonlocal errors
        for _ in range(batches):
            for chain in own:
                request = next(chain, None)
                if request is not None:
                    start = time.perf_counter()
                    errors += not await _send(client, request)
                    latencies.add(time.perf_counter() - start)

    begin, used = time.perf_counter(), cpu()
    await asyncio.gather(*(work(waiting[i::at_once]) for i in range(at_once)))
    seconds = time.perf_counter() - begin
    client.close()
    return {
        "requests": total,
        "errors": errors,
        "per_second": total / seconds,
        "server_cpu_share": (cpu() - used) / seconds,
        "latency": latencies.summary(),
    }


def _chain(client: Client, device: SimulatedDevice, count: int) -> list[bytes]:
    made = []
    for _ in range(count):
        batch = device.batch([device.close_window(time.time(), 60.0, None)])
        made.append(client.request("POST", wire.PATH, device.headers(batch, time.time()), batch.content))
        device.advance(batch)
        device.wants_profile = False
    return made


async def _send(client: Client, request: bytes) -> bool:
    reply = await client.send(request)
    answer = reply.json()
    return reply.status == 200 and isinstance(answer, dict) and answer["results"] == [["accepted", ""]]

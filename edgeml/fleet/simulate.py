"""Plays a fleet: N devices that enrol and each send a window every interval, for sizing a server and for evaluating it.

Comes in: settings, from ``edgeml monitor simulate`` or ``benchmarks/monitor.py``. Goes out: a report of rates,
latencies, refusals and faults, and the devices with what was acknowledged, for ``simulate_check.py``. The load is open:
a window has its time, whatever the server does, and its latency counts from that time, so that a server that stalls is
charged for every window it made wait.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import resource
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgeml.fleet.simulate_device import Batch, SimulatedDevice, Window
from edgeml.fleet.simulate_enrol import Progress, Watch, enrol
from edgeml.fleet.simulate_faults import Faults
from edgeml.fleet.simulate_http import MAX_WAIT, Client, NoReply, Reply
from edgeml.fleet.simulate_latency import Latencies
from edgeml.fleet.simulate_windows import SimulatedModel, templates
from edgeml.telemetry import wire

_MAX_JITTER = 1.0  # seconds either way
_GRACE = 60.0  # seconds after the last window in which the rest must be delivered


@dataclass(frozen=True, slots=True)
class SimulationSettings:
    """Times in seconds. Devices begin one after another within ``ramp``."""

    devices: int = 100
    interval: float = 60.0
    duration: float = 300.0
    ramp: float = 0.0
    faults: Faults = field(default_factory=Faults)
    seed: int = 0


class Simulation:
    """One run against one server. ``await enrol(token)``, then ``await play()``; ``report()`` at any time."""

    def __init__(self, settings: SimulationSettings, client: Client, model: SimulatedModel, watch: Watch) -> None:
        self._settings, self._client, self._model, self._watch = settings, client, model, watch
        self._random = random.Random(settings.seed)
        drawn = templates(model, np.random.default_rng(settings.seed))
        boot = time.time() - 86400
        self.devices = [
            SimulatedDevice(i, model, drawn, boot - i % 3600, settings.faults.clock_error(self._random))
            for i in range(settings.devices)
        ]
        self.twins: list[SimulatedDevice] = []
        self._cloned = {d.index for d in self.devices if self._random.random() < settings.faults.clone}
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, str] = {}  # one message of each kind of refusal
        self.latencies, self._recent = Latencies(), Latencies()
        self.lag = Latencies()  # how late this generator itself was: large when it is the bottleneck
        self.enrolment: dict[str, Any] = {}
        self.seconds = 0.0
        self._cpu = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._deadline = float("inf")

    async def enrol(self, token: str) -> None:
        """Enrol all devices. Raises SimulationError when the server refuses."""
        self.enrolment = await enrol(self._client, self.devices, token, self._watch)

    # --- the run
    async def play(self) -> None:
        """Send windows for ``duration`` seconds, then wait until all were taken."""
        loop = asyncio.get_running_loop()
        settings, begin = self._settings, loop.time() + 0.1
        end, used = begin + settings.duration, _cpu_seconds()
        # Devices are spread evenly over the interval, and over the ramp; each window comes a little early or late.
        count = len(self.devices)
        times: list[tuple[float, float, int]] = []  # (due, base, device)
        for i in range(count):
            base = begin + settings.ramp * i / count + settings.interval * (i * 0.618034 % 1)
            times.append((base, base, i))
        heapq.heapify(times)
        ticker = asyncio.create_task(self._tick(begin, end))
        jitter = min(_MAX_JITTER, settings.interval / 20)
        try:
            while times and times[0][0] < end:
                due, base, index = times[0]
                base += settings.interval
                heapq.heapreplace(times, (base + self._random.uniform(-jitter, jitter), base, index))
                delay = due - loop.time()
                if delay > 0.001:
                    await asyncio.sleep(delay)
                elif self.counts["windows"] % 20 == 0:
                    await asyncio.sleep(0)  # when late, let replies in all the same
                self._window(self.devices[index], due, loop.time())
            await self._finish(loop)
        finally:
            ticker.cancel()
        self.seconds, self._cpu = loop.time() - begin, _cpu_seconds() - used

    def _window(self, device: SimulatedDevice, due: float, now: float) -> None:
        """A device closes a window, and sends it unless a fault has it otherwise."""
        faults, rng, interval = self._settings.faults, self._random, self._settings.interval
        self.lag.add(max(now - due, 0.0))
        self.counts["windows"] += 1
        if now >= device.offline_until and rng.random() < faults.offline:
            device.offline_until = now + interval * rng.randint(1, 4)
            self.counts["absences"] += 1
        offline = now < device.offline_until
        late = not offline and rng.random() < faults.late
        window = device.close_window(time.time(), interval, None if offline or late else due)
        device.backlog += [w for wait, w in device.held if wait <= 1]
        device.held = [(wait - 1, w) for wait, w in device.held if wait > 1]
        if late:
            device.held.append((rng.randint(1, 3), window))
            self.counts["late windows"] += 1
        else:
            device.backlog.append(window)
        if not offline:
            self._start(device)

    def _start(self, device: SimulatedDevice) -> None:
        if device.busy or device.stopped or not device.backlog:
            return
        device.busy = True
        task = asyncio.create_task(self._sync(device))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _finish(self, loop: asyncio.AbstractEventLoop) -> None:
        """Deliver what was held back, and wait for what is on its way."""
        self._deadline = loop.time() + _GRACE
        for device in self.devices:
            device.backlog += [w for _, w in device.held]
            device.held = []
            self._start(device)
            if device.index % 20 == 0:
                await asyncio.sleep(0)
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def _sync(self, device: SimulatedDevice) -> None:
        """Send a device's backlog, batch after batch, as its agent would."""
        try:
            while device.backlog and not device.stopped:
                cloned = device.index in self._cloned and device.acknowledged
                twin = device.twin(time.time()) if cloned else None
                batch = device.begin()
                again = self._random.random() < self._settings.faults.duplicate
                taken = await self._deliver(device, batch)
                if taken is None:
                    return
                if again and taken:
                    await self._repeat(device, batch)
                if twin is not None:
                    self._cloned.discard(device.index)
                    await self._play_clone(twin)
        finally:
            device.busy = False

    async def _deliver(self, device: SimulatedDevice, batch: Batch) -> bool | None:
        """Whether the server took a batch, or wants another chain; None when the device stops or the run is over."""
        reply = await self._ask(device, batch)
        if reply is None:
            return None
        if reply.status == 409:
            why = str((reply.json() or {}).get("why", "conflict"))
            self.counts[f"conflict: {why}"] += 1
            device.restart_chain(f"simulated: {why}"[:200])
            return False
        answer = reply.json()
        results = answer.get("results") if isinstance(answer, dict) else None
        if reply.status != 200 or not isinstance(results, list) or len(results) != len(batch.windows):
            self._refused(reply)
            device.stopped = True
            return None
        self.counts["batches"] += 1
        self._note(batch, results)
        device.advance(batch)
        device.settle(batch, results)
        device.wants_profile = bool(answer.get("need_profiles"))
        if answer.get("pause"):
            self.counts["pauses"] += 1
            await asyncio.sleep(min(float(answer["pause"]), MAX_WAIT))
        return True

    async def _ask(self, device: SimulatedDevice, batch: Batch) -> Reply | None:
        """The server's word on a batch, asked for again while there is none; None when the run is over before."""
        loop = asyncio.get_running_loop()
        for attempt in range(1000):
            headers = device.headers(batch, time.time())
            wait = random.uniform(0, min(0.5 * 2**attempt, MAX_WAIT))
            try:
                reply = await self._client.send(self._client.request("POST", wire.PATH, headers, batch.content))
            except NoReply as error:
                self._failed("no reply", str(error))
            else:
                if reply.status < 500 and reply.status != 429:
                    return reply
                self._failed(f"HTTP {reply.status}", reply.said())
                wait += reply.retry_after()
            if loop.time() + wait > self._deadline:
                break
            await asyncio.sleep(wait)
        self.counts["given up"] += 1
        return None

    def _note(self, batch: Batch, results: list[list[str]]) -> None:
        now = asyncio.get_running_loop().time()
        for window, (result, reason) in zip(batch.windows, results, strict=True):
            self.counts[result] += 1
            if result == "refused":
                self.examples.setdefault("refused", str(reason)[:300])
            if window.due is not None and result in ("accepted", "duplicate"):
                self.latencies.add(max(now - window.due, 0.0))
                self._recent.add(max(now - window.due, 0.0))

    # --- faults that need an answer of their own
    async def _repeat(self, device: SimulatedDevice, batch: Batch) -> None:
        """The same batch once more, and its windows once more in a new one: neither may count again."""
        self.counts["repeated batches"] += 1
        reply = await self._ask(device, batch)
        answer = reply.json() if reply is not None else None
        if reply is not None and not (reply.status == 200 and isinstance(answer, dict) and "results" in answer):
            self._unexpected("a repeated batch", reply)
        second = device.batch([Window(w.item, None) for w in batch.windows])
        reply = await self._ask(device, second)
        if reply is None:
            return
        answer = reply.json()
        if reply.status == 200 and isinstance(answer, dict):
            device.advance(second)
            kinds = {r[0] for r in answer["results"]}
            if kinds <= {"duplicate", "deferred", "refused"}:
                return
        self._unexpected("windows sent again", reply)

    async def _play_clone(self, twin: SimulatedDevice) -> None:
        """A clone goes on where the device was, is refused, and begins a chain of its own."""
        self.counts["clones"] += 1
        self.twins.append(twin)
        for first in (True, False):
            twin.backlog.append(twin.close_window(time.time(), 0.0, None))
            reply = await self._ask(twin, batch := twin.begin())
            if reply is None:
                return
            if first:
                if reply.status != 409:
                    self._unexpected("a clone's fork of the chain", reply)
                twin.restart_chain("simulated: clone")
                continue
            answer = reply.json()
            if reply.status == 200 and isinstance(answer, dict):
                twin.settle(batch, answer["results"])
                self.counts["accepted"] += sum(r[0] == "accepted" for r in answer["results"])
            else:
                self._unexpected("a clone's new chain", reply)

    # --- bookkeeping
    def _failed(self, what: str, example: str) -> None:
        self.counts[f"retry: {what}"] += 1
        self.examples.setdefault(f"retry: {what}", example)

    def _refused(self, reply: Reply) -> None:
        self.counts[f"refused: HTTP {reply.status}"] += 1
        self.examples.setdefault(f"refused: HTTP {reply.status}", reply.said())

    def _unexpected(self, what: str, reply: Reply) -> None:
        self.counts[f"unexpected: {what}"] += 1
        self.examples.setdefault(f"unexpected: {what}", reply.said())

    async def _tick(self, begin: float, end: float) -> None:
        loop, before = asyncio.get_running_loop(), 0
        while True:
            await asyncio.sleep(1.0)
            recent, self._recent = self._recent, Latencies()
            done = self.counts["accepted"] + self.counts["duplicate"]
            share = min((loop.time() - begin) / (end - begin), 1.0)
            stage = "sending windows" if loop.time() < end else "delivering the rest"
            p50, p99 = recent.quantile(0.5), recent.quantile(0.99)
            self._watch(Progress(stage, share, done, done - before, p50, p99, len(self._tasks)))
            before = done

    def report(self) -> dict[str, Any]:
        """What was done and measured, JSON-ready. Times in seconds."""
        streams = [*self.devices, *self.twins]
        delivered = self.counts["accepted"] + self.counts["duplicate"]
        return {
            "devices": len(self.devices),
            "interval": self._settings.interval,
            "seconds": self.seconds,
            "enrolment": self.enrolment,
            "windows": sum(d.sequence for d in streams),
            "acknowledged": sum(d.acknowledged.bit_count() for d in streams),
            "windows_per_second": delivered / self.seconds if self.seconds else None,
            "latency": self.latencies.summary(),
            "generator": {
                "late": self.lag.summary(),
                "cpu_share": self._cpu / self.seconds if self.seconds else None,
                "connections_opened": self._client.opened,
            },
            "counts": dict(sorted(self.counts.items())),
            "examples": self.examples,
        }


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime

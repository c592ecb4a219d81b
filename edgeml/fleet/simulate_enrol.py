"""Enrols simulated devices through the API, some at once, as fast as the server lets them.

``simulate.py`` calls it before a run. Comes in: devices with their keys, and a fleet token. Goes out: devices that know
their ids, and how long it took.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edgeml.errors import SimulationError
from edgeml.fleet.simulate_device import SimulatedDevice
from edgeml.fleet.simulate_http import Client, NoReply

PATH = "/v1/enrol"
_AT_ONCE = 16


@dataclass(slots=True)
class Progress:
    """What a watcher is told about once a second. Latencies in seconds, of the windows since the last time."""

    stage: str
    done: float  # 0 to 1
    count: int = 0  # of devices or windows
    rate: float = 0.0
    p50: float | None = None
    p99: float | None = None
    waiting: int = 0


Watch = Callable[[Progress], None]


async def enrol(client: Client, devices: Sequence[SimulatedDevice], token: str, watch: Watch) -> dict[str, Any]:
    """Enrol all; ``{"devices", "seconds", "rate", "put_off"}``. Raises SimulationError when the server refuses."""
    loop = asyncio.get_running_loop()
    start, todo = loop.time(), iter(devices)
    done = put_off = 0

    async def work() -> None:
        nonlocal done, put_off
        for device in todo:  # one iterator for all: each takes the next
            put_off += await _enrol(client, device, token)
            done += 1

    try:
        async with asyncio.TaskGroup() as group:
            workers = [group.create_task(work()) for _ in range(_AT_ONCE)]
            while not all(w.done() for w in workers):
                await asyncio.wait(workers, timeout=1.0)
                watch(Progress("enrolling devices", done / len(devices), done, done / max(loop.time() - start, 1e-9)))
    except ExceptionGroup as failed:  # the first error of a worker, as the callers of `enrol` know it
        raise failed.exceptions[0] from None
    seconds = loop.time() - start
    return {"devices": done, "seconds": seconds, "rate": done / seconds, "put_off": put_off}


async def _enrol(client: Client, device: SimulatedDevice, token: str) -> int:
    """Enrol one; how often the server put it off."""
    request = client.request("POST", PATH, {"Content-Type": "application/json"}, device.enrolment(token))
    put_off = failures = 0
    while True:
        try:
            reply = await client.send(request)
        except NoReply as error:
            failures += 1
            if failures > 5:
                raise SimulationError(f"the server does not answer: {error}", "is it running there?") from None
            await asyncio.sleep(0.1 * 2**failures)
            continue
        if reply.status in (200, 201):
            answer = reply.json()
            if not isinstance(answer, dict) or not isinstance(answer.get("device"), str):
                raise SimulationError("the server is not a monitor", "give the URL of `edgeml monitor serve`")
            device.device, device.project = answer["device"], str(answer.get("project"))
            return put_off
        if reply.status not in (429, 503):
            raise SimulationError(
                f"the server does not enrol devices: {reply.said()}",
                "make a token for many devices with `edgeml monitor enrol-token`",
            )
        put_off += 1
        await asyncio.sleep(max(reply.retry_after(), 0.1) * random.uniform(1.0, 1.5))

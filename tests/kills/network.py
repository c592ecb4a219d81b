"""A network between devices and the monitor that is slow to answer and loses answers: what makes deliveries come twice.

On loopback the moment between the monitor's commit and the agent's knowing of it is too short to be hit: with a monitor
that counted duplicates again, 60 rounds of kills showed nothing. Bytes to the monitor pass at once; bytes back are held
for up to ``MOST_SECONDS``, and some are lost with their connection.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Coroutine
from typing import Any

MOST_SECONDS = 0.15
LOST = 0.4  # share of answers


class Network:
    """Listens on ``port`` from ``start`` to ``stop`` and passes on to the monitor's port."""

    def __init__(self, monitor_port: int, seed: int) -> None:
        self._monitor_port, self._draw = monitor_port, random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self.port, self.lost = 0, 0

    def start(self) -> None:
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._connected, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _end(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._monitor_port)
        except OSError:
            writer.close()
            return
        back = asyncio.ensure_future(self._back(up_reader, writer))
        try:
            while data := await reader.read(65536):
                up_writer.write(data)
                await up_writer.drain()
            # A device that died does not call back what it has sent: the monitor goes on with it for a while.
            await asyncio.sleep(MOST_SECONDS)
        except OSError:
            pass  # one of the two was killed
        finally:
            back.cancel()
            up_writer.close()
            writer.close()

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await asyncio.sleep(self._draw.uniform(0, MOST_SECONDS))
                if self._draw.random() < LOST:
                    self.lost += 1
                    break
                writer.write(data)
                await writer.drain()
        except OSError:
            pass  # one of the two was killed
        writer.close()

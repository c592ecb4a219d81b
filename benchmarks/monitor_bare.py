"""The ceiling that the monitor is held against: the same framework and server settings, and a route that does nothing
but read the batch and answer. ``python -m benchmarks.monitor_bare`` prints its address and serves until it is stopped.
"""

from __future__ import annotations

import json
import socket

import uvicorn
from fastapi import FastAPI, Request, Response

from edgeml.telemetry import wire

app = FastAPI()
_ANSWER = json.dumps({"results": [["accepted", ""]], "need_profiles": [], "server_time": 0.0, "pause": None}).encode()


@app.post(wire.PATH)
async def batches(request: Request) -> Response:
    await request.body()
    return Response(_ANSWER, media_type="application/json")


def main() -> None:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    print(json.dumps({"url": f"http://127.0.0.1:{listener.getsockname()[1]}"}), flush=True)
    config = uvicorn.Config(app, http="httptools", loop="auto", ws="none", access_log=False, log_level="warning")
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()

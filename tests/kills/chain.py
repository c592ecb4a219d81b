"""The processes of the kill tests, how they are killed and started again, and what is counted in the end.

``Chain`` holds a monitor, an agent and a device, each a process of its own. ``kill_rounds`` kills one or more at a
random moment of each round; ``settle`` lets everything arrive; ``check`` compares what was acknowledged with what the
monitor has counted, by reading its database.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from sqlalchemy import func, select

from edgeml.bundle.read import open_bundle
from edgeml.bundle.zip_layout import PROFILE
from edgeml.fleet import rollup, tables
from edgeml.fleet.store import Store
from edgeml.telemetry.window import LATENCY_BINS
from tests.kills.network import Network
from tests.ports import free_port
from tests.waiting import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
_EDGEML = [sys.executable, "-m", "edgeml.cli"]
_PASSWORD = "correct horse battery staple"


def edgeml(*arguments: str, **variables: str) -> Any:
    """The JSON a command prints. Raises RuntimeError with its errors when it fails."""
    environment = {**os.environ, **variables}
    done = subprocess.run([*_EDGEML, *arguments], capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(f"edgeml {' '.join(arguments)}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    return json.loads(done.stdout) if done.stdout.strip() else None


@dataclass
class Chain:
    """``in_process``: the device sends by itself; else ``edgeml agent run`` does, beside it."""

    folder: Path
    bundle: Path
    database: str
    seed: int
    in_process: bool = False
    port: int = field(default_factory=free_port)  # a killed monitor must come back where its devices look for it
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    starts: Counter[str] = field(default_factory=Counter)
    network: Network = field(init=False)
    _started: dict[str, int] = field(default_factory=dict)

    @property
    def parts(self) -> tuple[str, ...]:
        return ("monitor", "device") if self.in_process else ("monitor", "device", "agent")

    @property
    def server(self) -> str:
        """Where devices find the monitor: behind a network that loses answers."""
        return f"http://127.0.0.1:{self.network.port}"

    @property
    def spool(self) -> str:
        return str(self.folder / "spool")

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger"

    def __post_init__(self) -> None:
        self.network = Network(self.port, self.seed)

    def set_up(self) -> None:
        """Database, enrolled device, and everything running."""
        self.network.start()
        made = edgeml("monitor", "init", "--database", self.database, "--json", EDGEML_MONITOR_PASSWORD=_PASSWORD)
        self.start("monitor")
        self.wait_ready()
        token = {"EDGEML_TELEMETRY_TOKEN": made["enrolment_token"]}
        enrol = ("agent", "enrol", "--spool", self.spool, "--server", self.server, "--json")
        while not self._enrolled():
            with contextlib.suppress(RuntimeError):  # the answer was lost
                edgeml(*enrol, **token)
        for part in self.parts[1:]:
            self.start(part)

    def _enrolled(self) -> bool:
        return (Path(self.spool) / "identity" / "enrolment.json").exists()

    def start(self, part: str) -> None:
        self.starts[part] += 1
        self._started[part] = time.time_ns()
        with open(self.folder / f"{part}.log", "ab") as log:
            command = self._command(part)
            self.running[part] = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _command(self, part: str) -> list[str]:
        if part == "monitor":
            serve = ["monitor", "serve", "--database", self.database, "--port", str(self.port), "--no-access-log"]
            return [*_EDGEML, *serve]
        if part == "agent":
            return [*_EDGEML, "agent", "run", "--spool", self.spool]
        server = self.server if self.in_process else ""
        seed = str(self.seed * 1000 + self.starts["device"])
        arguments = [str(self.bundle), self.spool, str(self.ledger), server, seed]
        return [sys.executable, "-m", "tests.kills.device", *arguments]

    def kill(self, part: str) -> None:
        process = self.running.pop(part)
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE)

    def stop(self) -> None:
        for part in list(self.running):
            self.kill(part)
        self.network.stop()

    def wait_ready(self) -> None:
        """Until the monitor answers. Raises RuntimeError with its log when it ends instead."""
        import httpx

        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                if httpx.get(f"http://127.0.0.1:{self.port}/readyz", timeout=PATIENCE).status_code == 200:
                    return
            except httpx.TransportError:
                pass  # not listening yet
            if self.running["monitor"].poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.folder / "monitor.log").read_text()[-3000:])
            time.sleep(0.02)  # it tells nobody when it is ready

    # --- what the test does
    def kill_rounds(self, rounds: int) -> Counter[str]:
        """Each round one part, sometimes several at once, is killed at a random moment and started again."""
        draw, killed = random.Random(self.seed), Counter[str]()
        for _ in range(rounds):
            victims = [part for part in self.parts if draw.random() < 0.3] or [draw.choice(self.parts)]
            # Processes take a second to start: half of the time one is hit while it works, else whatever it is at.
            if draw.random() < 0.5:
                for part in victims:
                    self._wait_working(part)
            time.sleep(draw.expovariate(1 / 0.1))
            for part in victims:
                ended = self.running[part].poll()
                if ended is not None:
                    raise RuntimeError(f"{part} ended by itself: {self._log(part)}")
                self.kill(part)
                killed[part] += 1
            for part in victims:
                self.start(part)
        return killed

    def _wait_working(self, part: str) -> None:
        """Until the monitor answers, the device has kept a window, or the agent written its status, since its start."""
        if part == "monitor":
            self.wait_ready()
            return
        sign = self.ledger if part == "device" else Path(self.spool) / "agent.json"
        deadline = time.monotonic() + PATIENCE
        while not sign.exists() or sign.stat().st_mtime_ns <= self._started[part]:
            if self.running[part].poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{part} does not work: {self._log(part)}")
            time.sleep(0.01)  # it tells nobody

    def settle(self) -> None:
        """Stop recording, and let all that is on the device's disk arrive."""
        self.kill("device")
        if "agent" in self.running:
            self.kill("agent")
        self.wait_ready()
        for _ in range(50):  # each gets a part of it through
            with contextlib.suppress(RuntimeError):  # answers are lost still
                edgeml("agent", "flush", "--spool", self.spool, "--json")
                return
        raise RuntimeError("what the device keeps cannot be sent")

    def _log(self, part: str) -> str:
        return (self.folder / f"{part}.log").read_text()[-2000:]


@dataclass(frozen=True)
class Ledger:
    """What the spool acknowledged: rows by (stream, sequence), and numbers it took as lost."""

    kept: dict[tuple[str, int], int]
    lost: set[tuple[str, int]]

    @classmethod
    def read(cls, file: IO[str]) -> Ledger:
        kept, lost = {}, set()
        for line in file:
            what, stream, *rest = line.split()
            if what == "kept":
                kept[stream, int(rest[0])] = int(rest[2])
            else:
                lost |= {(stream, n) for n in range(int(rest[0]), int(rest[1]) + 1)}
        return cls(kept, lost)


def check(chain: Chain) -> dict[str, int]:
    """Figures of what was counted. Raises AssertionError where the promise is broken."""
    with open(chain.ledger) as file:
        ledger = Ledger.read(file)
    with open_bundle(chain.bundle) as bundle:
        slots = [len(record["counts"]) for record in bundle.json(PROFILE)["features"]]
    store = Store.open(chain.database, migrate=False)
    try:
        with store.read() as connection:
            w = tables.windows.c
            found = connection.execute(select(w.stream, w.sequence, w.rows)).all()
            x = tables.losses.c
            lost = {
                (stream, n)
                for stream, first, last in connection.execute(select(x.stream, x.first, x.last))
                for n in range(first, last + 1)
            }
            refused = connection.execute(select(func.count()).select_from(tables.quarantine)).scalar_one()
            r = tables.rollups.c
            rolled = connection.execute(select(r.level, r.rows, r.windows, r.sums)).all()
            events = Counter(connection.execute(select(tables.events.c.kind)).scalars())
    finally:
        store.close()
    counted = {(stream, sequence): rows for stream, sequence, rows in found}
    missing = ledger.kept.keys() - counted.keys() - lost
    assert not missing, f"{len(missing)} acknowledged windows are neither counted nor lost: {sorted(missing)[:3]}"
    wrong = {key for key in ledger.kept.keys() & counted.keys() if ledger.kept[key] != counted[key]}
    assert not wrong, f"{len(wrong)} windows have other rows than were recorded"
    assert not ledger.lost & counted.keys(), "a window was given up and counted, too"
    assert refused == 0, f"{refused} items were refused"
    assert events["clone_suspected"] == 0, f"an honest device is taken for two: {events}"
    rows = sum(counted.values())
    for level in ("minute", "hour", "day"):
        parts = [p for p in rolled if p.level == level]
        assert sum(p.rows for p in parts) == rows, f"{level}: rows were added twice, or not at all"
        assert sum(p.windows for p in parts) == len(counted), f"{level}: windows were added twice, or not at all"
        for name, histogram in _histograms(parts, slots).items():
            assert histogram == rows, f"{level}: the histogram of {name} counts {histogram} of {rows} rows"
    streams = {stream for stream, _ in counted}
    figures = {"windows": len(counted), "rows": rows, "lost": len(lost), "streams": len(streams)}
    return figures | {"answers_lost": chain.network.lost} | dict(events)


def _histograms(parts: list[Any], slots: list[int]) -> dict[str, int]:
    """Rows in each feature's histogram, over roll-ups; ``slots`` are the histograms' lengths."""
    totals: Counter[str] = Counter()
    for part in parts:
        sums = rollup.Sums.from_bytes(part.sums, part.windows, part.rows)
        counts = np.split(sums.counts[2 * LATENCY_BINS :], np.cumsum(slots))[:-1]
        totals.update({f"column {at}": int(c.sum()) for at, c in enumerate(counts)})
    return dict(totals)


def end_with_test(chain: Chain) -> threading.Timer:
    """Kills everything should the test hang, so that no process outlives it."""
    timer = threading.Timer(3600, chain.stop)
    timer.daemon = True
    timer.start()
    return timer

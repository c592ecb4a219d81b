"""``python -m benchmarks.monitor [--devices 20000] [--minutes 5]``: how large a fleet one server of this machine holds.

Starts ``edgeml monitor serve`` as a process on SQLite and on PostgreSQL, plays a fleet against it with the load
generator on the same machine, and measures: latency of a window from when it was due to when it was acknowledged, CPU
and memory of the server, and, saturated, batches a second beside the bare framework with the same client in the same
run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.monitor_load import bare, monitor, saturate, slope
from edgeml.fleet.simulate import Simulation, SimulationSettings
from edgeml.fleet.simulate_check import check_database
from edgeml.fleet.simulate_enrol import Progress
from edgeml.fleet.simulate_http import Client
from edgeml.fleet.simulate_windows import built_in_model
from tests import postgres

SATURATING_DEVICES, SATURATING_BATCHES = 150, 40
AT_ONCE = 32


async def play(url: str, token: str, devices: int, minutes: float, seconds: float) -> Simulation:
    client = Client(url)
    told = -10.0

    def watch(progress: Progress) -> None:
        nonlocal told
        if time.monotonic() - told >= 10:
            told = time.monotonic()
            p99 = f", p99 {1000 * progress.p99:.0f} ms" if progress.p99 is not None else ""
            print(f"  {progress.stage}: {progress.count}, {progress.rate:.0f}/s{p99}", file=sys.stderr)

    try:
        settings = SimulationSettings(devices, interval=seconds, duration=60 * minutes)
        simulation = Simulation(settings, client, built_in_model("benchmark"), watch)
        await simulation.enrol(token)
        await simulation.play()
        return simulation
    finally:
        client.close()


def measure(kind: str, devices: int, minutes: float, interval: float, folder: Path) -> dict[str, Any]:
    """One database: the fleet first, then saturated, each on a server and a database of its own."""
    environment = dict(os.environ)
    result: dict[str, Any] = {"database": kind}
    server = postgres.Server(durable=True) if kind == "postgresql" else None
    try:

        def database(name: str) -> str:
            return server.new_database() if server is not None else f"sqlite:///{folder / name}.db"

        url = database("fleet")
        process, token = monitor(url, folder, environment)
        try:
            backend = _cpu_of_tree(server.pid) if server is not None else 0.0
            used, began = process.cpu_seconds(), time.monotonic()
            simulation = _run(play(process.url, token, devices, minutes, interval))
            passed = time.monotonic() - began
            result["fleet"] = simulation.report()
            result["server_cpu_share"] = (process.cpu_seconds() - used) / passed
            if server is not None:
                result["database_cpu_share"] = (_cpu_of_tree(server.pid) - backend) / passed
            enrolled = simulation.enrolment["seconds"]
            # Caches fill while devices are met for the first time: the first interval counts as warming up.
            result["memory"] = slope(process.memory, enrolled + min(interval, 30 * minutes))
            played = [*simulation.devices, *simulation.twins]
            result["check"] = check_database(url, played, {"name": "benchmark", "version": 1})
        finally:
            process.stop()
        process, token = monitor(database("saturated"), folder, environment)
        try:
            result["saturated"] = _run(
                saturate(process.url, token, SATURATING_DEVICES, SATURATING_BATCHES, AT_ONCE, process.cpu_seconds)
            )
        finally:
            process.stop()
    finally:
        if server is not None:
            server.stop()
    return result


def _cpu_of_tree(pid: int) -> float:
    """CPU seconds of a process and its children; those of children that have ended are in their parent's times."""
    total = 0.0
    parent = psutil.Process(pid)
    for process in (parent, *parent.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def _run(work: Any) -> Any:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def ceiling(folder: Path) -> dict[str, Any]:
    process = bare(folder, dict(os.environ))
    try:
        return dict(
            _run(saturate(process.url, None, SATURATING_DEVICES, SATURATING_BATCHES, AT_ONCE, process.cpu_seconds))
        )
    finally:
        process.stop()


def show(report: dict[str, Any]) -> None:
    console = Console(width=120)
    table = Table(
        title=f"{report['devices']} devices, a window every {report['interval']:g} s, {report['minutes']:g} min"
    )
    for column in ("database", "windows/s", "p50", "p99", "max", "late", "server CPU", "memory", "growth", "counted"):
        table.add_column(column, justify="left" if column == "database" else "right")
    for result in report["results"]:
        fleet, memory = result["fleet"], result["memory"]
        milliseconds = [f"{1000 * fleet['latency'][name]:.0f} ms" for name in ("p50", "p99", "max")]
        cpu = f"{100 * result['server_cpu_share']:.0f} %"
        if "database_cpu_share" in result:
            cpu += f" + {100 * result['database_cpu_share']:.0f} %"
        table.add_row(
            result["database"],
            f"{fleet['windows_per_second']:.0f}",
            *milliseconds,
            f"{1000 * fleet['generator']['late']['p99']:.0f} ms",
            cpu,
            f"{memory['last_mb']:.0f} MB",
            f"{memory['mb_per_minute']:+.1f} MB/min",
            "yes" if result["check"]["ok"] else "NO",
        )
    console.print(table)
    base = report["ceiling"]["per_second"]
    table = Table(title=f"saturated by {AT_ONCE} clients, batches of one window")
    for column in ("server", "batches/s", "of the ceiling", "p50", "p99", "errors"):
        table.add_column(column, justify="left" if column == "server" else "right")
    rows = [("bare framework", report["ceiling"])] + [(r["database"], r["saturated"]) for r in report["results"]]
    for name, found in rows:
        latency = found["latency"]
        shown = [f"{1000 * latency[p]:.1f} ms" for p in ("p50", "p99")]
        table.add_row(
            name, f"{found['per_second']:.0f}", f"{found['per_second'] / base:.2f}", *shown, str(found["errors"])
        )
    console.print(table)
    console.print("late: the generator's own p99 delay. CPU: of one core. counted: every acknowledged window, once.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=20_000)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--interval", type=float, default=60.0)
    parser.add_argument("--database", choices=("sqlite", "postgresql", "both"), default="both")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    given = parser.parse_args()
    kinds = ("sqlite", "postgresql") if given.database == "both" else (given.database,)
    if "postgresql" in kinds and postgres.binaries() is None:
        parser.error("PostgreSQL is not installed: apt-get install postgresql, or --database sqlite")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        report: dict[str, Any] = {
            "devices": given.devices,
            "interval": given.interval,
            "minutes": given.minutes,
            "cores": os.cpu_count(),
            "ceiling": ceiling(folder),
            "results": [measure(kind, given.devices, given.minutes, given.interval, folder) for kind in kinds],
        }
    if given.json:
        given.json.write_text(json.dumps(report, indent=2))
    show(report)


if __name__ == "__main__":
    main()

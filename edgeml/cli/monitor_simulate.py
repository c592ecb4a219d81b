"""``edgeml monitor simulate``: a fleet of devices that are not there, to size a server with and to try it out."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import click

from edgeml.cli import options, output


@click.command(name="simulate", short_help="Play a fleet of devices, to size a server.")
@click.option("--server", required=True, metavar="URL", help="The monitor, such as http://localhost:8765.")
@click.option(
    "--token",
    required=True,
    envvar="EDGEML_TELEMETRY_TOKEN",
    metavar="TOKEN",
    help="An enrolment token for many devices. Or set EDGEML_TELEMETRY_TOKEN, which no list of processes shows.",
)
@click.option("--devices", type=click.IntRange(1, 1_000_000), default=100, show_default=True, help="How many.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    default=60.0,
    show_default=True,
    help="Seconds between two windows of a device.",
)
@click.option(
    "--duration", type=click.FloatRange(min=1), default=300.0, show_default=True, help="Seconds to send windows for."
)
@click.option(
    "--ramp", type=click.FloatRange(min=0), default=0.0, show_default=True, help="Seconds within which devices start."
)
@click.option(
    "--faults",
    default="0",
    metavar="SHARE | KIND=SHARE,…",
    show_default=True,
    help="How often things go wrong, from 0 to 1. Kinds: duplicate, late, offline, clone, clock.",
)
@click.option(
    "--bundle",
    type=options.FILE,
    help="Windows of this model. Default: of a built-in one of 30 features, new in every run.",
)
@click.option("--access-token", envvar="EDGEML_MONITOR_TOKEN", help="Check the server's own count with this token.")
@click.option("--database", metavar="URL", help="Check window by window in the server's database.")
@click.option("--ca", type=options.FILE, help="PEM file of the authority that signed the server's certificate.")
@click.option(
    "--connections", type=click.IntRange(1, 10_000), default=64, show_default=True, help="Kept open, for all devices."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Equal seeds draw equal windows and faults.")
@options.json_option
def command(
    server: str,
    token: str,
    devices: int,
    interval: float,
    duration: float,
    ramp: float,
    faults: str,
    bundle: Path | None,
    access_token: str | None,
    database: str | None,
    ca: Path | None,
    connections: int,
    seed: int,
    as_json: bool,
) -> None:
    """Play a fleet against a running monitor and measure how it bears it.

    Devices have real keys and send real signed batches, each at its own time, whatever the server does: a window's
    latency counts from the moment it was due. Exit code 1 when the server's count is not what it acknowledged. Use a
    project of its own: simulated devices stay there.

    \b
    Example:
      edgeml monitor simulate --server http://localhost:8765 --token em_… \\
        --devices 20000 --duration 300
    """
    from edgeml.fleet.simulate import Simulation, SimulationSettings
    from edgeml.fleet.simulate_faults import Faults
    from edgeml.fleet.simulate_http import Client
    from edgeml.fleet.simulate_windows import built_in_model, model_of_bundle

    settings = SimulationSettings(devices, interval, duration, ramp, Faults.parse(faults), seed)
    model = built_in_model(f"simulated-{uuid4().hex[:8]}") if bundle is None else model_of_bundle(bundle)
    context = ssl.create_default_context(cafile=ca) if ca is not None else None

    async def run() -> dict[str, Any]:
        from edgeml.fleet.simulate_check import check_api, check_database

        client = Client(server, connections=connections, context=context)
        try:
            with output.progress("making keys") as say:
                simulation = Simulation(settings, client, model, lambda p: say(_line(p), p.done))
                await simulation.enrol(token)
                await simulation.play()
            report = simulation.report() | {"server": server, "model": model.window_model}
            played = [*simulation.devices, *simulation.twins]
            if database is not None:
                report["check"] = check_database(database, played, model.window_model)
            elif access_token is not None:
                report["check"] = await check_api(client, access_token, played, model.window_model)
            return report
        finally:
            client.close()

    report = _with_fast_loop(run)
    if as_json:
        output.print_json(report)
    else:
        show(report)
    if not report.get("check", {"ok": True})["ok"]:
        click.get_current_context().exit(1)


def _with_fast_loop(run: Any) -> Any:
    """asyncio's runner, on uvloop where it is installed: half the CPU for the same load."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(run())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


def _line(progress: Any) -> str:
    text = f"{progress.stage}: {progress.count}, {progress.rate:.0f}/s"
    if progress.p99 is not None:
        text += f", p50 {output.seconds(progress.p50)}, p99 {output.seconds(progress.p99)}"
    return text + (f", {progress.waiting} under way" if progress.waiting else "")


def show(report: Mapping[str, Any]) -> None:
    """The report as tables."""
    latency, late = report["latency"], report["generator"]["late"]
    enrolled = report["enrolment"]
    output.table(
        f"{report['devices']} devices, a window every {report['interval']:g} s, for {report['seconds']:.0f} s",
        ("", ""),
        [
            ("devices enrolled", f"{enrolled['devices']} in {enrolled['seconds']:.1f} s, {enrolled['rate']:.0f}/s"),
            ("windows sent", report["windows"]),
            ("windows acknowledged", report["acknowledged"]),
            ("windows a second", f"{report['windows_per_second']:.1f}"),
        ],
    )
    names = (("p50", "p50"), ("p90", "p90"), ("p99", "p99"), ("p999", "p99.9"), ("max", "max"))
    rows = [
        (title, *("—" if figures[n] is None else output.seconds(figures[n]) for n, _ in names))
        for title, figures in (("window due to acknowledged", latency), ("of it, the generator's own delay", late))
    ]
    output.table("latency", ("", *(shown for _, shown in names)), rows)
    kinds = {"accepted", "batches", "windows"}
    others = [(name, count) for name, count in report["counts"].items() if name not in kinds and count]
    if others:
        output.table("what else happened", ("", "times"), others)
    for what, example in report["examples"].items():
        output.line(f"  {what}: {example}")
    if latency["p99"] and late["p99"] > max(latency["p99"] / 4, 0.01):
        output.line("  the generator itself was late: give it more CPU, or another machine")
    if "check" in report:
        check = report["check"]
        verdict = "every acknowledged window is counted once" if check["ok"] else "THE COUNTS DIFFER"
        output.table(f"the server's own count, by its {check['by']}: {verdict}", ("", ""), [
            (name.replace("_", " "), value) for name, value in check.items() if isinstance(value, int) and name != "ok"
        ])  # fmt: skip

"""``edgeml agent status``, ``rotate-key`` and ``erase``: the commands about what lies on this device."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeml.cli import agent_options, options, output

if TYPE_CHECKING:
    from edgeml.telemetry.agent_status import Moment, Status
    from edgeml.telemetry.spool import SpoolStats


@click.command()
@agent_options.spool_option
@agent_options.key_option
@agent_options.identity_option
@options.json_option
def status(folder: Path | None, key: Path | None, identity: Path | None, as_json: bool) -> None:
    """Show what waits to be sent, since when, what was lost and why, and how the agent fares.

    \b
    Example:
      edgeml agent status --spool /var/lib/edgeml
    """
    from edgeml.telemetry.agent_lock import holder
    from edgeml.telemetry.agent_settings import AgentSettings
    from edgeml.telemetry.agent_status import StatusFile

    where = agent_options.place(folder, key)
    spool = where.open()
    try:
        stats = spool.stats()
    finally:
        spool.close()
    running = holder(where.folder)
    found = StatusFile(where.folder).read()
    device = _device(AgentSettings(identity=identity).identity_folder(where.folder))
    if as_json:
        said = None if found is None else asdict(found)
        output.print_json(
            {"agent_pid": running, "agent": said, "device": asdict(device), "spool": asdict(stats)},
        )
        return
    _show(where.folder, running, found, device, stats)


_CLOCK_SECONDS = 60.0  # what a person need not be told


@dataclass(frozen=True)
class _Device:
    """Who the device is; ``problem`` when that cannot be read."""

    key_id: str | None = None
    device: str | None = None
    project: str | None = None
    server: str | None = None
    problem: str | None = None


def _device(folder: Path) -> _Device:
    from edgeml.errors import TelemetryError
    from edgeml.telemetry.identity import KEY_FILE, Identity

    if not os.path.lexists(folder / KEY_FILE):
        return _Device()
    try:
        identity = Identity.load(folder)
    except TelemetryError as error:
        return _Device(problem=f"{error.cause}; {error.remedy}")
    known = identity.enrolment
    if known is None:
        return _Device(identity.key_id)
    return _Device(identity.key_id, known.device, known.project, known.server)


def _show(folder: Path, running: int | None, found: Status | None, device: _Device, stats: SpoolStats) -> None:
    output.line(f"spool {folder}")
    rows: list[tuple[str, str | None]] = [
        ("agent", "not running" if running is None else _running(running, found)),
        ("server", device.server or (found.server if found else None)),
        ("device", device.device or "not enrolled"),
        ("key", device.key_id),
    ]
    if device.problem:
        rows.append(("problem", device.problem))
    if found is not None:
        rows += [
            ("last contact", _ago(found.last_contact)),
            ("last error", f"{found.error} ({_ago(found.error_at)})" if found.error else "none"),
        ]
        if running is not None and found.next_try is not None:
            rows.append(("next try", _ago(found.next_try)))
        sent = f"{found.items} items with {found.rows} rows in {found.batches} batches, {output.size(found.bytes)}"
        rows.append(("sent so far", sent))
        if found.clock_ahead is not None and abs(found.clock_ahead) > _CLOCK_SECONDS:
            way = "ahead of" if found.clock_ahead > 0 else "behind"
            rows.append(
                ("clock", f"{duration(abs(found.clock_ahead))} {way} the monitor's; windows are placed rightly")
            )
        rows += [("note", note) for note in found.notes]
    output.table("Agent", ("", ""), rows)
    _show_spool(stats)


def _show_spool(stats: SpoolStats) -> None:
    from edgeml.telemetry import clock

    now = clock.wall()
    waiting: list[tuple[str, int, int, str, str]] = [
        (kind, items, rows, output.size(size), "")
        for kind, (items, rows, size) in sorted(stats.by_kind.items())
        if items
    ]
    if waiting:
        output.table("Waiting to be sent", ("kind", "items", "rows", "size"), [row[:4] for row in waiting])
        if stats.oldest is not None and stats.newest is not None:
            oldest, newest = (duration(max(now - at, 0.0)) for at in (stats.oldest, stats.newest))
            output.paragraph(f"the oldest for {oldest}, the newest for {newest}, by this device's clock")
    else:
        output.title("Nothing waits to be sent")
    lost = [
        (what, number, reason)
        for what, reasons in (("evicted", stats.evicted), ("refused", stats.refused), ("damaged", stats.damaged))
        for reason, number in sorted(reasons.items())
    ]
    if lost:
        output.table("Not delivered, and never will be", ("how", "items", "reason"), lost)
    disk = f"{output.size(stats.bytes_on_disk)} of {output.size(stats.max_bytes)}"
    rows: list[tuple[str, output.Cell]] = [
        ("delivered", stats.delivered),
        ("on disk", disk),
        ("next", f"batch {stats.number} of chain {stats.chain}"),
        ("losses to report", stats.losses),
    ]
    if stats.damaged_files:
        rows.append(("set aside", ", ".join(stats.damaged_files)))
    output.table("Spool", ("", ""), [(name, str(value)) for name, value in rows])


def _running(pid: int, found: Status | None) -> str:
    state = found.state if found is not None else "starting"
    return f"{state} (process {pid})" if pid else state


def _ago(moment: Moment | None) -> str:
    """When something was or will be, for people."""
    from edgeml.telemetry import clock

    if moment is None:
        return "never"
    age = moment.age(clock)
    return f"{duration(age)} ago" if age >= 0 else f"in {duration(-age)}"


def duration(seconds: float) -> str:
    """3 s, 5 min, 2 h 10 min, 12 d."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d"


@click.command(name="rotate-key")
@agent_options.spool_option
@agent_options.key_option
@click.option("--new-key", type=options.FILE, help="File with the new key. Default: a new one in place of spool.key.")
@options.json_option
def rotate_key(folder: Path | None, key: Path | None, new_key: Path | None, as_json: bool) -> None:
    """Encrypt the spool under another key. Nothing that waits is lost; the old key opens nothing any more.

    \b
    Example:
      edgeml agent rotate-key --spool /var/lib/edgeml
    """
    where = agent_options.place(folder, key)
    spool = where.open()
    try:
        spool.rotate(new_key)
    finally:
        spool.close()
    if as_json:
        output.print_json({"folder": str(where.folder), "rotated": True})
    else:
        output.line(f"the spool in {where.folder} has another key")


@click.command()
@agent_options.spool_option
@agent_options.key_option
@agent_options.identity_option
@click.option("--device-key", is_flag=True, help="Also destroy the device's own key and its enrolment.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@options.json_option
def erase(
    folder: Path | None, key: Path | None, identity: Path | None, device_key: bool, yes: bool, as_json: bool
) -> None:
    """Destroy the key of what the spool holds, so that nobody can read it again. What waits is not sent any more.

    The device's own key and enrolment stay, unless --device-key is given: then it is another device when it enrols
    again. No agent may be running for that.

    \b
    Example:
      edgeml agent erase --spool /var/lib/edgeml --yes
    """
    from edgeml.errors import AgentError
    from edgeml.telemetry.agent_lock import AgentLock
    from edgeml.telemetry.agent_settings import AgentSettings
    from edgeml.telemetry.identity import destroy

    where = agent_options.place(folder, key)
    spool = where.open()
    lock = AgentLock(where.folder)
    try:
        if device_key and not lock.acquire():
            raise AgentError("an agent runs on this spool, with the device's key", "stop it first")
        waiting = spool.stats().items
        if not yes:
            what = f"{waiting} items that were not sent yet" if waiting else "a spool in which nothing waits"
            if not click.confirm(f"Erase {what} in {where.folder}?", err=True):
                output.note("nothing was erased")
                click.get_current_context().exit(1)
        spool.erase()
        if device_key:
            destroy(AgentSettings(identity=identity).identity_folder(where.folder))
    finally:
        lock.release()
        spool.close()
    if as_json:
        output.print_json({"folder": str(where.folder), "erased": waiting, "device_key": device_key})
    else:
        output.line(f"erased {waiting} items in {where.folder}{', and the device key' if device_key else ''}")

"""One transaction of ingest: many batches in, replies out, everything counted once or not at all.

``merge`` locks the devices, judges each batch's place in its chain, tells items that came before from new ones, and
adds the new ones up; ``flush.py`` writes what it found. Nothing is kept from one transaction to the next but the
registry's cache. ``writer.py`` calls it, and decides what becomes of a group that fails.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from edgeml.errors import WireError
from edgeml.fleet import keys
from edgeml.fleet.chain import CAUSES, REMEDY, Chain, judge
from edgeml.fleet.clocks import place
from edgeml.fleet.device_state import Device, DeviceState, load_devices, load_origins
from edgeml.fleet.flush import Findings, flush
from edgeml.fleet.losses import StreamLosses
from edgeml.fleet.ranges import Range, of_numbers
from edgeml.fleet.registry import Registry, Unknown
from edgeml.fleet.retention import Retention
from edgeml.fleet.rollup import LEVELS, Sums, check_plausible
from edgeml.fleet.samples import check_sample
from edgeml.telemetry.items import Item
from edgeml.telemetry.window import check_window
from edgeml.telemetry.wire import Body, Header, Sent

MAX_REASON = 300
# Events of one batch about items it holds; the quarantine holds every one.
_MAX_EVENTS = 10
MISMATCH = "profile mismatch"


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP status, its JSON body, and seconds for Retry-After."""

    status: int
    body: dict[str, Any]
    retry_after: float | None = None


@dataclass(slots=True)
class Request:
    """A batch on its way through the writer; ``size`` in bytes is what it takes of the queue."""

    device: Device
    header: Header
    header_sha256: str
    sent: Sent
    body: Body
    received: float
    size: int
    future: Future[Reply] = field(default_factory=Future)


@dataclass(slots=True)
class Excluded:
    """What of a batch made the server fail, and is left out: reasons by item's index, and all losses."""

    items: dict[int, str] = field(default_factory=dict)
    losses: bool = False


def refusal(
    status: int, error: str, cause: str, remedy: str, *, retry_after: float | None = None, **more: Any
) -> Reply:
    """A reply that takes nothing."""
    return Reply(status, {"error": error, "cause": cause, "remedy": remedy, **more}, retry_after)


def merge(
    connection: Connection, requests: Sequence[Request], registry: Registry, retention: Retention,
    excluded: Excluded | None = None,
) -> tuple[list[Reply], Counter[str]]:  # fmt: skip
    """Take the batches of ``requests``, in their order, inside a transaction of the caller's.

    Returns a reply for each, and counts of what was done, both of which hold once the transaction is committed.
    ``excluded`` is of a single request.
    """
    keys.prepare(connection)
    work = _Merge(connection, requests, registry, retention)
    replies = [work.take(request, excluded or Excluded()) for request in requests]
    flush(connection, work.found)
    return replies, work.counts


class _Merge:
    def __init__(
        self, connection: Connection, requests: Sequence[Request], registry: Registry, retention: Retention
    ) -> None:
        self.found = Findings(retention)
        self.counts: Counter[str] = Counter()
        self._connection = connection
        self._registry = registry
        self._devices = load_devices(connection, [(r.header.device, r.header.chain) for r in requests])
        self.found.devices = self._devices
        items = [(r.header.device, i.stream, i.sequence) for r in requests for i in r.body.items]
        self._known = keys.known(connection, list(dict.fromkeys(items)))
        streams = {(d, s) for d, s, _ in items} | {(r.header.device, x.stream) for r in requests for x in r.body.losses}
        lost: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for row in keys.losses_of(connection, sorted(streams)):
            lost.setdefault((row["device_id"], row["stream"]), []).append(row)
        self.found.losses = {stream: StreamLosses(rows) for stream, rows in lost.items()}
        self._origins = load_origins(connection, _other_boots(requests))

    def take(self, request: Request, excluded: Excluded) -> Reply:
        device = self._devices.get(request.header.device)
        if device is None:
            return refusal(401, "unknown_device", "no device has this identity", "enrol the device again")
        if device.state != "active":
            return refusal(403, "device_revoked", "the device's access was revoked", "ask the monitor's operator")
        header = request.header
        chain = device.chains.get(header.chain)
        others = any(not c.closed and c.chain != header.chain for c in device.chains.values())
        verdict = judge(header, request.header_sha256, request.sent, request.received, device.skew, chain, others)
        if verdict.event:
            self._chain_event(request, device, verdict.event, verdict.why)
        if verdict.outcome == "conflict":
            self.counts[f"conflict_{verdict.why}"] += 1
            return refusal(409, "chain_conflict", CAUSES[verdict.why], REMEDY, why=verdict.why)
        device.met(request.sent, request.received)
        if verdict.outcome == "again":
            assert chain is not None  # only a known chain is answered again
            self.counts["again"] += 1
            return Reply(200, chain.reply)
        needed: dict[str, None] = {}
        results = [
            list(self._item(request, device, index, excluded.items.get(index), needed))
            for index in range(len(request.body.items))
        ]
        if not excluded.losses:
            self._losses(request, device)
        reply = {"results": results, "need_profiles": list(needed)}
        if verdict.starts or chain is None:
            device.begin(Chain(header.chain, 0, "", b"", {}, request.received, header.restarted, False))
        device.advance(header.chain, header.number, request.header_sha256, reply)
        self.counts.update(outcome for outcome, _ in results)
        self._refusal_events(request, device, results)
        return Reply(200, reply)

    # --- items ------------------------------------------------------------------------------------------------------
    def _item(
        self, request: Request, device: DeviceState, index: int, poison: str | None, needed: dict[str, None]
    ) -> tuple[str, str]:
        item, payload = request.body.items[index], request.body.payloads[index]
        key = (device.id, item.stream, item.sequence)
        known = self._known.get(key)
        if known is not None:
            return ("duplicate", "") if known[0] == keys.RECEIVED else ("refused", known[1])
        try:
            if poison is not None:
                raise WireError(poison)
            if item.kind == "window":
                self._window(request, device, item, payload)
            else:
                check_sample(payload)
                self.found.samples.append(_row(device, item, request.received))
        except Unknown as unknown:
            needed[str(unknown)] = None
            return "deferred", "its profile is not known yet"
        except WireError as error:
            reason = error.cause.replace("\0", "")[:MAX_REASON]
            self._known[key] = (keys.REFUSED, reason)
            row = _row(device, item, request.received) | {"kind": item.kind, "reason": reason}
            self.found.quarantine.append(row)
            self.found.no_longer_lost(device.id, item.stream, item.sequence, item.rows)
            return "refused", reason
        self._known[key] = (keys.RECEIVED, "")
        self.found.no_longer_lost(device.id, item.stream, item.sequence, item.rows)
        self.counts["rows"] += item.rows
        return "accepted", ""

    def _window(self, request: Request, device: DeviceState, item: Item, window: Any) -> None:
        sha256 = window.get("profile_sha256") if isinstance(window, dict) else None
        if sha256 is not None and (not isinstance(sha256, str) or len(sha256) != 64):
            raise WireError("window: profile_sha256 is not a SHA-256 in hexadecimal digits")
        bins = self._registry.bins(self._connection, device.project, sha256, request.body.profiles)
        check_window(window, bins.profile)
        check_plausible(window)
        if window["rows"] != item.rows:
            raise WireError(f"window: it is about {window['rows']} rows, its item says {item.rows}")
        model, fresh = self._registry.model(self._connection, device.project, window, bins, device.id, request.received)
        if fresh:
            self._event(request, device, "model_seen", {"model": model.name, "version": model.version})
        elif model.manifest_sha256 != window["model"]["manifest_sha256"]:
            # The bins are the same, so the counts add up; but it is another bundle under the same name and version.
            other = {"model": model.name, "version": model.version, "bundle": window["model"]["manifest_sha256"]}
            self._event_once(request, device, "bundle_differs", other)
        boot = window["process"]["boot_id"]
        when = place(
            start=float(window["start"]), end=float(window["end"]), boot_id=boot, wall=float(window["wall"]),
            sent=request.sent, received=request.received, enrolled=device.enrolled,
            origin=self._origins.get((device.id, boot)),
        )  # fmt: skip
        self.found.windows.append(
            _row(device, item, request.received)
            | {"model_id": model.id, "started": when.started, "ended": when.ended, "clock": when.clock}
        )
        minute = int(when.ended // LEVELS["minute"]) * LEVELS["minute"]
        sums = self.found.sums.get((model.id, minute))
        if sums is None:
            sums = self.found.sums[model.id, minute] = Sums(bins.layout.slots)
        sums.add(window, bins.layout)
        self.found.now = max(self.found.now, request.received)

    # --- losses -----------------------------------------------------------------------------------------------------
    def _losses(self, request: Request, device: DeviceState) -> None:
        for loss in request.body.losses:
            stream = self.found.losses_of(device.id, loss.stream)
            if stream.has(loss):
                continue
            known: list[Range] = keys.received_between(
                self._connection, device.id, loss.stream, loss.first, loss.last
            )  # and what this transaction has not written yet
            known += of_numbers(
                q for d, s, q in self._known if d == device.id and s == loss.stream and loss.first <= q <= loss.last
            )
            stream.report(loss, known, request.received)
            self.counts["losses"] += 1

    # --- events -----------------------------------------------------------------------------------------------------
    def _event(self, request: Request, device: DeviceState, kind: str, detail: Mapping[str, Any]) -> None:
        self.found.events.append(
            {
                "at": request.received, "project_id": device.project, "device_id": device.id, "kind": kind,
                "detail": dict(detail),
            }
        )  # fmt: skip

    def _event_once(self, request: Request, device: DeviceState, kind: str, detail: Mapping[str, Any]) -> None:
        event = (device.id, kind, tuple(sorted(detail.items())))
        if event not in self.found.said:
            self.found.said.add(event)
            self._event(request, device, kind, detail)

    def _chain_event(self, request: Request, device: DeviceState, kind: str, why: str) -> None:
        detail = {"chain": request.header.chain, "number": request.header.number, "why": why}
        if kind == "chain_restarted":
            detail["why"] = request.header.restarted or "the device gave no reason"
        elif kind == "clone_suspected":
            device.clone_seen = request.received
            device.touched = True
        self._event(request, device, kind, detail)

    def _refusal_events(self, request: Request, device: DeviceState, results: Sequence[Sequence[str]]) -> None:
        reasons = Counter(reason for outcome, reason in results if outcome == "refused")
        for reason, items in reasons.most_common(_MAX_EVENTS):
            kind = "profile_mismatch" if reason.startswith(MISMATCH) else "items_refused"
            self._event(request, device, kind, {"reason": reason, "items": items})


def _row(device: DeviceState, item: Item, received: float) -> dict[str, Any]:
    return {
        "device_id": device.id, "stream": item.stream, "sequence": item.sequence, "received": received,
        # Level 1: 30 us for a window, and 7 % more bytes than level 6.
        "rows": item.rows, "payload": zlib.compress(item.payload, 1),
    }  # fmt: skip


def _other_boots(requests: Sequence[Request]) -> list[tuple[str, str]]:
    """(device, boot) of windows that were recorded in another boot than they are sent from."""
    found: dict[tuple[str, str], None] = {}
    for request in requests:
        for payload in request.body.payloads:
            process = payload.get("process") if isinstance(payload, dict) else None
            boot = process.get("boot_id") if isinstance(process, dict) else None
            if isinstance(boot, str) and boot != request.sent.boot_id and boot.isprintable() and len(boot) <= 64:
                found[request.header.device, boot] = None
    return list(found)

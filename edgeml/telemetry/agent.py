"""Sends what the spool keeps: one batch a step, in a chain signed by the device, until the monitor has said what
became of every item.

Comes in: a spool, the device's identity, a transport. ``step`` is called again and again, by ``AgentThread`` and by
``edgeml agent``; it returns how long to wait and raises for nothing that a network, a server or a disk does. When it is
open whether a batch was taken, the very same bytes go again, and the monitor knows them by their number.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from edgeml.errors import TelemetryError
from edgeml.jsonutil import dumps
from edgeml.telemetry import clock as device_clock
from edgeml.telemetry import wire
from edgeml.telemetry.agent_answers import Action, Verdict, error_of, judge_batch, printable, read_enrolment
from edgeml.telemetry.agent_portions import Next, Portions
from edgeml.telemetry.agent_status import Clock, Moment, Status
from edgeml.telemetry.backoff import Backoff, Bandwidth
from edgeml.telemetry.identity import Enrolment, Identity
from edgeml.telemetry.transport import Transport

if TYPE_CHECKING:
    from edgeml.telemetry.items import Item, Loss
    from edgeml.telemetry.spool import Outbox, Spool

BATCH_BYTES = 512 * 1024  # of JSON; a tenth of that on the line
IDLE_SECONDS = 10.0
# So many answers in a row that are none of a monitor's, some two hours of them, and a batch is tried in parts; the
# parts themselves sooner.
STUCK_ATTEMPTS, STUCK_AGAIN_ATTEMPTS = 40, 5
# A device that was revoked, or whose token is no good, asks again after a good while: somebody must act first.
LONG_SECONDS = 3600.0

_log = logging.getLogger("edgeml.telemetry.agent")
_log.addHandler(logging.NullHandler())  # an application that configures no logging is told nothing


class Agent:
    """One sender. Not for two threads at once; ``status`` may be read from any.

    ``server`` is what the enrolment is for; ``token`` enrols the device when it is not, or no longer, known.
    ``on_status`` is called after every step, with ``status``; ``on_delivered`` with the items and losses that the
    monitor has counted, for a copy of them to go elsewhere: it returns at once and raises nothing.
    """

    def __init__(
        self,
        spool: Spool,
        identity: Identity,
        transport: Transport,
        *,
        server: str,
        token: str | None = None,
        name: str = "",
        labels: Mapping[str, str] | None = None,
        clock: Clock = device_clock,
        uniform: Callable[[float, float], float] = random.uniform,
        bandwidth_bytes_per_second: float | None = None,
        batch_bytes: int = BATCH_BYTES,
        batch_items: int = wire.MAX_ITEMS,
        idle_seconds: float = IDLE_SECONDS,
        status: Status | None = None,
        on_status: Callable[[Status], None] | None = None,
        on_delivered: Callable[[Sequence[Item], Sequence[Loss]], None] | None = None,
    ) -> None:
        self.status = status or Status()
        self.drained = False
        self._spool, self._identity, self._transport = spool, identity, transport
        self._server, self._token, self._name, self._labels = server, token, name, dict(labels or {})
        self._clock, self._uniform, self._idle = clock, uniform, idle_seconds
        self._backoff = Backoff(uniform=uniform)
        self._bandwidth = Bandwidth(bandwidth_bytes_per_second, clock.monotonic)
        self._batch_bytes = batch_bytes
        self._portions = Portions(batch_items)
        self._not_before = clock.monotonic()
        # The header of a batch that certainly never reached the monitor: only that one may be taken apart in silence.
        self._fresh: bytes | None = None
        self._packed: tuple[bytes, bytes] | None = None
        self._odd = b"", 0  # a header, and how many answers in a row were none of a monitor's
        self._need_profiles: tuple[str, ...] = ()
        self._on_status = on_status or (lambda status: None)
        self._on_delivered = on_delivered or (lambda items, losses: None)
        self._say_who()

    def step(self) -> float:
        """Send at most one batch; seconds to wait before the next step, 0 to go on at once."""
        try:
            wait = self._not_before - self._clock.monotonic()
            if wait <= 0:
                wait = self._step()
        except TelemetryError as error:
            wait = self._failed(error.cause)
        except Exception as error:  # an application must not learn of our faults by an exception in its process
            _log.exception("the agent met a fault of its own")
            wait = self._failed(f"a fault of the agent: {type(error).__name__}: {printable(str(error), 200)}")
        self._on_status(self.status)
        return max(wait, 0.0)

    def hurry(self) -> None:
        """Forget the waits: somebody asks for an attempt now."""
        self._not_before = self._clock.monotonic()
        self._backoff.reset()
        self.status.failures = 0

    def _step(self) -> float:
        self.drained = False
        wait = self._bandwidth.wait()
        if wait > 0:
            return self._wait(wait, "waiting")
        if self._identity.enrolment is None or self._identity.enrolment.server != self._server:
            self._identity.refresh()
            enrolment = self._identity.enrolment
            if enrolment is None or (enrolment.server != self._server and self._token is not None):
                return self._enrol() or 0.0
            self._say_who()
        outbox = self._next()
        if outbox is None:
            self.drained = True
            self.status.state, self.status.next_try = "idle", None
            return self._idle * self._uniform(0.75, 1.25)
        return self._send(outbox)

    def _next(self) -> Outbox | None:
        """The batch under way, or another one."""
        enrolment = self._identity.enrolment
        assert enrolment is not None
        outbox = self._spool.outbox()
        if outbox is not None and wire.read_header(outbox.header).device != enrolment.device:
            # Signed for who the device was before.
            self._take_apart(outbox, "the device enrolled anew", certain=False)
            outbox = None
        if outbox is None:
            outbox = self._spool.begin(
                enrolment.device,
                max_bytes=self._bandwidth.batch_bytes(self._batch_bytes),
                max_items=self._portions.max_items,
                profiles=self._need_profiles[:1],
            )
            self._fresh = None if outbox is None else outbox.header
        return outbox

    def _send(self, outbox: Outbox) -> float:
        if self._packed is None or self._packed[0] != outbox.header:
            self._packed = outbox.header, wire.compress(outbox.body)
        packed = self._packed[1]
        if max(len(packed) - wire.MAX_COMPRESSED_BYTES, len(outbox.body) - wire.MAX_BODY_BYTES) > 0:
            return self._split(outbox, Verdict(Action.SPLIT, "larger than a batch may be"), ours=True)
        self.status.state = "sending"
        now = Moment.now(self._clock)
        sent = wire.Sent(now.boot_id, now.monotonic, now.wall).to_text()
        signature = self._identity.sign(wire.signed_bytes(outbox.header, sent))
        reply = self._transport.post_batch(outbox.header, sent, signature, packed)
        self._bandwidth.spend(reply.spent)
        self.status.bytes += reply.spent
        verdict = judge_batch(reply, len(outbox.items))
        if verdict.action is Action.AGAIN and reply.reached:
            self._fresh = None
        stuck = self._is_stuck(outbox, reply.status if verdict.action is Action.AGAIN else 0)
        if reply.fields is not None:
            self.status.last_contact = Moment.now(self._clock)
        match verdict.action:
            case Action.SETTLE:
                return self._settle(outbox, verdict)
            case Action.SPLIT:
                return self._split(outbox, verdict)
            case Action.AGAIN if stuck:
                return self._split(outbox, verdict, proven=False)
            case Action.RESTART:
                self._take_apart(outbox, f"the monitor answered: {verdict.why}", certain=False)
                return self._failed(verdict.problem, verdict.wait)
            case Action.ENROL:
                return self._unknown(verdict)
            case Action.REVOKED:
                return self._failed(verdict.problem, self._long(verdict.wait), state="revoked")
        return self._failed(verdict.problem, verdict.wait)

    def _is_stuck(self, outbox: Outbox, status: int) -> bool:
        """Whether this batch has been answered long enough by something that is no answer: a monitor, or a proxy in
        front of it, that fails over one item must not hold up all others.
        """
        if outbox.header != self._odd[0] or not status:
            self._odd = outbox.header, 0
        if status:
            self._odd = outbox.header, self._odd[1] + 1
        return self._odd[1] >= (STUCK_AGAIN_ATTEMPTS if self._portions.searching else STUCK_ATTEMPTS)

    def _settle(self, outbox: Outbox, verdict: Verdict) -> float:
        self._spool.settle(outbox, verdict.results)
        self._packed = self._fresh = None
        outcomes = [outcome for outcome, _ in verdict.results]
        settled = [i for i, outcome in zip(outbox.items, outcomes, strict=True) if outcome in ("accepted", "duplicate")]
        status = self.status
        status.batches += 1
        if verdict.server_time is not None:
            status.clock_ahead = round(self._clock.wall() - verdict.server_time)
        status.items += len(settled)
        status.rows += sum(item.rows for item in settled)
        status.duplicates += outcomes.count("duplicate")
        status.refused += outcomes.count("refused")
        self._on_delivered(settled, outbox.losses)
        _log.info(
            "batch %d taken: %s", outbox.number, ", ".join(f"{outcomes.count(o)} {o}" for o in dict.fromkeys(outcomes))
        )
        asked, self._need_profiles = self._need_profiles, verdict.need_profiles
        if outcomes and set(outcomes) == {"deferred"}:
            return self._deferred(outbox, verdict, asked)
        self._portions.taken(len(outbox.items))
        self._backoff.reset()
        status.failures, status.error, status.error_at = 0, None, None
        if verdict.pause:
            return self._wait(verdict.pause, "paused")
        return self._wait(self._bandwidth.wait(), "sending")

    def _deferred(self, outbox: Outbox, verdict: Verdict, asked: tuple[str, ...]) -> float:
        """Nothing of a batch could be counted yet: the monitor lacks a reference profile, now or ``asked`` before."""
        need = verdict.need_profiles
        if need and not outbox.profiles and not set(need) & set(asked):
            return self._wait(self._bandwidth.wait(), "sending")  # the next batch brings it
        # Another one comes first next time, in case this one is not to be had.
        self._need_profiles = need[1:] + need[:1]
        names = ", ".join(sha[:16] for sha in need) or "unknown"
        return self._failed(
            f"the monitor waits for the reference profile {names} before it counts these windows, and the spool does "
            "not have it, or it was not taken (an operator can give the bundle to `edgeml monitor add-model`)",
            verdict.wait,
        )

    def _split(self, outbox: Outbox, verdict: Verdict, *, ours: bool = False, proven: bool = True) -> float:
        """The batch cannot be taken as it is; ``ours`` when it was not even sent. Not ``proven``: it only seems so, and
        no item is given up for that.
        """
        why = "was refused after an attempt without an answer" if proven else f"failed {STUCK_ATTEMPTS} times or more"
        self._take_apart(outbox, f"a batch {why}", certain=proven)
        if outbox.profiles:
            self._need_profiles = ()
            return self._failed(f"a batch with a reference profile was refused: {verdict.problem}", verdict.wait)
        step = self._portions.refused(outbox.items)
        if len(outbox.items) == 1 and (ours or not proven):
            step = Next.GIVE_UP if ours else Next.PUT_OFF
        if step is Next.PUT_OFF:
            self._spool.put_off(outbox.items[0].stream, outbox.items[0].sequence)
        if step is Next.GIVE_UP:
            self._give_up(outbox.items[0], verdict.problem if ours else f"refused by the monitor: {verdict.problem}")
        if step in (Next.SMALLER, Next.GIVE_UP) and not verdict.wait:
            return self._wait(self._bandwidth.wait(), "sending")
        return self._failed(verdict.problem, verdict.wait)

    def _give_up(self, item: Item, reason: str) -> None:
        reason = printable(reason, wire.MAX_REASON)
        _log.warning("%s %s/%d is given up: %s", item.kind, item.stream, item.sequence, reason)
        self._spool.refuse(item.stream, item.sequence, reason)
        self.status.refused += 1

    def _take_apart(self, outbox: Outbox, reason: str, *, certain: bool) -> None:
        """Free the items of a batch. Another batch with its number would look like a second device's if the monitor
        took this one after all: unless that is out of the question, another chain begins.
        """
        self._spool.unpin(outbox)
        if not (certain and outbox.header == self._fresh):
            self._spool.restart_chain(printable(reason, wire.MAX_REASON))
        self._packed = self._fresh = None

    # --- enrolment --------------------------------------------------------------------------------------------------
    def _enrol(self) -> float | None:
        """None when the device is enrolled now; else the wait, and why is noted."""
        if self._token is None:
            problem = "the device is not enrolled, and no token is given (edgeml agent enrol --token-file FILE)"
            return self._failed(problem, state="not enrolled")
        reply = self._transport.enrol(enrolment_request(self._identity, self._token, self._name, self._labels))
        self._bandwidth.spend(reply.spent)
        found = read_enrolment(reply)
        if found is None:
            code, problem = error_of(reply)
            final = code is not None and reply.status in (400, 401, 403, 422)
            wait = self._long(reply.retry_after) if final else reply.retry_after
            return self._failed(f"not enrolled: {problem}", wait, state="not enrolled")
        self._identity.enrol(Enrolment(*found, self._server))
        self.status.last_contact = Moment.now(self._clock)
        self._say_who()
        _log.info("enrolled as device %s at %s", found[0], self._server)
        return None

    def _unknown(self, verdict: Verdict) -> float:
        """The monitor does not know the device."""
        before = self._identity.enrolment
        self._identity.refresh()
        if self._identity.enrolment == before and self._token is not None:
            wait = self._enrol()
            if wait is not None:
                return wait
        if self._identity.enrolment != before:
            return 0.0
        wait = verdict.wait if self._token is not None else self._long(verdict.wait)
        return self._failed(verdict.problem, wait, state="not enrolled")

    # --- what is said of it all -------------------------------------------------------------------------------------
    def _say_who(self) -> None:
        enrolment, status = self._identity.enrolment, self.status
        status.server, status.key_id = self._server, self._identity.key_id
        status.device = None if enrolment is None else enrolment.device
        status.project = None if enrolment is None else enrolment.project

    def _failed(self, problem: str, least: float | None = None, state: str = "waiting") -> float:
        """Note a failure; the wait that follows from it."""
        problem = printable(problem, 600)
        (_log.warning if problem != self.status.error else _log.debug)("%s", problem)
        wait = self._backoff.wait(least or 0.0)
        self.status.failures = self._backoff.failures
        self.status.error, self.status.error_at = problem, Moment.now(self._clock)
        return self._wait(max(wait, self._bandwidth.wait()), state)

    def _wait(self, seconds: float, state: str) -> float:
        self.status.state = state
        self.status.next_try = Moment.now(self._clock, seconds) if seconds > 0 else None
        self._not_before = self._clock.monotonic() + seconds
        return seconds

    def _long(self, least: float | None) -> float:
        return max(LONG_SECONDS, least or 0.0)


def enrolment_request(identity: Identity, token: str, name: str, labels: Mapping[str, str]) -> bytes:
    """The JSON that asks the monitor to take a device; the signature shows that it holds the key."""
    return dumps(
        {
            "token": token,
            "public_key": wire.encode(identity.public_key),
            "name": name,
            "labels": dict(labels),
            "signature": wire.encode(identity.sign(wire.enrolment_bytes(token))),
        }
    )

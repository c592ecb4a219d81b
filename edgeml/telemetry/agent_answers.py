"""What an answer of the monitor means for the batch that was sent: a ``Verdict``, from a ``Reply``.

The agent acts on verdicts only. Whatever is not one of the answers that ``WIRE.md`` lists, in the form it lists, leaves
open whether the batch was taken: the same bytes go again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from edgeml.telemetry.identity import is_id
from edgeml.telemetry.transport import Reply
from edgeml.telemetry.wire import MAX_PROFILES, MAX_REASON, MAX_SECONDS

OUTCOMES = frozenset({"accepted", "duplicate", "refused", "deferred"})
# An operator may ask devices to be silent for longer than a proxy may with Retry-After.
MAX_PAUSE_SECONDS = 86_400.0


class Action(Enum):
    """What becomes of the batch."""

    SETTLE = "the monitor took it: its items are settled one by one"
    AGAIN = "nobody knows: the same bytes again"
    LATER = "it was not taken, and may go later as it is"
    SPLIT = "it cannot be taken as it is: smaller ones instead"
    RESTART = "the chain is broken: another chain, with the same items"
    ENROL = "the device is not known: enrol, then again"
    REVOKED = "the device is no longer welcome: again after a long time"


@dataclass(frozen=True, slots=True)
class Verdict:
    """``problem`` is for people and empty when all is well; ``wait`` is what the monitor asked for, in seconds.

    ``results``, ``need_profiles``, ``pause`` and ``server_time`` (Unix seconds) come with SETTLE, ``why`` with RESTART.
    """

    action: Action
    problem: str = ""
    wait: float | None = None
    results: tuple[tuple[str, str], ...] = ()
    need_profiles: tuple[str, ...] = ()
    pause: float = 0.0
    server_time: float | None = None
    why: str = ""


def judge_batch(reply: Reply, items: int) -> Verdict:
    """What the answer to a batch of ``items`` means."""
    fields = reply.fields
    if fields is None:
        return Verdict(Action.AGAIN, reply.problem or f"answered {reply.status}", reply.retry_after)
    if reply.status == 200:
        return _taken(reply, fields, items)
    code, problem = error_of(reply)
    match reply.status, code:
        case 400 | 413 | 422, str():
            return Verdict(Action.SPLIT, problem, reply.retry_after)
        case 401, "unknown_device":
            return Verdict(Action.ENROL, problem, reply.retry_after)
        case 403, "device_revoked":
            return Verdict(Action.REVOKED, problem, reply.retry_after)
        case 409, "chain_conflict":
            why = printable(fields.get("why"), 40) or "chain conflict"
            return Verdict(Action.RESTART, problem, reply.retry_after, why=why)
        case ((401 | 415 | 429), str()):
            return Verdict(Action.LATER, problem, reply.retry_after)
    return Verdict(Action.AGAIN, problem, reply.retry_after)


def _taken(reply: Reply, fields: Mapping[str, Any], items: int) -> Verdict:
    results, need, pause = fields.get("results"), fields.get("need_profiles", []), fields.get("pause")
    odd = Verdict(Action.AGAIN, "answered 200, but not in the form of a monitor's answer", reply.retry_after)
    if not isinstance(results, list) or len(results) != items or not isinstance(need, list):
        return odd
    settled: list[tuple[str, str]] = []
    for result in results:
        if not isinstance(result, list) or len(result) != 2:
            return odd
        outcome, reason = result
        if not isinstance(outcome, str) or outcome not in OUTCOMES or not isinstance(reason, str):
            return odd
        settled.append((outcome, printable(reason, MAX_REASON)))
    digests = tuple(sha for sha in need if isinstance(sha, str) and len(sha) == 64)[:MAX_PROFILES]
    silent = min(_positive(pause) or 0.0, MAX_PAUSE_SECONDS)
    time = _positive(fields.get("server_time"))
    return Verdict(Action.SETTLE, results=tuple(settled), need_profiles=digests, pause=silent, server_time=time)


def _positive(value: Any) -> float | None:
    """A number above 0, at most ``MAX_SECONDS``; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        return None
    return float(min(value, MAX_SECONDS))


def read_enrolment(reply: Reply) -> tuple[str, str] | None:
    """Device and project of an answer to an enrolment; None when it is no such answer."""
    fields = reply.fields
    if reply.status not in (200, 201) or fields is None:
        return None
    device, project = fields.get("device"), fields.get("project")
    return (device, project) if is_id(device) and is_id(project) else None


def error_of(reply: Reply) -> tuple[str | None, str]:
    """The code of an error in the monitor's form, None for any other; and a sentence for people."""
    fields = reply.fields or {}
    code, cause = fields.get("error"), fields.get("cause")
    if not isinstance(code, str) or not isinstance(cause, str):
        return None, reply.problem or f"answered {reply.status}, not in the form of a monitor's answer"
    said = [printable(cause, 300), printable(fields.get("remedy"), 300)]
    return code, f"{'; '.join(part for part in said if part)} ({reply.status} {printable(code, 40)})"


def printable(text: Any, most: int) -> str:
    """Text of a server, fit for a log, a terminal and a loss's reason."""
    if not isinstance(text, str):
        return ""
    return "".join(c if c.isprintable() else "?" for c in text[:most]).strip()

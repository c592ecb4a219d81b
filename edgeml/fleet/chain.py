"""The rules of a device's chain of batches: which header is taken, answered again, or refused, and why.

Comes in: a header and what is known of the device's chains. Goes out: a verdict; nothing is read or written here.
Ingest asks it for every request. A batch that comes again, one that is missing, and two devices with one key are told
apart by the hashes of the last headers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from edgeml.telemetry.wire import NO_PREVIOUS, Header, Sent

# How many of a chain's last headers are remembered, and by how many bytes of their hash.
REMEMBERED = 64
SEEN_BYTES = 8
# An attempt sent so near to now was composed now: it is no old request played back.
_FRESH_SECONDS = 3600.0

CAUSES = {
    "replayed": "the batch is older than the last one taken",
    "forked": "another batch of that number was taken: two devices may have one key",
    "gap": "batches before this one are missing",
    "closed": "the device has begun another chain since",
}
REMEDY = "begin a new chain (number 0) and say why; nothing that was taken counts twice"


@dataclass(frozen=True, slots=True)
class Chain:
    """What is known of one chain of a device: its last batch, the reply to it, and whether another one began since."""

    chain: str
    number: int
    header_sha256: str
    seen: bytes
    reply: dict[str, Any]
    started: float
    restarted: str
    closed: bool

    def after(self, number: int, header_sha256: str, reply: dict[str, Any]) -> Chain:
        seen = (self.seen + bytes.fromhex(header_sha256)[:SEEN_BYTES])[-REMEMBERED * SEEN_BYTES :]
        return replace(self, number=number, header_sha256=header_sha256, seen=seen, reply=reply)

    def has_seen(self, header_sha256: str) -> bool:
        wanted = bytes.fromhex(header_sha256)[:SEEN_BYTES]
        return any(self.seen[at : at + SEEN_BYTES] == wanted for at in range(0, len(self.seen), SEEN_BYTES))


@dataclass(frozen=True, slots=True)
class Verdict:
    """``take`` it (``starts``: as the first of a new chain), answer ``again``, or refuse it as ``why`` says.

    ``event`` is what is written down: "chain_restarted", "replay", "clone_suspected" or nothing.
    """

    outcome: Literal["take", "again", "conflict"]
    starts: bool = False
    why: str = ""
    event: str = ""


def judge(
    header: Header, header_sha256: str, sent: Sent, received: float, skew: float | None,
    known: Chain | None, others: bool,
) -> Verdict:  # fmt: skip
    """The verdict on a header.

    Args:
        known: the chain the header names, or None when the device never began it.
        others: whether the device has an open chain of another name.
        skew: seconds the device's clock was ahead of the server's at its last batch; with ``sent`` it tells whether a
            request was made now.
    """
    if known is None:
        if header.number or header.previous != NO_PREVIOUS:
            return Verdict("conflict", why="gap")
        return Verdict("take", starts=True, event="chain_restarted" if others else "")
    if header.number == known.number and header_sha256 == known.header_sha256:
        return Verdict("again")  # of a closed chain too: a request that was long on its way
    if known.has_seen(header_sha256):
        return Verdict("conflict", why="replayed", event="replay")
    if header.number <= known.number - REMEMBERED and not _fresh(sent, received, skew):
        # Too old to be remembered: played back, unless it was made just now, by a copy of the device's files.
        return Verdict("conflict", why="replayed", event="replay")
    if known.closed:
        return Verdict("conflict", why="closed", event="clone_suspected")
    if header.number > known.number + 1:
        return Verdict("conflict", why="gap")
    if header.number == known.number + 1 and header.previous == known.header_sha256:
        return Verdict("take")
    return Verdict("conflict", why="forked", event="clone_suspected")


def _fresh(sent: Sent, received: float, skew: float | None) -> bool:
    return abs(sent.wall - (skew or 0.0) - received) < _FRESH_SECONDS

"""Items, batches and files for the tests of the spool."""

import random
from uuid import uuid4

from edgeml.jsonutil import dumps, loads
from edgeml.telemetry.items import Item
from edgeml.telemetry.spool_disk import bytes_on_disk

DEVICE = "d" * 32
STREAM = "5" * 32
SMALL = 512 * 2**10


def item(number, *, stream=STREAM, kind="window", size=200, rows=7):
    """An item whose payload does not compress: ``size`` characters of hexadecimal digits."""
    text = random.Random(f"{stream} {number}").randbytes(size // 2).hex()
    return Item(stream, number, kind, dumps({"number": number, "text": text}), rows)


def numbers(items):
    return [one.sequence for one in items]


def stream():
    return uuid4().hex


def begin(spool, **options):
    return spool.begin(DEVICE, **({"max_bytes": 10**6, "max_items": 500} | options))


def accept(spool, batch, result="accepted", reason=""):
    spool.settle(batch, [(result, reason)] * len(batch.items))


def drain(spool):
    """Send all there is: (items by number and stream, losses)."""
    items, losses = {}, []
    while (batch := begin(spool)) is not None:
        for one in batch.items:
            assert (one.stream, one.sequence) not in items
            items[one.stream, one.sequence] = one
        losses += batch.losses
        accept(spool, batch)
    return items, losses


def lost_numbers(losses):
    """(stream, number) of every number that is lost; fails when one is lost twice."""
    found = [(loss.stream, n) for loss in losses for n in range(loss.first, loss.last + 1)]
    assert len(found) == len(set(found))
    return set(found)


def on_disk(folder):
    return bytes_on_disk(folder / "spool.db")


def text_of(one):
    return loads(one.payload, "payload")["text"]

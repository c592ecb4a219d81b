"""A random life of a spool, recorded: windows come, batches go, some are given up, the process ends and starts again.

``live(folder, seed, steps)`` returns the events; between those of the disk stand ("acked", items, losses) once
``append`` has returned, ("posted", header, body) once the monitor has taken a batch, and ("refused", stream, number).
"""

from random import Random

from edgeml.errors import SpoolFullError
from edgeml.jsonutil import dumps
from edgeml.telemetry.items import Item, Loss
from edgeml.telemetry.spool import Spool
from tests.power.monitor import Monitor
from tests.power.recorder import recorded

KEY = bytes(range(32))
DEVICE = "d" * 32
MAX_BYTES = 512 * 2**10
REASON = "the recorder had no memory left"


def live(folder, seed, steps):
    with recorded(folder) as recording:
        life = _Life(folder, Random(seed), recording.events)
        try:
            for _ in range(steps):
                life.step()
        finally:
            life.spool.close()
        return recording.events


class _Life:
    def __init__(self, folder, random, events):
        self.folder, self.random, self.events = folder, random, events
        self.spool = self.open()
        self.monitor = Monitor()
        self.streams = {}
        self.batch = None
        # Some lives have big windows and evict, some have small ones and many batches.
        self.size = random.choice((200, 2000, 9000))

    def open(self):
        return Spool(self.folder, key=KEY, max_bytes=MAX_BYTES)

    def step(self):
        steps = (
            (self.append, 60), (self.send, 18), (self.answer_lost, 4), (self.unpin, 3), (self.restart, 2),
            (self.refuse, 3), (self.reopen, 3), (self.empty_log, 3), (self.profile, 2), (self.new_stream, 2),
        )  # fmt: skip
        self.random.choices([step for step, _ in steps], [weight for _, weight in steps])[0]()

    # --- the recorder ---
    def new_stream(self):
        self.streams[self.random.randbytes(16).hex()] = 0
        if len(self.streams) > 3:
            self.streams.pop(next(iter(self.streams)))

    def item(self, stream):
        number = self.streams[stream]
        self.streams[stream] = number + 1
        kind = "rows" if self.random.random() < 0.15 else "window"
        text = self.random.randbytes(self.random.randrange(20, self.size) // 2).hex()
        return Item(stream, number, kind, dumps({"number": number, "text": text}), self.random.randrange(100))

    def append(self):
        if not self.streams:
            self.new_stream()
        stream = self.random.choice(list(self.streams))
        items = [self.item(stream) for _ in range(self.random.choice((1, 1, 1, 2, 5, 12)))]
        losses = []
        if self.random.random() < 0.1:
            number = self.streams[stream]
            self.streams[stream] = number + 3
            losses = [Loss(stream, number, number + 2, "window", REASON, 30)]
        try:
            self.spool.append(items, losses)
        except SpoolFullError:
            return
        self.events.append(("acked", items, losses))

    def profile(self):
        body = dumps({"profile": self.random.randbytes(300).hex()})
        self.spool.put_profile(self.random.randbytes(32).hex(), body)

    # --- the agent ---
    def begin(self):
        self.batch = self.spool.begin(
            DEVICE,
            max_bytes=self.random.choice((3000, 30000, 300000)),
            max_items=self.random.choice((1, 10, 50)),
            newest_first=self.random.random() < 0.8,
        )
        return self.batch is not None

    def post(self):
        self.events.append(("posted", self.batch.header, self.batch.body))
        return self.monitor.post(self.batch.header, self.batch.body)

    def send(self):
        for _ in range(self.random.choice((1, 1, 3, 8))):
            if not self.begin():
                return
            status, answer = self.post()
            if status == 200:
                self.spool.settle(self.batch, answer)
            else:
                self.spool.restart_chain(str(answer))

    def answer_lost(self):
        if self.begin():
            self.post()

    def unpin(self):
        # Only what the monitor has not taken: it said so.
        if self.spool.outbox() is None and self.begin():
            self.spool.unpin(self.batch)

    def restart(self):
        # Not over a batch that the monitor may have taken: evicted after that, its windows would be counted and lost.
        if self.spool.outbox() is None:
            self.spool.restart_chain("asked to")

    def refuse(self):
        if self.spool.outbox() is None and self.begin():
            self.spool.unpin(self.batch)
            for item in self.batch.items[:1]:
                self.spool.refuse(item.stream, item.sequence, "poison")
                self.events.append(("refused", item.stream, item.sequence))

    # --- the process ---
    def reopen(self):
        self.spool.close()
        self.spool = self.open()

    def empty_log(self):
        self.spool._file.empty_log()

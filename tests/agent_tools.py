"""What the tests of the agent share: a simulated clock, items for a spool, and a loop that lets time pass."""

import random

from edgeml.jsonutil import dumps
from edgeml.telemetry.agent import Agent
from edgeml.telemetry.identity import Enrolment, Identity
from edgeml.telemetry.items import Item
from edgeml.telemetry.spool import Spool
from tests.fake_monitor import TOKEN, DirectTransport, Monitor

STREAM = "5" * 32
SERVER = "https://monitor.example.com"
KEY = b"k" * 32


class SimulatedClock:
    """Time passes when ``pass_`` says so."""

    def __init__(self):
        self.seconds = 1000.0
        self.wall_offset = 1.7e9
        self.boot = "b" * 36

    def boot_id(self):
        return self.boot

    def monotonic(self):
        return self.seconds

    def wall(self):
        return self.seconds + self.wall_offset

    def pass_(self, seconds):
        self.seconds += seconds


def item(sequence, payload=None, *, stream=STREAM, kind="window", rows=10):
    return Item(stream, sequence, kind, dumps({"n": sequence} if payload is None else payload), rows)


class Bench:
    """A spool on the disk, a device, a monitor in memory, and an agent between them on a simulated clock."""

    def __init__(self, folder, *, enrolled=True, monitor=None, items=0, **options):
        self.folder = folder
        self.clock = SimulatedClock()
        self.monitor = monitor or Monitor()
        self.spool = Spool(folder, key=KEY)
        self.identity = Identity.load_or_create(folder / "identity")
        self.transport = DirectTransport(self.monitor, self.clock)
        self.options = {"server": SERVER, "token": TOKEN} | options
        self.waits = []
        self.random = random.Random(7)
        self.agent = self.new_agent()
        if enrolled and self.identity.enrolment is None:
            self.agent._enrol()
            assert self.identity.enrolment is not None
        self.fill(range(items))

    def new_agent(self):
        """Another agent, as after a restart of its process."""
        return Agent(
            self.spool, self.identity, self.transport, clock=self.clock, uniform=self.random.uniform, **self.options
        )

    def fill(self, sequences, **options):
        self.spool.append([item(n, **options) for n in sequences])

    def step(self):
        wait = self.agent.step()
        self.waits.append(wait)
        return wait

    def run(self, seconds=86_400.0, *, until=None):
        """Steps until nothing is left to send, or ``until`` holds, or so many seconds have passed; those seconds."""
        began = self.clock.seconds
        while self.clock.seconds - began < seconds:
            wait = self.step()
            if (self.agent.drained and until is None) or (until is not None and until()):
                break
            self.clock.pass_(wait)
        return self.clock.seconds - began

    def kept(self):
        """Sequences in the spool."""
        return self.spool.stats().items

    def close(self):
        self.spool.close()


def enrol(identity, monitor, server=SERVER):
    """Make a device known to a monitor without an agent."""
    from tests.fake_monitor import Device

    device = Device("d" * 32, identity.public_key)
    monitor.devices[device.id] = device
    identity.enrol(Enrolment(device.id, "0" * 32, server))
    return device

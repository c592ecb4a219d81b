"""A disk that honours fsync and nothing else: which files a power cut may leave.

``Disk.apply`` follows the events of a recording; ``Disk.cut`` draws one of the states that are possible at that moment.
What was synced is there. Of what was not: each sector of 512 bytes holds what it held at any one moment since the last
sync, whatever the sectors beside it hold; a file has any of the sizes it had since; what lies beyond the data that
arrived is zeros or rubbish; a name that was made or removed without a sync of its folder may be there or not.
"""

from dataclasses import dataclass, field

SECTOR = 512


@dataclass
class _File:
    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple] = field(default_factory=list)

    def sync(self):
        self.durable = _after(self.durable, self.pending)
        self.pending = []

    def cut(self, random):
        """The bytes of the file after a cut."""
        how = random.random()
        if not self.pending or how < 0.15:
            return bytes(self.durable)
        if how < 0.3:
            return bytes(_after(self.durable, self.pending))
        if how < 0.45:
            return bytes(_after(self.durable, self.pending[: random.randrange(len(self.pending) + 1)]))
        return self._torn(random)

    def _torn(self, random):
        sizes, versions = [len(self.durable)], {}
        state = bytearray(self.durable)
        for event in self.pending:
            _change(state, event)
            sizes.append(len(state))
            if event[0] == "write":
                first, last = event[2] // SECTOR, (event[2] + len(event[3]) - 1) // SECTOR
                for sector in range(first, last + 1):
                    versions.setdefault(sector, []).append(bytes(state[sector * SECTOR : (sector + 1) * SECTOR]))
        size = random.choice(sizes)
        result = bytearray(self.durable[:size])
        beyond = size - len(result)
        result += random.randbytes(beyond) if random.random() < 0.5 else bytes(beyond)
        # All sectors alike now and then: many of them at once arrive rarely when each is drawn by itself.
        arrives = random.choice((0.05, 0.5, 0.95))
        for sector, states in versions.items():
            if random.random() < arrives:
                held = states[-1] if random.random() < 0.5 else random.choice(states)
                held = held[: max(0, size - sector * SECTOR)]
                result[sector * SECTOR : sector * SECTOR + len(held)] = held
        return bytes(result)


def _change(data, event):
    if event[0] == "truncate":
        del data[event[2] :]
        data.extend(bytes(event[2] - len(data)))
    else:
        offset, written = event[2], event[3]
        data.extend(bytes(max(0, offset - len(data))))
        data[offset : offset + len(written)] = written


def _after(data, events):
    result = bytearray(data)
    for event in events:
        _change(result, event)
    return result


class Disk:
    def __init__(self):
        self._names = {}  # as the running system sees them
        self._durable_names = {}

    def apply(self, event):
        what = event[0]
        if what == "create":
            self._names[event[1]] = _File()
        elif what == "unlink":
            self._names.pop(event[1], None)
        elif what == "names":
            self._durable_names = dict(self._names)
        elif what == "sync":
            self._names[event[1]].sync()
        elif what in ("write", "truncate"):
            self._names[event[1]].pending.append(event)

    def cut(self, random):
        """{name: bytes} that the next start finds."""
        found = {}
        for name in self._names.keys() | self._durable_names.keys():
            file = random.choice((self._names.get(name), self._durable_names.get(name)))
            if file is not None:
                found[name] = file.cut(random)
        return found

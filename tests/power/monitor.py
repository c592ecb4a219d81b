"""The monitor as the contract has it, in memory: each number of a stream counts once, batches form a chain."""

import zlib
from copy import copy
from hashlib import sha256

from edgeml.telemetry import wire


class Monitor:
    def __init__(self):
        self.chain, self.number, self.header, self.reply = None, -1, b"", None
        self.counted, self.refused, self.lost, self.seen = {}, set(), {}, set()
        self.conflicts = []

    def clone(self):
        other = copy(self)
        other.counted, other.refused = dict(self.counted), set(self.refused)
        other.lost, other.seen, other.conflicts = dict(self.lost), set(self.seen), []
        return other

    def post(self, header, body):
        """(200, results) or (409, why). The same header again gets the same answer, and nothing is counted again."""
        if header == self.header:
            return self.reply
        fields = wire.read_header(header)
        assert sha256(body).hexdigest() == fields.body_sha256
        if fields.chain != self.chain:
            if fields.number != 0 or fields.previous != wire.NO_PREVIOUS:
                return self._conflict("closed")
            if self.chain is not None and not fields.restarted:
                return self._conflict("a chain that does not say why it follows another one")
        elif fields.number != self.number + 1 or fields.previous != sha256(self.header).hexdigest():
            return self._conflict("forked")
        self.chain, self.number, self.header = fields.chain, fields.number, header
        self.reply = (200, self._take(wire.read_body(body)))
        return self.reply

    def _conflict(self, why):
        self.conflicts.append(why)
        return 409, why

    def _take(self, body):
        results = []
        for item in body.items:
            known = (item.stream, item.sequence)
            chance = zlib.crc32(f"{known}".encode()) % 100
            if known in self.counted:
                results.append(("duplicate", ""))
            elif chance < 4:
                self.refused.add(known)
                results.append(("refused", "profile mismatch"))
            elif chance < 12 and known not in self.seen:
                self.seen.add(known)
                results.append(("deferred", "profile unknown"))
            else:
                self.counted[known] = item.payload
                results.append(("accepted", ""))
        for loss in body.losses:
            for number in range(loss.first, loss.last + 1):
                self.lost[loss.stream, number] = loss.reason
        return results

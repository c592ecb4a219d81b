"""How often a device, a token or an address may ask: token buckets in bounded memory.

``Buckets.take`` answers 0 when the caller may go on, else the seconds after which it may, for Retry-After. The routes
of devices and of people and the log-in call it.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from threading import Lock

from edgeml.fleet.settings import Settings

MAX_KEYS = 50_000


class Buckets:
    """One bucket a key: ``burst`` at once, and ``rate`` a second in the long run. A rate of 0 sets no limit.

    At most ``most`` keys are known; of more, the one that was asked for longest ago is forgotten, whose bucket is the
    likeliest to be full again.
    """

    def __init__(
        self, rate: float, burst: float, *, most: int = MAX_KEYS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate, self._burst, self._most, self._clock = rate, burst, most, clock
        self._full_at: OrderedDict[str, float] = OrderedDict()  # when the key's bucket is full again
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: str, cost: float = 1.0) -> float:
        """0 and the cost is taken; or the seconds until it can be, and nothing is taken."""
        if not self._rate:
            return 0.0
        with self._lock:
            now = self._clock()
            full_at = max(self._full_at.get(key, now), now) + cost / self._rate
            wait = full_at - now - self._burst / self._rate
            if wait > 1e-9:
                return wait
            self._full_at[key] = full_at
            self._full_at.move_to_end(key)
            if len(self._full_at) > self._most:
                self._full_at.popitem(last=False)
        return 0.0

    def wait(self, key: str) -> float:
        """The seconds until ``take`` will answer 0; takes nothing."""
        if not self._rate:
            return 0.0
        with self._lock:
            now = self._clock()
            return max(max(self._full_at.get(key, now), now) + (1.0 - self._burst) / self._rate - now, 0.0)

    def give_back(self, key: str, cost: float = 1.0) -> None:
        """Undo a ``take``: what was asked for turned out to be in order."""
        with self._lock:
            if key in self._full_at:
                self._full_at[key] -= cost / self._rate


@dataclass(frozen=True, slots=True)
class Limits:
    """Every limit of a server, by what it protects."""

    batches: Buckets  # by device
    requests: Buckets  # by access token
    failures: Buckets  # by address: what came without a right signature, token or password
    enrolments: Buckets  # by address
    login_address: Buckets
    login_name: Buckets


def address_key(address: str) -> str:
    """What an address is limited by: itself, or of IPv6 its network of 64 bits, which one customer has to itself."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped or IPv6Address(int(parsed) >> 64 << 64))
    return str(parsed)


def new_limits(settings: Settings) -> Limits:
    """The limits that ``settings`` asks for, nothing taken yet."""
    return Limits(
        batches=Buckets(settings.device_rate, settings.device_burst),
        requests=Buckets(settings.token_rate, settings.token_burst),
        failures=Buckets(settings.failure_rate, settings.failure_burst),
        enrolments=Buckets(settings.enrolment_rate, settings.enrolment_burst),
        login_address=Buckets(settings.login_address_rate, settings.login_address_burst),
        login_name=Buckets(settings.login_name_rate, settings.login_name_burst),
    )

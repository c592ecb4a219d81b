"""What goes wrong in a simulated fleet, and how often."""

from __future__ import annotations

import random
from dataclasses import dataclass, fields

from edgeml.errors import SimulationError

_YEAR = 365.25 * 86400


@dataclass(frozen=True, slots=True)
class Faults:
    """Shares from 0 to 1. Of windows: ``duplicate`` batches are sent twice and their windows once more in the next
    batch, ``late`` windows come some intervals later, newest first; ``offline`` begins an absence of some intervals.
    Of devices: ``clone``, another device has its key and state; ``clock``, its wall clock is off by minutes to decades.
    """

    duplicate: float = 0.0
    late: float = 0.0
    offline: float = 0.0
    clone: float = 0.0
    clock: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Faults:
        """``0.01`` for all kinds, or ``late=0.05,clone=0.001``. Raises SimulationError."""
        names = [f.name for f in fields(cls)]
        remedy = f"give a share such as 0.01, or kinds of {', '.join(names)} such as late=0.05,clone=0.001"
        shares: dict[str, float] = {}
        for part in filter(None, text.replace(" ", "").split(",")):
            name, equals, share = part.rpartition("=")
            if equals and name not in names:
                raise SimulationError(f"the fault {name!r} is not known", remedy)
            try:
                value = float(share)
            except ValueError:
                value = -1.0
            if not 0 <= value <= 1:
                raise SimulationError(f"{share!r} is not a share from 0 to 1", remedy)
            shares.update({name: value} if equals else dict.fromkeys(names, value))
        return cls(**shares)

    def clock_error(self, rng: random.Random) -> float:
        """Seconds that a device's wall clock is ahead: 0 for most."""
        if rng.random() >= self.clock:
            return 0.0
        size = rng.choice([120.0, 3600.0, 86400.0, _YEAR, 20 * _YEAR])
        return rng.uniform(0.5, 1.0) * size * rng.choice([-1, 1])

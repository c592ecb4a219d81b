"""Latencies of a long run in little memory: counts on bins 2 % wide, from 10 us to some minutes."""

from __future__ import annotations

import math

import numpy as np

_LEAST, _STEP = 1e-5, math.log(1.02)
_BINS = 900  # 10 us * 1.02**900 = 550 s


class Latencies:
    """Adds seconds; gives quantiles within 2 %."""

    def __init__(self) -> None:
        self._counts = np.zeros(_BINS, dtype=np.int64)
        self.count = 0
        self.greatest = 0.0

    def add(self, seconds: float) -> None:
        place = int(math.log(seconds / _LEAST) / _STEP) if seconds > _LEAST else 0
        self._counts[min(place, _BINS - 1)] += 1
        self.count += 1
        self.greatest = max(self.greatest, seconds)

    def quantile(self, share: float) -> float | None:
        """The latency that ``share`` of all are below, in seconds; None without any."""
        if not self.count:
            return None
        place = int(np.searchsorted(np.cumsum(self._counts), share * self.count, side="left"))
        return min(_LEAST * math.exp((place + 1) * _STEP), self.greatest)

    def summary(self) -> dict[str, float | int | None]:
        shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
        quantiles = {name: self.quantile(share) for name, share in shares.items()}
        return {"count": self.count, **quantiles, "max": self.greatest if self.count else None}

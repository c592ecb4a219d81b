"""Fixtures of more than one file."""

from collections.abc import Iterator

import pytest
from sklearn.datasets import load_digits

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

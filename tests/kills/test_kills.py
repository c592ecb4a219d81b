"""SIGKILL at random moments of 200 rounds: nothing that was acknowledged is lost, nothing is counted twice.

The processes are the real ones, their disk too. What power does to a disk is simulated in tests/power.
"""

import pytest

import edgeml
from tests import postgres
from tests.kills.chain import Chain, check, end_with_test

ROUNDS = 200


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    import numpy as np
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    X = np.random.default_rng(0).normal(size=(500, 4))
    pipeline = make_pipeline(SimpleImputer(), LogisticRegression()).fit(X, X[:, 0] > 0)
    path = tmp_path_factory.mktemp("kills") / "model.edgeml"
    edgeml.compile(pipeline, X, output=path, formats=["native"]).close()
    return path


@pytest.fixture
def database(request, tmp_path):
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'monitor.db'}"
        return
    if postgres.binaries() is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    with postgres.Server(durable=True) as server:
        yield server.new_database()


@pytest.mark.parametrize(
    ("database", "in_process", "seed"),
    [("sqlite", False, 1), ("postgresql", True, 2)],
    ids=["sqlite, agent apart", "postgresql, agent in the process"],
    indirect=["database"],
)
def test_nothing_acknowledged_is_lost_or_counted_twice(database, in_process, seed, bundle, tmp_path):
    chain = Chain(tmp_path, bundle, database, seed, in_process)
    timer = end_with_test(chain)
    try:
        chain.set_up()
        killed = chain.kill_rounds(ROUNDS)
        chain.settle()
        figures = check(chain)
    finally:
        timer.cancel()
        chain.stop()
    print(f"{ROUNDS} rounds, killed {dict(killed)}: {figures}")
    assert sum(killed.values()) >= ROUNDS
    assert all(killed[part] >= ROUNDS / 4 for part in chain.parts)
    # The test shows nothing unless windows came through all the while.
    assert figures["windows"] > 2 * ROUNDS
    assert figures["streams"] > ROUNDS / 8
    assert figures["answers_lost"] > ROUNDS / 40

"""Several servers on one database, and a model of what they should have counted: totals agree, whatever came twice."""

import random
import threading
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeml.fleet import tables
from edgeml.fleet.retention import Retention, run_retention
from edgeml.telemetry.items import Loss
from tests.fleet_tools import T0, Fleet, fleet, outcomes, profile, window
from tests.waiting import PATIENCE

P = profile()
KNOWN = {P["sha256"]: P}


def test_two_servers_take_the_same_and_different_batches_at_once(database):
    with fleet(database) as one, fleet(database) as two:
        senders = [one.sender(f"till-{n}") for n in range(6)]
        plans = []
        rng = random.Random(1)
        for sender in senders:
            for _ in range(8):
                # A model each, so that both servers make the same models known at the same time, in any order.
                models = rng.sample(["a", "b", "c"], 3)
                made = [
                    window(
                        P,
                        10,
                        end=60.0 * rng.randrange(1, 15),
                        model={"name": m, "version": 1, "manifest_sha256": "a" * 64},
                    )
                    for m in models
                ]
                header = sender.header()
                plans.append((sender, sender.items(*made), header))
                sender.advance(header)
        answers: list[Counter] = [Counter(), Counter()]

        def deliver(db, counted, seed):
            order = random.Random(seed)
            waiting = [iter([p for p in plans if p[0] is s]) for s in senders]
            while waiting:
                lane = order.choice(waiting)
                plan = next(lane, None)
                if plan is None:
                    waiting.remove(lane)
                    continue
                sender, batch, header = plan
                while True:  # an agent: until it is taken, or the other server has gone on without us
                    reply = db.take(sender, batch, profiles=KNOWN, header=header).result(60)
                    counted[reply.body.get("why") or reply.status] += 1
                    if reply.status == 200 or reply.body.get("why") == "replayed":
                        break
                    assert reply.body.get("why") == "gap" or reply.status == 503, reply

        threads = [
            threading.Thread(target=deliver, args=(db, counted, seed))
            for seed, (db, counted) in enumerate(zip((one, two), answers, strict=True))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        models = [row["id"] for row in one.rows(tables.models)]
        assert len(models) == 3
        for level in ("minute", "hour", "day"):
            assert sum(one.total(level, model=m).windows for m in models) == 6 * 8 * 3
            assert sum(one.total(level, model=m).rows for m in models) == 6 * 8 * 3 * 10
        assert len(one.rows(tables.windows)) == 6 * 8 * 3
        assert all(row["clone_seen"] is None for row in one.rows(tables.devices))
        assert one.rows(tables.quarantine) == []


# An agent and its network: (which items, whether the reply is lost, whether the chain is begun anew), and retention.
deliveries = st.lists(
    st.tuples(st.lists(st.integers(0, 11), min_size=1, max_size=5, unique=True), st.booleans(), st.booleans())
    | st.just("retention")
    | st.tuples(st.integers(0, 11), st.integers(0, 4)),
    max_size=14,
)


@pytest.fixture(scope="module")
def everlasting(tmp_path_factory):
    """One database for all examples: each has a device, and a model, of its own."""
    made = Fleet(f"sqlite:///{tmp_path_factory.mktemp('db') / 'monitor.db'}")
    made.ingest.start()
    yield made
    made.close()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(deliveries)
def test_any_deliveries_count_every_item_once(everlasting, steps):
    db = everlasting
    sender = db.sender()
    name = {"name": sender.device.id, "version": 1, "manifest_sha256": "a" * 64}
    items = sender.items(*[window(P, 2**n, end=50.0 * n, model=name) for n in range(12)])
    counted: set[int] = set()
    lost: set[int] = set()
    for step in steps:
        if step == "retention":
            run_retention(db.store, Retention(windows=0.0), T0 + 2000)
            continue
        if isinstance(step[0], int):
            first, length = step
            lost |= set(range(first, first + length + 1))
            db.send(sender, losses=[Loss(sender.stream, first, first + length, "window", "full", 0)])
            continue
        chosen, reply_lost, anew = step
        batch, header = [items[n] for n in chosen], sender.header()
        if reply_lost:
            db.take(sender, batch, header=header, profiles=KNOWN).result(60)
            if anew:
                sender.restart()
                header = sender.header(restarted="no answer")
        reply = db.send(sender, batch, header=header, profiles=KNOWN)
        expected = ["duplicate" if n in counted else "accepted" for n in chosen]
        if reply_lost and anew:
            expected = ["duplicate"] * len(chosen)
        assert outcomes(reply) == expected
        counted |= set(chosen)
    models = [row["id"] for row in db.rows(tables.models, tables.models.c.name == sender.device.id)]
    for level in ("minute", "hour", "day"):
        assert sum(db.total(level, model=m).rows for m in models) == sum(2**n for n in counted)
    from edgeml.fleet import queries

    with db.store.read() as connection:
        found = queries.device(connection, db.project, sender.device.id)
        page = queries.streams(connection, db.project, sender.device.id)
    assert (found["windows"], found["rows"]) == (len(counted), sum(2**n for n in counted))
    if counted or lost:
        (stream,) = page.items
        known = counted | lost
        missing = set(range(max(known) + 1)) - known
        assert {n for a, b in stream["gaps"] for n in range(a, b + 1)} == missing
        assert (stream["received"], stream["lost"]) == (len(counted), len(lost - counted))

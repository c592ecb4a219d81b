"""What people are shown of a project: complete, in parts that join, and never of another project."""

import pytest

from edgeml.errors import MonitorSettingsError
from edgeml.fleet import queries, tables
from edgeml.fleet.retention import Retention, run_retention
from edgeml.telemetry.items import Loss
from tests.fleet_tools import T0, Fleet, fleet, profile, window

P = profile()
KNOWN = {P["sha256"]: P}
OURS, THEIRS = "1" * 32, "2" * 32


@pytest.fixture
def db(database):
    with fleet(database) as made:
        yield made


def fill(db, name="till-7"):
    """A device with a bit of everything; its refused item is number 2."""
    sender = db.sender(name)
    db.send(sender, sender.items(window(P, 10), window(P, 20, end=900.0), {"bad": 1}), profiles=KNOWN)
    db.send(sender, losses=[Loss(sender.stream, 7, 8, "window", "disk full", 4)])
    return sender


def ask(db, name, *args, project=OURS, **more):
    with db.store.read() as connection:
        return getattr(queries, name)(connection, project, *args, **more)


def in_parts(db, name, *args, **more):
    """A list, two entries at a time."""
    found, after = [], None
    while True:
        page = ask(db, name, *args, limit=2, after=after, **more)
        assert len(page.items) <= 2
        found += page.items
        after = page.next
        if after is None:
            return found
        assert len(after) <= 300
        assert after.isprintable()


def test_lists_come_in_parts_that_join(db):
    names = ["b", "a", "b", "Zürich", "x" * 100, "ä~\U0001f4e6" * 25, "till"]
    senders = [fill(db, name) for name in names]
    assert [d["name"] for d in in_parts(db, "devices")] == sorted(names)
    assert len(in_parts(db, "losses")) == len(in_parts(db, "quarantine")) == 7
    events = in_parts(db, "events")
    assert [e["id"] for e in events] == sorted((e["id"] for e in events), reverse=True)
    assert len(events) == 8  # the model, and an item refused each
    one = senders[0]
    for _ in range(3):
        one.stream, one.sequence = one.stream[1:] + "0", 0
        db.send(one, one.items(window(P)))
    assert [s["stream"] for s in in_parts(db, "streams", one.device.id)] == [
        s["stream"] for s in ask(db, "streams", one.device.id).items
    ]
    assert len(in_parts(db, "windows", one.device.id)) == 5
    for kind in ("losses", "quarantine"):
        assert len(in_parts(db, kind, device_id=one.device.id)) == 1
    assert [e["kind"] for e in in_parts(db, "events", device_id=one.device.id)] == ["items_refused", "model_seen"]
    assert len(in_parts(db, "events", kind="items_refused", since=T0)) == 7
    assert in_parts(db, "events", since=T0 + 5000) == []


def test_devices_are_found_by_name_id_state_and_label(db):
    from edgeml.fleet.enrol import set_device_state

    senders = {name: fill(db, name) for name in ("Till-7", "till_8", "door%")}
    with db.store.write() as connection:
        set_device_state(connection, OURS, senders["door%"].device.id, "revoked", T0)
        labels = {'a"b\\': "x=y", "town": "Bern"}
        connection.execute(tables.devices.update().where(tables.devices.c.name == "till_8").values(labels=labels))

    def names(**by):
        return {device["name"] for device in ask(db, "devices", **by).items}

    assert names(search="tILL") == {"Till-7", "till_8"}
    assert names(search="_") == {"till_8"}
    assert names(search="%") == {"door%"}
    assert names(search=senders["Till-7"].device.id[:12].upper()) == {"Till-7"}
    assert names(state="revoked") == {"door%"}
    assert names(label="town=Bern") == {"Till-7", "till_8", "door%"}
    assert names(label='a"b\\=x=y') == {"till_8"}
    assert names(label="town=Bonn") == set()


def test_a_device_and_its_totals_before_and_after_retention(db):
    sender = fill(db)
    before = ask(db, "device", sender.device.id)
    assert {k: before[k] for k in ("windows", "rows", "lost", "refused", "chains")} == {
        "windows": 2, "rows": 30, "lost": 2, "refused": 1, "chains": 1
    }  # fmt: skip
    assert before["chain"]["number"] == 1
    assert before["models"] == [{"id": 1, "name": "churn", "version": 1}]
    assert "public_key" not in before
    run_retention(db.store, Retention(windows=0.0), T0 + 2000)
    assert ask(db, "device", sender.device.id) == before


def test_series_name_and_sum_every_slot(db):
    first, second = fill(db), fill(db, "till-8")
    model = ask(db, "model", 1)
    assert [f["name"] for f in model["features"]] == ["f0", "f1", "f2"]
    assert model["reference_rows"] == 500
    assert not model["trusted_reference"]  # a device sent it
    (day,) = ask(db, "series", 1, "day", 0.0, 1e11)
    assert (day["windows"], day["rows"], day["seconds"]) == (4, 60, 86400)
    for field in ("features", "scores"):
        for record, counts in zip(model[field], day[field], strict=True):
            assert len(record["slots"]) == len(record["reference"]) == len(counts)
            assert sum(counts) == 60
    assert day["features"][1][1] == 60
    assert day["system"]["cpu"] == {"count": 4, "mean": 0.5, "min": 0.5, "max": 0.5}
    minutes = ask(db, "series", 1, "minute", 0.0, 1e11)
    assert [m["rows"] for m in minutes] == [20, 40]
    assert ask(db, "series", 1, "minute", minutes[1]["start"], 1e11) == minutes[1:]
    assert ask(db, "series", 1, "minute", 0.0, minutes[1]["start"]) == minutes[:1]
    assert ask(db, "series", 1, "minute", 0.0, 1e11, limit=1) == minutes[:1]
    (mine,) = ask(db, "device_series", first.device.id, 1, 0.0, 1e11)
    (other,) = ask(db, "device_series", second.device.id, 1, 0.0, 1e11)
    assert mine["rows"] + other["rows"] == 60
    assert mine["features"] == [[n // 2 for n in counts] for counts in day["features"]]


def test_a_refused_item_can_be_looked_at(db):
    sender = fill(db)
    found = ask(db, "quarantined", sender.device.id, sender.stream, 2)
    assert found["payload"] == {"bad": 1}
    assert found["reason"] == ask(db, "quarantine").items[0]["reason"]
    assert "payload" not in ask(db, "quarantine").items[0]
    assert ask(db, "quarantined", sender.device.id, sender.stream, 0) is None


def test_a_summary_and_the_totals(db):
    fill(db)
    fill(db, "till-8")
    found = ask(db, "summary", now=T0 + 1000 + 3000)
    assert found == {
        "devices": 2, "active": 2, "revoked": 0, "clone_seen": 0, "seen_5_minutes": 0, "seen_hour": 2, "seen_day": 2,
        "models": 1, "windows": 4, "rows": 60, "lost_items": 4, "lost_rows": 8, "quarantine": 2,
    }  # fmt: skip
    with db.store.read() as connection:
        assert queries.totals(connection) == [{"project": OURS, "models": 1, "windows": 4, "rows": 60}]
    (model,) = ask(db, "models").items
    assert (model["windows"], model["rows"]) == (4, 60)


def test_nothing_of_another_project_is_found(database):
    with fleet(database) as ours:
        theirs = Fleet(database, project=THEIRS)
        theirs.ingest.start()
        try:
            sender, foreign = fill(ours), fill(theirs)
        finally:
            theirs.close()
        (model,) = [row for row in ours.rows(tables.models) if row["project_id"] == THEIRS]
        device, stream = foreign.device.id, foreign.stream
        for kind, args in {
            "device": (device,), "model": (model["id"],), "series": (model["id"], "day", 0.0, 1e11),
            "device_series": (device, model["id"], 0.0, 1e11), "quarantined": (device, stream, 2),
        }.items():  # fmt: skip
            assert ask(ours, kind, *args, project=THEIRS) is not None, kind
            assert ask(ours, kind, *args) is None, kind
        assert ask(ours, "device_series", sender.device.id, model["id"], 0.0, 1e11) is None
        for kind, args, more in (
            ("streams", (device,), {}), ("windows", (device,), {}), ("losses", (), {"device_id": device}),
            ("events", (), {"device_id": device}), ("quarantine", (), {"device_id": device}),
        ):  # fmt: skip
            assert ask(ours, kind, *args, project=THEIRS, **more).items, kind
            assert ask(ours, kind, *args, **more).items == [], kind
        assert [d["id"] for d in ask(ours, "devices").items] == [sender.device.id]
        assert len(ask(ours, "models").items) == 1
        assert len(ask(ours, "losses").items) == len(ask(ours, "quarantine").items) == 1
        assert ask(ours, "summary", now=T0)["devices"] == 1
        assert ask(ours, "loss_totals")[0]["items"] == 2
        with pytest.raises(MonitorSettingsError):
            ask(ours, "devices", after=device)


@pytest.mark.parametrize(
    "after", ["", "x", "1~2~3~4~5~6", "nan~a~1", "9" * 40, f"1.0~{'a' * 32}~{2**63}", "~~~~", "a\0b"]
)
@pytest.mark.parametrize("kind", ["devices", "losses", "events", "quarantine", "models", "audit", "streams", "windows"])
def test_a_cursor_of_nowhere_is_refused(tmp_path, kind, after):
    with fleet(f"sqlite:///{tmp_path / 'monitor.db'}", start=False) as db:
        args = (db.sender().device.id,) if kind in ("streams", "windows") else ()
        with pytest.raises(MonitorSettingsError, match="after"):
            ask(db, kind, *args, after=after)


def test_the_audit_log_is_of_a_project_or_of_all(db):
    row = {"actor": "root", "action": "x", "target": "y", "detail": {"a": 1}, "address": ""}
    with db.store.write() as connection:
        for at, project in enumerate((OURS, None, OURS, None, OURS)):
            connection.execute(tables.audit.insert(), row | {"at": float(at), "project_id": project})
    assert [entry["at"] for entry in in_parts(db, "audit")] == [4.0, 2.0, 0.0]
    assert ask(db, "audit", project=None).items[0]["detail"] == {"a": 1}
    assert len(ask(db, "audit", project=None).items) == 5

"""Enrolment and the registry of models, below HTTP: tokens are used once, keys belong to one project, bundles win."""

import threading

import pytest
from sqlalchemy import update

from edgeml.errors import MonitorError
from edgeml.fleet import registry, tables
from edgeml.fleet.enrol import create_enrolment_token, enrol_device, find_device, set_device_state
from tests.fleet_tools import T0, fleet, outcomes, profile, window
from tests.monitor_tools import secret_of
from tests.waiting import PATIENCE

P, OTHER = profile(), profile(seed=1)
OURS, THEIRS = "1" * 32, "2" * 32


@pytest.fixture
def db(database):
    with fleet(database) as made:
        yield made


def token(db, project=OURS, **more):
    with db.store.write() as connection:
        given = {"name": "shop", "max_uses": 1, "expires": T0 + 100, "now": T0} | more
        return create_enrolment_token(connection, project, **given)


def enrol(db, text, key=b"k" * 32, now=T0):
    return enrol_device(db.store, text, key, name="till-7", labels={"town": "Bern"}, now=now)


def test_a_one_time_token_makes_one_device_and_a_lost_reply_costs_nothing(db):
    text = token(db)
    first = enrol(db, text)
    assert (first.status, first.project) == (201, OURS)
    # Also after it was used up and has expired.
    assert enrol(db, text, now=T0 + 500) == type(first)(200, first.device, OURS)
    other = enrol(db, text, b"x" * 32)
    assert (other.status, other.code) == (401, "used_token")
    assert db.rows(tables.enrolment_tokens)[0]["uses"] == 1
    found = find_device(db.store, first.device)
    assert (found.id, found.public_key, found.state) == (first.device, b"k" * 32, "active")
    assert find_device(db.store, "0" * 32) is None
    assert [kind for kind, _ in db.events()] == ["enrolled"]
    # What is kept of the token does not tell it.
    assert secret_of(text) not in str(db.rows(tables.enrolment_tokens))


def test_a_fleet_token_makes_any_number(db):
    text = token(db, max_uses=None, expires=None)
    assert len({enrol(db, text, bytes([n]) * 32).device for n in range(5)}) == 5


@pytest.mark.parametrize(
    "text", ["", "em_", "nonsense", "em_" + "0" * 32 + "_" + "a" * 43, "em_\0", "\ud800", "em_" + "0" * 5000]
)
def test_a_token_nobody_gave_is_refused(db, text):
    token(db)
    assert (enrol(db, text).status, enrol(db, text).code) == (401, "bad_token")


def test_a_token_with_another_secret_is_refused(db):
    text = token(db)
    assert enrol(db, text[:-1] + ("a" if text[-1] != "a" else "b")).code == "bad_token"


def test_expired_and_revoked_tokens_and_devices_are_refused(db):
    text = token(db)
    assert (enrol(db, text, now=T0 + 100).status, enrol(db, text, now=T0 + 100).code) == (401, "expired_token")
    device = enrol(db, text).device
    with db.store.write() as connection:
        assert set_device_state(connection, OURS, device, "revoked", T0)
        assert not set_device_state(connection, THEIRS, device, "active", T0)
    assert (enrol(db, text).status, enrol(db, text).code) == (403, "device_revoked")
    assert find_device(db.store, device).state == "revoked"
    with db.store.write() as connection:
        set_device_state(connection, OURS, device, "active", T0)
        connection.execute(update(tables.enrolment_tokens).values(revoked=T0))
    assert enrol(db, text).code == "revoked_token"
    assert [kind for kind, _ in db.events()] == ["enrolled", "device_revoked", "device_restored"]


def test_a_key_belongs_to_one_project(db):
    with db.store.write() as connection:
        connection.execute(tables.projects.insert(), {"id": THEIRS, "name": "theirs", "created": T0})
    first = enrol(db, token(db))
    assert enrol(db, token(db, THEIRS)).code == "key_in_use"
    # Another token of the same project finds the device, and is not used up.
    again = token(db)
    assert enrol(db, again).device == first.device
    assert enrol(db, again, b"n" * 32).status == 201


def test_many_at_once_use_a_token_as_often_as_it_may_be(db):
    text = token(db, max_uses=3)
    found = []
    keys = [bytes([n // 2]) * 32 for n in range(12)]  # each twice
    threads = [threading.Thread(target=lambda key=key: found.append((key, enrol(db, text, key)))) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    made = {key: answer.device for key, answer in found if answer.status == 201}
    assert len(made) == len(db.rows(tables.devices)) == 3
    assert {answer.device for key, answer in found if answer.status == 200} <= set(made.values())
    assert {answer.code for key, answer in found if answer.status == 401} == {"used_token"}
    assert db.rows(tables.enrolment_tokens)[0]["uses"] == 3


# --- models ---------------------------------------------------------------------------------------------------------
def add(db, body, manifest="a" * 64, version=1):
    with db.store.write() as connection:
        return registry.add_model(
            connection, OURS, name="churn", version=version, manifest_sha256=manifest, profile=body, by="anna", now=T0
        )


def test_a_registered_model_needs_no_profile_of_a_device(db):
    row = add(db, P)
    assert add(db, P) == row  # again changes nothing
    sender = db.sender()
    assert outcomes(db.send(sender, sender.items(window(P), window()))) == ["accepted", "refused"]
    assert db.total(model=row.id).windows == 1
    assert db.events()[0][0] == "profile_mismatch"


def test_another_bundle_under_a_registered_name_is_refused(db):
    add(db, P)
    for body, manifest in ((P, "b" * 64), (OTHER, "a" * 64), (None, "a" * 64)):
        with pytest.raises(MonitorError, match="another bundle"):
            add(db, body, manifest)
    add(db, OTHER, "b" * 64, version=2)


def test_a_person_vouches_for_what_a_device_made_known(db):
    sender = db.sender()
    forged = P | {"n_ref": 1, "features": [r | {"counts": [7] * len(r["counts"])} for r in P["features"]]}
    db.send(sender, sender.items(window(P)), profiles={P["sha256"]: forged})
    row = add(db, P, "b" * 64)
    assert (row.id, row.registered_by, row.manifest_sha256) == (1, "anna", "b" * 64)
    with db.store.read() as connection:
        from edgeml.fleet import queries

        model = queries.model(connection, OURS, row.id)
    # The bins are covered by the hash; reference counts are the bundle's, not the device's.
    assert model["trusted_reference"]
    assert model["features"][0]["reference"] == P["features"][0]["counts"]
    db.send(sender, sender.items(window(P)))
    assert db.total().windows == 2


def test_a_model_with_forged_bins_gives_way_and_its_server_notices(db):
    sender = db.sender()
    db.send(sender, sender.items(window(OTHER)), profiles={OTHER["sha256"]: OTHER})
    row = add(db, P)
    assert row.id != 1
    reply = db.send(sender, sender.items(window(P), window(OTHER)))
    assert outcomes(reply) == ["accepted", "refused"]
    assert {(r["name"], r["registered_by"]) for r in db.rows(tables.models)} == {
        ("churn", "anna"), ("churn (displaced 1)", f"device {sender.device.id}")
    }  # fmt: skip
    assert db.total(model=1).windows == db.total(model=row.id).windows == 1


def test_a_malformed_profile_is_refused(db):
    with pytest.raises(MonitorError, match="hash"):
        add(db, P | {"features": P["features"][:1]})
    assert db.rows(tables.models) == []


def test_a_bundle_is_registered_as_devices_name_it(db, work):
    from edgeml.bundle import open_bundle

    with open_bundle(work / "model.edgeml") as bundle, db.store.write() as connection:
        row = registry.add_bundle(connection, OURS, bundle, by="anna", now=T0)
        assert row.profile_sha256 == bundle.json("profile.json")["sha256"]
        from hashlib import sha256

        assert row.manifest_sha256 == sha256(bundle.member("manifest.json")).hexdigest()

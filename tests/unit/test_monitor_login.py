"""Log in, sessions and their ends, guessing passwords, and what the audit log keeps of all that."""

import dataclasses
import time
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch

import pytest
from sqlalchemy import select, update

from edgeml.fleet import auth, tables
from tests.monitor_tools import PASSWORD, QUIET, cheap_hashes, people, served
from tests.waiting import PATIENCE

GENEROUS = dataclasses.replace(QUIET, login_address_rate=0, login_name_rate=0, failure_rate=0)


@pytest.fixture
def server(tmp_path):
    with cheap_hashes(), served(f"sqlite:///{tmp_path / 'm.db'}", GENEROUS) as made:
        yield made, people(made.store)


def log_in(made, name, password=PASSWORD):
    return made.http.post("/v1/login", json={"name": name, "password": password})


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def audit_of(made):
    with made.store.read() as connection:
        return [dict(row) for row in connection.execute(select(tables.audit).order_by(tables.audit.c.id)).mappings()]


def test_a_session_from_log_in_to_log_out(server):
    made, who = server
    answer = log_in(made, "viewer")
    assert answer.status_code == 200
    assert answer.json()["expires"] == pytest.approx(time.time() + GENEROUS.session_seconds, abs=60)
    headers = bearer(answer.json()["token"])
    me = made.http.get("/v1/me", headers=headers).json()
    assert (me["kind"], me["name"], me["root"]) == ("user", "viewer", False)
    assert me["roles"] == [{"project": who.project, "role": "viewer"}]
    assert made.http.post("/v1/logout", headers=headers).status_code == 204
    assert made.http.get("/v1/me", headers=headers).status_code == 401
    assert made.http.get("/v1/me", headers=who.headers("viewer")).status_code == 200  # another session goes on
    assert [(line["action"], line["target"], line["actor"]) for line in audit_of(made)] == [
        ("login", "viewer", "anyone"), ("logout", "viewer", "user:viewer"),
    ]  # fmt: skip
    assert audit_of(made)[0]["address"] == "127.0.0.1"


def test_wrong_name_password_and_disabled_user_are_told_alike(server):
    made, _ = server
    with made.store.write() as connection:
        connection.execute(update(tables.users).where(tables.users.c.name == "nobody").values(disabled=True))
    answers = [
        log_in(made, "viewer", "wrong password 1"),
        log_in(made, "nonexistent", PASSWORD),
        log_in(made, "nobody", PASSWORD),
        log_in(made, "a\x00b", PASSWORD),
    ]
    assert {(answer.status_code, answer.text) for answer in answers} == {(401, answers[0].text)}
    lines = audit_of(made)
    assert [line["action"] for line in lines] == ["login refused"] * 4
    # A password in the field of the name must not stand in the log.
    assert [line["target"] for line in lines] == ["viewer", "unknown name", "nobody", "unknown name"]


def test_unknown_name_costs_the_same_work(server):
    made, _ = server
    with patch.object(auth, "_scrypt", wraps=auth._scrypt) as hashed:
        log_in(made, "viewer", "wrong password 1")
        log_in(made, "nonexistent", "wrong password 1")
    assert [call.args[2:] for call in hashed.call_args_list] == [(2, 8, 3)] * 2


def test_a_session_expires(server):
    made, who = server
    with made.store.write() as connection:
        tokens = tables.access_tokens
        ended = update(tokens).where(tokens.c.id == who.tokens["viewer"].split("_")[1])
        connection.execute(ended.values(expires=time.time() - 1))
    assert made.http.get("/v1/me", headers=who.headers("viewer")).status_code == 401


def test_a_session_ends_with_its_user_whoever_disabled_it(server):
    made, who = server
    with made.store.write() as connection:
        connection.execute(update(tables.users).where(tables.users.c.name == "viewer").values(disabled=True))
    assert made.http.get("/v1/me", headers=who.headers("viewer")).status_code == 401
    assert made.http.get("/v1/me", headers=who.headers("viewer token")).status_code == 200


def test_sessions_that_have_expired_do_not_pile_up(server):
    made, _ = server
    tokens = tables.access_tokens
    for _ in range(3):
        log_in(made, "viewer")
    with made.store.write() as connection:
        connection.execute(update(tokens).where(tokens.c.name == "session").values(expires=time.time() - 1))
    log_in(made, "viewer")
    with made.store.read() as connection:
        users = select(tables.users.c.id).where(tables.users.c.name == "viewer").scalar_subquery()
        assert len(connection.execute(select(tokens.c.id).where(tokens.c.user_id == users)).all()) == 1


def test_own_password(server):
    made, who = server
    new = "another horse entirely"
    change = {"old": "not the old one", "new": new}
    assert made.http.post("/v1/me/password", json=change, headers=who.headers("viewer")).status_code == 403
    change = {"old": PASSWORD, "new": "short"}
    assert made.http.post("/v1/me/password", json=change, headers=who.headers("viewer")).status_code == 422
    other = log_in(made, "viewer").json()["token"]
    change = {"old": PASSWORD, "new": new}
    assert made.http.post("/v1/me/password", json=change, headers=who.headers("viewer")).status_code == 204
    assert made.http.get("/v1/me", headers=who.headers("viewer")).status_code == 200  # the session that asked
    assert made.http.get("/v1/me", headers=bearer(other)).status_code == 401
    assert log_in(made, "viewer").status_code == 401
    assert log_in(made, "viewer", new).status_code == 200
    assert "password change refused" in [line["action"] for line in audit_of(made)]


def test_root_changes_users_and_the_last_one_stays(server):
    made, who = server
    root = who.headers("root")

    def change(name, **form):
        return made.http.patch(f"/v1/users/{name}", json=form, headers=root)

    created = made.http.post("/v1/users", json={"name": "ada", "password": PASSWORD}, headers=root)
    assert created.status_code == 201
    assert set(created.json()) == {"id", "name", "root", "disabled", "created"}
    assert made.http.post("/v1/users", json={"name": "ada", "password": PASSWORD}, headers=root).status_code == 409
    session = bearer(log_in(made, "ada").json()["token"])
    assert made.http.get("/v1/me", headers=session).status_code == 200
    assert change("ada", disabled=True).json()["disabled"] is True
    assert made.http.get("/v1/me", headers=session).status_code == 401
    assert change("ada", disabled=False, password="another horse entirely").status_code == 200
    assert log_in(made, "ada", "another horse entirely").status_code == 200
    for refused in (
        change("root", root=False),
        change("root", disabled=True),
        made.http.delete("/v1/users/root", headers=root),
    ):
        assert (refused.status_code, refused.json()["error"]) == (409, "last_root")
    assert change("ada", root=True).json()["root"] is True
    assert change("root", root=False).status_code == 200
    assert made.http.get("/v1/users", headers=root).status_code == 403  # no root user any more, at once
    assert PASSWORD not in str(audit_of(made))


def test_deleted_user_is_gone_and_the_audit_log_stays(server):
    made, who = server
    assert made.http.delete("/v1/users/viewer", headers=who.headers("root")).status_code == 204
    assert made.http.get("/v1/me", headers=who.headers("viewer")).status_code == 401
    assert made.http.delete("/v1/users/viewer", headers=who.headers("root")).status_code == 404
    assert ("user delete", "viewer") in [(line["action"], line["target"]) for line in audit_of(made)]


def test_guesses_are_limited_by_address_and_right_ones_are_not(tmp_path):
    settings = dataclasses.replace(QUIET, login_address_rate=0.001, login_address_burst=3, login_name_rate=0)
    with cheap_hashes(), served(f"sqlite:///{tmp_path / 'm.db'}", settings) as made:
        people(made.store)
        assert [log_in(made, "viewer").status_code for _ in range(6)] == [200] * 6
        assert [log_in(made, "viewer", "wrong").status_code for _ in range(4)] == [401, 401, 401, 429]
        refused = log_in(made, "viewer")
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) > 100


def test_guesses_at_one_name_are_limited_from_wherever_they_come(tmp_path):
    settings = dataclasses.replace(
        QUIET, login_address_rate=0, login_name_rate=0.001, login_name_burst=3, trusted_proxies=("127.0.0.1",)
    )
    with cheap_hashes(), served(f"sqlite:///{tmp_path / 'm.db'}", settings) as made:
        people(made.store)
        answers = [
            made.http.post(
                "/v1/login",
                json={"name": name, "password": "wrong"},
                headers={"X-Forwarded-For": f"10.0.0.{at}"},
            )
            for at, name in enumerate(["viewer", "VIEWER", "viewer", "viewer", "admin"])
        ]
        assert [answer.status_code for answer in answers] == [401, 401, 401, 429, 401]
        assert {line["address"] for line in audit_of(made)} == {"10.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.0.4"}


def test_a_flood_of_log_ins_is_refused_before_it_takes_the_memory(tmp_path):
    from threading import Event, Semaphore

    go, running = Event(), Semaphore(0)

    def slow(*_):
        running.release()
        go.wait(PATIENCE)
        return False

    with (
        patch("edgeml.fleet.routes_people.password_matches", slow),
        served(f"sqlite:///{tmp_path / 'm.db'}", GENEROUS) as made,
        ThreadPoolExecutor(60) as pool,
    ):
        answers = [pool.submit(log_in, made, "x") for _ in range(60)]
        assert running.acquire(timeout=PATIENCE)
        assert running.acquire(timeout=PATIENCE)
        assert made.http.get("/healthz").status_code == 200  # others are served meanwhile
        assert not running.acquire(blocking=False)  # never more than two at once
        go.set()
        statuses = [answer.result().status_code for answer in answers]
    assert statuses.count(503) >= 60 - 22 - 1
    assert set(statuses) == {401, 503}

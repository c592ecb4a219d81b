"""Projects, members and tokens over HTTP: made, listed in parts, changed, ended, and each change in the audit log."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from edgeml.fleet import accounts
from tests.monitor_tools import FakeDevice, people, secret_of, served


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with served(f"sqlite:///{tmp_path_factory.mktemp('projects') / 'm.db'}") as made:
        yield made, people(made.store)


def test_projects_are_made_renamed_and_listed(server):
    made, who = server
    root = who.headers("root")
    created = made.http.post("/v1/projects", json={"name": "new project"}, headers=root)
    assert created.status_code == 201
    project = created.json()["id"]
    assert made.http.get(f"/v1/projects/{project}", headers=root).json() == created.json()
    again = made.http.post("/v1/projects", json={"name": "new project"}, headers=root)
    assert (again.status_code, again.json()["error"]) == (409, "exists")
    renamed = made.http.patch(f"/v1/projects/{project}", json={"name": "renamed"}, headers=root)
    assert renamed.json() == created.json() | {"name": "renamed"}
    taken = made.http.patch(f"/v1/projects/{project}", json={"name": "shops"}, headers=root)
    assert taken.status_code == 409
    for name in ("", " x", "a" * 101, "a\n", "0" * 32, "é"):
        assert made.http.post("/v1/projects", json={"name": name}, headers=root).status_code == 422, name
    names = [row["name"] for row in made.http.get("/v1/projects", headers=root).json()["items"]]
    assert names == ["other", "renamed", "shops"]
    mine = made.http.get("/v1/projects", headers=who.headers("viewer token")).json()
    assert ([row["name"] for row in mine["items"]], mine["next"]) == (["shops"], None)
    assert made.http.get("/v1/projects", headers=who.headers("nobody")).json()["items"] == []


def test_lists_come_in_parts(server):
    made, who = server
    headers = who.headers("admin")
    names = {f"part-{at}" for at in range(5)}
    for name in names:
        form = {"name": name, "max_uses": 3}
        url = f"/v1/projects/{who.project}/enrolment-tokens"
        assert made.http.post(url, json=form, headers=headers).status_code == 201
    found, after, parts = [], None, 0
    while True:
        query = {"limit": 2} | ({"after": after} if after else {})
        part = made.http.get(f"/v1/projects/{who.project}/enrolment-tokens", params=query, headers=headers).json()
        found += [row["name"] for row in part["items"]]
        after, parts = part["next"], parts + 1
        if after is None:
            break
    assert sorted(found) == sorted(names)
    assert parts == 3
    for query in (
        {"limit": 0},
        {"limit": 1001},
        {"limit": "x"},
        {"afer": "x"},
        {"after": "a\x00"},
        {"after": "a" * 301},
    ):
        refused = made.http.get(f"/v1/projects/{who.project}/enrolment-tokens", params=query, headers=headers)
        assert (refused.status_code, refused.json()["error"]) == (422, "invalid"), query


def test_members(server):
    made, who = server
    admin = who.headers("admin")
    url = f"/v1/projects/{who.project}/members"
    assert made.http.put(f"{url}/nobody", json={"role": "operator"}, headers=admin).json() == {
        "name": "nobody", "role": "operator", "disabled": False
    }  # fmt: skip
    assert made.http.get(f"/v1/projects/{who.project}", headers=who.headers("nobody")).status_code == 200
    assert made.http.put(f"{url}/nobody", json={"role": "viewer"}, headers=admin).json()["role"] == "viewer"
    shown = {row["name"]: row["role"] for row in made.http.get(url, headers=admin).json()["items"]}
    assert shown == {"viewer": "viewer", "operator": "operator", "admin": "admin", "nobody": "viewer"}
    assert made.http.put(f"{url}/nobody", json={"role": "root"}, headers=admin).status_code == 422
    assert made.http.put(f"{url}/ghost", json={"role": "viewer"}, headers=admin).status_code == 404
    assert made.http.delete(f"{url}/nobody", headers=admin).status_code == 204
    assert made.http.delete(f"{url}/nobody", headers=admin).status_code == 404
    assert made.http.get(f"/v1/projects/{who.project}", headers=who.headers("nobody")).status_code == 404


def test_requests_that_clash_are_refused_and_not_failed(database):
    with served(database) as made, ThreadPoolExecutor(8) as pool:
        who = people(made.store)
        admin, root = who.headers("admin"), who.headers("root")
        url = f"/v1/projects/{who.project}/members/nobody"
        roles = ["viewer", "operator", "admin"] * 8
        puts = list(pool.map(lambda role: made.http.put(url, json={"role": role}, headers=admin).status_code, roles))
        assert set(puts) == {200}
        names = ["same name"] * 24
        made_of = list(pool.map(lambda name: made.http.post("/v1/projects", json={"name": name}, headers=root), names))
        assert sorted(answer.status_code for answer in made_of) == [201] + [409] * 23
        # The user goes while roles are given to it.
        calls = [("PUT", url)] * 8 + [("DELETE", "/v1/users/nobody")] + [("PUT", url)] * 8

        def call(what):
            form = {"role": "viewer"} if what[0] == "PUT" else None
            return made.http.request(*what, json=form, headers=root).status_code

        assert set(pool.map(call, calls)) <= {200, 204, 404, 409}


def test_two_root_users_cannot_end_each_other_at_once(database):
    with served(database) as made, ThreadPoolExecutor(8) as pool:
        who = people(made.store)
        root = who.headers("root")
        assert made.http.patch("/v1/users/admin", json={"root": True}, headers=root).status_code == 200
        calls = [("root", "admin"), ("admin", "root")] * 4
        answers = pool.map(
            lambda call: made.http.patch(f"/v1/users/{call[0]}", json={"root": False}, headers=who.headers(call[1])),
            calls,
        )
        assert {answer.status_code for answer in answers} <= {200, 403, 409}
        with made.store.read() as connection:
            assert sum(user["root"] for user in accounts.list_users(connection)) == 1


def test_tokens_are_shown_once_and_end_at_once(server):
    made, who = server
    admin, url = who.headers("admin"), f"/v1/projects/{who.project}/tokens"
    form = {"name": "dashboard", "role": "operator", "expires": time.time() + 1000}
    created = made.http.post(url, json=form, headers=admin)
    assert created.status_code == 201
    token = created.json()["token"]
    mine = {"Authorization": f"Bearer {token}"}
    me = made.http.get("/v1/me", headers=mine).json()
    assert (me["kind"], me["roles"]) == ("token", [{"project": who.project, "role": "operator"}])
    listed = made.http.get(url, headers=admin)
    assert secret_of(token) not in listed.text
    assert {row["name"] for row in listed.json()["items"]} >= {"dashboard", "viewer-program"}
    assert "session" not in listed.text
    name = created.json()["id"]
    # Not by another project's admin, nor as a token for /metrics.
    assert (
        made.http.delete(f"/v1/projects/{who.other}/tokens/{name}", headers=who.headers("foreign")).status_code == 404
    )
    assert made.http.delete(f"/v1/metrics-tokens/{name}", headers=who.headers("root")).status_code == 404
    assert made.http.get("/v1/me", headers=mine).status_code == 200
    assert made.http.delete(f"{url}/{name}", headers=admin).status_code == 204
    assert made.http.get("/v1/me", headers=mine).status_code == 401
    assert made.http.delete(f"{url}/{name}", headers=admin).status_code == 404
    past = made.http.post(url, json=form | {"expires": time.time() - 1}, headers=admin)
    assert past.status_code == 422


def test_a_session_cannot_be_revoked_as_a_token(server):
    made, who = server
    session = who.tokens["viewer"].split("_")[1]
    for url in (f"/v1/projects/{who.project}/tokens/{session}", f"/v1/metrics-tokens/{session}"):
        assert made.http.delete(url, headers=who.headers("root")).status_code == 404
    assert made.http.get("/v1/me", headers=who.headers("viewer")).status_code == 200


def test_metrics_tokens(server):
    made, who = server
    root = who.headers("root")
    created = made.http.post("/v1/metrics-tokens", json={"name": "prom"}, headers=root)
    assert created.status_code == 201
    mine = {"Authorization": f"Bearer {created.json()['token']}"}
    assert made.http.get("/metrics", headers=mine).status_code == 200
    assert made.http.get("/v1/projects", headers=mine).status_code == 403
    listed = made.http.get("/v1/metrics-tokens", headers=root).json()["items"]
    assert {row["name"] for row in listed} == {"prom", "prometheus"}  # no person's session
    assert made.http.delete(f"/v1/metrics-tokens/{created.json()['id']}", headers=root).status_code == 204
    assert made.http.get("/metrics", headers=mine).status_code == 401


def test_enrolment_tokens_end_at_once_and_devices_stay(server):
    made, who = server
    operator, url = who.headers("operator"), f"/v1/projects/{who.project}/enrolment-tokens"
    created = made.http.post(url, json={"name": "rollout", "max_uses": None}, headers=operator).json()
    first, second = FakeDevice(made.http), FakeDevice(made.http)
    assert first.enrol(created["token"]).status_code == 201
    name = created["token"].split("_")[1]
    assert made.http.delete(f"{url}/{name}", headers=operator).status_code == 204
    assert second.enrol(created["token"]).status_code == 401
    assert first.send([]).status_code == 200


def test_every_change_stands_in_the_audit_log_of_its_project(server):
    made, who = server
    lines = made.http.get(f"/v1/projects/{who.project}/audit", headers=who.headers("admin")).json()["items"]
    assert {"member set", "member remove", "token create", "token revoke", "enrolment token create"} <= {
        line["action"] for line in lines
    }
    assert {line["project"] for line in lines} == {who.project}
    assert lines == sorted(lines, key=lambda line: -line["id"])
    assert "user:admin" in {line["actor"] for line in lines}
    whole = made.http.get("/v1/audit", params={"limit": 1000}, headers=who.headers("root")).json()["items"]
    assert {line["action"] for line in whole} >= {"project create", "project rename"}
    assert "em_" not in str(whole)


def test_a_change_that_fails_is_not_in_the_audit_log(server):
    made, who = server
    before = made.http.get("/v1/audit", headers=who.headers("root")).json()["items"]
    made.http.put(f"/v1/projects/{who.project}/members/ghost", json={"role": "viewer"}, headers=who.headers("admin"))
    made.http.post("/v1/projects", json={"name": "shops"}, headers=who.headers("root"))
    assert made.http.get("/v1/audit", headers=who.headers("root")).json()["items"] == before

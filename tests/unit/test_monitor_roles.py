"""Every route as every kind of caller, in its own project and a foreign one: allowed or refused as the table says."""

import pytest

from edgeml.fleet import roles
from edgeml.fleet.app import all_routes, check_table
from tests.monitor_tools import QUIET, people, served

KINDS = (
    "anonymous", "nobody", "foreign", "foreign token", "viewer", "viewer token", "operator", "operator token",
    "admin", "admin token", "root", "metrics",
)  # fmt: skip
ID = "0" * 32
# What does not exist anyway: what counts is whether the request gets that far.
FILLED = {"{device}": ID, "{model}": "999", "{token}": ID, "{stream}": ID, "{sequence}": "0", "{name}": "ghost"}
# Sessions would end, or begin, and the next case of the table would need a new one.
ENDS_SESSIONS = {("POST", "/v1/logout")}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    path = tmp_path_factory.mktemp("roles") / "monitor.db"
    with served(
        f"sqlite:///{path}", QUIET.__class__(port=0, retention_seconds=0, token_rate=0, failure_rate=0)
    ) as made:
        yield made, people(made.store)


def expected(least, kind, *, in_project, own):
    """Allowed (None), or the status of the refusal, derived from the words of the table and not from the code."""
    if least in (roles.ANYONE, roles.DEVICE):
        return None
    if kind == "anonymous":
        return 401
    role = kind.removesuffix(" token")
    if in_project and role != "root" and (role not in roles.ROLES or not own):
        # Those of the other project meet it as their own when the path names it.
        if role == "foreign" and not own:
            role = "admin"
        else:
            return 404
    if least == roles.METRICS:
        return None if role in ("root", "metrics") else 403
    if least == roles.SIGNED_IN:
        return 403 if role == "metrics" else None
    if least == roles.USER:
        return 403 if role == "metrics" or kind.endswith(" token") else None
    if role == "root":
        return None
    if least == roles.ROOT:
        return 403
    return None if roles.ROLES.index(role) >= roles.ROLES.index(least) else 403


CASES = [
    (rule, kind, own)
    for rule in roles.RULES
    for kind in KINDS
    for own in ((True, False) if "{project}" in rule.path else (True,))
]


@pytest.mark.parametrize(
    ("rule", "kind", "own"), CASES, ids=lambda value: str(value) if not isinstance(value, tuple) else " ".join(value)
)
def test_route_is_allowed_or_refused_as_the_table_says(server, rule, kind, own):
    made, who = server
    if (rule.method, rule.path) in ENDS_SESSIONS and expected(rule.least, kind, in_project=False, own=own) is None:
        pytest.skip("it would end the session of the cases that follow; test_monitor_login logs out")
    path = rule.path.replace("{project}", who.project if own else who.other)
    for part, value in FILLED.items():
        path = path.replace(part, value)
    answer = made.http.request(rule.method, path, headers=who.headers(kind))
    refusal = expected(rule.least, kind, in_project="{project}" in rule.path, own=own)
    if refusal is not None:
        assert answer.status_code == refusal, answer.text
        assert answer.json()["error"] == {401: "unauthorized", 403: "forbidden", 404: "not_found"}[refusal]
        if refusal == 404:
            assert answer.json()["cause"] == "there is no such project"
        if refusal == 401:
            assert answer.headers["www-authenticate"] == "Bearer"
    else:
        # Past the guard: done, or refused for the empty body or for what it names.
        assert answer.status_code in (200, 201, 204, 404, 415, 422), answer.text
        assert answer.status_code != 404 or answer.json()["cause"] != "there is no such project"


def test_a_foreign_project_and_none_are_not_told_apart(server):
    made, who = server
    answers = [
        made.http.get(f"/v1/projects/{project}{more}", headers=who.headers("viewer"))
        for project in (who.other, ID, "f" * 32, "nonsense")
        for more in ("", "/devices", "/members", "/audit")
    ]
    assert {(a.status_code, a.text) for a in answers} == {(404, answers[0].text)}


def test_table_and_routes_are_the_same(server):
    made, _ = server
    found = all_routes(made.server.config.app)
    assert found == {(rule.method, rule.path) for rule in roles.RULES}
    with pytest.raises(KeyError, match="/v1/new"):
        check_table(found | {("GET", "/v1/new")})
    with pytest.raises(KeyError, match="healthz"):
        check_table(found - {("GET", "/healthz")})


def test_a_route_that_is_not_in_the_table_cannot_be_made():
    from edgeml.fleet.routes_common import checked_router

    with pytest.raises(KeyError):

        @checked_router().get("/v1/secret")
        def secret() -> None: ...


def test_description_has_every_route_and_says_what_is_open(server):
    made, _ = server
    description = made.http.get("/openapi.json").json()
    for rule in roles.RULES:
        if rule.path == "/openapi.json":
            continue
        operation = description["paths"][rule.path][rule.method.lower()]
        open_to_all = rule.least in (roles.ANYONE, roles.DEVICE)
        assert bool(operation.get("security")) != open_to_all, rule
        assert operation["operationId"]


def test_a_revoked_or_expired_token_opens_nothing(server):
    import time

    from edgeml.fleet import accounts

    made, who = server
    with made.store.write() as connection:
        now = time.time()
        revoked = accounts.create_token(connection, who.project, name="r", role="admin", expires=None, now=now)
        accounts.revoke_token(connection, who.project, revoked["id"], now)
        expired = accounts.create_token(connection, who.project, name="e", role="admin", expires=now + 5, now=now - 10)
        valid = accounts.create_token(connection, who.project, name="v", role="admin", expires=now + 500, now=now)
    with made.store.write() as connection:
        from sqlalchemy import update

        from edgeml.fleet.tables import access_tokens

        connection.execute(update(access_tokens).where(access_tokens.c.id == expired["id"]).values(expires=now - 1))
    for token, status in ((revoked, 401), (expired, 401), (valid, 200)):
        headers = {"Authorization": f"Bearer {token['token']}"}
        assert made.http.get("/v1/projects", headers=headers).status_code == status
    for text in (
        "",
        "Bearer",
        "Bearer x",
        f"Basic {valid['token']}",
        f"Bearer {valid['token']}x",
        f"Bearer {valid['token'][:-1]}-",
    ):
        assert made.http.get("/v1/projects", headers={"Authorization": text}).status_code == 401

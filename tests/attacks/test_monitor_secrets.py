"""No secret stands in a log, an answer, or the database: not when all goes well, not when everything fails."""

import dataclasses
import logging
from unittest.mock import patch

import pytest

from edgeml.fleet.serve import RedactingFilter
from tests.monitor_tools import (
    PASSWORD,
    QUIET,
    FakeDevice,
    cheap_hashes,
    enrolment_token,
    people,
    secret_of,
    served,
    window,
)

LIMITLESS = dataclasses.replace(QUIET, login_address_rate=0, login_name_rate=0, failure_rate=0)
WRONG = "hunter2-hunter2-hunter2"
NEW = "a brand new secret phrase"


@pytest.fixture
def everything(tmp_path, caplog):
    """A server with every log at DEBUG, every route with a secret used well and badly; yields log, answers, secrets."""
    caplog.set_level(logging.DEBUG)
    answers = []
    with cheap_hashes(), served(f"sqlite:///{tmp_path / 'm.db'}", LIMITLESS) as made:
        who = people(made.store)
        made.http.event_hooks["response"] = [lambda answer: answers.append((answer, answer.read()))]
        root = who.headers("root")

        def ask(method, path, **more):
            return made.http.request(method, path, **more)

        session = ask("POST", "/v1/login", json={"name": "viewer", "password": PASSWORD}).json()["token"]
        ask("POST", "/v1/login", json={"name": "viewer", "password": WRONG})
        ask("POST", "/v1/login", json={"name": WRONG, "password": WRONG})
        ask("POST", "/v1/login", json={"name": "viewer", "password": WRONG, "extra": WRONG})
        ask("POST", "/v1/login", json={"name": "viewer", "password": [WRONG]})
        ask("POST", "/v1/login", content=f'{{"password": "{WRONG}"', headers={"Content-Type": "application/json"})
        ask("POST", f"/v1/login?password={WRONG}&token={session}")
        ask("GET", f"/v1/users/{session}", headers=root)
        ask("GET", f"/{session}", headers=root)
        ask("POST", "/v1/users", json={"name": "ada", "password": NEW}, headers=root)
        ask("POST", "/v1/users", json={"name": "ada", "password": NEW}, headers=root)
        ask("PATCH", "/v1/users/ada", json={"password": NEW, "root": WRONG}, headers=root)
        ask("POST", "/v1/me/password", json={"old": WRONG, "new": NEW}, headers=who.headers("viewer"))
        ask("GET", "/v1/me", headers={"Authorization": f"Bearer {session}x"})
        ask("GET", "/v1/me", headers={"Authorization": f"Basic {WRONG}"})
        shown = [session]
        for path, form in (
            (f"/v1/projects/{who.project}/tokens", {"name": "a", "role": "viewer"}),
            (f"/v1/projects/{who.project}/enrolment-tokens", {"name": "a"}),
            ("/v1/metrics-tokens", {"name": "a"}),
        ):
            shown.append(ask("POST", path, json=form, headers=root).json()["token"])
        device = FakeDevice(made.http)
        token = enrolment_token(made.store, who.project)
        device.enrol(token)
        device.enrol(token[:-1] + "x")
        device.enrol(token, name=[token])
        device.send(device.items(window()))
        device.send(device.items(window()), number=7)
        # What no route foresees, with a secret in the message of the exception.
        with patch("edgeml.fleet.accounts.list_users", side_effect=RuntimeError(f"{WRONG} {session} {PASSWORD}")):
            assert ask("GET", "/v1/users", headers=root).status_code == 500
        with patch("edgeml.fleet.routes_batches._read", side_effect=RuntimeError(f"{WRONG} {session}")):
            assert device.send(device.items(window())).status_code == 500
        secrets = [PASSWORD, WRONG, NEW, token, *shown, *who.tokens.values()]
        with made.store.engine.connect() as connection:
            dump = "\n".join(connection.connection.driver_connection.iterdump())
        yield caplog.text, answers, secrets, shown, dump


def halves(secrets):
    """Tokens by their secret half: the id is public."""
    return [secret_of(secret) if secret.startswith("em_") else secret for secret in secrets]


def test_logs_hold_no_secret(everything):
    log, _, secrets, _, _ = everything
    assert "edgeml.monitor.access" in log
    assert '"POST /v1/login" 401' in log
    assert "RuntimeError" in log  # the failure itself is told
    for secret in halves(secrets):
        # httpx, the client of this test, logs the address it asks.
        lines = [line for line in log.splitlines() if secret in line and "httpx" not in line and "httpcore" not in line]
        assert not lines, lines[0]


def test_answers_hold_no_secret_but_the_one_that_was_asked_for(everything):
    _, answers, secrets, shown, _ = everything
    assert {answer.status_code for answer, _ in answers} >= {200, 201, 401, 403, 404, 409, 422, 500}
    for answer, body in answers:
        for secret in halves(secrets):
            told = answer.is_success and secret in halves(shown)
            assert secret not in body.decode() + str(answer.headers) or told, (answer.request.url, body)


def test_refusals_show_nothing_of_the_server(everything):
    _, answers, _, _, _ = everything
    for answer, body in answers:
        if answer.status_code < 400:
            continue
        assert answer.headers["content-type"] == "application/json"
        assert set(answer.json()) >= {"error", "cause", "remedy"}
        for word in ("Traceback", ".py", "sqlite", "SELECT", "RuntimeError"):
            assert word not in body.decode(), answer.request.url


def test_database_holds_hashes_only(everything):
    _, _, secrets, _, dump = everything
    assert "scrypt$" in dump
    for secret in halves(secrets):
        assert secret not in dump


def test_filter_of_the_log_cuts_tokens_out_of_whatever_is_written():
    token = "em_" + "0" * 32 + "_" + "a" * 43
    record = logging.LogRecord("x", logging.INFO, "x", 1, "asked %s of %d", (f"/?t={token}", 3), None)
    assert RedactingFilter().filter(record)
    assert record.getMessage() == "asked /?t=em_[cut out] of 3"

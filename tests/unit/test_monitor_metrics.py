"""/metrics as Prometheus reads it, and what orchestration asks: alive, ready, and why not."""

import dataclasses
from unittest.mock import patch

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edgeml.errors import MonitorDatabaseError
from edgeml.telemetry import wire
from edgeml.telemetry.items import Loss
from tests.monitor_tools import QUIET, FakeDevice, enrolment_token, people, served, window


@pytest.fixture
def server(database):
    with served(database) as made:
        yield made, people(made.store)


def scrape(made, who):
    answer = made.http.get("/metrics", headers=who.headers("metrics"))
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    return {
        (sample.name.removeprefix("edgeml_monitor_"), *sample.labels.values()): sample.value
        for family in families.values()
        for sample in family.samples
    }


def test_figures_say_what_happened(server):
    made, who = server
    device = FakeDevice(made.http)
    device.enrol(enrolment_token(made.store, who.project))
    _, headers, body = device.request(
        device.items(window(), window(rows=7), {"poison": 1}), [Loss(device.stream, 3, 5, "window", "disk full", 9)]
    )
    for _ in range(2):
        made.http.post(wire.PATH, headers=headers, content=body)
    device.send([], number=5)
    made.http.get("/nope")
    made.http.get(f"/v1/projects/{'0' * 32}", headers=who.headers("viewer"))
    found = scrape(made, who)
    assert found["items_total", "accepted"] == 2
    assert found["items_total", "refused"] == 1
    assert found["rows_total",] == 17
    assert found["batches_total", "200"] == 2
    assert found["batches_again_total",] == 1
    assert found["batches_total", "409"] == 1
    assert found["requests_total", "POST", wire.PATH, "200"] == 2
    assert found["requests_total", "GET", "other", "404"] == 1
    assert found["requests_total", "GET", "/v1/projects/{project}", "404"] == 1
    assert found["request_seconds_count", wire.PATH] == 3
    assert found["devices", "active"] == 1
    assert found["devices", "revoked"] == 0
    assert found["lost_items", "disk full"] == 3
    assert found["lost_rows", "disk full"] == 9
    assert found["quarantined_items",] == 1
    assert found["database_up",] == 1
    assert found["database_bytes",] > 0
    assert found["connections",] >= 1
    assert found["ingest_queue",] == 0


def test_clients_make_no_series(server):
    made, who = server

    def odd(at):
        made.http.request(f"ODD{at}", f"/odd/{at}")
        made.http.request("PROPFIND", f"/odd/{at}")
        made.http.get(f"/v1/projects/{at}/devices", headers=who.headers("viewer"))
        made.http.post("/v1/enrol", json={"name": f"n{at}"})

    odd(0)
    scrape(made, who)
    before = scrape(made, who)
    for at in range(1, 30):
        odd(at)
    assert set(scrape(made, who)) == set(before)
    assert before["requests_total", "other", "other", "404"] == 1
    assert before["refused_connections_total", "malformed"] == 1


def test_reasons_of_devices_are_a_bounded_number_of_series(server):
    made, who = server
    device = FakeDevice(made.http)
    device.enrol(enrolment_token(made.store, who.project))
    losses = [Loss(device.stream, at, at, "window", f'reason "{at}"\\ ü', 1) for at in range(100)]
    assert device.send([], losses).status_code == 200
    found = {key[1]: value for key, value in scrape(made, who).items() if key[0] == "lost_items"}
    assert len(found) == 21
    assert (found["other"], sum(found.values())) == (80, 100)


def test_metrics_are_open_only_when_asked(tmp_path):
    with served(f"sqlite:///{tmp_path / 'a.db'}") as made:
        assert made.http.get("/metrics").status_code == 401
    with served(f"sqlite:///{tmp_path / 'a.db'}", dataclasses.replace(QUIET, open_metrics=True)) as made:
        assert made.http.get("/metrics").status_code == 200


def test_a_database_that_is_away_is_told_and_breaks_nothing_else(server):
    made, who = server
    away = MonitorDatabaseError("the database sqlite:////secret/path failed: disk I/O error", "look at it")
    assert made.http.get("/readyz").json() == {"status": "ready"}
    with patch.object(made.store, "read", side_effect=away), patch.object(made.store, "check", side_effect=away):
        assert made.http.get("/healthz").json() == {"status": "alive"}
        answers = [made.http.get("/readyz"), made.http.get("/v1/me", headers=who.headers("viewer"))]
        answers.append(made.http.post("/v1/login", json={"name": "a", "password": "b"}))
        device = FakeDevice(made.http)
        device.device = "0" * 32
        answers.append(device.send([]))
        assert b"edgeml_monitor_database_up 0.0" in made.monitor.metrics.text()
    for answer in answers:
        assert answer.status_code == 503, answer.request.url
        assert answer.headers["retry-after"]
        assert answer.json()["error"] in ("database", "not_ready")
        assert "secret" not in answer.text
    assert made.http.get("/readyz").status_code == 200


def test_not_ready_when_the_writer_does_not_run(server):
    made, _ = server
    made.monitor.ingest.stop()
    answer = made.http.get("/readyz")
    assert (answer.status_code, answer.json()["error"]) == (503, "not_ready")
    assert made.http.get("/healthz").status_code == 200


def test_not_ready_on_a_schema_of_another_version(server):
    from sqlalchemy import text

    made, _ = server
    with made.store.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'other'"))
    answer = made.http.get("/readyz")
    assert (answer.status_code, answer.json()["error"]) == (503, "not_ready")

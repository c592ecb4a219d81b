"""A project's devices, models, series and records over HTTP, on SQLite and PostgreSQL, from what devices sent."""

import time
from hashlib import sha256

import pytest

from edgeml.jsonutil import dumps
from edgeml.telemetry.items import Loss
from tests.fleet_tools import profile
from tests.monitor_tools import FakeDevice, enrolment_token, people, served, window


@pytest.fixture
def fleet(database):
    """A server, its people, and two devices of the project that have sent what the tests ask for."""
    with served(database) as made:
        who = people(made.store)
        token = enrolment_token(made.store, who.project)
        devices = [FakeDevice(made.http), FakeDevice(made.http)]
        for at, device in enumerate(devices):
            assert device.enrol(token, name=f"till-{at}", labels={"town": ["Bern", "Chur"][at]}).status_code == 201
        bins = profile()
        for device in devices:
            items = device.items(window(bins), window(bins, rows=5), {"poison": True})
            device.sequence += 3  # of these, two will be reported as lost, and one never
            items += device.items(window(bins, rows=1))
            losses = [Loss(device.stream, 3, 4, "window", "disk full", 20)]
            answer = device.send(items, losses, {bins["sha256"]: dumps(bins)})
            assert [result for result, _ in answer.json()["results"]] == ["accepted", "accepted", "refused", "accepted"]
        yield made, who, devices


@pytest.fixture
def get(fleet):
    made, who, _ = fleet

    def get(path, status=200, as_="viewer", **query):
        answer = made.http.get(f"/v1/projects/{who.project}{path}", params=query, headers=who.headers(as_))
        assert answer.status_code == status, answer.text
        return answer.json()

    return get


def test_devices(fleet, get):
    made, who, (first, second) = fleet
    everyone = get("/devices")
    assert [row["name"] for row in everyone["items"]] == ["till-0", "till-1"]
    assert everyone["next"] is None
    assert everyone["items"][0]["labels"] == {"town": "Bern"}
    assert everyone["items"][0]["last_seen"] == pytest.approx(time.time(), abs=60)
    for query, names in (
        ({"search": "TILL-1"}, ["till-1"]),
        ({"search": first.device[:8]}, ["till-0"]),
        ({"search": "100%_"}, []),
        ({"label": "town=Chur"}, ["till-1"]),
        ({"label": "town=Ch"}, []),
        ({"label": 'it\'s="x"'}, []),
        ({"state": "revoked"}, []),
        ({"limit": 1}, ["till-0"]),
        ({"limit": 1, "after": get("/devices", limit=1)["next"]}, ["till-1"]),
    ):
        assert [row["name"] for row in get("/devices", **query)["items"]] == names, query
    for query in ({"label": "town"}, {"state": "x"}, {"search": "a\x00"}, {"after": "nonsense"}, {"after": "~" * 300}):
        assert get("/devices", 422, **query)["error"] == "invalid", query
    one = get(f"/devices/{first.device}")
    assert (one["windows"], one["rows"], one["lost"], one["refused"], one["chains"]) == (3, 16, 2, 1, 1)
    assert one["chain"]["number"] == 0
    assert [model["name"] for model in one["models"]] == ["churn"]
    changed = made.http.patch(
        f"/v1/projects/{who.project}/devices/{second.device}",
        json={"name": "till ü", "labels": {"a": "b"}},
        headers=who.headers("operator"),
    ).json()
    assert (changed["name"], changed["labels"]) == ("till ü", {"a": "b"})
    assert get("/devices", label="a=b")["items"][0]["id"] == second.device


def test_streams_with_their_gaps(fleet, get):
    _, _, (first, _) = fleet
    (stream,) = get(f"/devices/{first.device}/streams")["items"]
    assert stream["stream"] == first.stream
    assert {key: stream[key] for key in ("first", "last", "received", "lost", "refused", "missing", "gaps")} == {
        "first": 0, "last": 6, "received": 3, "lost": 2, "refused": 1, "missing": 1, "gaps": [[5, 5]],
    }  # fmt: skip


def test_windows_one_by_one(fleet, get):
    _, _, (first, _) = fleet
    part = get(f"/devices/{first.device}/windows", limit=2)
    rest = get(f"/devices/{first.device}/windows", limit=2, after=part["next"])
    assert [row["rows"] for row in part["items"] + rest["items"]] == [1, 5, 10]
    assert rest["next"] is None
    assert rest["items"][0]["window"]["model"]["name"] == "churn"


def test_models_and_their_series(fleet, get):
    _, _, (first, _) = fleet
    bins = profile()
    (row,) = get("/models")["items"]
    assert (row["name"], row["version"], row["windows"], row["rows"]) == ("churn", 1, 6, 32)
    model = get(f"/models/{row['id']}")
    assert model["trusted_reference"] is False
    assert [feature["name"] for feature in model["features"]] == ["f0", "f1", "f2"]
    assert [feature["reference"] for feature in model["features"]] == [r["counts"] for r in bins["features"]]
    for level, seconds in (("minute", 60), ("hour", 3600), ("day", 86400)):
        points = get(f"/models/{row['id']}/series", level=level)["items"]
        assert sum(point["rows"] for point in points) == 32
        assert all(point["seconds"] == seconds for point in points)
        for at, feature in enumerate(model["features"]):
            assert all(len(point["features"][at]) == len(feature["slots"]) for point in points)
        assert sum(point["features"][1][1] for point in points) == 32
        assert get(f"/models/{row['id']}/series", level=level, end=1.0)["items"] == []
    days = get(f"/devices/{first.device}/models/{row['id']}/series")["items"]
    assert sum(day["rows"] for day in days) == 16
    assert get("/models/999/series", 404)["error"] == "not_found"
    assert get(f"/models/{row['id']}/series", 422, level="week")["error"] == "invalid"
    assert get(f"/models/{row['id']}/series", 422, start="nan")["error"] == "invalid"
    for path in ("/models/0", "/models/x", f"/models/{2**70}"):
        assert get(path, 422)["error"] == "invalid"


def test_records(fleet, get):
    _, _, (first, second) = fleet
    everyone = get("/losses")["items"]
    assert {row["device"] for row in everyone} == {first.device, second.device}
    (loss,) = get("/losses", device=first.device)["items"]
    assert (loss["first"], loss["last"], loss["reason"], loss["rows"]) == (3, 4, "disk full", 20)
    assert get("/losses/totals")["items"] == [{"kind": "window", "reason": "disk full", "items": 4, "rows": 40}]
    assert get("/losses/totals", device=first.device)["items"][0]["items"] == 2
    (refused,) = get("/quarantine", device=first.device)["items"]
    assert refused["sequence"] == 2
    path = f"/devices/{first.device}/quarantine/{first.stream}/2"
    assert get(path, as_="operator")["payload"] == {"poison": True}
    assert get(path, 403, as_="viewer")["error"] == "forbidden"
    kinds = [event["kind"] for event in get("/events", device=first.device)["items"]]
    assert "enrolled" in kinds
    assert get("/events", kind="enrolled", since=time.time() + 100)["items"] == []
    assert {event["kind"] for event in get("/events", kind="enrolled")["items"]} == {"enrolled"}
    told = get("/summary")
    assert {key: told[key] for key in ("devices", "active", "seen_5_minutes", "windows", "rows", "lost_items")} == {
        "devices": 2, "active": 2, "seen_5_minutes": 2, "windows": 6, "rows": 32, "lost_items": 4,
    }  # fmt: skip


def test_what_is_of_another_project_is_not_there(fleet, get):
    made, who, (first, _) = fleet
    model = get("/models")["items"][0]["id"]
    theirs = f"/v1/projects/{who.other}"
    admin, nothing = who.headers("foreign"), {"items": [], "next": None}
    for path in ("/devices", "/models", "/losses", "/events", "/quarantine"):
        assert made.http.get(theirs + path, headers=admin).json() == nothing
    for path in (
        f"/losses?device={first.device}",
        f"/events?device={first.device}",
        f"/quarantine?device={first.device}",
    ):
        assert made.http.get(theirs + path, headers=admin).json() == nothing
    one = f"{theirs}/devices/{first.device}"
    for method, path, form in (
        ("GET", one, None),
        ("PATCH", one, {"name": "mine"}),
        ("POST", f"{one}/revoke", None),
        ("POST", f"{one}/reinstate", None),
        ("GET", f"{one}/streams", None),
        ("GET", f"{one}/windows", None),
        ("GET", f"{one}/models/{model}/series", None),
        ("GET", f"{one}/quarantine/{first.stream}/2", None),
        ("GET", f"{theirs}/models/{model}", None),
        ("GET", f"{theirs}/models/{model}/series", None),
    ):
        answer = made.http.request(method, path, json=form, headers=admin)
        assert (answer.status_code, answer.json()["error"]) == (404, "not_found"), path
    assert get(f"/devices/{first.device}")["name"] == "till-0"
    assert made.http.get(f"{theirs}/summary", headers=admin).json()["devices"] == 0
    assert made.http.get(f"{theirs}/losses/totals", headers=admin).json() == {"items": []}


def test_models_are_registered(fleet, get):
    made, who, _ = fleet
    bins, operator = profile(), who.headers("operator")

    def add(**form):
        return made.http.post(f"/v1/projects/{who.project}/models", json=form, headers=operator)

    manifest = {"name": "churn", "version": 1, "profile_sha256": bins["sha256"], "more": [1, {"a": None}]}
    added = add(manifest=manifest, profile=bins)
    assert added.status_code == 201
    assert added.json()["manifest_sha256"] == sha256(dumps(manifest)).hexdigest()
    assert added.json()["registered_by"] == "user:operator"
    assert add(manifest=manifest, profile=bins).json() == added.json()
    assert get(f"/models/{added.json()['id']}")["trusted_reference"] is True
    other = profile(features=2)
    assert add(manifest=manifest, profile=other).status_code == 422
    assert add(manifest=manifest).status_code == 422
    clash = add(manifest=manifest | {"profile_sha256": other["sha256"]}, profile=other)
    assert (clash.status_code, clash.json()["error"]) == (409, "exists")
    named = {"name": "by hand", "version": 3, "manifest_sha256": "b" * 64}
    assert add(**named, profile=other).status_code == 201
    assert add(**named | {"version": 4}).json()["profile_sha256"] is None
    for wrong in (
        named | {"name": ""},
        named | {"version": -1},
        named | {"version": 2**60},
        named | {"manifest_sha256": "x"},
        named | {"profile": {"sha256": other["sha256"]}},
        named | {"profile": other | {"sha256": "c" * 64}},
        named | {"profile": {}},
        named | {"extra": 1},
        {},
    ):
        assert add(**wrong).status_code == 422, wrong

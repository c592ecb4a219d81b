"""The device's end of the API: enrolment and batches, and every way they are refused."""

import dataclasses
import gzip
import time
from hashlib import sha256
from unittest.mock import patch

import pytest

from edgeml.fleet.enrol import REVOKED, find_device, set_device_state
from edgeml.telemetry import wire
from edgeml.telemetry.items import Loss
from tests.monitor_tools import QUIET, FakeDevice, enrolment_token, people, served, window

LENIENT = dataclasses.replace(QUIET, failure_rate=0, device_rate=0)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with served(f"sqlite:///{tmp_path_factory.mktemp('batches') / 'm.db'}", LENIENT) as made:
        yield made, people(made.store)


@pytest.fixture
def device(server):
    made, who = server
    new = FakeDevice(made.http)
    assert new.enrol(enrolment_token(made.store, who.project)).status_code == 201
    return new


def refusal(answer):
    assert {"error", "cause", "remedy"} <= set(answer.json())
    return answer.status_code, answer.json()["error"]


# --- enrolment
def test_enrolment_is_the_same_when_it_comes_again(server):
    made, who = server
    token = enrolment_token(made.store, who.project, max_uses=1)
    device = FakeDevice(made.http)
    first, again = device.enrol(token), device.enrol(token)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["device"] == again.json()["device"]
    assert first.json()["project"] == who.project
    assert first.json()["server_time"] == pytest.approx(time.time(), abs=60)
    assert refusal(FakeDevice(made.http).enrol(token)) == (401, "used_token")


def test_enrolment_needs_the_private_key(server):
    made, who = server
    token, other = enrolment_token(made.store, who.project), enrolment_token(made.store, who.project)
    device, thief = FakeDevice(made.http), FakeDevice(made.http)
    for signature in (
        wire.encode(thief.key.sign(wire.enrolment_bytes(token))),
        wire.encode(device.key.sign(wire.enrolment_bytes(other))),
        wire.encode(bytes(64)),
    ):
        assert refusal(device.enrol(token, signature=signature)) == (401, "bad_signature")
    assert device.enrol(token).status_code == 201


@pytest.mark.parametrize(
    "more",
    [
        {"name": ""}, {"name": "a" * 101}, {"name": "a\x00b"}, {"labels": {"a": "b\n"}}, {"labels": {"": "b"}},
        {"labels": {str(at): "b" for at in range(33)}}, {"labels": None}, {"public_key": "short"}, {"extra": 1},
        {"public_key": "!" * 43}, {"token": ""}, {"token": "a" * 201},
    ],
)  # fmt: skip
def test_malformed_enrolment_is_refused_whole(server, more):
    made, who = server
    token = enrolment_token(made.store, who.project, max_uses=1)
    device = FakeDevice(made.http)
    assert device.enrol(token, **more).status_code == 422
    assert device.enrol(token).status_code == 201  # the token was not used up


# --- batches
def test_batch_is_taken_and_the_same_again_is_answered_as_before(server, device):
    items = device.items(window(), window(), {"poison": 1})
    header, headers, body = device.request(items, [Loss(device.stream, 7, 9, "window", "disk full", 30)])
    first = device.http.post(wire.PATH, headers=headers, content=body)
    assert first.status_code == 200, first.text
    assert [result for result, _ in first.json()["results"]] == ["accepted", "accepted", "refused"]
    assert set(first.json()) == {"results", "need_profiles", "server_time", "pause"}
    again = device.http.post(wire.PATH, headers=device.signed(header), content=body)
    assert again.json()["results"] == first.json()["results"]


def test_what_is_wrong_about_the_headers(server, device):
    header, headers, body = device.request(device.items(window()))
    stranger = FakeDevice(device.http)
    stranger.device = "f" * 32
    _, strange, strange_body = stranger.request(stranger.items(window()))
    forged = headers | {wire.SIGNATURE: stranger.signed(header)[wire.SIGNATURE]}
    late = headers | {wire.SENT: "boot 61.000 1.000"}
    for changed, content, expected in [
        (headers | {"Content-Type": "application/json"}, body, (415, "unsupported_type")),
        (headers | {"Content-Encoding": "identity"}, body, (415, "unsupported_type")),
        (headers | {wire.HEADER: "!"}, body, (400, "malformed")),
        (headers | {wire.HEADER: wire.encode(b"{}")}, body, (400, "malformed")),
        (headers | {wire.HEADER: wire.encode(header + b" ")}, body, (400, "malformed")),
        (headers | {wire.SENT: "x"}, body, (400, "malformed")),
        (headers | {wire.SENT: "b inf inf"}, body, (400, "malformed")),
        (headers | {wire.SIGNATURE: "a"}, body, (400, "malformed")),
        (headers | {wire.SIGNATURE: ""}, body, (401, "bad_signature")),
        (forged, body, (401, "bad_signature")),
        (late, body, (401, "bad_signature")),
        (strange, strange_body, (401, "unknown_device")),
    ]:
        assert refusal(device.http.post(wire.PATH, headers=changed, content=content)) == expected, changed
    for name in (wire.HEADER, wire.SENT, wire.SIGNATURE):
        left = {key: value for key, value in headers.items() if key != name}
        assert device.http.post(wire.PATH, headers=left, content=body).status_code in (400, 401)
    assert device.http.post(wire.PATH, headers=headers, content=body).status_code == 200  # it was good all along


def test_what_is_wrong_about_the_body(server, device):
    _, headers, body = device.request(device.items(window()))
    assert refusal(device.http.post(wire.PATH, headers=headers, content=b"nonsense")) == (422, "malformed")
    assert refusal(device.http.post(wire.PATH, headers=headers, content=body[:-4])) == (422, "malformed")
    assert refusal(device.http.post(wire.PATH, headers=headers, content=body + b"x")) == (422, "malformed")
    assert refusal(device.http.post(wire.PATH, headers=headers, content=gzip.compress(b"{}"))) == (422, "malformed")
    _, other, another = device.request([])
    assert refusal(device.http.post(wire.PATH, headers=headers, content=another)) == (422, "malformed")
    assert refusal(device.http.post(wire.PATH, headers=other, content=body)) == (422, "malformed")
    for content in (b"{}", b"[" * 100_000, b'{"items":[],"items":[]}', b'{"items":[NaN],"losses":[],"profiles":{}}'):
        _, headers, _ = device.request([], body_sha256=sha256(content).hexdigest())
        refused = device.http.post(wire.PATH, headers=headers, content=gzip.compress(content))
        assert refusal(refused) == (422, "malformed"), content[:40]
    assert device.send(device.items(window())).status_code == 200


def test_revoked_device_is_refused_at_once_whoever_revoked_it(server, device):
    made, who = server
    assert device.send(device.items(window())).status_code == 200
    url = f"/v1/projects/{who.project}/devices/{device.device}"
    assert made.http.post(f"{url}/revoke", headers=who.headers("operator")).json()["state"] == "revoked"
    assert refusal(device.send(device.items(window()))) == (403, "device_revoked")
    assert made.http.post(f"{url}/reinstate", headers=who.headers("admin")).json()["state"] == "active"
    assert device.send(device.items(window())).status_code == 200
    # By the command line, say: in the database, behind the server's back, while its key is in memory.
    with made.store.write() as connection:
        set_device_state(connection, who.project, device.device, REVOKED, time.time())
    assert made.monitor.devices.get(device.device) is not None
    for _ in range(2):  # by ingest's own look, and then by that of the cache
        assert refusal(device.send(device.items(window()))) == (403, "device_revoked")
    with made.store.write() as connection:
        set_device_state(connection, who.project, device.device, "active", time.time())
    assert device.send(device.items(window())).status_code == 200


def test_clone_is_refused_and_counted(server, device):
    made, who = server
    assert device.send(device.items(window())).status_code == 200
    assert device.send(device.items(window())).status_code == 200
    refused = device.send(device.items(window()), number=1)
    assert refusal(refused) == (409, "chain_conflict")
    assert refused.json()["why"] == "forked"
    metrics = made.http.get("/metrics", headers=who.headers("metrics")).text
    assert "edgeml_monitor_clone_events_total 0.0" not in metrics


def test_keys_are_in_memory_after_enrolment_and_after_a_restart(tmp_path):
    asked = patch("edgeml.fleet.monitor.find_device", wraps=find_device)
    url = f"sqlite:///{tmp_path / 'm.db'}"
    with served(url, LENIENT) as made, asked as looked_up:
        who = people(made.store)
        device = FakeDevice(made.http)
        device.enrol(enrolment_token(made.store, who.project))
        assert device.send(device.items(window())).status_code == 200
        assert looked_up.call_count == 0
        made.monitor.devices.forget(device.device)
        assert [device.send(device.items(window())).status_code for _ in range(3)] == [200] * 3
        assert looked_up.call_count == 1
    with served(url, LENIENT) as made, asked as looked_up:
        device.http = made.http
        assert device.send(device.items(window())).status_code == 200
        assert looked_up.call_count == 0
        # Nor later, which after a restart would be for all devices at once.
        with patch("time.monotonic", return_value=time.monotonic() + 30 * 86400):
            assert made.monitor.devices.get(device.device) is not None


def test_device_rate_is_limited_for_its_own_batches_only(tmp_path):
    settings = dataclasses.replace(QUIET, device_rate=0.01, device_burst=2)
    with served(f"sqlite:///{tmp_path / 'm.db'}", settings) as made:
        who = people(made.store)
        first, second = FakeDevice(made.http), FakeDevice(made.http)
        for device in (first, second):
            device.enrol(enrolment_token(made.store, who.project))
        thief = FakeDevice(made.http)
        thief.device = first.device
        for _ in range(5):  # requests that the device did not sign cost it nothing
            assert thief.send(thief.items(window())).status_code == 401
        assert [first.send([]).status_code for _ in range(3)] == [200, 200, 429]
        assert int(first.send([]).headers["retry-after"]) > 10
        assert second.send([]).status_code == 200


def test_failures_are_limited_by_address_and_what_is_in_order_goes_through(tmp_path):
    settings = dataclasses.replace(QUIET, failure_rate=0.01, failure_burst=3)
    with served(f"sqlite:///{tmp_path / 'm.db'}", settings) as made:
        who = people(made.store)
        good, bad = FakeDevice(made.http), FakeDevice(made.http)
        good.enrol(enrolment_token(made.store, who.project))
        good.send([])
        bad.device = "f" * 32
        assert [bad.send([]).status_code for _ in range(5)] == [401, 401, 401, 429, 429]
        assert made.http.get("/v1/me", headers={"Authorization": "Bearer em_wrong"}).status_code == 429
        assert good.send([]).status_code == 200
        assert made.http.get("/v1/me", headers=who.headers("viewer")).status_code == 200


def test_token_rate_is_limited(tmp_path):
    settings = dataclasses.replace(QUIET, token_rate=0.01, token_burst=2)
    with served(f"sqlite:///{tmp_path / 'm.db'}", settings) as made:
        who = people(made.store)
        answers = [made.http.get("/v1/me", headers=who.headers("viewer")) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert refusal(answers[2]) == (429, "too_often")
        assert made.http.get("/v1/me", headers=who.headers("admin")).status_code == 200


def test_enrolment_rate_is_limited(tmp_path):
    settings = dataclasses.replace(QUIET, enrolment_rate=0.01, enrolment_burst=2)
    with served(f"sqlite:///{tmp_path / 'm.db'}", settings) as made:
        who = people(made.store)
        token = enrolment_token(made.store, who.project)
        assert [FakeDevice(made.http).enrol(token).status_code for _ in range(3)] == [201, 201, 429]

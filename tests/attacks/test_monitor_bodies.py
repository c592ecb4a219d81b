"""Bodies that are too large, too deep, or grow when they are unpacked: refused before they cost memory, and told so."""

import dataclasses
import gzip
import socket
import zlib
from hashlib import sha256

import pytest

from edgeml.fleet.settings import MAX_BODY_BYTES, MAX_MODEL_BYTES
from edgeml.telemetry import wire
from tests.monitor_tools import QUIET, FakeDevice, enrolment_token, people, served, window
from tests.waiting import PATIENCE


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    settings = dataclasses.replace(QUIET, device_rate=0, login_address_rate=0, body_seconds=10)
    with served(f"sqlite:///{tmp_path_factory.mktemp('bodies') / 'm.db'}", settings) as made:
        who = people(made.store)
        device = FakeDevice(made.http)
        device.enrol(enrolment_token(made.store, who.project))
        yield made, who, device


def chunks(size, total):
    """A body that does not say how long it is."""
    for _ in range(total // size):
        yield b" " * size


@pytest.mark.parametrize("streamed", [False, True], ids=["with its length", "chunked"])
def test_body_over_the_limit_is_refused(server, streamed):
    made, who, _ = server
    headers = {"Content-Type": "application/json"} | who.headers("root")
    for path, limit in (
        ("/v1/login", MAX_BODY_BYTES),
        ("/v1/enrol", MAX_BODY_BYTES),
        ("/v1/projects", MAX_BODY_BYTES),
        (f"/v1/projects/{who.project}/models", MAX_MODEL_BYTES),
    ):
        total = limit + 2**16
        content = chunks(2**14, total) if streamed else b" " * total
        answer = made.http.post(path, headers=headers, content=content)
        assert (answer.status_code, answer.json()["error"]) == (413, "too_large"), path
        fits = chunks(2**14, limit) if streamed else b" " * limit
        assert made.http.post(path, headers=headers, content=fits).status_code == 422, path


def test_client_that_asks_first_is_not_asked_for_too_much(server):
    made, _, _ = server
    head = "POST /v1/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
    with socket.create_connection(made.address, timeout=PATIENCE) as client:
        client.sendall(f"{head}Content-Length: {MAX_BODY_BYTES + 1}\r\n\r\n".encode())
        assert client.recv(65536).startswith(b"HTTP/1.1 413 ")
    with socket.create_connection(made.address, timeout=PATIENCE) as client:
        client.sendall(f"{head}Content-Length: 2\r\n\r\n".encode())
        assert client.recv(65536).startswith(b"HTTP/1.1 100 ")
        client.sendall(b"{}")
        assert client.recv(65536).startswith(b"HTTP/1.1 422 ")


def test_endless_body_is_cut(server):
    made, _, _ = server
    with socket.create_connection(made.address, timeout=PATIENCE) as client:
        client.sendall(b"POST /v1/login HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece, sent = b"4000\r\n" + b" " * 0x4000 + b"\r\n", 0
        try:
            while sent < 2**28:
                sent += client.send(piece)
        except OSError:
            pass
    assert sent < 2**26


def test_batch_over_the_limit_is_refused(server):
    _, _, device = server
    _, headers, _ = device.request([])
    for content in (b"a" * (wire.MAX_COMPRESSED_BYTES + 1), chunks(2**16, 2 * wire.MAX_COMPRESSED_BYTES)):
        answer = device.http.post(wire.PATH, headers=headers, content=content)
        assert (answer.status_code, answer.json()["error"]) == (413, "too_large")
    assert device.send(device.items(window())).status_code == 200


def test_batch_that_grows_when_unpacked_is_refused(server, monkeypatch):
    _, _, device = server
    # 1000 to 1: 64 MB in 64 kB. What is unpacked of it at most is the limit and one byte.
    bomb = gzip.compress(b" " * 64 * 2**20)
    assert len(bomb) < wire.MAX_COMPRESSED_BYTES
    largest = []
    real = zlib.decompressobj

    class Watched:
        def __init__(self, **options):
            self._reader = real(**options)

        def __getattr__(self, name):
            return getattr(self._reader, name)

        def decompress(self, data, most=0):
            made = self._reader.decompress(data, most)
            largest.append(len(made))
            return made

    monkeypatch.setattr(wire.zlib, "decompressobj", Watched)
    _, headers, _ = device.request([], body_sha256=sha256(b"").hexdigest())
    answer = device.http.post(wire.PATH, headers=headers, content=bomb)
    assert (answer.status_code, answer.json()["error"]) == (413, "too_large")
    assert largest
    assert max(largest) <= wire.MAX_BODY_BYTES + 1
    for more in (bomb + bomb, gzip.compress(b"{}") + b"x" * 100):
        assert device.http.post(wire.PATH, headers=headers, content=more).status_code in (413, 422)


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (b"[" * 60_000, "nested more than"),
        (b'{"a":' * 10_000, "nested more than"),
        (b'{"name":"a","name":"b","password":"c"}', "stands twice"),
        (b'{"name":NaN}', "not JSON"),
        (b'{"name":1e999}', "beyond float64"),
        (b'{"name":' + b"9" * 50_000 + b"}", "an integer of"),
        (b"\xff\xfe", "not JSON"),
        (b"{", "not JSON"),
        (b'{"name":"\xed\xa0\x80","password":"c"}', "not JSON"),
    ],
)
def test_hostile_json_is_refused(server, body, cause):
    made, _, _ = server
    answer = made.http.post("/v1/login", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]) == (422, "malformed")
    assert cause in answer.json()["cause"]


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a"]
)
def test_only_json_is_read(server, kind):
    # A page of another site can send forms with these types and the user's cookies; there are no cookies, either.
    made, _, _ = server
    headers = {"Content-Type": kind} if kind else {}
    answer = made.http.post("/v1/login", content=b'{"name":"a","password":"b"}', headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (415, "unsupported_type")


def test_texts_no_database_takes_are_refused(server):
    made, who, _ = server
    root = who.headers("root")
    for name in ("a\x00b", "\ud800", "a\u202eb\n"):
        body = b'{"name":"%s"}' % name.encode("unicode_escape").replace(b"\\x", b"\\u00")
        headers = {"Content-Type": "application/json"} | root
        assert made.http.post("/v1/projects", content=body, headers=headers).status_code == 422


def test_no_other_site_may_ask(server):
    made, _, _ = server
    asked = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "POST"}
    for method, path in (("OPTIONS", "/v1/login"), ("GET", "/healthz")):
        answer = made.http.request(method, path, headers=asked)
        assert not [name for name in answer.headers if name.startswith("access-control-")]
    assert made.http.options("/v1/login", headers=asked).status_code == 405


def test_every_answer_has_its_headers(server):
    made, who, _ = server
    for path, headers in (("/healthz", {}), ("/nope", {}), ("/v1/users", {}), ("/v1/users", who.headers("root"))):
        answer = made.http.get(path, headers=headers)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert answer.headers["x-frame-options"] == "DENY"
        assert len(answer.headers["x-request-id"]) == 16
        assert "server" not in answer.headers
    given = made.http.get("/healthz", headers={"X-Request-Id": "trace-12345678"})
    assert given.headers["x-request-id"] == "trace-12345678"
    for odd in ("short", "a b c d e f", "x" * 65, "<script>alert"):
        assert made.http.get("/healthz", headers={"X-Request-Id": odd}).headers["x-request-id"] != odd


def test_wrong_method_says_which_ones_there_are(server):
    made, _, _ = server
    answer = made.http.put("/v1/projects")
    assert (answer.status_code, answer.json()["error"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, POST"
    assert made.http.get(wire.PATH).headers["allow"] == "POST"

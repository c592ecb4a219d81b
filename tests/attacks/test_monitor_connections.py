"""Clients that drip, stall, flood or split requests, over real sockets: each is cut, answered, or refused as JSON."""

import json
import re
import socket
import ssl
import time

import pytest

from edgeml.fleet.settings import Settings
from tests.certificates import Authority
from tests.monitor_tools import people, served
from tests.waiting import PATIENCE

# Short, so that the tests wait for little; the margins below are wide.
FAST = Settings(
    port=0, retention_seconds=0, header_seconds=1.0, body_seconds=0.5, write_seconds=0.5, keep_alive_seconds=1.0,
)  # fmt: skip
# Nothing is cut for being slow, however slow the machine is.
PATIENT = Settings(
    port=0, retention_seconds=0, header_seconds=PATIENCE, body_seconds=PATIENCE, keep_alive_seconds=PATIENCE,
    max_connections=20,
)  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with served(f"sqlite:///{tmp_path_factory.mktemp('connections') / 'm.db'}", FAST) as made:
        yield made


@pytest.fixture(scope="module")
def patient(tmp_path_factory):
    with served(f"sqlite:///{tmp_path_factory.mktemp('patient') / 'm.db'}", PATIENT) as made:
        yield made


def connect(server):
    made = socket.create_connection(server.address, timeout=PATIENCE)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def everything(made):
    """All bytes until the server ends the connection; fails when it does not."""
    got = b""
    try:
        while data := made.recv(65536):
            got += data
    except ConnectionResetError:
        pass
    return got


def exchange(server, data):
    with connect(server) as made:
        made.sendall(data)
        return everything(made)


def status(answer):
    return int(answer.split(b" ", 2)[1]) if answer else None


def refused(answer, code):
    """The JSON of a refusal, whatever layer made it."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert status(answer) == code, answer
    assert b"content-type: application/json" in head.lower()
    assert b"x-content-type-options: nosniff" in head.lower()
    said = json.loads(body)
    assert set(said) >= {"error", "cause", "remedy"}
    return said


def drip(made, data, step=0.1):
    """Bytes one by one until the server hangs up; how many it took."""
    made.settimeout(step)
    for at, byte in enumerate(data):
        try:
            made.sendall(bytes([byte]))
            got = made.recv(65536)
        except TimeoutError:
            continue
        except OSError:
            return at, b""
        made.settimeout(PATIENCE)
        return at, got + everything(made) if got else b""
    raise AssertionError("the server took every byte of it")


def refusals_of(server, code):
    return server.monitor.metrics.registry.get_sample_value(
        "edgeml_monitor_refused_connections_total", {"reason": code}
    ) or 0  # fmt: skip


def send_for_ever(made, data, limit=2**26):
    sent = 0
    while sent < limit:
        sent += made.send(data)
    raise AssertionError("the server took all of it")


# --- too slow
@pytest.mark.parametrize(
    "data",
    [b"", b"GET", b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-Slow: ", b"\r\n"],
    ids=["nothing", "method", "header", "empty line"],
)
def test_headers_that_stall_are_cut(server, data):
    refused(exchange(server, data), 408)


def test_headers_that_drip_are_cut(server):
    with connect(server) as made:
        made.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n")
        taken, answer = drip(made, b"X-Slow: " + b"a" * 1000)
    assert taken < 100
    assert not answer or refused(answer, 408)


def test_second_request_of_a_connection_has_its_own_deadline(server):
    with connect(server) as made:
        made.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert status(made.recv(65536)) == 200
        made.sendall(b"GET /healthz HTTP/1.1\r\nHo")
        refused(everything(made), 408)


def test_empty_lines_do_not_keep_a_connection(server):
    with connect(server) as made:
        made.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert status(made.recv(65536)) == 200
        made.sendall(b"\r\n")  # stops uvicorn's clock of idle connections, and begins no request
        refused(everything(made), 408)


def test_idle_connection_is_closed(server):
    with connect(server) as made:
        made.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert status(everything(made)) == 200


@pytest.mark.parametrize("path", ["/v1/login", "/v1/enrol"])
@pytest.mark.parametrize("framing", [b"Content-Length: 1000", b"Transfer-Encoding: chunked"])
def test_body_that_drips_is_cut(server, path, framing):
    with connect(server) as made:
        made.sendall(
            b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n%s\r\n\r\n" % (path.encode(), framing)
        )
        body = b"1\r\na\r\n" * 200 if b"chunked" in framing else b"a" * 1000
        taken, answer = drip(made, body)
    assert taken < 100
    assert not answer or refused(answer, 408)


def test_drip_after_an_early_answer_is_cut(server):
    with connect(server) as made:
        # 401 comes without the body being read; what comes of it is drained for a while and no longer.
        made.sendall(b"POST /v1/projects HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n")
        taken, _ = drip(made, b"a" * 5000)
    assert taken < 500


def test_client_that_does_not_read_its_answers_is_cut(server):
    with connect(server) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        request = b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n"
        made.settimeout(PATIENCE)
        # Answers of 80 kB nobody takes: it ends when the server hangs up, or in a time-out.
        with pytest.raises(OSError, match=r"reset|Broken|aborted"):
            send_for_ever(made, request)


# --- too much
def test_headers_that_are_too_long_are_refused(patient):
    for data in (
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * 200 + b"\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    ):
        assert refused(exchange(patient, data), 431)["error"] == "headers_too_large"


def test_headers_without_end_are_refused(server):
    before = refusals_of(server, "headers_too_large")
    with connect(server) as made:
        made.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: ")
        with pytest.raises(OSError, match=r"reset|Broken|aborted"):
            send_for_ever(made, b"a" * 65536)
    assert refusals_of(server, "headers_too_large") == before + 1  # and not only for being slow


def test_connections_beyond_the_limit_are_refused_and_the_others_go_on(patient):
    held = []
    try:
        refusals = []
        for _ in range(PATIENT.max_connections + 5):
            made = connect(patient)
            held.append(made)
            made.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = made.recv(65536)
            refusals.append(status(answer) == 503)
            if refusals[-1]:
                assert b"retry-after" in answer.lower()
        assert any(refusals)
        assert not all(refusals)
    finally:
        for made in held:
            made.close()
    deadline = time.monotonic() + PATIENCE
    while patient.server.server_state.connections and time.monotonic() < deadline:
        time.sleep(0.01)  # the server hears of the ends by and by
    assert status(exchange(patient, b"GET /healthz HTTP/1.0\r\n\r\n")) == 200


# --- smuggled
@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5",
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: 5\r\nContent-Length: 5",
        b"Content-Length: +5",
        b"Content-Length: 5, 5",
        b"Content-Length: 0x5",
        b"Content-Length: -1",
        b"Content-Length: 99999999999999999999999",
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding : chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b" Content-Length: 5",
        b"X: a\nContent-Length: 5",
        b"X: a\x00b",
        b"Host: b",
    ],
)
def test_ambiguous_framing_is_refused_and_nothing_behind_it_is_read(server, head):
    hidden = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
    answer = exchange(server, b"POST /v1/login HTTP/1.1\r\nHost: a\r\n" + head + b"\r\n\r\n0\r\n\r\n" + hidden)
    assert len(re.findall(rb"HTTP/1\.1 \d", answer)) == 1, answer
    assert status(answer) in (400, 408, 413)
    refused(answer, status(answer))
    assert b"alive" not in answer


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01",
        b"nonsense\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\nHost: a\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://[::1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET \xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused(patient, data):
    refused(exchange(patient, data), 400)


def test_pipelined_requests_are_answered_in_order(patient):
    answer = exchange(
        patient,
        b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\nGET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    )
    assert answer.index(b"ready") < answer.index(b"alive")
    assert answer.count(b"HTTP/1.1 200") == 2


def test_trailers_do_not_become_headers(patient):
    who = people(patient.store)
    token = who.tokens["root"].encode()
    answer = exchange(
        patient,
        b"GET /v1/users HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\nAuthorization: Bearer " + token + b"\r\n\r\n",
    )
    assert status(answer) == 401


def test_upgrade_is_answered_in_http_and_ends_the_connection(patient):
    answer = exchange(
        patient, b"GET /healthz HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nGET /readyz"
    )
    assert status(answer) == 200
    assert b"connection: close" in answer
    assert len(re.findall(rb"HTTP/1\.1 \d", answer)) == 1


def test_tls_handshake_that_stalls_is_cut(tmp_path, monkeypatch):
    from edgeml.fleet import serve

    monkeypatch.setattr(serve, "_HANDSHAKE_SECONDS", 0.5)
    authority = Authority(tmp_path)
    settings = Settings(port=0, retention_seconds=0, cert=authority.issue("server.pem"))
    trust = ssl.create_default_context(cafile=authority.ca)
    with served(f"sqlite:///{tmp_path / 'm.db'}", settings, verify=trust) as made:
        with connect(made) as slow:
            assert everything(slow) == b""
        with connect(made) as plain:
            plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            assert b"alive" not in everything(plain)
        assert made.http.get("/healthz").status_code == 200

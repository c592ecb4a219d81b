"""The agent's HTTP against real sockets: half answers, portals, redirects, drips, floods; all come back as replies."""

import socket
import sys
import threading

import pytest

from edgeml.errors import AgentError
from edgeml.telemetry import transport as module
from edgeml.telemetry import wire
from edgeml.telemetry.server_address import ServerAddress, is_loopback
from edgeml.telemetry.transport import MAX_REPLY_BYTES, HttpTransport
from tests.fake_monitor import HANGS, Answer, Monitor, always, error, serve, taken_but
from tests.waiting import PATIENCE


@pytest.fixture
def transport(server):
    made = HttpTransport(ServerAddress.parse(server.url), read_seconds=10.0, total_seconds=20.0)
    yield made
    made.close()


def ask(transport):
    return transport.post_batch(b"header", "boot 1.000 2.000", b"s" * 64, wire.compress(b"body"))


def test_a_batch_arrives_as_it_was_sent(monitor, transport):
    monitor.constant = always(Answer(200, {"results": []}, {"Retry-After": "5"}))
    reply = ask(transport)
    assert (reply.status, reply.fields, reply.retry_after, reply.reached) == (200, {"results": []}, 5.0, True)
    path, headers, body = monitor.requests[0]
    assert path == wire.PATH
    assert wire.decompress(body) == b"body"
    assert wire.decode(headers["edgeml-batch"], "") == b"header"
    assert wire.decode(headers["edgeml-signature"], "") == b"s" * 64
    assert headers["edgeml-sent"] == "boot 1.000 2.000"
    assert headers["content-encoding"] == "gzip"
    assert headers["content-length"] == str(len(body))
    assert headers["user-agent"].startswith("edgeml-agent/")
    size = len(body) + sum(len(k) + len(v) for k, v in headers.items())
    assert size < reply.spent < size + 600


def test_one_connection_serves_many_requests(monitor, server, transport):
    monitor.constant = always(Answer(200, {}))
    for _ in range(5):
        assert ask(transport).status == 200
    assert server.connections == 1


def test_errors_of_the_monitor_come_back_whole(monitor, transport):
    monitor.constant = always(error(409, "chain_conflict", why="gap"))
    reply = ask(transport)
    assert reply.status == 409
    assert reply.fields["why"] == "gap"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(200, b"<html>log in</html>", {"Content-Type": "text/html"}), "captive portal"),
        (Answer(200, b"fine"), "not with JSON"),
        (Answer(200, b"{", {"Content-Type": "application/json"}), "not JSON"),
        (Answer(200, b"[]", {"Content-Type": "application/json"}), "not an object"),
        (Answer(200, b'{"a":1,"a":2}', {"Content-Type": "application/json"}), "twice"),
        (Answer(200, b"\x1f\x8b", {"Content-Type": "application/json", "Content-Encoding": "gzip"}), "compressed"),
        (Answer(200, b"[" * 5000, {"Content-Type": "application/json"}), "deep"),
        (Answer(502, b"bad gateway", {"Content-Type": "text/html"}), "502"),
        (Answer(200, {"x": "y" * (MAX_REPLY_BYTES + 10)}), "more than"),
        (Answer(200, {"results": [["accepted", ""]] * 50}, cut=30), "broke off"),
        (Answer(200, {}, drop=True), "broke off"),
        (Answer(200, b"x", {"Content-Length": "nonsense"}), "broke off"),
    ],
)
def test_answers_that_are_none(monitor, transport, answer, words):
    monitor.constant = always(answer)
    reply = ask(transport)
    assert reply.fields is None
    assert words in reply.problem
    assert reply.reached
    monitor.constant = always(Answer(200, {"good": True}))
    assert ask(transport).fields == {"good": True}


def test_half_an_answer_leaves_the_batch_open(monitor, transport):
    monitor.constant = taken_but(cut=5)
    reply = ask(transport)
    assert (reply.status, reply.reached) == (0, True)


def test_a_flood_is_cut_off(monitor, transport):
    """A reply without end is read up to the limit and no further."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sent = []

        def flood():
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
                try:
                    while len(sent) < 10_000:
                        connection.sendall(b" " * 65536)
                        sent.append(65536)
                except OSError:
                    pass

        thread = threading.Thread(target=flood)
        thread.start()
        other = HttpTransport(ServerAddress.parse(f"http://127.0.0.1:{listener.getsockname()[1]}"))
        reply = ask(other)
        other.close()
        thread.join(PATIENCE)
    assert "more than" in reply.problem
    assert sum(sent) < 100 * 2**20


@pytest.mark.parametrize("where", ["drip_headers", "drip"])
def test_a_drip_ends_at_the_deadline(monitor, server, where):
    """A byte now and then never lets a read time out: the whole request has its own limit."""
    monitor.constant = always(Answer(200, {"results": []}, **{where: 0.25 if where == "drip" else True}, **(
        {"drip": 0.25} if where == "drip_headers" else {})))  # fmt: skip
    slow = HttpTransport(ServerAddress.parse(server.url), read_seconds=PATIENCE, total_seconds=1.0)
    reply = ask(slow)
    slow.close()
    assert (reply.status, reply.reached) == (0, True)
    assert "did not finish" in reply.problem


def test_silence_times_out(monitor, server):
    silent = threading.Event()
    monitor.constant = always(Answer(200, {}, wait=silent))
    quick = HttpTransport(ServerAddress.parse(server.url), read_seconds=0.2)
    reply = ask(quick)
    silent.set()
    quick.close()
    assert (reply.status, reply.reached) == (0, True)
    assert "in time" in reply.problem


def test_a_request_under_way_can_be_ended(monitor, server):
    silent, arrived = threading.Event(), threading.Event()

    def hold(*_):
        arrived.set()
        return Answer(200, {}, wait=silent)

    monitor.constant = hold
    slow = HttpTransport(ServerAddress.parse(server.url))
    replies = []
    thread = threading.Thread(target=lambda: replies.append(ask(slow)))
    thread.start()
    assert arrived.wait(PATIENCE)
    slow.abort()
    thread.join(HANGS / 2)
    assert not thread.is_alive()
    silent.set()
    assert replies[0].problem == "the request was ended by this side"
    assert replies[0].reached
    monitor.constant = always(Answer(200, {"good": True}))
    assert ask(slow).fields == {"good": True}
    slow.close()


# --- not reached at all ---------------------------------------------------------------------------------------------
def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    nobody = HttpTransport(ServerAddress.parse(f"http://127.0.0.1:{port}"))
    reply = ask(nobody)
    assert (reply.status, reply.reached) == (0, False)
    assert "refuses connections" in reply.problem


def test_a_name_that_cannot_be_resolved(monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    lost = HttpTransport(ServerAddress.parse("https://monitor.invalid"))
    reply = ask(lost)
    assert (reply.status, reply.reached) == (0, False)
    assert "cannot be resolved" in reply.problem
    assert "monitor.invalid" in reply.problem


# --- redirects ------------------------------------------------------------------------------------------------------
def test_redirects_to_another_server_are_not_followed(monitor, server, transport):
    other = Monitor()
    with serve(other) as elsewhere:
        for target in (
            elsewhere.url + wire.PATH,
            f"https://127.0.0.1:{server.port}{wire.PATH}",
            "//evil.example.com/x",
        ):
            monitor.constant = always(Answer(307, {}, {"Location": target}))
            reply = ask(transport)
            assert "redirects to another server" in reply.problem
            assert reply.fields is None
    assert other.requests == []


def test_redirects_within_the_server_are_followed_with_the_same_bytes(monitor, transport):
    monitor.faults = [always(Answer(308, {}, {"Location": "/moved" + wire.PATH})), always(Answer(200, {"good": True}))]
    assert ask(transport).fields == {"good": True}
    (_, first, one), (path, second, other) = monitor.requests
    assert path == "/moved" + wire.PATH
    assert one == other
    assert first["edgeml-signature"] == second["edgeml-signature"]


@pytest.mark.parametrize("location", ["", "/loop", "http://[", "\x7f"])
def test_redirects_end(monitor, transport, location):
    monitor.constant = always(Answer(307, {}, {"Location": location}))
    reply = ask(transport)
    assert reply.fields is None or reply.status == 307
    assert len(monitor.requests) <= module.MAX_REDIRECTS + 1


# --- addresses ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://Monitor.Example.com/", "https://monitor.example.com"),
        ("https://m.example.com:8443/edge/", "https://m.example.com:8443/edge"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("http://127.0.0.9", "http://127.0.0.9"),
        ("http://[::1]:80", "http://[::1]:80"),
    ],
)
def test_addresses(text, url):
    assert str(ServerAddress.parse(text)) == url


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("http://monitor.example.com", "plain HTTP"),
        ("http://127.0.0.1.example.com", "plain HTTP"),
        ("http://localhost.example.com", "plain HTTP"),
        ("http://10.0.0.1", "plain HTTP"),
        ("https://user:secret@m.example.com", "password"),
        ("https://secret@m.example.com", "password"),
        ("monitor.example.com", "not the address"),
        ("ftp://m.example.com", "not the address"),
        ("https://", "not the address"),
        ("https://m.example.com/?token=secret", "query"),
        ("https://m.example.com:99999", "not a URL"),
        ("https://m.exam\nple.com", "not a URL"),
        ("", "not the address"),
    ],
)
def test_addresses_that_are_refused(text, words):
    with pytest.raises(AgentError, match=words) as caught:
        ServerAddress.parse(text)
    assert caught.value.remedy
    if words == "password":
        assert "secret" not in str(caught.value)


def test_plain_http_when_it_is_asked_for():
    assert ServerAddress.parse("http://monitor.example.com", insecure_http=True).secure is False


def test_what_is_this_machine():
    assert all(map(is_loopback, ("localhost", "127.1.2.3", "::1")))
    assert not any(map(is_loopback, ("0.0.0.0", "10.0.0.1", "example.com", "::2", "127.0.0.1.example.com")))


def test_httpx_missing_is_said(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(AgentError, match="httpx") as caught:
        HttpTransport(ServerAddress.parse("https://monitor.example.com"))
    assert "edgeml-sdk[agent]" in caught.value.remedy


@pytest.mark.parametrize("proxy", ["nonsense://proxy:1", "socks5://127.0.0.1:1"])
def test_a_proxy_of_the_environment_that_cannot_be_used_is_named(monkeypatch, proxy):
    monkeypatch.setitem(sys.modules, "socksio", None)  # not installed
    monkeypatch.setenv("HTTP_PROXY", proxy)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    made = HttpTransport(ServerAddress.parse("http://monitor.invalid", insecure_http=True))
    reply = ask(made)
    made.close()
    assert (reply.status, reply.reached, reply.spent) == (0, False, 0)
    assert reply.problem

"""TLS for real: certificates that are expired, of another name or not trusted, one's own CA, client certificates."""

import threading

import pytest

from edgeml.errors import AgentError
from edgeml.telemetry import wire
from edgeml.telemetry.agent import Agent
from edgeml.telemetry.server_address import ServerAddress
from edgeml.telemetry.tls import Certificates
from edgeml.telemetry.transport import HttpTransport
from tests.agent_tools import STREAM, Bench
from tests.certificates import Authority, server_context
from tests.fake_monitor import HANGS, Answer, Monitor, always, serve
from tests.waiting import PATIENCE


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


def ask(server, **certificates):
    transport = HttpTransport(ServerAddress.parse(server.url), Certificates(**certificates), read_seconds=10.0)
    try:
        return transport.post_batch(b"header", "boot 1.000 2.000", b"s" * 64, wire.compress(b"body"))
    finally:
        transport.close()


@pytest.fixture
def monitor():
    made = Monitor()
    made.constant = always(Answer(200, {"good": True}))
    return made


def test_a_ca_of_ones_own(authority, monitor, tmp_path):
    context = server_context(authority.issue("good.pem"))
    with serve(monitor, context) as server:
        assert ask(server, ca=authority.ca).fields == {"good": True}
        refused = ask(server)  # the system's CAs do not know it
        assert refused.reached is False
        assert "is not trusted" in refused.problem
        assert "--ca" in refused.problem
        other = Authority(tmp_path, "another CA")
        assert "is not trusted" in ask(server, ca=other.ca).problem
    assert len(monitor.requests) == 1


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"days": (-20, -1)}, "has expired"),
        ({"days": (1, 10)}, "not valid yet"),
        ({"host": "other.example.com"}, "another name"),
        ({"host": "127.0.0.2"}, "another name"),
    ],
)
def test_certificates_that_do_not_hold(authority, monitor, how, words):
    with serve(monitor, server_context(authority.issue("bad.pem", **how))) as server:
        reply = ask(server, ca=authority.ca)
    assert (reply.status, reply.reached) == (0, False)
    assert words in reply.problem
    assert server.url in reply.problem
    assert monitor.requests == []


def test_an_expired_certificate_is_survived_and_recovered_from(authority, tmp_path):
    """The error is named in the status, items are kept, and sending goes on when the certificate is renewed."""
    monitor = Monitor()
    with serve(monitor, server_context(authority.issue("expired.pem", days=(-20, -1)))) as server:
        b = Bench(tmp_path / "spool", items=3, monitor=monitor, server=server.url)
        transport = HttpTransport(ServerAddress.parse(server.url), Certificates(ca=authority.ca))
        b.agent = Agent(b.spool, b.identity, transport, server=server.url, clock=b.clock, uniform=b.random.uniform)
        for _ in range(3):
            b.clock.pass_(b.step())
        assert "has expired" in b.agent.status.error
        assert b.agent.status.last_contact is None
        assert b.kept() == 3
        assert monitor.batches() == []
        server.context = server_context(authority.issue("renewed.pem"))
        b.run()
        assert monitor.sequences(STREAM) == [0, 1, 2]
        assert b.agent.status.error is None
        assert [wire.read_header(wire.decode(h["edgeml-batch"], "")).number for _, h, _ in monitor.batches()] == [0]
        transport.close()
        b.close()


def test_client_certificates(authority, monitor, tmp_path):
    context = server_context(authority.issue("server.pem"), client_ca=authority.ca)
    mine = authority.issue("client.pem", client=True)
    with serve(monitor, context) as server:
        assert ask(server, ca=authority.ca, cert=mine).fields == {"good": True}
        text = mine.read_bytes()
        at = text.index(b"-----BEGIN PRIVATE KEY")
        (tmp_path / "cert.pem").write_bytes(text[:at])
        (tmp_path / "key.pem").write_bytes(text[at:])
        assert ask(server, ca=authority.ca, cert=tmp_path / "cert.pem", key=tmp_path / "key.pem").status == 200
        assert ask(server, ca=authority.ca).status == 0
        foreign = Authority(tmp_path, "another CA").issue("foreign.pem", client=True)
        assert ask(server, ca=authority.ca, cert=foreign).status == 0
    assert len(monitor.requests) == 2


def test_files_renewed_while_it_runs_are_taken_up(authority, monitor, tmp_path):
    ca = tmp_path / "ca.pem"
    (tmp_path / "old").mkdir()
    ca.write_bytes(Authority(tmp_path / "old", "the CA before").ca.read_bytes())
    with serve(monitor, server_context(authority.issue("good.pem"))) as server:
        transport = HttpTransport(ServerAddress.parse(server.url), Certificates(ca=ca))
        arguments = b"header", "boot 1.000 2.000", b"s" * 64, wire.compress(b"body")
        assert transport.post_batch(*arguments).status == 0
        ca.write_bytes(b"half")
        gone = transport.post_batch(*arguments)
        assert (gone.status, gone.reached) == (0, False)
        assert str(ca) in gone.problem
        ca.write_bytes(authority.ca.read_bytes())
        assert transport.post_batch(*arguments).status == 200
        transport.close()


@pytest.mark.parametrize(
    ("which", "words"),
    [
        ({"ca": "missing.pem"}, "CA certificates"),
        ({"ca": "garbage.pem"}, "CA certificates"),
        ({"cert": "missing.pem"}, "no file"),
        ({"cert": "garbage.pem"}, "client certificate"),
        ({"cert": "ca.pem"}, "client certificate"),
        ({"key": "garbage.pem"}, "without the certificate"),
    ],
)
def test_files_that_cannot_be_used_are_said_at_once(authority, tmp_path, which, words):
    (tmp_path / "garbage.pem").write_bytes(b"\x00garbage")
    (tmp_path / "ca.pem").write_bytes(authority.ca.read_bytes())
    files = {name: tmp_path / file for name, file in which.items()}
    with pytest.raises(AgentError, match=words) as caught:
        HttpTransport(ServerAddress.parse("https://monitor.example.com"), Certificates(**files))
    assert caught.value.remedy


def test_plain_http_on_a_tls_port_and_the_reverse(authority, monitor):
    with serve(monitor, server_context(authority.issue("good.pem"))) as server:
        transport = HttpTransport(ServerAddress.parse(f"http://127.0.0.1:{server.port}"), read_seconds=PATIENCE)
        assert transport.post_batch(b"h", "b 1.000 2.000", b"s", b"x").status == 0
        transport.close()
    with serve(monitor) as server:
        transport = HttpTransport(ServerAddress.parse(f"https://127.0.0.1:{server.port}"), read_seconds=PATIENCE)
        reply = transport.post_batch(b"h", "b 1.000 2.000", b"s", b"x")
        assert (reply.status, reply.reached) == (0, False)
        assert "no TLS" in reply.problem
        transport.close()
    assert monitor.requests == []


def test_a_tls_request_under_way_can_be_ended(authority):
    monitor = Monitor()
    silent, arrived = threading.Event(), threading.Event()

    def hold(*_):
        arrived.set()
        return Answer(200, {}, wait=silent)

    monitor.constant = hold
    with serve(monitor, server_context(authority.issue("good.pem"))) as server:
        transport = HttpTransport(ServerAddress.parse(server.url), Certificates(ca=authority.ca))
        replies = []
        thread = threading.Thread(
            target=lambda: replies.append(transport.post_batch(b"h", "b 1.000 2.000", b"s", b"x"))
        )
        thread.start()
        assert arrived.wait(PATIENCE)
        transport.abort()
        thread.join(HANGS / 2)
        silent.set()
        assert not thread.is_alive()
        assert replies[0].problem == "the request was ended by this side"
        transport.close()

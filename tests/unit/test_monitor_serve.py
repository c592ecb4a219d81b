"""The server as a process and its TLS: it starts or says why not, and ends in order when it is told to."""

import dataclasses
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time

import httpx
import pytest
from sqlalchemy import select

from edgeml.errors import MonitorDatabaseError, MonitorSettingsError
from edgeml.fleet import tables
from edgeml.fleet.serve import check_exposure, listen, serve
from edgeml.fleet.settings import KEY_PASSPHRASE_VARIABLE, Settings, database_url
from edgeml.fleet.store import Store
from edgeml.fleet.tls import expiry_warning, reload, server_context
from edgeml.telemetry import wire
from tests.certificates import Authority
from tests.monitor_tools import QUIET, FakeDevice, enrolment_token, people, secret_of, served, window
from tests.waiting import PATIENCE


# --- what is wrong at the start
@pytest.mark.parametrize(
    ("host", "more", "refused"),
    [
        ("127.0.0.1", {}, False), ("::1", {}, False), ("localhost", {}, False), ("127.9.9.9", {}, False),
        ("0.0.0.0", {}, True), ("::", {}, True), ("192.0.2.1", {}, True), ("monitor.example", {}, True),
        ("0.0.0.0", {"insecure_http": True}, False), ("0.0.0.0", {"cert": "x"}, False),
    ],
)  # fmt: skip
def test_others_may_not_read_along_unless_they_are_allowed_to(host, more, refused):
    settings = Settings(host=host, **more)
    if not refused:
        check_exposure(settings)
        return
    with pytest.raises(MonitorSettingsError, match="other machines") as caught:
        check_exposure(settings)
    assert "--cert" in caught.value.remedy


def test_a_port_in_use_is_told(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(MonitorSettingsError, match=f"port {port}: .*in use") as caught:
            serve(f"sqlite:///{tmp_path / 'm.db'}", Settings(port=port))
    assert "--port" in caught.value.remedy
    assert not (tmp_path / "m.db").exists()


@pytest.mark.parametrize("host", ["no such host.example", "192.0.2.77"])
def test_an_address_of_another_machine_is_told(host):
    with pytest.raises(MonitorSettingsError, match=r"192\.0\.2\.77|no such host"):
        listen(host, 0)


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_all_addresses_are_those_of_both_versions():
    with listen("::", 0) as listener:
        listener.listen()
        for host in ("127.0.0.1", "::1"):
            with socket.create_connection((host, listener.getsockname()[1]), timeout=10):
                pass


def test_a_database_that_cannot_be_used_is_told(tmp_path):
    (tmp_path / "file").write_text("no database" * 1000)
    with pytest.raises(MonitorDatabaseError):
        serve(f"sqlite:///{tmp_path / 'file'}", Settings(port=0))
    with pytest.raises(MonitorDatabaseError, match="empty"):
        serve(f"sqlite:///{tmp_path / 'new.db'}", Settings(port=0), migrate=False)
    with pytest.raises(MonitorDatabaseError, match="postgresql"):
        serve("postgresql://nobody@127.0.0.1:1/none", Settings(port=0))


def test_the_database_is_named_in_one_of_four_ways(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGEML_MONITOR_DATABASE", "postgresql://a@b/c")
    assert database_url() == "postgresql://a@b/c"
    assert database_url("sqlite:////x") == "sqlite:////x"
    monkeypatch.chdir(tmp_path)
    assert database_url("m.db") == f"sqlite:///{tmp_path}/m.db"
    monkeypatch.delenv("EDGEML_MONITOR_DATABASE")
    assert database_url().startswith("sqlite:///")
    assert database_url().endswith("edgeml/monitor.db")
    with pytest.raises(MonitorSettingsError) as caught:
        database_url("postgresql:someone:geheim@host")
    assert "geheim" not in str(caught.value)


# --- TLS
@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


def test_tls_is_1_2_at_least_and_says_so_to_browsers(tmp_path, authority):
    settings = dataclasses.replace(QUIET, cert=authority.issue("server.pem"))
    trust = ssl.create_default_context(cafile=authority.ca)
    with served(f"sqlite:///{tmp_path / 'm.db'}", settings, verify=trust) as made:
        answer = made.http.get("/healthz")
        assert answer.headers["strict-transport-security"].startswith("max-age=")
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.load_verify_locations(authority.ca)
        old.set_ciphers("ALL:@SECLEVEL=0")
        old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with socket.create_connection(made.address) as plain, pytest.raises(ssl.SSLError):
            old.wrap_socket(plain, server_hostname="127.0.0.1")
        device = FakeDevice(made.http)
        who = people(made.store)
        assert device.enrol(enrolment_token(made.store, who.project)).status_code == 201
        assert device.send(device.items(window())).status_code == 200


def test_clients_need_a_certificate_when_asked_to(tmp_path, authority):
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other", "another CA").issue("client.pem", client=True)
    settings = dataclasses.replace(QUIET, cert=authority.issue("server.pem"), client_ca=authority.ca)
    known = ssl.create_default_context(cafile=authority.ca)
    known.load_cert_chain(authority.issue("client.pem", client=True))
    with served(f"sqlite:///{tmp_path / 'm.db'}", settings, verify=known) as made:
        assert made.http.get("/healthz").status_code == 200
        for certificate in (None, stranger):
            other = ssl.create_default_context(cafile=authority.ca)
            if certificate is not None:
                other.load_cert_chain(certificate)
            with httpx.Client(verify=other, trust_env=False) as http, pytest.raises(httpx.TransportError):
                http.get(f"{made.url}/healthz")


def test_what_is_wrong_with_a_certificate_is_told(tmp_path, authority, monkeypatch):
    one, two = authority.issue("one.pem"), authority.issue("two.pem")
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    encrypted = tmp_path / "encrypted.key"
    encrypted.write_bytes(
        subprocess.run(
            ["openssl", "pkey", "-in", one, "-aes256", "-passout", "pass:geheim"], check=True, capture_output=True
        ).stdout
    )
    for settings, words in (
        (Settings(cert=tmp_path / "absent.pem"), "certificate .*absent.pem cannot be read: No such file"),
        (Settings(cert=one, key=tmp_path / "absent.key"), "private key .*absent.key cannot be read"),
        (Settings(cert=one, key=two), "two.pem does not belong to the certificate"),
        (Settings(cert=nonsense), "not a certificate chain"),
        (Settings(cert=one, key=nonsense), "not a certificate chain"),
        (Settings(cert=one, key=encrypted), "encrypted"),
        (Settings(cert=one, client_ca=nonsense), "no CA certificate"),
        (Settings(key=one), "need --cert"),
    ):
        with pytest.raises(MonitorSettingsError, match=words):
            server_context(settings)
    monkeypatch.setenv(KEY_PASSPHRASE_VARIABLE, "geheim")
    assert server_context(Settings(cert=one, key=encrypted)) is not None


def test_a_certificate_that_ends_is_told_and_renewed_in_place(tmp_path, authority):
    ended = authority.issue("server.pem", days=(-10, -1))
    settings = dataclasses.replace(QUIET, cert=ended)
    assert "has expired" in expiry_warning(settings)
    assert "in 3 days" in expiry_warning(Settings(cert=authority.issue("soon.pem", days=(-1, 3))), time.time() - 60)
    assert expiry_warning(Settings(cert=authority.issue("fine.pem", days=(-1, 90)))) is None
    trust = ssl.create_default_context(cafile=authority.ca)
    with served(f"sqlite:///{tmp_path / 'm.db'}", settings, verify=trust) as made:
        with pytest.raises(httpx.ConnectError, match="expired"):
            made.http.get("/healthz")
        ended.write_text("half a file")
        with pytest.raises(MonitorSettingsError):
            reload(made.server._context, settings)
        authority.issue("server.pem")
        made.server._renew()
        assert made.http.get("/healthz").status_code == 200


# --- the process
def start(tmp_path, *options):
    """A server of its own process, its address, and the file of its log."""
    log = tmp_path / "log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "edgeml.cli", "monitor", "serve", "--database", tmp_path / "m.db", "--port", "0",
             "--json", *options],
            stdout=subprocess.PIPE, stderr=stderr, env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
    line = process.stdout.readline()
    if not line:
        process.stdout.close()
        process.wait(PATIENCE)
        return process, None, log
    return process, json.loads(line)["url"], log


def end(process, number=signal.SIGTERM):
    process.send_signal(number)
    try:
        return process.wait(PATIENCE)
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(tmp_path, number):
    store = Store.open(f"sqlite:///{tmp_path / 'm.db'}")
    who = people(store)
    token = enrolment_token(store, who.project)
    process, url, log = start(tmp_path)
    with httpx.Client(base_url=url, trust_env=False, timeout=PATIENCE) as http:
        device = FakeDevice(http)
        device.enrol(token)
        answers, stop = [], threading.Event()

        def send():
            while not stop.is_set():
                try:
                    answers.append(device.send(device.items(window(), window())))
                except httpx.TransportError:
                    return

        sender = threading.Thread(target=send)
        sender.start()
        deadline = time.monotonic() + PATIENCE
        while len(answers) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        code = end(process, number)
        stop.set()
        sender.join(PATIENCE)
    assert code == 0, log.read_text()
    acknowledged = sum(2 for answer in answers if answer.status_code == 200)
    with store.read() as connection:
        kept = len(connection.execute(select(tables.windows.c.sequence)).all())
    store.close()
    assert acknowledged >= 10
    # What was acknowledged is there; the last batch may be there without its answer having arrived.
    assert acknowledged <= kept <= acknowledged + 2
    assert "Traceback" not in log.read_text()


def test_a_request_under_way_is_answered_before_the_end(tmp_path):
    process, url, log = start(tmp_path)
    address = httpx.URL(url)
    with socket.create_connection((address.host, address.port), timeout=PATIENCE) as client:
        client.sendall(
            b"POST /v1/enrol HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{"
        )
        with httpx.Client(
            trust_env=False, timeout=PATIENCE
        ) as http:  # by its answer, the bytes above have arrived, too
            assert http.get(f"{url}/readyz").status_code == 200
        process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE
        while "Shutting down" not in log.read_text() and time.monotonic() < deadline:
            time.sleep(0.01)
        client.sendall(b"}")
        assert client.recv(65536).startswith(b"HTTP/1.1 422")
    assert end(process) == 0


def test_sighup_reads_the_certificate_again(tmp_path, authority):
    process, _, log = start(tmp_path, "--cert", authority.issue("server.pem"))
    process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + PATIENCE
    while "the certificate was read again" not in log.read_text() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert end(process) == 0
    assert "the certificate was read again" in log.read_text()


def test_errors_at_the_start_have_exit_code_2_and_a_remedy(tmp_path):
    (tmp_path / "m.db").write_text("no database" * 1000)
    process, url, log = start(tmp_path)
    assert (url, process.returncode) == (None, 2)
    assert log.read_text().startswith("error: ")
    (tmp_path / "m.db").unlink()
    process, url, log = start(tmp_path, "--host", "0.0.0.0")
    assert (url, process.returncode) == (None, 2)
    assert "--cert" in log.read_text()


def test_log_at_debug_holds_no_token(tmp_path):
    store = Store.open(f"sqlite:///{tmp_path / 'm.db'}")
    who = people(store)
    store.close()
    process, url, log = start(tmp_path, "--log-level", "debug")
    with httpx.Client(base_url=url, trust_env=False, timeout=PATIENCE) as http:
        for path in ("/v1/me", f"/v1/me?token={who.tokens['viewer']}", f"/{who.tokens['viewer']}", wire.PATH):
            http.get(path, headers=who.headers("viewer"))
    assert end(process) == 0
    text = log.read_text()
    assert '"GET /v1/me" 200' in text
    assert secret_of(who.tokens["viewer"]) not in text

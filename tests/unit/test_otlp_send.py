"""OTLP messages are sent as its specification says: what may be tried again is, the rest is dropped and counted."""

import datetime
import gzip
import ipaddress
import logging
import ssl
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsPartialSuccess,
    ExportMetricsServiceResponse,
)

from edgeml.errors import OtlpError
from edgeml.telemetry import otlp_send
from edgeml.telemetry.otlp import Reading, resource_of
from edgeml.telemetry.otlp_figures import Figures
from edgeml.telemetry.otlp_send import Exporter, Sender
from edgeml.telemetry.otlp_settings import parse_header, settings
from tests.otlp_receiver import Receiver, collector, rotel
from tests.otlp_tools import points_of, window_of
from tests.ports import free_port
from tests.waiting import PATIENCE


def readings(count, first=0):
    """Readings of one row each, one second apart."""
    made = []
    for i in range(first, first + count):
        figures = Figures()
        figures.add("edgeml.model.rows", 1)
        made.append(Reading((("service.name", "edgeml"),), 1000.0 + i, 1001.0 + i, figures))
    return made


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch):
    monkeypatch.setattr(otlp_send, "FIRST_SECONDS", 0.001)
    monkeypatch.setattr(otlp_send, "MOST_SECONDS", 0.001)


@pytest.fixture
def send(request):
    """A function of (receiver, readings, **options of settings) that sends once and gives the outcome."""

    def attempt(receiver, what, **options):
        sender = Sender(settings(receiver.url, environment={}, **options))
        try:
            return sender.send(what)
        finally:
            sender.close()

    return attempt


def test_a_message_as_the_specification_has_it(send):
    with Receiver() as receiver:
        assert send(receiver, readings(2), headers={"Authorization": "Bearer x"}).result == "taken"
    ((path, headers, body),) = receiver.requests
    assert path == "/v1/metrics"
    assert headers["Content-Type"] == "application/x-protobuf"
    assert headers["Content-Encoding"] == "gzip"
    assert headers["Authorization"] == "Bearer x"
    assert headers["User-Agent"].startswith("edgeml/")
    assert gzip.decompress(body)
    assert receiver.total("edgeml.model.rows") == 2


def test_without_compression():
    with Receiver() as receiver:
        sender = Sender(settings(receiver.url, environment={"OTEL_EXPORTER_OTLP_COMPRESSION": "none"}))
        assert sender.send(readings(1)).result == "taken"
        sender.close()
    assert "Content-Encoding" not in receiver.requests[0][1]


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_may_be_sent_again(send, status):
    with Receiver([(status, {"Retry-After": "7"}, b"")]) as receiver:
        outcome = send(receiver, readings(1))
    assert (outcome.result, outcome.wait) == ("retry", 7.0)


@pytest.mark.parametrize("status", [301, 307, 400, 401, 403, 404, 415, 500, 501])
def test_what_would_fail_again(send, status):
    with Receiver([(status, {"Location": "http://127.0.0.1:1/"}, b"no such tenant\x07")]) as receiver:
        outcome = send(receiver, readings(1))
    assert outcome.result == "dropped"
    assert f"HTTP {status}" in outcome.reason
    assert "no such tenant" in outcome.reason
    assert outcome.reason.isprintable()
    assert len(receiver.requests) == 1  # no redirect was followed


@pytest.mark.parametrize("answer", [None, "closed"])
def test_no_answer_is_tried_again(send, answer):
    if answer is None:
        with Receiver([None]) as receiver:
            assert send(receiver, readings(1)).result == "retry"
    else:
        receiver = type("Nobody", (), {"url": f"http://127.0.0.1:{free_port()}"})
        assert send(receiver, readings(1)).result == "retry"


def test_partial_success_is_said_and_counted(send, caplog):
    partial = ExportMetricsPartialSuccess(rejected_data_points=3, error_message="too old")
    answers = [(200, {}, ExportMetricsServiceResponse(partial_success=partial))]
    with caplog.at_level(logging.WARNING), Receiver(answers) as receiver:
        exporter = Exporter(settings(receiver.url, environment={}))
        exporter.put(readings(4))
        assert exporter.flush(PATIENCE)
        exporter.close()
    assert exporter.counts["sent"] == 4
    assert exporter.counts["rejected"] == 3
    assert "too old" in caplog.text
    assert len(receiver.requests) == 1  # what was taken in part must not come again


def test_an_answer_in_another_form_is_an_answer(send):
    with Receiver([(200, {"Content-Type": "application/json"}, b'{"partialSuccess":{}}')]) as receiver:
        assert send(receiver, readings(1)).result == "taken"


def test_the_exporter_tries_again_and_sends_each_reading_once():
    answers = [(503, {"Retry-After": "0"}, b""), None, (429, {}, b"")]
    with Receiver(answers) as receiver:
        exporter = Exporter(settings(receiver.url, environment={}))
        exporter.put(readings(3))
        assert exporter.flush(PATIENCE)
        exporter.close()
    assert len(receiver.points) == 3
    assert (exporter.counts["sent"], exporter.counts["retries"], exporter.counts["dropped"]) == (3, 3, 0)


def test_a_message_too_large_is_halved_until_it_fits():
    answers = [(413, {}, b"")] * 3  # 4, then 2, then 1 of the first half: that one alone is too large
    with Receiver(answers) as receiver:
        exporter = Exporter(settings(receiver.url, environment={}))
        exporter.put(readings(4))
        assert exporter.flush(PATIENCE)
        exporter.close()
    assert (exporter.counts["sent"], exporter.counts["dropped"]) == (3, 1)
    assert receiver.total("edgeml.model.rows") == 3


def test_a_full_queue_lets_the_oldest_go_and_nobody_waits():
    with Receiver([(503, {"Retry-After": "3600"}, b"")]) as receiver:
        exporter = Exporter(settings(receiver.url, environment={}), limit=5)
        exporter.put(readings(1))
        receiver.wait(lambda: len(receiver.requests) == 1)  # it waits for an hour now, with one in hand
        exporter.put(readings(20, first=1))
        status = exporter.status()
        assert (status["queued"], status["overflowed"]) == (5, 15)
        assert [reading.start for reading in exporter._queue] == [1016.0, 1017.0, 1018.0, 1019.0, 1020.0]
        exporter.close(timeout=0.01)
    assert exporter.counts["dropped"] == 6
    assert not [t for t in threading.enumerate() if t.name == "edgeml-otlp"]


def test_a_reading_that_cannot_be_made_harms_no_other():
    with Receiver() as receiver:
        exporter = Exporter(settings(receiver.url, environment={}))
        exporter.put([lambda: 1 / 0, *readings(1), lambda: None, lambda: readings(1, first=5)[0]])
        assert exporter.flush(PATIENCE)
        exporter.close()
    assert exporter.counts["unreadable"] == 1
    assert receiver.total("edgeml.model.rows") == 2


def test_cumulative_totals_survive_a_message_that_was_dropped():
    with Receiver([(400, {}, b"")]) as receiver:
        exporter = Exporter(settings(receiver.url, environment={}, temporality="cumulative"))
        for i in range(2):
            exporter.put(readings(1, first=i))
            assert exporter.flush(PATIENCE)
        exporter.close()
    ((_, temporality, _, _, value),) = receiver.points.values()
    assert (temporality, value) == ("cumulative", 2)


# --- TLS -------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Certificate and key of 127.0.0.1, signed by itself: also the authority, and a client's own."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "edgeml test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    pem, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, pem, plain))
    return folder / "cert.pem", folder / "key.pem"


def _server_context(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    context.load_verify_locations(certificate[0])
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def test_tls_with_an_authority_and_a_client_certificate(send, certificate):
    cert, key = (str(path) for path in certificate)
    with Receiver(context=_server_context(certificate)) as receiver:
        assert send(receiver, readings(1), ca=cert, cert=cert, key=key).result == "taken"
        assert send(receiver, readings(1)).result == "retry"  # an authority it does not know
        assert "CERTIFICATE" in send(receiver, readings(1)).reason.upper()


# --- settings --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("url", "whole"),
    [
        ("http://c:4318", "http://c:4318/v1/metrics"),
        ("http://c:4318/", "http://c:4318/v1/metrics"),
        ("https://c/otlp", "https://c/otlp/v1/metrics"),
        ("https://c/otlp/v1/metrics", "https://c/otlp/v1/metrics"),
    ],
)
def test_the_url_is_a_collectors_address(url, whole):
    assert settings(url, environment={}).url == whole
    assert settings(None, environment={"OTEL_EXPORTER_OTLP_ENDPOINT": url}).url == whole


def test_opentelemetrys_own_variables():
    found = settings(
        "http://c",
        environment={
            "OTEL_EXPORTER_OTLP_HEADERS": "a=1,api-key=x%20y",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "2500",
            "OTEL_METRIC_EXPORT_INTERVAL": "500",
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "Cumulative",
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://other/exactly",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=lab,site=B%C3%A2le",
            "OTEL_SERVICE_NAME": "pumps",
        },
    )
    assert found.url == "http://c/v1/metrics"  # what was asked for by name comes first
    assert found.headers == {"a": "1", "api-key": "x y"}
    assert (found.timeout, found.interval, found.temporality) == (2.5, 0.5, "cumulative")
    assert found.attributes == {"deployment.environment.name": "lab", "site": "Bâle", "service.name": "pumps"}
    assert "x y" not in repr(found)
    whole = {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://other/exactly"}
    assert settings(None, environment=whole).url == "http://other/exactly"


@pytest.mark.parametrize(
    ("url", "more"),
    [
        (None, {}),
        ("ftp://c", {}),
        ("c:4318", {}),
        ("http://", {}),
        ("http://c:99999", {}),
        ("http://user:secret@c", {}),
        ("http://c", {"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "sometimes"}),
        ("http://c", {"OTEL_EXPORTER_OTLP_HEADERS": "novalue"}),
        ("http://c", {"OTEL_EXPORTER_OTLP_HEADERS": "a=b%0d%0ac: d"}),
        ("http://c", {"OTEL_EXPORTER_OTLP_TIMEOUT": "soon"}),
        ("http://c", {"OTEL_METRIC_EXPORT_INTERVAL": "0"}),
        ("http://c", {"OTEL_EXPORTER_OTLP_CERTIFICATE": "/no/such/file"}),
    ],
)
def test_settings_that_are_refused(url, more):
    with pytest.raises(OtlpError) as caught:
        settings(url, environment=more)
    assert caught.value.remedy
    assert "secret" not in str(caught.value)


def test_headers_of_a_command_line():
    assert parse_header("Authorization=Bearer a=b") == ("Authorization", "Bearer a=b")
    for wrong in ("nothing", "=x", "a=b\nc"):
        with pytest.raises(OtlpError):
            parse_header(wrong)


# --- a real collector ------------------------------------------------------------------------------------------------
@pytest.mark.skipif(rotel() is None, reason="the collector is not installed: pip install rotel")
@pytest.mark.parametrize("temporality", ["delta", "cumulative"])
def test_a_real_collector_takes_every_figure(profile, temporality):
    import numpy as np

    from edgeml.telemetry.otlp import reading_of

    seen = {"age": np.array([1.0, 40.0, np.nan, np.inf]), "town": np.array(["Bern", "Oslo", None], dtype=object)}
    feedback = {"rows": 1, "correct": 0, "unmatched": 2, "confusion": {"Zürich": {"no": 1}}}
    window = window_of(
        profile, seen, system={"cpu_percent": 5.0}, feedback=feedback, latency={"one": [3, 4], "batch": []}
    )
    reading = reading_of(window, profile, resource_of(window, device="a" * 32, stream="b" * 32))
    expected = {key: (p[0], p[1], p[2], p[4]) for key, p in points_of([reading], temporality).items()}
    with Receiver() as receiver, collector(receiver) as url:
        exporter = Exporter(settings(url, environment={}, temporality=temporality))
        exporter.put([reading])
        assert exporter.flush(PATIENCE)
        exporter.close()
        assert exporter.counts["sent"] == 1
        receiver.wait(lambda: len(receiver.points) >= len(expected))
    found = {(n, a): (p[0], p[1], p[2], p[4]) for (_, n, a, _), p in receiver.points.items()}
    assert found == expected
    assert {key[0] for key in receiver.points} == {reading.resource}

"""Receivers of OTLP/HTTP for the tests: a strict one of ours, and a real collector that passes on what it takes.

``Receiver`` parses with OpenTelemetry's own messages and refuses whatever the data model forbids; tests read its
``points``. ``collector`` starts Rotel, a collector that PyPI ships as a binary, in front of a ``Receiver``.
"""

import contextlib
import gzip
import importlib.util
import socket
import subprocess
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AGGREGATION_TEMPORALITY_CUMULATIVE,
    AGGREGATION_TEMPORALITY_DELTA,
)

from tests.ports import free_port
from tests.waiting import PATIENCE

TEMPORALITY = {AGGREGATION_TEMPORALITY_DELTA: "delta", AGGREGATION_TEMPORALITY_CUMULATIVE: "cumulative"}


def rotel():
    """The path of the collector's binary, or None where its package is not installed."""
    found = importlib.util.find_spec("rotel")
    path = Path(found.submodule_search_locations[0]) / "rotel-agent" if found else None
    return path if path is not None and path.exists() else None


def _plain(attributes):
    pairs = [(a.key, getattr(a.value, a.value.WhichOneof("value"))) for a in attributes]
    assert len(dict(pairs)) == len(pairs), f"an attribute stands twice: {pairs}"
    return tuple(sorted(pairs))


def _known(message):
    """No field that OpenTelemetry does not know, anywhere in a message."""
    assert not len(UnknownFieldSet(message)), message
    for field, value in message.ListFields():
        if field.message_type:
            for part in value if field.is_repeated else [value]:
                _known(part)


def read(request):
    """Points of a request: (resource, metric, attributes, end) -> (kind, temporality, start, value). Raises
    AssertionError where the data model forbids something.
    """
    points = {}
    _known(request)
    for block in request.resource_metrics:
        resource = _plain(block.resource.attributes)
        for scope in block.scope_metrics:
            assert scope.scope.name == "edgeml"
            assert scope.scope.version
            names = [m.name for m in scope.metrics]
            assert len(set(names)) == len(names), "a metric stands twice"
            for metric in scope.metrics:
                for end, attributes, point in _points(metric):
                    key = (resource, metric.name, attributes, end)
                    assert key not in points, f"a point stands twice: {key}"
                    points[key] = point
    return points


def _points(metric):
    kind = metric.WhichOneof("data")
    data = getattr(metric, kind)
    assert metric.unit
    assert metric.description
    temporality = None if kind == "gauge" else TEMPORALITY[data.aggregation_temporality]
    for point in data.data_points:
        assert 0 < point.time_unix_nano < 2**63
        assert kind == "gauge" or 0 <= point.start_time_unix_nano <= point.time_unix_nano
        if kind == "histogram":
            bounds = list(point.explicit_bounds)
            assert all(a < b for a, b in pairwise(bounds)), bounds
            assert len(point.bucket_counts) == len(bounds) + 1
            assert point.count == sum(point.bucket_counts)
            assert not point.HasField("sum")
            value = (tuple(bounds), tuple(point.bucket_counts))
        else:
            value = getattr(point, point.WhichOneof("value"))
            assert kind == "gauge" or not data.is_monotonic or value >= 0
        monotonic = data.is_monotonic if kind == "sum" else None
        yield point.time_unix_nano, _plain(point.attributes), (kind, temporality, monotonic, point, value)


class Receiver:
    """``points`` of everything taken, by (resource, metric, attributes, end). ``answers`` are given first, one a
    request: (status, headers, body), or None to cut the connection; then 200.
    """

    def __init__(self, answers=(), context=None):
        self.answers, self.points, self.problems, self.requests = list(answers), {}, [], []
        self.changed = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30

            def do_POST(self):
                receiver._take(self)

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if context is not None:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.url = f"{'http' if context is None else 'https'}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()
        assert not self.problems, self.problems

    def _take(self, handler):
        length = int(handler.headers["Content-Length"])
        body = handler.rfile.read(length)
        with self.changed:
            self.requests.append((handler.path, dict(handler.headers), body))
            answer = self.answers.pop(0) if self.answers else (200, {}, ExportMetricsServiceResponse())
            if answer is not None and answer[0] == 200:
                try:
                    assert handler.path == "/v1/metrics"
                    assert handler.headers["Content-Type"] == "application/x-protobuf"
                    if handler.headers["Content-Encoding"] == "gzip":
                        body = gzip.decompress(body)
                    found = read(ExportMetricsServiceRequest.FromString(body))
                    assert not set(found) & set(self.points), "a point came again"
                    self.points.update(found)
                except Exception as error:  # whatever is wrong is for the test's thread to raise, at the end
                    self.problems.append(repr(error))
            self.changed.notify_all()
        if answer is None:
            handler.close_connection = True
            return
        status, headers, content = answer
        content = content if isinstance(content, bytes) else content.SerializeToString()
        handler.send_response(status)
        for name, value in {"Content-Type": "application/x-protobuf", **headers}.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    def wait(self, condition, timeout=PATIENCE):
        """Until ``condition()`` holds, asked after every request."""
        with self.changed:
            assert self.changed.wait_for(condition, timeout), (len(self.requests), len(self.points), self.problems)

    def values(self):
        """{(metric, attributes without the resource's): value}, of points that are one to each."""
        return {(name, attributes): point[-1] for (_, name, attributes, _), point in self.points.items()}

    def total(self, name, **attributes):
        """The sum of a metric's values over all points with these attributes, dots written as two underscores."""
        wanted = {(key.replace("__", "."), value) for key, value in attributes.items()}
        return sum(p[-1] for (_, n, found, _), p in self.points.items() if n == name and wanted <= set(found))


@contextlib.contextmanager
def collector(receiver):
    """The URL of a real collector that passes all on to ``receiver``."""
    http, grpc = free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder, open(Path(folder) / "out", "w+b") as out:
        command = [
            str(rotel()), "start", "--otlp-http-endpoint", f"127.0.0.1:{http}",
            "--otlp-grpc-endpoint", f"127.0.0.1:{grpc}", "--pid-file", f"{folder}/pid", "--log-file", f"{folder}/log",
            "--exporter", "otlp", "--otlp-exporter-protocol", "http", "--otlp-exporter-endpoint", receiver.url,
            "--batch-timeout", "100ms",
        ]  # fmt: skip
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        try:
            deadline = time.monotonic() + PATIENCE
            while True:
                try:
                    socket.create_connection(("127.0.0.1", http), timeout=1).close()
                    break
                except OSError:
                    out.seek(0)
                    assert process.poll() is None, out.read().decode()
                    assert time.monotonic() < deadline, out.read().decode()
                    time.sleep(0.02)
            yield f"http://127.0.0.1:{http}"
        finally:
            process.kill()  # told to end, it would take five seconds; it has nothing left to pass on
            process.wait(PATIENCE)

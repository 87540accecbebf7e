"""A collector on loopback: takes OTLP over HTTP, and keeps what came, as bytes and decoded."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector:
    """What a collector got. ``status``: what it answers; ``hangs``: it does not answer until the test is over."""

    def __init__(self) -> None:
        self.status, self.hangs = 200, False
        self.url = ""
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.spans: list[Span] = []
        self.metrics: list[dict[str, Metric]] = []
        self.resources: list[dict[str, str]] = []
        self.over = threading.Event()

    def take(self, path: str, headers: dict[str, str], body: bytes) -> None:
        body = gzip.decompress(body) if headers.get("Content-Encoding") == "gzip" else body
        self.bodies.append(body)
        self.headers.append(headers)
        if path.endswith("/v1/traces"):
            for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resources.append({each.key: each.value.string_value for each in of_resource.resource.attributes})
                self.spans += [span for scope in of_resource.scope_spans for span in scope.spans]
        else:
            assert path.endswith("/v1/metrics")
            for measured in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                self.metrics.append({each.name: each for scope in measured.scope_metrics for each in scope.metrics})

    def ways(self) -> list[tuple[Span, list[Span]]]:
        """The outer span of each trace, with those in it by time."""
        outer = [span for span in self.spans if not span.parent_span_id]
        return [
            (
                root,
                sorted(
                    (each for each in self.spans if each.parent_span_id == root.span_id),
                    key=lambda span: span.start_time_unix_nano,
                ),
            )
            for root in outer
        ]


def attributes(span: Span) -> dict[str, str]:
    return {each.key: each.value.string_value for each in span.attributes}


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if collector.hangs:
                collector.over.wait()
                return
            if collector.status == 200:
                collector.take(self.path, dict(self.headers), body)
            self.send_response(collector.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield collector
    finally:
        collector.over.set()
        server.shutdown()
        thread.join()
        server.server_close()

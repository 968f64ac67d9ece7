"""A collector of OpenTelemetry spans: takes OTLP over HTTP and keeps what came."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

_WAIT_S = 20.0


@dataclass(frozen=True)
class Span:
    """A span as it came, with the resource it came from; ids in hexadecimal, times in nanoseconds since 1970."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    state: str
    start_ns: int
    end_ns: int
    status: int
    message: str
    attributes: Mapping[str, Any]
    events: Mapping[str, int]
    resource: Mapping[str, Any]


@dataclass
class Collector:
    """What came so far. While `answers` is not 200, everything is refused with it."""

    url: str
    spans: list[Span] = field(default_factory=list)
    answers: int = 200
    refused: threading.Event = field(default_factory=threading.Event)

    def wait_for(self, count: int) -> list[Span]:
        """The spans, once there are so many."""
        deadline = time.monotonic() + _WAIT_S
        while len(self.spans) < count:
            assert time.monotonic() < deadline, f"{len(self.spans)} spans, not {count}"
            time.sleep(0.01)
        return list(self.spans)


@contextmanager
def collect() -> Iterator[Collector]:
    """A collector on a port of its own, until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if collector.answers == 200 and self.path == "/v1/traces":
                collector.spans += _spans(ExportTraceServiceRequest.FromString(body))
            else:
                collector.refused.set()
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(collector.answers)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector = Collector(f"http://127.0.0.1:{server.server_address[1]}/v1/traces")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _spans(request: ExportTraceServiceRequest) -> Iterator[Span]:
    for whose in request.resource_spans:
        resource = _attributes(whose.resource.attributes)
        for scope in whose.scope_spans:
            for span in scope.spans:
                yield Span(
                    span.name,
                    span.kind,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.trace_state,
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    span.status.code,
                    span.status.message,
                    _attributes(span.attributes),
                    {event.name: event.time_unix_nano for event in span.events},
                    resource,
                )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}

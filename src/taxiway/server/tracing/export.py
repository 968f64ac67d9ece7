"""Mode `opentelemetry`: sends spans to a collector over OTLP/HTTP, from a thread.

OpenTelemetry's packages (the extra `otel`) are imported on that thread, once there is something to send.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from functools import cached_property

from taxiway.core.clock import Clock
from taxiway.core.errors import FailedPrecondition, Unavailable
from taxiway.server.tracing.context import read_parent
from taxiway.server.tracing.outbox import Outbox
from taxiway.server.tracing.trace import Origin, Trace
from taxiway.telemetry.render import Point

_TIMEOUT_S = 5.0
"""For one batch, with what is tried again."""


class SpanExport:
    """Sends the spans of traces to `endpoint`.

    Raises:
        FailedPrecondition: the packages are not installed.
    """

    heeds_callers = True

    def __init__(self, endpoint: str, clock: Clock) -> None:
        if not _is_installed():
            raise FailedPrecondition(
                "trace mode 'opentelemetry' needs packages that are not installed", hint="pip install 'taxiway[otel]'"
            )
        self._endpoint = endpoint
        self._clock = clock
        self._outbox = Outbox("opentelemetry", self._write)

    def wanted(self, origin: Origin) -> bool | None:
        """As the caller's own tracing decided; it says nothing if it has none."""
        parent = read_parent(origin.headers)
        return None if parent is None else parent.is_sampled

    def put(self, trace: Trace) -> None:
        """Have it sent soon."""
        self._outbox.put(trace)

    def points(self) -> Iterator[Point]:
        """As `Outbox.points`."""
        return self._outbox.points()

    def close(self, timeout_s: float) -> None:
        """As `Outbox.close`; a collector that does not answer is left."""
        self._outbox.close(timeout_s)

    def _write(self, traces: Sequence[Trace]) -> None:
        if not self._sender.send(traces):
            raise Unavailable(f"the collector at {self._endpoint} took no spans", hint="trace.endpoint names it")

    @cached_property
    def _sender(self) -> _Sender:
        return _Sender(self._endpoint, self._clock)


class _Sender:
    """What sends, made on the thread that does."""

    def __init__(self, endpoint: str, clock: Clock) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - an extra, 100 ms to import
            OTLPSpanExporter,
        )

        from taxiway.server.tracing.spans import SpanMaker  # noqa: PLC0415 - likewise

        self._exporter = OTLPSpanExporter(endpoint, timeout=_TIMEOUT_S)
        self._maker = SpanMaker(round(clock.now_utc().timestamp() * 1e9) - clock.monotonic_ns())

    def send(self, traces: Sequence[Trace]) -> bool:
        """Whether the collector took them."""
        spans = [span for trace in traces for span in self._maker.spans(trace)]
        return self._exporter.export(spans).name == "SUCCESS"


def _is_installed() -> bool:
    try:
        return importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http.trace_exporter") is not None
    except ModuleNotFoundError:
        return False

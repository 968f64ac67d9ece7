"""From traces to OpenTelemetry's spans. Needs the extra `otel`: only `export.py` imports it, where spans are made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from taxiway import __version__
from taxiway.server.tracing.context import ParentContext, read_parent
from taxiway.server.tracing.trace import Trace

Attributes = dict[str, str | int]
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


class _Phase(NamedTuple):
    """A part of a request's time, with what happened at moments of it."""

    name: str
    start_ns: int
    end_ns: int
    attributes: Attributes
    events: dict[str, int]


class SpanMaker:
    """Turns traces into spans: the request as its caller sees it, and in it its wait, its run, its answer's way out.

    Args:
        epoch_ns: added to monotonic times, it gives nanoseconds since 1970.
    """

    def __init__(self, epoch_ns: int) -> None:
        self._epoch_ns = epoch_ns
        self._ids = RandomIdGenerator()
        self._scope = InstrumentationScope("taxiway", __version__)
        self._resource = _resource()

    def spans(self, trace: Trace) -> Iterator[ReadableSpan]:
        """The spans of one request, the whole first."""
        parent = self._parent(trace)
        root = self._identity(trace)
        yield self._root(trace, root, parent)
        for phase in _phases(trace):
            yield ReadableSpan(
                phase.name,
                self._context(root.trace_id, root),
                root,
                self._resource,
                phase.attributes,
                [Event(name, timestamp=at_ns + self._epoch_ns) for name, at_ns in phase.events.items()],
                start_time=phase.start_ns + self._epoch_ns,
                end_time=phase.end_ns + self._epoch_ns,
                instrumentation_scope=self._scope,
            )

    def _root(self, trace: Trace, context: SpanContext, parent: SpanContext | None) -> ReadableSpan:
        attributes: Attributes = {
            **trace.origin.attributes,
            "triton.model_name": trace.model,
            "triton.model_version": trace.version,
            "taxiway.request.rows": trace.rows,
        }
        if trace.request_id:
            attributes["triton.request_id"] = trace.request_id
        status = Status(StatusCode.UNSET)
        if trace.is_cancelled:
            status = Status(StatusCode.ERROR, "the client went away")
            attributes["error.type"] = "cancelled"
        elif trace.error is not None:
            status = Status(StatusCode.ERROR, trace.error.message)
            attributes["error.type"] = trace.error.code
        return ReadableSpan(
            trace.origin.name or f"infer {trace.model}",
            context,
            parent,
            self._resource,
            attributes,
            kind=SpanKind.SERVER if trace.parent is None else SpanKind.INTERNAL,
            status=status,
            start_time=trace.received_ns + self._epoch_ns,
            end_time=max(trace.answered_ns, trace.sent_ns) + self._epoch_ns,
            instrumentation_scope=self._scope,
        )

    def _parent(self, trace: Trace) -> SpanContext | None:
        """What a request is part of: the one that it was made for, or what its caller says."""
        if trace.parent is not None:
            return self._identity(trace.parent)
        told = read_parent(trace.origin.headers)
        return None if told is None else _remote(told)

    def _identity(self, trace: Trace) -> SpanContext:
        """The identity of a request's span: those that it makes end before it, and must know."""
        if trace.identity is None:
            trace.identity = self._context(trace.trace_id, self._parent(trace))
        identity: SpanContext = trace.identity
        return identity

    def _context(self, trace_id: int, parent: SpanContext | None) -> SpanContext:
        """A new span's identity in this trace."""
        state = None if parent is None else parent.trace_state
        span_id = self._ids.generate_span_id()
        return SpanContext(trace_id, span_id, is_remote=False, trace_flags=_SAMPLED, trace_state=state)


def _phases(trace: Trace) -> Iterator[_Phase]:
    run = trace.run
    if run is not None:
        yield _Phase("queue", trace.started_ns, run.started_ns, {}, {})
        company: Attributes = {"taxiway.batch.requests": run.requests, "taxiway.batch.rows": run.rows}
        moments = {"compute_input_end": run.input_end_ns, "compute_output_start": run.output_start_ns}
        yield _Phase("compute", run.started_ns, run.finished_ns, company, moments)
    elif trace.error is not None or trace.is_cancelled:
        yield _Phase("queue", trace.started_ns, trace.answered_ns, {}, {})
    if trace.first_ns:
        yield _Phase("stream", trace.first_ns, trace.answered_ns, {}, {})
    if trace.sent_ns and trace.parent is None:
        yield _Phase("respond", trace.answered_ns, trace.sent_ns, {}, {})


def _remote(parent: ParentContext) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED if parent.is_sampled else TraceFlags.DEFAULT)
    state = TraceState.from_header([parent.state])
    return SpanContext(parent.trace_id, parent.span_id, is_remote=True, trace_flags=flags, trace_state=state)


def _resource() -> Resource:
    """Who sends the spans: as OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say, else "taxiway"."""
    resource = Resource.create()
    if str(resource.attributes.get("service.name", "")).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": "taxiway"}))
    return Resource({"service.version": __version__}).merge(resource)

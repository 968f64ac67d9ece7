"""Follows the requests that one plan chooses, from the queue's door to their answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

from taxiway.config.model_spec import ModelSpec
from taxiway.core.clock import Clock
from taxiway.core.errors import TaxiwayError
from taxiway.core.requests import BatchResult, InferRequest, Responder, StreamResponder
from taxiway.server.tracing.plan import TracePlan
from taxiway.server.tracing.sampler import Sampler
from taxiway.server.tracing.tensors import inputs_of, outputs_of
from taxiway.server.tracing.trace import Origin, Sink, Trace

Originate = Callable[[InferRequest], Origin]
"""How a request came in; asked only of those that may be traced."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What all tracers of a process share: time, the event loop, and the numbers of traces."""

    clock: Clock
    loop: asyncio.AbstractEventLoop
    ids: Iterator[int]


class Tracer:
    """Chooses requests by one plan and notes what happens to them."""

    def __init__(self, plan: TracePlan, sink: Sink, ground: Ground) -> None:
        self.plan = plan
        self.sampler = Sampler(plan)
        self._sink = sink
        self._ground = ground
        self.now_ns = ground.clock.monotonic_ns

    def begin(self, request: InferRequest, originate: Originate, spec: ModelSpec, version: int) -> Trace | None:
        """Follow a request that is about to be handed over, if it is chosen."""
        wanted = self._sink.wanted(originate(request)) if self._sink.heeds_callers else None
        if not self.sampler.take(wanted):
            return None
        return self.follow(request, spec, version, originate(request), None)

    def follow(
        self, request: InferRequest, spec: ModelSpec, version: int, origin: Origin, parent: Trace | None
    ) -> Trace:
        """Follow a request that is about to be handed over; `parent` is the trace of the one that it is made for."""
        number = next(self._ground.ids)
        trace = Trace(number, self.plan, spec.name, version, request, origin, self, parent)
        if self.plan.keeps_tensors:
            trace.tensors += inputs_of(request, spec.inputs)
        request.trace = trace
        request.responder = _Following(request.responder, trace, spec)
        return trace

    def close(self, trace: Trace) -> None:
        """In a turn of its own: the times of its run are told after its answer."""
        self._ground.loop.call_soon(self._close, trace)

    def _close(self, trace: Trace) -> None:
        if not trace.is_closed:
            trace.is_closed = True
            self._exemplify(trace)
            self._sink.put(trace)

    def _exemplify(self, trace: Trace) -> None:
        """Where it is looked up by its id, and was answered."""
        answered = trace.sent_ns and trace.error is None and not trace.is_cancelled
        if trace.exemplify is not None and self._sink.heeds_callers and answered:
            trace.exemplify(trace.trace_id, trace.sent_ns - trace.received_ns)


class _Following:
    """Stands before whoever waits for the answer, and notes when it came."""

    __slots__ = ("_responder", "_spec", "_trace")

    def __init__(self, responder: Responder, trace: Trace, spec: ModelSpec) -> None:
        self._responder = responder
        self._trace = trace
        self._spec = spec

    def part(self, request: InferRequest, answer: BatchResult | TaxiwayError) -> None:
        """Note when the first came, and what was in it; pass all on."""
        trace = self._trace
        if not trace.first_ns:
            trace.answer_first()
            if trace.plan.keeps_tensors and isinstance(answer, BatchResult):
                trace.tensors += outputs_of(answer, 0, answer.rows, self._spec.outputs, batches=False)
        cast("StreamResponder", self._responder).part(request, answer)

    def resolve(self, request: InferRequest, result: BatchResult, start: int, stop: int) -> None:
        """Note it, and pass it on."""
        trace = self._trace
        trace.answer()
        self._tell(lambda: self._responder.resolve(request, result, start, stop))
        if trace.plan.keeps_tensors and not trace.first_ns:
            batches = self._spec.max_batch_size > 0
            trace.tensors += outputs_of(result, start, stop, self._spec.outputs, batches=batches)

    def reject(self, request: InferRequest, error: TaxiwayError) -> None:
        """Note it, and pass it on."""
        self._trace.answer(error)
        self._tell(lambda: self._responder.reject(request, error))

    def _tell(self, tell: Callable[[], None]) -> None:
        """Have the answer worded; what another request makes of it is no part of this one."""
        trace = self._trace
        if trace.parent is not None:
            trace.sent()
            tell()
            return
        try:
            tell()
        finally:
            trace.sent()

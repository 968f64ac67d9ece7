"""The shell of an ensemble: takes its requests in, lets each pass, and hands out what comes of it.

It runs on one event loop and is not thread-safe. It keeps no queue of its own: steps wait in their models' queues.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from taxiway.config.model_spec import ModelSpec
from taxiway.core.clock import Clock
from taxiway.core.errors import (
    DeadlineExceeded,
    InternalError,
    ModelFailed,
    Overloaded,
    TaxiwayError,
    Unavailable,
)
from taxiway.core.ports import BatchOutcome, InnerCaller
from taxiway.core.requests import (
    NEVER_NS,
    NO_MORE,
    BatchResult,
    InferRequest,
    RequestState,
    StreamResponder,
)
from taxiway.server.batching.answers import late_error
from taxiway.server.batching.loop import Observer, reason_of
from taxiway.server.composing.passage import Passage, Works
from taxiway.server.composing.plan import Plan
from taxiway.server.composing.slots import Slots
from taxiway.server.composing.tensors import TensorCodec

_RUNNING, _DONE = RequestState.RUNNING, RequestState.DONE


class EnsembleFront:
    """Answers the requests for one version of an ensemble; the engine behind its front as well.

    Args:
        inner: has its models asked.
        observer: told how each request ended, as if all its steps had been one run.
        expire_running: answer a request at its deadline, whatever its steps do.
    """

    def __init__(
        self,
        spec: ModelSpec,
        plan: Plan,
        inner: InnerCaller,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        observer: Observer,
        *,
        expire_running: bool,
    ) -> None:
        slots = tuple(Slots(plan.max_inflight) for _ in plan.steps)
        self._works = Works(spec.name, plan, TensorCodec(spec), inner, slots)
        self._now_ns = clock.monotonic_ns
        self._loop = loop
        self._observer = observer
        self._expire_running = expire_running
        self._passages: dict[InferRequest, Passage] = {}
        self._is_closed = False
        self._settlers: list[asyncio.Future[None]] = []

    # --- the version's front ------------------------------------------------------------------------------

    def submit(self, request: InferRequest) -> None:
        """Take a NEW request; what it is answered may come before this returns.

        Raises:
            Unavailable: closed.
        """
        if self._is_closed:
            self._observer.rejected(request, "unavailable")
        self.readmit(request)

    def readmit(self, request: InferRequest) -> None:
        """Likewise, for a front that owes its callers an answer; nobody is told of a refusal."""
        if self._is_closed:
            raise Unavailable("this model version is unavailable and takes no requests", hint="retry shortly")
        now_ns = self._now_ns()
        request.state = _RUNNING
        passage = self._passages[request] = Passage(self._works, request, self, now_ns)
        if self._expire_running and request.deadline_ns != NEVER_NS:
            left_s = max(0, request.deadline_ns - now_ns) / 1e9
            passage.timer = self._loop.call_later(left_s, self._expire, passage)
        passage.begin()

    def cancel(self, request: InferRequest) -> bool:
        """Take a request back, and what it has asked; its responder is not called any more."""
        passage = self._passages.get(request)
        if passage is None:
            return False
        passage.stop()
        self._forget(passage)
        self._observer.cancelled(request)
        return False

    def close(self) -> None:
        """Take nothing new. What is inside goes on, as long as its models answer."""
        self._is_closed = True

    # --- the engine ---------------------------------------------------------------------------------------

    async def settle(self) -> None:
        """Return when everything accepted is answered."""
        while self._passages:
            done = self._loop.create_future()
            self._settlers.append(done)
            await done

    def depth(self) -> tuple[int, int, int]:
        """Steps that wait for a slot; their rows and bytes are counted where they wait to run."""
        return sum(slots.waiting for slots in self._works.slots), 0, 0

    def running(self) -> int:
        """Requests inside."""
        return len(self._passages)

    def running_since_ns(self) -> int:
        """Never: whether its models make progress is told of them."""
        return NEVER_NS

    def trouble(self) -> None:
        """None: trouble is its models' too."""

    # --- what comes of a passage --------------------------------------------------------------------------

    def told(self, passage: Passage, answer: BatchResult, *, last: bool) -> None:
        """An answer."""
        request = passage.request
        if not last:
            responder = cast("StreamResponder", request.responder)
            self._safely(lambda: responder.part(request, answer))
            return
        self._forget(passage)
        self._safely(lambda: request.responder.resolve(request, answer, 0, answer.rows))
        self._count(passage, result=answer)

    def finished(self, passage: Passage) -> None:
        """There are no more."""
        request = passage.request
        self._forget(passage)
        self._safely(lambda: request.responder.resolve(request, NO_MORE, 0, 0))
        self._count(passage, result=BatchResult((), (), request.rows))

    def failed(self, passage: Passage, error: TaxiwayError) -> None:
        """There is none."""
        request = passage.request
        self._forget(passage)
        self._safely(lambda: request.responder.reject(request, error))
        if isinstance(error, DeadlineExceeded):
            self._observer.rejected(request, "timeout")
        elif isinstance(error, Overloaded | Unavailable):
            self._observer.rejected(request, reason_of(error))
        else:
            blamed = error if isinstance(error, InternalError) else ModelFailed(error.message)
            self._count(passage, error=blamed)

    def _expire(self, passage: Passage) -> None:
        now_ns = self._now_ns()
        if passage.request.deadline_ns > now_ns:  # the loop rounds to milliseconds, down
            left_s = (passage.request.deadline_ns - now_ns) / 1e9
            passage.timer = self._loop.call_later(left_s, self._expire, passage)
            return
        passage.stop()
        self.failed(passage, late_error(passage.request, now_ns, "while its steps ran"))

    def _forget(self, passage: Passage) -> None:
        passage.request.state = _DONE
        del self._passages[passage.request]
        if not self._passages:
            for done in self._settlers:
                if not done.done():
                    done.set_result(None)
            self._settlers.clear()

    def _count(self, passage: Passage, *, result: BatchResult | None = None, error: TaxiwayError | None = None) -> None:
        finished_ns = self._now_ns()
        outcome = BatchOutcome(started_ns=passage.started_ns, finished_ns=finished_ns, result=result, error=error)
        outcome.infer_ns = finished_ns - passage.started_ns
        self._observer.batch_done([passage.request], outcome, passage.started_ns, ())

    def _safely(self, tell: Callable[[], None]) -> None:
        try:
            tell()
        except Exception as problem:  # noqa: BLE001 - the boundary: one responder must not cost others their answers
            self._loop.call_exception_handler({"message": "composing: a responder failed", "exception": problem})

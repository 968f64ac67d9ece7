"""The shell around queue and policy: takes requests, starts batches, keeps deadlines, hands out answers.

Everything submitted in one turn of the event loop is considered together at the end of that turn. It runs on
one event loop and is not thread-safe.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from functools import partial
from typing import Literal, Protocol

from taxiway.core.clock import Clock
from taxiway.core.errors import Overloaded, TaxiwayError, Unavailable
from taxiway.core.ports import BatchOutcome, Executor
from taxiway.core.requests import NEVER_NS, InferRequest, RequestState
from taxiway.server.batching.alarm import Alarm
from taxiway.server.batching.answers import Answers, OrderedAnswers, late_error, name_errors
from taxiway.server.batching.deadlines import RunningDeadlines
from taxiway.server.batching.plan import BatchingPlan
from taxiway.server.batching.policy import ArrivalRate, Dispatch, decide_batch, predict_wait_ns
from taxiway.server.batching.queue import RequestQueue
from taxiway.server.batching.report import BatcherGauges
from taxiway.stats.latency import LatencyCurve

RejectReason = Literal[
    "timeout",
    "queue_full",
    "queue_rows_full",
    "queue_bytes_full",
    "predicted_late",
    "unavailable",
]
_FULL: dict[object, RejectReason] = {
    "queue.max_rows": "queue_rows_full",
    "queue.max_bytes": "queue_bytes_full",
    "queue.max_wait": "predicted_late",
}
"""By the limit that refused; any other is a number of requests."""
_RUNNING, _DONE = RequestState.RUNNING, RequestState.DONE
_LEARNT_FROM = 8
"""Of the runs of one request alone the curve learns from one in so many: they are many, and much alike."""
_TURN_NS = 2_000_000
"""After so long in one turn (an executor that runs here and now) the loop's other callbacks come first."""


class Observer(Protocol):
    """Whoever counts what happens. Called on the event loop, after the requests concerned were answered."""

    def batch_done(
        self, batch: list[InferRequest], outcome: BatchOutcome, dispatched_ns: int, gone: Collection[InferRequest]
    ) -> None:
        """A batch given to the executor at `dispatched_ns` came back; its errors are TaxiwayErrors.

        Those of it in `gone` got nothing of it: they were told as rejected or cancelled before.
        """

    def rejected(self, request: InferRequest, reason: RejectReason) -> None:
        """A request was refused at the door, or given up in the queue or, if strict, while it ran."""

    def cancelled(self, request: InferRequest) -> None:
        """A caller took its request back before it was answered."""


class Batcher:
    """Batches the requests of one model version.

    Args:
        plan: what is wanted.
        executor: runs the batches; closed by whoever made it.
        clock: monotonic time.
        loop: the event loop everything happens on.
        curve: learns what batches cost.
        observer: told what happened.
        expire_running: answer a request at its deadline even while it runs; its result is then dropped.
    """

    def __init__(
        self,
        plan: BatchingPlan,
        executor: Executor,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        curve: LatencyCurve,
        observer: Observer,
        *,
        expire_running: bool = False,
    ) -> None:
        self._plan = plan
        self._executor = executor
        self._now_ns = clock.monotonic_ns
        self._loop = loop
        self._call_soon = loop.call_soon
        self._curve = curve
        self._observer = observer
        self._queue = RequestQueue(plan, self._predict_wait_ns)
        self._idle = executor.slots
        self._submitting = False
        """An executor that runs a batch here and now calls `_done` from within its `submit`."""
        self._eager = not plan.may_wait
        """Nothing is to be weighed: start at once whatever fits."""
        self._merge_cap = plan.merge_cap
        self._arrivals = ArrivalRate() if plan.objective_p99_ns else None
        self._ordered = plan.preserve_ordering
        self._runs_alone = self._eager and not self._ordered
        self._runs_alone_left = _LEARNT_FROM
        self._answers: Answers = (OrderedAnswers if self._ordered else Answers)(self._report)
        self._running = RunningDeadlines() if expire_running else None
        self._turn_due = False
        self._alarm = Alarm(loop, self._turn)
        self._closed = False
        self._settlers: list[asyncio.Future[None]] = []

    def submit(self, request: InferRequest) -> None:
        """Take a NEW request; its responder is called once, unless it is cancelled.

        On an error the request is still the caller's, and its responder is not called.

        Raises:
            Overloaded: the queue is full.
            Unavailable: closed.
            InvalidArgument: more rows than one run may have.
        """
        if self._closed:
            self._observer.rejected(request, "unavailable")
            raise _unavailable()
        try:
            self._queue.push(request)
        except Overloaded as full:
            self._observer.rejected(request, reason_of(full))
            raise
        if self._arrivals is not None:
            self._arrivals.observe(request.arrived_ns, request.rows)
        if self._ordered:
            self._answers.expect(request)
        if not self._turn_due:  # as _turn_soon does, without a call
            self._turn_due = True
            self._call_soon(self._turn)

    def readmit(self, request: InferRequest) -> None:
        """Take a NEW request in the place of one that was taken before.

        For a front that owes its callers an answer; nobody is told of a refusal, and no order is kept.

        Raises:
            Overloaded: the queue is full.
            Unavailable: closed.
        """
        if self._closed:
            raise _unavailable()
        self._queue.push(request)
        self._turn_soon()

    def run_alone(self, request: InferRequest) -> BatchOutcome | None:
        """Run a NEW request at once and by itself, where nothing is to be gained from company and it is cheap.

        For a door to which requests come one by one, each in a turn of the loop of its own: a queue is then only cost.
        The run is counted as any other is. The outcome is the caller's, and the responder is not called.

        Returns:
            None if it cannot be: nothing was done to the request, which may be submitted.
        """
        if not self._runs_alone or self._closed or self._queue.requests or not self._idle:
            return None
        now_ns = self._now_ns()
        if request.deadline_ns <= now_ns:
            return None
        batch = [request]
        outcome = self._executor.run_here(batch)
        if outcome is None:
            return None
        request.state = _DONE
        if outcome.result is None:
            name_errors(outcome)
        self._runs_alone_left -= 1
        if self._runs_alone_left:
            self._count(batch, outcome, now_ns, ())
        else:
            self._runs_alone_left = _LEARNT_FROM
            self._learn(batch, outcome, now_ns, ())
        return outcome

    def resize(self, more: int) -> None:
        """The executor takes so many runs more at a time than before, or less."""
        self._idle += more
        if more > 0 and self._queue.requests:
            self._turn_soon()

    def cancel(self, request: InferRequest) -> bool:
        """Take a request back; its responder is not called any more. True: it never started."""
        queued = self._queue.cancel(request)
        if not queued:
            if request.state is not _RUNNING:
                return False
            request.state = _DONE
            self._executor.abandon(request)
        self._answers.forget(request)
        self._observer.cancelled(request)
        self._wake_settlers()
        return queued

    async def settle(self) -> None:
        """Wait for no company, and return when everything accepted is answered.

        What still comes is taken: it was on its way here before the routes led elsewhere.
        """
        self._eager = True
        self._turn()
        while not self._is_idle():
            done = self._loop.create_future()
            self._settlers.append(done)
            await done

    def close(self) -> None:
        """Take nothing new and reject what waits. What runs is still answered when it comes back."""
        self._closed = True
        for request in self._queue.take_all():
            self._answers.reject(request, _unavailable())
            self._observer.rejected(request, "unavailable")
        if self._running is None or self._is_idle():
            self._alarm.clear()
        self._wake_settlers()

    def depth(self) -> tuple[int, int, int]:
        """Requests, rows and bytes that wait."""
        return self._queue.requests, self._queue.rows, self._queue.nbytes

    def running(self) -> int:
        """Runs that are out."""
        return self._executor.slots - self._idle

    def gauges(self) -> BatcherGauges:
        """How things stand now."""
        return BatcherGauges(
            *self.depth(),
            running_batches=self.running(),
            predicted_wait_ns=self._predict_wait_ns(self._queue.rows, 1),
            dropped_results=self._answers.dropped,
        )

    # --- one turn --------------------------------------------------------------------------------------

    def _turn(self) -> None:
        """Expire, then start what may start, then set the timer for whatever comes next."""
        self._turn_due = False
        queue = self._queue
        now_ns = self._now_ns()
        if now_ns >= queue.soonest_ns or self._running is not None:
            self._expire(now_ns)
        until_ns = NEVER_NS
        # What a responder submits meanwhile gets a turn of its own: no busy connection may keep the loop.
        left = queue.requests
        enough_ns = now_ns + _TURN_NS
        while left > 0 and self._idle > 0 and queue.requests:
            if self._eager:
                batch = queue.take(self._merge_cap)
            else:
                batch, until_ns = self._choose(now_ns)
                if not batch:
                    break
            left -= len(batch)
            self._dispatch(batch, now_ns)
            now_ns = self._now_ns()
            if now_ns >= queue.soonest_ns:
                self._expire(now_ns)
            if now_ns >= enough_ns and queue.requests:
                self._turn_soon()
                return
        if queue.requests:
            until_ns = min(until_ns, queue.next_expiry_ns)
        if self._running is not None:
            until_ns = min(until_ns, self._running.next_expiry_ns)
        if until_ns < self._alarm.at_ns:
            self._alarm.set(until_ns, now_ns)
        if self._settlers:
            self._wake_settlers()

    def _turn_soon(self) -> None:
        if not self._turn_due:
            self._turn_due = True
            self._call_soon(self._turn)

    def _choose(self, now_ns: int) -> tuple[list[InferRequest], int]:
        """The batch to start now, or none and when to look again. The most urgent bucket is asked first."""
        queue = self._queue
        until_ns = NEVER_NS
        ns_per_row = self._arrivals.ns_per_row(now_ns) if self._arrivals is not None else None
        for bucket in queue.buckets():
            view = queue.view(bucket, self._merge_cap)
            decision = decide_batch(view, now_ns, self._idle, self._curve, self._plan, ns_per_row)
            if isinstance(decision, Dispatch):
                return queue.take_bucket(bucket, decision.rows), NEVER_NS
            until_ns = min(until_ns, decision.until_ns)
        return [], until_ns

    def _dispatch(self, batch: list[InferRequest], now_ns: int) -> None:
        self._idle -= 1
        if self._running is not None:
            self._running.watch(batch)
        done = partial(self._done, now_ns)
        self._submitting = True
        try:
            self._executor.submit(batch, done)
        except Exception as problem:  # noqa: BLE001 - the boundary: a broken executor must not strand the batch
            self._report("the executor raised in submit", problem)
            done(batch, BatchOutcome(started_ns=now_ns, finished_ns=now_ns, error=problem))
        finally:
            self._submitting = False

    def _done(self, dispatched_ns: int, batch: list[InferRequest], outcome: BatchOutcome) -> None:
        self._idle += 1
        try:
            if not self._submitting:
                if self._running is not None:
                    self._expire(self._now_ns())
                # The freed slot goes on working while this batch's answers are worded.
                if self._queue.requests:
                    self._turn()
        finally:
            name_errors(outcome)
            gone = self._answers.deliver(batch, outcome)
            self._learn(batch, outcome, dispatched_ns, gone)
            if self._settlers:
                self._wake_settlers()

    def _learn(
        self, batch: list[InferRequest], outcome: BatchOutcome, dispatched_ns: int, gone: Collection[InferRequest]
    ) -> None:
        try:
            if outcome.result is not None:
                self._curve.observe(outcome.result.rows, outcome.finished_ns - outcome.started_ns)
        except Exception as problem:  # noqa: BLE001 - the boundary: learning must not stop serving
            self._report("the curve failed", problem)
        self._count(batch, outcome, dispatched_ns, gone)

    def _count(
        self, batch: list[InferRequest], outcome: BatchOutcome, dispatched_ns: int, gone: Collection[InferRequest]
    ) -> None:
        try:
            self._observer.batch_done(batch, outcome, dispatched_ns, gone)
        except Exception as problem:  # noqa: BLE001 - the boundary: counting must not stop serving
            self._report("the observer failed", problem)

    # --- deadlines -------------------------------------------------------------------------------------

    def _expire(self, now_ns: int) -> None:
        for request in self._queue.expire(now_ns):
            self._reject_late(request, now_ns, "before it started")
        if self._running is not None:
            for request in self._running.expire(now_ns):
                self._reject_late(request, now_ns, "while it ran")
                self._executor.abandon(request)

    def _reject_late(self, request: InferRequest, now_ns: int, when: str) -> None:
        self._answers.reject(request, late_error(request, now_ns, when))
        self._observer.rejected(request, "timeout")

    def _predict_wait_ns(self, rows_ahead: int, rows: int) -> int:
        return predict_wait_ns(rows_ahead, rows, self._idle, self._executor.slots, self._curve, self._plan)

    def _is_idle(self) -> bool:
        return not self._queue.requests and self._idle == self._executor.slots

    def _wake_settlers(self) -> None:
        if self._is_idle():
            for done in self._settlers:
                if not done.done():
                    done.set_result(None)
            self._settlers.clear()

    def _report(self, message: str, problem: Exception) -> None:
        self._loop.call_exception_handler({"message": f"batching: {message}", "exception": problem})


def reason_of(refusal: TaxiwayError) -> RejectReason:
    """As what a refusal is counted."""
    return _FULL.get(refusal.facts.get("key"), "queue_full") if isinstance(refusal, Overloaded) else "unavailable"


def _unavailable() -> TaxiwayError:
    return Unavailable("this model version is unavailable and takes no requests", hint="retry shortly")

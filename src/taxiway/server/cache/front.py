"""Stands before the batcher of one version: answers from the store, and has requests that are the same run once.

A *flight* is one run and the callers that wait for it. The batcher knows the run only, a request of the front's own;
each caller keeps its own deadline and may leave. The first caller is answered as a miss, all others as hits.

* A caller that leaves, or whose time is up, takes nothing from the others; the last one takes the run with it.
* A run has the priority and the deadline of the caller that began it, or of a more urgent one that came while it
  waited. If it times out in the queue, the callers that have more time are run again.
* What the model, or the executor, says of these bytes is told to all; and so is that the version was closed.

Errors are never kept. It runs on one event loop and is not thread-safe.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Hashable
from typing import Protocol

from taxiway.core.clock import Clock
from taxiway.core.errors import DeadlineExceeded, Overloaded, TaxiwayError, Unavailable
from taxiway.core.ports import BatchOutcome
from taxiway.core.requests import NEVER_NS, BatchResult, InferRequest, RequestState
from taxiway.server.batching.alarm import Alarm
from taxiway.server.batching.answers import late_error
from taxiway.server.batching.deadlines import RunningDeadlines
from taxiway.server.batching.loop import Observer, RejectReason, reason_of
from taxiway.server.batching.plan import BatchingPlan
from taxiway.server.cache.shelf import Shelf
from taxiway.server.statistics import ModelStatistics

_QUEUED, _RUNNING, _DONE = RequestState.QUEUED, RequestState.RUNNING, RequestState.DONE


class Runs(Protocol):
    """What makes the runs: a batcher, or the front of an ensemble."""

    def submit(self, request: InferRequest) -> None:
        """Take a NEW request.

        Raises:
            TaxiwayError: it is refused.
        """

    def readmit(self, request: InferRequest) -> None:
        """Take a NEW request in the place of one that was taken before; nobody is told of a refusal.

        Raises:
            TaxiwayError: it is refused.
        """

    def cancel(self, request: InferRequest) -> bool:
        """Take a request back. True: it cost no execution."""

    def close(self) -> None:
        """Take nothing new."""


class RunAccounts:
    """The observer of a batcher behind a cache: of the runs only what they did; the front counts their callers."""

    def __init__(self, accounts: Observer) -> None:
        self._accounts = accounts

    def batch_done(
        self, batch: list[InferRequest], outcome: BatchOutcome, dispatched_ns: int, gone: Collection[InferRequest]
    ) -> None:
        """A run came back."""
        self._accounts.batch_done(batch, outcome, dispatched_ns, gone)

    def rejected(self, request: InferRequest, reason: RejectReason) -> None:
        """A run was refused or given up."""

    def cancelled(self, request: InferRequest) -> None:
        """A run was taken back."""


class _Flight:
    """One run and its callers, the first of which began it unless it left. Found under `key` by those to come."""

    __slots__ = ("callers", "key", "lookup_ns", "run")

    def __init__(self, key: Hashable, lookup_ns: int) -> None:
        self.key = key
        self.lookup_ns = lookup_ns
        self.callers: dict[InferRequest, int] = {}
        """In the order they came; how long each took to find the flight."""
        self.run: InferRequest


class CacheFront:
    """Takes the requests of one version in, and is the responder of its own runs.

    Args:
        batcher: runs what is not known; it must not expire running requests, and its observer is `RunAccounts`.
        shelf: the answers that are known.
        plan: the batcher's.
        expire_running: answer a caller at its deadline even while its run goes on.
    """

    def __init__(
        self,
        batcher: Runs,
        shelf: Shelf,
        plan: BatchingPlan,
        statistics: ModelStatistics,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        *,
        expire_running: bool,
    ) -> None:
        self._batcher = batcher
        self._shelf = shelf
        self._plan = plan
        self._statistics = statistics
        self._counts = statistics.count_cache(self._waiting)
        self._now_ns = clock.monotonic_ns
        self._loop = loop
        self._expire_running = expire_running
        self._max_waiting = plan.limits.max_requests
        self._flights: dict[Hashable, _Flight] = {}
        self._flight_of: dict[InferRequest, _Flight] = {}
        self._deadlines = RunningDeadlines()
        self._alarm = Alarm(loop, self._expire)

    # --- the version's front ------------------------------------------------------------------------------

    def submit(self, request: InferRequest) -> None:
        """Take a NEW request; a known answer is given before this returns.

        Raises:
            Overloaded: the queue is full, or as many as it holds wait for others' runs.
            Unavailable: closed.
            InvalidArgument: more rows than one run may have.
        """
        began_ns = self._now_ns()
        key = self._shelf.key_of(request)
        if key is None:
            self._counts.bypassed += 1
            self._begin(request, request, began_ns)
        elif (kept := self._shelf.get(key)) is not None:
            self._answer_kept(request, key, kept, began_ns)
        elif (flight := self._flights.get(key)) is not None:
            self._join(flight, request, began_ns)
        else:
            self._begin(key, request, began_ns)

    def cancel(self, request: InferRequest) -> bool:
        """Take a request back; its responder is not called any more. True: it cost no execution."""
        flight = self._flight_of.get(request)
        if flight is None:
            return False
        request.state = _DONE
        self._statistics.cancelled(request)
        return self._leave(flight, request)

    def close(self) -> None:
        """Close the batcher, and forget the answers: a version that is gone gives none."""
        self._batcher.close()
        self._shelf.clear()
        if not self._flight_of:
            self._alarm.clear()

    # --- the runs' responder ------------------------------------------------------------------------------

    def resolve(self, request: InferRequest, result: BatchResult, start: int, stop: int) -> None:
        """A run came back: keep its answer, and give it to every caller."""
        flight: _Flight = request.ask
        self._forget(flight)
        began_ns = self._now_ns()
        if isinstance(flight.key, bytes):
            result, start, stop = self._shelf.keep(flight.key, request, result, start, stop)
            self._counts.missed(flight.lookup_ns + self._now_ns() - began_ns)
        first, _ = self._take_first(flight)
        self._resolve(first, result, start, stop)
        while flight.callers:
            caller, lookup_ns = self._take_first(flight)
            self._resolve(caller, result, start, stop)
            self._statistics.cache_hit(caller, lookup_ns, began_ns, self._now_ns())
            self._counts.joined += 1
        if isinstance(flight.key, bytes):
            self._shelf.reweigh(flight.key)

    def reject(self, request: InferRequest, error: TaxiwayError) -> None:
        """A run came to nothing: tell its callers, or run again for those that have more time."""
        flight: _Flight = request.ask
        is_late = isinstance(error, DeadlineExceeded)
        if is_late and request.deadline_ns <= self._now_ns():  # else it was a step of an ensemble that was late
            self._outlast(flight)
            return
        self._forget(flight)
        is_counted = not isinstance(
            error, Unavailable | Overloaded | DeadlineExceeded
        )  # else a run was made, and counted for one of its callers
        while flight.callers:
            caller, _ = self._take_first(flight)
            self._refuse(caller, error)
            if not is_counted:
                self._statistics.rejected(caller, "timeout" if is_late else reason_of(error))
            elif flight.callers:
                self._statistics.failed_with(caller, error, self._now_ns())

    # --- boarding and leaving -----------------------------------------------------------------------------

    def _answer_kept(self, request: InferRequest, key: bytes, kept: BatchResult, began_ns: int) -> None:
        request.state = _DONE
        found_ns = self._now_ns()
        self._resolve(request, kept, 0, request.rows)
        self._shelf.reweigh(key)
        self._statistics.cache_hit(request, found_ns - began_ns, found_ns, self._now_ns())

    def _begin(self, key: Hashable, request: InferRequest, began_ns: int) -> None:
        flight = _Flight(key, 0 if key is request else self._now_ns() - began_ns)
        flight.run = self._run_for(request, flight)
        came = request.state, request.deadline_ns
        self._flights[key] = flight  # before it is submitted: its answer may come before that returns
        self._board(flight, request, flight.lookup_ns)
        try:
            self._batcher.submit(flight.run)
        except Exception as refusal:
            self._forget(flight)
            del flight.callers[request], self._flight_of[request]
            request.state, request.deadline_ns = came
            if isinstance(refusal, Overloaded | Unavailable):
                self._statistics.rejected(request, reason_of(refusal))
            raise

    def _join(self, flight: _Flight, request: InferRequest, began_ns: int) -> None:
        if self._waiting() >= self._max_waiting > 0:
            self._statistics.rejected(request, "queue_full")
            raise Overloaded(
                f"{self._waiting()} requests wait for runs of others; queue.max_requests allows {self._max_waiting}",
                hint="retry later, or raise queue.max_requests",
                limit=self._max_waiting,
                key="queue.max_requests",
            )
        if flight.run.state is _QUEUED and self._plan.level_number(request) < self._plan.level_number(flight.run):
            self._lift(flight, request)
        self._board(flight, request, self._now_ns() - began_ns)

    def _board(self, flight: _Flight, request: InferRequest, lookup_ns: int) -> None:
        request.state = _RUNNING
        request.deadline_ns = self._plan.patience_ns(request)
        flight.callers[request] = lookup_ns
        self._flight_of[request] = flight
        if request.deadline_ns != NEVER_NS:
            self._deadlines.watch([request])
            self._alarm.set(self._deadlines.next_expiry_ns, self._now_ns())

    def _leave(self, flight: _Flight, caller: InferRequest) -> bool:
        """Without `caller`; without any, the run is taken back. True: `caller` cost no execution."""
        del flight.callers[caller], self._flight_of[caller]
        if flight.callers:
            return True
        self._forget(flight)
        return self._batcher.cancel(flight.run)

    def _forget(self, flight: _Flight) -> None:
        """Nobody joins it any more."""
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]

    def _waiting(self) -> int:
        """Callers that wait for a run which another one began."""
        return len(self._flight_of) - len(self._flights)

    # --- runs ---------------------------------------------------------------------------------------------

    def _run_for(self, caller: InferRequest, flight: _Flight) -> InferRequest:
        run = InferRequest(
            caller.inputs,
            caller.rows,
            self,
            caller.arrived_ns,
            caller.nbytes,
            caller.bucket,
            caller.outputs,
            caller.id,
            caller.priority,
            caller.deadline_ns,
            flight,
            caller.parameters,
        )
        run.trace = caller.trace
        run.timeout_ns, run.sequence = caller.timeout_ns, caller.sequence
        return run

    def _lift(self, flight: _Flight, caller: InferRequest) -> None:
        """Let the run wait where `caller` would; if there is no room, it stays where it is."""
        lifted = self._run_for(caller, flight)
        try:
            self._batcher.readmit(lifted)
        except TaxiwayError:
            return
        self._batcher.cancel(flight.run)
        flight.run = lifted

    def _outlast(self, flight: _Flight) -> None:
        """The run's time was up: so is that of some callers; the others get another run."""
        now_ns = self._now_ns()
        for caller in [caller for caller in flight.callers if caller.deadline_ns <= now_ns]:
            self._give_up(flight, caller, now_ns, "before it started")
        if not flight.callers:
            return
        flight.run = self._run_for(next(iter(flight.callers)), flight)
        try:
            self._batcher.readmit(flight.run)
        except TaxiwayError as error:
            self._forget(flight)
            while flight.callers:
                caller, _ = self._take_first(flight)
                self._refuse(caller, error)
                self._statistics.rejected(caller, reason_of(error))

    # --- deadlines ----------------------------------------------------------------------------------------

    def _expire(self) -> None:
        now_ns = self._now_ns()
        for caller in self._deadlines.expire(now_ns):
            flight = self._flight_of.get(caller)
            if flight is None:
                continue
            if flight.run.state is _RUNNING:
                if self._expire_running:
                    self._give_up(flight, caller, now_ns, "while it ran")
            elif self._plan.level_of(caller).timeout_action == "reject":
                self._give_up(flight, caller, now_ns, "before it started")
        self._alarm.set(self._deadlines.next_expiry_ns, self._now_ns())

    def _give_up(self, flight: _Flight, caller: InferRequest, now_ns: int, when: str) -> None:
        caller.state = _DONE
        self._leave(flight, caller)
        self._refuse(caller, late_error(caller, now_ns, when))
        self._statistics.rejected(caller, "timeout")

    # --- answers ------------------------------------------------------------------------------------------

    def _take_first(self, flight: _Flight) -> tuple[InferRequest, int]:
        """The next caller to be answered, and how long its lookup took. Answering one may make another leave."""
        caller = next(iter(flight.callers))
        del self._flight_of[caller]
        caller.state = _DONE
        return caller, flight.callers.pop(caller)

    def _resolve(self, caller: InferRequest, result: BatchResult, start: int, stop: int) -> None:
        try:
            caller.responder.resolve(caller, result, start, stop)
        except Exception as problem:  # noqa: BLE001 - the boundary: the other callers must get their answers
            self._report("a responder failed to resolve", problem)

    def _refuse(self, caller: InferRequest, error: TaxiwayError) -> None:
        try:
            caller.responder.reject(caller, error)
        except Exception as problem:  # noqa: BLE001 - the boundary, as in _resolve
            self._report("a responder failed to take its answer", problem)

    def _report(self, message: str, problem: Exception) -> None:
        self._loop.call_exception_handler({"message": f"cache: {message}", "exception": problem})

"""The shell around the machine: takes steps, gives runs to instances, keeps states and deadlines, hands out answers.

Everything submitted in one turn of the event loop is considered together at the end of that turn. It runs on one event
loop and is not thread-safe.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, cast

from taxiway.core.clock import Clock
from taxiway.core.errors import (
    DeadlineExceeded,
    InvalidArgument,
    ModelProcessDied,
    Overloaded,
    TaxiwayError,
    Unavailable,
)
from taxiway.core.ports import BatchOutcome, PinnedExecutor
from taxiway.core.requests import BatchResult, InferRequest, InputTensor, RequestState, StreamResponder
from taxiway.server.batching.alarm import Alarm
from taxiway.server.batching.answers import as_error, late_error, name_errors
from taxiway.server.batching.deadlines import RunningDeadlines
from taxiway.server.batching.loop import Observer, reason_of
from taxiway.server.sequencing.machine import Row, Run, SequenceMachine, step_of
from taxiway.server.sequencing.plan import SequencePlan
from taxiway.server.sequencing.tensors import SequenceTensors, shapes_of
from taxiway.server.statistics import SequenceCounts
from taxiway.stats.latency import LatencyCurve

_RUNNING, _DONE = RequestState.RUNNING, RequestState.DONE
_TURN_NS = 2_000_000
"""After so long in one turn (an executor that runs here and now) the loop's other callbacks come first."""


@dataclass(frozen=True, slots=True)
class SequencePorts:
    """What the front is connected to.

    Attributes:
        executor: runs the batches; closed by whoever made it.
        curve: learns what they cost.
        observer: told what happened.
    """

    executor: PinnedExecutor
    clock: Clock
    loop: asyncio.AbstractEventLoop
    curve: LatencyCurve
    observer: Observer


class SequenceFront:
    """Takes the requests of one stateful version in.

    Args:
        plan: what is wanted; as many instances as the executor has slots.
        tensors: what rows are given and what is kept of them.
        expire_running: answer a step at its deadline even while it runs; its state is kept, its result is dropped.
    """

    def __init__(
        self, plan: SequencePlan, tensors: SequenceTensors, ports: SequencePorts, *, expire_running: bool = False
    ) -> None:
        self._plan = plan
        self._tensors = tensors
        self._executor = ports.executor
        self._now_ns = ports.clock.monotonic_ns
        self._loop = ports.loop
        self._curve = ports.curve
        self._observer = ports.observer
        self._machine = SequenceMachine(plan)
        self._running = RunningDeadlines() if expire_running else None
        self._row_of: dict[InferRequest, InferRequest] = {}
        """The row of each step that runs and is still owed an answer."""
        self._turn_due = False
        self._alarm = Alarm(ports.loop, self._turn)
        self._closed = False
        self._waiters: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._executor.watch(self._lose)

    # --- the version's front --------------------------------------------------------------------------------

    def submit(self, request: InferRequest) -> None:
        """Take a NEW request; its responder is called once, unless it is cancelled.

        On an error the request is still the caller's, and its responder is not called.

        Raises:
            InvalidArgument: it is no step of a sequence, or its sequence is not under way.
            Overloaded: the queue is full.
            Unavailable: closed, or nothing new begins.
        """
        self._check(request)
        try:
            if self._closed:
                raise _unavailable()
            self._machine.admit(request, self._now_ns())
        except (Overloaded, Unavailable) as refusal:
            self._observer.rejected(request, reason_of(refusal))
            raise
        self._turn_soon()

    def cancel(self, request: InferRequest) -> bool:
        """Take a request back; its responder is not called any more. True: it never started. Its sequence goes on."""
        waited = self._machine.withdraw(request, self._now_ns())
        if not waited:
            if request.state is not _RUNNING:
                return False
            request.state = _DONE
            self._abandon(request)
        self._observer.cancelled(request)
        self._turn_soon()
        return waited

    def close(self) -> None:
        """Take nothing new and reject what waits. What runs is still answered when it comes back."""
        self._closed = True
        for request in self._machine.take_all():
            self._reject(request, _unavailable())
            self._observer.rejected(request, "unavailable")
        if self._running is None or self._machine.is_idle:
            self._alarm.clear()
        self._wake()

    async def settle(self) -> None:
        """Wait for no company, and return when everything accepted is answered. Sequences need not have ended."""
        self._machine.hurried = True
        self._turn_soon()
        await self._until(lambda: self._machine.is_idle)

    async def wind_down(self) -> None:
        """Let no sequence begin, and return when all have ended, by their last step or for being idle."""
        self._machine.begins_none = True
        await self._until(lambda: not self._machine.has_sequences)

    def depth(self) -> tuple[int, int, int]:
        """Requests, rows and bytes that wait."""
        return self._machine.requests, self._machine.requests, self._machine.nbytes

    def running(self) -> int:
        """Runs that are out."""
        return self._machine.running

    def counts(self) -> SequenceCounts:
        """How many sequences there are."""
        return self._machine.counts()

    def _check(self, request: InferRequest) -> None:
        """In Triton's order."""
        if request.rows > 1:
            raise InvalidArgument(
                f"inference request to model '{self._plan.model}' must specify batch-size 1 due to requirements of "
                "sequence batcher",
                hint="send a request for each sequence",
            )
        if request.sequence is None:
            raise InvalidArgument(
                f"inference request to model '{self._plan.model}' must specify a non-zero or non-empty correlation ID",
                hint="give the parameter sequence_id, and sequence_start with the first request of a sequence",
            )
        self._tensors.check_id(request.sequence)

    # --- one turn -------------------------------------------------------------------------------------------

    def _turn_soon(self) -> None:
        if not self._turn_due:
            self._turn_due = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Give up what is late, start what may start, then set the timer for whatever comes next."""
        self._turn_due = False
        now_ns = self._now_ns()
        enough_ns = now_ns + _TURN_NS
        self._expire_running(now_ns)
        while True:
            move = self._machine.advance(now_ns)
            for request in move.late:
                self._give_up(request, late_error(request, now_ns, "before it started"))
            for request in move.orphaned:
                self._give_up(request, _orphaned(request, now_ns))
            if not move.runs:
                break
            for run in move.runs:
                self._dispatch(run, now_ns)
            now_ns = self._now_ns()
            if now_ns >= enough_ns:
                self._turn_soon()
                break
        until_ns = move.until_ns
        if self._running is not None:
            until_ns = min(until_ns, self._running.next_expiry_ns)
        self._alarm.set(until_ns, now_ns)
        self._wake()

    def _dispatch(self, run: Run, now_ns: int) -> None:
        batch = self._rows(run)
        done = partial(self._done, run, now_ns)
        if self._running is not None:
            self._running.watch([row.request for row in run.rows if row is not None])
        try:
            self._executor.submit_to(run.instance, batch, done)
        except Exception as problem:  # noqa: BLE001 - the boundary: a broken executor must not strand the batch
            self._report("the executor raised in submit_to", problem)
            done(batch, BatchOutcome(started_ns=now_ns, finished_ns=now_ns, error=problem))

    def _rows(self, run: Run) -> list[InferRequest]:
        """The run's rows as requests: a step's own, or one that says that it is none."""
        rows = [None if row is None else self._row(row) for row in run.rows]
        model = next(row for row in rows if row is not None)
        return [self._empty_row(model) if row is None else row for row in rows]

    def _row(self, row: Row) -> InferRequest:
        caller, sequence = row
        step = step_of(caller)
        if step.starts:
            sequence.state = self._tensors.initial
            sequence.shapes = self._plan.initial_shapes
        made = self._made(caller, self._tensors.row_inputs(caller.inputs, step, sequence.state))
        made.id, made.sequence, made.ask = caller.id, step, caller
        made.parameters, made.trace = caller.parameters, caller.trace
        made.priority, made.deadline_ns = caller.priority, caller.deadline_ns
        self._row_of[caller] = made
        return made

    def _empty_row(self, like: InferRequest) -> InferRequest:
        return self._made(like, self._tensors.empty_inputs(like.inputs))

    def _made(self, like: InferRequest, inputs: list[InputTensor | None]) -> InferRequest:
        outputs = self._tensors.wanted(like.outputs)
        made = InferRequest(inputs, 1, _ANSWERS, like.arrived_ns, like.nbytes, like.bucket, outputs)
        made.state = _RUNNING
        return made

    # --- a run comes back -----------------------------------------------------------------------------------

    def _done(self, run: Run, dispatched_ns: int, batch: list[InferRequest], outcome: BatchOutcome) -> None:
        name_errors(outcome)
        parts = [outcome] * len(batch) if outcome.parts is None else outcome.parts
        steps = [
            _Stepped(row, part, place if outcome.parts is None else 0)
            for place, (row, part) in enumerate(zip(run.rows, parts, strict=True))
            if row is not None
        ]
        self._keep_states(steps)
        self._machine.finish(run, self._now_ns())
        self._expire_running(self._now_ns())
        gone = {step.row.request for step in steps if step.row.request.state is not _RUNNING}
        # Answers first: a step that runs on the loop itself must not be answered before the one that came before it.
        self._turn_soon()
        self._deliver(steps)
        self._account(steps, outcome, dispatched_ns, gone)

    def _keep_states(self, steps: Sequence[_Stepped]) -> None:
        """What the steps have left; one that failed leaves the state as it was."""
        for (_, sequence), part, place in steps:
            if part.result is None:
                continue
            try:
                states = self._tensors.states_of(part.result, place)
            except Exception as problem:  # noqa: BLE001 - the boundary: the other sequences go on
                self._report("a state could not be kept", problem)
                continue
            sequence.state, sequence.shapes = states, shapes_of(states)

    def _deliver(self, steps: Sequence[_Stepped]) -> None:
        shown: dict[int, BatchResult] = {}
        for (caller, _), part, place in steps:
            self._row_of.pop(caller, None)
            if caller.state is not _RUNNING:
                continue
            caller.state = _DONE
            if part.result is None:
                self._reject(caller, as_error(part))
                continue
            result = shown.setdefault(id(part.result), self._tensors.shown(part.result))
            try:
                caller.responder.resolve(caller, result, place, place + 1)
            except Exception as problem:  # noqa: BLE001 - the boundary: the others must get their answers
                self._report("a responder failed to resolve", problem)

    def _account(
        self, steps: Sequence[_Stepped], outcome: BatchOutcome, dispatched_ns: int, gone: Collection[InferRequest]
    ) -> None:
        """Have the run learnt from and counted: its rows are those that had a step."""
        told = BatchOutcome(
            started_ns=outcome.started_ns,
            finished_ns=outcome.finished_ns,
            result=None if outcome.result is None else BatchResult((), (), len(steps)),
            error=outcome.error,
            parts=None if outcome.parts is None else [step.part for step in steps],
        )
        told.input_ns, told.infer_ns = outcome.input_ns, outcome.infer_ns
        try:
            if outcome.result is not None:
                self._curve.observe(max(1, outcome.result.rows), outcome.finished_ns - outcome.started_ns)
            self._observer.batch_done([step.row.request for step in steps], told, dispatched_ns, gone)
        except Exception as problem:  # noqa: BLE001 - the boundary: counting must not stop serving
            self._report("a run could not be counted", problem)

    def _reject(self, request: InferRequest, error: TaxiwayError) -> None:
        request.state = _DONE
        try:
            request.responder.reject(request, error)
        except Exception as problem:  # noqa: BLE001 - the boundary, as in _deliver
            self._report("a responder failed to take its answer", problem)

    def _report(self, message: str, problem: Exception) -> None:
        self._loop.call_exception_handler({"message": f"sequencing: {message}", "exception": problem})

    def _lose(self, instance: int) -> None:
        """The process that kept the state of these sequences is gone. What it ran is told by the run's outcome."""
        for request in self._machine.lose(instance, self._now_ns()):
            problem = ModelProcessDied(
                f"the process of model '{self._plan.model}' that had the state of sequence {step_of(request).id} ended",
                hint="begin the sequence again, with sequence_start; the log has what the model printed",
            )
            self._reject(request, problem)
            self._observer.rejected(request, "unavailable")
        self._turn_soon()

    # --- time and waiting -----------------------------------------------------------------------------------

    def _expire_running(self, now_ns: int) -> None:
        if self._running is None:
            return
        for request in self._running.expire(now_ns):
            self._give_up(request, late_error(request, now_ns, "while it ran"))
            self._abandon(request)

    def _abandon(self, request: InferRequest) -> None:
        row = self._row_of.pop(request, None)
        if row is not None:  # otherwise it is about to run, or came back just now
            row.state = _DONE  # what it asks of other models is of no use either
            self._executor.abandon(row)

    def _give_up(self, request: InferRequest, error: TaxiwayError) -> None:
        self._reject(request, error)
        self._observer.rejected(request, "timeout")

    async def _until(self, reached: Callable[[], bool]) -> None:
        while not reached():
            woken: asyncio.Future[None] = self._loop.create_future()
            self._waiters.append((reached, woken))
            await woken

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for reached, woken in waiters:
            if not reached():
                self._waiters.append((reached, woken))
            elif not woken.done():
                woken.set_result(None)


class _Stepped(NamedTuple):
    """How a step ended: what came of its row, which is the one at `place` of its result."""

    row: Row
    part: BatchOutcome
    place: int


class _RowAnswers:
    """The responder of rows: what comes before the end goes on to the caller; the end is in the run's outcome."""

    def part(self, request: InferRequest, answer: BatchResult | TaxiwayError) -> None:
        """One of several answers of a step."""
        caller = request.ask
        if caller is not None and caller.state is _RUNNING:
            cast("StreamResponder", caller.responder).part(caller, answer)

    def resolve(self, request: InferRequest, result: BatchResult, start: int, stop: int) -> None:
        """Not called: see above."""

    def reject(self, request: InferRequest, error: TaxiwayError) -> None:
        """Not called: see above."""


_ANSWERS = _RowAnswers()


def _orphaned(request: InferRequest, now_ns: int) -> DeadlineExceeded:
    return DeadlineExceeded(
        "timeout of the corresponding sequence has been expired",
        hint="it waited for a place among the model's sequences; add instances or rows, or end sequences earlier",
        waited_ms=(now_ns - request.arrived_ns) / 1e6,
    )


def _unavailable() -> Unavailable:
    return Unavailable("this model version is unavailable and takes no requests", hint="retry shortly")

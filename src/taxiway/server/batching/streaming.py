"""Stands before the queue of a decoupled model, whose every request may have any number of answers.

It puts the arrays of each answer where the model's outputs have their places, whichever of them an answer has, and
counts the answers. The edges then word them as they do those of any model.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Protocol, cast

from taxiway.core.clock import Clock
from taxiway.core.errors import ModelFailed, TaxiwayError
from taxiway.core.ports import BatchOutcome
from taxiway.core.requests import NO_MORE, BatchResult, InferRequest, StreamResponder
from taxiway.server.batching.loop import Observer
from taxiway.server.responses import MAX_COUNTED, AnswerKind
from taxiway.server.statistics import ModelStatistics
from taxiway.stats.latency import LatencyCurve


class Queue(Protocol):
    """What has requests run: a batcher, or the front of a stateful model."""

    def submit(self, request: InferRequest) -> None:
        """Take a NEW request.

        Raises:
            TaxiwayError: it is refused, and still the caller's.
        """

    def cancel(self, request: InferRequest) -> bool:
        """Take a request back. True: it cost no execution."""

    def close(self) -> None:
        """Take nothing new, reject what waits."""


class StreamFront:
    """Takes the requests of one version in.

    Args:
        queue: has them run; its observer is `StreamAccounts`.
        outputs: names of the model's outputs, in its order.
    """

    def __init__(self, queue: Queue, outputs: Sequence[str], statistics: ModelStatistics, clock: Clock) -> None:
        self._submit = queue.submit
        self._places = {name: place for place, name in enumerate(outputs)}
        self._names = tuple(outputs)
        self._statistics = statistics
        self._now_ns = clock.monotonic_ns
        self.cancel = queue.cancel
        """Take a request back, whatever it was answered so far. True: it cost no execution."""
        self.close = queue.close
        """Take nothing new, reject what waits. What runs is still answered."""

    def submit(self, request: InferRequest) -> None:
        """Take a NEW request, whose responder is a StreamResponder.

        Raises:
            TaxiwayError: it is refused, and still the caller's, as it was.
        """
        responder = cast("StreamResponder", request.responder)
        request.responder = Answering(responder, self)
        try:
            self._submit(request)
        except TaxiwayError:
            request.responder = responder
            raise

    def placed(self, answer: BatchResult) -> BatchResult:
        """The answer with its arrays at the places of the model's outputs, None where it has none.

        Raises:
            ModelFailed: it has an output that the model does not have.
        """
        if not answer.names or tuple(answer.names) == self._names:
            return answer
        arrays: list[Any] = [None] * len(self._names)
        for name, array in zip(answer.names, answer.arrays, strict=True):
            place = self._places.get(name)
            if place is None:
                known = ", ".join(self._names)
                raise ModelFailed(f"an answer has an output {name!r}; those of the model are {known}", output=name)
            arrays[place] = array
        return BatchResult(self._names, arrays, answer.rows, answer.notes)

    def came(self, request: InferRequest, place: int) -> int:
        """An answer to `request` has come, at this place among its answers; when that was, in monotonic nanoseconds."""
        now_ns = self._now_ns()
        if place == 0:
            self._statistics.first_answer(now_ns - request.arrived_ns)
        return now_ns


class Answering:
    """Stands before whoever waits for the answers to one request, and notes when each came."""

    __slots__ = ("_front", "behind", "is_over", "kinds", "times_ns")

    def __init__(self, responder: StreamResponder, front: StreamFront) -> None:
        self.behind = responder
        """The responder that it stands before."""
        self._front = front
        self.kinds: list[AnswerKind] = []
        """How the answers so far ended; no more of them than are counted one by one."""
        self.times_ns: list[int] = []
        self.is_over = False

    def part(self, request: InferRequest, answer: BatchResult | TaxiwayError) -> None:
        """Note it, and pass it on."""
        placed = self._placed(answer)
        self._note(request, AnswerKind.FAIL if isinstance(placed, TaxiwayError) else AnswerKind.SUCCESS)
        self.behind.part(request, placed)

    def resolve(self, request: InferRequest, result: BatchResult, start: int, stop: int) -> None:
        """Note it, and pass it on: of a result that is not its own, its rows; else all of it."""
        placed = self._placed(result)
        if isinstance(placed, TaxiwayError):
            self.reject(request, placed)
            return
        self.is_over = True
        if placed.names:
            self._note(request, AnswerKind.SUCCESS)
            own = placed if (start, stop) == (0, placed.rows) else _rows_of(placed, start, stop)
            self.behind.resolve(request, own, 0, own.rows)
        else:
            self._note(request, AnswerKind.EMPTY_RESPONSE)
            self.behind.resolve(request, NO_MORE, start, stop)

    def reject(self, request: InferRequest, error: TaxiwayError) -> None:
        """Note it, and pass it on."""
        self.is_over = True
        self._note(request, AnswerKind.FAIL)
        self.behind.reject(request, error)

    def _placed(self, answer: BatchResult | TaxiwayError) -> BatchResult | TaxiwayError:
        if isinstance(answer, TaxiwayError):
            return answer
        try:
            return self._front.placed(answer)
        except ModelFailed as error:
            return error

    def _note(self, request: InferRequest, kind: AnswerKind) -> None:
        if len(self.kinds) < MAX_COUNTED:
            self.times_ns.append(self._front.came(request, len(self.kinds)))
            self.kinds.append(kind)


class StreamAccounts:
    """The observer of a batcher behind a `StreamFront`: a request counts once, however often it was answered."""

    def __init__(self, accounts: Observer, statistics: ModelStatistics) -> None:
        self._accounts = accounts
        self._counts = statistics.count_responses()
        self.rejected = accounts.rejected
        self.cancelled = accounts.cancelled

    def batch_done(
        self, batch: list[InferRequest], outcome: BatchOutcome, dispatched_ns: int, gone: Collection[InferRequest]
    ) -> None:
        """All answers of these requests have come."""
        for request in batch:
            self._count_answers(request, outcome)
        self._accounts.batch_done(batch, _counted_once(batch, outcome), dispatched_ns, gone)

    def _count_answers(self, request: InferRequest, outcome: BatchOutcome) -> None:
        answering = cast("Answering", request.responder)
        before_ns = outcome.started_ns
        place = 0
        for place, (kind, at_ns) in enumerate(zip(answering.kinds, answering.times_ns, strict=True), start=1):
            self._counts.count(place - 1, kind, max(0, at_ns - before_ns))
            before_ns = at_ns
        if not answering.is_over:
            self._counts.count(place, AnswerKind.CANCEL, max(0, outcome.finished_ns - before_ns))


def _rows_of(result: BatchResult, start: int, stop: int) -> BatchResult:
    whole: Sequence[Any] = result.arrays
    arrays: list[Any] = [array if array is None else array[start:stop] for array in whole]
    return BatchResult(result.names, arrays, stop - start)


class StreamCurve(LatencyCurve):
    """How long a request takes to its last answer, which may have any number of rows."""

    __slots__ = ()

    def observe(self, rows: int, ns: int) -> None:  # noqa: ARG002 - as the batcher tells it
        """Learn from one request."""
        super().observe(1, ns)


def _counted_once(batch: list[InferRequest], outcome: BatchOutcome) -> BatchOutcome:
    """The outcome with as many rows as went in: those of the last answer say nothing of the run."""
    if outcome.result is None:
        return outcome
    rows = sum(request.rows for request in batch)
    counted = BatchOutcome(
        started_ns=outcome.started_ns, finished_ns=outcome.finished_ns, result=BatchResult((), (), rows)
    )
    counted.input_ns, counted.infer_ns = outcome.input_ns, outcome.infer_ns
    return counted

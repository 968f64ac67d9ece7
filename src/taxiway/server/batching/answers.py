"""From the outcome of a batch to the answer of each of its requests, each exactly once.

A request whose state is no longer RUNNING was cancelled or expired meanwhile: its part of the outcome is
dropped and counted. One responder that raises does not cost the others their answers.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection

from taxiway.core.errors import DeadlineExceeded, InternalError, ModelFailed, TaxiwayError
from taxiway.core.ports import BatchOutcome
from taxiway.core.requests import BatchResult, InferRequest, RequestState

_RUNNING, _DONE = RequestState.RUNNING, RequestState.DONE

Answer = tuple[BatchResult, int, int] | TaxiwayError
"""Rows [start, stop) of a result, or why there is none."""


class Answers:
    """Answers requests as their batches come back, whatever their order.

    Args:
        report: told when a responder raised.
    """

    def __init__(self, report: Callable[[str, Exception], None]) -> None:
        self.dropped = 0
        """Results that came for requests which had been cancelled or had expired."""
        self._report = report

    def expect(self, request: InferRequest) -> None:
        """`request` was accepted."""

    def forget(self, request: InferRequest) -> None:
        """`request` will not be answered, its caller took it back."""

    def reject(self, request: InferRequest, error: TaxiwayError) -> None:
        """Answer at once that there is no answer, whatever the order."""
        request.state = _DONE
        self._send(request, error)

    def deliver(self, batch: list[InferRequest], outcome: BatchOutcome) -> Collection[InferRequest]:
        """Answer all of `batch`; those returned had been cancelled or had expired, their results are dropped."""
        result = outcome.result
        if result is None:
            return self._deliver_parts(batch, outcome)
        gone: set[InferRequest] | None = None
        start = 0
        for request in batch:
            stop = start + request.rows
            if request.state is _RUNNING:
                request.state = _DONE
                try:
                    request.responder.resolve(request, result, start, stop)
                except Exception as problem:  # noqa: BLE001 - the boundary: the neighbours must get their answers
                    self._report("a responder failed to resolve", problem)
            else:
                gone = self._drop(request, gone)
            start = stop
        return gone or ()

    def _drop(self, request: InferRequest, gone: set[InferRequest] | None) -> set[InferRequest]:
        self.dropped += 1
        if gone is None:
            return {request}
        gone.add(request)
        return gone

    def _deliver_parts(self, batch: list[InferRequest], outcome: BatchOutcome) -> Collection[InferRequest]:
        parts = [outcome] * len(batch) if outcome.parts is None else outcome.parts
        gone: set[InferRequest] | None = None
        for request, part in zip(batch, parts, strict=True):
            if request.state is _RUNNING:
                request.state = _DONE
                self._send(request, (part.result, 0, request.rows) if part.result is not None else as_error(part))
            else:
                gone = self._drop(request, gone)
        return gone or ()

    def _send(self, request: InferRequest, answer: Answer) -> None:
        try:
            if isinstance(answer, TaxiwayError):
                request.responder.reject(request, answer)
            else:
                request.responder.resolve(request, *answer)
        except Exception as problem:  # noqa: BLE001 - the boundary, as in deliver
            self._report("a responder failed to take its answer", problem)


class OrderedAnswers(Answers):
    """Answers in the order in which requests were accepted: an early result is held until its turn.

    Held requests stay RUNNING. One that is cancelled or rejected leaves the line and holds nobody up.
    """

    def __init__(self, report: Callable[[str, Exception], None]) -> None:
        super().__init__(report)
        self._line: OrderedDict[InferRequest, Answer | None] = OrderedDict()

    def expect(self, request: InferRequest) -> None:
        """Give it the last place in the line."""
        self._line[request] = None

    def forget(self, request: InferRequest) -> None:
        """Free its place."""
        self._line.pop(request, None)
        self._release()

    def reject(self, request: InferRequest, error: TaxiwayError) -> None:
        """Answer at once, out of turn: an error must not come later than it is known."""
        self._line.pop(request, None)
        super().reject(request, error)
        self._release()

    def deliver(self, batch: list[InferRequest], outcome: BatchOutcome) -> Collection[InferRequest]:
        """Answer those whose turn it is; returns as Answers.deliver."""
        gone: set[InferRequest] | None = None
        start = 0
        for index, request in enumerate(batch):
            stop = start + request.rows
            if request.state is _RUNNING:
                self._line[request] = _answer(outcome, index, start, stop)
            else:
                gone = self._drop(request, gone)
            start = stop
        self._release()
        return gone or ()

    def _release(self) -> None:
        line = self._line
        while line:
            request, answer = next(iter(line.items()))
            if answer is None:
                return
            del line[request]
            request.state = _DONE
            self._send(request, answer)


def as_error(outcome: BatchOutcome) -> TaxiwayError:
    """Why a batch has no result, as an error that may cross the wire."""
    problem = outcome.error
    if problem is None:
        return InternalError("the executor gave neither a result nor an error")
    if isinstance(problem, TaxiwayError):
        return problem
    error = ModelFailed(f"the model raised {type(problem).__name__}: {problem}")
    error.__cause__ = problem
    return error


def name_errors(outcome: BatchOutcome) -> None:
    """Replace whatever a model raised by the TaxiwayError that says so, in `outcome` and its parts."""
    if outcome.result is not None:
        return
    for part in (outcome,) if outcome.parts is None else outcome.parts:
        if part.result is None:
            part.error = as_error(part)


def late_error(request: InferRequest, now_ns: int, when: str) -> DeadlineExceeded:
    """What `request` is told when its deadline has come."""
    allowed_ms = (request.deadline_ns - request.arrived_ns) / 1e6
    return DeadlineExceeded(
        f"the request's timeout of {allowed_ms:g} ms ran out {when}",
        hint="ask for a longer timeout, or send fewer requests at a time",
        timeout_ms=allowed_ms,
        waited_ms=(now_ns - request.arrived_ns) / 1e6,
    )


def _answer(outcome: BatchOutcome, index: int, start: int, stop: int) -> Answer:
    if outcome.result is not None:
        return outcome.result, start, stop
    part = outcome.parts[index] if outcome.parts is not None else outcome
    return (part.result, 0, stop - start) if part.result is not None else as_error(part)

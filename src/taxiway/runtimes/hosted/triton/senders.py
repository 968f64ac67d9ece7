"""How the answers to one request leave, from whatever thread: once if its model answers once, else any number of times.

A sender and the request it is of hold an outlet. When neither is left and it was not closed, nobody can close it any
more: whoever waits is told so.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic_ns
from typing import Protocol

from taxiway.core.errors import ModelFailed, TaxiwayError
from taxiway.runtimes.hosted.batch import Answer, Batch, Request, Settled, error_data
from taxiway.runtimes.hosted.frames import Part, Piece, Ran
from taxiway.runtimes.hosted.mailbox import Mailbox
from taxiway.runtimes.hosted.triton.problems import TritonModelException
from taxiway.runtimes.hosted.triton.responses import InferenceResponse, Usual
from taxiway.runtimes.hosted.triton.session import Orphans

TRITONSERVER_RESPONSE_COMPLETE_FINAL = 1
_CLOSED = "Unable to send response. Response sender has been closed."


class Outlet(Protocol):
    """Where the answers to one request go."""

    def give(self, response: InferenceResponse | None, *, final: bool) -> None:
        """One more of them, or (None) only the end.

        Raises:
            TritonModelException: not now, or not any more.
        """

    def is_cancelled(self) -> bool:
        """Whether nobody waits for them any more."""


class InferenceResponseSender:
    """Sends answers to one request."""

    __slots__ = ("_outlet",)

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet

    def send(self, response: InferenceResponse | None = None, flags: int = 0) -> None:
        """Send an answer; with TRITONSERVER_RESPONSE_COMPLETE_FINAL it is the last, and may be left out.

        Raises:
            TritonModelException: it cannot be sent.
        """
        if flags not in (0, TRITONSERVER_RESPONSE_COMPLETE_FINAL):
            raise TritonModelException("Unable to send response. Unsupported flag provided.")
        if response is None and flags == 0:
            raise TritonModelException(
                "Inference Response object must be provided when the response flags is set to zero."
            )
        if response is not None and not isinstance(response, InferenceResponse):
            raise TypeError(f"send() takes an InferenceResponse, not {type(response).__name__}")
        self._outlet.give(response, final=flags == TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def is_cancelled(self) -> bool:
        """Whether nobody waits for the answers any more."""
        return self._outlet.is_cancelled()


# --- any number of answers -------------------------------------------------------------------------------


class StreamOutlet:
    """Of a request of a decoupled model; its answers leave at once."""

    __slots__ = ("_orphans", "give", "is_cancelled", "stream")

    def __init__(self, stream: Stream, orphans: Orphans) -> None:
        self.stream = stream
        self._orphans = orphans
        self.give = stream.give
        self.is_cancelled = stream.request.is_cancelled

    def __del__(self) -> None:
        if not self.stream.closed:
            self._orphans.leave(self.stream.dropped)


class Stream:
    """The run of one request of a decoupled model, until its last answer."""

    def __init__(self, batch: Batch, settled: Settled, usual: Usual, mailbox: Mailbox, started_ns: int) -> None:
        self.closed = False
        self.request: Request = batch.requests[0]
        self._run = batch.id
        self._settled = settled
        self._usual = usual
        self._mailbox = mailbox
        self._started_ns = started_ns
        self._lock = threading.Lock()

    def give(self, response: InferenceResponse | None, *, final: bool) -> None:
        """Send one more answer, or the end, or both.

        Raises:
            TritonModelException: the end was sent before, or there is no room in the shared memory.
        """
        with self._lock:
            if self.closed:
                raise TritonModelException(_CLOSED)
            self.closed = final
            if final:
                self._end(None if response is None else response.answer(self._usual, self.request))
            elif response is not None:
                self._tell(response.answer(self._usual, self.request))

    def fail(self, problem: Exception) -> None:
        """Let this be the end, unless that was sent before."""
        with self._lock:
            if not self.closed:
                self.closed = True
                self._end(problem)

    def dropped(self) -> None:
        """Nobody is left who could send the end."""
        self.fail(
            ModelFailed(
                "the model let go of this request without a final answer",
                hint="send one with flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL, whatever happens",
            )
        )

    def _tell(self, answer: Answer) -> None:
        try:
            block, part = self._settled.piece(answer)
        except TaxiwayError as problem:
            raise TritonModelException(problem.message) from problem
        self._mailbox.send(Piece(self._run, block, part))

    def _end(self, answer: Answer | None) -> None:
        block, part = None, None
        if answer is not None:
            try:
                block, part = self._settled.piece(answer)
            except TaxiwayError as problem:
                part = Part((), error_data(problem))
        now_ns = monotonic_ns()
        began_ns = self._started_ns
        parts = None if part is None else (part,)
        self._mailbox.send(Ran(self._run, block, began_ns, began_ns, now_ns, now_ns, None, parts))


# --- one answer ------------------------------------------------------------------------------------------


class OnceOutlet:
    """Of a request of a model that answers once, which may do so through a sender, and after `execute` has returned."""

    __slots__ = ("_orphans", "give", "is_cancelled", "once")

    def __init__(self, once: Once, orphans: Orphans) -> None:
        self.once = once
        self._orphans = orphans
        self.give = once.give
        self.is_cancelled = once.request.is_cancelled

    def __del__(self) -> None:
        if self.once.answer is None:
            self._orphans.leave(self.once.dropped)


class Once:
    """The only answer to a request, and whoever waits for it."""

    def __init__(self, request: Request, usual: Usual) -> None:
        self.request = request
        self._usual = usual
        self.answer: Answer | None = None
        self._sent = 0
        self._closed = False
        self._waiter: Callable[[Answer], None] | None = None
        self._lock = threading.Lock()

    def give(self, response: InferenceResponse | None, *, final: bool) -> None:
        """Send the answer, or the end, or both.

        Raises:
            TritonModelException: there was an answer before, or there is none yet.
        """
        with self._lock:
            if response is not None and self._sent:
                raise TritonModelException(
                    "Unable to send response. Non-decoupled model cannot send more than one response."
                )
            if response is None and not self._sent:
                raise TritonModelException(
                    "Unable to send response. Non-decoupled model cannot send complete final before sending a response."
                )
            if self._closed:
                raise TritonModelException(_CLOSED)
            self._closed = final
            self._sent += 1
            if response is None:
                return
            self.answer = answer = response.answer(self._usual, self.request)
            waiter = self._waiter
        if waiter is not None:
            waiter(answer)

    def settle(self, answer: Answer) -> None:
        """Let this be the answer, unless there is one."""
        with self._lock:
            if self.answer is not None:
                return
            self._sent, self._closed, self.answer = 1, True, answer
            waiter = self._waiter
        if waiter is not None:
            waiter(answer)

    def wait(self, waiter: Callable[[Answer], None]) -> None:
        """Tell the answer to `waiter`, now or when it is given."""
        with self._lock:
            answer = self.answer
            if answer is None:
                self._waiter = waiter
        if answer is not None:
            waiter(answer)

    def dropped(self) -> None:
        """Nobody is left who could answer."""
        self.settle(ModelFailed("the model let go of this request without an answer"))

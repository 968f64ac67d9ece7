"""Business logic scripting: a model asks others, and goes on with what they answer."""

from __future__ import annotations

from collections import deque

from taxiway.core.errors import ModelNotFound, TaxiwayError, VersionNotServed
from taxiway.runtimes.hosted.batch import look
from taxiway.runtimes.hosted.frames import CallAnswer, CallBack, CallOut, Place
from taxiway.runtimes.hosted.triton.problems import TritonError, TritonModelException
from taxiway.runtimes.hosted.triton.requests import (
    TRITONSERVER_REQUEST_FLAG_SEQUENCE_END,
    TRITONSERVER_REQUEST_FLAG_SEQUENCE_START,
    InferenceRequest,
)
from taxiway.runtimes.hosted.triton.responses import InferenceResponse
from taxiway.runtimes.hosted.triton.session import Phase, Session, here
from taxiway.runtimes.hosted.triton.tensors import Tensor

_DECOUPLED = (
    "Model {0} - Error when running inference: Model {0} is using the decoupled. The current BLS request call doesn't "
    "support models using the decoupled transaction policy. Please use 'decoupled=True' argument to the 'exec' or "
    "'async_exec' calls for decoupled models.'"
)
_NOT_THERE = (ModelNotFound.code, VersionNotServed.code)


def ask(request: InferenceRequest) -> InferenceResponse:
    """Ask another model, and wait for its only answer; what goes wrong is told in it.

    Raises:
        TritonModelException: the model is not executing.
    """
    session = _ready()
    call = _begin(session, request)
    if isinstance(call, InferenceResponse):
        return call
    first = session.lines.mailbox.next_answer(call)
    if first.final and (first.error is not None or first.tensors):
        return _response(session, request, first)
    _drop(session, call, first)
    return InferenceResponse(error=TritonError(_DECOUPLED.format(request.model)))


def ask_for_many(request: InferenceRequest) -> ResponseIterator:
    """Ask another model, and wait for its first answer; the others are waited for as they are asked for.

    Raises:
        TritonModelException: the model is not executing.
    """
    session = _ready()
    call = _begin(session, request)
    if isinstance(call, InferenceResponse):
        return ResponseIterator(call)
    session.orphans.watch()
    first = session.lines.mailbox.next_answer(call)
    return ResponseIterator(_response(session, request, first), None if first.final else _Rest(session, request, call))


class _Rest:
    """Answers to a call that are still to come."""

    def __init__(self, session: Session, request: InferenceRequest, call: int) -> None:
        self._session = session
        self._request = request
        self._call = call
        self.is_over = False

    def next(self) -> InferenceResponse:
        """Wait for the next one."""
        answer = self._session.lines.mailbox.next_answer(self._call)
        self.is_over = answer.final
        return _response(self._session, self._request, answer)

    def cancel(self) -> None:
        """Nobody waits for them any more."""
        if not self.is_over:
            self.is_over = True
            self._session.lines.mailbox.forget(self._call)
            self._session.lines.mailbox.send(CallBack(self._call))

    def __del__(self) -> None:
        if not self.is_over:
            self._session.orphans.leave(self.cancel)


class ResponseIterator:
    """The answers of a model that may give any number. Once they are over they can be gone through again."""

    def __init__(self, first: InferenceResponse, rest: _Rest | None = None) -> None:
        self._waiting = deque([first])
        self._rest = rest
        self._seen: list[InferenceResponse] = []
        self._place = 0

    def __iter__(self) -> ResponseIterator:
        if self._is_over() and self._place >= len(self._seen):
            self._place = 0
        return self

    def __next__(self) -> InferenceResponse:
        if self._place < len(self._seen):
            self._place += 1
            return self._seen[self._place - 1]
        if self._is_over():
            raise StopIteration("Iteration is done for the responses.")
        if self._waiting:
            response = self._waiting.popleft()
        else:
            assert self._rest is not None  # noqa: S101 - it is not over
            response = self._rest.next()
        self._seen.append(response)
        self._place = len(self._seen)
        return response

    def cancel(self) -> None:
        """Nobody waits for the rest of them any more."""
        if self._rest is not None:
            self._rest.cancel()

    def _is_over(self) -> bool:
        return not self._waiting and (self._rest is None or self._rest.is_over)


def _ready() -> Session:
    session = here()
    if session.phase is not Phase.SERVING:
        raise TritonModelException("BLS is only supported during the 'execute' function.")
    return session


def _begin(session: Session, request: InferenceRequest) -> int | InferenceResponse:
    """Send the call; its number, or the answer if it cannot be sent."""
    tensors = request.inputs()
    try:
        block, laid = session.lines.outbox.lay([tensor.words() for tensor in tensors])
    except TaxiwayError as problem:
        return InferenceResponse(error=TritonError.of(problem.to_data()))
    run, place = request.trace().of or session.running
    call = next(session.calls)
    session.lines.mailbox.expect(call)
    session.lines.mailbox.send(
        CallOut(
            call,
            run,
            place,
            block,
            request.model,
            None if request.version == -1 else str(request.version),
            tuple(tensor.name() for tensor in tensors),
            tuple(
                one._replace(datatype=tensor.datatype())
                for one, tensor in zip(laid, tensors, strict=True)
                if one is not None
            ),
            tuple(sorted(request.requested_output_names())) or None,
            request.request_id() or None,
            request.priority(),
            request.timeout(),
            request.own_parameters or None,
            _place_in_sequence(request),
        )
    )
    return call


def _place_in_sequence(request: InferenceRequest) -> Place | None:
    name = request.correlation_id()
    if name in (0, ""):
        return None
    flags = request.flags()
    starts = bool(flags & TRITONSERVER_REQUEST_FLAG_SEQUENCE_START)
    return Place(name, starts, bool(flags & TRITONSERVER_REQUEST_FLAG_SEQUENCE_END))


def _response(session: Session, request: InferenceRequest, answer: CallAnswer) -> InferenceResponse:
    if answer.error is not None:
        return InferenceResponse(error=_worded(request.model, answer.error))
    tensors: list[Tensor] = []
    if answer.block is not None:
        lease = session.lines.inbox.lease(answer.block)
        for name, laid in zip(answer.names, answer.tensors, strict=True):
            tensors.append(Tensor.holding(name, laid.datatype, look(lease, answer.block, laid)))
    return InferenceResponse(tensors, parameters=answer.parameters)


def _worded(model: str, error: dict[str, object]) -> TritonError:
    """What went wrong; of a model that is not there, in Triton's words."""
    told = TritonError.of(error)
    if error["code"] not in _NOT_THERE:
        return told
    return TritonError(
        f"Model {model} - Error when running inference: Failed for execute the inference request. "
        f"Model '{model}' is not ready.",
        told.code(),
    )


def _drop(session: Session, call: int, first: CallAnswer) -> None:
    if first.block is not None:
        session.lines.inbox.give_back(first.block)
    if not first.final:
        session.lines.mailbox.forget(call)
        session.lines.mailbox.send(CallBack(call))

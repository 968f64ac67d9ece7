"""Decoupled models over gRPC: on a stream every answer is a response; a call of its own gets the only one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from taxiway.core.errors import TaxiwayError, Unsupported
from taxiway.core.requests import BatchResult, InferRequest
from taxiway.server.models.served import ServedModel
from taxiway.server.wire.collected import OnlyAnswer, told_outputs
from taxiway.server.wire.grpc.asked import AnswerStream, Ask
from taxiway.server.wire.grpc.infer import Edge, MessageCodec, Reading
from taxiway.server.wire.grpc.infer_answers import FINAL, MORE_FOLLOWS
from taxiway.server.wire.grpc.protos import Message
from taxiway.server.wire.status import TRITON


def codec_of(served: ServedModel, edge: Edge) -> MessageCodec:
    """What reads requests for a version and writes its answers."""
    kind = MessageCodec
    if served.spec.decoupled:
        kind = RefusingCodec if edge.calls.profile is TRITON else DecoupledCodec
    return kind(served, edge)


class DecoupledCodec(MessageCodec):
    """For one version of a decoupled model."""

    answers_once = False

    def submit(self, request: InferRequest, ask: Ask, deadline_ns: int) -> None:
        """Hand a request to the queue, to be answered as `ask` says, by the call's deadline.

        Raises:
            TaxiwayError: it is refused; nothing is owed to it but this error.
        """
        if ask.stream is None:
            request.responder = OnlyAnswer(self, self._entrance, self.signature.model)
            super().submit(request, ask, deadline_ns)
            return
        ask.stream.opened(request, ask.body, self.abandon)
        try:
            super().submit(request, ask, deadline_ns)
        except Exception:
            ask.stream.refused(request)
            raise
        ask.answer.cancel()  # nobody waits for an only one

    def part(self, request: InferRequest, answer: BatchResult | TaxiwayError) -> None:
        """One of several answers, on a stream: write it."""
        ask = cast("Ask", request.ask)
        if isinstance(answer, TaxiwayError):
            _stream_of(ask).tell_error(request, answer, final=False)
        else:
            self._tell(ask, request, answer, MORE_FOLLOWS)

    def resolve(self, request: InferRequest, result: BatchResult, start: int, stop: int) -> None:
        """The last answer, or that there is none left; or the only answer, to a call of its own."""
        ask = cast("Ask", request.ask)
        if ask.stream is None:
            told = told_outputs(ask.choices or self._every, result)
            request.ask = ask._replace(choices=told)
            super().resolve(request, result, start, stop)
            return
        self._settle(request)
        if result.names:
            self._tell(ask, request, result, FINAL)
        elif ask.empty_final:
            ask.stream.tell_end(request)
        ask.stream.closed(request)

    def reject(self, request: InferRequest, error: TaxiwayError) -> None:
        """There is no further answer, and this is why."""
        stream = cast("Ask", request.ask).stream
        if stream is None:
            super().reject(request, error)
            return
        self._settle(request)
        stream.tell_error(request, error, final=True)
        stream.closed(request)

    def _tell(self, ask: Ask, request: InferRequest, answer: BatchResult, mark: bytes) -> None:
        stream = _stream_of(ask)
        opening = self._writer.opening(request.id, final=False) + mark
        choices = told_outputs(ask.choices or self._every, answer)
        try:
            content = self._write_choices(opening, choices, answer, typed=ask.typed)
        except Exception as problem:  # noqa: BLE001 - the boundary: there are other answers, and other requests
            stream.tell_error(request, problem, final=mark is FINAL)
        else:
            stream.tell(content)


class RefusingCodec(DecoupledCodec):
    """As Triton: a call of its own is not for decoupled models."""

    def read(
        self, message: Message, raw: Sequence[bytes | memoryview], nbytes: int, arrived_ns: int, *, on_stream: bool
    ) -> Reading:
        """The request in `message`, and what it wants.

        Raises:
            Unsupported: it came on no stream.
            InvalidArgument: what is wrong with it, and where.
        """
        if not on_stream:
            raise Unsupported("ModelInfer RPC doesn't support models with decoupled transaction policy")
        return super().read(message, raw, nbytes, arrived_ns, on_stream=on_stream)


def _stream_of(ask: Ask) -> AnswerStream:
    assert ask.stream is not None  # noqa: S101 - on a call of its own OnlyAnswer stands before the codec
    return ask.stream

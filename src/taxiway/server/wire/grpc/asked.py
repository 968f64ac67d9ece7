"""What a request that came over gRPC wants of its answer, or answers, and where they go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple, Protocol

from taxiway.core.requests import InferRequest
from taxiway.server.wire.asks import Choices
from taxiway.server.wire.grpc.calls import Context

Answer = asyncio.Future["bytes | Exception"]
"""An answer's bytes, or why there are none: as a result, since nobody may be left to fetch an exception."""


class AnswerStream(Protocol):
    """A call of ModelStreamInfer, to whoever has any number of answers to a request on it."""

    def opened(self, request: InferRequest, body: bytes, take_back: Callable[[InferRequest], None]) -> None:
        """Answers to `request`, which came as `body`, are to be expected; its caller may go before they come."""

    def refused(self, request: InferRequest) -> None:
        """It was not taken after all; whoever handed it over is told."""

    def tell(self, content: bytes) -> None:
        """One answer: a ModelInferResponse."""

    def tell_error(self, request: InferRequest, problem: Exception, *, final: bool) -> None:
        """Why there is none, in the place of one."""

    def tell_end(self, request: InferRequest) -> None:
        """That no answer follows, in a response of its own."""

    def closed(self, request: InferRequest) -> None:
        """No answer follows."""


class Ask(NamedTuple):
    """What an answer needs to be worded, and where it goes.

    Attributes:
        answer: who waits for the only one.
        choices: which outputs in which form; None: all, raw.
        typed: whether as typed contents.
        stream: the call of ModelStreamInfer that it came on; None: it came on a call of its own.
        body: the message; of a request on a stream.
        empty_final: whether the end of several answers is to be told in a response of its own.
    """

    answer: Answer
    choices: Choices | None
    typed: bool
    stream: AnswerStream | None
    context: Context
    body: bytes = b""
    empty_final: bool = False

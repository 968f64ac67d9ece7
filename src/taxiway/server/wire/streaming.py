"""Requests whose answers are events of one body, over HTTP: any number of answers, from whatever model.

What is asked and how an answer reads are each protocol's own; how answers become a stream is the same for all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import NamedTuple, cast

from taxiway.core.errors import InternalError, TaxiwayError
from taxiway.core.requests import BatchResult, InferRequest
from taxiway.server.models.served import ServedModel
from taxiway.server.wire.asks import Choices, every_output
from taxiway.server.wire.collected import told_outputs
from taxiway.server.wire.events import EventStream, form_wanted
from taxiway.server.wire.exchange import Exchange
from taxiway.server.wire.oip import Common, InferCodec, InferEndpoint, chosen
from taxiway.server.wire.oip_answers import AnswerWriter
from taxiway.server.wire.oip_requests import RequestReader


class StreamAsk(NamedTuple):
    """What answers need to be worded: who waits, where they go, and which outputs they tell (None: all)."""

    exchange: Exchange
    events: EventStream
    choices: Choices | None


class Answered(NamedTuple):
    """One answer: rows [start, stop) of `result`; `final`: no other follows."""

    result: BatchResult
    start: int
    stop: int
    final: bool


class StreamCodec(ABC):
    """Reads requests for one version, submits them, and writes each answer as it comes."""

    def __init__(self, served: ServedModel, infer: InferCodec) -> None:
        self._statistics = served.statistics
        self._submit = infer.submit_stream
        self._leave = infer.entrance.leave

    # --- the protocol's words -----------------------------------------------------------------------------

    @abstractmethod
    def read(self, exchange: Exchange) -> tuple[InferRequest, Choices | None]:
        """The request in the exchange's body, and the outputs it wants.

        Raises:
            InvalidArgument: what is wrong with it, and where.
        """

    @abstractmethod
    def write(self, request_id: str | None, choices: Choices | None, answer: Answered) -> bytes:
        """The JSON that tells an answer.

        Raises:
            InvalidArgument: an output cannot be told in JSON.
        """

    def reword(self, error: TaxiwayError) -> TaxiwayError:
        """The protocol's own error for a request that could not be read."""
        return error

    def events(self, exchange: Exchange) -> EventStream:
        """Where the answers go."""
        return EventStream(exchange, form_wanted(exchange))

    # --- the way of a request -----------------------------------------------------------------------------

    def take(self, exchange: Exchange) -> None:
        """Take in one request.

        Raises:
            TaxiwayError: it is refused; nothing is owed to it but this error.
        """
        try:
            request, choices = self.read(exchange)
        except TaxiwayError as error:
            self._statistics.invalid(error.code)
            raise self.reword(error) from error
        request.ask = StreamAsk(exchange, self.events(exchange), choices)
        if exchange.head.timeout_ns:
            request.deadline_ns = min(request.deadline_ns, exchange.arrived_ns + exchange.head.timeout_ns)
        self._submit(exchange, request)

    def part(self, request: InferRequest, answer: BatchResult | TaxiwayError) -> None:
        """One of several answers: write it."""
        ask = cast("StreamAsk", request.ask)
        if isinstance(answer, TaxiwayError):
            ask.events.tell_error(answer)
            return
        try:
            document = self.write(request.id, ask.choices, Answered(answer, 0, answer.rows, final=False))
        except Exception as problem:  # noqa: BLE001 - the boundary: the model has more to say
            ask.events.tell_error(_told(ask.exchange, problem))
        else:
            ask.events.tell(document)

    def resolve(self, request: InferRequest, result: BatchResult, start: int, stop: int) -> None:
        """The last answer, or that there is none left."""
        ask = self._settle(request)
        if not result.names:
            ask.events.end()
            return
        try:
            document = self.write(request.id, ask.choices, Answered(result, start, stop, final=True))
        except Exception as problem:  # noqa: BLE001 - the boundary: nobody above would answer this client
            ask.events.fail(_told(ask.exchange, problem))
        else:
            ask.events.end(document)

    def reject(self, request: InferRequest, error: TaxiwayError) -> None:
        """There is no further answer, and this is why."""
        self._settle(request).events.fail(error)

    def _settle(self, request: InferRequest) -> StreamAsk:
        ask = cast("StreamAsk", request.ask)
        self._leave()
        ask.exchange.on_abandoned = None
        return ask


class InferStreamCodec(StreamCodec):
    """Requests as /infer takes them; answers as it gives them, all outputs as JSON."""

    def __init__(self, served: ServedModel, common: Common, infer: InferCodec) -> None:
        super().__init__(served, infer)
        spec = served.spec
        self._reader = RequestReader.of(spec, common.limits, regions=common.regions)
        self._reserve_bytes = common.admission.reserve_bytes
        self._every = every_output(spec.outputs)
        self._last, self._more = (
            AnswerWriter(
                spec.name,
                served.version,
                spec.outputs,
                batches=served.batches,
                parameters={"triton_final_response": final},
            )
            for final in (True, False)
        )

    def read(self, exchange: Exchange) -> tuple[InferRequest, Choices | None]:
        """The request; that it wants outputs in binary says nothing here, where every answer is an event."""
        request, parsed = self._reader.read(exchange.body, exchange.head.json_length, self, exchange.arrived_ns)
        if parsed.copied:
            self._reserve_bytes(parsed.copied)
            exchange.reserved_bytes += parsed.copied
        if parsed.choices is None:
            return request, None
        return request, tuple([replace(choice, binary=choice.window is not None) for choice in parsed.choices])

    def write(self, request_id: str | None, choices: Choices | None, answer: Answered) -> bytes:
        """One answer."""
        writer = self._last if answer.final else self._more
        told = told_outputs(choices or self._every, answer.result)
        return writer.write_mixed(request_id, told, answer.result, answer.start, answer.stop)[0]


class InferStreamEndpoint:
    """POST /v2/models/{model}[/versions/{version}]/infer_stream."""

    def __init__(self, common: Common, infer: InferEndpoint) -> None:
        self._common = common
        self._infer = infer

    def __call__(self, exchange: Exchange) -> None:
        """Take in one request."""
        served = chosen(self._common.routing, exchange)
        codec = served.codecs.get("infer_stream")
        if codec is None:
            codec = InferStreamCodec(served, self._common, self._infer.codec_of(served))
            served.codecs["infer_stream"] = codec
        cast("InferStreamCodec", codec).take(exchange)


def _told(exchange: Exchange, problem: Exception) -> TaxiwayError:
    """The error a caller is told of what came up while an answer was worded; a defect of ours goes to the log."""
    if isinstance(problem, TaxiwayError):
        return problem
    exchange.connection.front.report_bug(problem)
    return InternalError("internal error; the server's log has the details")

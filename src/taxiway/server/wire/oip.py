"""Inference over the Open Inference Protocol v2."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, cast

from taxiway.core.errors import TaxiwayError, Unsupported
from taxiway.core.requests import BatchResult, InferRequest
from taxiway.server.admission import Admission
from taxiway.server.entrance import Entrance
from taxiway.server.models.served import ServedModel
from taxiway.server.routing import Snapshot
from taxiway.server.shared_memory import Regions
from taxiway.server.signature import WireLimits
from taxiway.server.tracing.context import HEADERS
from taxiway.server.tracing.trace import Origin
from taxiway.server.wire.asks import Choices, every_output
from taxiway.server.wire.cold import Hold
from taxiway.server.wire.collected import OnlyAnswer, told_outputs
from taxiway.server.wire.exchange import Exchange
from taxiway.server.wire.oip_answers import AnswerWriter
from taxiway.server.wire.oip_requests import RequestReader

Ask = tuple[Exchange, Choices | None]
"""What an answer needs to be worded: who waits, and which outputs in which form (None: all, as JSON)."""


def origin_of(request: InferRequest) -> Origin:
    """How a request came in over HTTP; every codec's `ask` begins with the exchange."""
    exchange = cast("Exchange", request.ask[0])
    head = exchange.head
    context = {name: head.headers[name.encode()].decode("latin-1") for name in HEADERS if name.encode() in head.headers}
    route = "" if head.match.route is None else head.match.route.pattern
    scheme = "http" if exchange.connection.transport.get_extra_info("ssl_object") is None else "https"
    attributes = {"http.request.method": "POST", "http.route": route, "url.scheme": scheme}
    return Origin("HTTP", context, f"POST {route}", attributes)


class InferCodec:
    """Reads requests for one version, submits them, and writes the answers."""

    def __init__(self, served: ServedModel, common: Common, *, as_triton: bool) -> None:
        spec, admission = served.spec, common.admission
        self.entrance = Entrance(served, admission, origin_of)
        self._statistics = served.statistics
        self._reserve_bytes = admission.reserve_bytes
        self._reader = RequestReader.of(
            spec, common.limits, binary_overrides_listed=not as_triton, regions=common.regions
        )
        self._writer = AnswerWriter(spec.name, served.version, spec.outputs, batches=served.batches)
        self._every = every_output(spec.outputs)

    def infer(self, exchange: Exchange) -> None:
        """Take in one request.

        Raises:
            TaxiwayError: it is refused; nothing is owed to it but this error.
        """
        head = exchange.head
        try:
            request, parsed = self._reader.read(exchange.body, head.json_length, self, exchange.arrived_ns)
        except TaxiwayError as error:
            self._statistics.invalid(error.code)
            raise
        if parsed.copied:
            self._reserve_bytes(parsed.copied)
            exchange.reserved_bytes += parsed.copied
        request.ask = (exchange, parsed.choices)
        if head.timeout_ns:
            request.deadline_ns = min(request.deadline_ns, exchange.arrived_ns + head.timeout_ns)
        self.submit(exchange, request)

    def submit(self, exchange: Exchange, request: InferRequest) -> None:
        """Hand a request to the queue; whatever its edge, it is counted, and dropped if its client goes away."""
        # Before: it may be answered before that returns, and its answer be packed while its client goes.
        exchange.on_abandoned = partial(self.entrance.abandon, request)
        try:
            self.entrance.submit(request)
        except Exception:
            exchange.on_abandoned = None
            raise

    submit_stream = submit
    """As `submit`, whatever becomes of that: for edges whose responders take any number of answers."""

    def resolve(self, request: InferRequest, result: BatchResult, start: int, stop: int) -> None:
        """The batcher's answer: write it."""
        exchange, choices = cast("Ask", request.ask)
        self.entrance.leave()
        exchange.on_abandoned = None
        try:
            if result.notes is not None:
                told = told_outputs(choices or self._every, result)
                self._reply_mixed(exchange, request, told, result, start, stop)
            elif choices is None:
                exchange.reply_json(self._writer.write_json(request.id, result, start, stop))
            else:
                self._reply_mixed(exchange, request, choices, result, start, stop)
        except TaxiwayError as error:
            exchange.reply_error(error)
        except Exception as problem:  # noqa: BLE001 - the boundary: nobody above would answer this client
            exchange.reply_bug(problem)

    def _reply_mixed(
        self,
        exchange: Exchange,
        request: InferRequest,
        choices: Choices,
        result: BatchResult,
        start: int,
        stop: int,
    ) -> None:
        text, binary = self._writer.write_mixed(request.id, choices, result, start, stop)
        if not any(len(buffer) for buffer in binary):
            exchange.reply(200, text)
            return
        headers = (("Inference-Header-Content-Length", str(len(text))),)
        exchange.reply_pieces(200, [text, *binary], "application/octet-stream", headers)

    def reject(self, request: InferRequest, error: TaxiwayError) -> None:
        """The batcher's refusal: tell it."""
        exchange, _ = cast("Ask", request.ask)
        self.entrance.leave()
        exchange.on_abandoned = None
        exchange.reply_error(error)


class CollectingCodec(InferCodec):
    """For a decoupled model: every edge that carries one answer gets it from here, or hears that it was not one."""

    def __init__(self, served: ServedModel, common: Common, *, as_triton: bool) -> None:
        super().__init__(served, common, as_triton=as_triton)
        self._name = served.name

    def submit(self, exchange: Exchange, request: InferRequest) -> None:
        """Hand a request to the queue, and wait for all its answers."""
        request.responder = OnlyAnswer(request.responder, self.entrance, self._name)
        super().submit(exchange, request)

    def resolve(self, request: InferRequest, result: BatchResult, start: int, stop: int) -> None:
        """The only answer: write the outputs that it has."""
        exchange, choices = cast("Ask", request.ask)
        request.ask = exchange, told_outputs(choices or self._every, result)
        super().resolve(request, result, start, stop)


class RefusingCodec(CollectingCodec):
    """As Triton: /infer is not for decoupled models."""

    def infer(self, exchange: Exchange) -> None:  # noqa: ARG002 - none is taken in
        """Take in one request.

        Raises:
            Unsupported: always.
        """
        raise Unsupported("HTTP end point doesn't support models with decoupled transaction policy")


class Common(NamedTuple):
    """What the front doors of inference share.

    Attributes:
        regions: the shared memory in which tensors may lie.
        hold: makes of an endpoint one that waits for models which are loaded when they are asked for.
    """

    routing: Callable[[], Snapshot]
    admission: Admission
    limits: WireLimits
    regions: Regions
    hold: Hold


def chosen(routing: Callable[[], Snapshot], exchange: Exchange) -> ServedModel:
    """The version that answers an exchange whose path names a model.

    Raises:
        TaxiwayError: none does, as `Snapshot.find`.
    """
    head = exchange.head
    params = head.match.params
    return routing().choose(params["model"], params.get("version"), head.headers.get, head.caller)[0]


class InferEndpoint:
    """POST /v2/models/{model}[/versions/{version}]/infer."""

    def __init__(self, common: Common, *, as_triton: bool) -> None:
        self._common = common
        self._routing = common.routing
        self._decoded = common.hold(self)
        self._as_triton = as_triton

    def codec(self, exchange: Exchange) -> InferCodec:
        """The codec of the version that the exchange's path names.

        Raises:
            ModelNotFound: none does.
        """
        head = exchange.head
        match = head.match
        snapshot = self._routing()
        if match.memo is not None and match.memo[0] is snapshot:
            return cast("InferCodec", match.memo[1])
        params = match.params
        served, again = snapshot.choose(params["model"], params.get("version"), head.headers.get, head.caller)
        codec = self.codec_of(served)
        if again:
            match.memo = (snapshot, codec)
        return codec

    def codec_of(self, served: ServedModel) -> InferCodec:
        """The codec of a version."""
        codec = served.codecs.get("oip")
        if codec is None:
            codec = served.codecs["oip"] = self._make_codec(served)
        return cast("InferCodec", codec)

    def _make_codec(self, served: ServedModel) -> InferCodec:
        kind = InferCodec
        if served.spec.decoupled:
            kind = RefusingCodec if self._as_triton else CollectingCodec
        return kind(served, self._common, as_triton=self._as_triton)

    def __call__(self, exchange: Exchange) -> None:
        """Take in one request."""
        self.codec(exchange).infer(exchange)

    def find_before_decoding(self, exchange: Exchange) -> None:
        """Take in one request in Triton's order: no model comes before no such coding."""
        infer = self.codec(exchange).infer
        if exchange.head.encodings:
            # Found again when it is decoded: the routes may have changed meanwhile.
            exchange.connection.front.coder.decode(exchange, self._decoded)
        else:
            infer(exchange)

"""ModelInfer: from a call's message to an owed answer, and back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from time import monotonic_ns
from typing import Any, NamedTuple, cast

from taxiway.core.errors import ColdModel, InvalidArgument, TaxiwayError
from taxiway.core.requests import BatchResult, InferRequest
from taxiway.server.admission import Admission
from taxiway.server.batching.answers import as_error
from taxiway.server.entrance import Entrance
from taxiway.server.models.cold import ColdStarts
from taxiway.server.models.served import ServedModel
from taxiway.server.routing import Snapshot
from taxiway.server.shared_memory import NO_REGIONS, Regions
from taxiway.server.signature import Signature, WireLimits
from taxiway.server.tracing.context import HEADERS
from taxiway.server.tracing.trace import Origin
from taxiway.server.wire.asks import Choices, OutputMenu
from taxiway.server.wire.collected import told_outputs
from taxiway.server.wire.grpc.asked import Answer, AnswerStream, Ask
from taxiway.server.wire.grpc.calls import Calls, Context, Guard, authorization_of, deadline_of, header_of, headers_of
from taxiway.server.wire.grpc.envelope import open_request
from taxiway.server.wire.grpc.familiar import Familiar, Familiars
from taxiway.server.wire.grpc.infer_answers import MessageWriter
from taxiway.server.wire.grpc.infer_requests import MessageReader
from taxiway.server.wire.grpc.protos import INFERENCE, Message

METHOD = "ModelInfer"
STREAM_METHOD = "ModelStreamInfer"
MAX_MESSAGE_BYTES = (1 << 31) - 1
"""What gRPC can frame as one message."""
_LARGE_BYTES = 64 * 1024
"""Answers from this size are counted until the transport has taken them."""

Reading = tuple[InferRequest, Choices | None, bool, bool]
"""A request, the outputs it wants (None: all, raw), whether as typed contents, and whether it wants an empty final."""


class Edge(NamedTuple):
    """What inference over gRPC is made with.

    Attributes:
        cold: holds requests for models that were unloaded to make room.
        guard: who decides who may call; None lets everybody.
        regions: the shared memory in which tensors may lie.
    """

    routing: Callable[[], Snapshot]
    admission: Admission
    limits: WireLimits
    calls: Calls
    cold: ColdStarts
    guard: Guard | None
    regions: Regions = NO_REGIONS


def origin_of(request: InferRequest) -> Origin:
    """How a request came in over gRPC."""
    ask = cast("Ask", request.ask)
    headers = {name: value for name in HEADERS if (value := header_of(ask.context, name)) is not None}
    method = METHOD if ask.stream is None else STREAM_METHOD
    attributes = {"rpc.system": "grpc", "rpc.service": INFERENCE, "rpc.method": method}
    return Origin("GRPC", headers, f"{INFERENCE}/{method}", attributes)


class MessageCodec:
    """Reads requests for one version, submits them, and writes the answers."""

    answers_once = True
    """Whether each request has one answer, which on a stream waits for those of earlier requests."""

    def __init__(self, served: ServedModel, edge: Edge) -> None:
        spec, regions = served.spec, edge.regions
        self._admission = edge.admission
        self._entrance = Entrance(served, edge.admission, origin_of)
        self._statistics = served.statistics
        menu = OutputMenu(spec.name, spec.outputs, binary_overrides_listed=True, regions=regions)
        self._every = menu.all_binary()
        self.signature = Signature(spec.name, spec.inputs, spec.max_batch_size, edge.limits)
        self._reader = MessageReader(self.signature, menu, regions)
        self._offered = served.run_alone
        self._run_alone = served.run_alone
        """Answers what nothing but the model has to see; None: a cache has, or somebody who traces."""
        served.traces.follow(self._trace)
        self._writer = MessageWriter(spec.name, served.version, spec.outputs, batches=served.batches)

    def read(
        self,
        message: Message,
        raw: Sequence[bytes | memoryview],
        nbytes: int,
        arrived_ns: int,
        *,
        on_stream: bool,  # noqa: ARG002 - a subclass takes no others
    ) -> Reading:
        """The request in `message`, and what it wants; on a stream, or on a call of its own.

        Raises:
            InvalidArgument: what is wrong with it, and where.
        """
        try:
            request, parsed = self._reader.read(message, raw, nbytes, self, arrived_ns)
        except TaxiwayError as error:
            self._statistics.invalid(error.code)
            raise
        typed = parsed.parameters is not None and parsed.parameters.get("contents") == "typed"
        return request, parsed.choices, typed, parsed.empty_final

    def submit(self, request: InferRequest, ask: Ask, deadline_ns: int) -> None:
        """Hand a request to the queue, to be answered as `ask` says, by the call's deadline.

        Raises:
            TaxiwayError: it is refused; nothing is owed to it but this error.
        """
        request.ask = ask
        request.deadline_ns = min(request.deadline_ns, deadline_ns)
        self._admission.reserve_bytes(request.nbytes)
        try:
            self._entrance.submit(request)
        except Exception:
            self._admission.release_bytes(request.nbytes)
            raise

    def _trace(self, wanted: bool) -> None:
        self._run_alone = None if wanted else self._offered

    def answer_alone(self, request: InferRequest, choices: Choices | None) -> bytes | None:
        """The answer to a request that is cheap and need not wait; None: it is to be submitted.

        Raises:
            TaxiwayError: the model failed, or its outputs cannot be told so.
        """
        if self._run_alone is None or not self._admission.is_open():
            return None
        outcome = self._run_alone(request)
        if outcome is None:
            return None
        if outcome.result is None:
            raise as_error(outcome)
        opening = self._writer.opening(None, final=False)
        if choices is None:
            return _checked(self._writer.write(opening, outcome.result, 0, request.rows))
        return _checked(self._writer.write_chosen(opening, choices, outcome.result, 0, request.rows))

    def abandon(self, request: InferRequest) -> None:
        """The caller has gone: a request that is not answered yet costs no execution, if it still can."""
        if request.ask is not None:
            request.ask = None
            self._entrance.abandon(request)
            self._admission.release_bytes(request.nbytes)

    def resolve(self, request: InferRequest, result: BatchResult, start: int, stop: int) -> None:
        """The batcher's answer: write it."""
        ask = self._settle(request)
        if ask.answer.done():  # its caller went away, and has not been heard yet
            return
        try:
            ask.answer.set_result(self._write(ask, request.id, result, start, stop))
        except Exception as problem:  # noqa: BLE001 - the boundary: nobody above would answer this caller
            ask.answer.set_result(problem)

    def reject(self, request: InferRequest, error: TaxiwayError) -> None:
        """The batcher's refusal: tell it."""
        ask = self._settle(request)
        if not ask.answer.done():
            ask.answer.set_result(error)

    def _settle(self, request: InferRequest) -> Ask:
        ask = cast("Ask", request.ask)
        request.ask = None
        self._entrance.leave()
        self._admission.release_bytes(request.nbytes)
        return ask

    def _write(self, ask: Ask, request_id: str | None, result: BatchResult, start: int, stop: int) -> bytes:
        opening = self._writer.opening(request_id, final=ask.stream is not None)
        if result.notes is not None:
            told = told_outputs(ask.choices or self._every, result)
            return self._write_choices(opening, told, result, typed=ask.typed)
        if ask.typed:
            body = self._writer.write_typed(opening, ask.choices or self._every, result, start, stop)
        elif ask.choices is not None:
            body = self._writer.write_chosen(opening, ask.choices, result, start, stop)
        else:
            body = self._writer.write(opening, result, start, stop)
        return _checked(body)

    def _write_choices(self, opening: bytes, choices: Choices, result: BatchResult, *, typed: bool) -> bytes:
        """Of a result that is one request's, the outputs in `choices`."""
        write = self._writer.write_typed if typed else self._writer.write_chosen
        return _checked(write(opening, choices, result, 0, result.rows))


def _checked(body: bytes) -> bytes:
    if len(body) > MAX_MESSAGE_BYTES:
        raise InvalidArgument(
            f"the answer is {len(body)} bytes; gRPC carries at most {MAX_MESSAGE_BYTES} in one message",
            hint="ask for fewer rows or outputs, or over HTTP",
        )
    return body


Taken = tuple[MessageCodec, InferRequest]
"""A request that was taken in, and who can take it back."""


class InferEndpoint:
    """Takes in requests for any model, and answers ModelInfer."""

    def __init__(self, edge: Edge, make_codec: Callable[[ServedModel, Edge], MessageCodec]) -> None:
        self._edge = edge
        self._make_codec = make_codec
        self._routing, self._admission, _, self._calls, self._cold, self._guard, _ = edge
        self._routing_held = edge.routing
        """For requests that were taken before the server began to stop, and wait for their model."""
        self._new_answer = asyncio.get_running_loop().create_future
        self._codecs: dict[tuple[str, str], MessageCodec] = {}
        """By the model and version that a request names, until the routes change."""
        self._familiars = Familiars()
        self._waiting: set[Answer] = set()
        """Everybody who is owed an answer."""
        self._gate: asyncio.Event | None = None
        """Further requests wait for it, if there is one."""

    async def infer(self, body: bytes, context: Context) -> bytes:
        """Answer one call."""
        try:
            content = self._answer_alone(body, context)
            if content is None:
                answer: Answer = self._new_answer()
                taken = self.take_familiar(body, answer, context, None)
                codec, request = taken or await self.take(body, answer, context, None)
                content = content_of(answer.result() if answer.done() else await self._wait(answer, codec, request))
        except asyncio.CancelledError:  # the client has gone, or cancelled the call
            self._calls.statistics.ended(METHOD, "CANCELLED")
            raise
        except Exception as problem:  # noqa: BLE001 - the boundary: every call ends with a status
            await self._calls.fail(context, METHOD, problem, *named_in(body))
        self._calls.statistics.ended(METHOD, "OK")
        if len(content) >= _LARGE_BYTES:
            self._hold(context, len(content))
        return content

    def _answer_alone(self, body: bytes, context: Context) -> bytes | None:
        """The answer to a request that is like an earlier one, cheap, and need not wait for anybody."""
        known = self._familiars.find(body)
        if known is None:
            return None
        request = self._familiar_request(known, body, context)
        return known.codec.answer_alone(request, known.choices)

    def _familiar_request(self, known: Familiar, body: bytes, context: Context) -> InferRequest:
        arrived_ns = monotonic_ns()
        if self._guard is not None:
            self._guard.check(authorization_of(context), "infer", known.model)
        request = InferRequest(
            known.inputs(body), known.rows, known.codec, arrived_ns, len(body), known.bucket, known.outputs
        )
        request.deadline_ns = deadline_of(context, arrived_ns)
        return request

    async def _wait(self, answer: Answer, codec: MessageCodec, request: InferRequest) -> bytes | Exception:
        self._waiting.add(answer)
        try:
            return await answer
        except asyncio.CancelledError:
            codec.abandon(request)
            raise
        finally:
            self._waiting.discard(answer)

    def take_familiar(self, body: bytes, answer: Answer, context: Context, stream: AnswerStream | None) -> Taken | None:
        """Take in a request that is like an earlier one, if it is; as `take`."""
        known = self._familiars.find(body)
        if known is None:
            return None
        request = self._familiar_request(known, body, context)
        known.codec.submit(request, Ask(answer, known.choices, False, stream, context), request.deadline_ns)
        return known.codec, request

    async def take(self, body: bytes, answer: Answer, context: Context, stream: AnswerStream | None) -> Taken:
        """Take in one request, which `answer` then tells the end of; that may be before this returns.

        Raises:
            TaxiwayError: it is refused; nothing is owed to it but this error.
        """
        arrived_ns = monotonic_ns()
        if self._gate is not None:
            await self._gate.wait()
        message, raw = open_request(body)
        model, version = message.model_name, message.model_version
        caller = ""
        if self._guard is not None:
            caller = self._guard.check(authorization_of(context), "infer", model).name
        deadline_ns = deadline_of(context, arrived_ns)
        try:
            codec = self.codec(model, version, context, caller)
        except ColdModel:
            codec = await self._warm_codec(model, version, context, len(body), deadline_ns)
        request, choices, typed, empty_final = codec.read(
            message, raw, len(body), arrived_ns, on_stream=stream is not None
        )
        # Nothing of it lies in shared memory, and the routes lead there for the next one too.
        if request.nbytes == len(body) and self._codecs.get((model, version)) is codec:
            self._familiars.remember(body, message, codec, request, choices)
        codec.submit(request, Ask(answer, choices, typed, stream, context, body, empty_final), deadline_ns)
        return codec, request

    def hold_back(self) -> None:
        """From now on let every further request wait; what was taken is answered as before."""
        self._gate = asyncio.Event()
        self.forget_routes()  # all of them come by `take` then

    def go_on(self) -> None:
        """Take in those that wait, and further ones."""
        if self._gate is not None:
            self._gate.set()
            self._gate = None

    def refuse(self, error: TaxiwayError) -> None:
        """From now on answer every further request by `error`; what was taken is answered as before."""

        def refused() -> Snapshot:
            raise error

        self._routing = refused
        self.forget_routes()

    def codec(self, model: str, version: str, context: Context, caller: str) -> MessageCodec:
        """The codec of the version that answers a request.

        Raises:
            ModelNotFound, Unavailable, InvalidArgument: as `Snapshot.find`.
        """
        codec = self._codecs.get((model, version))
        if codec is not None:
            return codec
        snapshot = self._routing()
        codec = self._find_codec(snapshot, model, version, context, caller)
        if version or model not in snapshot.splits:  # otherwise the next one may be another caller's
            self._codecs[model, version] = codec
        return codec

    def _find_codec(self, snapshot: Snapshot, model: str, version: str, context: Context, caller: str) -> MessageCodec:
        served, _ = snapshot.choose(model, version_of(version), headers_of(context), caller)
        codec = served.codecs.get("grpc")
        if codec is None:
            codec = served.codecs["grpc"] = self._make_codec(served, self._edge)
        return cast("MessageCodec", codec)

    async def _warm_codec(
        self, model: str, version: str, context: Context, nbytes: int, deadline_ns: int
    ) -> MessageCodec:
        """The codec of a version that was unloaded to make room, once it is back; `nbytes` are held meanwhile.

        Raises:
            TaxiwayError: it will not be, or not in time.
        """
        self._admission.reserve_bytes(nbytes)
        try:
            while True:
                await self._cold.wait(model, deadline_ns)
                with contextlib.suppress(ColdModel):  # another may have pushed it out again
                    return self._find_codec(self._routing_held(), model, version, context, "")
        finally:
            self._admission.release_bytes(nbytes)

    def forget_routes(self) -> None:
        """Drop what is remembered of routes that hold no more: it keeps closed models in memory."""
        self._codecs.clear()
        self._familiars.forget()

    def expect(self) -> Answer:
        """Somebody who waits on a stream."""
        answer: Answer = self._new_answer()
        self._waiting.add(answer)
        answer.add_done_callback(self._waiting.discard)
        return answer

    def give_up(self, error: TaxiwayError) -> None:
        """Answer everybody who waits by `error`, now."""
        for answer in self._waiting:
            if not answer.done():
                answer.set_result(error)

    def _hold(self, context: Context, nbytes: int) -> None:
        """Count an answer that may be a while in memory, until its call has ended."""
        admission = self._admission
        admission.hold_bytes(nbytes)

        def release(_: Any) -> None:  # noqa: ANN401 - the context again
            admission.release_bytes(nbytes)

        context.add_done_callback(release)


def named_in(body: bytes) -> tuple[str, str]:
    """The model and version that a request names, as far as it can be read."""
    try:
        message, _ = open_request(body)
    except TaxiwayError:
        return ("", "")
    return message.model_name, message.model_version


def content_of(told: bytes | Exception) -> bytes:
    """The answer, if it is one.

    Raises:
        Exception: it is the reason why there is none.
    """
    if isinstance(told, bytes):
        return told
    raise told


def version_of(text: str) -> str | None:
    """A version as `Snapshot.find` takes it; None where a message leaves it out.

    Raises:
        InvalidArgument: it is no number.
    """
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise InvalidArgument(
            f"failed to get model version from specified version string '{text[:40]}', "
            "version should be an integral value > 0"
        )
    return text

"""The generate extension: POST /v2/models/{model}[/versions/{version}]/generate and /generate_stream.

A request is a flat object: members named like inputs are their elements, the rest are parameters. The answer is a
flat object too. Of a model that answers once, a stream is one event; of a decoupled one, as many as it has answers.
"""

from __future__ import annotations

from typing import Any

import orjson

from taxiway.core.errors import (
    GenerateInvalid,
    InvalidArgument,
    MalformedJson,
    MalformedRequest,
    NotOneAnswer,
    Overloaded,
    TaxiwayError,
    TooLarge,
    Unavailable,
    UnknownTensor,
    WrongShape,
)
from taxiway.core.requests import BatchResult, InferRequest, Responder
from taxiway.core.tensors import Datatype, Shape, TensorSpec, count_elements
from taxiway.server.models.served import ServedModel
from taxiway.server.signature import Given
from taxiway.server.wire.asks import Parsed, read_parameters
from taxiway.server.wire.elements import elements_of, parse_json, print_elements, print_texts
from taxiway.server.wire.events import SSE, EventStream, TritonEventStream
from taxiway.server.wire.exchange import Exchange
from taxiway.server.wire.oip import InferCodec
from taxiway.server.wire.oip_requests import RequestReader
from taxiway.server.wire.plain import Edge, PlainAsk, PlainCodec, PlainEndpoint, flat_elements
from taxiway.server.wire.streaming import Answered, StreamCodec

_WHOLE = "generate"
_STREAM = "generate_stream"
_HEEDED = ("priority", "timeout", "sequence_id", "sequence_start", "sequence_end")
_NOT_ONE = (
    "generate expects model to produce exactly 1 response, use generate stream for model that generates various number "
    "of responses"
)
_EVENTS = "text/event-stream; charset=utf-8"


class GenerateReader(RequestReader):
    """Reads generate requests for one version of a model."""

    def read_members(self, body: Any, responder: Responder, arrived_ns: int) -> InferRequest:  # noqa: ANN401 - a buffer
        """The request in `body`.

        Raises:
            InvalidArgument: what is wrong with it, and where. Members are read in the order they stand in.
        """
        document = parse_json(body)
        if document.__class__ is not dict:
            raise MalformedRequest(
                f"attempt to get members for non-object: the body is {_kind(document)}; it must be an object"
            )
        parsed = Parsed()
        if "id" in document:
            parsed.id = _identity(document["id"])
        given: dict[str, Given] = {}
        others: dict[str, Any] = {}
        for name, value in document.items():
            if name == "parameters":
                self._take_parameters(value, given, others)
            else:
                self._take_member(name, value, given, others)
        self._heed(others, parsed)
        return self._assemble(given, parsed, len(body), responder, arrived_ns)

    def _heed(self, parameters: dict[str, Any], parsed: Parsed) -> None:
        """Take in what is no input: as in Triton, the model is told all of it, and the server heeds none."""
        parsed.parameters = parameters or None

    def _take_parameters(self, value: Any, given: dict[str, Given], others: dict[str, Any]) -> None:  # noqa: ANN401
        """Parameters may feed inputs too."""
        if value.__class__ is not dict:
            raise MalformedRequest(f"'parameters' must be an object; it is {_kind(value)}")
        for name, member in value.items():
            self._take_member(name, member, given, others)

    def _take_member(self, name: str, value: Any, given: dict[str, Given], others: dict[str, Any]) -> None:  # noqa: ANN401
        """An input's elements, or a parameter of the caller's own."""
        position = self._positions.get(name)
        if position is None:
            if not isinstance(value, str | int | float):
                raise InvalidArgument(
                    f"parameter '{name}' has invalid type. It should be either 'int', 'bool', or 'string'.",
                    hint=f"inputs of {self._model}: {', '.join(self._positions)}",
                )
            others[name] = value
            return
        if name in given:
            raise UnknownTensor(f"input '{name}' already exists in request")
        spec = self._inputs[position]
        data = value if value.__class__ is list else [value]
        shape = self._shape(spec, len(data))
        elements = elements_of(name, spec.datatype, data, self._count(name, shape), self._limits.max_json_depth)
        given[name] = (spec.datatype, shape, elements)

    def _shape(self, spec: TensorSpec, count: int) -> Shape:
        """The whole shape of `count` elements: fixed dimensions divide them, the innermost free one gets the rest."""
        dims = (-1, *spec.shape) if self._max_batch_size else spec.shape
        fixed = count_elements(tuple(dim for dim in dims if dim != -1))
        rest, left_over = divmod(count, fixed) if fixed else (0, count)
        free = [axis for axis, dim in enumerate(dims) if dim == -1]
        if left_over or (not free and rest != 1 and fixed):
            raise WrongShape(
                f"The schema can not convert input '{spec.name}' to tensor with proper shape: "
                f"{count} elements do not fill {list(dims)}"
            )
        return tuple(dim if dim != -1 else rest if axis == free[-1] else 1 for axis, dim in enumerate(dims))


class HeedingReader(GenerateReader):
    """Heeds what the protocol reserves, as /infer does: sequences, deadlines, priorities."""

    def _heed(self, parameters: dict[str, Any], parsed: Parsed) -> None:
        """Take in what is no input.

        Raises:
            InvalidArgument: a reserved parameter is used wrongly.
        """
        read_parameters({name: parameters.pop(name) for name in _HEEDED if name in parameters}, parsed)
        super()._heed(parameters, parsed)


class GenerateWriter:
    """Writes answers of one version: one object, its members sorted by the bytes of their names, as Triton's are."""

    def __init__(self, served: ServedModel) -> None:
        self._outputs = served.spec.outputs
        self._batches = served.batches
        members: dict[str, bytes | int | None] = {
            "id": None,
            "model_name": orjson.dumps(served.name),
            "model_version": b'"%d"' % served.version,
            **{spec.name: index for index, spec in enumerate(self._outputs)},
        }
        self._members = [(orjson.dumps(name) + b":", members[name]) for name in sorted(members, key=str.encode)]

    def write(self, request_id: str | None, result: BatchResult, start: int, stop: int) -> bytes:
        """The answer of rows [start, stop).

        Raises:
            InvalidArgument: FP16, or bytes that are not UTF-8, which JSON cannot carry.
        """
        parts: list[bytes] = []
        for key, source in self._members:
            if isinstance(source, int):
                if result.arrays[source] is None:  # which an answer of a decoupled model may leave out
                    continue
                parts.append(key + self._output(source, result, start, stop))
            elif isinstance(source, bytes):
                parts.append(key + source)
            elif request_id is not None:
                parts.append(key + orjson.dumps(request_id))
        return b"{%b}" % b",".join(parts)

    def _output(self, index: int, result: BatchResult, start: int, stop: int) -> bytes:
        """One element as it is, any other number of them as a list."""
        spec = self._outputs[index]
        flat = flat_elements(result, index, start, stop, spec, batches=self._batches)
        text = print_texts(flat, spec.name) if spec.datatype is Datatype.BYTES else print_elements(flat)
        return text[1:-1] if len(flat) == 1 else text


class GenerateCodec(PlainCodec):
    """Generate requests for one version."""

    def __init__(self, served: ServedModel, edge: Edge, infer: InferCodec, *, as_triton: bool) -> None:
        super().__init__(served, infer)
        self._as_triton = as_triton
        self._reader = (GenerateReader if as_triton else HeedingReader).of(served.spec, edge.limits)
        self._writer = GenerateWriter(served)

    def read(self, exchange: Exchange) -> tuple[InferRequest, str]:
        """The request, and whether its answer is a stream."""
        if self._as_triton and exchange.head.encodings:
            raise InvalidArgument("Unsupported content-encoding, only 'identity' is supported.")
        return self._reader.read_members(exchange.body, self, exchange.arrived_ns), form_of(exchange)

    def reword(self, error: TaxiwayError) -> TaxiwayError:
        """422 for JSON that the model does not take; Triton has its own statuses for that."""
        if self._as_triton or isinstance(error, MalformedJson | TooLarge) or not isinstance(error, InvalidArgument):
            return error
        return GenerateInvalid(error.message, hint=error.hint, **{**error.facts, "cause": error.code})

    def write(self, ask: PlainAsk, result: BatchResult, start: int, stop: int) -> None:
        """One object, or one event that holds it."""
        self._reply(ask, 200, self._writer.write(ask.id, result, start, stop))

    def reply_failure(self, ask: PlainAsk, error: TaxiwayError) -> None:
        """Nothing was sent yet, so an error has a status of its own; in Triton that is 400, in the form asked for."""
        if not self._as_triton or isinstance(error, Overloaded | Unavailable):
            ask.exchange.reply_error(error)
        else:
            front = ask.exchange.connection.front
            front.note_error(ask.exchange, error)
            if isinstance(error, NotOneAnswer):  # the status went out with the first answer
                self._reply(ask, 200, front.profile.body_of(error.retold(_NOT_ONE)))
            else:
                self._reply(ask, 400, front.profile.body_of(error))

    def _reply(self, ask: PlainAsk, status: int, body: bytes) -> None:
        if ask.form == _STREAM:
            ask.exchange.reply(status, b"data: %b\n\n" % body, _EVENTS, codable=False)
        else:
            ask.exchange.reply(status, body, codable=not self._as_triton)


class GenerateStreamCodec(StreamCodec):
    """Requests to /generate_stream for one version of a decoupled model.

    Args:
        whole: reads requests, and has the words of errors.
    """

    def __init__(self, served: ServedModel, infer: InferCodec, whole: GenerateCodec, *, as_triton: bool) -> None:
        super().__init__(served, infer)
        self._whole = whole
        self._writer = GenerateWriter(served)
        self._make_events = TritonEventStream if as_triton else EventStream

    def read(self, exchange: Exchange) -> tuple[InferRequest, None]:
        """The request; it cannot choose among the outputs."""
        request, _ = self._whole.read(exchange)
        request.responder = self
        return request, None

    def write(self, request_id: str | None, _choices: object, answer: Answered) -> bytes:
        """One object; it says nothing of whether it is the last."""
        return self._writer.write(request_id, answer.result, answer.start, answer.stop)

    def reword(self, error: TaxiwayError) -> TaxiwayError:
        """As /generate does."""
        return self._whole.reword(error)

    def events(self, exchange: Exchange) -> EventStream:
        """Server-sent events, whatever the caller accepts: that is what Triton's clients read."""
        return self._make_events(exchange, SSE)


class DecoupledGenerateCodec:
    """Both kinds of requests for one version of a decoupled model."""

    def __init__(self, served: ServedModel, edge: Edge, infer: InferCodec, *, as_triton: bool) -> None:
        self._whole = GenerateCodec(served, edge, infer, as_triton=as_triton)
        self._stream = GenerateStreamCodec(served, infer, self._whole, as_triton=as_triton)

    def take(self, exchange: Exchange) -> None:
        """Take in one request.

        Raises:
            TaxiwayError: it is refused; nothing is owed to it but this error.
        """
        codec = self._stream if form_of(exchange) == _STREAM else self._whole
        codec.take(exchange)


class GenerateEndpoint(PlainEndpoint):
    """POST /v2/models/{model}[/versions/{version}]/generate and /generate_stream."""

    protocol = "generate"

    def __init__(self, edge: Edge, *, as_triton: bool) -> None:
        super().__init__(edge)
        self._as_triton = as_triton

    def make_codec(self, served: ServedModel, infer: InferCodec) -> GenerateCodec | DecoupledGenerateCodec:
        """The codec of one version."""
        kind = DecoupledGenerateCodec if served.spec.decoupled else GenerateCodec
        return kind(served, self._edge, infer, as_triton=self._as_triton)


def form_of(exchange: Exchange) -> str:
    """Whether the answer is wanted whole or as a stream."""
    route = exchange.head.match.route
    return _STREAM if route is not None and route.pattern.endswith(_STREAM) else _WHOLE


def _identity(value: Any) -> str | None:  # noqa: ANN401
    if value.__class__ is not str:
        raise MalformedRequest(f"'id' is {_kind(value)}; it must be a string")
    return str(value) or None


def _kind(value: Any) -> str:  # noqa: ANN401
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")

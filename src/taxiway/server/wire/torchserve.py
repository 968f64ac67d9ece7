"""TorchServe's inference API: POST /predictions/{model}, the body whatever the model takes, the answer likewise.

A handler from an archive is given the body as TorchServe gives it: parsed if it is JSON, its fields if it is a form.
Any other model is served that takes one BYTES element: the body is its element.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from numpy.typing import NDArray

from taxiway.core.errors import ErrorKind, InvalidArgument, MalformedRequest, ModelFailed, TaxiwayError
from taxiway.core.requests import BatchResult, InferRequest
from taxiway.core.tensors import Datatype, Shape
from taxiway.runtimes.hosted.forms import is_form, read_form
from taxiway.server.models.served import ServedModel
from taxiway.server.signature import Signature
from taxiway.server.wire.asks import Parsed
from taxiway.server.wire.exchange import Exchange
from taxiway.server.wire.nesting import nested, print_document
from taxiway.server.wire.oip import InferCodec
from taxiway.server.wire.plain import Edge, PlainAsk, PlainCodec, PlainEndpoint

_BACKEND = "torchserve"
_TEXT, _BINARY = "text/plain; charset=utf-8", "application/octet-stream"
_USUAL_FIELDS = ("body", "data")
_SECRETS = frozenset({"authorization", "x-api-key", "cookie", "proxy-authorization"})
"""Headers that are for this server, and none of a handler's business."""
_OURS = frozenset(
    {"connection", "content-length", "content-type", "date", "keep-alive", "transfer-encoding", "upgrade"}
)
"""Headers of an answer that a handler does not decide, or (its type) is asked for by another way."""
_HEADER_NAME = re.compile(r"[\w!#$%&'*+.^`|~-]+")

_TYPES = {
    ErrorKind.INVALID_ARGUMENT: "BadRequestException",
    ErrorKind.UNAUTHENTICATED: "InvalidKeyException",
    ErrorKind.PERMISSION_DENIED: "InvalidKeyException",
    ErrorKind.NOT_FOUND: "ModelNotFoundException",
    ErrorKind.RESOURCE_EXHAUSTED: "ServiceUnavailableException",
    ErrorKind.UNAVAILABLE: "ServiceUnavailableException",
    ErrorKind.DEADLINE_EXCEEDED: "RequestTimeoutException",
}
"""TorchServe's names of what went wrong; all else is an InternalServerException."""
_CODES = {"version-not-served": "ModelVersionNotFoundException", "method-not-allowed": "MethodNotAllowedException"}


def word_error(error: TaxiwayError, status: int) -> tuple[int, bytes]:
    """An error as TorchServe tells it, with the status that a handler chose if it did."""
    if isinstance(error, ModelFailed):
        status = _chosen(error.facts.get("status"), 400, status)
    name = _CODES.get(error.code) or _TYPES.get(error.kind, "InternalServerException")
    document = {"code": status, "type": name, "message": error.message}
    if error.hint:
        document["hint"] = error.hint
    return status, orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _chosen(status: object, least: int, otherwise: int) -> int:
    """The status that a handler chose, if that is one."""
    return status if isinstance(status, int) and least <= status <= 599 else otherwise


class PredictionCodec(PlainCodec):
    """One body for one row of a model that takes one BYTES element."""

    def __init__(self, served: ServedModel, edge: Edge, infer: InferCodec) -> None:
        super().__init__(served, infer)
        spec = served.spec
        self._model = spec.name
        self._inputs = spec.inputs
        self._outputs = spec.outputs
        self._batches = served.batches
        self._signature = Signature(spec.name, spec.inputs, spec.max_batch_size, edge.limits)

    def read(self, exchange: Exchange) -> tuple[InferRequest, str]:
        """The body as the model's element."""
        name, row = self._taken()
        element = self._element(bytes(exchange.body), _text_of(exchange, b"content-type"))
        wishes = Parsed(id=_text_of(exchange, b"x-request-id") or None, parameters=self._parameters(exchange))
        shape = (1, *row) if self._batches else row
        given: dict[str, Any] = {name: (Datatype.BYTES, shape, [element])}
        return self._signature.assemble(given, wishes, len(element), self, exchange.arrived_ns), ""

    def _taken(self) -> tuple[str, Shape]:
        """The input that a body is for, and the shape of one element.

        Raises:
            InvalidArgument: the model takes something else.
        """
        needed = [spec for spec in self._inputs if not spec.optional]
        spec = needed[0] if len(needed) == 1 else None
        if spec is None or spec.datatype is not Datatype.BYTES or any(size not in (1, -1) for size in spec.shape):
            told = ", ".join(f"{one.name} {one.datatype.wire_name}{list(one.shape)}" for one in self._inputs)
            raise InvalidArgument(
                f"'{self._model}' takes tensors ({told}), and /predictions carries one body of bytes",
                hint=f"POST /v2/models/{self._model}/infer takes them",
            )
        return spec.name, (1,) * len(spec.shape)

    def _element(self, body: bytes, content_type: str) -> bytes:
        """The body, or the one field of a form that is meant."""
        if not is_form(content_type):
            return body
        fields = read_form(body, content_type)
        names = (self._inputs[0].name, *_USUAL_FIELDS)
        meant = fields if len(fields) == 1 else [field for field in fields if field.name in names]
        if len(meant) != 1:
            raise MalformedRequest(
                f"the form has the fields {sorted({field.name for field in fields})}; one of them must be "
                f"'{self._inputs[0].name}', 'data' or 'body'"
            )
        return meant[0].value

    def _parameters(self, exchange: Exchange) -> dict[str, Any] | None:  # noqa: ARG002 - handlers are told more
        """What the model is told beside the element."""
        return None

    def write(self, ask: PlainAsk, result: BatchResult, start: int, stop: int) -> None:
        """A single element as it is; anything else as JSON, by name."""
        arrays: Sequence[Any] = result.arrays
        pairs = [
            (spec, self._row(array[start:stop] if result.rows > 1 else array) if self._batches else array)
            for spec, array in zip(self._outputs, arrays, strict=True)
            if array is not None
        ]
        if len(pairs) == 1 and pairs[0][0].datatype is Datatype.BYTES and pairs[0][1].size == 1:
            body = bytes(pairs[0][1].reshape(-1)[0])
            ask.exchange.reply(200, body, _TEXT if _is_text(body) else _BINARY)
        else:
            ask.exchange.reply(200, print_document({spec.name: nested(spec, array) for spec, array in pairs}))

    @staticmethod
    def _row(rows: NDArray[Any]) -> NDArray[Any]:
        """The only one without its dimension; all of them where a model gave others than it was asked for."""
        only: NDArray[Any] = rows[0] if rows.shape[:1] == (1,) else rows
        return only


class HandlerCodec(PredictionCodec):
    """For a handler of TorchServe's, which is told how the body came and decides how the answer goes."""

    def __init__(self, served: ServedModel, edge: Edge, infer: InferCodec) -> None:
        super().__init__(served, edge, infer)
        self._places = {spec.name: place for place, spec in enumerate(self._outputs)}

    def _element(self, body: bytes, content_type: str) -> bytes:  # noqa: ARG002 - forms are taken apart over there
        return body

    def _parameters(self, exchange: Exchange) -> dict[str, Any]:
        """The body's type and the other headers."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in exchange.head.headers.items()}
        told = {name: value for name, value in headers.items() if name not in _SECRETS}
        return {"content_type": headers.get("content-type", ""), "headers": orjson.dumps(told).decode()}

    def write(self, ask: PlainAsk, result: BatchResult, start: int, stop: int) -> None:  # noqa: ARG002 - of one row
        """What the handler answered, under the status and headers that it chose."""
        body = bytes(self._value("output", result, start))
        status = _chosen(int(self._value("status", result, start)), 200, 500)
        headers: dict[str, str] = orjson.loads(bytes(self._value("headers", result, start)))
        ask.exchange.reply(status, body, _one_line(headers.get("content-type", _BINARY)), _sent(headers))

    def _value(self, name: str, result: BatchResult, start: int) -> Any:  # noqa: ANN401 - bytes or a number
        array = result.arrays[self._places[name]]
        return (array[start] if self._batches else array).reshape(-1)[0]


class PredictionEndpoint(PlainEndpoint):
    """POST or PUT /predictions/{model}[/{version}]."""

    protocol = "torchserve"

    def make_codec(self, served: ServedModel, infer: InferCodec) -> PredictionCodec:
        """The codec of one version."""
        names = {spec.name for spec in served.spec.outputs}
        is_handler = served.spec.backend == _BACKEND and names >= {"output", "status", "headers"}
        return (HandlerCodec if is_handler else PredictionCodec)(served, self._edge, infer)


def _text_of(exchange: Exchange, header: bytes) -> str:
    return exchange.head.headers.get(header, b"").decode("latin-1")


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _sent(headers: Mapping[str, str]) -> Sequence[tuple[str, str]]:
    """The headers of a handler that are sent."""
    return [
        (name, _one_line(value))
        for name, value in headers.items()
        if name not in _OURS and _HEADER_NAME.fullmatch(name)
    ]


def _one_line(value: str) -> str:
    """A header's value that cannot become another header."""
    return re.sub(r"[^\t\x20-\x7e\x80-\xff]+", " ", value)

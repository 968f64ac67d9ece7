"""GET /v2/openapi.json: an OpenAPI 3.1 description, made from the route table when the server starts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from taxiway.server.wire.exchange import Exchange
from taxiway.server.wire.openapi_schemas import SCHEMAS, Schema, ref
from taxiway.server.wire.routes import Route
from taxiway.server.wire.status import REASONS

_JSON: Final = "application/json"
_BINARY: Final = "application/octet-stream"
_EVENTS: Final = "text/event-stream"
_ANYTHING: Final = "*/*"
_LINES: Final = "application/x-ndjson"
_A_LINE_EACH: Final = "The same objects, one a line, for whoever accepts this."
_JSON_LENGTH: Final = "Inference-Header-Content-Length"
_PARAMETER: Final = re.compile(r"\{(\w+)\}")

_ABOUT = (
    "The Open Inference Protocol v2 with Triton's extensions, KServe's v1 protocol and TorchServe's predictions. "
    "Bodies may be sent with Content-Encoding gzip or deflate, and are answered so where Accept-Encoding prefers it."
)
_BINARY_BODY: Final[Schema] = {
    "description": f"A JSON document of as many bytes as the header {_JSON_LENGTH} says, then the binary tensors "
    "in the order in which the document names them: little-endian, row-major; BYTES elements as a uint32 length and "
    "that many bytes each. A request whose header says 0 is one tensor and nothing else.",
}
_TAKING: Final = (400, 408, 413, 503)
"""What any route that takes a body may answer."""
_RUNNING: Final = (*_TAKING, 404, 500, 501, 504)
_NOTHING: Final = "nothing"
"""The answer is 200, and its body empty."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What the route table does not say of a route: bodies by schema name, and the statuses of its errors."""

    tag: str
    answer: str
    takes: str = ""
    errors: tuple[int, ...] = ()
    binary: bool = False
    media: str = _JSON
    may_be_empty: bool = False
    lines: bool = False
    """Whether events may be had as lines of JSON instead."""
    also: tuple[int, ...] = ()
    """Statuses with the same body as 200."""
    taken_media: str = _JSON
    error: str = "Error"


_MODEL = "/v2/models/{model}"
_SYSTEM, _CUDA = "/v2/systemsharedmemory", "/v2/cudasharedmemory"
OPERATIONS: Final[dict[tuple[str, str], Operation]] = {
    ("GET", "/v2"): Operation("server", "ServerMetadata"),
    ("GET", "/v2/"): Operation("server", "ServerMetadata"),
    ("GET", "/v2/health/live"): Operation("health", "Live"),
    ("GET", "/v2/health/ready"): Operation("health", "Ready", also=(503,)),
    ("GET", "/v2/models"): Operation("models", "Models"),
    ("GET", "/v2/models/stats"): Operation("models", "Statistics"),
    ("GET", _MODEL): Operation("models", "ModelMetadata", errors=(400, 404, 503)),
    ("GET", f"{_MODEL}/ready"): Operation("health", "ModelReady", errors=(400, 404), also=(503,)),
    ("GET", f"{_MODEL}/config"): Operation("models", "ModelConfig", errors=(400, 404, 503)),
    ("GET", f"{_MODEL}/stats"): Operation("models", "Statistics", errors=(400, 404)),
    ("POST", f"{_MODEL}/infer"): Operation("inference", "InferResponse", "InferRequest", _RUNNING, binary=True),
    ("POST", f"{_MODEL}/infer_stream"): Operation(
        "inference", "InferResponse", "InferRequest", _RUNNING, binary=True, media=_EVENTS, lines=True
    ),
    ("POST", f"{_MODEL}/generate"): Operation("inference", "GenerateResponse", "GenerateRequest", (*_RUNNING, 422)),
    ("POST", f"{_MODEL}/generate_stream"): Operation(
        "inference", "GenerateResponse", "GenerateRequest", (*_RUNNING, 422), media=_EVENTS
    ),
    ("POST", f"{_MODEL}/feedback"): Operation("inference", "FeedbackCounts", "Feedback", _TAKING),
    ("POST", f"{_MODEL}/recording"): Operation("settings", _NOTHING, "RecordingStart", (*_TAKING, 403, 409)),
    ("POST", f"{_MODEL}/recording/fetch"): Operation("settings", "Recorded", errors=(404,)),
    ("POST", f"{_MODEL}/recording/end"): Operation("settings", _NOTHING, "RecordingEnd", _TAKING, may_be_empty=True),
    ("POST", "/v2/repository/index"): Operation("repository", "Index", "IndexRequest", _TAKING, may_be_empty=True),
    ("POST", "/v2/repository/{repository}/index"): Operation(
        "repository", "Index", "IndexRequest", _TAKING, may_be_empty=True
    ),
    ("POST", "/v2/repository/models/{model}/load"): Operation(
        "repository", _NOTHING, "LoadRequest", (404, 409, 501, *_TAKING), may_be_empty=True
    ),
    ("POST", "/v2/repository/models/{model}/unload"): Operation(
        "repository", _NOTHING, "UnloadRequest", (409, *_TAKING), may_be_empty=True
    ),
    ("POST", "/v2/repository/{repository}/models/{model}/load"): Operation("repository", "", errors=(501,)),
    ("POST", "/v2/repository/{repository}/models/{model}/unload"): Operation("repository", "", errors=(501,)),
    ("GET", "/v2/trace/setting"): Operation("settings", "TraceSettings"),
    ("POST", "/v2/trace/setting"): Operation("settings", "TraceSettings", "TraceChange", (*_TAKING, 409, 501)),
    ("GET", f"{_MODEL}/trace/setting"): Operation("settings", "TraceSettings", errors=(404,)),
    ("POST", f"{_MODEL}/trace/setting"): Operation(
        "settings", "TraceSettings", "TraceChange", (*_TAKING, 404, 409, 501)
    ),
    ("GET", "/v2/logging"): Operation("settings", "LogSettings"),
    ("POST", "/v2/logging"): Operation("settings", "LogSettings", "LogChange", (*_TAKING, 409, 501)),
    ("GET", f"{_SYSTEM}/status"): Operation("shared memory", "Regions", errors=(501,)),
    ("GET", f"{_SYSTEM}/region/{{region}}/status"): Operation("shared memory", "Regions", errors=(404, 501)),
    ("POST", f"{_SYSTEM}/region/{{region}}/register"): Operation(
        "shared memory", _NOTHING, "RegisterRequest", (*_TAKING, 409, 501)
    ),
    ("POST", f"{_SYSTEM}/register"): Operation("shared memory", "", errors=(400,)),
    ("POST", f"{_SYSTEM}/region/{{region}}/unregister"): Operation("shared memory", _NOTHING, errors=(501,)),
    ("POST", f"{_SYSTEM}/unregister"): Operation("shared memory", _NOTHING, errors=(501,)),
    ("GET", f"{_CUDA}/status"): Operation("shared memory", "Regions", errors=(501,)),
    ("GET", f"{_CUDA}/region/{{region}}/status"): Operation("shared memory", "", errors=(404, 501)),
    ("POST", f"{_CUDA}/region/{{region}}/register"): Operation("shared memory", "", errors=(501,)),
    ("POST", f"{_CUDA}/region/{{region}}/unregister"): Operation("shared memory", _NOTHING, errors=(501,)),
    ("POST", f"{_CUDA}/unregister"): Operation("shared memory", _NOTHING, errors=(501,)),
    ("GET", "/v1/models"): Operation("kserve v1", "Models"),
    ("GET", "/v1/models/{model}"): Operation("kserve v1", "ModelReady", errors=(404,), also=(503,)),
    ("POST", "/v1/models/{model}:predict"): Operation("kserve v1", "PredictResponse", "PredictRequest", _RUNNING),
    **{
        (method, f"/predictions/{{model}}{version}"): Operation(
            "torchserve",
            "anything",
            "anything",
            _RUNNING,
            media=_ANYTHING,
            may_be_empty=True,
            taken_media=_ANYTHING,
            error="TorchServeError",
        )
        for method in ("POST", "PUT")
        for version in ("", "/{version}")
    },
    ("GET", "/ping"): Operation("torchserve", "Ping", also=(503,)),
    ("GET", "/v2/openapi.json"): Operation("server", "object"),
}
"""By method and pattern without `/versions/{version}`. A route that is not here is described by its row alone."""

_UNKNOWN: Final = Operation("other", "object")


class OpenApiEndpoint:
    """Answers with the description of the routes it was given."""

    def __init__(self) -> None:
        self._body = b"{}"

    def describe(self, routes: Sequence[Route], version: str) -> None:
        """Prepare the description of these routes."""
        self._body = orjson.dumps(describe_routes(routes, version))

    def __call__(self, exchange: Exchange) -> None:
        """Answer with it."""
        exchange.reply(200, self._body)


def operation_of(route: Route) -> Operation | None:
    """What is known of a route beside its row in the table."""
    return OPERATIONS.get((route.method, route.pattern.replace("/versions/{version}", "")))


def describe_routes(routes: Iterable[Route], version: str) -> Schema:
    """The OpenAPI 3.1 document of these routes."""
    paths: dict[str, Schema] = {}
    for route in routes:
        paths.setdefault(route.pattern, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "taxiway", "version": version, "description": _ABOUT},
        "paths": paths,
        "components": {"schemas": SCHEMAS},
    }


def _operation(route: Route) -> Schema:
    known = operation_of(route) or _UNKNOWN
    described: Schema = {
        "operationId": _identity(route),
        "summary": route.summary,
        "tags": [known.tag],
        "responses": _responses(known),
    }
    if parameters := [*_path_parameters(route.pattern), *_header_parameters(known)]:
        described["parameters"] = parameters
    if known.takes:
        content = _content(known.takes, known.taken_media, binary=known.binary)
        described["requestBody"] = {"required": not known.may_be_empty, "content": content}
    return described


def _identity(route: Route) -> str:
    """Unique, as the method and the pattern together are: `post_v2_models_model_infer`."""
    words = re.sub(r"\W+", "_", route.pattern).strip("_")
    return f"{route.method.lower()}_{words}" + ("_" if route.pattern.endswith("/") else "")


def _path_parameters(pattern: str) -> list[Schema]:
    digits = {"type": "string", "pattern": "^[0-9]+$"}
    return [
        {"name": name, "in": "path", "required": True, "schema": digits if name == "version" else {"type": "string"}}
        for name in _PARAMETER.findall(pattern)
    ]


def _header_parameters(known: Operation) -> list[Schema]:
    headers: list[Schema] = []
    if known.binary:
        text = "Bytes of the body's JSON part; needed if binary tensors follow it."
        headers.append(_header(_JSON_LENGTH, {"type": "integer", "minimum": 0}, text))
    if known.tag != "repository" and known.takes:
        text = "Seconds after which the answer is of no use to the caller."
        headers.append(_header("Request-Timeout", {"type": "number", "exclusiveMinimum": 0, "maximum": 86400}, text))
    return headers


def _header(name: str, schema: Schema, text: str) -> Schema:
    return {"name": name, "in": "header", "required": False, "schema": schema, "description": text}


def _responses(known: Operation) -> Schema:
    """By status; a route that only refuses has no success."""
    responses: Schema = {}
    if known.answer == _NOTHING:
        responses["200"] = {"description": REASONS[200]}
    elif known.answer:
        is_stream = known.media == _EVENTS
        content = _content(known.answer, known.media, binary=known.binary and not is_stream)
        if known.lines:
            content[_LINES] = content[_EVENTS] | {"schema": {"type": "string", "description": _A_LINE_EACH}}
        success: Schema = {"description": REASONS[200], "content": content}
        if known.binary and not is_stream:
            text = "Bytes of the JSON part; absent if no binary tensor follows it."
            success["headers"] = {_JSON_LENGTH: {"description": text, "schema": {"type": "integer"}}}
        responses["200"] = success
        for status in known.also:
            responses[str(status)] = {"description": REASONS[status], "content": _content(known.answer, _JSON)}
    for status in sorted(set(known.errors)):
        responses[str(status)] = _error(REASONS[status], status, known.error)
    responses["default"] = _error("Any other error", 0, known.error)
    return responses


def _error(text: str, status: int, schema: str) -> Schema:
    answer: Schema = {"description": text, "content": _content(schema, _JSON)}
    if status == 503:
        retry = {"description": "Seconds to wait before asking again.", "schema": {"type": "integer"}}
        answer["headers"] = {"Retry-After": retry}
    return answer


def _content(schema: str, media: str, *, binary: bool = False) -> Schema:
    if media == _EVENTS:
        text = f"Any number of events, each `data: ` and an object: {schema}, or Error."
        return {media: {"schema": {"type": "string", "description": text}}}
    if media == _ANYTHING:
        return {media: {"schema": {}}}
    described: Any = ref(schema) if schema in SCHEMAS else {"type": "object"}
    content: Schema = {media: {"schema": described}}
    if binary:
        content[_BINARY] = {"schema": _BINARY_BODY}
    return content

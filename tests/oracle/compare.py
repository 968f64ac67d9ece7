"""Decide whether two servers answered the same request alike.

In: a request and both answers. Out: differences, and the declared deviation that covers them, if one does.
Never: sending anything.

What counts as alike:

* the status, and the content-type, content-encoding and accept-encoding headers, are equal; the header
  Inference-Header-Content-Length is there on both or on neither, and is right where it is;
* JSON has the same members in the same order, and the same values; a number's kind (1 or 1.0) counts, its spelling
  does not; floats agree bit for bit as doubles, NaN with NaN;
* binary tensors agree byte for byte;
* outputs of a model that is not `exact` (sums that a runtime may reorder) agree within TOLERANCE instead;
* an error is an object with the single member `error`, a string, and both strings mean the same (`error_class`);
* of statistics only the shape is compared, of a stream its events and not its chunks.

The backend's name differs by construction of the suite (see models.py), and is blanked on both sides.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import math
import re
import struct
import tomllib
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from tests.oracle.models import BY_NAME
from tests.oracle.requests import INFERENCE_HEADER, Request

DEVIATIONS: Final = Path(__file__).resolve().parents[2] / "deviations.toml"

RELATIVE_TOLERANCE: Final = 1e-5
ABSOLUTE_TOLERANCE: Final = 1e-6
COMPARED_HEADERS: Final = ("content-type", "content-encoding", "accept-encoding")
NO_ANSWER: Final = 0
"""The status of an answer that never came: the server closed the connection, or died."""

BACKEND_MEMBERS: Final = ("platform", "backend", "default_model_filename")
BACKEND_PATH: Final = re.compile(r"/v2/models/[^/]+(/versions/\d+)?(/config)?")
STATISTICS_PATH: Final = re.compile(r"/v2/models/(.*/)?stats")

ERROR_CLASSES: Final[Sequence[tuple[str, str]]] = (
    ("route-not-found", r"^Not Found$"),
    ("method-not-allowed", r"^Method Not Allowed$"),
    ("unknown-version", r"unknown model: '.*' version -?\d+ is not found"),
    ("unknown-model", r"unknown model: '.*' is not found"),
    ("bad-version", r"version should be an integral value > 0"),
    ("not-ready", r"^Model version not ready$"),
    ("no-statistics", r"requested model .*is not available"),
    ("compression-unsupported", r"^Unsupported (compression type|content-encoding)"),
    ("compression-broken", r"nothing to be decompressed"),
    ("header-length", r"inference header size should be in range"),
    ("json-syntax", r"failed to parse the request JSON buffer"),
    ("generate-shape", r"schema can not convert input"),
    ("data-count", r"Shape does not match true shape of 'data' field"),
    ("json-member", r"Unable to (parse|set) '(?P<field>\w+)'"),
    ("json-bytes", r"Unable to parse JSON bytes array"),
    ("json-parameters", r"failed to get request params|Expected JSON object for keyword: 'parameters'"),
    ("json-kind", r"attempt to (access|get members)"),
    ("input-duplicate", r"already exists in request"),
    ("input-content", r"Input must set only one of the following fields"),
    ("input-count", r"expected \d+ inputs but got \d+ inputs"),
    ("input-unknown", r"unexpected inference input"),
    ("output-unknown", r"unexpected inference output"),
    ("output-conflict", r"Output can't set both"),
    ("output-fp16-json", r"sending \w+ data via JSON is not supported"),
    ("input-fp16-json", r"receiving \w+ data via JSON is not supported"),
    ("datatype-unknown", r"invalid datatype for input|data-type is '<invalid>'"),
    ("datatype", r"data-type is '\w+', but model"),
    ("batch-size", r"batch-size must be <="),
    ("batch-mismatch", r"batch size does not match other inputs"),
    ("batch-missing", r"has no shape but model requires batch dimension"),
    ("shape", r"unexpected shape for input"),
    ("byte-size", r"input byte size mismatch"),
    ("bytes-count", r"unexpected number of string elements|expected \d+ string elements"),
    ("bytes-broken", r"incomplete string (data|length indicator)"),
    ("binary-left", r"unexpected additional input data"),
    ("binary-short", r"unexpected size for input"),
    ("raw-inputs", r"Raw request must only have 1 input"),
    ("raw-shape", r"shape of the raw input .* can not be deduced"),
    ("raw-bytes", r"For BYTE datatype raw input"),
    ("parameter-reserved", r"parameter keys starting with 'triton_'"),
    ("parameter-type", r"parameter '.*' has invalid type"),
    ("region", r"Unable to find .*shared memory region"),
    ("class-type", r"class result not available"),
    ("execution", r"ONNXRuntimeError|Failed to process the request"),
)
"""Kinds of refusal, by the words Triton uses for them; the first that matches names the error."""

TAXIWAY_WORDS: Final[Sequence[tuple[str, str]]] = (
    ("compression-unsupported", r"content-encoding '.*' is not supported"),
    ("compression-broken", r"the body is not (one whole )?(gzip|deflate)"),
    ("header-length", r"header Inference-Header-Content-Length (is|says)"),
    ("json-syntax", r"the body is not JSON"),
    ("json-bytes", r"element \d+ of input '.*' is .*; BYTES takes"),
    ("json-member:data", r"element \d+ of input '.*' is .*; \w+ (takes|holds)"),
    ("data-count", r"'data' of input '.*' has \d+ elements; its shape says"),
    ("json-parameters", r"'parameters' must be an object"),
    ("json-member", r"(an element of '\w+'|the request) has no member '(?P<field>\w+)'"),
    ("json-member", r"'(?P<field>\w+)' (and '\w+' )?of an? (in|out)put( '.*')? .*must be"),
    ("json-member:shape", r"'shape' of input '.*' is .*a dimension cannot be negative"),
    ("json-kind", r"'(trace|log)_\w+' is .*; it must be (a|an|true|from)\b"),
    ("json-kind", r"'ready' is .*; it must be"),
    ("json-member", r"(parameter )?'(?P<field>\w+)' .*must be"),
    ("input-content", r"(?i)input ('.*' )?must (set only one of the following|be an object that sets)"),
    ("bytes-broken", r"element \d+ of input '.*' says \d+ bytes; \d+ are left|in the middle of an element"),
    ("bytes-count", r"input '.*' has (more|\d+) elements( than|; its shape says)"),
    ("byte-size", r"the raw input '.*' is \d+ bytes, not a multiple|input '.*' has no rows"),
    ("raw-inputs", r"a raw binary request is for models with one input"),
    ("class-type", r"classification needs numbers"),
    ("execution", r"an ONNX string tensor holds UTF-8 text"),
    ("no-body", r"the request has no body"),
    ("too-large", r"has \d+ elements; at most \d+ are taken|nests deeper than \d+ arrays"),
)
"""taxiway's own words for the same kinds, and for those that Triton does not know (`OWN_CLASSES`)."""

OWN_CLASSES: Final = frozenset({"no-body", "too-large"})

SAME_MEMBER: Final[Mapping[str, str]] = {"datatype": "name"}
"""Members of an input that taxiway refuses in one breath."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came back; header names in lower case, and no status (NO_ANSWER) where nothing came back."""

    status: int
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    body: bytes = b""
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Difference:
    """One respect in which two answers are not alike; `kind` is what a deviation may be declared for."""

    kind: str
    where: str
    triton: Any
    taxiway: Any

    def __str__(self) -> str:
        return f"{self.kind} at {self.where}: triton {self.triton!r}, taxiway {self.taxiway!r}"


@dataclasses.dataclass(frozen=True)
class Body:
    """A body taken apart: JSON documents (one, or one per event of a stream), then binary tensors."""

    documents: tuple[Any, ...] = ()
    binary: bytes = b""
    problem: str = ""


class Members(list[tuple[str, Any]]):
    """The members of a JSON object in the order they came in, duplicates included."""

    def get(self, name: str) -> Any:
        """The first member of that name, or None."""
        return next((value for key, value in self if key == name), None)


# --- taking an answer apart


def _loads(text: bytes) -> Any:
    return json.loads(text.decode("utf-8", "surrogateescape"), object_pairs_hook=Members)


def _decompressed(answer: Answer) -> bytes:
    match answer.headers.get("content-encoding"):
        case "gzip":
            return gzip.decompress(answer.body)
        case "deflate":
            return zlib.decompress(answer.body)
    return answer.body


def _events(text: bytes) -> tuple[Any, ...]:
    """The documents of a server-sent event stream; anything that is not `data: JSON` is an error."""
    *events, rest = text.split(b"\n\n")
    if rest or any(not event.startswith(b"data: ") for event in events):
        raise ValueError("not a stream of `data: ` events")
    return tuple(_loads(event.removeprefix(b"data: ")) for event in events)


def plain_body(request: Request) -> bytes:
    """The body of a request without its compression; as it is where it cannot be decompressed."""
    codings = [value for name, value in request.headers if name.lower() == "content-encoding"]
    try:
        if codings == ["gzip"]:
            return gzip.decompress(request.body)
        if codings == ["deflate"]:
            return zlib.decompress(request.body)
    except (EOFError, OSError, zlib.error):
        pass
    return request.body


def taken_apart(answer: Answer) -> Body:
    """The parts of a body; `problem` says in what way the body contradicts its own headers."""
    try:
        plain = _decompressed(answer)
        if answer.headers.get("content-type", "").startswith("text/event-stream"):
            return Body(_events(plain))
        length = answer.headers.get(INFERENCE_HEADER.lower())
        if length is not None:
            split = int(length)
            return Body((_loads(plain[:split]),), plain[split:])
        return Body((_loads(plain),)) if plain else Body()
    except (ValueError, EOFError, OSError, zlib.error) as error:
        return Body(problem=f"{type(error).__name__}: {error}")


def error_class(text: str) -> str:
    """What an error text means; a text of no known kind means only itself."""
    for name, pattern in (*ERROR_CLASSES, *TAXIWAY_WORDS):
        if (found := re.search(pattern, text)) is not None:
            field = found.groupdict().get("field")
            return f"{name}:{SAME_MEMBER.get(field, field)}" if field else name
    return f"unclassified: {text}"


def _error_of(body: Body) -> Any:
    """The `error` of an error body, or None where the body is not exactly {"error": str}."""
    if len(body.documents) != 1 or not isinstance(body.documents[0], Members):
        return None
    members = body.documents[0]
    alone = [key for key, _ in members] == ["error"] and isinstance(members[0][1], str)
    return members[0][1] if alone else None


def error_text(answer: Answer) -> str:
    """The error in an answer, or the empty string where it is none."""
    return _error_of(taken_apart(answer)) or ""


def answered_error(answer: Answer) -> str:
    """The class of the error in an answer, or the empty string where it is none."""
    text = error_text(answer)
    return error_class(text) if text else ""


# --- comparing


def differences(request: Request, triton: Answer, taxiway: Answer) -> list[Difference]:
    """Everything in which two answers to one request are not alike."""
    found = list(_head_differences(triton, taxiway))
    if NO_ANSWER in (triton.status, taxiway.status):
        return found
    return found + list(_body_differences(request, taken_apart(triton), taken_apart(taxiway)))


def _head_differences(triton: Answer, taxiway: Answer) -> Iterator[Difference]:
    if triton.status != taxiway.status:
        yield Difference("status", "status", triton.status, taxiway.status)
    if NO_ANSWER in (triton.status, taxiway.status):
        return
    for name in COMPARED_HEADERS:
        if triton.headers.get(name) != taxiway.headers.get(name):
            yield Difference("header", name, triton.headers.get(name), taxiway.headers.get(name))
    lengths = [INFERENCE_HEADER.lower() in answer.headers for answer in (triton, taxiway)]
    if lengths[0] != lengths[1]:
        yield Difference("header", INFERENCE_HEADER.lower(), *lengths)


def _body_differences(request: Request, triton: Body, taxiway: Body) -> Iterator[Difference]:
    if triton.problem or taxiway.problem:
        if triton.problem != taxiway.problem:
            yield Difference("body", "body", triton.problem, taxiway.problem)
        return
    errors = _error_of(triton), _error_of(taxiway)
    if None not in errors:
        yield from _error_differences(*errors)
        return
    if len(triton.documents) != len(taxiway.documents):
        yield Difference("body", "documents", len(triton.documents), len(taxiway.documents))
        return
    compare = _Values(request)
    for left, right in zip(triton.documents, taxiway.documents, strict=True):
        yield from compare.documents(left, right)
    yield from compare.binary(triton, taxiway)


def _error_differences(triton: str, taxiway: str) -> Iterator[Difference]:
    classes = error_class(triton), error_class(taxiway)
    if classes[0] != classes[1]:
        yield Difference("error", "error", *classes)


class _Values:
    """Compares JSON values and tensors with the leniency that the request's path calls for."""

    def __init__(self, request: Request) -> None:
        path = request.path.partition("?")[0]
        name = path.split("/")[3] if path.startswith("/v2/models/") else ""
        self._exact = name not in BY_NAME or BY_NAME[name].exact
        self._shape_only = STATISTICS_PATH.fullmatch(path) is not None
        self._blank_backend = BACKEND_PATH.fullmatch(path) is not None

    def documents(self, left: Any, right: Any, where: str = "$") -> Iterator[Difference]:
        if type(left) is not type(right):
            yield Difference("json", where, left, right)
        elif isinstance(left, Members):
            yield from self._objects(left, right, where)
        elif isinstance(left, list):
            yield from self._arrays(left, right, where)
        elif not self._same(left, right, where):
            yield Difference("value", where, left, right)

    def _objects(self, left: Members, right: Members, where: str) -> Iterator[Difference]:
        keys = [[key for key, _ in members] for members in (left, right)]
        if keys[0] != keys[1]:
            yield Difference("json", f"{where} members", keys[0], keys[1])
            return
        for (key, mine), (_, theirs) in zip(left, right, strict=True):
            yield from self.documents(mine, theirs, f"{where}.{key}")

    def _arrays(self, left: list[Any], right: list[Any], where: str) -> Iterator[Difference]:
        if self._shape_only and where.endswith("batch_stats"):
            left, right = left[: len(right)][:1], right[: len(left)][:1]
        if len(left) != len(right):
            yield Difference("json", f"{where} length", len(left), len(right))
            return
        for index, (mine, theirs) in enumerate(zip(left, right, strict=True)):
            yield from self.documents(mine, theirs, f"{where}[{index}]")

    def _same(self, left: Any, right: Any, where: str) -> bool:
        if self._blank_backend and where.count(".") == 1 and where.partition(".")[2] in BACKEND_MEMBERS:
            return True
        if self._shape_only and isinstance(left, int):
            return True
        if isinstance(left, float):
            return _same_double(left, right) or (not self._exact and _close(left, right))
        if not self._exact and isinstance(left, str) and left.count(":") >= 1:
            return _same_class(left, right)
        return bool(left == right)

    def binary(self, left: Body, right: Body) -> Iterator[Difference]:
        """Tensor bytes; inexact models have one output, and it is FP32 unless classified."""
        if left.binary == right.binary:
            return
        if not self._exact and len(left.binary) == len(right.binary) and _is_fp32(left):
            arrays = [np.frombuffer(body.binary, "<f4").tolist() for body in (left, right)]
            if all(map(_close, *arrays)):
                return
        yield Difference("binary", "tensors", left.binary, right.binary)


def _same_double(left: float, right: float) -> bool:
    """Bit for bit, except that JSON has only one NaN; -0.0 is not 0.0."""
    return struct.pack("<d", left) == struct.pack("<d", right) or (math.isnan(left) and math.isnan(right))


def _close(left: float, right: float) -> bool:
    same = _same_double(left, right)
    return same or math.isclose(left, right, rel_tol=RELATIVE_TOLERANCE, abs_tol=ABSOLUTE_TOLERANCE)


def _same_class(left: str, right: str) -> bool:
    """`value:index:label` of a classification, its value within the tolerance."""
    (left_value, _, left_rest), (right_value, _, right_rest) = left.partition(":"), right.partition(":")
    try:
        return left_rest == right_rest and _close(float(left_value), float(right_value))
    except ValueError:
        return left == right


def _is_fp32(body: Body) -> bool:
    return all(output.get("datatype") == "FP32" for output in body.documents[0].get("outputs") or [])


# --- declared deviations


@dataclasses.dataclass(frozen=True)
class Exchange:
    """One request, both answers, and all their differences: what a deviation is matched against."""

    request: Request
    triton: Answer
    taxiway: Answer
    differences: tuple[Difference, ...]


SCORE: Final = re.compile(r"-?[0-9]+\.[0-9]{6}")
"""The number of a classification, as std::to_string prints it."""


def _fp64_last_digits(exchange: Exchange, difference: Difference) -> bool:
    """Doubles at most 3 units in the last place apart, of an FP64 tensor sent as JSON; or classes of such doubles."""
    request, left, right = exchange.request, difference.triton, difference.taxiway
    body = plain_body(request)
    if b'"FP64"' not in body and "fp64" not in request.path:
        return False
    if difference.where.endswith("binary_data_size"):
        return b'"classification"' in body
    if isinstance(left, bytes):
        lists = [_doubles_or_classes(tensor, body) for tensor in (left, right)]
        return len(lists[0]) == len(lists[1]) and all(map(_nearly_equal, *lists))
    return _nearly_equal(left, right)


def _doubles_or_classes(tensor: bytes, body: bytes) -> list[Any]:
    """The elements of a binary tensor: texts if the request asks for classes, else doubles."""
    if b'"classification"' not in body:
        return list(np.frombuffer(tensor[: len(tensor) // 8 * 8], "<f8").tolist())
    items: list[Any] = []
    position = 0
    while position < len(tensor):
        size = int.from_bytes(tensor[position : position + 4], "little")
        items.append(tensor[position + 4 : position + 4 + size].decode("latin-1"))
        position += 4 + size
    return items


def _nearly_equal(left: Any, right: Any) -> bool:
    if isinstance(left, str) and isinstance(right, str):
        scores, places = zip(*(text.partition(":")[::2] for text in (left, right)), strict=True)
        alike = places[0] == places[1] and all(SCORE.fullmatch(score) for score in scores)
        left, right = map(float, scores) if alike else (left, right)
    return bool(left == right) or _ulps(left, right) <= 3


def _ulps(left: Any, right: Any) -> float:
    if not isinstance(left, float) or not isinstance(right, float) or math.isnan(left) or math.isnan(right):
        return math.inf
    steps = [struct.unpack("<q", struct.pack("<d", abs(value)))[0] for value in (left, right)]
    return abs(steps[0] - steps[1]) if math.copysign(1, left) == math.copysign(1, right) else math.inf


def _error_called_text(exchange: Exchange, difference: Difference) -> bool:
    """An error that Triton calls text and taxiway calls what it is."""
    refused = exchange.triton.status >= 400 and exchange.taxiway.status >= 400
    return refused and (difference.triton, difference.taxiway) == ("text/plain", "application/json")


def _repeats_member(exchange: Exchange, _: Difference) -> bool:
    """Some object of the request's JSON has two members of one name."""
    document = _document(exchange.request)
    return document is not None and any(len({key for key, _ in each}) < len(each) for each in _objects(document))


def _refused_input_is_empty(exchange: Exchange, _: Difference) -> bool:
    """The input that taxiway refuses has, by its shape, no elements; Triton counts none in an empty shape either."""
    name, document = _told_input(exchange.taxiway), _document(exchange.request)
    if name is None or document is None:
        return False
    named = (each for each in _objects(document) if each.get("name") == name)
    return any(each.get("shape") == [] or 0 in (each.get("shape") or []) for each in named)


def _holds_no_number(exchange: Exchange, _: Difference) -> bool:
    """Some element of the request is NaN, or an infinity, of which models make NaN."""
    body, document = plain_body(exchange.request), _document(exchange.request)
    if document is None or re.search(rb"NaN|Inf", body):
        return document is not None
    position = len(body) - sum(size for _, size in _binary_inputs(document))
    for datatype, size in _binary_inputs(document):
        part, position = body[position : position + size], position + size
        dtype = {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}.get(datatype)
        if dtype is not None and not np.isfinite(np.frombuffer(part, dtype)).all():
            return True
    return False


def _binary_inputs(document: Any) -> list[tuple[str, int]]:
    """Datatype and size of each input that is sent in binary, in their order."""
    given = [(each.get("datatype"), each.get("parameters")) for each in document.get("inputs")]
    sized = [(datatype, parameters.get("binary_data_size")) for datatype, parameters in given if parameters]
    return [(datatype, size) for datatype, size in sized if size is not None]


def _coding_in_two_lines(exchange: Exchange, _: Difference) -> bool:
    """The request has two headers Content-Encoding."""
    return sum(name.lower() == "content-encoding" for name, _ in exchange.request.headers) > 1


def _runs_no_model(exchange: Exchange, _: Difference) -> bool:
    """The request is for none of the routes that run a model."""
    request = exchange.request
    return request.method != "POST" or not request.path.endswith(("/infer", "/generate", "/generate_stream"))


def _tells_of_another_input(exchange: Exchange, _: Difference) -> bool:
    """Both errors name an input, and not the same one."""
    names = {_told_input(exchange.triton), _told_input(exchange.taxiway)}
    return None not in names and len(names) == 2


def _told_input(answer: Answer) -> str | None:
    """The input that an error names."""
    found = re.search(r"input '?([^' :]+)", error_text(answer))
    return None if found is None else found[1]


def _document(request: Request) -> Any:
    """The JSON part of a request, or None where it has none."""
    body = plain_body(request)
    lengths = [value for name, value in request.headers if name.lower() == INFERENCE_HEADER.lower()]
    try:
        return _loads(body[: int(lengths[0])] if lengths else body)
    except ValueError:
        return None


def _objects(value: Any) -> Iterator[Members]:
    """Every object in a JSON value."""
    if isinstance(value, Members):
        yield value
        children: list[Any] = [member for _, member in value]
    else:
        children = value if isinstance(value, list) else []
    for child in children:
        yield from _objects(child)


PREDICATES: Final[Mapping[str, Callable[[Exchange, Difference], bool]]] = {
    "coding-in-two-lines": _coding_in_two_lines,
    "error-called-text": _error_called_text,
    "fp64-last-digits": _fp64_last_digits,
    "holds-no-number": _holds_no_number,
    "refused-input-is-empty": _refused_input_is_empty,
    "repeats-member": _repeats_member,
    "runs-no-model": _runs_no_model,
    "tells-of-another-input": _tells_of_another_input,
}
"""What a deviation may name where patterns cannot say it."""


@dataclasses.dataclass(frozen=True)
class Match:
    """When a deviation covers a difference: every field that is given must hold, and `kinds` always is.

    `kinds` and `where` speak of the difference, all others of the exchange it was found in. `body` is looked for in
    the decompressed body.
    """

    kinds: tuple[str, ...]
    where: str = ".*"
    method: str = ".*"
    path: str = ".*"
    body: str = ""
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    triton_status: int | None = None
    taxiway_status: int | None = None
    triton_error: str | None = None
    taxiway_error: str | None = None
    taxiway_says: str = ""
    predicate: str | None = None

    def covers(self, exchange: Exchange, difference: Difference) -> bool:
        request = exchange.request
        return (
            difference.kind in self.kinds
            and re.fullmatch(self.where, difference.where, re.DOTALL) is not None
            and re.fullmatch(self.method, request.method) is not None
            and re.fullmatch(self.path, request.path.partition("?")[0]) is not None
            and re.search(self.body.encode(), plain_body(request), re.DOTALL) is not None
            and all(_has_header(request, name, value) for name, value in self.headers.items())
            and self.triton_status in (None, exchange.triton.status)
            and self.taxiway_status in (None, exchange.taxiway.status)
            and _is_class(exchange.triton, self.triton_error)
            and _is_class(exchange.taxiway, self.taxiway_error)
            and re.search(self.taxiway_says, error_text(exchange.taxiway)) is not None
            and (self.predicate is None or PREDICATES[self.predicate](exchange, difference))
        )


def _has_header(request: Request, name: str, pattern: str) -> bool:
    return any(k.lower() == name.lower() and re.fullmatch(pattern, v) for k, v in request.headers)


def _is_class(answer: Answer, pattern: str | None) -> bool:
    return pattern is None or re.fullmatch(pattern, answered_error(answer)) is not None


@dataclasses.dataclass(frozen=True)
class Deviation:
    """One intended difference from real Triton, as `deviations.toml` declares it."""

    id: str
    what: str
    triton: str
    taxiway: str
    reason: str
    match: Match


def load_deviations(path: Path) -> tuple[Deviation, ...]:
    """Read the declarations; an unknown key, a missing one or a duplicate id is an error."""
    entries = tomllib.loads(path.read_text(encoding="utf-8")).get("deviation", [])
    loaded = []
    for entry in entries:
        match = Match(**entry.pop("match"))
        if not match.kinds or (match.predicate is not None and match.predicate not in PREDICATES):
            raise ValueError(f"deviation {entry.get('id')!r}: `kinds` is empty or `predicate` is unknown")
        loaded.append(Deviation(match=match, **entry))
    ids = [deviation.id for deviation in loaded]
    if len(set(ids)) != len(ids):
        raise ValueError(f"{path.name} declares an id twice: {ids}")
    return tuple(loaded)


def declared(exchange: Exchange, deviations: Sequence[Deviation]) -> tuple[Deviation, ...]:
    """The declarations that between them cover every difference of an exchange; none where one is left over."""
    found: dict[str, Deviation] = {}
    for difference in exchange.differences:
        covering = next((d for d in deviations if d.match.covers(exchange, difference)), None)
        if covering is None:
            return ()
        found[covering.id] = covering
    return tuple(found.values())


# --- reporting


def described(exchange: Exchange) -> str:
    """The exchange for a person: what differs, a command that repeats the request, and both answers."""
    lines = [f"  * {difference}"[:400] for difference in exchange.differences[:8]]
    return "\n".join(
        [
            f"request [{exchange.request.label}]",
            f"  {as_command(exchange.request)}",
            *lines,
            f"  triton:  {_answer_line(exchange.triton)}",
            f"  taxiway: {_answer_line(exchange.taxiway)}",
        ]
    )


def as_command(request: Request) -> str:
    """A shell command that sends the very same request to $URL."""
    octal = "".join(chr(b) if 32 <= b < 127 and b not in b"\\'" else f"\\0{b:03o}" for b in request.body)
    headers = "".join(f" -H '{name}: {value}'" if value else f" -H '{name};'" for name, value in request.headers)
    source = f"printf %b '{octal}' | " if request.body else ""
    data = " --data-binary @-" if request.body else ""
    return f'{source}curl -i -X {request.method}{headers}{data} "$URL{request.path}"'


def _answer_line(answer: Answer) -> str:
    kept = {k: v for k, v in answer.headers.items() if k in {*COMPARED_HEADERS, INFERENCE_HEADER.lower()}}
    return f"{answer.status} {answer.note} {kept} {answer.body[:600]!r}"

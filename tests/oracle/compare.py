"""Decide whether two servers answered the same request alike.

In: a request and both answers. Out: differences, and words to report them in. Never: sending anything, nor judging
whether a difference is intended (deviations.py).

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
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
from tests.oracle.models import BY_NAME
from tests.oracle.requests import INFERENCE_HEADER, Request
from tests.oracle.words import error_class

RELATIVE_TOLERANCE: Final = 1e-5
ABSOLUTE_TOLERANCE: Final = 1e-6
COMPARED_HEADERS: Final = ("content-type", "content-encoding", "accept-encoding")
NO_ANSWER: Final = 0
"""The status of an answer that never came: the server closed the connection, or died."""

BACKEND_MEMBERS: Final = ("platform", "backend", "default_model_filename")
BACKEND_PATH: Final = re.compile(r"/v2/models/[^/]+(/versions/\d+)?(/config)?")
STATISTICS_PATH: Final = re.compile(r"/v2/models/(.*/)?stats")


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


def loads(text: bytes) -> Any:
    """A JSON document whose objects keep their members as they came."""
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
    return tuple(loads(event.removeprefix(b"data: ")) for event in events)


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
            return Body((loads(plain[:split]),), plain[split:])
        return Body((loads(plain),)) if plain else Body()
    except (ValueError, EOFError, OSError, zlib.error) as error:
        return Body(problem=f"{type(error).__name__}: {error}")


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
            return _same_double(left, right) or (not self._exact and within_tolerance(left, right))
        if not self._exact and isinstance(left, str) and left.count(":") >= 1:
            return _same_class(left, right)
        return bool(left == right)

    def binary(self, left: Body, right: Body) -> Iterator[Difference]:
        """Tensor bytes; inexact models have one output, and it is FP32 unless classified."""
        if left.binary == right.binary:
            return
        if not self._exact and len(left.binary) == len(right.binary) and _is_fp32(left):
            arrays = [np.frombuffer(body.binary, "<f4").tolist() for body in (left, right)]
            if all(map(within_tolerance, *arrays)):
                return
        yield Difference("binary", "tensors", left.binary, right.binary)


def _same_double(left: float, right: float) -> bool:
    """Bit for bit, except that JSON has only one NaN; -0.0 is not 0.0."""
    return struct.pack("<d", left) == struct.pack("<d", right) or (math.isnan(left) and math.isnan(right))


def within_tolerance(left: float, right: float) -> bool:
    """Equal, or as far apart as reordered sums may be."""
    same = _same_double(left, right)
    return same or math.isclose(left, right, rel_tol=RELATIVE_TOLERANCE, abs_tol=ABSOLUTE_TOLERANCE)


def _same_class(left: str, right: str) -> bool:
    """`value:index:label` of a classification, its value within the tolerance."""
    (left_value, _, left_rest), (right_value, _, right_rest) = left.partition(":"), right.partition(":")
    try:
        return left_rest == right_rest and within_tolerance(float(left_value), float(right_value))
    except ValueError:
        return left == right


def _is_fp32(body: Body) -> bool:
    return all(output.get("datatype") == "FP32" for output in body.documents[0].get("outputs") or [])


# --- an exchange, and reporting it


@dataclasses.dataclass(frozen=True)
class Exchange:
    """One request, both answers, and all their differences: what a deviation is matched against."""

    request: Request
    triton: Answer
    taxiway: Answer
    differences: tuple[Difference, ...]
    history: tuple[str, ...] = ()
    """What was done before, where it matters."""

    @property
    def outcomes(self) -> tuple[str, str]:
        """The status of either answer."""
        return str(self.triton.status), str(self.taxiway.status)

    @property
    def unanswered(self) -> bool:
        """Whether Triton gave no answer."""
        return self.triton.status == NO_ANSWER

    @property
    def size(self) -> int:
        """Of the request, to tell small examples from large ones."""
        return len(self.request.body)

    def described(self) -> str:
        """The exchange for a person: what differs, a command that repeats the request, and both answers."""
        return "\n".join(
            [
                *(f"  after {step}" for step in self.history),
                f"request [{self.request.label}]",
                f"  {as_command(self.request)}",
                *(f"  * {difference}"[:400] for difference in self.differences[:8]),
                f"  triton:  {_answer_line(self.triton)}",
                f"  taxiway: {_answer_line(self.taxiway)}",
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

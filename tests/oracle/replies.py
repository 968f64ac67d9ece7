"""Decide whether two servers answered the same gRPC call alike.

In: a call, as bytes, and both replies. Out: differences. Never: sending anything.

What counts as alike:

* the status code is equal, and so is what the status message means (`error_class`);
* there are as many messages, with the same fields set to the same values, bit for bit, and with no others;
  order counts in repeated fields and does not in maps;
* tensors agree byte for byte, those of a model that is not `exact` within compare.py's tolerance;
* of statistics only the shape is compared.

Metadata of the reply is not compared: Triton sends none. As over HTTP, the backend's name is blanked on both sides.
A stream is taken apart: its nth answer belongs to its nth request, and each pair is an exchange of its own.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from google.protobuf import text_format, unknown_fields
from google.protobuf.message import DecodeError, Message
from tests.oracle.compare import BACKEND_MEMBERS, Difference, within_tolerance
from tests.oracle.models import BY_NAME
from tests.oracle.words import error_class
from tritonclient.grpc import service_pb2

SERVICE: Final = "inference.GRPCInferenceService"
METHODS: Final[Mapping[str, Any]] = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name
STREAM: Final = "ModelStreamInfer"

OK: Final = "OK"
TOLD: Final = "TOLD"
"""The code of an answer in a stream that carries an error message."""
NO_REPLY: Final = "NO_REPLY"
"""The code of a reply that never came: the connection broke, or time ran out."""

SPOILT_TWICE: Final = "infer spoilt twice"
"""The label of a call in which two mistakes were made."""

NAMES_BACKEND: Final = ("ModelMetadata", "ModelConfig")


@dataclasses.dataclass(frozen=True)
class Call:
    """One gRPC call as it goes out, each message as its bytes; `label` says what it tries, for the report.

    In a `lockstep` stream each request waits for the answer to the one before.
    """

    rpc: str
    messages: tuple[bytes, ...]
    metadata: tuple[tuple[str, str], ...] = ()
    lockstep: bool = False
    label: str = ""

    def text(self) -> str:
        """The messages as protobuf text, or as they are where they are no such messages."""
        return "\n".join(_text(request_type(self.rpc), message) for message in self.messages)


@dataclasses.dataclass(frozen=True)
class Reply:
    """What came back: the name of the status code, its message, and the messages of the answer."""

    code: str
    details: str = ""
    messages: tuple[bytes, ...] = ()


@dataclasses.dataclass(frozen=True)
class CallExchange:
    """One call, or one request of a stream, with both replies and all their differences."""

    call: Call
    triton: Reply
    taxiway: Reply
    differences: tuple[Difference, ...]
    history: tuple[str, ...] = ()
    """What was done before, where it matters."""

    @property
    def outcomes(self) -> tuple[str, str]:
        """The code of either reply."""
        return self.triton.code, self.taxiway.code

    @property
    def unanswered(self) -> bool:
        """Whether Triton gave no reply."""
        return self.triton.code == NO_REPLY

    @property
    def size(self) -> int:
        """Of the call, to tell small examples from large ones."""
        return sum(map(len, self.call.messages))

    def described(self) -> str:
        """The exchange for a person: what differs, what was sent, and both replies."""
        sent = [f"  | {line}" for line in self.call.text().splitlines()]
        return "\n".join(
            [
                *(f"  after {step}" for step in self.history),
                f"call [{self.call.label}] {self.call.rpc} {dict(self.call.metadata) or ''}"
                + (" in lockstep" if self.call.lockstep else ""),
                *sent[:40],
                *(f"  * {difference}"[:400] for difference in self.differences[:8]),
                f"  triton:  {self._said(self.triton)}",
                f"  taxiway: {self._said(self.taxiway)}",
            ]
        )

    def _said(self, reply: Reply) -> str:
        kind = reply_type(self.call.rpc)
        texts = [_text(kind, message, as_one_line=True) for message in reply.messages]
        return f"{reply.code} {reply.details!r} {' | '.join(texts)}"[:900]


def request_type(rpc: str) -> type[Message]:
    """The class of what that procedure is sent."""
    return _class(METHODS[rpc].input_type.name)


def reply_type(rpc: str) -> type[Message]:
    """The class of what that procedure answers."""
    return _class(METHODS[rpc].output_type.name)


def call_of(rpc: str, *texts: str, **more: Any) -> Call:
    """A call whose messages are given as protobuf text."""
    parsed = [text_format.Parse(text, request_type(rpc)()) for text in texts]
    return Call(rpc, tuple(message.SerializeToString(deterministic=True) for message in parsed), **more)


def _class(name: str) -> type[Message]:
    found: type[Message] = getattr(service_pb2, name)
    return found


def parsed(kind: type[Message], data: bytes) -> Message | None:
    """The message, or None where the bytes are none."""
    try:
        return kind.FromString(data)
    except DecodeError:
        return None


def _text(kind: type[Message], data: bytes, *, as_one_line: bool = False) -> str:
    message = parsed(kind, data)
    return repr(data) if message is None else str(text_format.MessageToString(message, as_one_line=as_one_line))


# --- comparing


def exchanges(call: Call, triton: Reply, taxiway: Reply) -> tuple[CallExchange, ...]:
    """The call with both replies compared; a stream in which both answered every request, one by one."""
    pieces = [_answers(call, reply) for reply in (triton, taxiway)]
    if call.rpc == STREAM and len(pieces[0]) == len(pieces[1]) == len(call.messages) and triton.code == taxiway.code:
        each = zip(call.messages, *pieces, strict=True)
        return tuple(_compared(dataclasses.replace(call, messages=(message,)), *pair) for message, *pair in each)
    return (_compared(call, triton, taxiway),)


def _answers(call: Call, reply: Reply) -> list[Reply]:
    """Each message of a stream as a reply of its own."""
    if call.rpc != STREAM:
        return []
    parsed = [service_pb2.ModelStreamInferResponse.FromString(message) for message in reply.messages]
    return [
        Reply(TOLD if answer.error_message else OK, answer.error_message, (message,))
        for answer, message in zip(parsed, reply.messages, strict=True)
    ]


def _compared(call: Call, triton: Reply, taxiway: Reply) -> CallExchange:
    return CallExchange(call, triton, taxiway, tuple(reply_differences(call, triton, taxiway)))


def reply_differences(call: Call, triton: Reply, taxiway: Reply) -> Iterator[Difference]:
    """Everything in which two replies to one call are not alike."""
    if triton.code != taxiway.code:
        yield Difference("status", "status", triton.code, taxiway.code)
    if NO_REPLY in (triton.code, taxiway.code):
        return
    if triton.details and taxiway.details:
        classes = error_class(triton.details), error_class(taxiway.details)
        if classes[0] != classes[1]:
            yield Difference("error", "error", *classes)
    elif triton.code == taxiway.code and triton.details != taxiway.details:
        yield Difference("error", "error", triton.details, taxiway.details)
    if len(triton.messages) != len(taxiway.messages):
        yield Difference("body", "messages", len(triton.messages), len(taxiway.messages))
        return
    compare, kind = _Messages(call), reply_type(call.rpc)
    for index, (mine, theirs) in enumerate(zip(triton.messages, taxiway.messages, strict=True)):
        where = f"$[{index}]" if len(triton.messages) > 1 else "$"
        yield from compare.messages(kind.FromString(mine), kind.FromString(theirs), where)


class _Messages:
    """Compares protobuf messages with the leniency that the call calls for."""

    def __init__(self, call: Call) -> None:
        self._exact = all(BY_NAME[name].exact for name in _models(call))
        self._shape_only = call.rpc == "ModelStatistics"
        self._blank_backend = call.rpc in NAMES_BACKEND

    def messages(self, left: Message, right: Message, where: str) -> Iterator[Difference]:
        strange = [len(unknown_fields.UnknownFieldSet(message)) for message in (left, right)]
        if strange[0] != strange[1]:
            yield Difference("message", f"{where} unknown fields", *strange)
        for field in left.DESCRIPTOR.fields:
            if self._blank_backend and field.name in BACKEND_MEMBERS:
                continue
            mine, theirs = getattr(left, field.name), getattr(right, field.name)
            place = f"{where}.{field.name}"
            if field.is_repeated:
                yield from self._many(field, mine, theirs, place)
            elif field.has_presence and left.HasField(field.name) != right.HasField(field.name):
                yield Difference("message", place, left.HasField(field.name), right.HasField(field.name))
            elif field.message_type is not None:
                yield from self.messages(mine, theirs, place)
            elif field.name != "error_message":  # compared by its meaning
                yield from self._scalars(mine, theirs, place)

    def _many(self, field: Any, left: Any, right: Any, where: str) -> Iterator[Difference]:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            yield from self._maps(field, left, right, where)
            return
        if self._shape_only and field.name in {"batch_stats", "memory_usage"}:
            left, right = left[: len(right)][:1], right[: len(left)][:1]
        if len(left) != len(right):
            yield Difference("message", f"{where} length", len(left), len(right))
            return
        for index, (mine, theirs) in enumerate(zip(left, right, strict=True)):
            place = f"{where}[{index}]"
            if field.message_type is not None:
                yield from self.messages(mine, theirs, place)
            elif field.name == "raw_output_contents":
                yield from self._tensors(mine, theirs, place)
            else:
                yield from self._scalars(mine, theirs, place)

    def _maps(self, field: Any, left: Any, right: Any, where: str) -> Iterator[Difference]:
        if set(left) != set(right):
            yield Difference("message", f"{where} keys", sorted(left), sorted(right))
            return
        is_message = field.message_type is not None and field.message_type.fields_by_name["value"].message_type
        for key in sorted(left):
            compare = self.messages if is_message else self._scalars
            yield from compare(left[key], right[key], f"{where}[{key!r}]")

    def _scalars(self, left: Any, right: Any, where: str) -> Iterator[Difference]:
        if self._shape_only and isinstance(left, int):
            return
        alike = struct.pack("<d", left) == struct.pack("<d", right) if isinstance(left, float) else left == right
        if not alike:
            yield Difference("value", where, left, right)

    def _tensors(self, left: bytes, right: bytes, where: str) -> Iterator[Difference]:
        """Inexact models have one output, FP32 or, where they are classified, BYTES."""
        if left == right or (not self._exact and _nearly(left, right)):
            return
        yield Difference("binary", where, left, right)


def _models(call: Call) -> list[str]:
    """The models of the suite that a call names."""
    requests = [parsed(request_type(call.rpc), message) for message in call.messages]
    names = [getattr(request, "model_name", "") for request in requests]
    return [name for name in names if name in BY_NAME]


def _nearly(left: bytes, right: bytes) -> bool:
    """Whether FP32 tensors, or classes with FP32 scores, agree within the tolerance."""
    if len(left) != len(right) or len(left) % 4:
        return _nearly_classes(left, right)
    numbers = [np.frombuffer(tensor, "<f4").tolist() for tensor in (left, right)]
    return all(map(within_tolerance, *numbers)) or _nearly_classes(left, right)


def _nearly_classes(left: bytes, right: bytes) -> bool:
    classes = [bytes_elements(tensor) for tensor in (left, right)]
    scored = all(b":" in each for elements in classes for each in elements)
    return scored and len(classes[0]) == len(classes[1]) and all(map(_nearly_class, *classes))


def _nearly_class(left: bytes, right: bytes) -> bool:
    (left_score, _, left_rest), (right_score, _, right_rest) = left.partition(b":"), right.partition(b":")
    try:
        return left_rest == right_rest and within_tolerance(float(left_score), float(right_score))
    except ValueError:
        return left == right


def bytes_elements(tensor: bytes) -> Sequence[bytes]:
    """The elements of a BYTES tensor; what does not add up ends with what is left."""
    elements, position = [], 0
    while position < len(tensor):
        size = int.from_bytes(tensor[position : position + 4], "little")
        elements.append(tensor[position + 4 : position + 4 + size])
        position += 4 + size
    return elements

"""The outermost layer of a ModelInferRequest: large raw contents are taken out of the call's own memory.

protobuf copies bytes when it reads a message and again when they are asked for. Tensors worth that care are cut out
before it reads the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from google.protobuf.message import DecodeError

from taxiway.core.errors import MalformedRequest
from taxiway.server.wire.grpc.protos import Message, message_class

_LARGE_BYTES: Final = 32 * 1024
"""Below this, two copies cost less than looking for the fields here."""
_RAW_TAG: Final = 7 << 3 | 2
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5

_Request = message_class("inference.ModelInferRequest")


def open_request(body: bytes) -> tuple[Message, Sequence[bytes | memoryview]]:
    """The ModelInferRequest in `body`, and its raw contents, which it then need not hold itself.

    Raises:
        MalformedRequest: it is none.
    """
    try:
        if len(body) < _LARGE_BYTES:
            message = _Request.FromString(body)
            return message, message.raw_input_contents
        words, raw = _cut(body)
        return _Request.FromString(words), raw
    except (DecodeError, IndexError) as problem:
        raise MalformedRequest(
            f"the call's message is not an inference.ModelInferRequest: {problem}",
            hint="ask for its form by server reflection",
        ) from None


def raw_places(body: bytes) -> list[tuple[int, int]] | None:
    """Where the raw contents of a ModelInferRequest begin and end; None unless they are its last fields, and some."""
    places: list[tuple[int, int]] = []
    for tag, _, content, end in _fields(body):
        if tag == _RAW_TAG:
            places.append((content, end))
        elif places:
            return None
    return places or None


def _cut(body: bytes) -> tuple[bytes, list[memoryview]]:
    """Everything but the raw contents, and those."""
    view = memoryview(body)
    words: list[memoryview] = []
    raw: list[memoryview] = []
    for tag, start, content, end in _fields(body):
        if tag == _RAW_TAG:
            raw.append(view[content:end])
        else:
            words.append(view[start:end])
    return b"".join(words), raw


def _fields(body: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Each field's tag, and where the field, its content and what comes after it begin."""
    position, size = 0, len(body)
    while position < size:
        start = position
        tag, position = _varint(body, position)
        kind = tag & 7
        if kind == _BYTES:
            length, position = _varint(body, position)
            end = position + length
        elif kind == _VARINT:
            _, end = _varint(body, position)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            end = position + (8 if kind == _EIGHT_BYTES else 4)
        else:
            raise DecodeError(f"a field of wire type {kind}")
        if end > size:
            raise DecodeError("a field ends past the end")
        yield tag, start, position, end
        position = end


def _varint(body: bytes, position: int) -> tuple[int, int]:
    """The number at `position`, and where it ends."""
    number = shift = 0
    while True:
        byte = body[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
        shift += 7
        if shift > 63:
            raise DecodeError("a number of more than 64 bits")

"""Protobuf's wire format, field by field, without a schema and without copying.

A parser made from the schema would do as much work as the message asks for; this one is asked for what is wanted.
"""

from __future__ import annotations

from collections.abc import Iterator

from taxiway.core.errors import MalformedArtifact, OversizedArtifact
from taxiway.intake.limits import Limits
from taxiway.intake.nouns import Buffer

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5

_END_OF_NUMBERS = 1 << 29

Span = tuple[int, int]
"""Where a value begins and ends."""


class Message:
    """One message: a span of a file's bytes."""

    __slots__ = ("_reader", "depth", "end", "start")

    def __init__(self, reader: Reader, start: int, end: int, depth: int) -> None:
        self._reader = reader
        self.start = start
        self.end = end
        self.depth = depth

    def fields(self) -> Iterator[tuple[int, int, int | Span]]:
        """Number, wire type, and the value: an integer, or the span of what has a length or a fixed size."""
        return self._reader.fields(self.start, self.end)

    def inner(self, span: Span) -> Message:
        """The message that a field of it holds."""
        return self._reader.message(span, self.depth + 1)

    def text(self, span: Span) -> str:
        """The string that a field holds."""
        return self._reader.text(span)


class Reader:
    """Reads messages out of one file, and counts what it reads."""

    def __init__(self, data: Buffer, where: str, limits: Limits) -> None:
        self._data = data
        self._where = where
        self._limits = limits
        self._seen = 0

    def root(self) -> Message:
        """The whole file as a message."""
        return Message(self, 0, len(self._data), 0)

    def message(self, span: Span, depth: int) -> Message:
        """What lies in `span`, as a message.

        Raises:
            OversizedArtifact: too deep.
        """
        if depth > self._limits.max_message_depth:
            rule = f"protobuf messages nest deeper than max_message_depth ({self._limits.max_message_depth})"
            raise OversizedArtifact(f"{self._where}: {rule}", file=self._where, rule="max_message_depth")
        return Message(self, *span, depth)

    def text(self, span: Span) -> str:
        """What lies in `span`, as text.

        Raises:
            OversizedArtifact: longer than a name is.
            MalformedArtifact: not UTF-8.
        """
        if span[1] - span[0] > self._limits.max_text_bytes:
            rule = f"a text is longer than max_text_bytes ({self._limits.max_text_bytes})"
            raise OversizedArtifact(f"{self._where}: {rule}", file=self._where, rule="max_text_bytes")
        try:
            return self._data[span[0] : span[1]].decode("utf-8")
        except UnicodeDecodeError:
            raise self._broken(span[0], "a text is not UTF-8") from None

    def fields(self, at: int, end: int) -> Iterator[tuple[int, int, int | Span]]:
        """The fields between two offsets.

        Raises:
            MalformedArtifact: not protobuf.
            OversizedArtifact: more fields than one file may have.
        """
        while at < end:
            self._seen += 1
            if self._seen > self._limits.max_message_fields:
                rule = f"has more protobuf fields than max_message_fields ({self._limits.max_message_fields})"
                raise OversizedArtifact(f"{self._where}: {rule}", file=self._where, rule="max_message_fields")
            key, at = self._varint(at, end)
            number, wire = key >> 3, key & 7
            if not 0 < number < _END_OF_NUMBERS:  # some readers would take its lower bits for a number
                raise self._broken(at, f"a field has number {number}")
            if wire == VARINT:
                value, at = self._varint(at, end)
                yield number, wire, value
                continue
            size, at = self._size(wire, at, end)
            if size > end - at:
                raise self._broken(at, f"a field of {size} bytes, where {end - at} are left")
            yield number, wire, (at, at + size)
            at += size

    def _size(self, wire: int, at: int, end: int) -> tuple[int, int]:
        if wire == LENGTH:
            return self._varint(at, end)
        if wire == FIXED64:
            return 8, at
        if wire == FIXED32:
            return 4, at
        raise self._broken(at, f"a field of wire type {wire}")

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = shift = 0
        while at < end and shift < 70:
            byte = self._data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFF_FFFF_FFFF_FFFF, at
            shift += 7
        raise self._broken(at, "a number that does not end")

    def _broken(self, at: int, rule: str) -> MalformedArtifact:
        return MalformedArtifact(
            f"{self._where} is no valid protobuf at byte {at}: {rule}",
            hint="export the model again, or copy it again: it may be cut off",
            file=self._where,
            rule="protobuf",
        )


def signed(value: int) -> int:
    """A varint as int64."""
    return value - (1 << 64) if value >> 63 else value

"""FlatBuffers, read table by table, with every offset checked: a fraction of what the format has."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from taxiway.core.errors import MalformedArtifact
from taxiway.intake.nouns import Buffer

_MAX_TEXT_BYTES = 16 << 20
_MAX_ELEMENTS = 10_000_000


class Table:
    """One table. Fields are named by their place in the schema."""

    def __init__(self, data: Buffer, at: int, where: str) -> None:
        self._data = data
        self._at = at
        self._where = where
        self._fields = at - _read(data, "<i", at, where)
        self._size = _read(data, "<H", self._fields, where)

    @classmethod
    def root(cls, data: Buffer, where: str) -> Table:
        """The outermost table of a buffer.

        Raises:
            MalformedArtifact: an offset that leads out, here and below.
        """
        return cls(data, _read(data, "<I", 0, where), where)

    def number(self, field: int, form: str = "<i", default: int = 0) -> int:
        """A scalar field."""
        at = self._field(field)
        return default if at is None else _read(self._data, form, at, self._where)

    def text(self, field: int) -> str:
        """A string field."""
        at = self._target(field)
        return "" if at is None else self._text_at(at)

    def table(self, field: int) -> Table | None:
        """A table field."""
        at = self._target(field)
        return None if at is None else Table(self._data, at, self._where)

    def tables(self, field: int) -> Iterator[Table]:
        """A vector of tables."""
        for at in self._elements(field):
            yield Table(self._data, at + _read(self._data, "<I", at, self._where), self._where)

    def count(self, field: int) -> int:
        """How many elements a vector has."""
        at = self._target(field)
        return 0 if at is None else _read(self._data, "<I", at, self._where)

    def _elements(self, field: int) -> Iterator[int]:
        start = self._target(field)
        if start is None:
            return
        count = _read(self._data, "<I", start, self._where)
        if count > _MAX_ELEMENTS or start + 4 + 4 * count > len(self._data):
            raise _broken(self._where, start, f"a vector of {count} elements")
        yield from range(start + 4, start + 4 + 4 * count, 4)

    def _text_at(self, at: int) -> str:
        size = _read(self._data, "<I", at, self._where)
        if size > _MAX_TEXT_BYTES or at + 4 + size > len(self._data):
            raise _broken(self._where, at, f"a text of {size} bytes")
        return self._data[at + 4 : at + 4 + size].decode("utf-8", "replace")

    def _field(self, field: int) -> int | None:
        entry = 4 + 2 * field
        if entry + 2 > self._size:
            return None
        offset = _read(self._data, "<H", self._fields + entry, self._where)
        return self._at + offset if offset else None

    def _target(self, field: int) -> int | None:
        at = self._field(field)
        return None if at is None else at + _read(self._data, "<I", at, self._where)


def _read(data: Buffer, form: str, at: int, where: str) -> int:
    if at < 0 or at + struct.calcsize(form) > len(data):
        raise _broken(where, at, "an offset that leads out of the file")
    return int(struct.unpack_from(form, data, at)[0])


def _broken(where: str, at: int, what: str) -> MalformedArtifact:
    return MalformedArtifact(
        f"{where} is broken at byte {at}: {what}", hint="save the model again", file=where, rule="flatbuffer"
    )

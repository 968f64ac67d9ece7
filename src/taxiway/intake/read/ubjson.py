"""Universal Binary JSON as XGBoost writes it, with arrays of numbers stepped over.

XGBoost writes every length as `L` (eight bytes) and typed arrays as `[$d#L...`; the rest of the format is read too, so
that no other writer's file is taken for broken.
"""

from __future__ import annotations

import struct
from typing import Any

from taxiway.core.errors import MalformedArtifact, OversizedArtifact
from taxiway.intake.limits import Limits
from taxiway.intake.nouns import Buffer

_FORMS = {b"i": ">b", b"U": ">B", b"I": ">h", b"l": ">i", b"L": ">q", b"d": ">f", b"D": ">d"}
_INTEGERS = (b"i", b"U", b"I", b"l", b"L")
_CONSTANTS = {b"Z": None, b"T": True, b"F": False, b"N": None}


def read_ubjson(data: Buffer, where: str, limits: Limits) -> Any:  # noqa: ANN401 - whatever it holds
    """The whole document, but arrays of numbers are empty lists.

    Raises:
        MalformedArtifact: it is not UBJSON.
        OversizedArtifact: it nests or counts beyond the limits.
    """
    return _Reader(data, where, limits).value(0)


class _Reader:
    def __init__(self, data: Buffer, where: str, limits: Limits) -> None:
        self._data = data
        self._where = where
        self._limits = limits
        self._at = 0
        self._nodes = 0

    def value(self, depth: int, marker: bytes = b"") -> Any:  # noqa: ANN401
        """The next value; `marker` is its type where a container has said it for all of its values."""
        self._count(depth)
        marker = marker or self._take(1)
        if marker in _FORMS:
            return self._number(marker)
        if marker in _CONSTANTS:
            return _CONSTANTS[marker]
        if marker == b"S":
            return self._text()
        if marker == b"C":
            return self._take(1).decode("latin-1")
        if marker == b"{":
            return self._object(depth)
        if marker == b"[":
            return self._array(depth)
        raise self._broken(f"a value of type {marker!r}")

    def _object(self, depth: int) -> dict[str, Any]:
        kind, count = self._head()
        found: dict[str, Any] = {}
        while count is None or count > 0:
            if count is None and self._peek() == b"}":
                self._at += 1
                break
            key = self._text()
            if key in found:
                raise self._broken(f"the key {key[:80]!r} twice")
            found[key] = self.value(depth + 1, kind)
            count = None if count is None else count - 1
        return found

    def _array(self, depth: int) -> list[Any]:
        kind, count = self._head()
        if kind in _FORMS and count is not None:
            self._skip(count * struct.calcsize(_FORMS[kind]))
            return []
        found: list[Any] = []
        while count is None or count > 0:
            if count is None and self._peek() == b"]":
                self._at += 1
                break
            found.append(self.value(depth + 1, kind))
            count = None if count is None else count - 1
        return found

    def _head(self) -> tuple[bytes, int | None]:
        """Type and count of a container, where it says them."""
        kind = b""
        if self._peek() == b"$":
            self._at += 1
            kind = self._take(1)
            if self._peek() != b"#":
                raise self._broken("a type without a count")
        if self._peek() != b"#":
            return kind, None
        self._at += 1
        return kind, self._length()

    def _length(self) -> int:
        marker = self._take(1)
        if marker not in _INTEGERS:
            raise self._broken(f"a length of type {marker!r}")
        length = int(self._number(marker))
        if not 0 <= length <= len(self._data):
            raise self._broken(f"a length of {length}")
        return length

    def _text(self) -> str:
        return self._take(self._length()).decode("utf-8", "replace")

    def _number(self, marker: bytes) -> Any:  # noqa: ANN401 - int or float
        form = _FORMS[marker]
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _peek(self) -> bytes:
        return self._data[self._at : self._at + 1]

    def _take(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        self._skip(size)
        return taken

    def _skip(self, size: int) -> None:
        if size > len(self._data) - self._at:
            raise self._broken(f"{size} bytes more than the file has")
        self._at += size

    def _count(self, depth: int) -> None:
        self._nodes += 1
        for rule, number in (("max_document_depth", depth), ("max_document_nodes", self._nodes)):
            if number > getattr(self._limits, rule):
                said = f"{self._where} is over {rule} ({getattr(self._limits, rule)}) for binary JSON"
                raise OversizedArtifact(said, file=self._where, rule=rule)

    def _broken(self, what: str) -> MalformedArtifact:
        said = f"{self._where} is no valid binary JSON at byte {self._at}: {what}"
        return MalformedArtifact(said, hint="save the model again", file=self._where, rule="ubjson")

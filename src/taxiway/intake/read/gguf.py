"""The header of a GGUF file: metadata and tensors, with every count and length checked before it is believed.

Follows the format's specification (ggml-org/ggml, docs/gguf.md), versions 2 and 3, little-endian.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from taxiway.core.errors import MalformedArtifact, OversizedArtifact
from taxiway.intake.limits import Limits
from taxiway.intake.nouns import Buffer

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_KEPT_ELEMENTS = 16
"""Elements of an array that are kept; a vocabulary has a hundred thousand, which nobody needs here."""

_TYPES: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 36), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
}  # fmt: skip
"""ggml's number -> name, numbers in a block, bytes of a block."""


@dataclass(frozen=True, slots=True)
class GgufFile:
    """A whole header. Arrays in `metadata` are cut to their first elements."""

    version: int
    metadata: Mapping[str, Any]
    tensors: int
    parameters: int
    types: Mapping[str, int]


def read_gguf(data: Buffer, where: str, limits: Limits) -> GgufFile:
    """Read and check a header.

    Raises:
        MalformedArtifact: it lies about a count, a length or an offset.
        OversizedArtifact: more entries than a header has.
    """
    cursor = _Cursor(data, where, limits)
    cursor.take(4)
    version = cursor.number("<I")
    if version not in (2, 3):
        raise cursor.broken(f"is of GGUF version {version}; 2 and 3 are read")
    tensors = cursor.count("tensors", limits.max_tensors, "max_tensors", 24)
    entries = cursor.count("key-value pairs", limits.max_entries, "max_entries", 13)
    metadata: dict[str, Any] = {}
    for _ in range(entries):
        key = cursor.text()
        if key in metadata:
            raise cursor.broken(f"has the key {key[:80]!r} twice")
        metadata[key] = cursor.value(cursor.number("<I"))
    return _read_tensors(cursor, version, tensors, metadata)


def _read_tensors(cursor: _Cursor, version: int, count: int, metadata: dict[str, Any]) -> GgufFile:
    names: set[str] = set()
    types: dict[str, int] = {}
    spans: list[tuple[int, int, str]] = []
    parameters = 0
    for _ in range(count):
        name = cursor.text()
        if name in names:
            raise cursor.broken(f"has the tensor {name[:80]!r} twice")
        names.add(name)
        rank = cursor.number("<I")
        if rank > 8:
            raise cursor.broken(f"has a tensor {name[:80]!r} of {rank} dimensions")
        elements = math.prod(cursor.number("<Q") for _ in range(rank))
        kind, offset = cursor.number("<I"), cursor.number("<Q")
        if kind not in _TYPES:
            raise cursor.broken(f"has a tensor {name[:80]!r} of type {kind}, which is not known")
        title, block, size = _TYPES[kind]
        types[title] = types.get(title, 0) + 1
        parameters += elements
        spans.append((offset, offset + -(-elements // block) * size, name))
    _check_spans(cursor, spans, metadata.get("general.alignment", 32))
    return GgufFile(version, metadata, count, parameters, types)


def _check_spans(cursor: _Cursor, spans: list[tuple[int, int, str]], alignment: Any) -> None:  # noqa: ANN401 - foreign
    if type(alignment) is not int or not 0 < alignment <= 1 << 20:
        raise cursor.broken(f"has general.alignment {alignment!r}")
    start = -(-cursor.at // alignment) * alignment
    end = 0
    for begin, finish, name in sorted(spans):
        if begin < end:
            raise cursor.broken(f"has a tensor {name[:80]!r} that overlaps the tensor before it")
        if start + finish > len(cursor.data):
            rule = f"has a tensor {name[:80]!r} that ends at byte {start + finish} of {len(cursor.data)}"
            raise cursor.broken(rule)
        end = finish


class _Cursor:
    """Reads forward and never beyond the end."""

    def __init__(self, data: Buffer, where: str, limits: Limits) -> None:
        self.data = data
        self.at = 0
        self._where = where
        self._limits = limits

    def broken(self, rule: str) -> MalformedArtifact:
        """A refusal."""
        hint = "download it again: it is cut off or was changed"
        return MalformedArtifact(f"{self._where} {rule}", hint=hint, file=self._where, rule="gguf")

    def take(self, size: int) -> bytes:
        """The next bytes."""
        if size > len(self.data) - self.at:
            raise self.broken(f"wants {size} bytes at byte {self.at}, where {len(self.data) - self.at} are left")
        taken = self.data[self.at : self.at + size]
        self.at += size
        return taken

    def number(self, form: str) -> Any:  # noqa: ANN401 - int, float or bool by its form
        """The next number."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def count(self, what: str, limit: int, rule: str, least_bytes: int) -> int:
        """A number of things that follow, if so many can follow.

        Raises:
            OversizedArtifact: over the limit.
            MalformedArtifact: more than the rest of the file can hold.
        """
        count: int = self.number("<Q")
        if count > limit:
            said = f"{self._where} says that it has {count} {what}, more than {rule} ({limit})"
            raise OversizedArtifact(said, file=self._where, rule=rule)
        if count * least_bytes > len(self.data) - self.at:
            raise self.broken(f"says that it has {count} {what}, more than its {len(self.data)} bytes can hold")
        return count

    def text(self) -> str:
        """The next string."""
        size = self.number("<Q")
        if size > self._limits.max_text_bytes:
            raise self.broken(f"says that a text has {size} bytes")
        return self.take(size).decode("utf-8", "replace")

    def value(self, kind: int, depth: int = 0) -> Any:  # noqa: ANN401 - of the kind that the file names
        """The next value of metadata."""
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY or depth > 4:
            raise self.broken(f"has a value of type {kind} at byte {self.at}")
        inner = self.number("<I")
        form = _SCALARS.get(inner)
        count = self.count("array elements", self._limits.max_entries, "max_entries", struct.calcsize(form or "<Q"))
        if form is None:
            return self._values(inner, count, depth + 1)
        kept = [self.number(form) for _ in range(min(count, _KEPT_ELEMENTS))]
        self.take((count - len(kept)) * struct.calcsize(form))
        return kept

    def _values(self, kind: int, count: int, depth: int) -> list[Any]:
        kept: list[Any] = []
        for _ in range(count):
            value = self.value(kind, depth)
            if len(kept) < _KEPT_ELEMENTS:
                kept.append(value)
        return kept

"""The header of a safetensors file, checked against the file: names, datatypes, shapes and where the numbers lie."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from taxiway.core.errors import MalformedArtifact, OversizedArtifact
from taxiway.intake.limits import Limits
from taxiway.intake.nouns import Buffer

_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "U16": 16, "I16": 16, "F16": 16, "BF16": 16,
    "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip


_MAX_NUMBERS = 64 + 2
"""Of a shape and two offsets: NumPy has 64 dimensions at most, and the product of a million is a bomb."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SafetensorsFile:
    """A whole header."""

    tensors: tuple[Tensor, ...]
    metadata: Mapping[str, str]

    @property
    def parameters(self) -> int:
        """Numbers in all tensors."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors)


def read_safetensors(data: Buffer, where: str, limits: Limits) -> SafetensorsFile:
    """Read and check a header.

    Raises:
        MalformedArtifact: it contradicts itself or the file.
        OversizedArtifact: it is larger than headers are.
    """
    if len(data) < 8:
        raise _broken(where, "is shorter than the length of its header")
    (size,) = struct.unpack("<Q", data[:8])
    if size > limits.max_header_bytes:
        rule = f"says that its header has {size} bytes, more than max_header_bytes ({limits.max_header_bytes})"
        raise OversizedArtifact(f"{where} {rule}", file=where, rule="max_header_bytes")
    if size > len(data) - 8:
        raise _broken(where, f"says that its header has {size} bytes, and has {len(data) - 8}")
    header = _parse(data[8 : 8 + size], where)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise _broken(where, "has metadata that is no table of texts")
    if len(header) > limits.max_tensors:
        rule = f"has more tensors than max_tensors ({limits.max_tensors})"
        raise OversizedArtifact(f"{where} {rule}", file=where, rule="max_tensors")
    spans = sorted((*_span(name, value, where), name) for name, value in header.items())
    _check_cover(spans, len(data) - 8 - size, where)
    tensors = (Tensor(name, str(one["dtype"]), tuple(one["shape"])) for name, one in header.items())
    return SafetensorsFile(tuple(tensors), metadata)


def _parse(text: bytes, where: str) -> dict[str, Any]:
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=lambda pairs: _once(pairs, where))
    except (ValueError, RecursionError) as problem:
        raise _broken(where, f"has a header that is not JSON: {problem}") from None
    if not isinstance(header, dict):
        raise _broken(where, "has a header that is no JSON object")
    return header


def _once(pairs: list[tuple[str, Any]], where: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _broken(where, f"names {name[:80]!r} twice in its header")
        found[name] = value
    return found


def _span(name: str, value: Any, where: str) -> tuple[int, int]:  # noqa: ANN401 - foreign JSON
    """Where a tensor's numbers begin and end, if dtype and shape make just as many bytes."""
    try:
        dtype, shape, (start, end) = value["dtype"], value["shape"], value["data_offsets"]
    except (KeyError, TypeError, ValueError):
        raise _broken(where, f"lacks dtype, shape or data_offsets for tensor {name!r}") from None
    numbers = [*shape, start, end] if isinstance(shape, list) else [None]
    if len(numbers) > _MAX_NUMBERS or not all(type(number) is int and 0 <= number < 1 << 63 for number in numbers):
        raise _broken(where, f"has a shape or offsets of tensor {name!r} that are no counts")
    if dtype not in _BITS:
        raise _broken(where, f"has a tensor {name!r} of datatype {str(dtype)[:40]!r}, which the format does not know")
    want = -(-math.prod(shape) * _BITS[dtype] // 8)
    if end - start != want:
        raise _broken(where, f"gives tensor {name!r} {end - start} bytes, where its shape needs {want}")
    return start, end


def _check_cover(spans: list[tuple[int, int, str]], size: int, where: str) -> None:
    """The numbers follow each other without gap or overlap, to the end of the file: the format says so."""
    at = 0
    for start, end, name in spans:
        if start != at:
            what = "overlaps the tensor before it" if start < at else f"leaves {start - at} bytes before it unnamed"
            raise _broken(where, f"has a tensor {name!r} that {what}")
        if end > size:
            raise _broken(where, f"has a tensor {name!r} that ends at byte {end}, where {size} are there")
        at = end
    if at != size:
        raise _broken(where, f"has {size - at} bytes after its last tensor")


def _broken(where: str, rule: str) -> MalformedArtifact:
    return MalformedArtifact(
        f"{where} {rule}",
        hint="download or save it again: it is cut off or was changed",
        file=where,
        rule="safetensors",
    )

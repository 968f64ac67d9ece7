"""What is kept of answers for whoever judges them: bounded, handed out once, and counted where there was no room."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from taxiway.core.requests import BatchResult, InferRequest
from taxiway.core.tensors import TensorSpec
from taxiway.core.traffic import Recorded

MAX_RECORDS: Final = 20_000
MAX_BYTES: Final = 32 << 20
Tensors = tuple[dict[str, Any], ...]


class Records:
    """The records of one service in one process, until they are asked for."""

    def __init__(self) -> None:
        self.dropped = 0
        """Those that there was no room for."""
        self._kept: deque[tuple[Recorded, int]] = deque()
        self._bytes = 0

    def add(self, record: Recorded, nbytes: int) -> None:
        """Keep one of about so many bytes, if there is room."""
        if len(self._kept) >= MAX_RECORDS or self._bytes + nbytes > MAX_BYTES:
            self.dropped += 1
            return
        self._kept.append((record, nbytes))
        self._bytes += nbytes

    def take(self) -> list[Recorded]:
        """All of them, which are forgotten here."""
        taken = [record for record, _ in self._kept]
        self._kept.clear()
        self._bytes = 0
        return taken


def unit_digest(unit: bytes | None) -> str:
    """A unit as it is told: nobody's name leaves the data plane."""
    return "" if unit is None else hashlib.blake2b(unit, digest_size=8).hexdigest()


def outputs_of(specs: Sequence[TensorSpec], result: BatchResult, start: int, stop: int) -> Tensors:
    """The outputs of one request's rows, copied."""
    told = []
    for place, spec in enumerate(specs):
        array = result.arrays[place] if place < len(result.arrays) else None
        if array is not None:
            rows = array[start:stop] if array.ndim and stop - start != result.rows else array
            told.append(_tensor(spec, rows.shape, _raw(rows)))
    return tuple(told)


def inputs_of(specs: Sequence[TensorSpec], request: InferRequest) -> Tensors:
    """The inputs of a request, copied."""
    told = []
    for spec, given in zip(specs, request.inputs, strict=True):
        if given is not None:
            data = _joined(given.data) if isinstance(given.data, list) else bytes(given.data)
            told.append(_tensor(spec, given.shape, data))
    return tuple(told)


def size_of(tensors: Tensors) -> int:
    """Bytes of their contents."""
    return sum(len(tensor["data"]) for tensor in tensors)


def now_ns() -> int:
    """The time of day as records carry it, in UTC nanoseconds."""
    return time.time_ns()


def _tensor(spec: TensorSpec, shape: Sequence[int], data: bytes) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype.wire_name, "shape": list(shape), "data": data}


def _raw(array: Any) -> bytes:  # noqa: ANN401 - an array of any type
    if array.dtype == object:
        return _joined([item if isinstance(item, bytes) else str(item).encode() for item in array.reshape(-1)])
    return np.ascontiguousarray(array).tobytes()


def _joined(items: Sequence[bytes]) -> bytes:
    """BYTES as binary tensors carry them: each element's length before it."""
    return b"".join(len(item).to_bytes(4, "little") + item for item in items)

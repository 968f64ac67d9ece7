"""Copies of the tensors of requests and answers, for whoever looks at them after they are gone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from taxiway.core.requests import BatchResult, InferRequest
from taxiway.core.tensors import TensorSpec

Tensors = tuple[dict[str, Any], ...]
"""Each with name, datatype, shape and data as binary tensors have it."""


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


def _tensor(spec: TensorSpec, shape: Sequence[int], data: bytes) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype.wire_name, "shape": list(shape), "data": data}


def _raw(array: Any) -> bytes:  # noqa: ANN401 - an array of any type
    if array.dtype == object:
        return _joined([item if isinstance(item, bytes) else str(item).encode() for item in array.reshape(-1)])
    return np.ascontiguousarray(array).tobytes()


def _joined(items: Sequence[bytes]) -> bytes:
    """BYTES as binary tensors carry them: each element's length before it."""
    return b"".join(len(item).to_bytes(4, "little") + item for item in items)

"""What goes in and out of a traced request: the beginning of each tensor, copied, so that nothing large is held."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taxiway.core.requests import BatchResult, InferRequest
from taxiway.core.tensors import Datatype, TensorSpec
from taxiway.server.tracing.trace import INPUT, MAX_ELEMENTS, OUTPUT, Tensor

_MAX_TEXT_BYTES = 256
"""Of one element of a BYTES tensor."""


def inputs_of(request: InferRequest, specs: Sequence[TensorSpec]) -> Iterator[Tensor]:
    """The inputs of a request, as it brought them."""
    for spec, tensor in zip(specs, request.inputs, strict=True):
        if tensor is not None:
            data = _beginning(tensor.data, spec.datatype)
            yield Tensor(INPUT, spec.name, spec.datatype.wire_name, tensor.shape, data)


def outputs_of(
    result: BatchResult, start: int, stop: int, specs: Sequence[TensorSpec], *, batches: bool
) -> Iterator[Tensor]:
    """Rows [start, stop) of what a run gave; everything if its rows are not rows of requests."""
    by_name = {spec.name: spec for spec in specs}
    for name, whole in zip(result.names, result.arrays, strict=True):
        spec = by_name[name]
        array: Any = whole
        if array is not None:  # else nobody asked for it, or this answer has none
            array = array[start:stop] if batches else array
            data = _beginning(array, spec.datatype)
            yield Tensor(OUTPUT, name, spec.datatype.wire_name, array.shape, data)


def _beginning(data: Any, datatype: Datatype) -> Any:  # noqa: ANN401 - what InputTensor holds, or an array
    if datatype is Datatype.BYTES:
        items = data.reshape(-1)[:MAX_ELEMENTS].tolist() if isinstance(data, np.ndarray) else data
        return [bytes(item)[:_MAX_TEXT_BYTES] for item in islice(items, MAX_ELEMENTS)]
    if isinstance(data, np.ndarray):
        return data.reshape(-1)[:MAX_ELEMENTS].copy()
    view = memoryview(data)
    if not view.nbytes:  # which cannot be cast
        return np.empty(0, datatype.numpy_dtype)
    return np.frombuffer(bytes(view.cast("B")[: MAX_ELEMENTS * datatype.itemsize]), datatype.numpy_dtype)


def print_elements(tensor: Tensor) -> str:
    """The elements as Triton prints them: with commas between, numbers in six digits, texts quoted."""
    if isinstance(tensor.data, list):
        return ",".join('"' + item.decode("utf-8", "backslashreplace") + '"' for item in tensor.data)
    array: NDArray[Any] = tensor.data
    if tensor.datatype == Datatype.BF16.wire_name and array.dtype == np.uint16:
        array = (array.astype(np.uint32) << 16).view(np.float32)
    if array.dtype == np.bool_:
        return ",".join("1" if item else "0" for item in array.tolist())
    if array.dtype.kind == "f":
        return ",".join(f"{item:g}" for item in array.tolist())
    return ",".join(map(str, array.tolist()))

"""The classification extension: an output as its best classes, "score:index[:label]"."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from taxiway.core.errors import InvalidArgument, TooLarge
from taxiway.core.tensors import Datatype, Shape, TensorSpec

_MAX_ELEMENTS = 1_000_000
"""As Triton: sorting more would stall the loop."""


def classify(array: NDArray[Any], classes: int, spec: TensorSpec, *, batches: bool) -> tuple[Shape, list[bytes]]:
    """The `classes` largest elements of each row, best first, and the shape [rows, n] (or [n]) they form.

    Raises:
        InvalidArgument: elements that have no order to speak of (BYTES, BOOL).
        TooLarge: more than a million elements.
    """
    if spec.datatype in (Datatype.BYTES, Datatype.BOOL):
        raise InvalidArgument(f"output {spec.name!r} is {spec.datatype.wire_name}; classification needs numbers")
    if array.size > _MAX_ELEMENTS:
        raise TooLarge(f"output {spec.name!r} has {array.size} elements; classification takes {_MAX_ELEMENTS}")
    table = array.reshape(array.shape[0], -1) if batches else array.reshape(1, -1)
    count = min(classes, table.shape[1])
    items = [_entry(row, index, spec) for row in table for index in _best(row, count)]
    return ((table.shape[0], count) if batches else (count,)), items


def _best(row: NDArray[Any], count: int) -> list[int]:
    """Indices of the largest, best first; equal ones in their order, and NaN last."""
    order = np.argsort(row[::-1], kind="stable")[::-1]
    ranked: list[int] = (len(row) - 1 - order).tolist()
    if row.dtype.kind == "f":
        ranked.sort(key=lambda index: bool(np.isnan(row[index])))
    return ranked[:count]


def _entry(row: NDArray[Any], index: int, spec: TensorSpec) -> bytes:
    value = row[index].item()
    score = f"{value:f}" if isinstance(value, float) else str(value)
    label = f":{spec.labels[index]}" if index < len(spec.labels) and spec.labels[index] else ""
    return f"{score}:{index}{label}".encode()

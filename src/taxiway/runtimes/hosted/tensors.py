"""Tensors as bytes: what crosses to a model process and back. Nothing is pickled."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taxiway.core.errors import ModelFailed
from taxiway.core.tensors import Datatype

_LENGTH = struct.Struct("<I")
_DATATYPES = {np.dtype(one.numpy_dtype): one for one in Datatype if one not in (Datatype.BF16, Datatype.BYTES)}
DTYPES = {one.wire_name: np.dtype(one.numpy_dtype) for one in Datatype}
"""numpy's dtype of each datatype, by the protocol's name."""


def datatype_of(array: NDArray[Any]) -> Datatype:
    """The datatype that carries an array.

    Raises:
        ModelFailed: none does.
    """
    if array.dtype.kind in "OSU":
        return Datatype.BYTES
    found = _DATATYPES.get(array.dtype)
    if found is None:
        raise ModelFailed(
            f"an array of dtype {array.dtype} has no datatype in the protocol",
            hint=f"return one of {', '.join(sorted(str(dtype) for dtype in _DATATYPES))}, or bytes",
        )
    return found


def join_bytes(elements: Iterable[Any]) -> bytes:
    """BYTES elements as the protocol lays them out: each behind its length; text becomes UTF-8.

    Raises:
        ModelFailed: a text cannot.
    """
    parts: list[bytes] = []
    for element in elements:
        try:
            item = element if isinstance(element, bytes) else str(element).encode()
        except UnicodeEncodeError as problem:
            raise ModelFailed(f"a text in a BYTES tensor of the model is not Unicode: {problem}") from problem
        parts += (_LENGTH.pack(len(item)), item)
    return b"".join(parts)


def split_bytes(data: memoryview | bytes, shape: Sequence[int]) -> NDArray[Any]:
    """The array of bytes objects that `join_bytes` laid out.

    Raises:
        ModelFailed: the bytes do not hold what the shape says.
    """
    elements: list[bytes] = []
    position, end = 0, len(data)
    while position < end:
        if position + 4 > end:
            raise ModelFailed("a BYTES tensor of the model ends within a length")
        (length,) = _LENGTH.unpack_from(data, position)
        position += 4 + length
        if position > end:
            raise ModelFailed("a BYTES tensor of the model ends within an element")
        elements.append(bytes(data[position - length : position]))
    if len(elements) != math.prod(shape):
        raise ModelFailed(f"a BYTES tensor of the model has {len(elements)} elements; its shape is {list(shape)}")
    array = np.empty(len(elements), dtype=object)
    array[:] = elements
    return array.reshape(tuple(shape))


def laid_out(array: NDArray[Any]) -> tuple[Datatype, Any]:
    """An array's datatype, and its content as one buffer."""
    datatype = datatype_of(array)
    if datatype is Datatype.BYTES:
        return datatype, join_bytes(array.ravel().tolist())
    return datatype, np.ascontiguousarray(array)

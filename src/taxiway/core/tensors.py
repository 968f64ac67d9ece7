"""Datatypes and shapes as the Open Inference Protocol names them."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

Shape = tuple[int, ...]
"""Dimensions, outermost first; -1 stands for "any"."""


class Datatype(enum.Enum):
    """A tensor's element type: the protocol's name, its numpy dtype string (little-endian) and its bytes.

    BYTES has no fixed size; BF16 has no numpy dtype and travels as raw 16-bit words.
    """

    BOOL = ("BOOL", "?", 1)
    UINT8 = ("UINT8", "u1", 1)
    UINT16 = ("UINT16", "<u2", 2)
    UINT32 = ("UINT32", "<u4", 4)
    UINT64 = ("UINT64", "<u8", 8)
    INT8 = ("INT8", "i1", 1)
    INT16 = ("INT16", "<i2", 2)
    INT32 = ("INT32", "<i4", 4)
    INT64 = ("INT64", "<i8", 8)
    FP16 = ("FP16", "<f2", 2)
    FP32 = ("FP32", "<f4", 4)
    FP64 = ("FP64", "<f8", 8)
    BF16 = ("BF16", "<u2", 2)
    BYTES = ("BYTES", "O", 0)

    def __init__(self, wire_name: str, numpy_dtype: str, itemsize: int) -> None:
        self.wire_name = wire_name
        self.numpy_dtype = numpy_dtype
        self.itemsize = itemsize

    __hash__ = object.__hash__  # members are single: Enum's own hash is a Python call on the hot path

    @classmethod
    def by_name(cls, name: str) -> Datatype | None:
        """The datatype with this protocol name, or None."""
        return _BY_NAME.get(name)


_BY_NAME = {datatype.wire_name: datatype for datatype in Datatype}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One declared input or output of a model.

    `shape` is what one row looks like when the model batches (the batch dimension is not in it), and the
    whole shape when it does not.
    """

    name: str
    datatype: Datatype
    shape: Shape
    optional: bool = False
    labels: tuple[str, ...] = ()

    def accepts(self, shape: Shape) -> bool:
        """Whether `shape` (without batch dimension) fits the declared one."""
        return len(shape) == len(self.shape) and all(
            want in (-1, got) for want, got in zip(self.shape, shape, strict=True)
        )


def count_elements(shape: Shape) -> int:
    """Elements of a concrete shape; 1 for a scalar."""
    return math.prod(shape)

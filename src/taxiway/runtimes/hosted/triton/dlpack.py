"""Tensors lent to and from other libraries without a copy (DLPack), on the CPU.

numpy speaks DLPack itself, but knows no bfloat16. Such a tensor crosses as what it is in memory, 16-bit words, and the
one byte that names its type is changed in the capsule on the way.
"""

from __future__ import annotations

import ctypes
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

_CPU, _CUDA_HOST = 1, 3
_UINT, _BFLOAT = 1, 4


class _Tensor(ctypes.Structure):
    """The beginning of DLManagedTensor (dlpack.h): as far as it is looked at."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
    )


_pointer_in = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_in.restype = ctypes.c_void_p
_pointer_in.argtypes = [ctypes.py_object, ctypes.c_char_p]


class _Lent:
    """A capsule, as something that numpy takes."""

    def __init__(self, capsule: object) -> None:
        self._capsule = capsule

    def __dlpack__(self, **_: object) -> object:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return _CPU, 0


class _Alias:
    """The same memory, without numpy's mark that it must not be written to: it could not be lent on with that."""

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array  # which holds the capsule
        address, _ = array.__array_interface__["data"]
        self.__array_interface__ = {**array.__array_interface__, "data": (address, False)}


def is_capsule(given: object) -> bool:
    """Whether it is a capsule itself, and not something that makes one."""
    return type(given).__name__ == "PyCapsule"


def lend(array: NDArray[Any], *, bfloat: bool) -> object:
    """A capsule with the array in it; `bfloat` says that its 16-bit words are bfloat16 numbers."""
    capsule = array.__dlpack__()
    if bfloat:
        _look(capsule).code = _BFLOAT
    return capsule


def borrow(capsule: object) -> tuple[NDArray[Any], bool]:
    """The array in a capsule, and whether its words are bfloat16 numbers.

    Raises:
        ValueError: it is not in the memory of the CPU.
    """
    tensor = _look(capsule)
    if tensor.device_type not in (_CPU, _CUDA_HOST):
        raise ValueError(f"DLDevice type {tensor.device_type} is not in the memory of the CPU")
    bfloat = tensor.code == _BFLOAT and tensor.bits == np.dtype(np.uint16).itemsize * 8
    if bfloat:
        tensor.code = _UINT
    return np.asarray(_Alias(np.from_dlpack(cast("Any", _Lent(capsule))))), bfloat


def _look(capsule: object) -> _Tensor:
    return _Tensor.from_address(_pointer_in(capsule, b"dltensor"))

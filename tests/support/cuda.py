"""A little work for a real GPU, through the driver's own library and nothing else."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

BYTES = 1 << 30


class Cuda:
    """The first GPU, with a piece of its memory.

    Raises:
        OSError: there is no driver.
        RuntimeError: it refuses.
    """

    def __init__(self) -> None:
        self._cuda = ctypes.CDLL("libcuda.so.1")
        device, context, self._memory = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuInit", 0)
        self._call("cuDeviceGet", ctypes.byref(device), 0)
        self._call("cuCtxCreate_v2", ctypes.byref(context), 0, device)
        self._call("cuMemAlloc_v2", ctypes.byref(self._memory), ctypes.c_size_t(BYTES))
        self._context = context

    def work(self, seconds: float) -> None:
        """Write to its memory, again and again."""
        until = monotonic() + seconds
        while monotonic() < until:
            for value in range(20):
                self._call("cuMemsetD32_v2", self._memory, value, ctypes.c_size_t(BYTES // 4))
            self._call("cuCtxSynchronize")

    def close(self) -> None:
        """Give it back."""
        self._call("cuMemFree_v2", self._memory)
        self._call("cuCtxDestroy_v2", self._context)

    def _call(self, name: str, *words: object) -> None:
        status = getattr(self._cuda, name)(*words)
        if status:
            raise RuntimeError(f"{name}: {status}")


@contextmanager
def cuda() -> Iterator[Cuda]:
    """As `Cuda`, closed at the end."""
    found = Cuda()
    try:
        yield found
    finally:
        found.close()

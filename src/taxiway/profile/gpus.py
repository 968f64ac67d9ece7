"""What the GPUs of this machine do while a server is measured, asked of NVIDIA's own library where there is one."""

from __future__ import annotations

import ctypes
from typing import Any, Final, Self

from taxiway.profile.resources import Gpu

_LIBRARY: Final = "libnvidia-ml.so.1"
_NAME_BYTES: Final = 96


class _Utilization(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class GpuSampler:
    """Of every GPU; `sample` now and then, `gpus` at the end."""

    def __init__(self, library: Any) -> None:  # noqa: ANN401 - functions of a shared library
        self._library = library
        self._handles = _handles_of(library)
        self._seen: list[list[tuple[int, int, int]]] = [[] for _ in self._handles]

    @classmethod
    def find(cls) -> Self | None:
        """None where there is no driver, or no GPU."""
        try:
            library = ctypes.CDLL(_LIBRARY)
        except OSError:
            return None
        if library.nvmlInit_v2() != 0:
            return None
        made = cls(library)
        return made if made._handles else None

    def sample(self) -> None:
        """Look now."""
        for handle, seen in zip(self._handles, self._seen, strict=True):
            utilization, memory, milliwatts = _Utilization(), _Memory(), ctypes.c_uint()
            self._library.nvmlDeviceGetUtilizationRates(handle, ctypes.byref(utilization))
            self._library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory))
            self._library.nvmlDeviceGetPowerUsage(handle, ctypes.byref(milliwatts))
            seen.append((utilization.gpu, memory.used, milliwatts.value))

    def gpus(self) -> tuple[Gpu, ...]:
        """What was seen of each."""
        return tuple(
            Gpu(
                self._name(handle),
                sum(one[0] for one in seen) / len(seen) / 100,
                max(one[1] for one in seen),
                max(one[2] for one in seen) / 1000,
            )
            for handle, seen in zip(self._handles, self._seen, strict=True)
            if seen
        )

    def _name(self, handle: ctypes.c_void_p) -> str:
        text = ctypes.create_string_buffer(_NAME_BYTES)
        self._library.nvmlDeviceGetName(handle, text, _NAME_BYTES)
        return text.value.decode("utf-8", "replace")


def _handles_of(library: Any) -> list[ctypes.c_void_p]:  # noqa: ANN401 - likewise
    count = ctypes.c_uint()
    library.nvmlDeviceGetCount_v2(ctypes.byref(count))
    handles = []
    for number in range(count.value):
        handle = ctypes.c_void_p()
        if library.nvmlDeviceGetHandleByIndex_v2(number, ctypes.byref(handle)) == 0:
            handles.append(handle)
    return handles

"""Reads GPUs through NVIDIA's own binding of NVML. Blocks, for as long as the driver takes.

What a device does not support is left out, and so are the values by which drivers say that there is none: they have
been seen on dashboards as 9.2e18 percent.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

from taxiway.telemetry.gpu.reading import GpuReading, MigReading

Read = Callable[[Any, Any], Mapping[str, float]]

_BLANK_32: Final = 0x7FFFFFF0
_BLANK_64: Final = 0x7FFFFFFFFFFFFFF0
_NONE: Final = 0xFFFFFFFF
_MIB: Final = 1024.0 * 1024.0


class GpusUnavailableError(Exception):
    """There is no driver, or it, or a device, was lost."""


class Nvml:
    """A session with the driver.

    Raises:
        GpusUnavailableError: there is no driver, or it does not start.
    """

    def __init__(self) -> None:
        try:
            self._nvml: Any = importlib.import_module("pynvml")
            self._nvml.nvmlInit()
        except Exception as problem:  # noqa: BLE001 - whatever is wrong with a driver, there are no GPUs for us
            raise GpusUnavailableError(str(problem)) from None
        self._lost = {
            getattr(self._nvml, name)
            for name in ("NVML_ERROR_GPU_IS_LOST", "NVML_ERROR_UNINITIALIZED", "NVML_ERROR_DRIVER_NOT_LOADED")
        }
        self._lost.add(self._nvml.NVML_ERROR_RESET_REQUIRED)
        self._driver = str(self._or(self._nvml.nvmlSystemGetDriverVersion, default=""))
        self._handles = [self._ask(self._nvml.nvmlDeviceGetHandleByIndex, at) for at in range(self._count())]
        self._xids = _Xids(self._nvml, self._handles)
        self._gpm = _Gpm(self._nvml)

    def close(self) -> None:
        """End the session."""
        with contextlib.suppress(Exception):
            self._nvml.nvmlShutdown()

    def read(self) -> list[GpuReading]:
        """Every GPU, now.

        Raises:
            GpusUnavailableError: a device was lost, or one came or went.
        """
        if self._count() != len(self._handles):
            raise GpusUnavailableError("a GPU came or went")
        self._xids.take()
        return [self._gpu(at, handle) for at, handle in enumerate(self._handles)]

    def _count(self) -> int:
        return int(self._ask(self._nvml.nvmlDeviceGetCount))

    def _gpu(self, index: int, handle: Any) -> GpuReading:  # noqa: ANN401 - NVML's handle
        nvml = self._nvml
        values = {name: value for read in _READS for name, value in self._values(read, handle)}
        values |= self._gpm.values(handle, ("gpu", index), partial(nvml.nvmlGpmSampleGet, handle))
        values |= self._xids.values(index)
        return GpuReading(
            index=index,
            uuid=str(self._or(nvml.nvmlDeviceGetUUID, handle, default="")),
            name=str(self._or(nvml.nvmlDeviceGetName, handle, default="")),
            bus_id=self._bus_id(handle),
            driver=self._driver,
            values=values,
            instances=tuple(self._instances(index, handle)),
            processes=self._processes(handle),
        )

    def _bus_id(self, handle: Any) -> str:  # noqa: ANN401
        info = self._or(self._nvml.nvmlDeviceGetPciInfo, handle, default=None)
        said = "" if info is None else info.busId
        return said.decode() if isinstance(said, bytes) else str(said)

    def _processes(self, handle: Any) -> dict[int, int]:  # noqa: ANN401
        found = self._or(self._nvml.nvmlDeviceGetComputeRunningProcesses, handle, default=[])
        return {int(one.pid): int(one.usedGpuMemory) for one in found if one.usedGpuMemory is not None}

    # --- instances of a divided GPU ------------------------------------------------------------------------

    def _instances(self, index: int, handle: Any) -> Iterator[MigReading]:  # noqa: ANN401
        nvml = self._nvml
        mode = self._or(nvml.nvmlDeviceGetMigMode, handle, default=(0, 0))
        if mode[0] != nvml.NVML_DEVICE_MIG_ENABLE:
            return
        for at in range(int(self._or(nvml.nvmlDeviceGetMaxMigDeviceCount, handle, default=0))):
            instance = self._or(nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, at, default=None)
            if instance is None:  # a place without an instance
                continue
            number = int(self._or(nvml.nvmlDeviceGetGpuInstanceId, instance, default=at))
            values = dict(self._values(_memory, instance))
            sample = partial(nvml.nvmlGpmMigSampleGet, handle, number)
            values |= self._gpm.values(handle, ("mig", index, number), sample)
            uuid = str(self._or(nvml.nvmlDeviceGetUUID, instance, default=""))
            yield MigReading(number, self._profile(instance), uuid, values)

    def _profile(self, instance: Any) -> str:  # noqa: ANN401
        attributes = self._or(self._nvml.nvmlDeviceGetAttributes_v2, instance, default=None)
        if attributes is None:
            return ""
        return f"{attributes.gpuInstanceSliceCount}g.{round(attributes.memorySizeMB / 1024)}gb"

    # --- asking -------------------------------------------------------------------------------------------

    def _values(self, read: Read, handle: Any) -> Iterator[tuple[str, float]]:  # noqa: ANN401
        told: Mapping[str, float] = self._or(read, self._nvml, handle, default={})
        return ((name, value) for name, value in told.items() if is_known(name, value))

    def _ask(self, call: Callable[..., Any], *words: Any) -> Any:  # noqa: ANN401
        try:
            return call(*words)
        except self._nvml.NVMLError as problem:
            raise GpusUnavailableError(str(problem)) from None

    def _or(self, call: Callable[..., Any], *words: Any, default: Any) -> Any:  # noqa: ANN401
        """What it says; the default where this device, or this driver, does not say it."""
        try:
            return call(*words)
        except self._nvml.NVMLError as problem:
            if problem.value in self._lost:
                raise GpusUnavailableError(str(problem)) from None
            return default
        except (AttributeError, TypeError, ValueError):  # a binding, or an answer, of another version
            return default


def is_known(name: str, value: float) -> bool:
    """Whether a value is one, and not a driver's word for none."""
    if value < 0 or value >= _BLANK_64:
        return False
    if name in _RATIOS:
        return value <= 1.001
    if name.endswith("temperature"):
        return value < 200
    if name.startswith("memory_") and name.endswith(("used", "total", "free", "reserved")):
        return True
    return name == "energy" or name.startswith("pcie_") or name.endswith("clock") or value < _BLANK_32


_RATIOS: Final = frozenset(
    {"utilization", "memory_utilization", "encoder", "decoder", "sm", "tensor", "occupancy", "dram", "graphics"}
)

# --- one call of NVML each -----------------------------------------------------------------------------------


def _utilization(nvml: Any, handle: Any) -> dict[str, float]:  # noqa: ANN401
    told = nvml.nvmlDeviceGetUtilizationRates(handle)
    return {"utilization": told.gpu / 100, "memory_utilization": told.memory / 100}


def _memory(nvml: Any, handle: Any) -> dict[str, float]:  # noqa: ANN401
    try:
        told = nvml.nvmlDeviceGetMemoryInfo(handle, nvml.nvmlMemory_v2)
    except nvml.NVMLError_FunctionNotFound:
        told = nvml.nvmlDeviceGetMemoryInfo(handle)
        return {"memory_total": told.total, "memory_used": told.used, "memory_free": told.free}
    sizes = {"memory_total": told.total, "memory_used": told.used, "memory_free": told.free}
    return {**sizes, "memory_reserved": told.reserved}


def _power(nvml: Any, handle: Any) -> dict[str, float]:  # noqa: ANN401
    return {"power": _milli(nvml.nvmlDeviceGetPowerUsage(handle))}


def _power_limit(nvml: Any, handle: Any) -> dict[str, float]:  # noqa: ANN401
    return {"power_limit": _milli(nvml.nvmlDeviceGetEnforcedPowerLimit(handle))}


def _energy(nvml: Any, handle: Any) -> dict[str, float]:  # noqa: ANN401
    return {"energy": _milli(nvml.nvmlDeviceGetTotalEnergyConsumption(handle))}


def _temperature(nvml: Any, handle: Any) -> dict[str, float]:  # noqa: ANN401
    return {"temperature": nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)}


def _memory_temperature(nvml: Any, handle: Any) -> dict[str, float]:  # noqa: ANN401
    (told,) = nvml.nvmlDeviceGetFieldValues(handle, [nvml.NVML_FI_DEV_MEMORY_TEMP])
    return {} if told.nvmlReturn else {"memory_temperature": told.value.uiVal}


def _sm_clock(nvml: Any, handle: Any) -> dict[str, float]:  # noqa: ANN401
    return {"sm_clock": _mega(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM))}


def _memory_clock(nvml: Any, handle: Any) -> dict[str, float]:  # noqa: ANN401
    return {"memory_clock": _mega(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM))}


def _encoder(nvml: Any, handle: Any) -> dict[str, float]:  # noqa: ANN401
    return {"encoder": nvml.nvmlDeviceGetEncoderUtilization(handle)[0] / 100}


def _decoder(nvml: Any, handle: Any) -> dict[str, float]:  # noqa: ANN401
    return {"decoder": nvml.nvmlDeviceGetDecoderUtilization(handle)[0] / 100}


def _replays(nvml: Any, handle: Any) -> dict[str, float]:  # noqa: ANN401
    return {"pcie_replays": nvml.nvmlDeviceGetPcieReplayCounter(handle)}


def _rows(nvml: Any, handle: Any) -> dict[str, float]:  # noqa: ANN401
    corrected, remapped, _, failed = nvml.nvmlDeviceGetRemappedRows(handle)
    return {"rows_corrected": corrected, "rows_remapped": remapped, "rows_failed": failed}


def _throttled(nvml: Any, handle: Any) -> dict[str, float]:  # noqa: ANN401
    reasons = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
    held = (
        nvml.nvmlClocksThrottleReasonSwPowerCap
        | nvml.nvmlClocksThrottleReasonHwSlowdown
        | nvml.nvmlClocksThrottleReasonSwThermalSlowdown
        | nvml.nvmlClocksThrottleReasonHwThermalSlowdown
        | nvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown
    )
    return {"throttled": float(bool(reasons & held))}


_READS: Final[tuple[Read, ...]] = (
    _utilization,
    _memory,
    _power,
    _power_limit,
    _energy,
    _temperature,
    _memory_temperature,
    _sm_clock,
    _memory_clock,
    _encoder,
    _decoder,
    _replays,
    _rows,
    _throttled,
)


def _milli(value: int) -> float:
    """To the base unit; a word for "none" stays one."""
    return float(value) if value >= _BLANK_64 or value in (_NONE, _BLANK_32) else value / 1000


def _mega(value: int) -> float:
    return float(_BLANK_64) if value >= _BLANK_32 else value * 1e6


class _Xids:
    """Errors that the driver reports, as events."""

    def __init__(self, nvml: Any, handles: list[Any]) -> None:  # noqa: ANN401
        self._nvml = nvml
        self._counts: dict[int, int] = dict.fromkeys(range(len(handles)), 0)
        self._last: dict[int, int] = dict.fromkeys(range(len(handles)), 0)
        self._indices: dict[str, int] = {}
        self._set: Any = None
        try:
            self._set = nvml.nvmlEventSetCreate()
            for index, handle in enumerate(handles):
                nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypeXidCriticalError, self._set)
                self._indices[nvml.nvmlDeviceGetUUID(handle)] = index
        except (nvml.NVMLError, AttributeError):
            self._set = None

    def take(self) -> None:
        """Count those that have come."""
        nvml = self._nvml
        while self._set is not None:
            try:
                event = nvml.nvmlEventSetWait_v2(self._set, 0)
            except nvml.NVMLError_Timeout:
                return
            except (nvml.NVMLError, AttributeError):
                self._set = None
                return
            index = self._indices.get(nvml.nvmlDeviceGetUUID(event.device))
            if index is not None:
                self._counts[index] += 1
                self._last[index] = int(event.eventData)

    def values(self, index: int) -> dict[str, float]:
        """Of one GPU; nothing where the driver does not report."""
        return {} if self._set is None else {"xid_errors": self._counts[index], "xid": self._last[index]}


class _Gpm:
    """Activity of the parts of a GPU between two samples (Hopper and later)."""

    def __init__(self, nvml: Any) -> None:  # noqa: ANN401
        self._nvml = nvml
        self._before: dict[Any, Any] = {}
        self._unsupported: set[Any] = set()

    def values(self, handle: Any, key: Any, sample: Callable[[Any], Any]) -> dict[str, float]:  # noqa: ANN401
        """Since the last call with this key; nothing at the first."""
        if key in self._unsupported:
            return {}
        nvml = self._nvml
        try:
            if not nvml.nvmlGpmQueryDeviceSupport(handle).isSupportedDevice:
                self._unsupported.add(key)
                return {}
            now = nvml.nvmlGpmSampleAlloc()
            sample(now)
            before, self._before[key] = self._before.get(key), now
            if before is None:
                return {}
            told = self._told(before, now)
            nvml.nvmlGpmSampleFree(before)
        except (nvml.NVMLError, AttributeError):
            self._unsupported.add(key)
            return {}
        return told

    def _told(self, before: Any, now: Any) -> dict[str, float]:  # noqa: ANN401
        nvml = self._nvml
        wanted = {
            "graphics": (nvml.NVML_GPM_METRIC_GRAPHICS_UTIL, 0.01),
            "sm": (nvml.NVML_GPM_METRIC_SM_UTIL, 0.01),
            "occupancy": (nvml.NVML_GPM_METRIC_SM_OCCUPANCY, 0.01),
            "tensor": (nvml.NVML_GPM_METRIC_ANY_TENSOR_UTIL, 0.01),
            "dram": (nvml.NVML_GPM_METRIC_DRAM_BW_UTIL, 0.01),
            "pcie_tx": (nvml.NVML_GPM_METRIC_PCIE_TX_PER_SEC, _MIB),
            "pcie_rx": (nvml.NVML_GPM_METRIC_PCIE_RX_PER_SEC, _MIB),
        }
        asked = nvml.c_nvmlGpmMetricsGet_t()
        asked.version, asked.numMetrics = nvml.NVML_GPM_METRICS_GET_VERSION, len(wanted)
        asked.sample1, asked.sample2 = before, now
        for place, (metric, _) in enumerate(wanted.values()):
            asked.metrics[place].metricId = metric
        nvml.nvmlGpmMetricsGet(asked)
        told = {}
        for place, (name, (_, scale)) in enumerate(wanted.items()):
            value = asked.metrics[place].value * scale
            if not asked.metrics[place].nvmlReturn and is_known(name, value):
                told[name] = value
        return told

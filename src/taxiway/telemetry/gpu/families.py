"""The names of what is read of GPUs: ours, Triton's letter for letter, and DCGM exporter's default set.

How busy a GPU is, is told by the activity of its processors (`sm`) and of its tensor cores: `GPU_UTIL` is 1 as long as
any kernel runs at all, however little of the device that uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from taxiway.telemetry.family import Family, Merge, MetricKind

OWN_LABELS: Final = ("gpu", "gpu_uuid", "instance_id")
DCGM_LABELS: Final = ("gpu", "UUID", "pci_bus_id", "device", "modelName", "Hostname", "DCGM_FI_DRIVER_VERSION")
MIG_LABELS: Final = (*DCGM_LABELS, "GPU_I_PROFILE", "GPU_I_ID")
MIB: Final = float(1 << 20)


@dataclass(frozen=True, slots=True)
class Told:
    """One quantity in one dialect.

    Attributes:
        quantity: as a reading calls it.
        scale: from the reading's base unit to the dialect's.
    """

    quantity: str
    family: Family
    scale: float = 1.0


def _own(quantity: str, name: str, text: str, unit: str = "", kind: MetricKind = MetricKind.GAUGE) -> Told:
    return Told(quantity, Family(f"taxiway_gpu_{name}", kind, text, OWN_LABELS, unit, Merge.MAX))


def _nv(quantity: str, name: str, text: str, unit: str = "", kind: MetricKind = MetricKind.GAUGE) -> Told:
    return Told(quantity, Family(name, kind, text, ("gpu_uuid",), unit, Merge.MAX))


def _dcgm(
    quantity: str, name: str, text: str, scale: float = 1.0, unit: str = "", kind: MetricKind = MetricKind.GAUGE
) -> Told:
    return Told(quantity, Family(f"DCGM_FI_{name}", kind, text, DCGM_LABELS, unit, Merge.MAX), scale)


_COUNTER: Final = MetricKind.COUNTER

OWN: Final = (
    _own("sm", "sm_activity_ratio", "Share of the time that a multiprocessor had work, over all of them, 0 to 1"),
    _own("tensor", "tensor_activity_ratio", "Share of the time that tensor cores were at work, 0 to 1"),
    _own("occupancy", "sm_occupancy_ratio", "Warps that were resident, of those that could be, 0 to 1"),
    _own("dram", "memory_bandwidth_ratio", "Share of the memory's bandwidth that was used, 0 to 1"),
    _own("graphics", "engine_activity_ratio", "Share of the time that the compute engine was busy, 0 to 1"),
    _own("utilization", "kernel_time_ratio", "Share of the time that any kernel ran, however small, 0 to 1"),
    _own("memory_used", "memory_used_bytes", "Memory in use", "bytes"),
    _own("memory_total", "memory_total_bytes", "Memory altogether", "bytes"),
    _own("memory_reserved", "memory_reserved_bytes", "Memory that the driver keeps for itself", "bytes"),
    _own("power", "power_watts", "Power drawn", "watts"),
    _own("power_limit", "power_limit_watts", "Power that may be drawn", "watts"),
    _own("energy", "energy_joules_total", "Energy used since the driver was loaded", "joules", _COUNTER),
    _own("temperature", "temperature_celsius", "Temperature of the chip", "celsius"),
    _own("memory_temperature", "memory_temperature_celsius", "Temperature of the memory", "celsius"),
    _own("sm_clock", "sm_clock_hertz", "Clock of the multiprocessors", "hertz"),
    _own("memory_clock", "memory_clock_hertz", "Clock of the memory", "hertz"),
    _own("throttled", "throttled", "1 while clocks are held down by heat or power"),
    _own("pcie_tx", "pcie_transmitted_bytes_per_second", "Bytes a second to the host", "bytes"),
    _own("pcie_rx", "pcie_received_bytes_per_second", "Bytes a second from the host", "bytes"),
    _own("xid_errors", "xid_errors_total", "Errors that the driver reported (XID)", "", _COUNTER),
    _own("xid", "last_xid", "Number of the last of them; 0 before any"),
)

TRITON: Final = (
    _nv("utilization", "nv_gpu_utilization", "GPU utilization rate [0.0 - 1.0)"),
    _nv("memory_total", "nv_gpu_memory_total_bytes", "GPU total memory, in bytes", "bytes"),
    _nv("memory_used", "nv_gpu_memory_used_bytes", "GPU used memory, in bytes", "bytes"),
    _nv("power", "nv_gpu_power_usage", "GPU power usage in watts", "watts"),
    _nv("power_limit", "nv_gpu_power_limit", "GPU power management limit in watts", "watts"),
    _nv("energy", "nv_energy_consumption", "GPU energy consumption in joules", "joules", _COUNTER),
)

DCGM: Final = (
    _dcgm("sm_clock", "DEV_SM_CLOCK", "SM clock frequency (in MHz).", 1e-6),
    _dcgm("memory_clock", "DEV_MEM_CLOCK", "Memory clock frequency (in MHz).", 1e-6),
    _dcgm("memory_temperature", "DEV_MEMORY_TEMP", "Memory temperature (in C)."),
    _dcgm("temperature", "DEV_GPU_TEMP", "GPU temperature (in C)."),
    _dcgm("power", "DEV_POWER_USAGE", "Power draw (in W)."),
    _dcgm("energy", "DEV_TOTAL_ENERGY_CONSUMPTION", "Total energy consumption since boot (in mJ).", 1e3, "", _COUNTER),
    _dcgm("pcie_replays", "DEV_PCIE_REPLAY_COUNTER", "Total number of PCIe retries.", 1.0, "", _COUNTER),
    _dcgm("utilization", "DEV_GPU_UTIL", "GPU utilization (in %).", 100),
    _dcgm("memory_utilization", "DEV_MEM_COPY_UTIL", "Memory utilization (in %).", 100),
    _dcgm("encoder", "DEV_ENC_UTIL", "Encoder utilization (in %).", 100),
    _dcgm("decoder", "DEV_DEC_UTIL", "Decoder utilization (in %).", 100),
    _dcgm("xid", "DEV_XID_ERRORS", "Value of the last XID error encountered."),
    _dcgm("memory_free", "DEV_FB_FREE", "Frame buffer memory free (in MiB).", 1 / MIB),
    _dcgm("memory_used", "DEV_FB_USED", "Frame buffer memory used (in MiB).", 1 / MIB),
    _dcgm("memory_reserved", "DEV_FB_RESERVED", "Frame buffer memory reserved (in MiB).", 1 / MIB),
    _dcgm("rows_remapped", "DEV_UNCORRECTABLE_REMAPPED_ROWS", "Rows remapped, uncorrectable errors", 1, "", _COUNTER),
    _dcgm("rows_corrected", "DEV_CORRECTABLE_REMAPPED_ROWS", "Rows remapped, correctable errors", 1, "", _COUNTER),
    _dcgm("rows_failed", "DEV_ROW_REMAP_FAILURE", "Whether remapping of rows has failed"),
    _dcgm("graphics", "PROF_GR_ENGINE_ACTIVE", "Ratio of time the graphics engine is active."),
    _dcgm("sm", "PROF_SM_ACTIVE", "Ratio of cycles an SM has at least one warp assigned."),
    _dcgm("occupancy", "PROF_SM_OCCUPANCY", "Ratio of warps resident on an SM."),
    _dcgm("tensor", "PROF_PIPE_TENSOR_ACTIVE", "Ratio of cycles the tensor (HMMA) pipe is active."),
    _dcgm("dram", "PROF_DRAM_ACTIVE", "Ratio of cycles the device memory interface is active."),
    _dcgm("pcie_tx", "PROF_PCIE_TX_BYTES", "Rate of data transmitted over the PCIe bus, in bytes per second."),
    _dcgm("pcie_rx", "PROF_PCIE_RX_BYTES", "Rate of data received over the PCIe bus, in bytes per second."),
)

UP: Final = Family(
    "taxiway_gpu_up", MetricKind.GAUGE, "1 while GPUs can be read, 0 once the driver or a device is lost"
)
LATE: Final = Family("taxiway_gpu_late_reads_total", _COUNTER, "Times that the driver did not answer in time")
PROCESS_MEMORY: Final = Family(
    "taxiway_gpu_process_memory_bytes",
    MetricKind.GAUGE,
    "Memory of a GPU that a process of this machine holds, as far as the driver tells",
    ("gpu", "gpu_uuid", "pid"),
    "bytes",
    Merge.MAX,
)

GPU_FAMILIES: Final = (
    UP,
    LATE,
    PROCESS_MEMORY,
    *(told.family for told in (*OWN, *TRITON, *DCGM)),
)
"""In the order they are printed."""

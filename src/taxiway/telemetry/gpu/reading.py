"""What was read of the GPUs of a machine at one moment. What a device does not tell is not there, and never 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class MigReading:
    """One instance of a GPU that is divided (MIG).

    Attributes:
        id: of the GPU instance.
        profile: as `1g.10gb`.
        values: as those of a GPU.
    """

    id: int
    profile: str
    uuid: str
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One GPU.

    Attributes:
        values: by quantity, in base units: ratios, bytes, watts, joules, hertz, degrees Celsius; see `families`.
        processes: bytes by process id.
    """

    index: int
    uuid: str
    name: str
    bus_id: str
    driver: str
    values: Mapping[str, float]
    instances: tuple[MigReading, ...] = ()
    processes: Mapping[int, int] = field(default_factory=dict)

"""Readings as the series of three dialects."""

from __future__ import annotations

import math
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from taxiway.telemetry.gpu.families import DCGM, MIG_LABELS, OWN, PROCESS_MEMORY, TRITON, Told
from taxiway.telemetry.gpu.reading import GpuReading, MigReading
from taxiway.telemetry.render import Point

_BY_MIG = [Told(told.quantity, replace(told.family, labels=MIG_LABELS), told.scale) for told in DCGM]


def points_of(readings: Sequence[GpuReading], *, dcgm: bool) -> Iterator[Point]:
    """Every series; those of DCGM exporter only where there is none beside us."""
    host = socket.gethostname()
    for gpu in readings:
        own = (str(gpu.index), gpu.uuid)
        yield from _told(OWN, (*own, ""), gpu.values)
        yield from _told(TRITON, (gpu.uuid,), gpu.values)
        for pid, nbytes in gpu.processes.items():
            yield Point(PROCESS_MEMORY, (*own, str(pid)), nbytes)
        if dcgm:
            yield from _told(DCGM, _labels(gpu, host), gpu.values)
        for instance in gpu.instances:
            yield from _instance(gpu, instance, host, dcgm=dcgm)


def _instance(gpu: GpuReading, instance: MigReading, host: str, *, dcgm: bool) -> Iterator[Point]:
    yield from _told(OWN, (str(gpu.index), gpu.uuid, str(instance.id)), instance.values)
    if dcgm:
        yield from _told(_BY_MIG, (*_labels(gpu, host), instance.profile, str(instance.id)), instance.values)


def _labels(gpu: GpuReading, host: str) -> tuple[str, ...]:
    return (str(gpu.index), gpu.uuid, gpu.bus_id, f"nvidia{gpu.index}", gpu.name, host, gpu.driver)


def _told(dialect: Sequence[Told], labels: tuple[str, ...], values: Mapping[str, float]) -> Iterator[Point]:
    for told in dialect:
        value = values.get(told.quantity)
        if value is not None and math.isfinite(value):
            yield Point(told.family, labels, value * told.scale)

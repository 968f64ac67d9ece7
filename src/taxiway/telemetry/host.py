"""What runs here, and what the machine's processors and memory do: read when somebody asks, by no thread."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

from taxiway.telemetry.catalogue import (
    BUILD_INFO,
    NV_CPU_MEMORY_TOTAL,
    NV_CPU_MEMORY_USED,
    NV_CPU_UTILIZATION,
)
from taxiway.telemetry.render import Point


def build_point(version: str) -> Point:
    """The build info: this version of ours on this Python."""
    return Point(BUILD_INFO, (version, platform.python_version()), 1)


class HostSampler:
    """The host's utilization between one scrape and the next, and its memory now.

    Args:
        proc: where procfs is mounted. Where there is none (or it cannot be read), there are no points.
    """

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._before = (0, 0)
        self._utilization = 0.0

    def points(self) -> Iterator[Point]:
        """The three `nv_cpu_*` gauges, as far as they can be read."""
        times = self._read_times()
        if times is not None:
            yield Point(NV_CPU_UTILIZATION, (), self._advance(*times))
        memory = self._read_memory()
        if memory is not None:
            total, available = memory
            yield Point(NV_CPU_MEMORY_TOTAL, (), total)
            yield Point(NV_CPU_MEMORY_USED, (), total - available)

    def _advance(self, busy: int, total: int) -> float:
        """Busy share since the last call (at first: since boot); two calls within one tick tell the same."""
        busy_before, total_before = self._before
        if total > total_before:
            self._utilization = min(max((busy - busy_before) / (total - total_before), 0.0), 1.0)
            self._before = (busy, total)
        return self._utilization

    def _read_times(self) -> tuple[int, int] | None:
        """Busy and total ticks of all processors. Guest time is left out: user time has it already."""
        try:
            words = (self._proc / "stat").read_text("ascii").split("\n", 1)[0].split()
            if words[0] != "cpu":
                return None
            ticks = [int(word) for word in words[1:9]]
            idle = ticks[3] + (ticks[4] if len(ticks) > 4 else 0)
        except (OSError, ValueError, IndexError):
            return None
        return sum(ticks) - idle, sum(ticks)

    def _read_memory(self) -> tuple[int, int] | None:
        """Total and available bytes."""
        found = {}
        try:
            for line in (self._proc / "meminfo").read_text("ascii").splitlines():
                name, _, rest = line.partition(":")
                if name in ("MemTotal", "MemAvailable"):
                    found[name] = int(rest.split()[0]) * 1024
            return found["MemTotal"], found["MemAvailable"]
        except (OSError, ValueError, IndexError, KeyError):
            return None

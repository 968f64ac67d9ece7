"""Processes under measurement: where they run, what they burn, how much they hold.

CPU is read from `/proc` for the whole tree below a server, so that nobody looks cheap by doing the work in a
child. Linux only, as the figures are.
"""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
RESET_PEAK: Final = "5"
"""What `/proc/PID/clear_refs` takes to start the peak of resident memory anew (proc(5))."""


@contextlib.contextmanager
def pinned(cores: set[int]) -> Iterator[None]:
    """Let every process started in the block inherit these cores, as `taskset` would, whoever starts it."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _stat(pid: int) -> list[str] | None:
    """Return the fields after the process's name, which may itself hold spaces; None where it just ended."""
    try:
        text = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def tree(root: int) -> dict[int, list[str]]:
    """Return the stat fields of a process and of everything below it."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    stats: dict[int, list[str]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))) is not None:
            stats[int(entry.name)] = fields
            children[int(fields[1])].append(int(entry.name))
    found: dict[int, list[str]] = {}
    pending = [root]
    while pending:
        pid = pending.pop()
        if pid in stats:
            found[pid] = stats[pid]
            pending += children[pid]
    return found


def cpu_s(root: int) -> float:
    """Return CPU seconds of the tree, of ended and collected children too, in user and kernel together."""
    return sum(sum(map(int, fields[11:15])) for fields in tree(root).values()) / TICKS_PER_S


def busy_s(cores: Collection[int]) -> float:
    """Return seconds these cores were not idle since boot, whoever worked there, this machine or another."""
    names = {f"cpu{core}" for core in cores}
    lines = (line.split() for line in (PROC / "stat").read_text(encoding="utf-8").splitlines())
    # user nice system (idle iowait) irq softirq steal; guest time is in user already.
    return sum(sum(map(int, [*line[1:4], *line[6:9]])) for line in lines if line[0] in names) / TICKS_PER_S


def _memory_bytes(pid: int, key: str) -> int:
    try:
        text = (PROC / str(pid) / "status").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    found = next((line for line in text.splitlines() if line.startswith(f"{key}:")), None)
    return int(found.split()[1]) * 1024 if found else 0


def resident_bytes(root: int) -> int:
    """Return resident memory of the tree."""
    return sum(_memory_bytes(pid, "VmRSS") for pid in tree(root))


def peak_bytes(root: int) -> int:
    """Return the sum of each process's highest resident memory since `reset_peak`."""
    return sum(_memory_bytes(pid, "VmHWM") for pid in tree(root))


def reset_peak(root: int) -> None:
    """Start the peak of every process of the tree anew."""
    for pid in tree(root):
        (PROC / str(pid) / "clear_refs").write_text(RESET_PEAK, encoding="ascii")


def cpu_model() -> str:
    """Return the processor's name, as the kernel tells it."""
    lines = (PROC / "cpuinfo").read_text(encoding="utf-8").splitlines()
    found = next((line for line in lines if line.startswith("model name")), "unknown")
    return found.rpartition(":")[2].strip()

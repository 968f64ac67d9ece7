"""What the server's processes burn and hold while they are measured, where they run on this machine."""

from __future__ import annotations

import contextlib
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_LISTEN: Final = "0A"


@dataclass(frozen=True, slots=True)
class Usage:
    """Of all processes of the server together, while the load lasted.

    Attributes:
        cpus: processors it kept busy, in the mean; 1.5 is one and a half.
        peak_bytes: the most resident memory that was seen.
        processes: how many there were at most.
        gpus: one for each GPU of the machine, whoever used it.
        generator_cpus: processors that the generator kept busy.
    """

    cpus: float
    peak_bytes: int
    processes: int
    gpus: tuple[Gpu, ...] = ()
    generator_cpus: float = 0.0


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU: mean utilization from 0 to 1, the most memory and power that were seen."""

    name: str
    utilization: float
    peak_bytes: int
    peak_w: float


class ProcessSampler:
    """Of a process and everything below it; `sample` now and then, `usage` at the end.

    Args:
        root: the process.
        proc: where procfs is mounted.
    """

    def __init__(self, root: int, proc: Path = PROC) -> None:
        self._root = root
        self._proc = proc
        self._began = time.monotonic()
        self._before = _cpu_s(self._tree())
        self._latest = self._before
        self._at = self._began
        self._peak = 0
        self._most = 0

    def sample(self) -> None:
        """Look now."""
        tree = self._tree()
        if tree:
            self._latest, self._at = max(_cpu_s(tree), self._latest), time.monotonic()
            self._peak = max(self._peak, sum(_resident(self._proc, pid) for pid in tree))
            self._most = max(self._most, len(tree))

    def usage(self) -> Usage | None:
        """None where the process cannot be seen."""
        if not self._most or self._at <= self._began:
            return None
        return Usage((self._latest - self._before) / (self._at - self._began), self._peak, self._most)

    def _tree(self) -> dict[int, list[str]]:
        children: defaultdict[int, list[int]] = defaultdict(list)
        stats: dict[int, list[str]] = {}
        for pid, fields in _processes(self._proc):
            stats[pid] = fields
            children[int(fields[1])].append(pid)
        found: dict[int, list[str]] = {}
        pending = [self._root]
        while pending:
            pid = pending.pop()
            if pid in stats:
                found[pid] = stats[pid]
                pending += children[pid]
        return found


def _processes(proc: Path) -> Iterator[tuple[int, list[str]]]:
    """Each process, and the fields of its stat after its name, which may hold spaces itself."""
    for entry in proc.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                text = (entry / "stat").read_text(encoding="utf-8", errors="replace")
                yield int(entry.name), text.rpartition(")")[2].split()


def _cpu_s(tree: dict[int, list[str]]) -> float:
    """User and system time, that of children which ended and were waited for too."""
    return sum(sum(map(int, fields[11:15])) for fields in tree.values()) / _TICKS_PER_S


def _resident(proc: Path, pid: int) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int((proc / str(pid) / "statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def listener_of(host: str, port: int, proc: Path = PROC) -> int | None:
    """The process that listens on this port of this machine; None where that cannot be seen, or it is another's.

    Of several (workers that share the port) it is their parent if they have one in common, else the first.
    """
    if host not in ("127.0.0.1", "localhost", "::1", "0.0.0.0"):  # noqa: S104 - compared with, not bound to
        return None
    sockets = {f"socket:[{inode}]" for inode in _listening(proc, port)}
    owners = {pid: int(fields[1]) for pid, fields in _processes(proc) if sockets and _holds(proc, pid, sockets)}
    tops = [pid for pid, parent in owners.items() if parent not in owners]
    parents = {owners[pid] for pid in tops}
    if len(tops) > 1 and len(parents) == 1 and (parent := parents.pop()) > 1:
        return parent
    return min(tops, default=None)


def _listening(proc: Path, port: int) -> Iterator[str]:
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in (proc / "net" / name).read_text(encoding="ascii").splitlines()[1:]:
                words = line.split()
                if words[3] == _LISTEN and int(words[1].rpartition(":")[2], 16) == port:
                    yield words[9]


def _holds(proc: Path, pid: int, sockets: set[str]) -> bool:
    with contextlib.suppress(OSError):
        for entry in (proc / str(pid) / "fd").iterdir():
            with contextlib.suppress(OSError):
                if str(entry.readlink()) in sockets:
                    return True
    return False

"""How much of this machine is ours: what the cgroup grants, not what the host has.

A container on a 96-core host that was given two cores must not start 96 threads: they would be
throttled together, and the slowest decides each batch. Reads files only; imports nothing heavy, since the cli
asks too.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

CGROUP_ROOT = Path("/sys/fs/cgroup")
CGROUP_MEMBERSHIP = Path("/proc/self/cgroup")

_V1_NO_MEMORY_LIMIT = 1 << 60
"""cgroup v1 says "no limit" as the largest page-aligned 63-bit number; nothing real comes near 2**60."""


def available_cpus(root: Path = CGROUP_ROOT, membership: Path = CGROUP_MEMBERSHIP) -> int:
    """Processors this process may use: the fewer of its affinity and its quota rounded up; at least 1.

    Args:
        root: where the cgroup files are mounted (v2 unified, or v1 with one directory per controller).
        membership: the file that says which group we are in, as /proc/self/cgroup does.
    """
    affinity = len(os.sched_getaffinity(0))
    quota = cpu_quota(root, membership)
    return affinity if quota is None else max(1, min(affinity, math.ceil(quota)))


def memory_limit_bytes(root: Path = CGROUP_ROOT, membership: Path = CGROUP_MEMBERSHIP) -> int:
    """Bytes of memory this process may use: the less of the machine's and the cgroup's limit."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = memory_quota_bytes(root, membership)
    return physical if limit is None else min(physical, limit)


def cpu_quota(root: Path, membership: Path) -> float | None:
    """Processors' worth of time that the tightest enclosing group grants, or None if none limits it."""
    quotas = [_v2_cpu_quota(directory) for directory in _group_directories(root, membership, "")]
    quotas += [_v1_cpu_quota(directory) for directory in _group_directories(root, membership, "cpu")]
    return min((quota for quota in quotas if quota is not None), default=None)


def memory_quota_bytes(root: Path, membership: Path) -> int | None:
    """Bytes that the tightest enclosing group grants, or None if none limits it."""
    limits = [_read_int(d / "memory.max") for d in _group_directories(root, membership, "")]
    limits += [_read_int(d / "memory.limit_in_bytes") for d in _group_directories(root, membership, "memory")]
    return min((x for x in limits if x is not None and 0 < x < _V1_NO_MEMORY_LIMIT), default=None)


def _v2_cpu_quota(directory: Path) -> float | None:
    words = _read(directory / "cpu.max").split()
    if len(words) != 2 or not all(word.isdecimal() for word in words):
        return None  # "max 100000", or no such file
    quota_us, period_us = map(int, words)
    return quota_us / period_us if quota_us and period_us else None


def _v1_cpu_quota(directory: Path) -> float | None:
    quota_us = _read_int(directory / "cpu.cfs_quota_us")
    period_us = _read_int(directory / "cpu.cfs_period_us")
    return quota_us / period_us if quota_us and quota_us > 0 and period_us else None


def _group_directories(root: Path, membership: Path, controller: str) -> Iterator[Path]:
    """Our group's directory and all above it: a limit anywhere on the way up binds us.

    Inside a container the mount is often already our own group while `membership` still tells the host's
    path; then the path does not exist below `root` and only `root` itself is read.
    """
    for names, path in _memberships(_read(membership)):
        if controller not in names:
            continue
        mount = root / ",".join(names) if controller else root
        if controller and not mount.is_dir():
            mount = root / controller
        inside = PurePosixPath(path.lstrip("/"))
        if ".." not in inside.parts:  # a path outside our cgroup namespace
            yield from (mount / part for part in (inside, *inside.parents))
        else:
            yield mount


def _memberships(text: str) -> Iterator[tuple[list[str], str]]:
    """Lines `ID:CONTROLLER,CONTROLLER:PATH`; v2's one line has no controllers, which splits to ['']."""
    for line in text.splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            yield parts[1].split(","), parts[2]


def _read_int(path: Path) -> int | None:
    try:
        return int(_read(path))
    except ValueError:
        return None  # "max", or no such file


def _read(path: Path) -> str:
    """The file's text; empty if it cannot be read, which means that it limits nothing."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""

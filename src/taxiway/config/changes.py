"""Whether files are still what they were when they were last read: a few numbers of each, asked once a second."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

Signature = tuple[tuple[int, int, int, int, int] | None, ...]
"""Device, inode, size, times of change of content and of inode, by file; None for one that is not there.

Links are followed: a Kubernetes secret changes when a link to its directory is swapped.
"""


def sign(paths: Sequence[Path]) -> Signature:
    """The signature of these files now. Never raises for what is on the disk."""
    return tuple(_sign(path) for path in paths)


def _sign(path: Path) -> tuple[int, int, int, int, int] | None:
    try:
        told = os.stat(path)  # noqa: PTH116 - the same as path.stat(), and cheaper
    except (OSError, ValueError):
        return None
    return told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns, told.st_ctime_ns

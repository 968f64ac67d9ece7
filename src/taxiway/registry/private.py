"""Directories that nobody else on the machine writes to: what is verified there stays what it was."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from taxiway.core.errors import FailedPrecondition


def make_private(path: Path) -> None:
    """Make a directory, with those above it that are missing, for this user alone. One that is there stays as it is."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)


def require_private(path: Path, what: str) -> None:
    """Refuse a directory in which others could exchange a file between the look at it and its use.

    Raises:
        FailedPrecondition: it belongs to another user, or others may write to it.
    """
    told = path.stat()
    if told.st_uid not in (0, os.geteuid()):
        rule = f"belongs to user {told.st_uid}"
    elif told.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        rule = f"can be written by others (mode {stat.filemode(told.st_mode)})"
    else:
        return
    raise FailedPrecondition(
        f"{path}, {what}, {rule}: they could exchange a model after it was verified",
        hint=f"chmod go-w {path}, or name a directory that is not there yet, such as {path / 'taxiway'}",
        path=str(path),
    )

"""What is asked of a disk: directories that nobody else writes to, so that what is verified stays so; and room."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from taxiway.core.errors import FailedPrecondition, RegistryUnavailable

_REFUSALS = frozenset(
    {errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC, errno.EPERM, errno.EROFS, errno.ESTALE}
)
"""How a disk says that it is full, read-only or broken; whatever else goes wrong is told by who was writing."""


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


@contextlib.contextmanager
def writing_to(path: Path | str) -> Iterator[None]:
    """A disk that does not take what is written is unavailable, in a sentence.

    Raises:
        RegistryUnavailable: it is full, read-only, broken or not ours.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        raise RegistryUnavailable(
            f"{path} cannot be written to: {error.strerror}", hint="make room there, or check who may write to it"
        ) from error

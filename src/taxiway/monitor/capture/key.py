"""The secret that hashes are made with: a file of 32 bytes that its owner alone reads, made when it is first needed."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

from taxiway.core.errors import FailedPrecondition

_BYTES: Final = 32


def key_of(path: Path) -> bytes:
    """The key in this file, which is made if there is none.

    Raises:
        FailedPrecondition: it can neither be read nor made, or is none of ours.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _make(path)
        key = path.read_bytes()
    except OSError as problem:
        raise FailedPrecondition(f"the key of hashes cannot be read: {problem}", hint="may it be written?") from None
    if len(key) != _BYTES:
        hint = "restore it, or remove it: hashes differ from then on"
        raise FailedPrecondition(f"{path} holds no key of {_BYTES} bytes", hint=hint)
    return key


def _make(path: Path) -> None:
    """Whole or not at all: of two that make it, one wins, and both read the winner's."""
    if path.exists():
        return
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    number = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(secrets.token_bytes(_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            path.hardlink_to(draft)
    finally:
        draft.unlink(missing_ok=True)

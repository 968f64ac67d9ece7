"""Whether somebody vouched for a file: a pickle runs whatever code is in it."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path


def digest_of(path: Path) -> str:
    """The file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_trusted(path: Path, trusted: Collection[str]) -> bool:
    """Whether the file's digest is among those that were vouched for."""
    return bool(trusted) and digest_of(path) in trusted


def how_to_trust(path: Path) -> str:
    """What to do for a file whose digest is not among them."""
    return f"if you trust whoever made it: --models.trust '[\"sha256:{digest_of(path)}\"]'"

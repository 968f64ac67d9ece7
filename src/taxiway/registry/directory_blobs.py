"""Blobs in a directory: written aside, flushed, renamed into place."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from taxiway.registry.blobs import CHUNK_BYTES, Opener, blob_path
from taxiway.registry.disk import make_private, writing_to
from taxiway.registry.nouns import StoredFile

_ABANDONED_S: Final = 3600.0
"""A writer that lives writes its next megabyte sooner."""


class DirectoryBlobs:
    """A directory on a POSIX file system. Any number of processes may use it at once."""

    def __init__(self, root: Path) -> None:
        self.url = str(root)
        self._root = root
        self._aside = root / "incoming"
        make_private(root)
        self._aside.mkdir(exist_ok=True)

    @contextlib.contextmanager
    def stage(self, open_: Opener) -> Iterator[_StagedFile]:
        """Copy the bytes aside while hashing them."""
        aside = self._aside / secrets.token_hex(16)
        try:
            digest, size = hashlib.sha256(), 0
            with open_() as source, writing_to(self.url), aside.open("xb", buffering=0) as target:
                while chunk := source.read(CHUNK_BYTES):
                    digest.update(chunk)
                    size += len(chunk)
                    _write_all(target.fileno(), chunk)
                os.fchmod(target.fileno(), 0o444)
            file = StoredFile(digest.hexdigest(), size)
            yield _StagedFile(file, aside, self._root / blob_path(file.sha256))
        finally:
            aside.unlink(missing_ok=True)

    def size_of(self, sha256: str) -> int | None:
        """The file's size."""
        try:
            return (self._root / blob_path(sha256)).stat().st_size
        except FileNotFoundError:
            return None

    def chunks(self, sha256: str) -> Iterator[bytes]:
        """The file's bytes."""
        with (self._root / blob_path(sha256)).open("rb", buffering=0) as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    def delete(self, sha256: str) -> None:
        """Unlink it; who reads it now reads on."""
        (self._root / blob_path(sha256)).unlink(missing_ok=True)

    def stored(self) -> Iterator[StoredFile]:
        """Every blob, in order of its digest."""
        for path in sorted((self._root / "sha256").glob("??/*")):
            with contextlib.suppress(FileNotFoundError):  # collected meanwhile
                yield StoredFile(path.name, path.stat().st_size)

    def sweep(self) -> int:
        """Files that were set aside and never published. The file system's clock says when they were last written."""
        swept = 0
        for path in self._aside.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _ABANDONED_S:
                    path.unlink()
                    swept += 1
        return swept


@dataclass(frozen=True, slots=True)
class _StagedFile:
    file: StoredFile
    aside: Path
    place: Path

    def publish(self) -> None:
        """Rename: all of it is there or nothing. The folder is flushed too, or a power cut could undo the rename."""
        with writing_to(self.place.parent):
            self._publish(self.place.parent)

    def _publish(self, folder: Path) -> None:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            flush(folder.parent.parent)
            flush(folder.parent)
        flush(self.aside)
        self.aside.rename(self.place)
        flush(folder)


def flush(path: Path) -> None:
    """Make a file's bytes, or the names in a folder, survive a power cut."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _write_all(number: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(number, view) :]

"""A backup as named parts, in one tar or a directory: written whole or not at all, read without trusting its names."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import shutil
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol, cast

from taxiway.core.errors import AlreadyExists, InvalidArgument, NotFound
from taxiway.registry.directory_blobs import flush
from taxiway.registry.disk import writing_to

if TYPE_CHECKING:
    from typing_extensions import Buffer  # collections.abc has it from 3.12 on


_OWNER_ONLY: Final = 0o600
"""As the databases: models and the answers that they gave are nobody else's business."""


class Archive(Protocol):
    """Where the parts of a backup go, in the order they are to be read in."""

    def add(self, name: str, size: int, chunks: Iterable[bytes]) -> None:
        """Append a part of exactly `size` bytes."""


@contextlib.contextmanager
def new_archive(path: Path) -> Iterator[Archive]:
    """A tar if the name ends so, else a directory; it is there once the block has ended well.

    Raises:
        AlreadyExists: something is there.
    """
    path = path.absolute()
    if path.exists():
        raise AlreadyExists(f"{path} is there already", hint="name a file or directory that is not there yet")
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with writing_to(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        yield from _writing(path, aside)


def _writing(path: Path, aside: Path) -> Iterator[Archive]:
    try:
        if path.suffix == ".tar":
            yield from _writing_tar(aside)
        else:
            aside.mkdir(mode=0o700)
            yield _Folder(aside)
            for folder, _, _ in os.walk(aside, topdown=False):
                flush(Path(folder))
        aside.rename(path)
        flush(path.parent)
    finally:
        if aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
        aside.unlink(missing_ok=True)


def _writing_tar(aside: Path) -> Iterator[Archive]:
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY), "wb") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
            yield _Tar(tar)
        file.flush()
        os.fsync(file.fileno())


class _Tar:
    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar

    def add(self, name: str, size: int, chunks: Iterable[bytes]) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mode = size, 0o644
        self._tar.addfile(member, cast("BinaryIO", io.BufferedReader(_Chunks(iter(chunks)))))


class _Chunks(io.RawIOBase):
    """A file to read from, made of chunks."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._held = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer)
        while not self._held:
            following = next(self._chunks, None)
            if following is None:
                return 0
            self._held = following
        part, self._held = self._held[: len(view)], self._held[len(view) :]
        view[: len(part)] = part
        return len(part)


class _Folder:
    def __init__(self, root: Path) -> None:
        self._root = root

    def add(self, name: str, size: int, chunks: Iterable[bytes]) -> None:  # noqa: ARG002 - a folder needs no size
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())


# --- reading -------------------------------------------------------------------------------------------


def read_archive(path: Path) -> Iterator[tuple[str, BinaryIO]]:
    """Each part's name and bytes, to be read before the next is asked for. Names are only compared, never opened.

    Raises:
        NotFound: nothing is there.
        InvalidArgument: it is no archive, or holds what is no plain file.
        tarfile.TarError: it is cut off or damaged.
    """
    if not path.exists():
        raise NotFound(f"there is no backup {path}", hint="name the file or directory that was backed up to")
    return _read_folder(path) if path.is_dir() else _read_tar(path)


def _read_tar(path: Path) -> Iterator[tuple[str, BinaryIO]]:
    try:
        tar = tarfile.open(path, "r:")  # noqa: SIM115 - closed below; only what opening raises means that it is no tar
    except (tarfile.TarError, OSError) as error:
        raise InvalidArgument(
            f"{path} is not a backup: {error}", hint="name what `taxiway admin backup` wrote"
        ) from error
    with tar:
        for member in tar:
            part = tar.extractfile(member) if member.isreg() else None
            if part is None:
                raise InvalidArgument(f"{path} is not a backup: {member.name!r} in it is no file", hint="take another")
            yield member.name, cast("BinaryIO", part)


def _read_folder(root: Path) -> Iterator[tuple[str, BinaryIO]]:
    """In the order in which a tar holds them: the header, the tables, the blobs."""
    for pattern in ("*", "*/*"):
        for path in sorted(root.glob(pattern), key=lambda path: (path.parent.name == "blobs", path)):
            if path.is_file():
                with path.open("rb") as file:
                    yield path.relative_to(root).as_posix(), file

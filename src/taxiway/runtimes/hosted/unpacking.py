"""Unpacking an archive that somebody else packed: nothing leaves the folder, nothing grows without bound.

The folder is the process's own and goes with it. A process that is killed cannot take its folder with it, so whoever
unpacks next looks for folders whose owner is gone: an owner holds a lock on a file in it for as long as it lives.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from taxiway.core.errors import MalformedArtifact, OversizedArtifact, UnsafePath

_PREFIX = "taxiway-archive-"
_LOCK = ".owner"
_PIECE_BYTES = 1 << 20
_SLACK_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class UnpackLimits:
    """How much an archive may become.

    Attributes:
        members: files and folders in it.
        nbytes: all of them together, unpacked; what is free on the disk bounds them too.
        ratio: times the archive's own size, where it unpacks to more than 64 MiB: weights hardly shrink, bombs do.
    """

    members: int = 10_000
    nbytes: int = 64 << 30
    ratio: int = 100


class Folder:
    """A folder of this process's own.

    Attributes:
        path: where it is.
    """

    def __init__(self) -> None:
        _sweep(Path(tempfile.gettempdir()))
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock = _locked(self.path / _LOCK)

    def remove(self) -> None:
        """It is not needed any more."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def unpack(archive: Path, limits: UnpackLimits = UnpackLimits()) -> Folder:
    """A folder with what is in a zip archive.

    Raises:
        UnsafePath: a member's name leads out of the folder, or it is a link or a device.
        OversizedArtifact: it is more than the limits allow.
        MalformedArtifact: it is no zip archive, or is damaged, encrypted, or names a file twice.
    """
    folder = Folder()
    try:
        with zipfile.ZipFile(archive) as opened:
            places = _places(opened, archive, limits)
            room = min(limits.nbytes, shutil.disk_usage(folder.path).free)
            room = min(room, max(_SLACK_BYTES, archive.stat().st_size * limits.ratio))
            for info, place in places.items():
                room -= _write(opened, info, folder.path / place, room, archive)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as problem:
        folder.remove()
        raise MalformedArtifact(f"{archive} cannot be unpacked: {problem}", file=str(archive), rule="zip") from problem
    except BaseException:
        folder.remove()
        raise
    return folder


def _places(opened: zipfile.ZipFile, archive: Path, limits: UnpackLimits) -> dict[zipfile.ZipInfo, PurePosixPath]:
    """Where the members go, all of them looked at before the first is written."""
    members = opened.infolist()
    if len(members) > limits.members:
        raise OversizedArtifact(
            f"{archive} has {len(members)} members; at most {limits.members} are unpacked", file=str(archive)
        )
    places: dict[zipfile.ZipInfo, PurePosixPath] = {}
    taken: set[PurePosixPath] = set()
    for info in members:
        place = _place(info, archive)
        if place in taken or place.parts[:1] == (_LOCK,):
            raise MalformedArtifact(f"{archive} names {info.filename!r} twice", file=str(archive), rule="zip-twice")
        taken.add(place)
        if info.flag_bits & 1:
            raise MalformedArtifact(f"{archive}!{info.filename} is encrypted", file=str(archive), rule="zip-encrypted")
        if not info.is_dir():
            places[info] = place
    return places


def _place(info: zipfile.ZipInfo, archive: Path) -> PurePosixPath:
    name = info.filename
    place = PurePosixPath(name)
    kind = stat.S_IFMT(info.external_attr >> 16)
    strays = place.is_absolute() or ".." in place.parts or not place.parts or "\\" in name or "\0" in name
    if strays or kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        why = "leads out of its folder" if strays else "is neither a file nor a folder"
        raise UnsafePath(f"{archive}: member {name!r} {why}", file=str(archive), rule="zip-slip")
    return place


def _write(opened: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path, room: int, archive: Path) -> int:
    """Unpack one member; how many bytes it was, whatever its header says."""
    target.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with opened.open(info) as source, target.open("xb") as sink:
        while piece := source.read(_PIECE_BYTES):
            written += len(piece)
            if written > room:
                raise OversizedArtifact(
                    f"{archive} unpacks to more than it may: member {info.filename!r} does not fit any more",
                    hint="serve the unpacked directory instead, if you trust whoever packed it",
                    file=str(archive),
                )
            sink.write(piece)
    return written


def _sweep(root: Path) -> None:
    """Remove folders whose process was killed."""
    for path in _own(root):
        with contextlib.suppress(OSError):
            lock = _locked(path / _LOCK)
            if lock is not None:
                shutil.rmtree(path, ignore_errors=True)
                os.close(lock)


def _own(root: Path) -> Iterator[Path]:
    for path in root.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            told = path.lstat()
            if stat.S_ISDIR(told.st_mode) and told.st_uid == os.geteuid() and (path / _LOCK).exists():
                yield path


def _locked(path: Path) -> int | None:
    """A descriptor that holds the lock; None if another process holds it."""
    number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(number)
        return None
    return number

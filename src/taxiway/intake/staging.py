"""Copies a source to a place of our own, once, and hashes each file while it is copied.

What is scanned, understood, verified and registered is the copy: a source that changes afterwards changes nothing, so
there is no moment between the look at a file and its use.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from taxiway.core.errors import ArtifactChanged, NotFound, OversizedArtifact, UnsafePath
from taxiway.intake.limits import Limits
from taxiway.intake.nouns import Staged, StagedFile
from taxiway.registry.disk import writing_to

_CHUNK_BYTES = 4 << 20
_VERSION_CONTROL = frozenset({".git", ".gitattributes", ".gitignore", ".github"})
_LEFT_OUT = _VERSION_CONTROL | {".cache", ".DS_Store", "__pycache__"}
"""What version control, download tools and the interpreter leave beside a model."""

SIGNATURE = "model.sig"
"""Where an OpenSSF signature lies: at the top of the directory, or beside the file."""

Companions = Callable[[StagedFile], frozenset[str]]
"""Which files beside a single one belong to it, relative to its directory."""

_HINT_LINK = "copy the files themselves there: cp -rL SOURCE COPY"


def stage(source: Path, into: Path, limits: Limits, companions: Companions) -> Staged:
    """Copy `source` into the empty directory `into`.

    Args:
        source: a file or a directory.
        into: a directory that only we write to.
        limits: what is refused as too large.
        companions: which files come with a single one.

    Raises:
        NotFound: there is nothing at `source`.
        UnsafePath: a link that leads out, or something that is neither file nor directory.
        OversizedArtifact: too many files, too many bytes, too deep.
    """
    where = source.resolve()
    if not where.exists():
        raise NotFound(f"there is nothing at {source}", hint="give a model's file or directory", path=str(source))
    if where.is_dir():
        return _stage_directory(source, where, into, limits)
    copying = _Copying(where.parent, into / "model", limits, (where.parent, where))
    name = Path(os.path.abspath(source)).name  # noqa: PTH100 - the name it has here, whatever a link leads to
    check_name(name, name)
    copying.copy(where, name)
    for path in sorted(companions(copying.files[name])):
        if path not in copying.files and (where.parent / path).exists():
            copying.copy(where.parent / path, path)
    return Staged(
        Path(name).stem, copying.into, copying.files, name, signature=_beside(copying, where.parent, name, into)
    )


def _stage_directory(source: Path, where: Path, into: Path, limits: Limits) -> Staged:
    left_out = _VERSION_CONTROL if (where / SIGNATURE).exists() else _LEFT_OUT
    copying = _Copying(where, into / "model", limits, _allowed_roots(where), left_out)
    for entry, path in copying.walk(where, "", 0):
        copying.copy(entry, path)
    signature = copying.files.pop(SIGNATURE, None)
    if signature is not None:
        moved = signature.at.rename(into / SIGNATURE)
        signature = StagedFile(signature.path, moved, signature.sha256, signature.size)
    name = Path(os.path.abspath(source)).name or "model"  # noqa: PTH100 - likewise
    return Staged(
        name, copying.into, copying.files, None, tuple(copying.directories), tuple(copying.skipped), signature
    )


def _beside(copying: _Copying, directory: Path, name: str, into: Path) -> StagedFile | None:
    """The signature of a single file: `NAME.sig`, or `model.sig`."""
    for candidate in (f"{name}.sig", SIGNATURE):
        if (directory / candidate).is_file() and candidate != name:
            signing = _Copying(directory, into / "signature", copying.limits, copying.roots)
            signing.copy(directory / candidate, candidate)
            return signing.files[candidate]
    return None


def _allowed_roots(root: Path) -> tuple[Path, ...]:
    """Where links may lead: into the source, and from a snapshot in Hugging Face's cache to the blobs beside it."""
    parts = root.parts
    if len(parts) >= 3 and parts[-2] == "snapshots" and parts[-3].startswith("models--"):
        return root, root.parent.parent / "blobs"
    return (root,)


@dataclass(slots=True)
class _Copying:
    """One copying under way."""

    root: Path
    into: Path
    limits: Limits
    roots: tuple[Path, ...]
    left_out: frozenset[str] = _LEFT_OUT
    files: dict[str, StagedFile] = field(default_factory=dict)
    directories: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    total: int = 0
    seen: int = 0

    def walk(self, directory: Path, prefix: str, depth: int) -> Iterator[tuple[Path, str]]:
        """Every file below, with its path in the source."""
        if depth > self.limits.max_depth:
            rule = f"directories nest deeper than max_depth ({self.limits.max_depth})"
            raise OversizedArtifact(f"{prefix}: {rule}", file=prefix, rule="max_depth")
        for entry in self._entries(directory, prefix):
            path = f"{prefix}{entry.name}"
            check_name(path, entry.name)
            if entry.name in self.left_out:
                self.skipped.append(path)
            elif entry.is_dir(follow_symlinks=False):
                self.directories.append(path)
                yield from self.walk(Path(entry.path), f"{path}/", depth + 1)
            else:
                yield Path(entry.path), path

    def _entries(self, directory: Path, prefix: str) -> list[os.DirEntry[str]]:
        """What lies in a directory, by name; directories count as files do, and no more are held than may be there."""
        with os.scandir(directory) as scanned:
            entries = list(itertools.islice(scanned, self.limits.max_files + 1))
        self.seen += len(entries)
        if self.seen > self.limits.max_files:
            rule = f"more files and directories than max_files ({self.limits.max_files})"
            raise OversizedArtifact(
                f"{self.root}: {rule}", file=prefix or ".", rule="max_files", hint="import one model's files"
            )
        return sorted(entries, key=lambda one: one.name)

    def copy(self, source: Path, path: str) -> None:
        """Copy and hash one file."""
        if len(self.files) >= self.limits.max_files:
            rule = f"more files than max_files ({self.limits.max_files})"
            raise OversizedArtifact(
                f"{self.root}: {rule}", file=path, rule="max_files", hint="import one model's files"
            )
        target = self.into / path
        target.parent.mkdir(parents=True, exist_ok=True)
        digest, size = hashlib.sha256(), 0
        with (
            open(self._open(source, path), "rb", closefd=True) as original,  # noqa: PTH123 - a descriptor
            writing_to(self.into),
            target.open("xb") as copied,
        ):
            said = os.fstat(original.fileno()).st_size
            self._count(said, path)
            while chunk := original.read(_CHUNK_BYTES):
                size += len(chunk)
                _check_size(size, said, path)
                digest.update(chunk)
                copied.write(chunk)
        _check_size(said, size, path)
        self.files[path] = StagedFile(path, target, digest.hexdigest(), size)

    def _count(self, more: int, path: str) -> None:
        self.total += more
        if self.total > self.limits.max_bytes:
            rule = f"more bytes than max_bytes ({self.limits.max_bytes})"
            raise OversizedArtifact(
                f"{self.root}: {rule}", file=path, rule="max_bytes", hint="import one model's files"
            )
        room = shutil.disk_usage(self.into.parent).free
        if more > room:
            raise OversizedArtifact(
                f"{path} has {more} bytes, and {room} are free where imports are copied to ({self.into.parent})",
                hint="make room there, or name another place: --registry.cache",
                file=path,
                rule="room",
            )

    def _open(self, source: Path, path: str) -> int:
        """A descriptor of a plain file that lies where it may, opened without following a last link."""
        real = source.resolve()
        if not any(real.is_relative_to(root) for root in self.roots):
            raise UnsafePath(
                f"{path} is a link that leads out of the model, to {real}", hint=_HINT_LINK, file=path, rule="link"
            )
        try:
            descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as problem:
            raise UnsafePath(
                f"{path} cannot be opened as a file: {problem.strerror}", hint=_HINT_LINK, file=path, rule="plain-file"
            ) from problem
        opened = Path(f"/proc/self/fd/{descriptor}")
        if opened.exists() and not any(opened.resolve().is_relative_to(root) for root in self.roots):
            os.close(descriptor)  # a directory on the way became a link after it was resolved
            raise UnsafePath(f"{path} was replaced while it was opened", hint=_HINT_LINK, file=path, rule="link")
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise UnsafePath(
                f"{path} is neither a file nor a directory (a pipe, socket, device or a link to a directory)",
                hint="leave it out of the model",
                file=path,
                rule="plain-file",
            )
        return descriptor


def _check_size(more: int, than: int, path: str) -> None:
    if more > than:
        raise ArtifactChanged(
            f"{path} changed while it was copied: it had {than} bytes, then {more}",
            hint="import it once it is complete",
            file=path,
            rule="growing",
        )


def check_name(path: str, name: str) -> None:
    """Refuse a name that a terminal, a shell or another file system would take for something else.

    Raises:
        UnsafePath: it holds what does not print (controls, marks of direction), a backslash, or is not Unicode.
    """
    if not name.isprintable() or "\\" in name:
        raise UnsafePath(
            f"{path!r} has a character that does not print, a backslash or a byte that is not UTF-8 in its name",
            hint="rename it",
            file=ascii(path),
            rule="name",
        )

"""Registered versions laid out as a Triton model repository, every file verified while it is copied."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from taxiway.core.errors import AlreadyExists, FilesDisagree
from taxiway.registry.blobs import BlobStore, verified_chunks
from taxiway.registry.canonical import canonical_json, digest_of
from taxiway.registry.directory_blobs import flush
from taxiway.registry.disk import writing_to
from taxiway.registry.nouns import VERSION_FOLDER, FileEntry, StoredFile, Version

Layout = dict[str, FileEntry]
"""Path in the repository -> what lies there."""


def lay_out(versions: Sequence[Version]) -> Layout:
    """Where each file of each version goes: `fraud/config.pbtxt`, `fraud/3/model.onnx`.

    Raises:
        FilesDisagree: two versions of one model want another file in one place.
    """
    layout: Layout = {}
    owners: dict[str, Version] = {}
    for version in versions:
        for file in version.manifest.files:
            place = f"{version.name}/{place_of(file.path, version.number)}"
            other = layout.setdefault(place, file)
            if other.sha256 != file.sha256:
                raise FilesDisagree(
                    f"{version.ref} and {owners[place].ref} differ in {file.path}, and would share it as {place}",
                    hint="put them into two directories",
                    path=place,
                )
            owners.setdefault(place, version)
    return layout


def place_of(path: str, number: int) -> str:
    """A manifest's path with the version's number where `@` stands."""
    first, slash, rest = path.partition("/")
    return f"{number}/{rest}" if first == VERSION_FOLDER and slash else path


def layout_name(layout: Layout) -> str:
    """A name for a repository of exactly this content."""
    return digest_of(canonical_json(sorted([place, file.sha256] for place, file in layout.items())))[7:39]


def write_repository(store: BlobStore, layout: Layout, directory: Path) -> Path:
    """Write everything aside and rename: `directory` is there whole, or not at all.

    Raises:
        AlreadyExists: something lies in `directory`.
        DataLoss: a blob is gone or damaged.
    """
    directory = directory.absolute()
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise AlreadyExists(f"{directory} is not empty", hint="name a directory that is not there yet")
    with writing_to(directory.parent):
        return _write_all(store, layout, directory)


def _write_all(store: BlobStore, layout: Layout, directory: Path) -> Path:
    directory.parent.mkdir(parents=True, exist_ok=True)
    with _aside(directory) as aside:
        for place, file in layout.items():
            _write(store, file, aside / place)
        for folder, _, _ in os.walk(aside, topdown=False):
            flush(Path(folder))
        aside.rename(directory)  # over an empty directory, too
    flush(directory.parent)
    return directory


@contextlib.contextmanager
def _aside(directory: Path) -> Iterator[Path]:
    aside = directory.with_name(f".{directory.name}.{secrets.token_hex(8)}")
    aside.mkdir()
    try:
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write(store: BlobStore, file: FileEntry, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as target:
        for chunk in verified_chunks(store, StoredFile(file.sha256, file.size)):
            target.write(chunk)
        target.flush()
        os.fsync(target.fileno())


def is_intact(layout: Layout, directory: Path) -> bool:
    """Whether `directory` holds exactly these files; whatever else lies there could be loaded too."""
    files: set[str] = set()
    folders: set[str] = set()
    for folder, below, names in os.walk(directory):
        here = Path(folder)
        if any((here / name).is_symlink() for name in (*below, *names)):
            return False
        folders.update((here / name).relative_to(directory).as_posix() for name in below)
        files.update((here / name).relative_to(directory).as_posix() for name in names)
    expected = {str(parent) for place in layout for parent in PurePosixPath(place).parents} - {"."}
    return (
        files == layout.keys()
        and folders == expected
        and all((directory / place).is_file() and _sha256(directory / place) == layout[place].sha256 for place in files)
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""What a version is made of on disk: names, sizes and times of its files. Two that are equal need no second load."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

from taxiway.server.models.repository import CONFIG_FILE, FoundModel

Stamp: TypeAlias = tuple[str, int, int]
"""Path, bytes, and the time it was last written in nanoseconds."""

_MOST_FILES = 10_000
"""In one version; a directory with more is a mistake, and looking at it must not take for ever."""
_LOCATION = b"\x0a\x08location\x12"
"""How a tensor's external data begins in an ONNX file: a key, and then the file's name after its length."""
_NAME_BYTES = 127
"""Longest name that is looked for; its length is one byte then."""
_STEP = 1 << 20
"""Bytes searched at once: nobody else may have the interpreter meanwhile."""


@dataclass(frozen=True, slots=True)
class Stamps:
    """One model's files.

    Attributes:
        config: its config.pbtxt; None if there is none.
        shared: what all versions share: labels, warm-up data.
        versions: each version's files, external data included.
    """

    config: Stamp | None
    shared: tuple[Stamp, ...]
    versions: dict[int, tuple[Stamp, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """All that decides how one version is served: its files, what it shares with others, and what was configured."""

    files: tuple[Stamp, ...]
    shared: tuple[Stamp, ...]
    config: bytes

    @property
    def nbytes(self) -> int:
        """The size of its own files."""
        return sum(size for _, size, _ in self.files)


def stamp_model(found: FoundModel) -> Stamps:
    """Look at every file of a model; blocks.

    Raises:
        OSError: something cannot be looked at, perhaps because it is being replaced right now.
    """
    if found.pipeline is not None:
        return Stamps(None, (), dict.fromkeys(found.versions, ()))
    versions = {number: tuple(_version_stamps(path)) for number, path in found.versions.items()}
    if found.is_single_file:
        return Stamps(None, (), versions)
    config = None if found.config is None else _stamp(found.config)
    own = {path.name for path in found.versions.values()} | {CONFIG_FILE}
    shared = [
        stamp
        for entry in sorted(found.directory.iterdir())
        if entry.name not in own and not entry.name.startswith(".")
        for stamp in _walk(entry)
    ]
    return Stamps(config, tuple(shared), versions)


def _version_stamps(path: Path) -> Iterator[Stamp]:
    if path.is_dir():
        yield from _walk(path)
        return
    own = _stamp(path)
    yield own
    for name in sorted(_external_files(*own)):
        beside = path.parent / name
        if beside.is_file():
            yield _stamp(beside)


def _walk(path: Path) -> Iterator[Stamp]:
    """The files at or below `path`, in an order of their own."""
    if not path.is_dir():
        yield _stamp(path)
        return
    count = 0
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            count += 1
            if count > _MOST_FILES:
                return
            yield _stamp(Path(folder, name))


def _stamp(path: Path) -> Stamp:
    status = path.stat()
    return (str(path), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4096)
def _external_files(path: str, _nbytes: int, _written_ns: int) -> frozenset[str]:
    """Names of the files that an ONNX file keeps tensors in; each content is searched once."""
    return frozenset(_search_locations(Path(path)))


def _search_locations(path: Path) -> Iterator[str]:
    overlap = len(_LOCATION) + 1 + _NAME_BYTES
    with path.open("rb") as file:
        content = file.read(_STEP)
        while content:
            yield from _locations_in(content)
            further = file.read(_STEP)
            if not further:
                return
            content = content[-overlap:] + further


def _locations_in(content: bytes) -> Iterator[str]:
    at = content.find(_LOCATION)
    while at >= 0:
        start = at + len(_LOCATION) + 1
        length = content[start - 1] if start <= len(content) else 0
        name = content[start : start + length]
        if 0 < length <= _NAME_BYTES and len(name) == length and b"\0" not in name and not name.startswith(b"/"):
            yield name.decode("utf-8", "replace")
        at = content.find(_LOCATION, start)

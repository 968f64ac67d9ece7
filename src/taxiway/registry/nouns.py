"""What the registry knows, as plain data: frozen, compared by value, without a database behind it."""

from __future__ import annotations

import datetime as dt
import enum
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from taxiway.core.errors import InvalidManifest
from taxiway.registry.canonical import canonical_json, digest_of

VERSION_FOLDER: Final = "@"
"""Stands in a manifest's paths for the directory of the version itself, whose number is not known yet."""

MAX_PATH_BYTES: Final = 1024

EdgeKind = Literal["trained-by", "artifact", "variant-of", "profile", "rollout", "verdict"]
"""How a thing came from another: the steps of the walk from a training run to a verdict."""


class Any_(enum.Enum):  # noqa: N801 - the type of the one value below
    """The type of ANY."""

    ANY = "any"


ANY: Final = Any_.ANY
"""Said to `set_alias` by who does not care what the alias pointed to."""

Expected = int | None | Literal[Any_.ANY]


@dataclass(frozen=True, slots=True)
class StoredFile:
    """Bytes that the registry keeps, named by what they are."""

    sha256: str
    size: int

    def at(self, path: str) -> FileEntry:
        """These bytes as the file `path` of a manifest."""
        return FileEntry(path, self.sha256, self.size)


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a version: where it lies, which bytes it holds.

    Attributes:
        path: POSIX and relative, as laid out in a Triton repository below the model's directory; the directory of the
            version is written `@`: `config.pbtxt`, `@/model.onnx`.
        sha256: 64 hexadecimal digits.
        size: in bytes.
    """

    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """All files of a version, sorted by path. Two manifests of one digest are one and the same model."""

    files: tuple[FileEntry, ...]

    def __post_init__(self) -> None:
        _check_files(self.files)

    @classmethod
    def of(cls, files: Iterable[FileEntry]) -> Manifest:
        """A manifest of files in any order.

        Raises:
            InvalidManifest: a path that leaves the model's directory, is there twice, or is a file and a folder.
        """
        return cls(tuple(sorted(files, key=lambda entry: entry.path)))

    @functools.cached_property
    def text(self) -> str:
        """The manifest as it is stored and digested."""
        return canonical_json([[entry.path, entry.sha256, entry.size] for entry in self.files])

    @classmethod
    def read(cls, rows: Iterable[tuple[str, str, int]]) -> Manifest:
        """What `text` wrote, decoded."""
        return cls(tuple(FileEntry(*row) for row in rows))

    @functools.cached_property
    def digest(self) -> str:
        """`sha256:<hex>` over paths, sizes and digests of all files."""
        return digest_of(self.text)

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(entry.size for entry in self.files)


def _check_files(files: tuple[FileEntry, ...]) -> None:
    if not files:
        raise InvalidManifest("a manifest has no files", hint="put_file() each file, then name them in the manifest")
    paths = [entry.path for entry in files]
    if paths != sorted(paths):
        raise InvalidManifest("a manifest's files are not sorted by path", hint="make it with Manifest.of()")
    for before, entry in zip((None, *files), files, strict=False):
        rule = broken_path_rule(entry.path) or _broken_file_rule(entry)
        if before is not None and before.path == entry.path:
            rule = "is there twice"
        if rule:
            raise InvalidManifest(f"manifest: file {entry.path[:200]!r} {rule}", path=entry.path)
    folders = {path[:at] for path in paths for at, letter in enumerate(path) if letter == "/"}
    for path in paths:
        if path in folders:
            raise InvalidManifest(f"manifest: {path!r} is a file and a folder", path=path)


def broken_path_rule(path: str) -> str:
    """Which rule a manifest's path breaks; empty if none."""
    parts = path.split("/")
    if not path or path.startswith("/") or any(part in ("", ".", "..") for part in parts):
        return "must be a relative path without empty parts, '.' and '..'"
    if "\\" in path or not path.isprintable() or len(path.encode(errors="replace")) > MAX_PATH_BYTES:
        return f"must be printable, without backslashes, of at most {MAX_PATH_BYTES} bytes"
    if parts[0].isdecimal():
        return f"lies where a version's folder would; write {VERSION_FOLDER}/ for the version's own, and no other's"
    if path == VERSION_FOLDER:
        return f"cannot be called {VERSION_FOLDER}, which stands for the version's folder"
    return ""


def _broken_file_rule(entry: FileEntry) -> str:
    if len(entry.sha256) != 64 or set(entry.sha256) - set("0123456789abcdef"):
        return "must have a sha256 of 64 lower-case hexadecimal digits"
    return "must not have a negative size" if entry.size < 0 else ""


@dataclass(frozen=True, slots=True)
class NewVersion:
    """What is to be registered; the registry adds the number, the time and who.

    Attributes:
        name: of the model.
        manifest: its files, which have been put before.
        framework: a word, as `onnx` or `sklearn`.
        signature: inputs and outputs in the Open Inference Protocol's datatypes.
        origin: where it came from; its `source`, if it has one, becomes the first edge of its lineage.
        facts: whatever else was understood of it: scans, trust, parity. JSON.
    """

    name: str
    manifest: Manifest
    framework: str
    signature: Mapping[str, Any] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Version:
    """A registered version: immutable but for its tags.

    `variant` is set where a reference named one (`fraud:3-int8`): then digest and manifest are the variant's.
    """

    name: str
    number: int
    digest: str
    manifest: Manifest
    framework: str
    signature: Mapping[str, Any]
    origin: Mapping[str, Any]
    facts: Mapping[str, Any]
    created_at: dt.datetime
    created_by: str
    tags: Mapping[str, str] = field(default_factory=dict)
    variant: str | None = None

    @property
    def ref(self) -> str:
        """The reference that always means this: `fraud:3`, `fraud:3-int8`."""
        return ref_text(self.name, self.number, self.variant)

    @property
    def trusted(self) -> tuple[str, ...]:
        """Its files that its import was told to trust, as digests; whatever else its facts say is not heard."""
        scan = self.facts.get("scan")
        said = scan.get("trusted") if isinstance(scan, Mapping) else None
        kept = {f"sha256:{file.sha256}" for file in self.manifest.files}
        return tuple(digest for digest in said if digest in kept) if isinstance(said, list) else ()


@dataclass(frozen=True, slots=True)
class Variant:
    """An optimized sibling of a version, with the recipe that made it from `parent`."""

    name: str
    number: int
    variant: str
    digest: str
    manifest: Manifest
    recipe: Mapping[str, Any]
    parent: str
    created_at: dt.datetime
    created_by: str

    @property
    def ref(self) -> str:
        """`fraud:3-int8`."""
        return ref_text(self.name, self.number, self.variant)


@dataclass(frozen=True, slots=True)
class AliasMove:
    """One move of an alias: None where it was not there before, or is not afterwards."""

    seq: int
    name: str
    alias: str
    from_version: int | None
    to_version: int | None
    at: dt.datetime
    by: str
    why: str


@dataclass(frozen=True, slots=True)
class Edge:
    """One step of a lineage: `child` came by `kind` from `parent`, a reference or a URI."""

    seq: int
    child: str
    kind: EdgeKind
    parent: str
    facts: Mapping[str, Any]
    at: dt.datetime
    by: str


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change: who did what to which thing. Its hash covers the one before it."""

    seq: int
    at: dt.datetime
    actor: str
    kind: str
    subject: str
    payload: Mapping[str, Any]
    prev_hash: str
    hash: str


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """One model in a list."""

    name: str
    versions: int
    created_at: dt.datetime
    changed_at: dt.datetime
    aliases: Mapping[str, int]
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Served:
    """What an alias meant at a moment, and since when."""

    name: str
    alias: str
    number: int
    digest: str
    since: dt.datetime
    by: str
    why: str


@dataclass(frozen=True, slots=True)
class RegistryInfo:
    """Where a registry lies and how large it is; `head` is the hash of the last audit entry, to be noted elsewhere."""

    url: str
    blobs_url: str
    schema: int
    models: int
    versions: int
    blobs: int
    size: int
    entries: int
    head: str


def ref_text(name: str, number: int, variant: str | None = None) -> str:
    """The reference to a version or a variant of it."""
    return f"{name}:{number}-{variant}" if variant else f"{name}:{number}"

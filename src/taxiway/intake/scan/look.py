"""One thing to be looked at, and what all looks of one scan share."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from taxiway.core.errors import OversizedArtifact, UnsafeArtifact
from taxiway.intake.limits import Limits
from taxiway.intake.nouns import Buffer, Staged, StagedFile, mapped

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a person should know though it stops nothing."""

    file: str
    said: str


@dataclass(frozen=True, slots=True)
class RestrictedReader:
    """A reader of pickles that is not Python's and can call nothing but what `allows` names."""

    name: str
    allows: Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class FoundPickle:
    """A pickle, wherever it lay. `at` holds it from `offset` on; `owner` is the file of the source that it is in."""

    shown: str
    owner: StagedFile
    at: Path
    offset: int
    globals: tuple[str, ...]
    problem: str


@dataclass(slots=True)
class Shared:
    """What one scan collects, and what it may still unpack."""

    staged: Staged
    limits: Limits
    raw: frozenset[str]
    trusted: frozenset[str]
    scratch: Path
    findings: list[Finding] = field(default_factory=list)
    pickles: list[FoundPickle] = field(default_factory=list)
    refusals: list[UnsafeArtifact] = field(default_factory=list)
    kinds: dict[str, str] = field(default_factory=dict)
    unpacked: int = 0
    members: int = 0

    def count_members(self, more: int, shown: str) -> None:
        """Note that an archive has so many members.

        Raises:
            OversizedArtifact: all archives of one scan together have too many.
        """
        self.members += more
        if self.members > self.limits.max_members:
            rule = f"has more members than max_members ({self.limits.max_members}), with those of other archives"
            raise OversizedArtifact(f"{shown} {rule}", file=shown, rule="max_members")

    def count_unpacked(self, more: int, shown: str) -> None:
        """Note that so many bytes were unpacked.

        Raises:
            OversizedArtifact: more than one scan may.
        """
        self.unpacked += more
        if self.unpacked > self.limits.max_unpacked_bytes:
            rule = f"unpacks to more than max_unpacked_bytes ({self.limits.max_unpacked_bytes})"
            raise OversizedArtifact(f"{shown} {rule}", file=shown, rule="max_unpacked_bytes")


@dataclass(frozen=True, slots=True)
class Look:
    """One thing to be looked at: a file of the source, or what was unpacked from one.

    Attributes:
        shown: its path as people read it: `a.zip!inner/b.pkl` lies in `a.zip`.
        owner: the file of the source that it lies in, whose digest `--trust` names.
        reader: what will read pickles here, if it is not Python's own unpickler.
    """

    shown: str
    at: Path
    owner: StagedFile
    shared: Shared
    depth: int = 0
    reader: RestrictedReader | None = None

    @property
    def limits(self) -> Limits:
        """The limits of the scan."""
        return self.shared.limits

    @property
    def trusted(self) -> bool:
        """Whether somebody has said that the file of the source is trusted."""
        return self.owner.digest in self.shared.trusted

    @contextmanager
    def mapped(self) -> Iterator[Buffer]:
        """Its content."""
        with mapped(self.at) as content:
            yield content

    def note(self, said: str) -> None:
        """Keep a finding."""
        self.shared.findings.append(Finding(self.shown, said))

    def vouch(self, said: str) -> None:
        """Keep a finding that would have been a refusal, had nobody trusted the file of the source."""
        self.note(f"{said}, and is trusted")

    def inner(self, name: str, at: Path, reader: RestrictedReader | None = None) -> Look:
        """What was unpacked from it.

        Raises:
            OversizedArtifact: archives within archives, too deep.
        """
        shown = f"{self.shown}!{name}"
        if self.depth >= self.limits.max_archive_depth:
            rule = f"archives lie within archives deeper than max_archive_depth ({self.limits.max_archive_depth})"
            raise OversizedArtifact(f"{shown}: {rule}", file=shown, rule="max_archive_depth")
        return Look(shown, at, self.owner, self.shared, self.depth + 1, reader or self.reader)

    def unpack(self, packed: IO[bytes], shown: str, at_most: int) -> Path:
        """Write what `packed` gives to a file of ours, counting what comes and not believing what was announced.

        Raises:
            OversizedArtifact: it is more than `at_most`, or than the scan may unpack.
        """
        with tempfile.NamedTemporaryFile(dir=self.shared.scratch, delete=False) as file:
            size = 0
            while chunk := packed.read(_CHUNK_BYTES):
                size += len(chunk)
                self.shared.count_unpacked(len(chunk), shown)
                if size > at_most:
                    rule = f"unpacks to more than {at_most} bytes"
                    raise OversizedArtifact(f"{shown} {rule}", file=shown, rule="unpacked-size")
                file.write(chunk)
        return Path(file.name)

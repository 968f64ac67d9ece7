"""What the stops of an import hand to each other: plain and frozen."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taxiway.core.tensors import TensorSpec

Buffer = bytes | mmap.mmap
"""Bytes of a file: mapped, or empty bytes, as an empty file cannot be mapped."""


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A private copy of one file of the source, hashed while it was made.

    Attributes:
        path: where it was in the source: relative, POSIX, without `..`.
        at: the copy, which nobody else writes to; everything that is said of the file is said of these bytes.
    """

    path: str
    at: Path
    sha256: str
    size: int

    @property
    def digest(self) -> str:
        """As `--trust` names it."""
        return f"sha256:{self.sha256}"

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]

    @contextmanager
    def mapped(self) -> Iterator[Buffer]:
        """The content, read on demand."""
        with mapped(self.at) as content:
            yield content

    def head(self, count: int = 4096) -> bytes:
        """The first bytes."""
        with self.at.open("rb") as file:
            return file.read(count)


@dataclass(frozen=True, slots=True)
class Staged:
    """The whole source as private copies.

    Attributes:
        name: the source's own name, without suffix if it is one file.
        root: the directory that the copies lie in, as they lay in the source.
        files: by path.
        single: the path of the file that the source is; None if it is a directory.
        directories: paths of all directories, since an empty one can mean something (an ensemble's version).
        left_out: paths that were not copied, since they are no part of a model.
        signature: the OpenSSF signature, which lies outside of `root`: it is not one of the files that it signs.
    """

    name: str
    root: Path
    files: Mapping[str, StagedFile]
    single: str | None = None
    directories: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    signature: StagedFile | None = None

    def one(self) -> StagedFile | None:
        """The file, if the source is one, or is a directory of a single one."""
        if self.single is not None:
            return self.files[self.single]
        return next(iter(self.files.values())) if len(self.files) == 1 else None

    def below(self, directory: str) -> Staged:
        """What lies in one directory of it, as a source of its own."""
        prefix = f"{directory}/"
        return Staged(
            directory.rpartition("/")[2],
            self.root / directory,
            {
                path.removeprefix(prefix): StagedFile(path.removeprefix(prefix), file.at, file.sha256, file.size)
                for path, file in self.files.items()
                if path.startswith(prefix)
            },
            directories=tuple(path.removeprefix(prefix) for path in self.directories if path.startswith(prefix)),
        )

    def top(self) -> frozenset[str]:
        """Names of the files that lie at the top."""
        return frozenset(path for path in self.files if "/" not in path)


@dataclass(frozen=True, slots=True)
class MadeFrom:
    """An artifact that another one was made from: its `sha256:` digest, and what is to be said of the making."""

    digest: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Understanding:
    """What one model is, read from its bytes.

    Attributes:
        name: what it is called where it comes from; empty if the source's own name says it.
        format: the format's name in the table, `onnx`.
        framework: what made it, `scikit-learn`; its `version` is empty if the bytes do not tell it.
        backend: what serves it, as config.pbtxt says it; empty if nothing here does.
        inputs, outputs: whole shapes, the batch dimension included; empty if the bytes do not tell them.
        files: path in the version's manifest -> path in the source; `@/` is the version's own directory.
        config: the config.pbtxt that came with the model.
        made: files that are written by the import, by path in the manifest.
        facts: whatever else was understood, as JSON has it.
        notes: what a person should know before serving it.
        conversion: what became of the attempt to make ONNX of it, as JSON; empty if there was none.
        made_from: what it was converted from.
        tells_later: whether tensors that the bytes do not tell are known once it is loaded; else a person says them.
        servable: whether anything here serves it; if not it is kept, and can be told apart.
    """

    format: str
    framework: str
    files: Mapping[str, str]
    name: str = ""
    version: str = ""
    backend: str = ""
    platform: str = ""
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    config: str | None = None
    made: Mapping[str, bytes] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    conversion: Mapping[str, Any] = field(default_factory=dict)
    made_from: tuple[MadeFrom, ...] = ()
    tells_later: bool = True
    servable: bool = True


@dataclass(frozen=True, slots=True)
class Format:
    """One row of the table of formats.

    Attributes:
        name: `onnx`; `title` as people write it.
        recognise: whether the source is one, by its bytes and its layout.
        understand: every model in it. May assume that the scan has let the source pass.
        raw: paths of files that are bare numbers by what the format's own header says.
    """

    name: str
    title: str
    recognise: Callable[[Staged], bool]
    understand: Callable[[Staged], tuple[Understanding, ...]]
    raw: Callable[[Staged], frozenset[str]] = lambda _staged: frozenset()


@contextmanager
def mapped(path: Path) -> Iterator[Buffer]:
    """The content of a file, read on demand."""
    with path.open("rb") as file:
        if file.seek(0, 2) == 0:
            yield b""
            return
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            yield content
        finally:
            with suppress(BufferError):  # an error under way still points into it; it goes with the error
                content.close()

"""Files of captured rows: DIR/MODEL/VERSION/DAY/TIME.parquet, each written whole or not at all.

A draft begins with a dot and does not end as a file does, so that nobody who reads trips over one. When a file was
written is in its name, so that copies grow old as their originals do.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote

import numpy as np

from taxiway.core.errors import FailedPrecondition
from taxiway.monitor.capture.columns import Column

SUFFIX: Final = ".parquet"
_DRAFT_SUFFIX: Final = ".draft"
_DRAFT_S: Final = 3600.0
"""How long a draft may lie before whoever wrote it is taken for dead."""
_DAY_NS: Final = 86_400 * 10**9


@dataclass(frozen=True, slots=True)
class CapturedFile:
    """One file.

    Attributes:
        written_ns: in UTC nanoseconds.
    """

    path: Path
    model: str
    version: int
    written_ns: int
    nbytes: int


def duckdb() -> Any:  # noqa: ANN401 - a module that may be absent
    """The library that reads and writes Parquet, which is imported only where it is used.

    Raises:
        FailedPrecondition: it is not installed.
    """
    try:
        return importlib.import_module("duckdb")
    except ImportError:
        hint = "pip install 'taxiway[monitor]'"
        raise FailedPrecondition("captured requests need DuckDB, which is not installed", hint=hint) from None


def quoted(name: str) -> str:
    """A name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def as_text(text: str) -> str:
    """A text as SQL has it."""
    return "'" + text.replace("'", "''") + "'"


def write(directory: Path, model: str, version: int, parts: Sequence[Sequence[Column]], now_ns: int) -> CapturedFile:
    """Write rows as one file, all parts of the same columns.

    Raises:
        FailedPrecondition: DuckDB is not installed.
        OSError: it cannot be written; nothing is left of it.
    """
    at = datetime.fromtimestamp(now_ns / 1e9, UTC)
    folder = directory / _folder(model) / str(version) / at.strftime("%Y-%m-%d")
    path = folder / f"{at.strftime('%H%M%S')}-{now_ns}{SUFFIX}"
    draft = folder / f".{path.stem}.{os.getpid()}{_DRAFT_SUFFIX}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _copy(parts, draft)
        _sync(draft)
        nbytes = draft.stat().st_size
        draft.replace(path)
        _sync(folder)
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
    return CapturedFile(path, model, version, now_ns, nbytes)


def files_in(directory: Path) -> list[CapturedFile]:
    """All that there are, the oldest first."""
    return sorted(_files(directory), key=lambda one: (one.written_ns, one.path))


def remove_old(directory: Path, now_ns: int, days: float, max_bytes: int) -> int:
    """Remove what is older than so many days, and of more than `max_bytes` the oldest; how many bytes are left."""
    files = files_in(directory)
    left = sum(one.nbytes for one in files)
    for one in files:
        if left <= max_bytes and now_ns - one.written_ns <= days * _DAY_NS:
            break
        with suppress(OSError):
            one.path.unlink(missing_ok=True)
            left -= one.nbytes
            _remove_if_empty(one.path.parent, directory)
    return left


def remove_drafts(directory: Path) -> None:
    """Remove what a process left that was killed while it wrote."""
    before_s = time.time() - _DRAFT_S
    for draft in directory.glob(f"*/*/*/.*{_DRAFT_SUFFIX}"):
        with suppress(OSError):
            if draft.stat().st_mtime < before_s:
                draft.unlink()


def _files(directory: Path) -> Iterator[CapturedFile]:
    for path in directory.glob(f"*/*/*/*{SUFFIX}"):
        model, version, _, name = path.relative_to(directory).parts
        written = name.removesuffix(SUFFIX).rpartition("-")[2]
        if name.startswith(".") or not version.isdecimal() or not written.isdecimal():
            continue
        with suppress(OSError):  # it was removed meanwhile
            yield CapturedFile(path, unquote(model), int(version), int(written), path.stat().st_size)


def _folder(model: str) -> str:
    """No model's name leads out of the directory, or is hidden in it."""
    name = quote(model, safe="")
    return f"%2E{name[1:]}" if name.startswith(".") else name


def _copy(parts: Sequence[Sequence[Column]], draft: Path) -> None:
    library = duckdb()
    with _translated(library), library.connect(config={"threads": 1}) as connection:
        columns = {str(at): _cells([part[at] for part in parts]) for at in range(len(parts[0]))}
        connection.register("rows", columns)
        shown = ", ".join(f'"{at}"::{one.type} AS {quoted(one.name)}' for at, one in enumerate(parts[0]))
        connection.execute(
            f"COPY (FROM rows SELECT {shown}) TO {as_text(str(draft))} (FORMAT parquet, COMPRESSION zstd)"
        )


def _cells(parts: Sequence[Column]) -> Any:  # noqa: ANN401 - an array of whatever the column holds
    if all(isinstance(one.values, np.ndarray) and one.values.ndim == 1 for one in parts):
        return np.concatenate([np.asarray(one.values) for one in parts])
    cells = [cell for one in parts for cell in one.cells()]
    told = np.empty(len(cells), dtype=object)
    for at, cell in enumerate(cells):  # numpy would make one array of lists that are equally long
        told[at] = cell
    return told


@contextmanager
def _translated(library: Any) -> Iterator[None]:  # noqa: ANN401 - a module that may be absent
    """Its errors are told as the system's: a full disk, most of the time."""
    try:
        yield
    except library.Error as problem:
        raise OSError(str(problem)) from problem


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _remove_if_empty(folder: Path, directory: Path) -> None:
    while folder != directory:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent

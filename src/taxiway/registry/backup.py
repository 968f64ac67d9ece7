"""Backup and restore: every row and every blob in use, in a form that every database reads.

What is backed up goes on working meanwhile: each database is read in one transaction, and blobs in use never change. A
restore first unpacks the backup into databases of its own and proves all of it there: the digest of each part, the
chains, and the state that they tell. Only then is anything changed, in one transaction: all rows go and those of the
backup come, and whatever is killed meanwhile leaves what was there before, or what was backed up.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from taxiway import __version__
from taxiway.core.clock import Clock
from taxiway.core.errors import (
    AlreadyExists,
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    SchemaTooNew,
)
from taxiway.registry.archive import Archive, new_archive, read_archive
from taxiway.registry.audit import change
from taxiway.registry.blobs import CHUNK_BYTES, BlobStore, verified_chunks
from taxiway.registry.canonical import canonical_json, time_text
from taxiway.registry.database import Database
from taxiway.registry.disk import writing_to
from taxiway.registry.dumping import HINT, Ledger, copy_rows, dump, load, lock, nothing, read_rows
from taxiway.registry.ledger import LEDGER
from taxiway.registry.nouns import StoredFile

FORMAT: Final = 1
HEADER: Final = "backup.json"

_HEADER_BYTES: Final = 1 << 20
_MAX_SAID: Final = 200
_WHAT: Final = "name what `taxiway admin backup` wrote"

Tell = Callable[[str], None]
"""Is told what is being done now."""
OpenBlobs = Callable[[], BlobStore]
"""Opens the store of blobs, where there are any."""


def quiet(_doing: str) -> None:
    """Tells nobody."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One database; it need not be there."""

    ledger: Ledger
    database: Database


# --- backing up ----------------------------------------------------------------------------------------


def back_up(
    path: Path, kept: Sequence[Kept], open_blobs: OpenBlobs, clock: Clock, tell: Tell = quiet
) -> dict[str, Any]:
    """Write it; returns the header, which says what is in it.

    Databases are read in their order: one that names what is in another comes before it.

    Raises:
        AlreadyExists: `path` is there.
        DataLoss: a blob is gone or damaged.
    """
    with tempfile.TemporaryDirectory(prefix="taxiway-backup-") as name, new_archive(path) as archive:
        folder = Path(name)
        databases = {one.ledger.name: _dumped(one, folder, tell) for one in kept}
        blobs = list(_blobs(folder))
        header = {
            "format": FORMAT,
            "release": __version__,
            "written_at": time_text(clock.now_utc()),
            "databases": databases,
            "blobs": len(blobs),
            "bytes": sum(blob.size for blob in blobs),
        }
        text = canonical_json(header).encode()
        archive.add(HEADER, len(text), [text])
        for part in sorted(folder.glob("*/*")):
            archive.add(f"{part.parent.name}/{part.name}.jsonl", part.stat().st_size, _chunks_of(part))
        if blobs:
            _add_blobs(archive, blobs, open_blobs(), tell)
    return header


def _dumped(kept: Kept, folder: Path, tell: Tell) -> dict[str, Any]:
    tell(f"reading {kept.ledger.purpose.noun}")
    if not kept.database.is_there():
        return nothing()
    (folder / kept.ledger.name).mkdir()
    with kept.database.read() as connection:
        return dump(connection, kept.ledger, folder / kept.ledger.name)


def _add_blobs(archive: Archive, blobs: Sequence[StoredFile], store: BlobStore, tell: Tell) -> None:
    for number, blob in enumerate(blobs, 1):
        tell(f"copying file {number} of {len(blobs)}")
        archive.add(f"blobs/{blob.sha256}", blob.size, verified_chunks(store, blob))


def _blobs(folder: Path) -> Iterator[StoredFile]:
    """Those that the registry uses, if there is one."""
    table = folder / LEDGER.name / "blob"
    for row in read_rows(table) if table.exists() else ():
        yield StoredFile(row["sha256"], row["size"])


def _chunks_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


# --- proving a backup ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A backup that was proven.

    Attributes:
        header: what it says is in it.
        databases: of this release's schema, by the names of their ledgers.
        blobs: those that it holds, and that are needed.
    """

    header: Mapping[str, Any]
    databases: Mapping[str, Database]
    blobs: Sequence[StoredFile]


@contextlib.contextmanager
def unpacked(path: Path, ledgers: Sequence[Ledger], clock: Clock, tell: Tell = quiet) -> Iterator[Unpacked]:
    """Unpack a backup into databases of its own, and prove all of it.

    Raises:
        NotFound: it is not there.
        InvalidArgument: it is no backup, or one of more than these ledgers.
        DataLoss: a part is missing or damaged, or the rows are not those that taxiway wrote.
        SchemaTooNew: a later release wrote it.
    """
    with tempfile.TemporaryDirectory(prefix="taxiway-restore-") as name, contextlib.ExitStack() as stack:
        with _foreign(path), writing_to(name):
            backup = _unpack(path, Path(name), {one.name: one for one in ledgers}, stack, clock, tell)
        yield backup


def _unpack(
    path: Path, folder: Path, ledgers: Mapping[str, Ledger], stack: contextlib.ExitStack, clock: Clock, tell: Tell
) -> Unpacked:
    parts = read_archive(path)
    header = _read_header(parts, path, ledgers)
    found = _take_parts(parts, _wanted(header, ledgers, folder), header["blobs"], tell)
    databases = {}
    for name, said in header["databases"].items():
        ledger = ledgers[name]
        tell(f"proving {ledger.purpose.noun}")
        databases[name] = Database.open(f"sqlite:///{folder}/{name}.db", ledger.purpose)
        stack.callback(databases[name].close)
        load(databases[name], ledger, folder / name, said, time_text(clock.now_utc()))
        with databases[name].read() as connection, _told_of(path):
            ledger.verify(connection)
    blobs = list(_blobs(folder))
    for blob in blobs:
        if found.get(blob.sha256) != blob.size:
            raise DataLoss(f"{path} lacks blob {blob.sha256}", hint=HINT, sha256=blob.sha256)
    return Unpacked(header, databases, blobs)


@contextlib.contextmanager
def _foreign(path: Path) -> Iterator[None]:
    """Whatever else a backup that somebody made by hand makes us stumble over is damage of it."""
    try:
        yield
    except (
        *(LookupError, TypeError, ValueError, AttributeError, ArithmeticError, EOFError),
        *(SQLAlchemyError, tarfile.TarError),
    ) as problem:
        told = str(problem).split("\n", 1)[0][:_MAX_SAID]
        raise DataLoss(f"{path} is no whole backup: {type(problem).__name__}: {told}", hint=HINT) from problem


@contextlib.contextmanager
def _told_of(path: Path) -> Iterator[None]:
    """A chain that is broken is that of the backup."""
    try:
        yield
    except DataLoss as error:
        raise error.retold(f"{path}: {error.message}") from error


def _read_header(parts: Iterator[tuple[str, BinaryIO]], path: Path, ledgers: Mapping[str, Ledger]) -> dict[str, Any]:
    name, part = next(parts, ("", None))
    try:
        header = json.loads(part.read(_HEADER_BYTES)) if part is not None and name == HEADER else {}
    except ValueError:
        header = {}
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise InvalidArgument(f"{path} is no backup that this release knows", hint=_WHAT)
    for name, said in header["databases"].items():
        if name not in ledgers:
            raise InvalidArgument(f"{path} holds the {name} too", hint="`taxiway admin restore` restores all of it")
        _require_known(said["schema"], ledgers[name], f"{path}: the {name}")
    return header


def _require_known(found: int, ledger: Ledger, what: str) -> None:
    if found > len(ledger.steps):
        raise SchemaTooNew(
            f"{what} is of schema {found}, and this release knows up to {len(ledger.steps)}",
            hint="use the release that wrote it, or a later one",
            found=found,
            known=len(ledger.steps),
        )


def _wanted(header: Mapping[str, Any], ledgers: Mapping[str, Ledger], folder: Path) -> dict[str, tuple[Path, str]]:
    """The name of each table's part, where it is to go, and its digest; of names that we know."""
    wanted = {}
    for name, said in header["databases"].items():
        (folder / name).mkdir()
        for table in said["tables"]:
            if table not in ledgers[name].tables:
                raise InvalidArgument(f"the backup's {name} has a table {table!r}, which is unknown here", hint=_WHAT)
            wanted[f"{name}/{table}.jsonl"] = (folder / name / table, said["tables"][table]["sha256"])
    return wanted


def _take_parts(
    parts: Iterator[tuple[str, BinaryIO]], wanted: dict[str, tuple[Path, str]], count: int, tell: Tell
) -> dict[str, int]:
    """Take the tables, and look at the blobs, each proven; returns the blobs that are there, and their sizes."""
    blobs: dict[str, int] = {}
    for name, part in parts:
        kind, _, rest = name.partition("/")
        if kind == "blobs":
            tell(f"proving file {len(blobs) + 1} of {count}")
            blobs[rest] = _size_of(part, rest)
        elif name in wanted:
            _take_table(part, name, *wanted.pop(name))
        else:
            raise InvalidArgument(f"{name!r} does not belong into a backup", hint=_WHAT)
    if wanted:
        raise DataLoss(f"the backup lacks its part {next(iter(wanted))}", hint=HINT)
    return blobs


def _take_table(part: BinaryIO, name: str, place: Path, sha256: str) -> None:
    digest = hashlib.sha256()
    with place.open("xb") as file:
        while chunk := part.read(CHUNK_BYTES):
            digest.update(chunk)
            file.write(chunk)
    if digest.hexdigest() != sha256:
        raise DataLoss(f"the backup's part {name} is damaged", hint=HINT, part=name)


def _size_of(part: BinaryIO, sha256: str) -> int:
    digest, size = hashlib.sha256(), 0
    while chunk := part.read(CHUNK_BYTES):
        digest.update(chunk)
        size += len(chunk)
    if digest.hexdigest() != sha256:
        raise DataLoss(f"the backup's blob {sha256} is damaged", hint=HINT, sha256=sha256)
    return size


# --- restoring -----------------------------------------------------------------------------------------


def restore(
    path: Path,
    kept: Sequence[Kept],
    open_blobs: OpenBlobs,
    clock: Clock,
    actor: str,
    *,
    replace: bool = False,
    tell: Tell = quiet,
) -> Mapping[str, Any]:
    """Have databases hold what a backup does; returns its header. One that the backup does not know stays as it is.

    Args:
        path: what `back_up` wrote.
        kept: in the order in which they are backed up.
        open_blobs: where blobs go.
        clock: tells the time.
        actor: who restores, for the registry's log.
        replace: whether what is there may go.
        tell: is told how far it is.

    Raises:
        AlreadyExists: a database is not empty, and is not to be replaced.
        NotLeader: a control process leads.
        DataLoss: the backup is damaged; nothing was changed. And what else `unpacked` raises.
    """
    was = {one.ledger.name: _look(one, clock, replace=replace) for one in kept}
    with unpacked(path, [one.ledger for one in kept], clock, tell) as backup:
        targets = [one for one in reversed(kept) if _is_to_be_filled(one, backup)]
        _log(backup, path, was.get(LEDGER.name, ""), clock, actor)
        store = open_blobs() if backup.blobs else None
        if store is not None:
            _store_blobs(path, backup.blobs, store, tell)
        tell("replacing what is there")
        for one in targets:
            one.ledger.migrate(one.database, time_text(clock.now_utc()))
        with Database.write_together([one.database for one in targets]) as connections:
            for one, connection in zip(targets, connections, strict=True):
                _replace(one, connection, backup.databases[one.ledger.name], clock, replace=replace)
            if store is not None:
                _require_stored(backup.blobs, store)
        return backup.header


def _look(kept: Kept, clock: Clock, *, replace: bool) -> str:
    """What is there; before the long work it is asked whether it may go."""
    if not kept.database.is_there():
        return ""
    with kept.database.read() as connection:
        found = kept.ledger.schema_of(connection)
        _require_known(found, kept.ledger, f"{kept.ledger.purpose.noun} {kept.database.url}")
        if not found:
            return ""
        kept.ledger.take_over(connection, clock)
        return _require_empty(connection, kept, found, replace=replace)


def _require_empty(connection: Connection, kept: Kept, schema: int, *, replace: bool) -> str:
    there = kept.ledger.contents(connection, schema)
    if there and not replace:
        raise AlreadyExists(
            f"{kept.ledger.purpose.noun} {kept.database.url} is not empty ({there})",
            hint=f"restore into another place ({kept.ledger.purpose.setting}), or give up what is there: --replace",
        )
    return there


def _is_to_be_filled(kept: Kept, backup: Unpacked) -> bool:
    """Where there was nothing, and is nothing, nothing is made."""
    said = backup.header["databases"].get(kept.ledger.name)
    return said is not None and (said["schema"] > 0 or kept.database.is_there())


def _log(backup: Unpacked, path: Path, was: str, clock: Clock, actor: str) -> None:
    """The registry's log tells of its restoring: as a part of what is restored."""
    if backup.header["databases"].get(LEDGER.name, nothing())["schema"]:
        with change(backup.databases[LEDGER.name], clock, actor) as this:
            said = {"written_at": backup.header.get("written_at"), "entries": this.seq - 1}
            this.tell("registry-restored", path.name, said | ({"replaced": was} if was else {}))


def _replace(kept: Kept, connection: Connection, source: Database, clock: Clock, *, replace: bool) -> None:
    lock(connection, kept.ledger)
    taken = kept.ledger.take_over(connection, clock)
    _require_empty(connection, kept, len(kept.ledger.steps), replace=replace)
    with source.read() as rows:
        copy_rows(rows, connection, kept.ledger)
    taken()
    kept.ledger.verify(connection)


def _store_blobs(path: Path, blobs: Sequence[StoredFile], store: BlobStore, tell: Tell) -> None:
    """Until rows name them they are garbage: whatever happens now, nothing was changed."""
    wanted = {blob.sha256: blob for blob in blobs}
    for name, part in read_archive(path):
        blob = wanted.pop(name.removeprefix("blobs/"), None)
        if blob is not None:
            tell(f"storing file {len(blobs) - len(wanted)} of {len(blobs)}")
            _store_blob(part, blob, store)


def _store_blob(part: BinaryIO, blob: StoredFile, store: BlobStore) -> None:
    if _is_whole(store, blob):
        return
    with store.stage(lambda: _from_start(part)) as staged:
        if staged.file != blob:
            raise DataLoss(f"the backup's blob {blob.sha256} was changed meanwhile", hint=HINT, sha256=blob.sha256)
        staged.publish()


def _is_whole(store: BlobStore, blob: StoredFile) -> bool:
    """What lies there may be what made a restore necessary: it is read."""
    try:
        return store.size_of(blob.sha256) == blob.size and all(True for _ in verified_chunks(store, blob))
    except DataLoss:
        return False


@contextlib.contextmanager
def _from_start(part: BinaryIO) -> Iterator[BinaryIO]:
    """The part, rewound; it stays open, as it may be read twice."""
    part.seek(0)
    yield part


def _require_stored(blobs: Sequence[StoredFile], store: BlobStore) -> None:
    """Whoever collects garbage waits for us now; before, they might have taken what no row named yet."""
    for blob in blobs:
        if store.size_of(blob.sha256) != blob.size:
            raise FailedPrecondition(
                f"blob {blob.sha256} was collected as garbage meanwhile; nothing was restored",
                hint="restore again, and let `taxiway registry gc` wait",
                sha256=blob.sha256,
            )

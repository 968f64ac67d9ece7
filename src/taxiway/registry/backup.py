"""Backup and restore: every row and every blob in use, as of one moment, in a form that both databases read.

The registry goes on working while it is backed up: the tables are read in one transaction, and blobs in use never
change. A restore proves everything before it is committed: the digest of each table and blob, the chain of the audit
log, and the state that the log tells.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from sqlalchemy import Connection, column, insert, select, table, update
from sqlalchemy.exc import SQLAlchemyError

from taxiway.core.clock import Clock
from taxiway.core.errors import AlreadyExists, DataLoss, InvalidArgument, SchemaTooNew
from taxiway.registry import schema, verifying
from taxiway.registry.archive import new_archive, read_archive
from taxiway.registry.audit import change
from taxiway.registry.blobs import CHUNK_BYTES, BlobStore, verified_chunks
from taxiway.registry.canonical import canonical_json, time_text
from taxiway.registry.database import Database
from taxiway.registry.migrations import LATEST, migrate, schema_of
from taxiway.registry.nouns import StoredFile

FORMAT: Final = 1
HEADER: Final = "registry.json"

_TABLES: Final = (
    *("model", "version", "variant", "idempotency", "alias", "alias_move"),
    *("tag", "edge", "blob", "blob_use", "audit", "head"),
    *("outbox", "mirror", "followed"),
)
"""In the order in which their rows refer to each other."""

_ROWS_AT_ONCE: Final = 500
_HEADER_BYTES: Final = 1 << 20
_MAX_SAID: Final = 200


def back_up(database: Database, store: BlobStore, clock: Clock, path: Path) -> dict[str, Any]:
    """Write it; returns the header, which says what is in it."""
    with tempfile.TemporaryDirectory(prefix="taxiway-backup-") as folder, new_archive(path) as archive:
        with database.read() as connection:
            header = _dump(connection, Path(folder)) | {"written_at": time_text(clock.now_utc())}
        blobs = list(_blobs(Path(folder)))
        header |= {"blobs": len(blobs), "bytes": sum(blob.size for blob in blobs)}
        text = canonical_json(header).encode()
        archive.add(HEADER, len(text), [text])
        for name in header["tables"]:
            part = Path(folder) / name
            archive.add(f"tables/{name}.jsonl", part.stat().st_size, _chunks_of(part))
        for blob in blobs:
            archive.add(f"blobs/{blob.sha256}", blob.size, verified_chunks(store, blob))
    return header


def _dump(connection: Connection, folder: Path) -> dict[str, Any]:
    tables = {}
    for name in _TABLES:
        digest, rows = hashlib.sha256(), 0
        with (folder / name).open("wb") as file:
            for row in _rows(connection, name):
                line = f"{canonical_json(row)}\n".encode()
                digest.update(line)
                file.write(line)
                rows += 1
        tables[name] = {"rows": rows, "sha256": digest.hexdigest()}
    return {"format": FORMAT, "schema": schema_of(connection), "tables": tables}


def _rows(connection: Connection, name: str) -> Iterator[dict[str, Any]]:
    """Rows in a fixed order: the same registry is dumped as the same text. Blobs that nothing uses stay behind."""
    source = schema.metadata.tables[f"{schema.PREFIX}{name}"]
    query = select(source).order_by(*source.c).execution_options(yield_per=_ROWS_AT_ONCE)
    if name == "blob":
        query = query.where(source.c.sha256.in_(select(schema.blob_use.c.sha256)))
    with connection.execute(query) as rows:
        for row in rows.mappings():
            yield dict(row)


def _blobs(folder: Path) -> Iterator[StoredFile]:
    for row in _lines(folder / "blob"):
        yield StoredFile(row["sha256"], row["size"])


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for line in file:
            yield json.loads(line)


def _chunks_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


# --- restoring -----------------------------------------------------------------------------------------


def restore(database: Database, store: BlobStore, clock: Clock, path: Path, actor: str) -> dict[str, Any]:
    """Fill an empty registry from a backup; returns its header.

    Raises:
        AlreadyExists: the registry is not empty.
        DataLoss: a part is missing or damaged; the registry is as empty as before.
        SchemaTooNew: a later release wrote the backup.
    """
    now = time_text(clock.now_utc())
    with tempfile.TemporaryDirectory(prefix="taxiway-restore-") as name, _foreign(path):
        folder = Path(name)
        parts = read_archive(path)
        header = _read_header(parts, path)
        _prepare(database, header["schema"], now)
        _require_blobs(folder, _take_parts(parts, header, folder, store))
        with database.write() as connection:
            _require_empty(connection, database)
            _fill(connection, folder, [name for name in _TABLES if name in header["tables"]])
            verifying.verify_audit(connection)
    migrate(database, now)
    with change(database, clock, actor) as this:
        this.tell("registry-restored", path.name, {"written_at": header.get("written_at"), "entries": this.seq - 1})
    return header


@contextlib.contextmanager
def _foreign(path: Path) -> Iterator[None]:
    """Whatever else a backup that somebody made by hand makes us stumble over is damage of it."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, SQLAlchemyError) as problem:
        told = str(problem).split("\n", 1)[0][:_MAX_SAID]
        raise DataLoss(f"{path} is no whole backup: {type(problem).__name__}: {told}", hint=_HINT) from problem


def _read_header(parts: Iterator[tuple[str, BinaryIO]], path: Path) -> dict[str, Any]:
    name, part = next(parts, ("", None))
    try:
        header = json.loads(part.read(_HEADER_BYTES)) if part is not None and name == HEADER else {}
    except ValueError:
        header = {}
    if not isinstance(header, dict) or header.get("format") != FORMAT or not _is_schema(header.get("schema")):
        raise InvalidArgument(f"{path} is not a backup of a registry", hint="name what `registry backup` wrote")
    if header["schema"] > LATEST:
        found = header["schema"]
        raise SchemaTooNew(
            f"{path} is of schema {found}, and this release knows up to {LATEST}",
            hint="use the release that wrote it, or a later one",
            found=found,
            known=LATEST,
        )
    return header


def _is_schema(number: object) -> bool:
    return type(number) is int and number > 0


def _prepare(database: Database, wanted: int, now: str) -> None:
    """An empty registry with the tables of the backup's time; the later steps come after its rows."""
    migrate(database, now, to=wanted)
    with database.read() as connection:
        _require_empty(connection, database)
        found = schema_of(connection)
    if found != wanted:
        raise AlreadyExists(
            f"the registry {database.url} is of schema {found}, the backup of {wanted}",
            hint="restore into a database that has no registry yet",
        )


def _require_empty(connection: Connection, database: Database) -> None:
    if connection.scalar(select(schema.head.c.seq)):
        raise AlreadyExists(
            f"the registry {database.url} is not empty",
            hint="restore into a new one: --registry.url and --registry.blobs",
        )


def _take_parts(
    parts: Iterator[tuple[str, BinaryIO]], header: dict[str, Any], folder: Path, store: BlobStore
) -> set[str]:
    """Tables to `folder`, blobs to the store, each proven; returns the blobs' digests."""
    blobs: set[str] = set()
    tables: dict[str, Any] = dict(header["tables"])
    for name, part in parts:
        kind, _, rest = name.partition("/")
        if kind == "tables" and rest.removesuffix(".jsonl") in _TABLES:
            _take_table(part, rest.removesuffix(".jsonl"), tables, folder)
        elif kind == "blobs":
            _take_blob(part, rest, store)
            blobs.add(rest)
        else:
            raise InvalidArgument(f"{name!r} does not belong into a backup", hint="name what `registry backup` wrote")
    if tables:
        raise DataLoss(f"the backup lacks its table {next(iter(tables))}", hint=_HINT)
    return blobs


_HINT: Final = "the backup is damaged, and nothing was restored; take another one"


def _take_table(part: BinaryIO, name: str, tables: dict[str, Any], folder: Path) -> None:
    digest = hashlib.sha256()
    with (folder / name).open("wb") as file:
        while chunk := part.read(CHUNK_BYTES):
            digest.update(chunk)
            file.write(chunk)
    if digest.hexdigest() != tables.pop(name, {}).get("sha256"):
        raise DataLoss(f"the backup's table {name} is damaged", hint=_HINT, table=name)


def _take_blob(part: BinaryIO, sha256: str, store: BlobStore) -> None:
    with store.stage(lambda: _from_start(part)) as staged:
        if staged.file.sha256 != sha256:
            raise DataLoss(f"the backup's blob {sha256} is damaged", hint=_HINT, sha256=sha256)
        if store.size_of(sha256) != staged.file.size:
            staged.publish()


@contextlib.contextmanager
def _from_start(part: BinaryIO) -> Iterator[BinaryIO]:
    """The part, rewound; it stays open, as it may be read twice."""
    part.seek(0)
    yield part


def _require_blobs(folder: Path, found: set[str]) -> None:
    for blob in _blobs(folder):
        if blob.sha256 not in found:
            raise DataLoss(f"the backup lacks blob {blob.sha256}", hint=_HINT, sha256=blob.sha256)


def _fill(connection: Connection, folder: Path, tables: Iterable[str]) -> None:
    """The backup of an earlier release lacks the tables that came later."""
    for name in tables:
        for rows in _batches(_lines(folder / name)):
            columns = list(rows[0])
            target = table(f"{schema.PREFIX}{name}", *map(column, columns))
            if name == "head":
                connection.execute(update(target).values(rows[0]))
            else:
                connection.execute(insert(target), rows)


def _batches(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _ROWS_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch

"""Which blobs stay: the bookkeeping that lets ten writers and the garbage collector work on one store at once.

A blob is *wanted* (a writer is about to store it), *stored*, or *condemned* (the collector is about to delete it). The
database is told before the store is touched, so that whatever is killed at whatever moment, two things hold: a version
names only blobs that are stored, and a stored blob is never deleted while it is in use or was touched a short time ago.

What is noted here need not wait for the disk: only the registration that follows relies on it, and that one waits.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sqlalchemy import Connection, insert, select, update

from taxiway.core.clock import Clock
from taxiway.core.errors import BlobMissing
from taxiway.registry import schema
from taxiway.registry.blobs import BlobStore, Opener
from taxiway.registry.canonical import time_text
from taxiway.registry.database import Database
from taxiway.registry.nouns import FileEntry, StoredFile

_AT_ONCE: Final = 500
"""Parameters of one statement."""


def keep(database: Database, store: BlobStore, clock: Clock, open_: Opener) -> StoredFile:
    """Store bytes, once: bytes that are there already are not written again."""
    with store.stage(open_) as staged:
        state = _want(database, clock, staged.file)
        there = store.size_of(staged.file.sha256) == staged.file.size
        if not there:
            staged.publish()
        if state != "stored":
            _confirm(database, staged.file)
        return staged.file


def _want(database: Database, clock: Clock, file: StoredFile) -> str:
    """Say that it is wanted, before looking whether it is there: from here on the collector leaves it alone."""
    touched = {"size": file.size, "touched_at": time_text(clock.now_utc())}
    with database.note() as connection:
        lock_writers(connection)
        this = schema.blob.c.sha256 == file.sha256
        found = connection.scalar(select(schema.blob.c.state).where(this))
        state = "stored" if found == "stored" else "wanted"
        if found is None:
            connection.execute(insert(schema.blob).values(sha256=file.sha256, state=state, **touched))
        else:
            connection.execute(update(schema.blob).where(this).values(state=state, **touched))
    return state


def _confirm(database: Database, file: StoredFile) -> None:
    stored = update(schema.blob).where(schema.blob.c.sha256 == file.sha256, schema.blob.c.state != "condemned")
    with database.note() as connection:
        lock_writers(connection)
        if connection.execute(stored.values(state="stored")).rowcount != 1:
            raise _missing(file.sha256, "was collected as garbage while it was stored")


def lock_writers(connection: Connection) -> None:
    """Wait for a change that is under way: in PostgreSQL there is no other order between writers."""
    connection.execute(select(schema.head.c.seq).with_for_update())


def require_stored(connection: Connection, files: Iterable[FileEntry]) -> None:
    """Within a change: every file is stored, with the size it is said to have.

    Raises:
        BlobMissing: one is not.
    """
    wanted = {file.sha256: file for file in files}
    names = list(wanted)
    for start in range(0, len(names), _AT_ONCE):
        query = select(schema.blob).where(schema.blob.c.sha256.in_(names[start : start + _AT_ONCE]))
        for row in connection.execute(query):
            if row.state == "stored" and row.size == wanted[row.sha256].size:
                del wanted[row.sha256]
    if wanted:
        file = next(iter(wanted.values()))
        raise _missing(file.sha256, f"({file.path}, {file.size} bytes) is not in the registry")


def record_use(connection: Connection, files: Iterable[FileEntry], name: str, number: int, variant: str) -> None:
    """Within a change: these blobs are in use from now on."""
    rows = [
        {"sha256": sha256, "name": name, "number": number, "variant": variant}
        for sha256 in sorted({file.sha256 for file in files})
    ]
    connection.execute(insert(schema.blob_use), rows)


def _missing(sha256: str, what: str) -> BlobMissing:
    return BlobMissing(f"blob {sha256} {what}", hint="put the file again, then register", sha256=sha256)

"""Deleting blobs that no version uses, while others go on writing.

First such blobs are *condemned*, then, a few at a time and alone, they are deleted: a writer that wants one of them in
between takes it back (keeping.py). What was touched within the grace period is left alone: its writer may be about to
register it.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, delete, exists, insert, select, update

from taxiway.core.clock import Clock
from taxiway.registry import schema
from taxiway.registry.audit import change
from taxiway.registry.blobs import BlobStore
from taxiway.registry.canonical import time_text
from taxiway.registry.database import Database
from taxiway.registry.keeping import lock_writers
from taxiway.registry.nouns import StoredFile

GRACE_S: Final = 86400.0

_AT_ONCE: Final = 16
"""Blobs deleted while others wait to write: an object store takes some 50 ms for each."""


@dataclass(frozen=True, slots=True)
class Garbage:
    """What was deleted, or would be.

    Attributes:
        blobs: that no version used, untouched for the grace period.
        unknown: blobs in the store that the database had never heard of; they are looked at again next time.
        swept: files that killed writers had left half written.
    """

    blobs: tuple[StoredFile, ...]
    unknown: int
    swept: int

    @property
    def size(self) -> int:
        """Bytes of all blobs together."""
        return sum(blob.size for blob in self.blobs)


def find_garbage(database: Database, store: BlobStore, clock: Clock, grace_s: float) -> Garbage:
    """What `collect_garbage` would delete; changes nothing."""
    with database.read() as connection:
        blobs = _unused(connection, _before(clock, grace_s), None)
        return Garbage(tuple(blobs), len(_unknown(connection, store)), 0)


def collect_garbage(database: Database, store: BlobStore, clock: Clock, grace_s: float, actor: str) -> Garbage:
    """Delete what is not used and was not touched for `grace_s`."""
    unknown = _adopt(database, store, clock)
    deleted: list[StoredFile] = []
    before = _before(clock, grace_s)
    while condemned := _condemn(database, before):
        deleted += _delete(database, store, clock, actor, condemned)
    return Garbage(tuple(deleted), unknown, store.sweep())


def _before(clock: Clock, grace_s: float) -> str:
    return time_text(clock.now_utc() - dt.timedelta(seconds=grace_s))


def _unused(connection: Connection, before: str, limit: int | None) -> list[StoredFile]:
    here = schema.blob.c
    used = exists().where(schema.blob_use.c.sha256 == here.sha256)
    query = select(here.sha256, here.size).where(here.touched_at <= before, ~used).order_by(here.sha256)
    return [StoredFile(*row) for row in connection.execute(query.limit(limit))]


def _condemn(database: Database, before: str) -> list[StoredFile]:
    with database.write() as connection:
        lock_writers(connection)
        found = _unused(connection, before, _AT_ONCE)
        these = schema.blob.c.sha256.in_([blob.sha256 for blob in found])
        connection.execute(update(schema.blob).where(these).values(state="condemned"))
    return found


def _delete(
    database: Database, store: BlobStore, clock: Clock, actor: str, condemned: list[StoredFile]
) -> list[StoredFile]:
    here = schema.blob.c
    these = here.sha256.in_([blob.sha256 for blob in condemned]) & (here.state == "condemned")
    with change(database, clock, actor) as this:
        still = set(this.connection.scalars(select(here.sha256).where(these)))
        gone = [blob for blob in condemned if blob.sha256 in still]
        for blob in gone:
            store.delete(blob.sha256)
        this.connection.execute(delete(schema.blob).where(these))
        if gone:
            said = {"blobs": [blob.sha256 for blob in gone], "bytes": sum(blob.size for blob in gone)}
            this.tell("garbage-collected", store.url, said)
    return gone


def _unknown(connection: Connection, store: BlobStore) -> list[StoredFile]:
    known = set(connection.scalars(select(schema.blob.c.sha256)))
    return [blob for blob in store.stored() if blob.sha256 not in known]


def _adopt(database: Database, store: BlobStore, clock: Clock) -> int:
    """A blob without a row came past us: it gets one, and with it the grace period."""
    with database.read() as connection:
        unknown = _unknown(connection, store)
    now = time_text(clock.now_utc())
    with database.write() as connection:
        lock_writers(connection)
        known = set(connection.scalars(select(schema.blob.c.sha256)))
        rows = [
            {"sha256": blob.sha256, "size": blob.size, "state": "wanted", "touched_at": now}
            for blob in unknown
            if blob.sha256 not in known
        ]
        if rows:
            connection.execute(insert(schema.blob), rows)
    return len(rows)

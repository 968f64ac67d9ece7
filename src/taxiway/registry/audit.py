"""The log of changes: appended, never edited, each entry's hash covering the one before it.

A change is one transaction: what it does to the tables, and the entry that tells of it. There is no way to write to the
registry's tables but through `change()`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, insert, select, update

from taxiway.core.clock import Clock
from taxiway.core.errors import AuditBroken
from taxiway.registry import schema
from taxiway.registry.canonical import canonical_json, checked_text, digest_of, read_json, read_time, time_text
from taxiway.registry.database import Database
from taxiway.registry.migrating import GENESIS
from taxiway.registry.nouns import AuditEntry

_PAGE: Final = 1000


@dataclass(slots=True)
class Change:
    """One change under way, alone. `seq` and `at` are those that its audit entry will have."""

    connection: Connection
    seq: int
    at: str
    actor: str
    prev_hash: str

    def tell(self, kind: str, subject: str, payload: Mapping[str, Any]) -> None:
        """Append the entry: once, as the last thing of the change."""
        text = canonical_json(payload)
        digest = entry_hash(self.prev_hash, self.seq, self.at, self.actor, kind, subject, text)
        self.connection.execute(
            insert(schema.audit).values(
                seq=self.seq,
                at=self.at,
                actor=self.actor,
                kind=kind,
                subject=subject,
                payload=text,
                prev_hash=self.prev_hash,
                hash=digest,
            )
        )
        self.connection.execute(update(schema.head).values(seq=self.seq, at=self.at, hash=digest))


def entry_hash(prev_hash: str, seq: int, at: str, actor: str, kind: str, subject: str, payload: str) -> str:
    """The hash of an entry, from the hash of the one before it and everything it says."""
    return digest_of(canonical_json([prev_hash, seq, at, actor, kind, subject, payload])).removeprefix("sha256:")


@contextlib.contextmanager
def change(database: Database, clock: Clock, actor: str) -> Iterator[Change]:
    """Begin a change: waits until nobody else has one under way. Without `tell` in it nothing must be changed.

    Time never goes back in the log, even where the machine's clock does: what was serving at a moment stays answerable.
    """
    checked_text("actor", actor, at_most=256)
    with database.write() as connection:
        head = connection.execute(select(schema.head).with_for_update()).one()
        at = max(time_text(clock.now_utc()), head.at)
        yield Change(connection, head.seq + 1, at, actor, head.hash)


# --- reading -------------------------------------------------------------------------------------------


def entries(connection: Connection, *, after: int = 0, limit: int = _PAGE) -> list[AuditEntry]:
    """Entries in the order they were written, those after number `after`."""
    query = select(schema.audit).where(schema.audit.c.seq > after).order_by(schema.audit.c.seq).limit(limit)
    return [read_entry(row) for row in connection.execute(query)]


def latest(connection: Connection, *, before: int | None, limit: int) -> list[AuditEntry]:
    """Entries, the last one first; those before number `before`."""
    query = select(schema.audit).order_by(schema.audit.c.seq.desc()).limit(limit)
    if before is not None:
        query = query.where(schema.audit.c.seq < before)
    return [read_entry(row) for row in connection.execute(query)]


def read_entry(row: Row[Any]) -> AuditEntry:
    """An entry from its row."""
    return AuditEntry(
        row.seq, read_time(row.at), row.actor, row.kind, row.subject, read_json(row.payload), row.prev_hash, row.hash
    )


def verify_chain(connection: Connection) -> Iterator[AuditEntry]:
    """Every entry, in order, each one checked.

    Raises:
        AuditBroken: an entry was changed, added or taken away; names the first.
    """
    seq, prev_hash = 0, GENESIS
    query = select(schema.audit).order_by(schema.audit.c.seq).execution_options(yield_per=_PAGE)
    with connection.execute(query) as rows:
        for row in rows:
            _check_link(row, seq, prev_hash)
            seq, prev_hash = row.seq, row.hash
            yield read_entry(row)
    head = connection.execute(select(schema.head)).one_or_none()
    if head is None or (head.seq, head.hash) != (seq, prev_hash):
        last = "no head" if head is None else f"entry {head.seq}"
        raise _broken(seq + 1, f"is missing: the log ends with {seq}, and its last one was {last}")


def _check_link(row: Row[Any], last_seq: int, last_hash: str) -> None:
    if row.seq != last_seq + 1:
        raise _broken(last_seq + 1, f"is missing; after {last_seq} comes {row.seq}")
    if row.prev_hash != last_hash:
        raise _broken(row.seq, "does not follow from the one before it")
    if row.hash != entry_hash(last_hash, row.seq, row.at, row.actor, row.kind, row.subject, row.payload):
        raise _broken(row.seq, "was changed after it was written")


def _broken(seq: int, what: str) -> AuditBroken:
    return AuditBroken(
        f"audit entry {seq} {what}",
        hint="somebody wrote to the database past taxiway; compare with a backup before you trust the registry",
        seq=seq,
    )

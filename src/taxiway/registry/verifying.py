"""Whether the registry is what it says it is: the log's chain, the state that it tells, every byte of every blob."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, select

from taxiway.core.errors import AuditBroken, DataLoss
from taxiway.registry import schema
from taxiway.registry.audit import verify_chain
from taxiway.registry.blobs import BlobStore, verified_chunks
from taxiway.registry.canonical import canonical_json, digest_of, read_json
from taxiway.registry.database import Database
from taxiway.registry.migrations import schema_of
from taxiway.registry.nouns import AuditEntry, StoredFile, ref_text
from taxiway.registry.outbox import letter_digest
from taxiway.registry.replaying import Told, followed_text, replay


@dataclass(frozen=True, slots=True)
class Damage:
    """A blob that is not what it should be, and who needs it."""

    blob: StoredFile
    problem: str
    used_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BlobReport:
    """What reading every blob showed."""

    blobs: int
    size: int
    damaged: tuple[Damage, ...]


def verify_audit(connection: Connection) -> int:
    """Check the log, and that the tables hold what it tells; returns how many entries there are.

    Raises:
        AuditBroken: names the first entry, or the first piece of state, that is not as it was written.
    """
    counted = _Counted(verify_chain(connection))
    told, found = replay(counted), _read_state(connection)
    for part in dataclasses.fields(Told):
        _compare(part.name, getattr(told, part.name), getattr(found, part.name))
    return counted.count


class _Counted:
    """An iterator that says how many it gave."""

    def __init__(self, entries: Iterator[AuditEntry]) -> None:
        self.count = 0
        self._entries = entries

    def __iter__(self) -> Iterator[AuditEntry]:
        for entry in self._entries:
            self.count += 1
            yield entry


def _compare(part: str, told: dict[str, str], found: dict[str, str]) -> None:
    for key in sorted(told.keys() | found.keys()):
        if told.get(key) != found.get(key):
            raise AuditBroken(
                f"{part}: {key} is {found.get(key, 'not there')}; the audit log says {told.get(key, 'nothing of it')}",
                hint="somebody wrote to the database past taxiway; compare with a backup before you trust the registry",
                part=part,
                subject=key,
            )


def _read_state(connection: Connection) -> Told:
    """What the tables hold; a backup of an earlier release is read before it has the later tables."""
    found = schema_of(connection)
    return Told(**{name: dict(read(connection)) for name, (since, read) in _READERS.items() if found >= since})


def _models(connection: Connection) -> Iterator[tuple[str, str]]:
    for row in connection.execute(select(schema.model)):
        yield row.name, str(row.last_number)


def _versions(connection: Connection) -> Iterator[tuple[str, str]]:
    for row in connection.execute(select(schema.version)):
        digest = digest_of(row.manifest)
        parts = [row.name, digest, row.framework, *map(read_json, (row.signature, row.origin, row.facts))]
        said = digest if digest == row.digest else f"{row.digest}, with files of {digest},"
        yield ref_text(row.name, row.number), f"{said} {digest_of(canonical_json(parts))}"


def _variants(connection: Connection) -> Iterator[tuple[str, str]]:
    for row in connection.execute(select(schema.variant)):
        ref = ref_text(row.name, row.number, row.variant)
        yield ref, f"{digest_of(row.manifest)} {row.parent} {read_json(row.recipe)}"


def _aliases(connection: Connection) -> Iterator[tuple[str, str]]:
    for row in connection.execute(select(schema.alias)):
        yield f"{row.name}@{row.alias}", str(row.number)


def _moves(connection: Connection) -> Iterator[tuple[str, str]]:
    for row in connection.execute(select(schema.alias_move)):
        yield str(row.seq), f"{row.name}@{row.alias} {row.from_number} {row.to_number} {row.by} {row.why}"


def _tags(connection: Connection) -> Iterator[tuple[str, str]]:
    for row in connection.execute(select(schema.tag)):
        ref = ref_text(row.name, row.number) if row.number else row.name
        yield f"{ref} {row.key}", row.value


def _lineage(connection: Connection) -> Iterator[tuple[str, str]]:
    for row in connection.execute(select(schema.edge)):
        yield str(row.seq), f"{row.child} {row.kind} {row.parent}"


def _mirrors(connection: Connection) -> Iterator[tuple[str, str]]:
    for row in connection.execute(select(schema.mirror)):
        yield f"{row.target} {row.name}", "on"


def _letters(connection: Connection) -> Iterator[tuple[str, str]]:
    for row in connection.execute(select(schema.outbox)):
        yield str(row.id), letter_digest(row.target, row.kind, row.subject, row.args)


def _followed(connection: Connection) -> Iterator[tuple[str, str]]:
    for row in connection.execute(select(schema.followed)).mappings():
        yield f"{row['source']} {row['name']}@{row['alias']}", followed_text(dict(row))


_READERS: dict[str, tuple[int, Callable[[Connection], Iterator[tuple[str, str]]]]] = {
    "models": (1, _models),
    "versions": (1, _versions),
    "variants": (1, _variants),
    "aliases": (1, _aliases),
    "moves": (1, _moves),
    "tags": (1, _tags),
    "lineage": (1, _lineage),
    "mirrors": (2, _mirrors),
    "letters": (2, _letters),
    "followed": (2, _followed),
}
"""For each piece of state: the migration that made its table, and who reads it."""


# --- blobs ---------------------------------------------------------------------------------------------


def verify_blobs(database: Database, store: BlobStore) -> BlobReport:
    """Read every blob that is said to be stored."""
    with database.read() as connection:
        query = select(schema.blob.c.sha256, schema.blob.c.size).where(schema.blob.c.state == "stored")
        blobs = [StoredFile(*row) for row in connection.execute(query.order_by(schema.blob.c.sha256))]
        users = _users(connection)
    damaged = [
        Damage(blob, problem, tuple(users.get(blob.sha256, ())))
        for blob in blobs
        if (problem := _problem_of(store, blob))
    ]
    return BlobReport(len(blobs), sum(blob.size for blob in blobs), tuple(damaged))


def _problem_of(store: BlobStore, blob: StoredFile) -> str:
    try:
        for _ in verified_chunks(store, blob):
            pass
    except DataLoss as loss:
        return loss.message
    return ""


def _users(connection: Connection) -> dict[str, list[str]]:
    here = schema.blob_use.c
    found: dict[str, list[str]] = {}
    for row in connection.execute(select(schema.blob_use).order_by(here.name, here.number, here.variant)):
        found.setdefault(row.sha256, []).append(ref_text(row.name, row.number, row.variant))
    return found

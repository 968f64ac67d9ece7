"""How the registry's tables came to be, step by step; migrating.py takes the steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection

from taxiway.registry import migrating
from taxiway.registry.database import Database
from taxiway.registry.migrating import GENESIS, Migration
from taxiway.registry.schema import migration

_FIRST = Migration(
    "models, versions, aliases, lineage, blobs, audit",
    (
        """CREATE TABLE taxiway_model (name {text} NOT NULL PRIMARY KEY, last_number BIGINT NOT NULL,
        created_at {text} NOT NULL, created_by {text} NOT NULL, changed_at {text} NOT NULL)""",
        """CREATE TABLE taxiway_version (name {text} NOT NULL REFERENCES taxiway_model (name), number BIGINT NOT NULL,
        digest {text} NOT NULL, manifest {text} NOT NULL, framework {text} NOT NULL, signature {text} NOT NULL,
        origin {text} NOT NULL, facts {text} NOT NULL, created_at {text} NOT NULL, created_by {text} NOT NULL,
        seq BIGINT NOT NULL, PRIMARY KEY (name, number), UNIQUE (name, digest), CHECK (number > 0))""",
        """CREATE TABLE taxiway_variant (name {text} NOT NULL, number BIGINT NOT NULL, variant {text} NOT NULL,
        digest {text} NOT NULL, manifest {text} NOT NULL, recipe {text} NOT NULL, parent {text} NOT NULL,
        created_at {text} NOT NULL, created_by {text} NOT NULL, seq BIGINT NOT NULL,
        PRIMARY KEY (name, number, variant), FOREIGN KEY (name, number) REFERENCES taxiway_version (name, number))""",
        """CREATE TABLE taxiway_idempotency (name {text} NOT NULL, key {text} NOT NULL, number BIGINT NOT NULL,
        request {text} NOT NULL, PRIMARY KEY (name, key),
        FOREIGN KEY (name, number) REFERENCES taxiway_version (name, number))""",
        """CREATE TABLE taxiway_alias (name {text} NOT NULL, alias {text} NOT NULL, number BIGINT NOT NULL,
        seq BIGINT NOT NULL, PRIMARY KEY (name, alias),
        FOREIGN KEY (name, number) REFERENCES taxiway_version (name, number))""",
        """CREATE TABLE taxiway_alias_move (seq BIGINT NOT NULL PRIMARY KEY, name {text} NOT NULL,
        alias {text} NOT NULL, from_number BIGINT, to_number BIGINT, at {text} NOT NULL, by {text} NOT NULL,
        why {text} NOT NULL,
        FOREIGN KEY (name, from_number) REFERENCES taxiway_version (name, number),
        FOREIGN KEY (name, to_number) REFERENCES taxiway_version (name, number))""",
        "CREATE INDEX taxiway_alias_move_of ON taxiway_alias_move (name, alias, seq)",
        """CREATE TABLE taxiway_tag (name {text} NOT NULL REFERENCES taxiway_model (name), number BIGINT NOT NULL,
        key {text} NOT NULL, value {text} NOT NULL, seq BIGINT NOT NULL, PRIMARY KEY (name, number, key))""",
        """CREATE TABLE taxiway_edge (seq BIGINT NOT NULL PRIMARY KEY, child {text} NOT NULL, kind {text} NOT NULL,
        parent {text} NOT NULL, facts {text} NOT NULL, at {text} NOT NULL, by {text} NOT NULL,
        UNIQUE (child, kind, parent))""",
        "CREATE INDEX taxiway_edge_parent ON taxiway_edge (parent)",
        """CREATE TABLE taxiway_blob (sha256 {text} NOT NULL PRIMARY KEY, size BIGINT NOT NULL, state {text} NOT NULL,
        touched_at {text} NOT NULL, CHECK (state IN ('wanted', 'stored', 'condemned')))""",
        """CREATE TABLE taxiway_blob_use (sha256 {text} NOT NULL REFERENCES taxiway_blob (sha256), name {text} NOT NULL,
        number BIGINT NOT NULL, variant {text} NOT NULL, PRIMARY KEY (sha256, name, number, variant),
        FOREIGN KEY (name, number) REFERENCES taxiway_version (name, number))""",
        """CREATE TABLE taxiway_audit (seq BIGINT NOT NULL PRIMARY KEY, at {text} NOT NULL, actor {text} NOT NULL,
        kind {text} NOT NULL, subject {text} NOT NULL, payload {text} NOT NULL, prev_hash {text} NOT NULL,
        hash {text} NOT NULL UNIQUE)""",
        "CREATE INDEX taxiway_audit_subject ON taxiway_audit (subject, seq)",
        """CREATE TABLE taxiway_head (id BIGINT NOT NULL PRIMARY KEY, seq BIGINT NOT NULL, at {text} NOT NULL,
        hash {text} NOT NULL, CHECK (id = 1))""",
        f"INSERT INTO taxiway_head (id, seq, at, hash) VALUES (1, 0, '', '{GENESIS}')",  # noqa: S608 - a constant
    ),
)

_SECOND = Migration(
    "what others are told: outbox, mirrors, followed aliases",
    (
        """CREATE TABLE taxiway_outbox (id BIGINT NOT NULL PRIMARY KEY, target {text} NOT NULL, kind {text} NOT NULL,
        subject {text} NOT NULL, args {text} NOT NULL, created_at {text} NOT NULL, done_at {text},
        tries BIGINT NOT NULL, not_before {text} NOT NULL, problem {text} NOT NULL)""",
        "CREATE INDEX taxiway_outbox_waiting ON taxiway_outbox (target, subject, id) WHERE done_at IS NULL",
        "CREATE INDEX taxiway_outbox_subject ON taxiway_outbox (target, subject, id)",
        """CREATE TABLE taxiway_mirror (target {text} NOT NULL, name {text} NOT NULL, seq BIGINT NOT NULL,
        PRIMARY KEY (target, name))""",
        """CREATE TABLE taxiway_followed (source {text} NOT NULL, name {text} NOT NULL, alias {text} NOT NULL,
        seen {text} NOT NULL, outcome {text} NOT NULL, number BIGINT, placed BIGINT, terms {text} NOT NULL,
        problem {text} NOT NULL, at {text} NOT NULL, seq BIGINT NOT NULL, PRIMARY KEY (source, name, alias))""",
    ),
)

MIGRATIONS: Final[Sequence[Migration]] = (_FIRST, _SECOND)
LATEST: Final = len(MIGRATIONS)


def schema_of(connection: Connection) -> int:
    """The last step that was taken in this database; 0: it has no tables of the registry."""
    return migrating.schema_of(connection, migration)


def migrate(database: Database, now: str, *, to: int = LATEST) -> None:
    """Take the steps that are missing, up to `to`. Any number of processes may do so at once.

    Raises:
        SchemaTooNew: a later release was here, which knows better than this one what the rows mean.
    """
    migrating.migrate(database, MIGRATIONS, migration, now, to=to)

"""How the journal's tables came to be, step by step; registry/migrating.py takes the steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection

from taxiway.registry import migrating
from taxiway.registry.database import Database
from taxiway.registry.migrating import GENESIS, Migration
from taxiway.rollout import schema

_FIRST = Migration(
    "rollouts, their chain of events, evidence, commands, the outbox, the lease",
    (
        """CREATE TABLE taxiway_rollout_head (id BIGINT NOT NULL PRIMARY KEY, seq BIGINT NOT NULL,
        at_ns BIGINT NOT NULL, hash {text} NOT NULL, CHECK (id = 1))""",
        f"INSERT INTO taxiway_rollout_head (id, seq, at_ns, hash) VALUES (1, 0, 0, '{GENESIS}')",  # noqa: S608
        """CREATE TABLE taxiway_rollout_lease (id BIGINT NOT NULL PRIMARY KEY, fencing BIGINT NOT NULL,
        beat BIGINT NOT NULL, name {text} NOT NULL, machine {text} NOT NULL, pid BIGINT NOT NULL,
        started BIGINT NOT NULL, taken_at_ns BIGINT NOT NULL, expires_at_ns BIGINT NOT NULL, CHECK (id = 1))""",
        """INSERT INTO taxiway_rollout_lease (id, fencing, beat, name, machine, pid, started, taken_at_ns,
        expires_at_ns) VALUES (1, 0, 0, '', '', 0, 0, 0, 0)""",
        """CREATE TABLE taxiway_rollout_state (id {text} NOT NULL PRIMARY KEY, service {text} NOT NULL,
        generation BIGINT NOT NULL, phase {text} NOT NULL, active BIGINT NOT NULL, opened BIGINT NOT NULL,
        entered BIGINT NOT NULL, moved BIGINT NOT NULL, state {text} NOT NULL,
        CHECK (generation > 0), CHECK (active IN (0, 1)))""",
        "CREATE UNIQUE INDEX taxiway_rollout_one_active ON taxiway_rollout_state (service) WHERE active = 1",
        "CREATE INDEX taxiway_rollout_of_service ON taxiway_rollout_state (service, opened)",
        "CREATE INDEX taxiway_rollout_opened ON taxiway_rollout_state (opened)",
        """CREATE TABLE taxiway_rollout_candidate (rollout {text} NOT NULL REFERENCES taxiway_rollout_state (id),
        arm {text} NOT NULL, version BIGINT NOT NULL, digest {text} NOT NULL, PRIMARY KEY (rollout, arm))""",
        "CREATE INDEX taxiway_rollout_candidate_digest ON taxiway_rollout_candidate (digest)",
        """CREATE TABLE taxiway_rollout_event (seq BIGINT NOT NULL PRIMARY KEY,
        rollout {text} NOT NULL REFERENCES taxiway_rollout_state (id), generation BIGINT NOT NULL,
        kind {text} NOT NULL, actor {text} NOT NULL, at_ns BIGINT NOT NULL, payload {text} NOT NULL,
        facts {text} NOT NULL, prev_hash {text} NOT NULL, hash {text} NOT NULL UNIQUE,
        UNIQUE (rollout, generation))""",
        """CREATE TABLE taxiway_rollout_evidence (digest {text} NOT NULL PRIMARY KEY, size BIGINT NOT NULL,
        blob {bytes} NOT NULL)""",
        """CREATE TABLE taxiway_rollout_working (rollout {text} NOT NULL PRIMARY KEY
        REFERENCES taxiway_rollout_state (id), at_ns BIGINT NOT NULL, blob {bytes} NOT NULL)""",
        """CREATE TABLE taxiway_rollout_command (key {text} NOT NULL PRIMARY KEY, request {text} NOT NULL,
        outcome {text} NOT NULL, seq BIGINT NOT NULL, at_ns BIGINT NOT NULL)""",
        """CREATE TABLE taxiway_rollout_outbox (id BIGINT NOT NULL PRIMARY KEY, target {text} NOT NULL,
        kind {text} NOT NULL, subject {text} NOT NULL, args {text} NOT NULL, created_at {text} NOT NULL,
        done_at {text}, tries BIGINT NOT NULL, not_before {text} NOT NULL, problem {text} NOT NULL)""",
        """CREATE INDEX taxiway_rollout_outbox_waiting ON taxiway_rollout_outbox (target, subject, id)
        WHERE done_at IS NULL""",
        "CREATE INDEX taxiway_rollout_outbox_subject ON taxiway_rollout_outbox (target, subject, id)",
    ),
)

_SECOND = Migration(
    "what quality is judged by: answers, feedback, scores",
    (
        """CREATE TABLE taxiway_rollout_answer (id BIGINT NOT NULL PRIMARY KEY, service {text} NOT NULL,
        rollout {text} NOT NULL, arm {text} NOT NULL, segment BIGINT NOT NULL, request {text} NOT NULL,
        unit {text} NOT NULL, at_ns BIGINT NOT NULL, weight DOUBLE PRECISION NOT NULL, prediction {text} NOT NULL,
        UNIQUE (service, request, rollout))""",
        "CREATE INDEX taxiway_rollout_answer_order ON taxiway_rollout_answer (service, id)",
        "CREATE INDEX taxiway_rollout_answer_age ON taxiway_rollout_answer (at_ns)",
        """CREATE TABLE taxiway_rollout_feedback (id BIGINT NOT NULL PRIMARY KEY, service {text} NOT NULL,
        request {text} NOT NULL, kind {text} NOT NULL, value {text} NOT NULL, at_ns BIGINT NOT NULL,
        answer BIGINT NOT NULL, joined_at_ns BIGINT NOT NULL, UNIQUE (service, request, kind))""",
        """CREATE INDEX taxiway_rollout_feedback_ready ON taxiway_rollout_feedback (service, id)
        WHERE joined_at_ns = 0 AND answer > 0""",
        "CREATE INDEX taxiway_rollout_feedback_age ON taxiway_rollout_feedback (at_ns)",
        """CREATE TABLE taxiway_rollout_score (rollout {text} NOT NULL, number BIGINT NOT NULL, arm {text} NOT NULL,
        source {text} NOT NULL, segment BIGINT NOT NULL, request {text} NOT NULL, weight DOUBLE PRECISION NOT NULL,
        score DOUBLE PRECISION NOT NULL, other DOUBLE PRECISION, at_ns BIGINT NOT NULL,
        PRIMARY KEY (rollout, number))""",
    ),
)

MIGRATIONS: Final[Sequence[Migration]] = (_FIRST, _SECOND)
LATEST: Final = len(MIGRATIONS)


def schema_of(connection: Connection) -> int:
    """The last step that was taken in this database; 0: it has no tables of a journal."""
    return migrating.schema_of(connection, schema.migration)


def migrate(database: Database, now: str, *, to: int = LATEST) -> None:
    """Take the steps that are missing, up to `to`. Any number of processes may do so at once.

    Raises:
        SchemaTooNew: a later release was here.
    """
    migrating.migrate(database, MIGRATIONS, schema.migration, now, to=to)

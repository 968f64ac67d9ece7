"""Taking the steps that make tables what they are: numbered, forward only, each in a transaction of its own.

A step is never changed once it was released; a new one is appended. Its text is SQL that both databases read, where
`{text}` is text that sorts by code point (as SQLite does, and PostgreSQL when asked), and `{bytes}` is bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, Table, func, insert, inspect, select

from taxiway.core.errors import SchemaTooNew
from taxiway.registry.database import Database, Dialect

GENESIS: Final = "0" * 64
"""What the first entry of a log names as the hash before it."""

_TYPES: Final[dict[Dialect, dict[str, str]]] = {
    "sqlite": {"text": "TEXT", "bytes": "BLOB"},
    "postgresql": {"text": 'TEXT COLLATE "C"', "bytes": "BYTEA"},
}


@dataclass(frozen=True, slots=True)
class Migration:
    """One step. Its number is its place among all of them, from 1."""

    title: str
    statements: Sequence[str]


def schema_of(connection: Connection, log: Table) -> int:
    """The last step that was taken, by the table that logs them; 0: there are no such tables."""
    if not inspect(connection).has_table(log.name):
        return 0
    return connection.scalar(select(func.max(log.c.number))) or 0


def migrate(database: Database, steps: Sequence[Migration], log: Table, now: str, *, to: int) -> None:
    """Take the steps that are missing, up to `to`. Any number of processes may do so at once.

    Raises:
        SchemaTooNew: a later release was here, which knows better than this one what the rows mean.
    """
    with database.read() as connection:
        found = schema_of(connection, log)
    while found < to:
        with database.migrate() as connection:
            found = schema_of(connection, log)
            if found < to:
                _take(connection, steps[found], found + 1, log, now, database.dialect)
    if found > len(steps):
        raise SchemaTooNew(
            f"the tables of {database.purpose.noun} are of schema {found}, and this release knows up to {len(steps)}",
            hint="use the release that wrote them, or a later one",
            found=found,
            known=len(steps),
        )


def _take(connection: Connection, step: Migration, number: int, log: Table, now: str, dialect: Dialect) -> None:
    types = _TYPES[dialect]
    if number == 1:
        columns = "number BIGINT NOT NULL PRIMARY KEY, title {text} NOT NULL, at {text} NOT NULL".format(**types)
        connection.exec_driver_sql(f"CREATE TABLE {log.name} ({columns})")
    for statement in step.statements:
        connection.exec_driver_sql(statement.format(**types))
    connection.execute(insert(log).values(number=number, title=step.title, at=now))

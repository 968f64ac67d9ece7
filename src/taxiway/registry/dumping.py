"""A whole database as text that every database reads: a file for each table, a line of JSON for each row.

What has to be known of a database for that is its `Ledger`. There are two: the registry's (ledger.py), and that of the
journal of rollouts, in a room above this one. Columns are read from the database itself, so that what an earlier
release left is dumped as it is, and nothing of it is changed.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Table, column, delete, insert, inspect, select, table

from taxiway.core.clock import Clock
from taxiway.core.errors import DataLoss
from taxiway.registry import migrating
from taxiway.registry.canonical import canonical_json
from taxiway.registry.database import Database, Purpose
from taxiway.registry.migrating import Migration

HINT: Final = "the backup is damaged, and nothing was restored; take another one"

_ROWS_AT_ONCE: Final = 500
_BYTES: Final = "base64"


@dataclass(frozen=True, slots=True)
class Ledger:
    """A kind of database that has a chain of entries, and tables that hold what the chain tells.

    Attributes:
        name: what it is called in a backup.
        tables: in the order in which their rows refer to each other, without `prefix`; `head` is one of them.
        steps, log: how the tables came to be, and which table says so.
        verify: checks the chain and the tables; how many entries there are.
        contents: what is in a database of a schema, for people; empty: nothing.
        take_over: asked in the transaction that replaces its rows, before: refuses if somebody works there who cannot
            be disturbed. What it returns is called afterwards.
        kept: rows of a table that are worth keeping, where not all are.
    """

    name: str
    purpose: Purpose
    prefix: str
    tables: tuple[str, ...]
    steps: Sequence[Migration]
    log: Table
    verify: Callable[[Connection], int]
    contents: Callable[[Connection, int], str]
    take_over: Callable[[Connection, Clock], Callable[[], None]]
    kept: Mapping[str, ColumnElement[bool]] = field(default_factory=dict)

    def schema_of(self, connection: Connection) -> int:
        """The last step that was taken in a database; 0: it has none of these tables."""
        return migrating.schema_of(connection, self.log)

    def migrate(self, database: Database, now: str, *, to: int | None = None) -> None:
        """Take the steps that are missing, up to `to`; else all.

        Raises:
            SchemaTooNew: a later release was here.
        """
        migrating.migrate(database, self.steps, self.log, now, to=len(self.steps) if to is None else to)

    def head(self, connection: Connection) -> tuple[int, str]:
        """Number and hash of the last entry."""
        here = table(f"{self.prefix}head", column("seq"), column("hash"))
        found = connection.execute(select(here.c.seq, here.c.hash)).one()
        return int(found.seq), str(found.hash)


# --- a database to files -------------------------------------------------------------------------------


def dump(connection: Connection, ledger: Ledger, folder: Path) -> dict[str, Any]:
    """Write every table of one moment to `folder`; returns what was written. What is not there has schema 0."""
    tables = {}
    found = ledger.schema_of(connection)
    for name in ledger.tables if found else ():
        if inspect(connection).has_table(f"{ledger.prefix}{name}"):
            tables[name] = _write(folder / name, rows_of(connection, ledger, name))
    if not found:
        return nothing()
    seq, last = ledger.head(connection)
    return {"schema": found, "seq": seq, "hash": last, "holds": ledger.contents(connection, found), "tables": tables}


def nothing() -> dict[str, Any]:
    """What is said of a database that is not there."""
    return {"schema": 0, "seq": 0, "hash": migrating.GENESIS, "holds": "", "tables": {}}


def rows_of(connection: Connection, ledger: Ledger, name: str) -> Iterator[dict[str, Any]]:
    """Rows in a fixed order: the same database is dumped as the same text."""
    found, full = inspect(connection), f"{ledger.prefix}{name}"
    here = table(full, *(column(one["name"]) for one in found.get_columns(full)))
    key = [here.c[one] for one in found.get_pk_constraint(full)["constrained_columns"]]
    query = select(here).order_by(*key).execution_options(yield_per=_ROWS_AT_ONCE)
    if name in ledger.kept:
        query = query.where(ledger.kept[name])
    with connection.execute(query) as rows:
        for row in rows.mappings():
            yield dict(row)


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    digest, count = hashlib.sha256(), 0
    with path.open("wb") as file:
        for row in rows:
            line = f"{canonical_json({name: _said(value) for name, value in row.items()})}\n".encode()
            digest.update(line)
            file.write(line)
            count += 1
    return {"rows": count, "sha256": digest.hexdigest()}


def _said(value: object) -> object:
    """Text and numbers as they are; bytes in what JSON can hold."""
    return {_BYTES: base64.b64encode(value).decode()} if isinstance(value, bytes) else value


# --- files to a database -------------------------------------------------------------------------------


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file."""
    with path.open("rb") as file:
        for line in file:
            yield {name: _meant(value) for name, value in json.loads(line).items()}


def _meant(value: Any) -> Any:  # noqa: ANN401 - a cell
    return base64.b64decode(value[_BYTES], validate=True) if isinstance(value, dict) else value


def load(database: Database, ledger: Ledger, folder: Path, said: Mapping[str, Any], now: str) -> None:
    """Fill a database that nobody has used from what `dump` wrote, at its schema; then take the later steps.

    Raises:
        DataLoss: it is not what `dump` writes.
    """
    if said != nothing():
        ledger.migrate(database, now, to=said["schema"])
        with database.write() as connection:
            _require_shape(connection, ledger, folder, said["tables"])
            clear(connection, ledger, said["tables"])
            for name in ledger.tables:
                if name in said["tables"]:
                    fill(connection, ledger, name, read_rows(folder / name))
            if ledger.head(connection) != (said["seq"], said["hash"]):
                raise DataLoss(f"the backup's {ledger.name} does not end as it says", hint=HINT)
    ledger.migrate(database, now)


def _require_shape(connection: Connection, ledger: Ledger, folder: Path, tables: Iterable[str]) -> None:
    """The tables of the schema, neither more nor less, and in each the columns that its rows name."""
    found = inspect(connection)
    there = {name for name in ledger.tables if found.has_table(f"{ledger.prefix}{name}")}
    if odd := sorted(there ^ set(tables)):
        raise DataLoss(f"the backup's {ledger.name} and its schema differ in table {odd[0]}", hint=HINT, table=odd[0])
    for name in there:
        columns = {one["name"] for one in found.get_columns(f"{ledger.prefix}{name}")}
        first = next(read_rows(folder / name), None)
        if first is not None and first.keys() != columns:
            raise DataLoss(f"the rows of the backup's {ledger.name} table {name} are of another schema", hint=HINT)


# --- a database to a database --------------------------------------------------------------------------


def copy_rows(source: Connection, target: Connection, ledger: Ledger) -> None:
    """Have every table of `target` hold what that of `source` does; both are of this release's schema."""
    clear(target, ledger, ledger.tables)
    for name in ledger.tables:
        fill(target, ledger, name, rows_of(source, ledger, name))


def lock(connection: Connection, ledger: Ledger) -> None:
    """From here on nobody else writes to the tables, and who began to has ended. SQLite's writer is alone anyway."""
    if connection.dialect.name == "postgresql":
        names = [f"{ledger.prefix}{name}" for name in sorted(ledger.tables, key=lambda name: name != "head")]
        connection.exec_driver_sql(f"LOCK TABLE {', '.join(names)} IN EXCLUSIVE MODE")


def clear(connection: Connection, ledger: Ledger, tables: Iterable[str]) -> None:
    """Take every row out of these tables."""
    these = set(tables)
    for name in reversed(ledger.tables):
        if name in these:
            connection.execute(delete(table(f"{ledger.prefix}{name}")))


def fill(connection: Connection, ledger: Ledger, name: str, rows: Iterable[dict[str, Any]]) -> None:
    """Put rows into a table."""
    for batch in _batches(rows):
        connection.execute(insert(table(f"{ledger.prefix}{name}", *map(column, batch[0]))), batch)


def _batches(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _ROWS_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch

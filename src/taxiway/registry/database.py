"""SQLite or PostgreSQL behind two kinds of transaction: one that reads a moment, one that writes alone.

Writers come one after the other, in both databases: SQLite has BEGIN IMMEDIATE for it, in PostgreSQL the row of the
last entry of a log is locked (see audit.py). Readers see one consistent moment and hold nobody up.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, InterfaceError, OperationalError

from taxiway.core.errors import InvalidArgument, RegistryBusy, RegistryUnavailable, Unavailable
from taxiway.registry.disk import make_private

Dialect = Literal["sqlite", "postgresql"]

BUSY_TIMEOUT_S: Final = 30.0
"""How long a writer waits for the others."""

_MIGRATION_LOCK: Final = 0x7A_71_77_61_79
"""PostgreSQL's advisory lock for those who would migrate: before the first step there is no row to lock."""


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a database is for: the words of its errors, and their kinds.

    Attributes:
        noun: as in "the registry".
        setting: the key that says where it is.
        file: what its SQLite file is called by habit.
    """

    noun: str
    setting: str
    file: str
    unavailable: type[Unavailable]
    busy: type[Unavailable]


REGISTRY: Final = Purpose("the registry", "registry.url", "registry.db", RegistryUnavailable, RegistryBusy)


class Database:
    """One database, its connections pooled. Threads may share it; a forked child opens its own."""

    def __init__(self, engine: Engine, dialect: Dialect, purpose: Purpose) -> None:
        self._engine = engine
        self.dialect = dialect
        self.purpose = purpose

    @classmethod
    def open(cls, url: str, purpose: Purpose = REGISTRY) -> Self:
        """Connect to `sqlite:///PATH` or `postgresql://...`.

        Raises:
            InvalidArgument: the URL is of neither.
        """
        parsed = _parse(url, purpose)
        if parsed.get_backend_name() == "sqlite":
            return cls(_sqlite(parsed, purpose), "sqlite", purpose)
        return cls(_postgresql(parsed, purpose), "postgresql", purpose)

    @property
    def url(self) -> str:
        """Where it is, without the password."""
        return self._engine.url.render_as_string(hide_password=True)

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one moment and changes nothing."""
        level = "REPEATABLE READ" if self.dialect == "postgresql" else None
        with self._transaction(write=False, isolation_level=level) as connection:
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that may change things; it is undone if the block raises."""
        with self._transaction(write=True) as connection:
            yield connection

    @contextlib.contextmanager
    def note(self) -> Iterator[Connection]:
        """As `write`, but a power cut may undo it, as long as no `write` follows: for what only later writes rely on.

        It does not wait for the disk. Both databases keep one log, so that who waits for a later entry waits for all.
        """
        with self._transaction(write=True, lasting=False) as connection:
            if self.dialect == "postgresql":
                connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
            yield connection

    @contextlib.contextmanager
    def migrate(self) -> Iterator[Connection]:
        """A transaction that changes tables, alone."""
        with self._transaction(write=True) as connection:
            if self.dialect == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            yield connection

    @contextlib.contextmanager
    def _transaction(
        self, *, write: bool, lasting: bool = True, isolation_level: str | None = None
    ) -> Iterator[Connection]:
        options: dict[str, Any] = {"taxiway_write": write, "taxiway_lasting": lasting}
        if isolation_level:
            options["isolation_level"] = isolation_level
        try:
            with self._engine.connect().execution_options(**options) as connection, connection.begin():
                yield connection
        except DBAPIError as error:
            if _is_from_outside(error):
                raise self._told(error) from error
            raise  # a statement of ours is wrong

    def _told(self, error: DBAPIError) -> Unavailable:
        reason, purpose = str(error.orig).strip().split("\n", 1)[0], self.purpose
        if "database is locked" in reason or "lock timeout" in reason:
            return purpose.busy(
                f"{purpose.noun} {self.url} is being written to, and did not become free in {BUSY_TIMEOUT_S:g} s",
                hint="try again; if nobody writes, look for a stuck process that holds the database",
            )
        section = purpose.setting.partition(".")[0]
        return purpose.unavailable(
            f"{purpose.noun} {self.url} cannot be used: {reason}",
            hint=f"check {purpose.setting} (`taxiway config explain {section}`), that the database runs, "
            "and who may write",
        )

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


_REFUSED: Final = frozenset({"25006", "42501"})
"""PostgreSQL's states for a database that is read-only, and for a user that may not do what is asked."""


def _is_from_outside(error: DBAPIError) -> bool:
    """Whether the database is in trouble, or does not let us; nothing that we asked was wrong."""
    if isinstance(error, OperationalError | InterfaceError) or type(error) is DatabaseError:
        return True
    return getattr(error.orig, "sqlstate", None) in _REFUSED


def _parse(url: str, purpose: Purpose) -> URL:
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except ArgumentError:
        backend, parsed = "", URL.create("none")
    if backend not in ("sqlite", "postgresql"):
        raise InvalidArgument(
            f"{purpose.setting} is neither SQLite nor PostgreSQL",
            hint=f"write sqlite:///absolute/path/{purpose.file}, or postgresql://user@host/database",
        )
    if backend == "sqlite" and parsed.database in (None, "", ":memory:"):
        hint = f"write sqlite:///absolute/path/{purpose.file}"
        raise InvalidArgument(f"{purpose.setting} names no file", hint=hint)
    return parsed


# --- SQLite --------------------------------------------------------------------------------------------


def _sqlite(url: URL, purpose: Purpose) -> Engine:
    path = Path(url.database or "")
    try:
        make_private(path.parent)
    except OSError as error:
        told = f"{purpose.noun}'s folder {path.parent} cannot be made: {error.strerror}"
        raise purpose.unavailable(told) from error
    engine = create_engine(url.set(drivername="sqlite"), connect_args={"timeout": BUSY_TIMEOUT_S})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's own
    """WAL: readers and a writer at once. FULL: what was committed survives a power cut."""
    connection.isolation_level = None  # the driver would begin transactions by rules of its own
    _enter_wal(connection)
    for pragma in ("synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _enter_wal(connection: Any) -> None:  # noqa: ANN401 - the driver's own
    """The mode stays in the file. Where several enter it at once SQLite refuses some without waiting."""
    import sqlite3  # noqa: PLC0415 - only here

    give_up = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > give_up:
                raise
            time.sleep(0.01)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    """IMMEDIATE takes the lock at once: a transaction that reads first and then writes could not wait for it."""
    options = connection.get_execution_options()
    if options.get("taxiway_write", True):
        connection.exec_driver_sql(
            f"PRAGMA synchronous = {'FULL' if options.get('taxiway_lasting', True) else 'NORMAL'}"
        )
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.exec_driver_sql("BEGIN")


# --- PostgreSQL ----------------------------------------------------------------------------------------


def _postgresql(url: URL, purpose: Purpose) -> Engine:
    try:
        import psycopg  # noqa: F401, PLC0415 - an extra of its own
    except ImportError as error:
        raise InvalidArgument(
            f"{purpose.setting} is PostgreSQL's, and its driver is not installed",
            hint="pip install 'taxiway[postgres]'",
        ) from error
    options = f"-c lock_timeout={int(BUSY_TIMEOUT_S * 1000)} {url.query.get('options', '')}".strip()
    return create_engine(
        url.set(drivername="postgresql+psycopg").update_query_dict({"options": options}), pool_pre_ping=True
    )

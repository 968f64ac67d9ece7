"""SQLite or PostgreSQL behind two kinds of transaction: one that reads a moment, one that writes alone.

Writers come one after the other, in both databases: SQLite has BEGIN IMMEDIATE for it, in PostgreSQL the row of the
last entry of a log is locked (see audit.py). Readers see one consistent moment and hold nobody up.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, make_url, text
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

    def is_there(self) -> bool:
        """Whether there is a file, where it is one; who connects makes it."""
        return self.dialect != "sqlite" or Path(self._engine.url.database or "").exists()

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
        """Close every connection; the next use opens new ones."""
        self._engine.dispose()

    def _place(self) -> URL | Path:
        """What two of them have in common if they are one."""
        return Path(self._engine.url.database or "").resolve() if self.dialect == "sqlite" else self._engine.url

    # --- several at once -----------------------------------------------------------------------------------

    @staticmethod
    @contextlib.contextmanager
    def write_together(databases: Sequence[Database]) -> Iterator[list[Connection]]:
        """As `write` in each, committed in all or in none, whatever is killed meanwhile; a connection for each.

        Two that are one database share a transaction. SQLite's files are written in one transaction if nobody else has
        any of them open: it waits for that. Others are committed one after the other, the first of the list first.
        """
        first, *others = databases
        if len({one._place() for one in databases}) == 1:
            with first.write() as connection:
                yield [connection] * len(databases)
        elif {one.dialect for one in databases} == {"sqlite"}:
            for one in databases:
                one.close()
            files = [one._engine.url.database or "" for one in others]
            alone = Database(_sqlite_alone(first._engine.url, files), "sqlite", first.purpose)
            with alone.write() as connection:
                yield [connection] * len(databases)
        else:
            with contextlib.ExitStack() as stack:  # who is entered last is committed first
                connections = [stack.enter_context(one.write()) for one in reversed(databases)]
                yield connections[::-1]


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
    engine = create_engine(url.set(drivername="sqlite"), connect_args={"timeout": BUSY_TIMEOUT_S})
    event.listen(engine, "do_connect", functools.partial(_make_folder, Path(url.database or "").parent, purpose))
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _make_folder(folder: Path, purpose: Purpose, *_: object) -> None:
    try:
        make_private(folder)
    except OSError as error:
        told = f"{purpose.noun}'s folder {folder} cannot be made: {error.strerror}"
        raise purpose.unavailable(told) from error


def _prepare_sqlite(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's own
    """WAL: readers and a writer at once. FULL: what was committed survives a power cut."""
    connection.isolation_level = None  # the driver would begin transactions by rules of its own
    _enter_mode(connection, "main", "WAL")
    for pragma in ("synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _enter_mode(connection: Any, name: str, mode: str) -> None:  # noqa: ANN401 - the driver's own
    """The mode stays in the file. Where others are in the way SQLite refuses some without waiting."""
    import sqlite3  # noqa: PLC0415 - only here

    give_up = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute(f"PRAGMA {name}.journal_mode = {mode}")
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


def _sqlite_alone(url: URL, others: Sequence[str]) -> Engine:
    """Several files behind one connection that nobody else uses, with tables of different names.

    With journals that are rolled back SQLite commits in all of them or in none, by one more file that names them all;
    with a WAL it would commit one after the other. Whoever opens one afterwards enters WAL again.
    """
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S}, poolclass=NullPool)
    event.listen(engine, "connect", functools.partial(_attach, others))
    event.listen(engine, "begin", _begin_alone)
    return engine


def _attach(others: Sequence[str], connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's own
    connection.isolation_level = None
    names = ["main"]
    for number, file in enumerate(others):
        names.append(f"other{number}")
        connection.execute(f"ATTACH DATABASE ? AS {names[-1]}", (file,))
    for name in names:
        _enter_mode(connection, name, "DELETE")
        connection.execute(f"PRAGMA {name}.synchronous = EXTRA")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_alone(connection: Connection) -> None:
    """Once they are locked nobody can enter another mode; before, somebody might have."""
    connection.exec_driver_sql("BEGIN EXCLUSIVE")
    for _, name, _ in connection.exec_driver_sql("PRAGMA database_list").all():
        if connection.exec_driver_sql(f"PRAGMA {name}.journal_mode").scalar() != "delete":
            raise OperationalError("BEGIN EXCLUSIVE", None, Exception("database is locked"))


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

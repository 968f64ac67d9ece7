"""Answers questions about captured requests, in SQL. It reads the files and nothing else, and writes nothing.

The connection is in memory, sees only the directory of the files, and its settings are locked before the question is
looked at; a question is one SELECT. What takes too much memory or time is ended.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from taxiway.core.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
)
from taxiway.monitor.capture.files import CapturedFile, as_text, duckdb, files_in, quoted

ALL: Final = "requests"
"""The view of all models."""
_EXAMPLE: Final = "select model, count(*) from requests group by model"
_TRIES: Final = 3
"""Files may be removed for their age while they are read."""
_MOST_TYPES: Final = 1
_QUESTION: Final = "_question"

_Schema = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a question may take.

    Attributes:
        rows: of the answer; what is beyond is left out.
        files: that are read at most, the newest.
    """

    rows: int
    memory_bytes: int
    timeout_s: float
    files: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows of values.

    Attributes:
        is_cut: whether there are more rows than were asked for.
        files_left_out: the oldest, over the limit.
    """

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    is_cut: bool
    files_left_out: int


def ask(directory: Path, sql: str, limits: Limits) -> Answer:
    """The answer to one SELECT, of the view `requests` or of a model's own, which is called as the model is.

    Raises:
        NotFound: nothing has been captured there.
        InvalidArgument: this is no SELECT, or no right one.
        DeadlineExceeded: it takes longer than it may.
        FailedPrecondition: DuckDB is not installed, a file cannot be read, or it takes more memory than it may.
    """
    library = duckdb()
    for left in reversed(range(_TRIES)):
        files = files_in(directory)
        if not files:
            raise NotFound(f"nothing has been captured in {directory}", hint="set monitoring.capture.models, or --dir")
        try:
            return _answer(library, directory, files, sql, limits)
        except library.IOException as problem:
            if not left or all(one.path.exists() for one in files):
                raise FailedPrecondition(_line(problem), hint="remove or restore the file that it names") from None
    raise AssertionError


def _answer(library: Any, directory: Path, files: Sequence[CapturedFile], sql: str, limits: Limits) -> Answer:  # noqa: ANN401 - a module that may be absent
    read = files[-limits.files :]
    settings = {
        "memory_limit": f"{limits.memory_bytes}B",
        "temp_directory": "",
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "python_enable_replacements": False,
    }
    with library.connect(config=settings) as connection, _told(library), _ended(connection, limits.timeout_s):
        _make_views(connection, read)
        connection.execute(f"SET allowed_directories = [{as_text(f'{directory.resolve()}/')}]")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        _check(library, connection, sql)
        found = connection.execute(sql)
        rows = found.fetchmany(limits.rows + 1)
        columns = tuple(one[0] for one in found.description)
    return Answer(columns, rows[: limits.rows], len(rows) > limits.rows, len(files) - len(read))


def _check(library: Any, connection: Any, sql: str) -> None:  # noqa: ANN401
    """A SELECT of DuckDB may begin with one that writes (`WITH a AS (COPY ...)`); a view may not."""
    hint = f"one SELECT, as: {_EXAMPLE}"
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        raise InvalidArgument(f"there are {len(statements)} statements where one belongs", hint=hint)
    if statements[0].type != library.StatementType.SELECT:
        raise InvalidArgument(f"a query reads, and {statements[0].type.name} is no SELECT", hint=hint)
    connection.execute(f"CREATE TEMP VIEW {_QUESTION} AS\n{sql}")


# --- views ------------------------------------------------------------------------------------------------------


def _make_views(connection: Any, files: Sequence[CapturedFile]) -> None:  # noqa: ANN401
    """One for all, one for each model; of the files of a version one that is hidden behind them."""
    versions: dict[tuple[str, int], list[str]] = {}
    for one in files:
        versions.setdefault((one.model, one.version), []).append(as_text(str(one.path.resolve())))
    schemas: dict[str, dict[str, _Schema]] = {}
    for at, ((model, _), paths) in enumerate(sorted(versions.items())):
        name = f"_files_{at}"
        source = f"read_parquet([{', '.join(paths)}], union_by_name = true)"
        connection.execute(f"CREATE TEMP VIEW {name} AS FROM {source}")
        described = connection.execute(f"DESCRIBE {name}").fetchall()
        schemas.setdefault(model, {})[name] = {one[0]: one[1] for one in described}
    taken = {ALL}
    for model, own in schemas.items():
        if model.lower() not in taken:
            taken.add(model.lower())
            _make_view(connection, model, own)
    _make_view(connection, ALL, {name: schema for own in schemas.values() for name, schema in own.items()})


def _make_view(connection: Any, name: str, schemas: Mapping[str, _Schema]) -> None:  # noqa: ANN401
    """Of several with columns by name; one that is of different types in them is told as text."""
    types: dict[str, set[str]] = {}
    for schema in schemas.values():
        for column, type_ in schema.items():
            types.setdefault(column, set()).add(type_)
    texts = {column for column, found in types.items() if len(found) > _MOST_TYPES}
    parts = [f"FROM {hidden} SELECT {_shown(schema, texts)}" for hidden, schema in schemas.items()]
    connection.execute(f"CREATE TEMP VIEW {quoted(name)} AS {' UNION ALL BY NAME '.join(parts)}")


def _shown(schema: _Schema, texts: set[str]) -> str:
    return ", ".join(
        f"{quoted(column)}::VARCHAR AS {quoted(column)}" if column in texts else quoted(column) for column in schema
    )


# --- limits and errors ------------------------------------------------------------------------------------------


@contextmanager
def _ended(connection: Any, timeout_s: float) -> Iterator[None]:  # noqa: ANN401
    timer = threading.Timer(timeout_s, connection.interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


@contextmanager
def _told(library: Any) -> Iterator[None]:  # noqa: ANN401
    """Its errors as ours; of files that are gone `ask` knows more."""
    try:
        yield
    except library.InterruptException:
        raise DeadlineExceeded("the query took longer than it may", hint="ask for less, or give --timeout") from None
    except library.OutOfMemoryException:
        hint = "ask for less, or raise monitoring.capture.query_memory_bytes"
        raise FailedPrecondition("the query took more memory than it may", hint=hint) from None
    except library.IOException:
        raise
    except library.PermissionException as problem:
        raise InvalidArgument(_line(problem), hint="a query reads captured requests, and nothing else") from None
    except library.Error as problem:
        raise InvalidArgument(_line(problem), hint=f'try "describe {ALL}" to see the columns') from None


def _line(problem: Exception) -> str:
    return str(problem).strip()

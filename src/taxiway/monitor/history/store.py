"""Rollups on the disk: SQLite beside everything else that is known, so that a control process that ends goes on.

Rows of 10 s, rows of 300 s that are made of them, and of six hours that are made of those, for budgets of weeks. What
is older than it may be, or more than it may be, goes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import orjson

from taxiway.monitor.history.rows import Key, Row, decode, encode, merged
from taxiway.telemetry.logs import Log

_log = Log("taxiway.monitor")
FINE_S: Final = 10
COARSE_S: Final = 300
LONG_S: Final = 6 * 3600
FINE_KEPT_S: Final = 6 * 3600
_DAY_S: Final = 86_400
_LONG_KEPT_S: Final = 91 * _DAY_S
_MADE_OF: Final = {COARSE_S: FINE_S, LONG_S: COARSE_S}
_BUSY_S: Final = 5.0
_SHORTER: Final = 0.8
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS series (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS point (
    series INTEGER NOT NULL, step INTEGER NOT NULL, slot INTEGER NOT NULL, content BLOB NOT NULL,
    PRIMARY KEY (series, step, slot)
) WITHOUT ROWID;
"""


class HistoryStore:
    """The file; belongs to one thread.

    Args:
        path: of the file, made with its directory; None: nothing is kept beyond this process.
        days: how long rows of 300 s are kept.
        max_bytes: about what they may take.
    """

    def __init__(self, path: Path | None, days: int, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._coarse_kept_s: float = days * _DAY_S
        self._ids: dict[Key, int] = {}
        self._failing = False
        self._database = self._open()

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def put(self, step_s: int, slot: int, rows: Iterable[tuple[Key, Row]]) -> None:
        """Keep rows of the stretch from `slot * step_s` on, all or none; what goes wrong is logged once."""
        try:
            with self._database:
                told = [(self._id(key), step_s, slot, encode(row)) for key, row in rows]
                self._database.executemany("INSERT OR REPLACE INTO point VALUES (?, ?, ?, ?)", told)
        except sqlite3.Error as problem:
            self._ids.clear()
            self._tell(problem)
        else:
            self._failing = False

    def coarsen(self, step_s: int, slot: int) -> None:
        """Make the rows of a step from `slot * step_s` on of those that it is made of, and forget what is too old."""
        part_s = _MADE_OF[step_s]
        factor = step_s // part_s
        rows: dict[Key, list[Row]] = {}
        try:
            for key, _, row in self._rows(part_s, slot * factor, (slot + 1) * factor, self.keys()):
                rows.setdefault(key, []).append(row)
        except sqlite3.Error as problem:
            self._tell(problem)
            return
        self.put(step_s, slot, [(key, merged(parts)) for key, parts in rows.items()])
        self._forget((slot + 1) * step_s)

    def last_slot(self, step_s: int) -> int | None:
        """The newest that is kept of this step."""
        found = self._database.execute(
            "SELECT max(newest) FROM (SELECT (SELECT max(slot) FROM point WHERE series = id AND step = ?) AS newest"
            " FROM series)",
            (step_s,),
        ).fetchone()[0]
        return None if found is None else int(found)

    def keys(self) -> list[Key]:
        """Every series of which something is, or was, kept."""
        return [tuple(orjson.loads(one)) for (one,) in self._database.execute("SELECT key FROM series")]

    def read(self, step_s: int, first: int, stop: int, keys: Sequence[Key]) -> Iterator[tuple[Key, int, Row]]:
        """Rows of these series, of the slots [first, stop), in order within each."""
        try:
            yield from self._rows(step_s, first, stop, keys)
        except sqlite3.Error as problem:
            self._tell(problem)

    @property
    def nbytes(self) -> int:
        """What is in the file."""
        return self._pragma("page_size") * (self._pragma("page_count") - self._pragma("freelist_count"))

    # --- inside ---------------------------------------------------------------------------------------------

    def _rows(self, step_s: int, first: int, stop: int, keys: Sequence[Key]) -> Iterator[tuple[Key, int, Row]]:
        query = (
            "SELECT slot, content FROM point JOIN series ON id = series"
            " WHERE key = ? AND step = ? AND slot >= ? AND slot < ? ORDER BY slot"
        )
        for key in keys:
            for slot, content in self._database.execute(query, (_text(key), step_s, first, stop)):
                yield key, slot, decode(content)

    def _id(self, key: Key) -> int:
        known = self._ids.get(key)
        if known is None:
            text = _text(key)
            self._database.execute("INSERT OR IGNORE INTO series (key) VALUES (?)", (text,))
            known = int(self._database.execute("SELECT id FROM series WHERE key = ?", (text,)).fetchone()[0])
            self._ids[key] = known
        return known

    def _forget(self, now_s: float) -> None:
        try:
            self._forget_before(now_s)
            if self.nbytes > self._max_bytes:
                self._coarse_kept_s = max(self._coarse_kept_s * _SHORTER, _DAY_S / 4)
                self._forget_before(now_s)
        except sqlite3.Error as problem:
            self._tell(problem)

    def _forget_before(self, now_s: float) -> None:
        """By series, as the rows lie; a series of which nothing is left goes with its last row."""
        kept_s = {FINE_S: min(FINE_KEPT_S, self._coarse_kept_s), COARSE_S: self._coarse_kept_s}
        kept_s[LONG_S] = _LONG_KEPT_S
        with self._database:
            for (number,) in self._database.execute("SELECT id FROM series").fetchall():
                for step_s, one_s in kept_s.items():
                    before = int((now_s - one_s) // step_s)
                    self._database.execute(
                        "DELETE FROM point WHERE series = ? AND step = ? AND slot < ?", (number, step_s, before)
                    )
            empty = "DELETE FROM series WHERE NOT EXISTS (SELECT 1 FROM point WHERE point.series = series.id)"
            if self._database.execute(empty).rowcount:
                self._ids.clear()

    def _pragma(self, name: str) -> int:
        return int(self._database.execute(f"PRAGMA {name}").fetchone()[0])

    def _open(self) -> sqlite3.Connection:
        """What cannot be read is put aside; where nothing can be written, nothing is kept beyond this process."""
        if self._path is not None:
            for again in (False, True):
                try:
                    return _connect(self._path)
                except sqlite3.DatabaseError as problem:
                    self._tell(problem)
                    if again or isinstance(problem, sqlite3.OperationalError):
                        break
                    _put_aside(self._path)
                except OSError as problem:
                    self._tell(problem)
                    break
        return _prepared(sqlite3.connect(":memory:", check_same_thread=False))

    def _tell(self, problem: Exception) -> None:
        if not self._failing:
            _log.error("history_not_kept", path=str(self._path), error=problem, hint="is there space left on the disk?")
        self._failing = True


def _connect(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(path, timeout=_BUSY_S, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        return _prepared(database)
    except sqlite3.Error:
        database.close()
        raise


def _prepared(database: sqlite3.Connection) -> sqlite3.Connection:
    database.executescript(_TABLES)
    return database


def _put_aside(path: Path) -> None:
    path.replace(path.with_name(f"{path.name}.damaged"))
    for beside in ("-wal", "-shm"):
        path.with_name(path.name + beside).unlink(missing_ok=True)


def _text(key: Key) -> str:
    return orjson.dumps(key).decode()

"""The history of everything that is drawn: seconds in memory, tens of seconds and minutes on the disk.

Belongs to one thread. Times are given: seconds since 1970 for what is kept, a clock that never goes back for rates.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from taxiway.monitor.history.differences import Differences
from taxiway.monitor.history.ring import SECONDS, Ring
from taxiway.monitor.history.rows import BOUNDS_S, CELLS, Key, Row, merged, work_out
from taxiway.monitor.history.store import COARSE_S, FINE_KEPT_S, FINE_S, LONG_S, HistoryStore
from taxiway.telemetry.render import Point

MAX_POINTS: Final = 1440
"""Of one answer; what would be more is put together."""
_USUAL: Final[Mapping[str, tuple[str, ...]]] = {"version": ("rps", "eps", "p50", "p90", "p99")}
_STAGE: Final = "request"
_HOST: Final = ("host", "host")
_LATELY_S: Final = 5
_SHORT_S: Final = 1800
_DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Stretch:
    """A time that is asked for.

    Attributes:
        step_s: how far apart its points are.
        first: number of the first, in steps since 1970.
        points: how many.
    """

    step_s: int
    first: int
    points: int

    @classmethod
    def of(cls, span_s: float, until_s: float) -> Stretch:
        """The span that ends then: in seconds, tens of seconds or minutes, by its length."""
        level = 1 if span_s <= SECONDS else FINE_S if span_s <= FINE_KEPT_S else COARSE_S
        points = max(1, round(span_s / level))
        step_s = level * -(-points // MAX_POINTS)
        points = max(1, round(span_s / step_s))
        stop = int(until_s // step_s) + 1
        return cls(step_s, stop - points, points)

    @property
    def level_s(self) -> int:
        """Of what is kept, that which it is made of."""
        return next(level for level in (COARSE_S, FINE_S, 1) if self.step_s % level == 0 and self.step_s >= level)


class HistoryDesk:
    """All series.

    Args:
        store: where rollups are kept.
        max_series: how many are kept apart.
    """

    def __init__(self, store: HistoryStore, max_series: int) -> None:
        self._store = store
        self._max_series = max_series
        self._differences = Differences()
        self._rings: dict[Key, Ring] = {}
        self._parts: dict[Key, list[Row]] = {}
        self._fine = -1
        self._coarse = self._long = -1
        self.dropped = 0

    def close(self) -> None:
        """Keep the stretch that is not over yet, and close the file."""
        self._keep_fine()
        self._store.close()

    def take(
        self,
        points: Iterable[Point],
        more: Mapping[Key, Row],
        at_s: float,
        clock_s: float,
        host: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """Look at the metrics of one moment.

        Args:
            points: of the whole server.
            more: rows of this second that are no metrics.
            at_s: the moment, since 1970.
            clock_s: the same by a clock that never goes back.
            host: what else is known of the machine.
        """
        second = int(at_s)
        self._turn(second)
        rows = self._differences.take(points, clock_s)
        if host:
            rows.setdefault(_HOST, Row()).values.update(host)
        work_out(list(rows.values()))
        for key, row in (*rows.items(), *more.items()):
            ring = self._ring(key)
            if ring is not None:
                ring.put(second, row)
                self._parts.setdefault(key, []).append(row)

    def _ring(self, key: Key) -> Ring | None:
        ring = self._rings.get(key)
        if ring is None:
            if len(self._rings) >= self._max_series:
                self.dropped += 1
                return None
            ring = self._rings[key] = Ring()
        return ring

    # --- time goes on -----------------------------------------------------------------------------------------

    def _turn(self, second: int) -> None:
        """Keep the stretches that are over."""
        fine, coarse, long = second // FINE_S, second // COARSE_S, second // LONG_S
        if fine != self._fine:
            self._keep_fine()
            self._fine = fine
            self._rings = {key: ring for key, ring in self._rings.items() if second - ring.last < SECONDS}
        if coarse != self._coarse:
            self._coarsen(COARSE_S, FINE_S, self._coarse, coarse)
            self._coarse = coarse
        if long != self._long:
            self._coarsen(LONG_S, COARSE_S, self._long, long)
            self._long = long

    def _keep_fine(self) -> None:
        parts, self._parts = self._parts, {}
        if parts:
            self._store.put(FINE_S, self._fine, [(key, merged(rows)) for key, rows in parts.items()])

    def _coarsen(self, step_s: int, part_s: int, before: int, now: int) -> None:
        """Make rows of the stretch that is over: at first, of that in which the process before this one ended."""
        if before < 0:
            last = self._store.last_slot(part_s)
            before = now if last is None else last * part_s // step_s
        if before < now:
            self._store.coarsen(step_s, before)

    # --- what is asked ------------------------------------------------------------------------------------------

    @property
    def nbytes(self) -> int:
        """Of what is kept in memory."""
        return sum(ring.nbytes for ring in self._rings.values())

    def now(self, second: int) -> dict[Key, Row]:
        """The last row of every series that was there lately."""
        return {key: ring.now for key, ring in self._rings.items() if second - ring.last <= _LATELY_S}

    def history(
        self, kind: str, named: Sequence[str], fields: Sequence[str] | None, stretch: Stretch
    ) -> dict[str, Any]:
        """Columns of every series of a kind whose names begin so.

        Args:
            kind: of series.
            named: the first of their names.
            fields: which columns; empty: all; None: the usual ones.
            stretch: the time.
        """
        told = []
        for key in self._keys(kind, named):
            wanted = _USUAL.get(kind, ()) if fields is None else fields
            columns = self._columns(key, wanted, stretch)
            if any(not np.isnan(column).all() for column in columns.values()):
                told.append({"name": list(key[1:]), "fields": columns})
        return {"kind": kind, **_head(stretch), "series": told}

    def heat(self, key: Key, stretch: Stretch) -> dict[str, Any]:
        """How many requests took how long."""
        counts: list[list[int] | None] = [None] * stretch.points
        if stretch.step_s == 1:
            ring = self._rings.get(key)
            if ring is not None:
                counts = ring.cells(stretch.first, stretch.points)
        else:
            for at, row in self._stored(key, stretch):
                cells = row.buckets.get(_STAGE)
                counts[at] = [0] * CELLS if cells is None else cells.tolist()
        return {**_head(stretch), "le": [*BOUNDS_S, None], "counts": counts}

    def total(self, key: Key, span_s: float, until_s: float) -> Row:
        """A series over a span, put together."""
        return merged([*self._since(key, until_s - span_s, span_s, until_s), *self._parts.get(key, [])])

    def _since(self, key: Key, from_s: float, span_s: float, until_s: float) -> Iterator[Row]:
        """Rows as long as the span allows, and shorter ones for what is not over yet."""
        levels = (
            [FINE_S] if span_s <= _SHORT_S else [COARSE_S, FINE_S] if span_s <= _DAY_S else [LONG_S, COARSE_S, FINE_S]
        )
        for level in levels:
            stop = int(until_s // level)
            first = -int(-from_s // level)
            for _, _, row in self._store.read(level, first, stop, [key]):
                yield row
            from_s = max(from_s, stop * level)

    def keys(self, kind: str) -> list[Key]:
        """Series of a kind, in memory or on the disk."""
        known = {key for key in (*self._rings, *self._store.keys()) if key[0] == kind}
        return sorted(known)

    def _keys(self, kind: str, named: Sequence[str]) -> list[Key]:
        return [key for key in self.keys(kind) if key[1 : 1 + len(named)] == tuple(named)]

    def _columns(self, key: Key, fields: Sequence[str], stretch: Stretch) -> dict[str, Any]:
        ring = self._rings.get(key)
        if stretch.step_s == 1:
            if ring is None:
                return {}
            return ring.read(fields or sorted(ring.columns), stretch.first, stretch.points)
        rows = list(self._stored(key, stretch))
        names = fields or sorted({name for _, row in rows for name in row.values} | _quantiles(rows))
        columns = {name: np.full(stretch.points, np.nan, np.float32) for name in names}
        for at, row in rows:
            for name in names:
                columns[name][at] = row.value(name)
        return columns

    def _stored(self, key: Key, stretch: Stretch) -> Iterator[tuple[int, Row]]:
        """By place in the stretch, what is kept, and what is not over yet."""
        level, factor = stretch.level_s, stretch.step_s // stretch.level_s
        first, stop = stretch.first * factor, (stretch.first + stretch.points) * factor
        parts: dict[int, list[Row]] = {}
        for _, slot, row in self._store.read(level, first, stop, [key]):
            parts.setdefault(slot // factor - stretch.first, []).append(row)
        for at, row in self._unkept(key, stretch):
            parts.setdefault(at, []).append(row)
        for at in sorted(parts):
            yield at, merged(parts[at])

    def _unkept(self, key: Key, stretch: Stretch) -> Iterator[tuple[int, Row]]:
        """Rows that are in no rollup of this level yet."""
        since_last = self._parts.get(key, [])
        at = self._fine * FINE_S // stretch.step_s - stretch.first
        if since_last and 0 <= at < stretch.points:
            yield at, merged(since_last)
        if stretch.level_s == COARSE_S:
            first = self._coarse * COARSE_S // FINE_S
            at = self._coarse * COARSE_S // stretch.step_s - stretch.first
            if 0 <= at < stretch.points:
                for _, _, row in self._store.read(FINE_S, first, self._fine, [key]):
                    yield at, row


def _head(stretch: Stretch) -> dict[str, Any]:
    step_s = stretch.step_s
    return {"step_s": step_s, "from_ms": stretch.first * step_s * 1000, "points": stretch.points}


def _quantiles(rows: Iterable[tuple[int, Row]]) -> set[str]:
    seen = {stage for _, row in rows for stage in row.buckets}
    return {f"{stage[0] if stage != 'request' else 'p'}{percent}" for stage in seen for percent in ("50", "90", "99")}

"""The last seconds of one series, in memory of one size; columns that never differed from 0 take none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from taxiway.monitor.history.rows import CELLS, QUANTILES, Row

SECONDS: Final = 600
MAX_COLUMNS: Final = 64
_STAGE: Final = "request"
_NEVER: Final = -1


class Ring:
    """`SECONDS` of one series; a second that was never written, or written over, is not known."""

    def __init__(self) -> None:
        self._seconds = np.full(SECONDS, _NEVER, np.int64)
        self._columns: dict[str, NDArray[np.float32]] = {}
        self._cells: NDArray[np.uint32] | None = None
        self.last = _NEVER
        self._now = Row(0)

    @property
    def now(self) -> Row:
        """The last second that was put in."""
        return self._now

    @property
    def columns(self) -> frozenset[str]:
        """Those that ever differed from 0."""
        return frozenset(self._columns)

    @property
    def nbytes(self) -> int:
        """Of its arrays."""
        cells = 0 if self._cells is None else self._cells.nbytes
        return self._seconds.nbytes + cells + sum(column.nbytes for column in self._columns.values())

    def put(self, second: int, row: Row) -> None:
        """Keep a second; one that is not after the last one takes its place."""
        at = second % SECONDS
        self._seconds[at] = second
        self.last, self._now = second, row
        for column in self._columns.values():
            column[at] = 0.0
        for name, value in row.values.items():
            self._set(name, at, value)
        for name in QUANTILES:
            if row.buckets or name in self._columns:
                self._set(name, at, row.value(name))
        self._put_cells(at, row)

    def _set(self, name: str, at: int, value: float) -> None:
        column = self._columns.get(name)
        if column is None:
            if not value or len(self._columns) >= MAX_COLUMNS:
                return
            fill = np.nan if name in QUANTILES else 0.0
            column = self._columns[name] = np.full(SECONDS, fill, np.float32)
        column[at] = value

    def _put_cells(self, at: int, row: Row) -> None:
        cells = row.buckets.get(_STAGE)
        if self._cells is None:
            if cells is None:
                return
            self._cells = np.zeros((SECONDS, CELLS), np.uint32)
        self._cells[at] = 0 if cells is None else cells

    def read(self, names: Sequence[str], first: int, points: int) -> dict[str, NDArray[np.float32]]:
        """Columns over seconds from `first` on; NaN where nothing is known."""
        places, known = self._places(first, points)
        return {name: np.where(known, self._column(name, places), np.nan).astype(np.float32) for name in names}

    def cells(self, first: int, points: int) -> list[list[int] | None]:
        """How many requests took how long, by second; None where nothing is known."""
        places, known = self._places(first, points)
        if self._cells is None:
            return [[0] * CELLS if here else None for here in known]
        return [row.tolist() if here else None for row, here in zip(self._cells[places], known, strict=True)]

    def _places(self, first: int, points: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        seconds = np.arange(first, first + points)
        places = seconds % SECONDS
        return places, self._seconds[places] == seconds

    def _column(self, name: str, places: NDArray[np.int64]) -> NDArray[np.float32]:
        if name == "batch":
            rows, runs = self._column("rows", places), self._column("runs", places)
            return np.divide(rows, runs, out=np.full(len(places), np.nan, np.float32), where=runs > 0)
        column = self._columns.get(name)
        if column is None:
            return np.full(len(places), np.nan if name in QUANTILES else 0.0, np.float32)
        return column[places]

"""Rows of arrays under names, in no order: what goes makes room for what comes, and nothing is copied for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_LEAST: Final = 16


class Table:
    """A table whose columns are arrays, each row of a fixed shape.

    Args:
        columns: of each the shape of a row, and the datatype.
    """

    def __init__(self, columns: Mapping[str, tuple[tuple[int, ...], Any]]) -> None:
        self._arrays = {name: np.zeros((_LEAST, *shape), dtype) for name, (shape, dtype) in columns.items()}
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, name: str) -> NDArray[Any]:
        """The column of this name, to be read and written [rows, ...]."""
        return self._arrays[name][: self._rows]

    def add(self, row: Mapping[str, Any]) -> None:
        """One more row; what it does not name is 0."""
        if self._rows == len(next(iter(self._arrays.values()))):
            self._arrays = {name: np.concatenate([one, np.zeros_like(one)]) for name, one in self._arrays.items()}
        for name, array in self._arrays.items():
            array[self._rows] = row.get(name, 0)
        self._rows += 1

    def remove(self, row: int) -> None:
        """Let the last row take this one's place."""
        self._rows -= 1
        for array in self._arrays.values():
            array[row] = array[self._rows]

    def clear(self) -> None:
        """Let all rows go."""
        self._rows = 0

    def rows(self, names: Iterable[str]) -> list[dict[str, NDArray[Any]]]:
        """Copies of these columns, row by row."""
        chosen = list(names)
        return [{name: self[name][row].copy() for name in chosen} for row in range(self._rows)]

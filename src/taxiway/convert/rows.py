"""Rows that a person gives, from .npy, .npz or .csv, in the order and with the names that the model wants."""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from taxiway.convert.outcome import Reason, Refused
from taxiway.convert.parity import Samples
from taxiway.runtimes.hosted.tabular import MATRIX, Column

UNREADABLE: Final = (OSError, EOFError, ValueError, csv.Error, zipfile.BadZipFile, zlib.error)
"""What NumPy's reader and csv's raise for files that are cut off, or no such files."""


def read_samples(path: Path, columns: Sequence[Column]) -> Samples:
    """Every row of the file.

    Raises:
        Refused: the file cannot be read, or does not fit the model.
    """
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        raise _bad(path, "is no .npy, .npz or .csv")
    try:
        rows = _READERS[suffix](path, columns)
    except KeyError as problem:
        raise _bad(path, f"lacks {problem}") from problem
    except UNREADABLE as problem:
        raise _bad(path, f"cannot be read: {problem}") from problem
    counts = {len(values) for values in rows.values()}
    if len(counts) != 1 or 0 in counts:
        raise _bad(path, f"has inputs of {sorted(counts)} rows; every input has the same, and one at least")
    for column in columns:
        shape = rows[column.name].shape[1:]
        if shape != (column.width,):
            raise _bad(path, f"has rows of shape {shape} for {column.name!r}, not ({column.width},)")
    return Samples(rows, ["given"] * counts.pop())


def _bad(path: Path, what: str) -> Refused:
    return Refused(Reason.BAD_SAMPLES, f"samples: {path.name} {what}")


def _read_npy(path: Path, columns: Sequence[Column]) -> dict[str, NDArray[Any]]:
    if len(columns) != 1:
        raise _unnamed(columns)
    return {columns[0].name: _numbers(np.load(path, allow_pickle=False))}


def _unnamed(columns: Sequence[Column]) -> ValueError:
    return ValueError(f"rows without names cannot be the columns {', '.join(column.name for column in columns)}")


def _read_npz(path: Path, columns: Sequence[Column]) -> dict[str, NDArray[Any]]:
    # NumPy leaves a file open that it cannot read.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        if len(columns) == 1 and len(arrays.files) == 1:
            return {columns[0].name: _numbers(arrays[arrays.files[0]])}
        return {column.name: _column(arrays[column.name], column) for column in columns}


def _column(values: NDArray[Any], column: Column) -> NDArray[Any]:
    if column.is_text:
        return values.astype(str).astype(object).reshape(-1, 1)
    return _numbers(values.reshape(len(values), -1))


def _numbers(values: NDArray[Any]) -> NDArray[Any]:
    return values.astype(np.float64)


def _read_csv(path: Path, columns: Sequence[Column]) -> dict[str, NDArray[Any]]:
    lines = _lines(path)
    if not lines:
        return {column.name: np.empty((0, column.width)) for column in columns}
    (_, first), *rest = lines
    has_names = not all(_is_number(cell) for cell in first)
    if len(columns) == 1 and columns[0].name == MATRIX:
        return {MATRIX: np.array([_numbers_of(number, line) for number, line in (rest if has_names else lines)])}
    if not has_names:
        raise _unnamed(columns)
    places = {name: at for at, name in enumerate(first)}
    return {
        column.name: _cells([(number, line[places[column.name]]) for number, line in rest], column)
        for column in columns
    }


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """The lines that are not empty, each with its number, and all as long as the first.

    Raises:
        ValueError: one is not.
    """
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        lines = [(reader.line_num, line) for line in reader if line]
    for number, line in lines:
        if len(line) != len(lines[0][1]):
            raise ValueError(f"line {number} has {len(line)} values, and the first {len(lines[0][1])}")
    return lines


def _cells(cells: Sequence[tuple[int, str]], column: Column) -> NDArray[Any]:
    if column.is_text:
        return np.array([cell for _, cell in cells], dtype=object).reshape(-1, 1)
    return np.array([value for number, cell in cells for value in _numbers_of(number, [cell])]).reshape(-1, 1)


def _numbers_of(number: int, line: Sequence[str]) -> list[float]:
    """The values of a line.

    Raises:
        ValueError: one is no number.
    """
    strange = next((cell for cell in line if not _is_number(cell)), None)
    if strange is not None:
        raise ValueError(f"line {number}: {strange!r} is no number")
    return [_number(cell) for cell in line]


def _is_number(cell: str) -> bool:
    try:
        _number(cell)
    except ValueError:
        return False
    return True


def _number(cell: str) -> float:
    return float(cell) if cell.strip() else float("nan")


_READERS = {".npy": _read_npy, ".npz": _read_npz, ".csv": _read_csv}

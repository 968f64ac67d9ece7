"""Cells: a fixed division of a feature's values, made once from a reference, in which any stream can be counted.

A cell is a range between two quantiles of the reference, or one exact value (an atom: what is frequent, and what gaps
are filled with), or one of the ways to be out of the ordinary: missing, infinite, below, above, unseen. Counts of cells
add up across blocks, processes and machines; a sketch's quantiles do not without breaking the tests made of them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

MISSING: Final = "missing"
INFINITE: Final = "infinite"
BELOW: Final = "below"
ABOVE: Final = "above"
UNSEEN: Final = "unseen"
OTHER: Final = "other"

_MOST_DISTINCT: Final = 24
"""Up to as many different values, each seen twice or more on average, a feature is discrete: each value is a cell."""
_ATOM_SHARE: Final = 0.02
_ATOM_ROWS: Final = 5
"""An atom was seen as often at least: in a small reference every value is two percent, and none of them comes again."""
_SORTED_FROM: Final = 200
"""Fewer numbers are not worth sorting."""
_LARGEST: Final = float(np.finfo(np.float64).max)


@dataclass(frozen=True, slots=True)
class NumericCells:
    """Cells of numbers.

    Attributes:
        names: one a cell, in order: ranges from low to high, atoms, then the odd ones.
        edges: where intervals begin, rising; infinity and NaN come last.
        places: the cell of each interval, one more than edges.
        middles: a typical value of each cell; NaN for the odd ones that have none.
    """

    names: tuple[str, ...]
    edges: NDArray[np.float64]
    places: NDArray[np.intp]
    middles: NDArray[np.float64]

    @classmethod
    def of(cls, values: NDArray[Any], *, ranges: int = 16, atoms: int = 8) -> Self:
        """Made from a sample of the reference.

        Args:
            values: numbers of any shape; NaN is a missing one.
            ranges: quantile ranges of about equally many values.
            atoms: exact values with a cell of their own, at most; the mean and the median get one in any case, as gaps
                are filled with them.

        Raises:
            ValueError: nothing finite to be seen.
        """
        finite = np.asarray(values, dtype=np.float64).ravel()
        finite = finite[np.isfinite(finite)]
        if not len(finite):
            raise ValueError("a reference without a finite value has no cells")
        distinct, counts = np.unique(finite, return_counts=True)
        if len(distinct) <= _MOST_DISTINCT and len(finite) >= 2 * len(distinct):
            return cls._discrete(distinct)
        often = np.argsort(-counts, kind="stable")[:atoms]
        exact = {float(distinct[at]) for at in often if counts[at] >= max(_ATOM_ROWS, _ATOM_SHARE * len(finite))}
        dtype = values.dtype if values.dtype.kind == "f" else np.dtype(np.float64)
        exact |= {float(dtype.type(np.median(finite))), float(dtype.type(finite.mean()))}
        inner = np.unique(np.quantile(finite, np.linspace(0, 1, ranges + 1)[1:-1]))
        return cls._continuous(float(distinct[0]), float(distinct[-1]), inner, sorted(exact))

    @classmethod
    def _discrete(cls, distinct: NDArray[np.float64]) -> Self:
        names = [_number(value) for value in distinct] + [BELOW, ABOVE, UNSEEN, MISSING, INFINITE]
        cell = {name: at for at, name in enumerate(names)}
        edges, places = [-_LARGEST], [cell[INFINITE], cell[BELOW]]
        for at, value in enumerate(distinct):
            edges += [value, np.nextafter(value, math.inf)]
            places += [at, cell[UNSEEN] if at + 1 < len(distinct) else cell[ABOVE]]
        middles = [*map(float, distinct), *[math.nan] * 5]
        return cls._closed(names, edges, places, middles)

    @classmethod
    def _continuous(cls, low: float, high: float, inner: NDArray[np.float64], exact: Sequence[float]) -> Self:
        bounds = [low, *(float(one) for one in inner if low < one < high), float(np.nextafter(high, math.inf))]
        names = [f"{_number(a)} to {_number(b)}" for a, b in pairwise(bounds)]
        names += [f"exactly {_number(value)}" for value in exact] + [BELOW, ABOVE, UNSEEN, MISSING, INFINITE]
        cell = {name: at for at, name in enumerate(names)}
        first_atom = len(bounds) - 1
        begins = {value: at for at, value in enumerate(bounds[:-1])} | {bounds[-1]: cell[ABOVE]}
        atoms = {value: first_atom + at for at, value in enumerate(exact)}
        edges, places = [-_LARGEST], [cell[INFINITE], cell[BELOW]]
        range_now = cell[BELOW]
        marks = sorted({*begins, *atoms, *(float(np.nextafter(value, math.inf)) for value in exact)})
        for value in marks:
            range_now = begins.get(value, range_now)
            edges.append(value)
            places.append(atoms.get(value, range_now))
        middles = [(a + b) / 2 for a, b in pairwise(bounds)] + [*exact, *[math.nan] * 5]
        return cls._closed(names, edges, places, middles)

    @classmethod
    def _closed(cls, names: list[str], edges: list[float], places: list[int], middles: list[float]) -> Self:
        """With what is beyond the largest number: infinity, and after it NaN, as sorting has it."""
        edges += [math.inf, math.nan]
        places += [names.index(INFINITE), names.index(MISSING)]
        return cls(tuple(names), np.array(edges), np.array(places, dtype=np.intp), np.array(middles))

    @property
    def order(self) -> NDArray[np.float64]:
        """What cells are ordered by: their middles, below and above at the ends; NaN for the other odd ones."""
        ends = {BELOW: -math.inf, ABOVE: math.inf}
        return np.array([ends.get(name, middle) for name, middle in zip(self.names, self.middles, strict=True)])

    def cells(self, values: NDArray[Any]) -> NDArray[np.intp]:
        """The cell of each of these numbers."""
        found: NDArray[np.intp] = self.places[np.searchsorted(self.edges, values, side="right")]
        return found

    def count(self, values: NDArray[Any]) -> NDArray[np.int64]:
        """How many of these numbers are in each cell.

        The few edges are found among sorted numbers in less time than many numbers among the edges.
        """
        if values.size < _SORTED_FROM:
            return np.bincount(self.cells(values).ravel(), minlength=len(self.names))
        rising = np.sort(values, axis=None)
        ends = np.empty(len(self.edges) + 2, dtype=np.intp)
        ends[0], ends[-1] = 0, len(rising)
        ends[1:-1] = rising.searchsorted(self.edges)
        return np.bincount(self.places, ends[1:] - ends[:-1], len(self.names)).astype(np.int64)


@dataclass(frozen=True, slots=True)
class CategoryCells:
    """Cells of words: the frequent ones, the rest of those that were seen, the unseen, the missing."""

    names: tuple[str, ...]
    places: Mapping[Hashable, int]

    @classmethod
    def of(cls, values: Iterable[Hashable], *, most: int = 30) -> Self:
        """Made from a sample of the reference; None and the empty string are missing ones."""
        counts = Counter(value for value in values if value is not None and value not in ("", b""))
        often = [value for value, _ in counts.most_common(most)]
        names = [*map(_word, often), OTHER, UNSEEN, MISSING]
        places: dict[Hashable, int] = dict.fromkeys(counts, len(often))
        places |= {value: at for at, value in enumerate(often)}
        places |= {None: len(often) + 2, "": len(often) + 2, b"": len(often) + 2}
        return cls(tuple(names), places)

    def cells(self, values: Iterable[Hashable]) -> NDArray[np.intp]:
        """The cell of each of these words."""
        unseen, places = len(self.names) - 2, self.places
        return np.array([places.get(value, unseen) for value in values], dtype=np.intp)

    def count(self, values: Iterable[Hashable]) -> NDArray[np.int64]:
        """How many of these words are in each cell."""
        return np.bincount(self.cells(values), minlength=len(self.names))


def _word(value: Hashable) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _number(value: float) -> str:
    return f"{value:.4g}"

"""Times counted with three significant digits whatever their size: mergeable, and bounded however many there are.

The layout is that of HdrHistogram (G. Tene, hdrhistogram.org): 2048 linear steps, then 1024 for each octave above, so
that a value and the edges of its step differ by a thousandth at most. Many values are counted at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

_HALF_BITS: Final = 10
_HALF: Final = 1 << _HALF_BITS
_OCTAVES: Final = 33
SLOTS: Final = (_OCTAVES + 1) * _HALF
GREATEST: Final = (1 << (_OCTAVES + _HALF_BITS)) - 1
"""What is longer is counted as this: two and a half hours in nanoseconds."""


def slots_of(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """The slot of each value, int64 from 0 to GREATEST."""
    octave = np.maximum(np.frexp(values.astype(np.float64))[1].astype(np.int64) - 1 - _HALF_BITS, 0)
    return (octave << _HALF_BITS) + (values >> octave)


def greatest_of(slot: int) -> int:
    """The greatest value that is counted in `slot`."""
    octave = max(slot // _HALF - 1, 0)
    return ((slot - octave * _HALF + 1) << octave) - 1


class HdrHistogram:
    """Counts of values from 0 to GREATEST.

    Attributes:
        counts: int64, one for each of SLOTS slots.
        greatest: the greatest value recorded, exactly; 0 if there is none.
        total: their sum, exactly.
    """

    __slots__ = ("counts", "greatest", "total")

    def __init__(self, values: ArrayLike = ()) -> None:
        self.counts: NDArray[np.int64] = np.zeros(SLOTS, np.int64)
        self.greatest = 0
        self.total = 0
        self.record(values)

    def record(self, values: ArrayLike) -> None:
        """Count values; those below 0 count as 0, fractions are dropped."""
        clipped = np.clip(np.asarray(values, np.float64).ravel(), 0, GREATEST).astype(np.int64)
        if len(clipped):
            self.counts += np.bincount(slots_of(clipped), minlength=SLOTS)
            self.greatest = max(self.greatest, int(clipped.max()))
            self.total += int(clipped.sum())

    def merge(self, other: HdrHistogram) -> None:
        """Add what another counted."""
        self.counts += other.counts
        self.greatest = max(self.greatest, other.greatest)
        self.total += other.total

    @classmethod
    def merged(cls, histograms: Iterable[HdrHistogram]) -> Self:
        """All of them as one."""
        made = cls()
        for histogram in histograms:
            made.merge(histogram)
        return made

    @property
    def count(self) -> int:
        """How many values were counted."""
        return int(self.counts.sum())

    @property
    def mean(self) -> float:
        """Of all values, exactly; 0 if there is none."""
        return self.total / self.count if self.count else 0.0

    def percentile(self, percent: float) -> float:
        """What at least `percent` of the values do not exceed, to three digits upwards; 0 if there is none."""
        count = self.count
        if not count:
            return 0.0
        rank = max(int(np.ceil(percent / 100 * count - 1e-9)), 1)
        slot = int(np.searchsorted(np.cumsum(self.counts), rank))
        return float(min(greatest_of(slot), self.greatest))

    def to_sparse(self) -> list[tuple[int, int]]:
        """Pairs of the greatest value of a slot and its count, without the empty ones."""
        return [(greatest_of(int(slot)), int(self.counts[slot])) for slot in np.flatnonzero(self.counts)]

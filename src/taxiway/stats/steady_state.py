"""When a series of measurements has settled, and whether it stays so.

A trend is tested by Mann and Kendall (H. B. Mann, Nonparametric tests against trend, Econometrica 13, 1945) and its
size is Theil's and Sen's slope (P. K. Sen, JASA 63, 1968): neither is moved by a few slow windows, which are no
trend.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class Trend(NamedTuple):
    """What a series does from its beginning to its end.

    Attributes:
        change: as a share of the median; 0.1 is a rise by a tenth.
        p_value: the probability of so clear a trend by chance, two-sided.
    """

    change: float
    p_value: float

    def is_real(self, change: float = 0.1, p_value: float = 0.01) -> bool:
        """Whether it is both large and no chance."""
        return abs(self.change) > change and self.p_value < p_value


def trend_of(series: ArrayLike) -> Trend:
    """The trend of `series`, float [n]; none of fewer than 4 values, and none of values around zero."""
    values = np.asarray(series, np.float64)
    count = len(values)
    middle = float(np.median(values)) if count else 0.0
    if count < 4 or middle <= 0:
        return Trend(0.0, 1.0)
    later, earlier = np.tril_indices(count, -1)
    steps = values[later] - values[earlier]
    slope = float(np.median(steps / (later - earlier)))
    score = float(np.sign(steps).sum())
    spread = math.sqrt(_variance(values))
    z = (abs(score) - 1) / spread if spread > 0 and score else 0.0
    return Trend(slope * (count - 1) / middle, math.erfc(max(z, 0.0) / math.sqrt(2)))


def _variance(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    """Of the score under no trend, corrected for ties."""
    _, ties = np.unique(values, return_counts=True)

    def part(size: np.ndarray[tuple[int, ...], np.dtype[np.int64]] | int) -> float:
        return float(np.sum(np.asarray(size, np.float64) * (size - 1) * (2 * size + 5)))

    return (part(len(values)) - part(ties)) / 18


def settled_after(series: ArrayLike, tolerance: float = 0.25, most: float = 0.25) -> int:
    """How many values at the very beginning are above the rest's median by more than `tolerance` of it.

    0 if all of the share `most` are: what is slow for so long is no warming up, but a trend.
    """
    values = np.asarray(series, np.float64)
    limit = int(len(values) * most)
    if not limit:
        return 0
    bound = (1 + tolerance) * float(np.median(values[limit:]))
    slow = values[:limit] > bound
    return 0 if slow.all() else int(np.argmin(slow))

"""Where the true quantile lies, from a sequence in which neighbours resemble each other.

Between order statistics of independent values the quantile lies with a probability that is binomial (H. A. David and
H. N. Nagaraja, Order Statistics, 3rd ed. 2003, section 7.1). Latencies are not independent: a queue makes slow ones
come together. How much that matters is estimated from batch means of "above the quantile or not" (L. W. Schmeiser,
Batch size effects in the analysis of simulation output, Operations Research 30, 1982: 10 to 30 batches; P.
Heidelberger and P. A. W. Lewis, Quantile estimation in dependent sequences, Operations Research 32, 1984), and the
sequence counts for as many independent values as have the same variance.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

_BATCHES: Final = 30
_LEAST_PER_BATCH: Final = 5
_DEVIATIONS: Final = 12.0


class QuantileInterval(NamedTuple):
    """The interval; `high` is infinite where even the greatest value is not certainly above the quantile.

    `effective` is how many independent values the sequence is worth.
    """

    low: float
    high: float
    effective: float


def quantile_interval(sequence: ArrayLike, p: float, confidence: float = 0.95) -> QuantileInterval:
    """The interval of the p-quantile of `sequence`, float [n] in order of time.

    Raises:
        ValueError: p or confidence is not between 0 and 1, or the sequence is empty.
    """
    values = np.asarray(sequence, np.float64)
    if not (0 < p < 1 and 0 < confidence < 1 and len(values)):
        raise ValueError(f"p = {p}, confidence = {confidence}, {len(values)} values")
    ordered = np.sort(values)
    effective = effective_count(values > ordered[min(int(p * len(values)), len(values) - 1)], 1 - p)
    low, high = rank_levels(max(int(effective), 1), p, confidence)
    below = max(int(np.floor(low * len(values))) - 1, 0)
    above = int(np.ceil(high * len(values))) - 1
    found = float(ordered[above]) if above < len(values) else float("inf")
    return QuantileInterval(float(ordered[below]), found, effective)


def effective_count(above: NDArray[np.bool_], share: float) -> float:
    """How many independent trials of probability `share` vary as the mean of `above`, bool [n], does; n at most."""
    count = len(above)
    batches = min(_BATCHES, count // _LEAST_PER_BATCH)
    if batches < 2:
        return float(count)
    size = count // batches
    means = above[: size * batches].reshape(batches, size).mean(axis=1)
    inflation = float(means.var(ddof=1)) * size / (share * (1 - share))
    return count / max(inflation, 1.0)


def rank_levels(count: int, p: float, confidence: float) -> tuple[float, float]:
    """Shares of the order statistics of `count` values between which the p-quantile lies; above 1: there is none."""
    deviation = np.sqrt(count * p * (1 - p))
    first = max(int(count * p - _DEVIATIONS * deviation) - 1, 0)
    last = min(int(count * p + _DEVIATIONS * deviation) + 1, count)
    below = special.bdtr(np.arange(first, last + 1), count, p)
    tail = (1 - confidence) / 2
    low = first + int(np.searchsorted(below, tail, side="right"))
    high = first + int(np.searchsorted(below, 1 - tail)) + 1
    return low / count, high / count

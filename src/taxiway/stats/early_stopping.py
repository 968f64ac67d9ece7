"""How many queries prove a latency bound, and what bound a number of queries proves: MLPerf's early stopping.

With h queries under the bound and t over it, "a share p of all queries is under it" is proven at confidence c if so
few over it would come by chance with probability below 1 - c at most (V. J. Reddi et al., MLPerf Inference Benchmark,
ISCA 2020; MLPerf inference rules, appendix Early Stopping Criterion). The binomial sum is a regularized incomplete
beta function.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

CONFIDENCE: Final = 0.99
"""As MLPerf's rules say."""


def least_under(over: int, p: float, confidence: float = CONFIDENCE) -> int:
    """The fewest queries under the bound that allow `over` above it."""
    low, high = 0, max(1, math.ceil(math.log(1 - confidence) / math.log(p)))
    while special.betainc(high, over + 1, p) >= 1 - confidence:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        if special.betainc(middle, over + 1, p) < 1 - confidence:
            high = middle
        else:
            low = middle
    return high


def proves_bound(count: int, over: int, p: float, confidence: float = CONFIDENCE) -> bool:
    """Whether `count` queries, `over` of them above the bound, prove that a share p of all is under it."""
    return count - over >= least_under(over, p, confidence)


def most_over(count: int, p: float, confidence: float = CONFIDENCE) -> int:
    """The most queries above a bound with which `count` still prove it; -1 if even none do not."""
    if count < least_under(0, p, confidence):
        return -1
    low, high = 0, count
    while high - low > 1:
        middle = (low + high) // 2
        if proves_bound(count, middle, p, confidence):
            low = middle
        else:
            high = middle
    return low


def proven_percentile(latencies: ArrayLike, p: float, confidence: float = CONFIDENCE) -> float:
    """The least bound that these latencies prove for the share p; infinite if they are too few to prove any."""
    ordered = np.sort(np.asarray(latencies, np.float64))
    over = most_over(len(ordered), p, confidence)
    return float(ordered[len(ordered) - 1 - over]) if over >= 0 else float("inf")

"""Where the share of slow requests crosses what is allowed, from all that was measured nearby. Pure.

A bisection decides by one run after the other, each with its noise; a line through all of them is steadier. The log
odds of the share are taken as linear in the log of the rate, and fitted by Newton's method with a weak prior on the
slope (logistic regression with a ridge: le Cessie and van Houwelingen, Applied Statistics 41, 1992).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from scipy.special import expit

_SLOPE: Final = 10.0
_SLOPE_DEVIATION: Final = 20.0
_PRIOR_REQUESTS: Final = 0.1
_STEPS: Final = 60
_LEAST_SLOPE: Final = 1.0


class Point(NamedTuple):
    """A rate, the share of slow requests there, and how many independent ones it is known from."""

    rate_per_s: float
    share: float
    effective: float


def crossing(points: Sequence[Point], allowed: float, middle_per_s: float) -> float | None:
    """The rate at which the share is `allowed`; None where the points do not say.

    Args:
        points: near the crossing.
        allowed: between 0 and 1.
        middle_per_s: about where it is.
    """
    if len({point.rate_per_s for point in points}) < 2:
        return None
    x = np.log([point.rate_per_s / middle_per_s for point in points])
    n = np.array([point.effective + _PRIOR_REQUESTS for point in points])
    slow = np.array([point.share * point.effective + allowed * _PRIOR_REQUESTS for point in points])
    level = math.log(allowed / (1 - allowed))
    design = np.stack([np.ones_like(x), x], axis=1)
    theta = np.array([level, _SLOPE])
    for _ in range(_STEPS):
        p = expit(np.clip(design @ theta, -30, 30))
        gradient = design.T @ (slow - n * p)
        curvature = (design * (n * p * (1 - p) + 1e-9)[:, None]).T @ design
        gradient[1] -= (theta[1] - _SLOPE) / _SLOPE_DEVIATION**2
        curvature[1, 1] += 1 / _SLOPE_DEVIATION**2
        step = np.clip(np.linalg.solve(curvature, gradient), -3, 3)
        theta = theta + step
        if float(np.abs(step).max()) < 1e-6:
            break
    if theta[1] < _LEAST_SLOPE:
        return None
    return middle_per_s * math.exp((level - float(theta[0])) / float(theta[1]))


def independent(latency: Sequence[float], limit: float) -> float:
    """How many independent requests a run is worth as to how many are slower than `limit`; the order is that of time.

    A request that failed is infinitely slow: they come together as slow ones do.

    Slow requests come together, and a short run may have none of them: how much neighbours resemble each other is then
    seen at lower levels. So the inflation of the variance of batch means (Schmeiser 1982) is taken at the limit, the
    median and the 90th percentile, with 10 and with 30 batches, and the greatest counts.
    """
    values = np.asarray(latency, np.float64)
    if len(values) < 2:
        return float(len(values))
    levels = (limit, *np.quantile(values, (0.5, 0.9), method="lower"))  # between two infinite ones there is none
    inflation = max(_inflation(values > level, batches) for level in levels for batches in (10, 30))
    return len(values) / max(inflation, 1.0)


def _inflation(above: np.ndarray[tuple[int], np.dtype[np.bool_]], batches: int) -> float:
    share = float(above.mean())
    size = len(above) // batches
    if size < 2 or not 0 < share < 1:
        return 1.0
    means = above[: size * batches].reshape(batches, size).mean(axis=1)
    return float(means.var(ddof=1)) * size / (share * (1 - share))

"""From a histogram to the range that a quantizer maps onto its integers. Pure."""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from taxiway.optimize.calibrate.histogram import Histogram

Range = tuple[float, float]

LEVELS_OF_8_BITS = 255
_SHRINKS = np.linspace(0.3, 1.0, 71)


class Method(StrEnum):
    """How a range is chosen."""

    MINMAX = "minmax"
    """Every value seen fits."""
    MSE = "mse"
    """The least squared error of 8 bits over the values seen: rounding inside against clipping outside.
    Banner et al. 2019, arXiv 1810.05723, section 3, with the histogram in place of a fitted density."""
    PERCENTILE = "percentile"
    """All but one value in ten thousand, half at each end."""


TAIL = 1e-4
"""The share of values that PERCENTILE gives up."""


def range_of(histogram: Histogram, method: Method, *, symmetric: bool) -> Range:
    """Least and greatest value that the integers will stand for; holds 0, which padding and ReLU need exactly."""
    if histogram.total == 0 or histogram.scale is None:
        return 0.0, 0.0
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    if method is Method.PERCENTILE:
        low, high = _without_tails(histogram, low, high)
    elif method is Method.MSE:
        low, high = _least_error(histogram, low, high, symmetric=symmetric)
    if symmetric:
        largest = max(-low, high)
        return -largest, largest
    return low, high


def _without_tails(histogram: Histogram, low: float, high: float) -> Range:
    middles, counts = histogram.bins()
    share = np.cumsum(counts) / counts.sum()
    first = int(np.searchsorted(share, TAIL / 2))
    last = int(np.searchsorted(share, 1 - TAIL / 2))
    edge = histogram.width / 2
    return max(low, min(float(middles[first]) - edge, 0.0)), min(high, max(float(middles[last]) + edge, 0.0))


def _least_error(histogram: Histogram, low: float, high: float, *, symmetric: bool) -> Range:
    """Try every pair of shrunken ends, one after the other: the ends hardly touch each other's error."""
    middles, counts = histogram.bins()
    weights = counts.astype(np.float64)
    if symmetric:
        largest = max(-low, high)
        shrunken = largest * _SHRINKS
        errors = [_error(middles, weights, -one, one) for one in shrunken]
        best = float(shrunken[int(np.argmin(errors))])
        return -best, best
    for _ in range(2):
        if high > 0:
            ends = high * _SHRINKS if high == max(histogram.high, 0.0) else np.append(_SHRINKS * histogram.high, high)
            high = float(ends[int(np.argmin([_error(middles, weights, low, end) for end in ends]))])
        if low < 0:
            ends = low * _SHRINKS if low == min(histogram.low, 0.0) else np.append(_SHRINKS * histogram.low, low)
            low = float(ends[int(np.argmin([_error(middles, weights, end, high) for end in ends]))])
    return low, high


def _error(middles: NDArray[np.float64], weights: NDArray[np.float64], low: float, high: float) -> float:
    """Squared error of clipping to [low, high] and rounding there."""
    step = (high - low) / LEVELS_OF_8_BITS
    clipped = np.clip(middles, low, high)
    outside = middles - clipped
    rounding = step * step / 12.0
    return float((weights * (outside * outside)).sum() + rounding * weights.sum())

"""Is the mean of paired differences below a margin? One look at a frozen set of samples.

Differences of right and wrong take three values, for which Tango's score test holds its level down to a handful of
discordant pairs; others are judged by Student's t, corrected for skewness, which losses always have.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm, t

Floats = NDArray[np.float64]

_NEARLY_ONE: Final = 1.0 - 1e-9


def upper_of_mean(differences: Floats, alpha: float) -> float:
    """The upper end of a one-sided interval of level `1 - alpha` for the mean."""
    return _bound(np.asarray(differences, dtype=np.float64), alpha)


def lower_of_mean(differences: Floats, alpha: float) -> float:
    """The lower end of a one-sided interval of level `1 - alpha` for the mean."""
    return -_bound(-np.asarray(differences, dtype=np.float64), alpha)


def samples_needed(differences: Floats, margin: float, alpha: float) -> int | None:
    """How many samples in all would put the upper end below `margin`, if more were like these; None: none would.

    The half-width of an interval shrinks with the root of its samples. Where no difference was seen yet, three divided
    by the number of samples bounds their share at 95 % (the rule of three).
    """
    mean = float(np.mean(differences))
    if mean >= margin:
        return None
    half = upper_of_mean(differences, alpha) - mean
    return math.ceil(len(differences) * (half / (margin - mean)) ** 2)


def _bound(differences: Floats, alpha: float) -> float:
    if bool(np.isin(differences, (-1.0, 0.0, 1.0)).all()):
        return _tango(int((differences > 0).sum()), int((differences < 0).sum()), len(differences), alpha)
    return _skewed(differences, alpha)


def _tango(more: int, less: int, n: int, alpha: float) -> float:
    """The upper end for a difference of paired proportions.

    Args:
        more: pairs that differ one way.
        less: pairs that differ the other way; the difference is `(more - less) / n`.
        n: pairs.
        alpha: one-sided.

    Tango 1998, Statistics in Medicine 17:891, equations 4 to 6: the score statistic with its nuisance parameter at the
    maximum of the likelihood under the difference.
    """
    z = float(norm.isf(alpha))

    def beyond(difference: float) -> float:
        return _score(more, less, n, difference) + z

    estimate = (more - less) / n
    if beyond(_NEARLY_ONE) > 0:
        return 1.0
    low = max(estimate, -_NEARLY_ONE)
    return float(brentq(beyond, low, _NEARLY_ONE, xtol=1e-9)) if beyond(low) > 0 else low


def _score(more: int, less: int, n: int, difference: float) -> float:
    a = 2.0 * n
    b = -more - less + (2.0 * n - more + less) * difference
    c = -less * difference * (1.0 - difference)
    share = (math.sqrt(max(b * b - 4.0 * a * c, 0.0)) - b) / (2.0 * a)
    variance = n * (2.0 * share + difference * (1.0 - difference))
    return 0.0 if variance <= 0.0 else (more - less - n * difference) / math.sqrt(variance)


def _skewed(differences: Floats, alpha: float) -> float:
    """The upper end for a mean, by Hall's transformation of t.

    Hall 1992, Journal of the Royal Statistical Society B 54:221, the cubic transformation g1, inverted: it takes the
    first term of the skewness out and is monotonic.
    """
    n = len(differences)
    mean, deviation = float(np.mean(differences)), float(np.std(differences, ddof=1)) if n > 1 else math.inf
    if deviation == 0.0 or not math.isfinite(deviation):
        return mean if deviation == 0.0 else math.inf
    skewness = float(np.mean(((differences - mean) / deviation) ** 3))
    quantile = float(t.isf(alpha, n - 1))
    return mean - deviation / math.sqrt(n) * _unskewed(-quantile, skewness / math.sqrt(n))


def _unskewed(quantile: float, gamma: float) -> float:
    """The inverse of g(x) = x + gamma x^2 / 3 + gamma^2 x^3 / 27 + gamma / 6."""
    if abs(gamma) < 1e-9:
        return quantile
    inside: Any = 1.0 + gamma * (quantile - gamma / 6.0)
    return 3.0 / gamma * (math.copysign(abs(inside) ** (1.0 / 3.0), inside) - 1.0)

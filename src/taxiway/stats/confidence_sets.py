"""Shares and quantiles with intervals that hold at all times, and whether two arms have the same quantile.

S. R. Howard, A. Ramdas, "Sequential estimation of quantiles with applications to A/B testing", Bernoulli 2022
(arXiv:1906.09712). Exact, on the values themselves; the one-sided question with a margin that rollouts decide by is in
quantile_test.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from taxiway.stats.mixtures import BetaBinomial, bound

Floats = NDArray[np.float64]
_ALPHA_OPT = 0.05
_EDGE = 1e-12


def share_interval(successes: int, trials: int, alpha: float, t_opt: float) -> tuple[float, float]:
    """The interval of a probability that so many of the trials came true; shortest around `t_opt` trials."""
    seen = successes / trials
    level = math.log(1 / alpha)

    def excess(p: float) -> float:
        mixture = BetaBinomial.tuned(p * (1 - p) * t_opt, _ALPHA_OPT, p, 1 - p, one_sided=False)
        return mixture.log_e((seen - p) * trials, p * (1 - p) * trials) - level

    low = _crossing(excess, _EDGE, min(seen, 1 - _EDGE)) if successes else 0.0
    high = _crossing(excess, max(seen, _EDGE), 1 - _EDGE) if successes < trials else 1.0
    return low, high


def _crossing(excess: Callable[[float], float], low: float, high: float) -> float:
    if excess(low) * excess(high) > 0:  # nothing up to the end is excluded
        return round(low if low <= _EDGE else high)
    return float(brentq(excess, low, high, xtol=1e-12))


def quantile_interval(values: Floats, p: float, alpha: float, t_opt: float) -> tuple[float, float]:
    """The interval of the p-quantile of what these values come from.

    Args:
        values: shape (n,), in any order.
        p: 0 to 1.
        alpha: 0 to 1.
        t_opt: values around which it is shortest.
    """
    ordered, t = np.sort(values), len(values)
    spread = p * (1 - p)

    def radius(g: float, h: float) -> float:
        return bound(BetaBinomial.tuned(spread * t_opt, _ALPHA_OPT, g, h, one_sided=False), spread * t, alpha) / t

    low, high = math.floor(t * (p - radius(1 - p, p)) + 1), math.ceil(t * (p + radius(p, 1 - p)))
    return (
        -math.inf if low < 1 else float(ordered[low - 1]),
        math.inf if high > t else float(ordered[high - 1]),
    )


def same_quantile_p_value(one: Floats, other: Floats, p: float, t_opt: float) -> float:
    """How likely what was seen, or worse, is at any time if both arms have the same p-quantile (theorem 5; two-sided).

    Args:
        one: values of an arm, shape (n,).
        other: values of the other, shape (m,).
        p: 0 to 1.
        t_opt: values of an arm around which it has the most power.
    """
    mixture = BetaBinomial.tuned(t_opt * p * (1 - p), _ALPHA_OPT, p, 1 - p, one_sided=False)
    places = np.unique(np.concatenate([one, other]))
    return min(1.0, math.exp(-(_least(mixture, one, p, places) + _least(mixture, other, p, places)).min()))


def _least(mixture: BetaBinomial, values: Floats, p: float, places: Floats) -> Floats:
    """At each place the least evidence against its being the quantile: ties may lie on either side of it."""
    ordered, n = np.sort(values), len(values)
    below = np.searchsorted(ordered, places, side="left") / n
    upto = np.searchsorted(ordered, places, side="right") / n

    def evidence(share: float) -> float:
        return mixture.log_e((share - p) * n, p * (1 - p) * n)

    best = _lowest(evidence)
    return np.asarray([evidence(min(max(best, low), high)) for low, high in zip(below, upto, strict=True)])


def _lowest(function: Callable[[float], float]) -> float:
    """Where a convex function on 0 to 1 is lowest, by golden sections."""
    low, high, ratio = 0.0, 1.0, (math.sqrt(5) - 1) / 2
    while high - low > 1e-9:
        one, two = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, two) if function(one) < function(two) else (one, high)
    return (low + high) / 2

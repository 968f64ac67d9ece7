"""Curves in closed form that a sum, or a whole empirical distribution, stays below at all times.

Stitching: time is cut into epochs that grow geometrically, and each gets its part of alpha. S. R. Howard, A. Ramdas, J.
McAuliffe, J. Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences", Annals of Statistics 2021
(arXiv:1810.08240), theorem 1; S. R. Howard, A. Ramdas, "Sequential estimation of quantiles with applications to A/B
testing", Bernoulli 2022 (arXiv:1906.09712), theorems 2 and 3.
"""

from __future__ import annotations

import functools
import math
from typing import Final

from scipy.optimize import brentq, minimize_scalar
from scipy.special import expit, logit, zeta

_S: Final = 1.4
"""How fast an epoch's part of alpha falls."""
_ETA: Final = 2.0
"""Each epoch is so many times as long as the one before."""


def poly_stitching(v: float, alpha: float, v_min: float, c: float = 0.0, s: float = _S, eta: float = _ETA) -> float:
    """What a sub-gamma sum of scale c stays below at intrinsic time v, at all times from `v_min` on (theorem 1)."""
    time = max(v, v_min)
    level = s * math.log(math.log(eta * time / v_min)) + math.log(zeta(s) / math.log(eta) ** s / alpha)
    k1, k2 = _stretches(eta)
    shift = k2 * c * level
    return math.sqrt(k1**2 * time * level + shift**2) + shift


def distribution_lil(t: float, alpha: float, t_min: float, a: float = 0.85) -> float:
    """How far the empirical distribution of t values is from the true one, anywhere, at all times from t_min.

    Theorem 2; `a` is the leading constant, above 1 / sqrt(2).
    """
    if t < t_min:
        return math.inf
    return a * math.sqrt((math.log(1 + math.log(t / t_min)) + lil_constant(alpha, a)) / t)


@functools.lru_cache(maxsize=64)
def lil_constant(alpha: float, a: float = 0.85) -> float:
    """The smallest C for which `distribution_lil` holds at level alpha."""

    def error(eta: float, c: float) -> float:
        gamma = 2 / eta * (a - math.sqrt(2 * (eta - 1) / c)) ** 2
        return math.inf if gamma <= 1 else 4 * math.exp(-gamma * c) * (1 + 1 / ((gamma - 1) * math.log(eta)))

    def least_error(c: float) -> float:
        end = brentq(lambda eta: math.sqrt(eta / 2) + math.sqrt(2 * (eta - 1) / c) - a, 1.0, 2 * a * a)
        bounds = (1 + 1e-9, end * (1 - 1e-9))
        return float(minimize_scalar(error, args=(c,), bounds=bounds, method="bounded", options={"xatol": 1e-10}).fun)

    return float(brentq(lambda c: math.log(least_error(c) / alpha), 1.0, 200.0, xtol=1e-10))


def double_stitching(p: float, t: float, alpha: float, t_opt: float, delta: float = 0.5) -> float:
    """How far the count of values below the true quantile is above p t, for all p and all times at once (theorem 3).

    Args:
        p: the quantile, 0 to 1.
        t: values.
        alpha: 0 to 1.
        t_opt: from which time on it is good.
        delta: how fine the grid of quantiles is.
    """
    time = max(t, t_opt)
    k1, k2 = _stretches(_ETA)
    near = p if p >= 0.5 else min(0.5, float(expit(logit(p) + 2 * delta * math.sqrt(t_opt * _ETA / time))))
    variance = near * (1 - near)
    cell = math.sqrt(time / t_opt) * abs(float(logit(p))) / (2 * delta) + 1
    parts = 2 * zeta(_S) * (2 * zeta(_S) + 1) / (alpha * math.log(_ETA) ** _S)
    level = _S * (math.log(math.log(_ETA * time / t_opt)) + math.log(cell)) + math.log(parts)
    shift = k2 * (1 - 2 * p) / 3 * level
    grid = delta * math.sqrt(_ETA * time * variance / t_opt)
    return grid + math.sqrt(k1**2 * variance * time * level + shift**2) + shift


def _stretches(eta: float) -> tuple[float, float]:
    """What an epoch costs in place of a moment."""
    return (eta**0.25 + eta**-0.25) / math.sqrt(2), (math.sqrt(eta) + 1) / 2

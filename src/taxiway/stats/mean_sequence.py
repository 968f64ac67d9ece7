"""Intervals of a mean that hold at all times, for values without bounds, once there are enough of them.

The asymptotic confidence sequence of I. Waudby-Smith, D. Arbour, R. Sinha, E. Kennedy, A. Ramdas, "Time-uniform central
limit theory and asymptotic confidence sequences", Annals of Statistics 2024 (arXiv:2103.06476), and covariates known
before the treatment taken out first, as in A. Deng, Y. Xu, R. Kohavi, T. Walker, "CUPED", WSDM 2013.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Moments:
    """Sums over the values y of one arm, and over what was known of each before, x."""

    n: int
    y: float
    yy: float
    x: float = 0.0
    xx: float = 0.0
    xy: float = 0.0

    def plus(self, other: Moments) -> Moments:
        """Both together."""
        pairs = zip(self._all(), other._all(), strict=True)
        n, *sums = (mine + theirs for mine, theirs in pairs)
        return Moments(int(n), *sums)

    def _all(self) -> tuple[float, ...]:
        return (self.n, self.y, self.yy, self.x, self.xx, self.xy)

    @property
    def mean(self) -> float:
        """Of y."""
        return self.y / self.n

    @property
    def variance(self) -> float:
        """Of y, unbiased; 0 for one value."""
        return _variance(self.n, self.y, self.yy)


def half_width(n: float, sd: float, alpha: float, n_opt: float) -> float:
    """Half the length of the two-sided interval of a mean of n values; it is shortest, for its level, at n_opt."""
    r2 = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / n_opt
    return sd * math.sqrt(2 * (n * r2 + 1) / (n**2 * r2) * math.log(math.sqrt(n * r2 + 1) / alpha))


def one_sided_width(n: float, sd: float, alpha: float, n_opt: float) -> float:
    """How far below the mean the lower bound of the one-sided interval lies."""
    level = 2 * alpha
    r2 = (-2 * math.log(level) + math.log(-2 * math.log(level) + 1)) / n_opt
    return sd * math.sqrt(2 * (n * r2 + 1) / (n**2 * r2) * math.log(1 + math.sqrt(n * r2 + 1) / level))


def difference_interval(one: Moments, other: Moments, alpha: float, n_opt: float = 5000.0) -> tuple[float, float]:
    """The interval of mean(one) - mean(other), both reduced by what their covariates explain; both have two values."""
    theta = _theta(one.plus(other))
    mean, variance = _difference(one, other, theta)
    n = one.n + other.n
    half = half_width(n, math.sqrt(variance * n), alpha, n_opt)
    return mean - half, mean + half


def _difference(one: Moments, other: Moments, theta: float) -> tuple[float, float]:
    x_mean = (one.x + other.x) / (one.n + other.n)
    means = [arm.mean - theta * (arm.x / arm.n - x_mean) for arm in (one, other)]
    squares = [
        max(0.0, arm.variance - 2 * theta * _covariance(arm) + theta**2 * _variance(arm.n, arm.x, arm.xx)) / arm.n
        for arm in (one, other)
    ]
    return means[0] - means[1], sum(squares)


def _theta(both: Moments) -> float:
    spread = _variance(both.n, both.x, both.xx)
    return _covariance(both) / spread if spread > 0 else 0.0


def _variance(n: int, total: float, squares: float) -> float:
    return max(0.0, (squares - total**2 / n) / (n - 1)) if n > 1 else 0.0


def _covariance(moments: Moments) -> float:
    n = moments.n
    return (moments.xy - moments.x * moments.y / n) / (n - 1) if n > 1 else 0.0


def log_e_above(n: int, mean: float, variance: float, bound: float, alpha: float, n_opt: float) -> float:
    """The evidence, in nats, that the mean is above `bound`: at what level `one_sided_width` would just exclude it.

    Asymptotic, as the interval is; at most it is what a hundred standard errors give, so that it stays a number.
    """
    if mean <= bound:
        return 0.0
    level = 2 * alpha
    k = n * (-2 * math.log(level) + math.log(-2 * math.log(level) + 1)) / n_opt + 1
    errors = min((mean - bound) / math.sqrt(max(variance / n, 1e-300)), 100.0)
    x = errors**2 * (k - 1) / (2 * k)
    return x + math.log(-math.expm1(-x)) + math.log(2) - math.log(k) / 2 if x else 0.0

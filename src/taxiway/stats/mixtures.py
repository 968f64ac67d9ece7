"""Sums that stay below a curve at all times: curves made by mixing over what the sum may do.

S. R. Howard, A. Ramdas, J. McAuliffe, J. Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences",
Annals of Statistics 2021 (arXiv:1810.08240), propositions 4 to 9. A process S with intrinsic time V belongs to each
mixture by how its increments are bounded; exp(log_e(S, V)) is then a test supermartingale, and S is above
bound(V, alpha) at any time with probability alpha at most.

The rollouts' own tests are built on others (event_label.py, fixed_bets.py); these make the intervals of
confidence_sets.py, and are what those who know the field compare with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from scipy.optimize import brentq
from scipy.special import betainc, betaln, gammainc, gammaln, log_ndtr

_DOUBLINGS: Final = 50


class Mixture(Protocol):
    """A family of sums, and how they are mixed."""

    def log_e(self, s: float, v: float) -> float:
        """Evidence, in nats, that the sum s at intrinsic time v is none of the family's."""

    def most(self, v: float) -> float:
        """What the sum can be at most at time v."""


def bound(mixture: Mixture, v: float, alpha: float) -> float:
    """What the sum exceeds at time v, or ever did before at its times, with probability at most alpha.

    Args:
        mixture: of the sum's family.
        v: intrinsic time, above 0.
        alpha: 0 to 1.
    """
    level = math.log(1 / alpha)
    high = mixture.most(v)
    if math.isinf(high):
        high = next(s for s in (v * 2.0**power for power in range(_DOUBLINGS)) if mixture.log_e(s, v) > level)
    if mixture.log_e(high, v) < level:
        return high
    return float(brentq(lambda s: mixture.log_e(s, v) - level, 0.0, high, xtol=1e-12))


def best_rho(v_opt: float, alpha_opt: float, *, one_sided: bool) -> float:
    """The mixture's spread that makes the bound at time `v_opt` and level `alpha_opt` the lowest.

    An approximation that is good to a few percent (section 3.5).
    """
    level = 2 * math.log(1 / (2 * alpha_opt if one_sided else alpha_opt))
    return v_opt / (level + math.log(1 + level))


@dataclass(frozen=True, slots=True)
class TwoSidedNormal:
    """Sums whose increments are sub-Gaussian: |S| is bounded."""

    rho: float

    @classmethod
    def tuned(cls, v_opt: float, alpha_opt: float) -> TwoSidedNormal:
        """The lowest at time `v_opt`."""
        return cls(best_rho(v_opt, alpha_opt, one_sided=False))

    def log_e(self, s: float, v: float) -> float:
        """See `Mixture`."""
        return (math.log(self.rho / (v + self.rho)) + s**2 / (v + self.rho)) / 2

    def most(self, v: float) -> float:  # noqa: ARG002 - nothing bounds it
        """See `Mixture`."""
        return math.inf


@dataclass(frozen=True, slots=True)
class OneSidedNormal:
    """As `TwoSidedNormal`, with S bounded from above only, and lower for it."""

    rho: float

    @classmethod
    def tuned(cls, v_opt: float, alpha_opt: float) -> OneSidedNormal:
        """The lowest at time `v_opt`."""
        return cls(best_rho(v_opt, alpha_opt, one_sided=True))

    def log_e(self, s: float, v: float) -> float:
        """See `Mixture`."""
        total = v + self.rho
        return float((math.log(4 * self.rho / total) + s**2 / total) / 2 + log_ndtr(s / math.sqrt(total)))

    def most(self, v: float) -> float:  # noqa: ARG002 - nothing bounds it
        """See `Mixture`."""
        return math.inf


@dataclass(frozen=True, slots=True)
class GammaExponential:
    """Sub-exponential sums: only the size of their increments is bounded from above, by c, as of counts and squares."""

    rho: float
    c: float

    @classmethod
    def tuned(cls, v_opt: float, alpha_opt: float, c: float) -> GammaExponential:
        """The lowest at time `v_opt`."""
        return cls(best_rho(v_opt, alpha_opt, one_sided=True), c)

    def log_e(self, s: float, v: float) -> float:
        """See `Mixture`."""
        square = self.c**2
        prior, time, place = self.rho / square, (v + self.rho) / square, (self.c * s + v) / square
        constant = prior * math.log(prior) - gammaln(prior) - math.log(gammainc(prior, prior))
        grown = gammaln(time) + _log(gammainc(time, place + prior)) - time * math.log(place + prior) + place
        return float(constant + grown)

    def most(self, v: float) -> float:  # noqa: ARG002 - nothing bounds it
        """See `Mixture`."""
        return math.inf


@dataclass(frozen=True, slots=True)
class BetaBinomial:
    """Sums of increments between -g and h with mean 0, as of what a share of trials differs from its probability."""

    r: float
    g: float
    h: float
    one_sided: bool
    _prior: float = field(init=False)

    def __post_init__(self) -> None:
        """The mixture's own weight."""
        object.__setattr__(self, "_prior", self._log_beta(self.r, self.r))

    @classmethod
    def tuned(cls, v_opt: float, alpha_opt: float, g: float, h: float, *, one_sided: bool) -> BetaBinomial:
        """The lowest at time `v_opt`."""
        rho = best_rho(v_opt, alpha_opt, one_sided=one_sided)
        return cls(max(rho - g * h, 1e-3 * g * h), g, h, one_sided)

    def log_e(self, s: float, v: float) -> float:
        """See `Mixture`."""
        g, h = self.g, self.h
        size = g + h
        null = v / (g * h) * math.log(size)
        null -= (v + h * s) / (h * size) * math.log(g) + (v - g * s) / (g * size) * math.log(h)
        return null + self._log_beta(self.r + v - g * s, self.r + v + h * s) - self._prior

    def _log_beta(self, below: float, above: float) -> float:
        """Log of the beta function of these, in units of the steps; of its part that lies above, if one-sided."""
        a, b = below / (self.g * (self.g + self.h)), above / (self.h * (self.g + self.h))
        whole = float(betaln(a, b))
        return whole + _log(betainc(a, b, self.h / (self.g + self.h))) if self.one_sided else whole

    def most(self, v: float) -> float:
        """See `Mixture`."""
        return v / self.g


def _log(x: Any) -> float:  # noqa: ANN401 - SciPy's numbers
    return math.log(x) if x > 0 else -math.inf

"""What is expected of points that were not measured, from those that were: a Gaussian process over a grid. Pure.

Matern 5/2 with a length for each axis; lengths and noise are those of the greatest marginal likelihood among a few
(C. E. Rasmussen and C. K. I. Williams, Gaussian Processes for Machine Learning, 2006, chapters 2, 4 and 5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.stats import norm

_LENGTHS: Final = (0.15, 0.3, 0.6, 1.2, 2.4)
"""In widths of the whole axis."""
_NOISES: Final = (0.001, 0.01, 0.05, 0.2)
"""Share of the variance."""
_SWEEPS: Final = 2

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Belief:
    """Of each point: what is expected, and how uncertain that is. Both of shape (points,)."""

    mean: Floats
    deviation: Floats

    def improvement(self, best: float) -> Floats:
        """How much above `best` each point is expected to be, what is below counting as nothing (Jones et al. 1998)."""
        gap = self.mean - best
        z = gap / self.deviation
        expected: Floats = gap * norm.cdf(z) + self.deviation * norm.pdf(z)
        return expected


def believe(measured: Floats, values: Floats, everywhere: Floats) -> Belief:
    """What to believe of `everywhere` (points, axes), from `values` (n) measured at `measured` (n, axes)."""
    center, scale = float(values.mean()), float(values.std()) or 1.0
    y = (values - center) / scale
    lengths, noise = _fit(measured, y)
    factor = cholesky(_kernel(measured, measured, lengths) + noise * np.eye(len(y)), lower=True)
    cross = _kernel(measured, everywhere, lengths)
    mean = cross.T @ cho_solve((factor, True), y)
    left = 1.0 - (solve_triangular(factor, cross, lower=True) ** 2).sum(axis=0)
    return Belief(center + scale * mean, scale * np.sqrt(np.maximum(left, 1e-9)))


def _fit(measured: Floats, y: Floats) -> tuple[Floats, float]:
    """Lengths and noise, one after the other made better."""
    lengths, noise = np.full(measured.shape[1], 0.6), 0.01
    best = _likelihood(measured, y, lengths, noise)
    for _ in range(_SWEEPS):
        for axis in range(len(lengths)):
            for length in _LENGTHS:
                tried = lengths.copy()
                tried[axis] = length
                if (found := _likelihood(measured, y, tried, noise)) > best:
                    best, lengths = found, tried
        for level in _NOISES:
            if (found := _likelihood(measured, y, lengths, level)) > best:
                best, noise = found, level
    return lengths, noise


def _likelihood(measured: Floats, y: Floats, lengths: Floats, noise: float) -> float:
    """The log of the marginal likelihood, but for a constant."""
    factor = cholesky(_kernel(measured, measured, lengths) + noise * np.eye(len(y)), lower=True)
    fit = float(y @ cho_solve((factor, True), y))
    prior = float(((np.log(lengths) - np.log(0.6)) ** 2).sum())  # few points fit any length
    return -0.5 * fit - float(np.log(np.diag(factor)).sum()) - 0.25 * prior


def _kernel(one: Floats, other: Floats, lengths: Floats) -> Floats:
    distance = np.sqrt((((one[:, None, :] - other[None, :, :]) / lengths) ** 2).sum(axis=2)) * np.sqrt(5)
    value: Floats = (1 + distance + distance**2 / 3) * np.exp(-distance)
    return value

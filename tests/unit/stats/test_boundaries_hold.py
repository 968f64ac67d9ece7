"""What boundaries promise, simulated where the hypothesis is true: they are crossed, ever, in a share of alpha at most.

And that they are no higher than they have to be: half as high, they would be crossed more often than that.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from taxiway.stats.boundaries import distribution_lil, double_stitching, poly_stitching
from taxiway.stats.confidence_sets import same_quantile_p_value, share_interval
from taxiway.stats.mixtures import BetaBinomial, GammaExponential, Mixture, OneSidedNormal, TwoSidedNormal, bound

Floats = NDArray[np.float64]
ALPHA = 0.1
RUNS, TIMES = 1000, np.arange(1, 401)


def normal(chance: np.random.Generator) -> Floats:
    """Increments of variance 1."""
    return chance.normal(0, 1, (RUNS, len(TIMES)))


def exponential(chance: np.random.Generator) -> Floats:
    """Sub-exponential of scale 1: they may be as large as they like."""
    return chance.exponential(1, (RUNS, len(TIMES))) - 1


def trials(chance: np.random.Generator) -> Floats:
    """Of 0.8 with probability 0.2 and of -0.2 otherwise: variance 0.16."""
    return np.where(chance.random((RUNS, len(TIMES))) < 0.2, 0.8, -0.2)


def crossed(sums: Floats, curve: Floats) -> float:
    """The share of runs that were above the curve at any time, by more than what adding up rounds."""
    return float((sums > curve + 1e-9).any(axis=1).mean())


@pytest.mark.parametrize(
    ("mixture", "increments", "variance"),
    [
        (OneSidedNormal.tuned(100, ALPHA), normal, 1.0),
        (TwoSidedNormal.tuned(100, ALPHA), normal, 1.0),
        (GammaExponential.tuned(100, ALPHA, 1.0), exponential, 1.0),
        (BetaBinomial.tuned(16, ALPHA, 0.2, 0.8, one_sided=True), trials, 0.16),
        (BetaBinomial.tuned(16, ALPHA, 0.2, 0.8, one_sided=False), trials, 0.16),
    ],
)
def test_mixtures(mixture: Mixture, increments: Callable[[np.random.Generator], Floats], variance: float) -> None:
    sums = increments(np.random.default_rng(21)).cumsum(axis=1)
    curve = np.array([bound(mixture, t * variance, ALPHA) for t in TIMES.tolist()])
    assert crossed(sums, curve) <= ALPHA < crossed(sums, curve / 2)


def test_both_sides_of_the_two_sided_one() -> None:
    sums = np.abs(normal(np.random.default_rng(22)).cumsum(axis=1))
    curve = np.array([bound(TwoSidedNormal.tuned(100, ALPHA), t, ALPHA) for t in TIMES.tolist()])
    assert crossed(sums, curve) <= ALPHA < crossed(sums, curve / 2)


@pytest.mark.parametrize(("increments", "c"), [(normal, 0.0), (exponential, 1.0)])
def test_stitching(increments: Callable[[np.random.Generator], Floats], c: float) -> None:
    sums = increments(np.random.default_rng(23)).cumsum(axis=1)
    curve = np.array([poly_stitching(t, ALPHA, 10, c) for t in TIMES.tolist()])
    assert crossed(sums, curve) <= ALPHA < crossed(sums, curve / 2)


GRID = np.linspace(0.02, 0.98, 49)
LOOKS = np.arange(50, 401, 10)


def below_their_quantiles(chance: np.random.Generator) -> Floats:
    """Of uniform values, how many lie below each quantile at each look: shape (runs, looks, quantiles)."""
    values = chance.random((300, LOOKS[-1]))
    below = (values[:, :, None] <= GRID).cumsum(axis=1)
    return np.asarray(below[:, LOOKS - 1], np.float64)


def test_the_distribution_by_the_iterated_logarithm() -> None:
    apart = np.abs(below_their_quantiles(np.random.default_rng(24)) / LOOKS[:, None] - GRID).max(axis=2)
    curve = np.array([distribution_lil(t, ALPHA, 50) for t in LOOKS.tolist()])
    assert crossed(apart, curve) <= ALPHA < crossed(apart, curve / 2)


def test_all_quantiles_by_double_stitching() -> None:
    above = below_their_quantiles(np.random.default_rng(25)) - GRID * LOOKS[:, None]
    curves = np.array([[double_stitching(p, t, ALPHA, 50) for p in GRID] for t in LOOKS.tolist()])
    assert crossed((above / curves).max(axis=2), np.ones(len(LOOKS))) <= ALPHA
    assert crossed((above / curves).max(axis=2), np.full(len(LOOKS), 1 / 3)) > ALPHA


@pytest.mark.parametrize("share", [0.02, 0.3])
def test_intervals_of_shares(share: float) -> None:
    came = (np.random.default_rng(26).random((200, 400)) < share).cumsum(axis=1)
    missed = 0
    for run in came:
        intervals = (share_interval(int(run[t - 1]), t, ALPHA, 200) for t in range(20, 401, 20))
        missed += any(not low <= share <= high for low, high in intervals)
    assert missed / len(came) <= ALPHA


def test_two_arms_of_the_same_quantile() -> None:
    """Of different distributions with one median; and of medians apart by a half it is told in most runs."""
    chance = np.random.default_rng(27)
    told = [
        sum(
            min(same_quantile_p_value(one[:n], other[:n], 0.5, 100) for n in (30, 60, 120, 180)) <= ALPHA
            for one, other in ((chance.normal(0, 1, 180), chance.laplace(apart, 2, 180)) for _ in range(60))
        )
        / 60
        for apart in (0.0, 1.5)
    ]
    assert told[0] <= ALPHA
    assert told[1] >= 0.5
    assert math.isclose(same_quantile_p_value(np.arange(9.0), np.arange(9.0), 0.5, 100), 1.0)

"""The paired tests keep their level, and say how many samples are missing."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import xlogy
from scipy.stats import norm

from taxiway.stats.paired import lower_of_mean, samples_needed, upper_of_mean

Floats = NDArray[np.float64]


def pairs(more: int, less: int, n: int) -> Floats:
    return np.concatenate([np.ones(more), -np.ones(less), np.zeros(n - more - less)])


def score_by_definition(more: int, less: int, n: int, difference: float) -> float:
    """The score statistic, its nuisance parameter found by looking for the largest likelihood."""

    def unlikely(share: float) -> float:
        rest = 1 - 2 * share - difference
        return -float(xlogy(more, share + difference) + xlogy(less, share) + xlogy(n - more - less, rest))

    least, most = max(0.0, -difference), (1 - difference) / 2
    share = minimize_scalar(unlikely, bounds=(least, most), method="bounded", options={"xatol": 1e-12}).x
    return float((more - less - n * difference) / np.sqrt(n * (2 * share + difference * (1 - difference))))


@pytest.mark.parametrize(("more", "less", "n"), [(12, 2, 20), (9, 1, 44), (1, 5, 100), (30, 28, 400), (3, 0, 50)])
@pytest.mark.parametrize("alpha", [0.05, 0.0125])
def test_the_ends_for_discordant_pairs_are_where_tangos_score_is_at_its_quantile(
    more: int, less: int, n: int, alpha: float
) -> None:
    upper = upper_of_mean(pairs(more, less, n), alpha)
    lower = lower_of_mean(pairs(more, less, n), alpha)
    assert score_by_definition(more, less, n, upper) == pytest.approx(-norm.isf(alpha), abs=1e-3)
    assert score_by_definition(more, less, n, lower) == pytest.approx(norm.isf(alpha), abs=1e-3)


def test_nothing_wrong_in_n_pairs_bounds_the_loss_at_about_the_rule_of_three() -> None:
    assert upper_of_mean(np.zeros(1000), 0.05) == pytest.approx(0.0027, abs=0.0005)


def test_all_pairs_the_same_way_is_the_end_of_the_scale() -> None:
    assert upper_of_mean(np.ones(10), 0.05) == 1.0
    assert lower_of_mean(-np.ones(10), 0.05) == -1.0


@pytest.mark.parametrize("share", [0.005, 0.02, 0.1])
def test_the_upper_end_for_discordant_pairs_covers_as_often_as_it_says(share: float) -> None:
    rng = np.random.default_rng(3)
    misses = 0
    for _ in range(600):
        drawn = rng.random(800)
        differences = np.where(drawn < share, 1.0, np.where(drawn < 1.6 * share, -1.0, 0.0))
        misses += upper_of_mean(differences, 0.05) < 0.4 * share
    assert misses / 600 < 0.08


@pytest.mark.parametrize("draw", ["lognormal", "normal", "mostly nothing"])
def test_the_upper_end_for_skewed_losses_covers_as_often_as_it_says(draw: str) -> None:
    rng = np.random.default_rng(4)
    misses = 0
    for _ in range(600):
        if draw == "lognormal":
            values, mean = rng.lognormal(0.0, 1.0, 300), float(np.exp(0.5))
        elif draw == "normal":
            values, mean = rng.normal(1.0, 2.0, 300), 1.0
        else:
            values, mean = np.where(rng.random(300) < 0.1, rng.exponential(1.0, 300), 0.0), 0.1
        misses += upper_of_mean(values, 0.05) < mean
    assert misses / 600 < 0.085


def test_values_that_are_all_alike_have_no_spread() -> None:
    assert upper_of_mean(np.full(50, 0.25), 0.05) == 0.25


def test_one_value_says_nothing() -> None:
    assert upper_of_mean(np.array([0.25]), 0.05) == np.inf


def test_the_samples_that_are_missing_are_about_those_that_settle_it() -> None:
    rng = np.random.default_rng(5)
    share, margin = 0.02, 0.01

    def draw(n: int) -> Floats:
        drawn = rng.random(n)
        return np.where(drawn < share, 1.0, np.where(drawn < 1.9 * share, -1.0, 0.0))

    first = draw(500)
    first[:] = np.concatenate([pairs(10, 9, 500)])
    assert upper_of_mean(first, 0.05) > margin
    needed = samples_needed(first, margin, 0.05)
    assert needed is not None
    assert 500 < needed < 5000
    like_these = np.concatenate([first] * (needed // 500 + 1))
    assert upper_of_mean(like_these, 0.05) <= margin


def test_no_number_of_samples_helps_what_is_worse() -> None:
    assert samples_needed(pairs(20, 0, 100), 0.01, 0.05) is None

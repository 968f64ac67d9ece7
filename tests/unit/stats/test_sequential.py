"""The other sequential tests: published values, what they promise under the hypothesis, and that they find harm."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import lambertw

from taxiway.stats.betting import BettingTest
from taxiway.stats.log_buckets import LogHistogram
from taxiway.stats.mean_sequence import Moments, difference_interval, half_width, one_sided_width
from taxiway.stats.quantile_test import log_e_harm, log_e_safe
from taxiway.stats.sample_ratio import log_bayes_factor


@pytest.mark.parametrize(("null", "flip", "expected"), [(0.6, False, 4.205088), (0.3, True, 4.752522)])
def test_betting_gives_the_values_of_an_independent_implementation(null: float, flip: bool, expected: float) -> None:
    test = BettingTest(null, 0.05)
    for x in [0, 1, 1, 0.5, 0.75] * 200:
        test.add(1 - x if flip else x)
    assert test.log_e == pytest.approx(expected, abs=1e-6)


def test_betting_seldom_grows_rich_on_what_is_true() -> None:
    chance = np.random.default_rng(1)
    rich = 0
    for _ in range(200):
        test = BettingTest(0.7, 0.05)
        for x in chance.beta(7, 3, 400):
            test.add(float(x))
            if test.log_e >= math.log(20):
                rich += 1
                break
    assert rich / 200 <= 0.05


@pytest.mark.parametrize(
    ("difference", "passed", "median"), [(0.0, 0.99, 338), (-0.03, 0.0, 215), (-0.006, 0.84, None)]
)
def test_pairs_of_a_shadow_are_judged_as_measured_before_this_was_written(
    difference: float, passed: float, median: float | None
) -> None:
    """Scores that differ by so much on average, two in five not at all; a margin of 0.02, the last lies inside it."""
    walks = [judge_pairs(np.random.default_rng(run), difference) for run in range(200)]
    assert sum(safe for safe, _ in walks) / len(walks) == pytest.approx(passed, abs=0.05)
    if median is not None:
        assert np.median([pairs for _, pairs in walks]) == pytest.approx(median, rel=0.1)


def judge_pairs(chance: np.random.Generator, difference: float) -> tuple[bool, int]:
    """Whether safety was shown rather than harm, and after how many pairs."""
    harm, safe = BettingTest(0.5, 0.05), BettingTest((1 - 0.02) / 2, 0.05)
    apart = np.clip(chance.normal(difference / 0.6, 0.15, 4000), -1, 1) * (chance.random(4000) < 0.6)
    for pairs, one in enumerate(apart.tolist(), 1):
        harm.add((1 - one) / 2)
        safe.add((1 + one) / 2)
        if max(harm.log_e, safe.log_e) >= math.log(20):
            return safe.log_e >= math.log(20), pairs
    raise AssertionError("4,000 pairs were not enough")


def test_sample_ratio_gives_the_published_values() -> None:
    counts, told = [0, 0, 0], []
    for batch in ([20, 17, 9], [18, 21, 8], [4, 6, 4], [18, 19, 11]):
        counts = [one + more for one, more in zip(counts, batch, strict=True)]
        told.append(log_bayes_factor(counts, (0.4, 0.4, 0.2), (1, 1, 1)))
    assert told == pytest.approx([-2.95056079, -3.68190088, -3.86065843, -4.18381398], abs=1e-7)


@pytest.mark.parametrize(
    ("counts", "expected"), [((480, 9520), -0.1252), ((400, 9600), 5.1416), ((700, 9300), 19.4097)]
)
def test_sample_ratio_of_a_canary(counts: tuple[int, int], expected: float) -> None:
    assert log_bayes_factor(counts, (0.05, 0.95)) == pytest.approx(expected, abs=1e-4)


def test_sample_ratio_gives_the_published_value_of_ten_visitors() -> None:
    """ssrm's regression test: visitors as they came, and the least p-value so far."""
    arms = [2, 2, 2, 2, 0, 2, 2, 0, 1, 2]
    seen = [[arms[:n].count(arm) for arm in range(3)] for n in range(1, 11)]
    factors = [math.exp(log_bayes_factor(counts, (0.1, 0.5, 0.4))) for counts in seen]
    assert factors[-1] == pytest.approx(1.0017496120131435, rel=1e-9)
    assert min(1 / factor for factor in factors) == pytest.approx(0.9980534145723241, rel=1e-9)


def test_a_right_split_is_seldom_flagged_however_often_it_is_looked_at() -> None:
    chance = np.random.default_rng(14)
    flagged = 0
    for _ in range(200):
        candidate = chance.binomial(500, 0.05, 60).cumsum().tolist()
        looks = [(mine, 500 * look - mine) for look, mine in enumerate(candidate, 1)]
        flagged += max(log_bayes_factor(counts, (0.05, 0.95)) for counts in looks) >= math.log(20)
    assert flagged / 200 <= 0.05


def test_looking_always_costs_half_as_much_again_and_nothing_for_the_short_form_of_its_tuning() -> None:
    fixed = 1.959964 / math.sqrt(1000)
    assert fixed == pytest.approx(0.06198, abs=1e-5)
    assert half_width(1000, 1, 0.05, 1000) / fixed == pytest.approx(1.55, abs=0.005)
    exact = (-lambertw(-(0.05**2) / math.e, -1).real - 1) / 1000
    shortest = math.sqrt(2 * (1000 * exact + 1) / (1000**2 * exact) * math.log(math.sqrt(1000 * exact + 1) / 0.05))
    assert shortest <= half_width(1000, 1, 0.05, 1000) <= shortest * 1.001


def test_asymptotic_intervals_give_the_published_values() -> None:
    assert half_width(1000, 1, 0.05, 1000) == pytest.approx(0.09598, abs=1e-5)
    width = one_sided_width(6461, 0.12983081 * math.sqrt(6461), 0.05, 5000)
    assert (0.23437667 - width, 0.23437667 + width) == pytest.approx((-0.12656844, 0.59532178), abs=1e-7)


def test_what_was_known_before_makes_intervals_shorter() -> None:
    chance = np.random.default_rng(2)

    def arm(shift: float) -> tuple[Moments, Moments]:
        x = chance.normal(10, 3, 4000)
        y = x + chance.normal(0, 1, 4000) + shift
        sums = [float(value) for value in (y.sum(), (y * y).sum(), x.sum(), (x * x).sum(), (x * y).sum())]
        return Moments(4000, *sums), Moments(4000, sums[0], sums[1])

    (one, plain_one), (other, plain_other) = arm(0.5), arm(0.0)
    low, high = difference_interval(one, other, 0.05)
    plain_low, plain_high = difference_interval(plain_one, plain_other, 0.05)
    assert low < 0.5 < high
    assert high - low < 0.5 * (plain_high - plain_low)


def histogram(times: np.ndarray) -> LogHistogram:
    made = LogHistogram()
    for one in times:
        made.observe(float(one))
    return made


@pytest.mark.parametrize("p", [0.5, 0.9, 0.99])
def test_a_slower_quantile_is_found_and_an_equal_one_is_not(p: float) -> None:
    chance = np.random.default_rng(3)
    base, same = chance.lognormal(0, 0.3, 40_000) * 1e7, chance.lognormal(0, 0.3, 8000) * 1e7
    baseline = histogram(base)
    assert log_e_harm(baseline, histogram(same * 1.4), p, 0.1) > math.log(20)
    assert log_e_harm(baseline, histogram(same), p, 0.1) < 0
    assert log_e_safe(baseline, histogram(same * 1.4), p, 0.1) < 0
    assert log_e_safe(baseline, histogram(same), p, 0.1) > math.log(20)


@pytest.mark.parametrize("test", [log_e_harm, log_e_safe])
def test_at_the_margin_neither_direction_is_refuted(test: object) -> None:
    chance = np.random.default_rng(4)
    crossed = 0
    for _ in range(40):
        baseline, candidate = LogHistogram(), LogHistogram()
        for _ in range(10):
            for one in chance.lognormal(0, 0.5, 200) * 1e7:
                baseline.observe(float(one))
            for one in chance.lognormal(0, 0.5, 60) * 1.1e7:
                candidate.observe(float(one))
            if test(baseline, candidate, 0.5, 0.1) >= math.log(20):  # type: ignore[operator]
                crossed += 1
                break
    assert crossed / 40 <= 0.05

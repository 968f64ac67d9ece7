"""The one-sided process of two arms' quantiles: published values, on values and on histograms, and what it promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.stats.log_buckets import GAMMA, LEAST_NS, PER_OCTAVE, LogHistogram
from taxiway.stats.quantile_test import Floats, log_e_harm, log_e_quantile_above, log_mixture

MARGIN = 0.05


def exponential() -> tuple[Floats, Floats]:
    """Quantiles of an exponential distribution, and every fifth of them a quarter longer."""
    base = -50 * np.log1p(-(np.arange(5000) + 0.5) / 5000)
    return base, base[::5] * 1.25


def histogram(values: Floats) -> LogHistogram:
    made = LogHistogram()
    for value in values:
        made.observe(float(value))
    return made


@pytest.mark.parametrize(("p", "expected"), [(0.5, 2.6742), (0.9, 4.2217), (0.99, 0.7791)])
def test_values_give_the_evidence_of_an_independent_implementation(p: float, expected: float) -> None:
    assert log_e_quantile_above(*exponential(), p, MARGIN) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("p", "expected"), [(0.5, 2.1972), (0.9, 3.7332), (0.99, 0.7256)])
def test_histograms_give_the_evidence_of_an_independent_implementation(p: float, expected: float) -> None:
    """It had five buckets to the margin, the first of which began at 0.001.

    The test knows only the order of buckets and how many the margin is: these are put on ours, 400 of them further down
    so that the longest times have one.
    """
    in_buckets = [np.log(values / 1e-3) * 5 / math.log1p(MARGIN) - 400 for values in exponential()]
    base, candidate = (LEAST_NS * GAMMA**places for places in in_buckets)
    found = log_e_harm(histogram(base), histogram(candidate), p, 2 ** (5 / PER_OCTAVE) - 1)
    assert found == pytest.approx(expected, abs=1e-4)


@given(
    st.lists(st.integers(1, 10**6), min_size=1, max_size=60),
    st.lists(st.integers(1, 10**6), min_size=1, max_size=60),
    st.sampled_from([0.001, 0.1, 0.5, 0.9, 0.99]),
    st.sampled_from([0.0, 0.05, 0.1, 0.5]),
)
def test_histograms_claim_no_more_than_the_values_and_no_less_than_they_do_of_a_bucket_further(
    base: list[int], candidate: list[int], p: float, margin: float
) -> None:
    one, other = (np.asarray(values, np.float64) * LEAST_NS for values in (base, candidate))
    found = log_e_harm(histogram(one), histogram(other), p, margin)
    assert found <= log_e_quantile_above(one, other, p, margin) + 1e-9
    assert found >= log_e_quantile_above(one, other, p, a_bucket_further(margin)) - 1e-9


def a_bucket_further(margin: float) -> float:
    """The margin, rounded up to whole buckets, and one more, since a value may lie anywhere in its own."""
    return float(GAMMA ** (math.ceil(math.log2(1 + margin) * PER_OCTAVE - 1e-9) + 1) * (1 + 1e-9) - 1)


@given(st.floats(1e-6, 1 - 1e-6), st.booleans())
def test_whatever_the_quantile_one_value_is_a_fair_bet(p: float, above: bool) -> None:
    """Of a value that is below with probability p the expected gain is none: so is that of any number of them."""
    gains = np.exp(log_mixture(np.array([0.0, 1.0]), 1.0, p, above=above))
    assert (1 - p) * gains[0] + p * gains[1] == pytest.approx(1, abs=1e-9)
    assert (gains[1] > gains[0]) == above


def test_values_seldom_refute_what_is_true() -> None:
    chance = np.random.default_rng(5)
    refuted = 0
    for _ in range(100):
        base, candidate = chance.lognormal(0, 0.5, 3000), chance.lognormal(0, 0.5, 600) * 1.1
        refuted += any(
            log_e_quantile_above(base[: 5 * n], candidate[:n], 0.5, 0.1) >= math.log(20) for n in range(50, 601, 50)
        )
    assert refuted / 100 <= 0.05


def test_a_slower_tail_is_found_on_values_and_on_histograms() -> None:
    """On values 51.8 was measured of another draw; on histograms less is found the wider their buckets are."""
    chance = np.random.default_rng(9)
    base, candidate = chance.lognormal(0, 0.4, 60_000) * 1e7, chance.lognormal(0, 0.4, 6000) * 1.3e7
    exact = log_e_quantile_above(base, candidate, 0.99, MARGIN)
    assert 35 < exact < 70
    assert 0.5 * exact < log_e_harm(histogram(base), histogram(candidate), 0.99, MARGIN) < exact

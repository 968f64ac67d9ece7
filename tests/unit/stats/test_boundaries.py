"""Published values of the boundaries, and what they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.stats.boundaries import distribution_lil, double_stitching, lil_constant, poly_stitching
from taxiway.stats.confidence_sets import quantile_interval, same_quantile_p_value, share_interval
from taxiway.stats.many import refuted_by_bonferroni, refuted_by_e_bh
from taxiway.stats.mixtures import (
    BetaBinomial,
    GammaExponential,
    Mixture,
    OneSidedNormal,
    TwoSidedNormal,
    best_rho,
    bound,
)


def test_the_best_spread_is_the_published_one() -> None:
    assert best_rho(100, 0.05, one_sided=False) == pytest.approx(12.60056, abs=1e-5)


@pytest.mark.parametrize(
    ("mixture", "log_e", "curve"),
    [
        (TwoSidedNormal.tuned(100, 0.05), -0.6510052, 30.35209),
        (OneSidedNormal.tuned(100, 0.05), -0.06502391, 27.66071),
        (GammaExponential.tuned(100, 0.05, 2), -0.2490165, 33.02017),
        (BetaBinomial.tuned(100, 0.05, 0.2, 0.8, one_sided=False), -0.6941012, 31.4308),
        (BetaBinomial.tuned(100, 0.05, 0.2, 0.8, one_sided=True), -0.07134019, 28.41238),
    ],
)
def test_mixtures_give_the_published_values(mixture: Mixture, log_e: float, curve: float) -> None:
    assert mixture.log_e(10, 100) == pytest.approx(log_e, abs=1e-6)
    assert bound(mixture, 100, 0.05) == pytest.approx(curve, abs=1e-4)


def test_a_bounded_sum_cannot_exceed_what_it_can_be() -> None:
    assert bound(BetaBinomial.tuned(100, 0.05, 0.2, 0.8, one_sided=True), 0.32, 0.05) == pytest.approx(1.6)


@pytest.mark.parametrize(("c", "expected"), [(3, 64.48755), (-1, 28.99389)])
def test_stitching_gives_the_published_values(c: float, expected: float) -> None:
    assert poly_stitching(100, 0.05, 10, c) == pytest.approx(expected, abs=1e-5)


def test_the_iterated_logarithm_gives_the_published_values() -> None:
    assert lil_constant(0.05) == pytest.approx(8.1227, abs=1e-4)
    assert distribution_lil(1000, 0.05, 100) == pytest.approx(0.08204769, abs=1e-6)
    assert math.isinf(distribution_lil(99, 0.05, 100))


@pytest.mark.parametrize(("p", "expected"), [(0.5, 68.62803), (0.9, 43.72119), (0.1, 59.96521)])
def test_double_stitching_gives_the_published_values(p: float, expected: float) -> None:
    assert double_stitching(p, 1000, 0.05, 100) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("p", "shift", "expected"), [(0.5, 70, 0.814704), (0.5, 85, 0.0838055), (0.5, 100, 0.0054947), (0.9, 55, 0.0340463)]
)
def test_quantiles_of_two_arms_give_the_published_values(p: float, shift: float, expected: float) -> None:
    one = np.arange(1, 1001, dtype=np.float64)
    assert same_quantile_p_value(one, one + shift, p, 100) == pytest.approx(expected, rel=1e-5)
    assert same_quantile_p_value(one + shift, one, p, 100) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("successes", "trials", "t_opt", "expected"),
    [
        (700, 1000, 100, (0.651629, 0.745949)),
        (15, 50, 50, (0.129556, 0.511896)),
        (5, 50, 50, (0.013021, 0.269264)),
        (1, 50, 50, (0.0, 0.13489)),
        (100, 200, 1, (0.328923, 0.671076)),
        (12, 4000, 1000, (0.00091559, 0.00645641)),
    ],
)
def test_shares_give_the_published_values(
    successes: int, trials: int, t_opt: float, expected: tuple[float, float]
) -> None:
    assert share_interval(successes, trials, 0.05, t_opt) == pytest.approx(expected, abs=2e-6)


def test_a_share_of_none_and_of_all_is_bounded_on_one_side() -> None:
    low, high = share_interval(0, 200, 0.05, 100)
    assert (low, 0 < high < 0.1) == (0.0, True)
    assert share_interval(200, 200, 0.05, 100) == pytest.approx((1 - high, 1.0), abs=1e-9)


def test_the_interval_of_a_quantile_holds_it_at_all_times() -> None:
    chance = np.random.default_rng(11)
    missed = 0
    for _ in range(60):
        values = chance.exponential(1.0, 800)
        for t in range(50, 801, 50):
            low, high = quantile_interval(values[:t], 0.9, 0.1, 200)
            if not low <= math.log(10) <= high:
                missed += 1
                break
    assert missed / 60 <= 0.1


# --- several at once ------------------------------------------------------------------------------------------


def test_e_bh_gives_the_published_choice() -> None:
    assert refuted_by_e_bh(np.log([100, 50, 3, 0.2, 25]).tolist(), 0.05) == [0, 1]


EVIDENCE = st.lists(st.floats(-20, 20), min_size=1, max_size=20)


@given(EVIDENCE, st.floats(0.001, 0.5))
def test_e_bh_refutes_all_that_bonferroni_does(log_es: list[float], alpha: float) -> None:
    assert set(refuted_by_bonferroni(log_es, alpha)) <= set(refuted_by_e_bh(log_es, alpha))


@given(EVIDENCE, st.floats(0.001, 0.5), st.floats(0, 5))
def test_more_evidence_refutes_no_less(log_es: list[float], alpha: float, more: float) -> None:
    before = set(refuted_by_e_bh(log_es, alpha))
    assert before <= set(refuted_by_e_bh([log_es[0] + more, *log_es[1:]], alpha))


def test_weights_share_alpha() -> None:
    level = math.log(20)
    assert refuted_by_bonferroni([level + math.log(1.25), 9.0], 0.05, [4, 1]) == [0, 1]
    assert refuted_by_bonferroni([level, 9.0], 0.05, [4, 1]) == [1]


def test_e_bh_keeps_its_promise_on_average() -> None:
    """Of ten hypotheses of which eight are true: the share of wrong refutations among all, over many trials."""
    chance = np.random.default_rng(6)
    shares = []
    for _ in range(2000):
        x = chance.normal(0, 1, 10) + np.array([3.0, 3.0] + [0.0] * 8)
        found = refuted_by_e_bh((2 * x - 2).tolist(), 0.1)  # likelihood ratios of mean 2 against 0
        shares.append(sum(place >= 2 for place in found) / max(len(found), 1))
    assert np.mean(shares) <= 0.1

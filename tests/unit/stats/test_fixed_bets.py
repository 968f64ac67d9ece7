"""Bets with fixed stakes: what they prove, that order does not matter, and that they are seldom wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.stats.fixed_bets import (
    RATES,
    Values,
    log_capital,
    log_e_difference_above,
    log_e_difference_below,
    log_e_mean_above,
    log_e_mean_below,
)
from taxiway.stats.mean_sequence import log_e_above, one_sided_width

LEVEL = math.log(20)
parts = st.lists(
    st.tuples(st.floats(0.01, 0.99), st.booleans(), st.floats(0, 1), st.integers(0, 500)), min_size=1, max_size=8
)


def rates(share: float, mine: int, mine_bad: int, theirs: int, theirs_bad: int) -> list[Values]:
    return [
        Values(share, True, 1, mine_bad),
        Values(share, True, 0, mine - mine_bad),
        Values(share, False, 1, theirs_bad),
        Values(share, False, 0, theirs - theirs_bad),
    ]


def test_the_capital_is_that_of_bets_made_one_by_one() -> None:
    stakes = np.geomspace(0.01, 0.95, 8)
    payoffs, counts = np.array([0.5, -0.5, 0.1]), np.array([3.0, 1.0, 2.0])
    by_hand = np.mean([np.prod((1 + f * payoffs / 0.5) ** counts) for f in stakes])
    assert log_capital(payoffs, 0.5, counts) == pytest.approx(math.log(by_hand))


@given(parts, st.floats(-0.5, 0.5))
def test_order_and_process_do_not_matter(parts: list[tuple[float, bool, float, int]], difference: float) -> None:
    values = [Values(*part) for part in parts]
    split = [one._replace(times=1) for one in values for _ in range(int(min(one.times, 1)))]
    split += [one._replace(times=max(one.times - 1, 0)) for one in values]
    for test in (log_e_difference_above, log_e_difference_below):
        assert test(values[::-1], difference) == pytest.approx(test(values, difference), abs=1e-6)
        assert test(split, difference) == pytest.approx(test(values, difference), abs=1e-6)


def test_no_bad_event_at_all_proves_a_small_excess() -> None:
    assert log_e_difference_below(rates(0.1, 1000, 0, 9000, 0), 0.004, RATES) < LEVEL
    assert log_e_difference_below(rates(0.1, 1500, 0, 13500, 0), 0.004, RATES) > LEVEL
    assert log_e_difference_above(rates(0.1, 1500, 0, 13500, 0), 0.004, RATES) < 0


def test_means_of_bounded_values() -> None:
    assert log_e_mean_above([0.0, 1.0], [100, 900], 0.8) > LEVEL
    assert log_e_mean_below([0.0, 1.0], [300, 700], 0.8) > LEVEL
    assert log_e_mean_above([0.0, 1.0], [200, 800], 0.8) < 1
    assert log_e_mean_below([], [], 0.8) == log_e_difference_above([], 0.1) == 0


def test_at_the_boundary_they_seldom_cross_however_often_they_are_looked_at() -> None:
    """Rates of 1 % and 1.4 %, and a load of bad events that comes and goes in both arms."""
    chance, crossed, runs = np.random.default_rng(5), {"above": 0, "below": 0}, 400
    for _ in range(runs):
        counts = np.zeros(4)
        drift = np.where(chance.random(40) < 0.1, 8.0, 1.0)
        over = set()
        for factor in drift:
            mine, theirs = 100, 900
            base = 0.01 * factor
            bad = chance.binomial(mine, base + 0.004), chance.binomial(theirs, base)
            counts += [mine, bad[0], theirs, bad[1]]
            values = rates(0.1, *(int(count) for count in counts))
            over |= {"above"} if log_e_difference_above(values, 0.004, RATES) >= LEVEL else set()
            over |= {"below"} if log_e_difference_below(values, 0.004, RATES) >= LEVEL else set()
        for side in over:
            crossed[side] += 1
    assert max(crossed.values()) / runs <= 0.05


@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_the_evidence_of_a_mean_is_the_level_that_its_interval_just_excludes(alpha: float) -> None:
    width = one_sided_width(300, 2.0, alpha, 100.0)
    assert log_e_above(300, 1.0 + width, 4.0, 1.0, alpha, 100.0) == pytest.approx(math.log(1 / alpha))
    assert log_e_above(300, 0.9, 4.0, 1.0, alpha, 100.0) == 0
    assert math.isfinite(log_e_above(300, 2.0, 0.0, 1.0, alpha, 100.0))

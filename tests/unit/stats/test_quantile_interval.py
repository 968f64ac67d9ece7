"""The interval holds the true quantile as often as it says, for queues too."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special

from taxiway.stats.quantile_interval import effective_count, quantile_interval, rank_levels


def coverage(sequences: list[NDArray[np.float64]], p: float, truth: float) -> float:
    intervals = [quantile_interval(one, p) for one in sequences]
    return float(np.mean([one.low <= truth <= one.high for one in intervals]))


def test_independent_values_are_covered() -> None:
    rng = np.random.default_rng(1)
    assert coverage([rng.exponential(1, 3000) for _ in range(400)], 0.99, -np.log(0.01)) > 0.93


def test_the_waiting_times_of_a_queue_are_covered() -> None:
    """M/M/1 at 80 %: time in the system is exponential with rate 1 - 0.8, and neighbours wait alike."""
    rng = np.random.default_rng(2)

    def queue() -> NDArray[np.float64]:
        count = 20_000
        service, gaps = rng.exponential(1, count), rng.exponential(1 / 0.8, count)
        steps = np.cumsum(np.concatenate([[0.0], service[:-1] - gaps[1:]]))
        return steps - np.minimum.accumulate(steps) + service  # Lindley's recursion

    assert coverage([queue() for _ in range(100)], 0.9, float(np.log(10) / 0.2)) > 0.85


def test_one_burst_is_worth_less_than_its_requests() -> None:
    above = np.zeros(6000, bool)
    above[3000:3060] = True
    assert effective_count(above, 0.01) < 600
    assert effective_count(np.random.default_rng(3).random(6000) < 0.01, 0.01) > 2000


def test_too_few_values_have_no_upper_end() -> None:
    assert np.isinf(quantile_interval(np.arange(100.0), 0.99).high)


def test_the_levels_are_those_of_the_binomial() -> None:
    low, high = rank_levels(1000, 0.99, 0.95)
    held = special.bdtr(round(high * 1000) - 1, 1000, 0.99) - special.bdtr(round(low * 1000) - 1, 1000, 0.99)
    assert held >= 0.95


@pytest.mark.parametrize(("p", "confidence"), [(0.0, 0.95), (0.99, 1.0)])
def test_impossible_wishes_are_refused(p: float, confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence"):
        quantile_interval([1.0], p, confidence)

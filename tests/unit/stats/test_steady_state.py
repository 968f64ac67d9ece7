"""A trend is told from noise, and a beginning from the rest."""

from __future__ import annotations

import numpy as np

from taxiway.stats.steady_state import settled_after, trend_of

NOISE = np.random.default_rng(4).normal(0, 0.05, 60)


def test_noise_is_no_trend() -> None:
    assert not trend_of(1 + NOISE).is_real()


def test_a_rise_is_one_of_that_size() -> None:
    trend = trend_of(np.linspace(1, 2, 60) + NOISE)
    assert trend.is_real()
    assert 0.55 < trend.change < 0.75


def test_one_stall_is_no_trend() -> None:
    series = 1 + NOISE
    series[30:34] = 2000
    assert not trend_of(series).is_real()


def test_too_few_or_none_have_no_trend() -> None:
    assert not trend_of([]).is_real()
    assert not trend_of([1, 2, 3]).is_real()


def test_a_slow_beginning_is_counted() -> None:
    assert settled_after([3, 2, 1.5, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]) == 3
    assert settled_after([1] * 20) == 0


def test_a_stall_later_is_no_beginning() -> None:
    assert settled_after([1, 1, 50, 50, *[1] * 30]) == 0


def test_half_a_run_is_no_beginning() -> None:
    assert settled_after([5] * 10 + [1] * 10) == 0

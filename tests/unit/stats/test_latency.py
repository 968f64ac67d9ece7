"""LatencyCurve: the models of performance.md, noise, outliers, drift and tails."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.stats.latency import EXACT_ROWS, LatencyCurve, bin_of


def seed_from_rates(rates: dict[int, float]) -> list[tuple[int, int]]:
    return [(rows, round(rows / rate * 1e9)) for rows, rate in rates.items()]


# Rows per second by batch as measured for the three kinds of model in performance.md.
TREES = {1: 104e3, 8: 206e3, 16: 214e3, 64: 147e3}
MAGIKA = {1: 237.0, 4: 246.0, 32: 205.0}
MINILM = {1: 173.0, 8: 278.0, 32: 289.0}


@pytest.mark.parametrize(("rates", "best"), [(TREES, 8), (MAGIKA, 1), (MINILM, 8)])
def test_the_best_batch_is_measured_per_model(rates: dict[int, float], best: int) -> None:
    assert LatencyCurve(seed_from_rates(rates)).best_rows(64) == best


def test_best_rows_respects_the_maximum_and_the_tolerance() -> None:
    curve = LatencyCurve(seed_from_rates(TREES))
    assert curve.best_rows(64, tolerance=0.0) == 16
    assert curve.best_rows(4) == 1
    assert LatencyCurve().best_rows(32) == 32


def test_expected_goes_through_its_points_and_between_and_beyond_them() -> None:
    curve = LatencyCurve([(2, 200), (4, 300), (8, 500)])
    assert [curve.expected_ns(rows) for rows in (2, 3, 4, 6, 8, 16, 1)] == [200, 250, 300, 400, 500, 900, 150]
    assert LatencyCurve().expected_ns(7) == 0
    single = LatencyCurve([(4, 400)])
    assert [single.expected_ns(rows) for rows in (1, 4, 8)] == [400, 400, 800]


@given(st.integers(1, 1 << 20))
def test_bins_are_monotonic_and_at_most_an_eighth_wide(rows: int) -> None:
    assert bin_of(rows) <= bin_of(rows + 1) <= bin_of(rows) + 1
    if rows > EXACT_ROWS and bin_of(rows) == bin_of(rows - 1):
        assert bin_of(rows) != bin_of(rows - 1 + math.ceil(rows / 8))


@given(
    st.lists(st.tuples(st.integers(1, 512), st.integers(1_000, 10**9)), max_size=8),
    st.lists(st.tuples(st.integers(1, 512), st.integers(1, 10**12)), max_size=60),
    st.integers(1, 600),
)
def test_whatever_it_saw_its_answers_are_usable(
    seed: list[tuple[int, int]], runs: list[tuple[int, int]], rows: int
) -> None:
    curve = LatencyCurve(seed)
    for run_rows, ns in runs:
        curve.observe(run_rows, ns)
    assert curve.expected_ns(rows) >= 0
    assert 1 <= curve.best_rows(rows) <= rows
    low, high = curve.quantile_ns(rows, 0.5), curve.quantile_ns(rows, 0.99)
    assert low <= high
    assert (curve.expected_ns(rows) > 0) == bool(curve.points())


def test_noise_averages_out_and_outliers_hardly_count() -> None:
    noise = random.Random(7)  # noqa: S311 - noise, not secrets
    curve = LatencyCurve()
    for run in range(4000):
        rows = noise.choice((1, 4, 16))
        usual = 1_000_000 + 100_000 * rows
        curve.observe(rows, usual * 100 if run % 50 == 0 else round(usual * noise.uniform(0.9, 1.1)))
    for rows in (1, 4, 8, 16):
        assert curve.expected_ns(rows) == pytest.approx(1_000_000 + 100_000 * rows, rel=0.12)


def test_a_slow_first_run_is_forgotten_at_once() -> None:
    curve = LatencyCurve()
    for ns in (50_000_000, 1_000_000, 1_000_000):
        curve.observe(1, ns)
    assert curve.expected_ns(1) == pytest.approx(1_000_000)


def test_a_lasting_change_is_learnt() -> None:
    curve = LatencyCurve([(8, 1_000_000)])
    for _ in range(150):
        curve.observe(8, 3_000_000)
    assert curve.expected_ns(8) == pytest.approx(3_000_000, rel=0.05)
    for _ in range(150):
        curve.observe(8, 500_000)
    assert curve.expected_ns(8) == pytest.approx(500_000, rel=0.05)


def test_the_tail_is_an_upper_estimate_that_tightens() -> None:
    curve = LatencyCurve([(8, 1_000_000)])
    assert curve.quantile_ns(8, 0.99) >= 2_000_000  # nothing known yet: be careful
    noise = random.Random(3)  # noqa: S311 - noise, not secrets
    runs = [round(1_000_000 * noise.lognormvariate(0, 0.1)) for _ in range(3000)]
    for ns in runs:
        curve.observe(8, ns)
    true_p99 = sorted(runs)[int(0.99 * len(runs))]
    assert true_p99 * 0.97 <= curve.quantile_ns(8, 0.99) <= true_p99 * 1.15
    assert curve.quantile_ns(8, 0.5) <= 1_100_000


def test_the_tail_sees_the_outliers_that_the_mean_ignores() -> None:
    curve = LatencyCurve([(1, 1_000_000)])
    for run in range(2000):
        curve.observe(1, 8_000_000 if run % 20 == 0 else 1_000_000)
    assert curve.expected_ns(1) < 1_300_000
    assert curve.quantile_ns(1, 0.99) >= 8_000_000 * 0.95


def test_weights_never_overflow() -> None:
    curve = LatencyCurve([(1, 1000)])
    for _ in range(200_000):
        curve.observe(1, 1000)
    assert math.isfinite(curve.quantile_ns(1, 0.99))
    assert curve.quantile_ns(1, 0.99) <= 1100

from __future__ import annotations

import math
from bisect import bisect_left
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.telemetry.histogram import FIRST_RESPONSE, LATENCY, LOWEST, ROWS, Buckets, Histogram, NativeHistogram

DURATIONS = st.integers(0, 10**12)


def test_bounds_are_rising_and_shown_in_seconds() -> None:
    assert list(LATENCY.bounds) == sorted(set(LATENCY.bounds))
    assert LATENCY.le[0] == "1e-05"
    assert LATENCY.le[-1] == "100.0"
    assert ROWS.le[:3] == ("1.0", "2.0", "4.0")


def test_latency_has_the_bounds_that_others_set_objectives_on() -> None:
    otel = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
    assert {round(bound * 1e9) for bound in otel} <= set(LATENCY.bounds)
    assert set(FIRST_RESPONSE.bounds) <= set(LATENCY.bounds)


def test_neighbouring_bounds_are_at_most_a_factor_of_two_apart() -> None:
    assert all(high <= 2 * low for low, high in zip(LATENCY.bounds, LATENCY.bounds[1:], strict=False))


@pytest.mark.parametrize("bounds", [[2, 1], [1, 1]])
def test_bounds_that_do_not_rise_are_refused(bounds: list[int]) -> None:
    with pytest.raises(ValueError, match="must rise"):
        Buckets(bounds)


@given(st.lists(DURATIONS, max_size=30))
def test_every_value_is_counted_in_the_bucket_whose_bound_is_not_below_it(values: list[int]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.observe(value)
    for index, bound in enumerate(LATENCY.bounds):
        assert sum(histogram.counts[: index + 1]) == sum(value <= bound for value in values)
    assert histogram.count == len(values)
    assert histogram.total == sum(values)


@given(DURATIONS, st.integers(1, 100))
def test_observing_with_a_count_is_observing_that_often(value: int, count: int) -> None:
    once, often = Histogram(), Histogram()
    once.observe(value, count)
    for _ in range(count):
        often.observe(value)
    assert once.view() == often.view()


@given(st.lists(DURATIONS, min_size=1, max_size=40))
def test_observing_many_is_observing_each(values: list[int]) -> None:
    many, each = Histogram(), Histogram()
    many.observe_many(values)
    for value in values:
        each.observe(value)
    assert many.view() == each.view()


def test_a_value_beyond_the_last_bound_is_counted() -> None:
    histogram = Histogram(ROWS)
    histogram.observe(10**30)
    histogram.observe_many([1, 10**30])
    assert histogram.counts[-1] == 2


@given(st.lists(DURATIONS, max_size=40))
def test_coarse_buckets_are_what_observing_into_them_gives(values: list[int]) -> None:
    fine, coarse = Histogram(), Histogram(FIRST_RESPONSE)
    for value in values:
        fine.observe(value)
        coarse.observe(value)
    assert fine.view_in(FIRST_RESPONSE) == coarse.view()


@given(st.lists(st.integers(1, LATENCY.bounds[-1]), min_size=1, max_size=200), st.floats(0, 1))
def test_a_quantile_lies_in_the_bucket_of_the_exact_one(values: list[int], fraction: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.observe(value)
    exact = sorted(values)[max(math.ceil(fraction * len(values)) - 1, 0)]
    index = bisect_left(LATENCY.bounds, exact)
    low, high = (0, *LATENCY.bounds)[index : index + 2]
    assert low <= histogram.quantile(fraction) <= high


@given(st.lists(DURATIONS, min_size=1), st.lists(st.floats(0, 1), min_size=2, max_size=5))
def test_quantiles_rise(values: list[int], fractions: list[float]) -> None:
    histogram = Histogram()
    histogram.observe_many(values)
    quantiles = [histogram.quantile(fraction) for fraction in sorted(fractions)]
    assert quantiles == list(accumulate(quantiles, max))


def test_quantiles_at_the_edges() -> None:
    histogram = Histogram()
    assert math.isnan(histogram.quantile(0.5))
    histogram.observe(10**15)
    assert histogram.quantile(0.5) == LATENCY.bounds[-1]
    with pytest.raises(ValueError, match="between 0 and 1"):
        histogram.quantile(1.5)


def test_a_view_does_not_change_afterwards() -> None:
    histogram = Histogram()
    histogram.observe(2_000_000_000)
    view = histogram.view()
    histogram.observe(5)
    assert sum(view.counts) == 1
    assert view.total == 2.0


@given(st.lists(DURATIONS, max_size=40))
def test_classic_buckets_are_exact_beside_native_ones(values: list[int]) -> None:
    native, classic = NativeHistogram(), Histogram()
    for value in values:
        native.observe(value)
        classic.observe(value)
    assert native.view()[:3] == classic.view()[:3]
    assert native.view_in(FIRST_RESPONSE) == classic.view_in(FIRST_RESPONSE)


@given(st.integers(0, 1000 * 10**9))
def test_a_native_bucket_holds_its_value(value: int) -> None:
    histogram = NativeHistogram()
    histogram.observe(value, 3)
    ((index, count),) = histogram.view().fine or ()
    assert count == 3
    seconds = value / 1e9
    assert seconds <= 2 ** (index / 8)
    assert index == LOWEST or seconds > 2 ** ((index - 1) / 8)


def test_a_native_histogram_of_nothing_is_one() -> None:
    assert NativeHistogram().view().fine == ()
    assert Histogram().view().fine is None

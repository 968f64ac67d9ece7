"""Histograms of constant relative width."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.stats.log_buckets import BUCKETS, GAMMA, LogHistogram, bucket_of, lower_edge, upper_edge

times = st.lists(st.floats(0, 1e13), max_size=50)


@given(st.floats(0, 1e13))
def test_a_time_lies_in_its_bucket(ns: float) -> None:
    bucket = bucket_of(ns)
    assert lower_edge(bucket) <= ns * (1 + 1e-9)
    assert ns <= upper_edge(bucket) * (1 + 1e-9)


@given(times, times)
def test_histograms_add_up_and_come_back(one: list[float], other: list[float]) -> None:
    first, second, both = LogHistogram(), LogHistogram(), LogHistogram()
    for ns in one:
        first.observe(ns)
        both.observe(ns)
    before = LogHistogram(first.counts)
    for ns in other:
        second.observe(ns)
        both.observe(ns)
    first.merge(second)
    assert first.counts == both.counts
    assert first.minus(before).counts == second.counts
    assert LogHistogram.from_sparse(both.to_sparse()).counts == both.counts
    assert both.count == len(one) + len(other)


@given(times.filter(bool), st.floats(0.01, 1))
def test_a_quantile_is_at_most_a_bucket_too_high(ns: list[float], p: float) -> None:
    histogram = LogHistogram()
    for one in ns:
        histogram.observe(one)
    exact = sorted(ns)[max(0, -(-int(p * len(ns) * 1000) // 1000) - 1)]
    assert histogram.quantile(p) >= exact * 0.999 or histogram.quantile(p) == 1000


def test_what_is_above_is_never_overstated() -> None:
    histogram = LogHistogram()
    for ns in (900.0, 5e6, 5e6 * GAMMA**2, 1e9):
        histogram.observe(ns)
    assert histogram.count_above(5e6) == 2
    assert histogram.count_above(0) == 4
    assert histogram.count_above(2e9) == 0


@pytest.mark.parametrize("pairs", [[(BUCKETS, 1)], [(-1, 1)], [(3, -1)]])
def test_counts_that_cannot_be_are_refused(pairs: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="bucket"):
        LogHistogram.from_sparse(pairs)

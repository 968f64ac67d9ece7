"""Three digits, however large; and nothing is lost by merging."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.stats.hdr_histogram import GREATEST, HdrHistogram, greatest_of, slots_of

VALUES = st.lists(st.integers(0, GREATEST), min_size=1, max_size=50)


@given(st.integers(0, GREATEST))
def test_a_slot_holds_its_values_to_three_digits(value: int) -> None:
    greatest = greatest_of(int(slots_of(np.array([value]))[0]))
    assert value <= greatest <= max(value * 1.001, value)


@given(VALUES, st.sampled_from([0.0, 50.0, 90.0, 99.0, 100.0]))
def test_a_percentile_is_the_order_statistic_to_three_digits(values: list[int], percent: float) -> None:
    exact = float(np.percentile(values, percent, method="inverted_cdf"))
    assert exact <= HdrHistogram(values).percentile(percent) <= exact * 1.001


@given(VALUES, VALUES)
def test_merging_counts_as_if_there_had_been_one(first: list[int], second: list[int]) -> None:
    merged = HdrHistogram.merged([HdrHistogram(first), HdrHistogram(second)])
    whole = HdrHistogram(first + second)
    assert merged.to_sparse() == whole.to_sparse()
    assert (merged.greatest, merged.total) == (whole.greatest, whole.total)


def test_what_is_out_of_range_counts_at_its_end() -> None:
    histogram = HdrHistogram([-5.0, 1e30])
    assert histogram.count == 2
    assert histogram.percentile(50) == 0
    assert histogram.greatest == GREATEST


def test_nothing_has_no_percentiles() -> None:
    assert HdrHistogram().percentile(99) == 0
    assert HdrHistogram().mean == pytest.approx(0)

"""MLPerf's numbers: how many queries prove what."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from taxiway.stats.early_stopping import least_under, most_over, proven_percentile, proves_bound


@pytest.mark.parametrize(("p", "queries"), [(0.90, 44), (0.95, 90), (0.99, 459)])
def test_with_none_over_so_many_are_needed(p: float, queries: int) -> None:
    assert least_under(0, p) == queries


def test_a_multistream_run_of_662_queries_may_have_one_over() -> None:
    assert least_under(1, 0.99) + 1 == 662


@pytest.mark.parametrize("over", [0, 1, 5, 40])
def test_one_fewer_does_not_prove_it(over: int) -> None:
    under = least_under(over, 0.99)
    assert special.bdtr(over, under + over, 0.01) < 0.01
    assert special.bdtr(over, under - 1 + over, 0.01) >= 0.01


def test_the_most_over_is_the_last_that_proves() -> None:
    most = most_over(24_576, 0.99)
    assert proves_bound(24_576, most, 0.99)
    assert not proves_bound(24_576, most + 1, 0.99)


def test_a_proven_percentile_is_above_the_plain_one() -> None:
    latencies = np.random.default_rng(0).exponential(1, 5000)
    assert np.percentile(latencies, 90) < proven_percentile(latencies, 0.9) < np.percentile(latencies, 92)
    assert np.isinf(proven_percentile(latencies[:43], 0.9))

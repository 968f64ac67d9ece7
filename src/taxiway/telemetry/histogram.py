"""Counting integers into fixed buckets: nanoseconds on the hot path, seconds only when somebody looks.

Buckets are fixed for good, so that histograms of two processes, versions or weeks can be added up. No clock,
no lock: one thread observes; a reader in another sees a state that is at most one observation torn.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple


class Buckets:
    """Upper bounds as integers of the unit that is observed, and as text of the unit that is shown.

    Args:
        bounds: rising; a value belongs to the first bound that is not below it, past the last to +Inf.
        scale: observed units in one shown unit (1e9 for nanoseconds shown in seconds).
    """

    __slots__ = ("bounds", "le", "scale", "search")

    def __init__(self, bounds: Sequence[int], scale: int = 1) -> None:
        if list(bounds) != sorted(set(bounds)):
            raise ValueError(f"bucket bounds must rise: {list(bounds)}")
        self.bounds = tuple(bounds)
        self.scale = scale
        self.search = (*self.bounds, math.inf)
        """What is searched: with the last bucket in it, no value is past the end."""
        self.le = tuple(_format_bound(bound, scale) for bound in self.bounds)


def _format_bound(bound: int, scale: int) -> str:
    """As OpenMetrics wants it, 1.0 for 1; the same in the text format, so that it names the same series."""
    return repr(bound / scale)


def _five_per_decade(first: int, decades: int) -> list[int]:
    """1, 2, 2.5, 5, 7.5 in each decade."""
    bounds = [first * 10**decade * step // 4 for decade in range(decades) for step in (4, 8, 10, 20, 30)]
    return [*bounds, first * 10**decades]


LATENCY = Buckets(_five_per_decade(10_000, 7), scale=1_000_000_000)
"""10 microseconds to 100 seconds. Every bound of OpenTelemetry's http.server.request.duration and of Triton's
first-response histogram is among them, so an objective set on one of those is exact here."""

FIRST_RESPONSE = Buckets([ms * 1_000_000 for ms in (100, 500, 2000, 5000)], scale=1_000_000)
"""Triton's default, in milliseconds."""

ROWS = Buckets([1 << power for power in range(13)])
"""1 to 4096 rows."""


class Distribution(NamedTuple):
    """What a histogram has counted, ready to be shown.

    Attributes:
        le: the finite upper bounds as text.
        counts: per bucket, not cumulative; one more than `le`, for +Inf.
        total: the sum of the observed values, in the shown unit.
    """

    le: tuple[str, ...]
    counts: tuple[int, ...]
    total: float


class Histogram:
    """Counts per bucket and the sum of what was observed."""

    __slots__ = ("_search", "buckets", "counts", "total")

    def __init__(self, buckets: Buckets = LATENCY) -> None:
        self.buckets = buckets
        self.counts = [0] * (len(buckets.bounds) + 1)
        self.total = 0
        self._search = buckets.search

    def observe(self, value: int, count: int = 1) -> None:
        """Count `value`, `count` times."""
        self.counts[bisect_left(self._search, value)] += count
        self.total += value * count

    def observe_many(self, values: Sequence[int]) -> None:
        """Count each of `values` (at least one); cheap where all fall into one bucket."""
        search = self._search
        index = bisect_left(search, min(values))
        if max(values) <= search[index]:
            self.counts[index] += len(values)
        else:
            for value in values:
                self.counts[bisect_left(search, value, index)] += 1
        self.total += sum(values)

    @property
    def count(self) -> int:
        """How many values were observed."""
        return sum(self.counts)

    def quantile(self, fraction: float) -> float:
        """The estimate that PromQL's `histogram_quantile` gives: linear within the bucket, NaN if empty.

        Beyond the last bound nothing is known, so the last bound is the answer there.
        """
        if not 0 <= fraction <= 1:
            raise ValueError(f"a quantile lies between 0 and 1, not {fraction}")
        rank = fraction * self.count
        below, lower = 0, 0
        for bound, count in zip(self.buckets.bounds, self.counts, strict=False):
            if count and below + count >= rank:
                return lower + (bound - lower) * (rank - below) / count
            below, lower = below + count, bound
        return float(lower) if self.count else math.nan

    def view(self) -> Distribution:
        """What has been counted so far, as a copy."""
        return Distribution(self.buckets.le, tuple(self.counts), self.total / self.buckets.scale)

    def view_in(self, coarse: Buckets) -> Distribution:
        """The same in other buckets, each of whose bounds is one of ours."""
        counts = [0] * (len(coarse.bounds) + 1)
        for bound, count in zip(self._search, self.counts, strict=True):
            counts[bisect_left(coarse.search, bound)] += count
        return Distribution(coarse.le, tuple(counts), self.total / coarse.scale)

"""Counting integers into fixed buckets: nanoseconds on the hot path, seconds only when somebody looks.

Buckets are fixed for good, so that histograms of two processes, versions or weeks can be added up. No clock,
no lock: one thread observes; a reader in another sees a state that is at most one observation torn.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import cache
from itertools import accumulate, compress
from operator import itemgetter, sub
from typing import Any, NamedTuple


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


class Exemplar(NamedTuple):
    """An observation that can be looked up: of this trace.

    Attributes:
        bucket: its place among `le`.
        value: in the shown unit.
        at_s: when it was made, in seconds since 1970.
    """

    bucket: int
    trace_id: str
    value: float
    at_s: float


class Distribution(NamedTuple):
    """What a histogram has counted, ready to be shown.

    Attributes:
        le: the finite upper bounds as text.
        counts: per bucket, not cumulative; one more than `le`, for +Inf.
        total: the sum of the observed values, in the shown unit.
        fine: the same observations in Prometheus' native buckets of `SCHEMA`, as index and count, rising, without
            the empty ones; None where only the buckets above are kept. At `LOWEST` is what native histograms call
            the zero bucket: all that is not above `ZERO_THRESHOLD`.
        exemplars: observations of requests that were traced, one of a bucket at most.
    """

    le: tuple[str, ...]
    counts: tuple[int, ...]
    total: float
    fine: tuple[tuple[int, int], ...] | None = None
    exemplars: tuple[Exemplar, ...] = ()


class Histogram:
    """Counts per bucket and the sum of what was observed."""

    __slots__ = ("buckets", "counts", "search", "total")

    def __init__(self, buckets: Buckets = LATENCY) -> None:
        self.buckets = buckets
        self.counts = [0] * (len(buckets.bounds) + 1)
        self.total = 0
        self.search = buckets.search

    def observe(self, value: int, count: int = 1) -> None:
        """Count `value`, `count` times."""
        self.counts[bisect_left(self.search, value)] += count
        self.total += value * count

    def observe_many(self, values: Sequence[int]) -> None:
        """Count each of `values` (at least one); cheap where all fall into one bucket."""
        search = self.search
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
        return Distribution(coarse.le, _in_groups(self.counts, self.buckets, coarse), self.total / coarse.scale)


SCHEMA = 3
"""Of native histograms: 2**3 buckets between a number and its double."""
_OCTAVES = (-20, 10)
LOWEST, _HIGHEST = (octave << SCHEMA for octave in _OCTAVES)
"""Indices of native buckets: bucket `i` ends at `2 ** (i / 8)` seconds. 1 microsecond to 1024 seconds."""
ZERO_THRESHOLD = 2.0 ** _OCTAVES[0]
"""In seconds."""
_NATIVE = Buckets(
    [math.floor(2 ** (index / 8) * LATENCY.scale) for index in range(LOWEST, _HIGHEST + 1)], LATENCY.scale
)
"""Times are whole nanoseconds, so a bound may be rounded down to one without moving any of them."""
_CELLS = Buckets(sorted({*LATENCY.bounds, *_NATIVE.bounds}), LATENCY.scale)
"""Each cell lies within one bucket of `LATENCY` and one of the native ones, so one search counts for both."""


class NativeHistogram(Histogram):
    """Latencies in the buckets of `LATENCY`, exactly, and in native ones, at the cost of one observation.

    Past 1024 seconds a value is counted in the last native bucket.
    """

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(_CELLS)

    def view(self) -> Distribution:
        """What has been counted so far, as a copy, in both kinds of buckets."""
        counted = tuple(self.counts)
        native = _in_groups(counted, _CELLS, _NATIVE)
        fine = tuple(compress(enumerate(native, LOWEST), native))
        return Distribution(LATENCY.le, _in_groups(counted, _CELLS, LATENCY), self.total / LATENCY.scale, fine)


def _in_groups(counts: Sequence[int], fine: Buckets, coarse: Buckets) -> tuple[int, ...]:
    """Counts per fine bucket as those per coarse one: differences of running sums, all in C."""
    ends: Sequence[int] = _picker(fine, coarse)(list(accumulate(counts)))
    return tuple(map(sub, ends, (0, *ends[:-1])))


@cache
def _picker(fine: Buckets, coarse: Buckets) -> Callable[[Sequence[int]], Any]:
    """Takes what stands at the end of each coarse bucket."""
    return itemgetter(*(bisect_left(fine.search, bound) for bound in coarse.search))

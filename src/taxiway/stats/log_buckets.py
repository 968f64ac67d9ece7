"""Times counted in buckets of constant relative width: small, mergeable, and exact about what they do not know.

Buckets of ratio 2^(1/32), 2.2 %, from a microsecond to about twenty minutes, as in DDSketch (C. Masson et al., VLDB
2019) with fixed edges, so that histograms of any processes add up. `observe` is on the hot path: one logarithm.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import log2 as _log2
from typing import Final, Self

PER_OCTAVE: Final = 32
GAMMA: Final = 2.0 ** (1 / PER_OCTAVE)
"""Upper edge of a bucket over its lower edge."""
LEAST_NS: Final = 1000
BUCKETS: Final = 30 * PER_OCTAVE + 2
"""The first holds what is shorter than a microsecond, the last what is longer than 2^30 of them, 18 minutes."""
_OFFSET: Final = _log2(LEAST_NS) * PER_OCTAVE


def bucket_of(ns: float) -> int:
    """The bucket of a time in nanoseconds."""
    if ns < LEAST_NS:
        return 0
    return min(int(_log2(ns) * PER_OCTAVE - _OFFSET) + 1, BUCKETS - 1)


def lower_edge(bucket: int) -> float:
    """The shortest time of a bucket, in nanoseconds."""
    return 0.0 if bucket == 0 else LEAST_NS * GAMMA ** (bucket - 1)


def upper_edge(bucket: int) -> float:
    """What all times of a bucket are shorter than, in nanoseconds; of the last one, infinity."""
    return float("inf") if bucket == BUCKETS - 1 else LEAST_NS * GAMMA**bucket


class LogHistogram:
    """Counts by bucket."""

    __slots__ = ("counts",)

    def __init__(self, counts: Sequence[int] | None = None) -> None:
        self.counts: list[int] = [0] * BUCKETS if counts is None else list(counts)

    @classmethod
    def from_sparse(cls, pairs: Iterable[Sequence[int]]) -> Self:
        """The histogram that `to_sparse` told.

        Raises:
            ValueError: a bucket that there is not, or a count below zero.
        """
        made = cls()
        for bucket, count in pairs:
            if not 0 <= bucket < BUCKETS or count < 0:
                raise ValueError(f"bucket {bucket} with count {count}")
            made.counts[bucket] += count
        return made

    def to_sparse(self) -> list[tuple[int, int]]:
        """Pairs of bucket and count, without the empty ones."""
        return [(bucket, count) for bucket, count in enumerate(self.counts) if count]

    def observe(self, ns: float) -> None:
        """Count one time."""
        self.counts[bucket_of(ns)] += 1

    @property
    def count(self) -> int:
        """How many times were counted."""
        return sum(self.counts)

    def merge(self, other: LogHistogram) -> None:
        """Add what another counted."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]

    def minus(self, older: LogHistogram) -> LogHistogram:
        """What was counted since `older`, an earlier state of the same histogram."""
        return LogHistogram([now - then for now, then in zip(self.counts, older.counts, strict=True)])

    def quantile(self, p: float) -> float:
        """The upper edge of the bucket in which the quantile lies, in nanoseconds; 0 if nothing was counted."""
        left = p * self.count
        for bucket, count in enumerate(self.counts):
            left -= count
            if count and left <= 0:
                return upper_edge(bucket)
        return 0.0

    def count_above(self, ns: float) -> int:
        """How many times were certainly longer than `ns`: those of buckets that begin there, or above."""
        first = bucket_of(ns)
        if lower_edge(first) < ns:
            first += 1
        return sum(self.counts[first:])

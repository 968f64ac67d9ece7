"""How long a model takes for a batch of so many rows, learnt while it runs.

Not for percentiles that people read: telemetry keeps those. This answers the batcher's questions: what will a
batch cost, which batch is worth most, and how late may it start. `observe` is on the hot path, once a run.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable
from math import log as _log

EXACT_ROWS = 16
"""Row counts up to here have a bin of their own; beyond, an octave is cut into `_PER_OCTAVE` bins."""
_PER_OCTAVE_BITS = 3
_PER_OCTAVE = 1 << _PER_OCTAVE_BITS

_GAIN = 1 / 16
_SEED_RUNS = 8
"""A point measured at load counts as so many runs."""
_CLIP = 1.5
"""A run slower than this many times the estimate moves it only as far as one that is exactly so slow."""
_YOUNG_RUNS = 8

_PER_E_FOLD = 25
"""Bins of the ratio histogram per factor e: the bins are 4% wide."""
_RATIO_OFFSET = 50
_LEAST_RATIO = math.exp(-_RATIO_OFFSET / _PER_E_FOLD)
_RATIO_BINS = 251
"""Ratios from exp(-2) to exp(8) of the expected latency; what lies beyond counts in the last bin."""
_GROWTH = 2 ** (1 / 512)
"""Each run weighs so much more than the one before: a weight is halved after 512 runs."""
_WEIGHT_LIMIT = 1e100
_PRIOR_RATIO = 2.0
_PRIOR_WEIGHT = 2.0
"""Until runs say otherwise, one in fifty is thought to take twice as long as expected."""


def bin_of(rows: int) -> int:
    """The bin of a row count: exact up to EXACT_ROWS, then 8 bins to the octave, as in HdrHistogram."""
    if rows <= EXACT_ROWS:
        return rows
    shift = rows.bit_length() - 1 - _PER_OCTAVE_BITS
    return EXACT_ROWS + (shift - 1) * _PER_OCTAVE + (rows >> shift) - _PER_OCTAVE


class _Bin:
    """One point of the curve: mean rows and mean time of the runs in it."""

    __slots__ = ("ns", "rows", "runs")

    def __init__(self, rows: float, ns: float, runs: int) -> None:
        self.rows = rows
        self.ns = ns
        self.runs = runs


class LatencyCurve:
    """latency(rows) of one model on one machine.

    Per bin of row counts: an exponentially weighted mean whose residual is clipped, which is Huber's
    M-estimator (P. J. Huber, "Robust Estimation of a Location Parameter", 1964) solved by stochastic
    approximation (H. Robbins, S. Monro, "A Stochastic Approximation Method", 1951) at a constant gain, so
    that it forgets. Between bins: straight lines.

    For the tail: one histogram, with bins of constant relative width (C. Masson et al., "DDSketch", VLDB
    2019), of the ratio between what a run took and what was expected, all row counts together; forgotten by
    forward decay (G. Cormode et al., "Forward Decay", ICDE 2009), where new weights grow instead of old ones
    shrinking.
    """

    __slots__ = ("_bins", "_by_rows", "_known", "_ratios", "_weight")

    def __init__(self, seed: Iterable[tuple[int, int]] = ()) -> None:
        self._known: list[int] = []
        """The numbers of the bins that have a value, sorted."""
        self._bins: dict[int, _Bin] = {}
        self._by_rows: dict[int, _Bin] = {}
        """The same bins by every row count met, so that `observe` looks up once."""
        self._ratios = [0.0] * _RATIO_BINS
        self._weight = 1.0
        self._ratios[_RATIO_OFFSET] = (50 - 1) * _PRIOR_WEIGHT
        self._ratios[_RATIO_OFFSET + round(math.log(_PRIOR_RATIO) * _PER_E_FOLD)] = _PRIOR_WEIGHT
        for rows, ns in seed:
            self._open_bin(rows, ns, runs=_SEED_RUNS)

    def observe(self, rows: int, ns: int) -> None:
        """Learn from one run of `rows` rows that took `ns`. O(1) once this number of rows has been met."""
        point = self._by_rows.get(rows)
        if point is None:
            point = self._bins.get(bin_of(rows))
            if point is None:
                self._open_bin(rows, self._tame(rows, ns), runs=1)
                return
            self._by_rows[rows] = point
        mean = point.ns
        ratio = ns / mean
        place = int(_log(ratio) * _PER_E_FOLD) + _RATIO_OFFSET if ratio > _LEAST_RATIO else 0
        self._ratios[place if place < _RATIO_BINS else -1] += self._weight
        self._weight *= _GROWTH
        if self._weight > _WEIGHT_LIMIT:
            self._weigh_anew()
        if point.runs < _YOUNG_RUNS:
            point.runs += 1
            # The first runs are often slow (warm-up); one twice as fast shows that the start was no measure.
            gain = 1.0 if ratio < 0.5 else 1 / point.runs
        else:
            gain = _GAIN
        point.ns = mean + gain * (ns - mean if ratio < _CLIP else (_CLIP - 1.0) * mean)
        if rows > EXACT_ROWS:
            point.rows += gain * (rows - point.rows)

    def expected_ns(self, rows: int) -> int:
        """What a batch of `rows` rows usually takes; 0 if nothing is known."""
        known = self._known
        if not known:
            return 0
        if len(known) == 1:
            return self._from_one_point(rows)
        # The segment that holds `rows`; the outermost ones are continued beyond their ends.
        place = min(max(bisect.bisect_left(known, bin_of(rows)), 1), len(known) - 1)
        low, high = self._bins[known[place - 1]], self._bins[known[place]]
        slope = (high.ns - low.ns) / (high.rows - low.rows)
        if low.rows <= rows <= high.rows:
            return max(1, round(low.ns + slope * (rows - low.rows)))
        slope = max(slope, 0.0)  # more rows never cost less in truth; noise may say so
        if rows > high.rows:
            return max(1, round(high.ns + slope * (rows - high.rows)))
        return max(1, round(max(low.ns - slope * (low.rows - rows), low.ns * rows / low.rows)))

    def quantile_ns(self, rows: int, q: float) -> int:
        """An upper estimate of the time that a share `q` of the runs of `rows` rows stay within."""
        return math.ceil(self.expected_ns(rows) * self._ratio_quantile(q))

    def best_rows(self, max_rows: int, tolerance: float = 0.05) -> int:
        """The smallest batch, at most `max_rows`, that gives the most rows per second within `tolerance`.

        Only sizes that were measured or run are candidates: nothing is promised from a line drawn beyond
        them.
        """
        points = [point for point in self._points() if point.rows <= max_rows]
        if not points:
            return max(1, max_rows)
        enough = max(point.rows / point.ns for point in points) * (1 - tolerance)
        return next(max(1, round(point.rows)) for point in points if point.rows / point.ns >= enough)

    def points(self) -> list[tuple[int, int]]:
        """What is known, as (rows, ns), to keep or to show."""
        return [(round(point.rows), round(point.ns)) for point in self._points()]

    def _points(self) -> list[_Bin]:
        return [self._bins[number] for number in self._known]

    def _open_bin(self, rows: int, ns: float, runs: int) -> None:
        number = bin_of(rows)
        if number not in self._bins:
            bisect.insort(self._known, number)
        self._bins[number] = self._by_rows[rows] = _Bin(rows, max(float(ns), 1.0), runs)

    def _tame(self, rows: int, ns: int) -> float:
        """The first run of a new bin, at most twice what its neighbours promise: it may be an outlier."""
        expected = self.expected_ns(rows)
        return min(ns, 2 * expected) if expected else ns

    def _from_one_point(self, rows: int) -> int:
        """With one point there is no slope: fewer rows are thought to cost the same, more in proportion."""
        point = self._bins[self._known[0]]
        return round(point.ns * max(1.0, rows / point.rows))

    def _weigh_anew(self) -> None:
        """Before the growing weights overflow: the same histogram in small numbers."""
        self._ratios = [value / self._weight for value in self._ratios]
        self._weight = 1.0

    def _ratio_quantile(self, q: float) -> float:
        """The upper edge of the bin in which the quantile lies."""
        left = sum(self._ratios) * (1 - q)
        place = _RATIO_BINS
        while place > 0 and left >= 0:
            place -= 1
            left -= self._ratios[place]
        return math.exp((place + 1 - _RATIO_OFFSET) / _PER_E_FOLD)

"""Guards of time: quantiles of latency, compared on histograms, and the time in the model for a row."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from taxiway.rollout.nouns import Evidence, Moments
from taxiway.rollout.terms import Reading, Terms, more_share, nothing, others_in, tallies_of, tally_of
from taxiway.stats import quantile_test
from taxiway.stats.log_buckets import GAMMA, PER_OCTAVE, LogHistogram
from taxiway.stats.mean_sequence import half_width, log_e_above

LEAST_SLOTS: Final = 60
"""Slots with a cost of both arms before the asymptotic interval is believed."""
_SHORTEST_AT: Final = 200.0
"""Slots at which the interval of the cost is the shortest that it can be."""
_WIDEST: Final = 5 * PER_OCTAVE
"""Buckets to either side in which the ratio is looked for: from 1/32 to 32."""

Pair = tuple[LogHistogram, LogHistogram]
"""The baseline's and the candidate's."""


def read_latency(evidence: Evidence, arm: str, terms: Terms) -> Reading:
    """What the quantile of the guard says."""
    pairs = _pairs(evidence, arm)
    mine, theirs = sum(pair[1].count for pair in pairs), sum(pair[0].count for pair in pairs)
    if not pairs:
        return nothing("no answers of both versions yet", mine, theirs)
    p, margin = terms.guard["quantile"], terms.guard["margin"]
    harm = sum(quantile_test.log_e_harm(*pair, p, margin) for pair in pairs)
    safe = sum(quantile_test.log_e_safe(*pair, p, margin) for pair in pairs)
    effect = pairs[-1][1].quantile(p) / pairs[-1][0].quantile(p)
    low, high = _ratio_bounds(pairs, p, math.log(2 / terms.alpha))
    more = more_share(harm, safe, effect > 1 + margin, terms)
    return Reading(harm, safe, effect, low, high, mine, theirs, more_share=more)


def _pairs(evidence: Evidence, arm: str) -> list[Pair]:
    """Histograms to compare, the largest last: segments in which the ratio of the shares was the same are one.

    Where it was not, the arms have different parts of a day in them: each ratio makes an e-process of its own.
    """
    pairs: dict[float, Pair] = {}
    for segment in evidence.segments:
        other = next(iter(others_in(segment, same_load=True)), None)
        if other is None or not segment.weights.get(arm):
            continue
        ratio = round(segment.weights[arm] / segment.weights[other], 9)
        pair = pairs.setdefault(ratio, (LogHistogram(), LogHistogram()))
        pair[0].merge(LogHistogram.from_sparse(tally_of(segment, other).latency))
        pair[1].merge(LogHistogram.from_sparse(tally_of(segment, arm).latency))
    both = [pair for pair in pairs.values() if pair[0].count and pair[1].count]
    return sorted(both, key=lambda pair: pair[1].count)


def _ratio_bounds(pairs: Sequence[Pair], p: float, level: float) -> tuple[float, float]:
    """The ratios of quantiles that neither direction refutes, to a whole bucket outwards."""

    def above(shift: int) -> bool:
        return sum(quantile_test.log_e_shifted(base, mine, p, shift) for base, mine in pairs) >= level

    def below(shift: int) -> bool:
        return sum(quantile_test.log_e_shifted(mine, base, p, shift) for base, mine in pairs) >= level

    low, high = _last_shift(above), _last_shift(below)
    return (0.0 if low is None else GAMMA**low), (math.inf if high is None else GAMMA**-high)


def _last_shift(refuted: Callable[[int], bool]) -> int | None:
    """The largest shift that is refuted; those below it are too."""
    low, high = -_WIDEST, _WIDEST
    if not refuted(low):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


# --- cost ------------------------------------------------------------------------------------------------------


def read_cost(evidence: Evidence, arm: str, terms: Terms) -> Reading:
    """The mean logarithm of the ratio of times in the model for a row, slot by slot: what drifts in both cancels."""
    cost = Moments()
    for tally in tallies_of(evidence, arm):
        cost = Moments(cost.n + tally.cost.n, cost.total + tally.cost.total, cost.squares + tally.cost.squares)
    n = cost.n
    if n < LEAST_SLOTS:
        reading = nothing(f"{n} of {LEAST_SLOTS} slots with a cost of both versions", n, n)
        share = LEAST_SLOTS / n - 1 if n else None
        return Reading(0.0, 0.0, None, None, None, n, n, more_share=share, note=reading.note)
    mean = cost.total / n
    variance = max(0.0, (cost.squares - cost.total**2 / n) / (n - 1))
    bound = math.log1p(terms.guard["margin"])
    harm = log_e_above(n, mean, variance, bound, terms.alpha, _SHORTEST_AT)
    safe = log_e_above(n, -mean, variance, -bound, terms.beta, _SHORTEST_AT)
    half = half_width(n, math.sqrt(variance), terms.alpha, _SHORTEST_AT)
    more = more_share(harm, safe, mean > bound, terms)
    return Reading(harm, safe, math.exp(mean), math.exp(mean - half), math.exp(mean + half), n, n, more_share=more)

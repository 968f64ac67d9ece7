"""Guards of quality: scores of answers, by feedback or by a judge, and the agreement of a shadow's answers.

All are of bounded means, by betting (stats/fixed_bets.py). Margins are differences of scores.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from taxiway.rollout.nouns import BASELINE, CONTROL, Evidence, Score
from taxiway.rollout.terms import Reading, Terms, more_share, nothing
from taxiway.stats import fixed_bets
from taxiway.stats.fixed_bets import Values

_SURE: Final = 0.001
"""Means are asked for up to this close to the ends of what is possible."""
_STEPS: Final = 10
"""Halvings in which the end of an interval is looked for."""


# --- agreement -------------------------------------------------------------------------------------------------


def read_agreement(evidence: Evidence, arm: str, terms: Terms) -> Reading:
    """Whether a shadow's answers agree with those that were given to 1 - margin on average."""
    found = _counts((one.score, one.count) for one in evidence.scores if one.source == "shadow" and one.arm == arm)
    pairs = int(sum(found.values()))
    if not pairs:
        return nothing("no pairs of answers yet")
    values, counts = list(found), list(found.values())
    mean = min(max(1 - terms.guard["margin"], _SURE), 1 - _SURE)
    harm = fixed_bets.log_e_mean_below(values, counts, mean)
    safe = fixed_bets.log_e_mean_above(values, counts, mean)
    average = sum(value * count for value, count in found.items()) / pairs
    level = math.log(2 / terms.alpha)
    low = _last(lambda at: fixed_bets.log_e_mean_above(values, counts, at) >= level, _SURE, 1 - _SURE)
    high = _last(lambda at: fixed_bets.log_e_mean_below(values, counts, -at) >= level, _SURE - 1, -_SURE)
    return Reading(
        harm,
        safe,
        average - 1,
        None if low is None else low - 1,
        0.0 if high is None else -high - 1,
        pairs,
        pairs,
        more_share=more_share(harm, safe, average < mean, terms),
        note=f"{pairs} pairs agree to {average:.4g} on average, {mean:.4g} is asked for",
        difference=True,
    )


# --- quality ---------------------------------------------------------------------------------------------------


def read_quality(evidence: Evidence, arm: str, terms: Terms) -> Reading:
    """Whether the candidate's mean score is more than the margin below the other's.

    Pairs of scores for the same request are compared one by one; scores of live answers by the shares of their arms.
    """
    scores = [one for one in evidence.scores if one.source in ("feedback", "judge")]
    pairs = _counts((one.score - one.other, one.count) for one in scores if one.other is not None and one.arm == arm)
    live = _live(evidence, [one for one in scores if one.other is None], arm)
    mine = sum(one.times for one in live if one.candidate) + sum(pairs.values())
    theirs = sum(one.times for one in live if not one.candidate) + sum(pairs.values())
    if not mine or not theirs:
        return nothing("no scores of both versions yet", int(mine), int(theirs))

    def above(difference: float) -> float:
        return _paired(pairs, difference) + fixed_bets.log_e_difference_above(live, difference)

    def below(difference: float) -> float:
        mirrored = {-value: count for value, count in pairs.items()}
        return _paired(mirrored, -difference) + fixed_bets.log_e_difference_below(live, difference)

    bound = -min(max(terms.guard["margin"], 0.0), 1 - _SURE)
    harm, safe, level = below(bound), above(bound), math.log(2 / terms.alpha)
    effect = _estimate(pairs, live)
    low = _last(lambda at: above(at) >= level, _SURE - 1, 1 - _SURE)
    high = _last(lambda at: below(-at) >= level, _SURE - 1, 1 - _SURE)
    return Reading(
        harm,
        safe,
        effect,
        low,
        None if high is None else -high,
        int(mine),
        int(theirs),
        more_share=more_share(harm, safe, effect < bound, terms),
        difference=True,
    )


def _live(evidence: Evidence, scores: Sequence[Score], arm: str) -> list[Values]:
    """Scores of answers, each with the candidate's share of the requests of both versions when it was given."""
    values = []
    for score in scores:
        weights = _weights_of(evidence, score)
        mine = weights.get(arm, 0.0)
        rest = weights.get(CONTROL, 0.0) + weights.get(BASELINE, 0.0)
        if score.arm in (arm, CONTROL, BASELINE) and mine > 0 and rest > 0:
            values.append(Values(mine / (mine + rest), score.arm == arm, score.score, score.count))
    return values


def _weights_of(evidence: Evidence, score: Score) -> Mapping[str, float]:
    """Of the segment in which it was answered; if that is not known, of the last in which its arm had that share."""
    for segment in reversed(evidence.segments):
        if segment.number == score.segment or (score.segment < 0 and segment.weights.get(score.arm) == score.weight):
            return segment.weights
    return {}


def _paired(pairs: Mapping[float, float], difference: float) -> float:
    """Evidence that differences in [-1, 1] have a mean above `difference`."""
    if not pairs:
        return 0.0
    values = [(value + 1) / 2 for value in pairs]
    return fixed_bets.log_e_mean_above(values, list(pairs.values()), (difference + 1) / 2)


def _estimate(pairs: Mapping[float, float], live: Sequence[Values]) -> float:
    """The difference of the means: of pairs, and of live answers, by their numbers."""
    paired = sum(value * count for value, count in pairs.items())
    count = sum(pairs.values())
    mine, theirs = ([one for one in live if one.candidate is whose] for whose in (True, False))
    if not mine or not theirs:
        return paired / count if count else 0.0
    more = sum(one.times for one in mine)
    return (paired + more * (_mean(mine) - _mean(theirs))) / (count + more)


def _mean(values: Sequence[Values]) -> float:
    return sum(one.value * one.times for one in values) / sum(one.times for one in values)


# --- both ------------------------------------------------------------------------------------------------------


def _counts(values: Iterable[tuple[float, float]]) -> dict[float, float]:
    found: Counter[float] = Counter()
    for value, count in values:
        found[value] += count  # type: ignore[assignment]
    return dict(sorted(found.items()))


def _last(refuted: Callable[[float], bool], low: float, high: float) -> float | None:
    """About the largest number that is refuted, from below; those under it are too. None if none is."""
    if not refuted(low):
        return None
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low

"""Guards that count bad events: errors, timeouts, refusals, invalid outputs, and slow slots.

Harm: that the candidate's rate is more than 1 + margin times the other's, by the labels of bad events alone
(stats/event_label.py). Safety: that it is less than that, or that the next step would cost the service fewer than
`allowance` more bad requests per request (stats/fixed_bets.py): the average of both e-processes, which is one of the
hypothesis that neither is so. The second is what lets a service pass that hardly ever fails.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from taxiway.rollout.nouns import Evidence, Segment, Tally
from taxiway.rollout.terms import Reading, Terms, nothing, others_in, tally_of
from taxiway.stats import event_label
from taxiway.stats.fixed_bets import RATES, Values, log_e_difference_below

_MOST_MORE: Final = 1e4
"""Times the present evidence; what takes more is said to take for ever."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What a guard counts.

    Attributes:
        bad: events of a tally.
        trials: requests of a tally that could have been one.
        same_load: how often they come depends on the load (terms.others_in).
    """

    bad: Callable[[Tally], int]
    trials: Callable[[Tally], int]
    same_load: bool


def _decided(tally: Tally) -> int:
    """Requests that ended by the arm's doing."""
    return tally.answered + tally.failed + tally.timed_out + tally.refused


EVENTS: Final = {
    "errors": Counted(lambda one: one.failed, _decided, same_load=False),
    "timeouts": Counted(lambda one: one.timed_out, _decided, same_load=True),
    "refusals": Counted(lambda one: one.refused, _decided, same_load=True),
    "invalid-output": Counted(lambda one: one.invalid, lambda one: one.checked, same_load=False),
}


@dataclass(frozen=True, slots=True)
class Part:
    """One segment's counts of both arms; `share` is the candidate's of the requests of both, as asked for."""

    share: float
    mine: int
    mine_bad: int
    theirs: int
    theirs_bad: int

    def bounds(self, *, exact: bool) -> tuple[float, float]:
        """The least and the largest share that the candidate may be said to have had.

        Units that send several requests come together, so that the share of requests is not that of units. Then the
        share asked for and the one that came are taken, whichever speaks less for a decision.
        """
        total = self.mine + self.theirs
        if exact or not total:
            return self.share, self.share
        real = min(max(self.mine / total, 1e-6), 1 - 1e-6)
        return min(self.share, real), max(self.share, real)


def read_events(evidence: Evidence, arm: str, terms: Terms) -> Reading:
    """What a guard says that counts bad events."""
    counted = EVENTS[terms.guard["metric"]]
    parts = [part for segment in evidence.segments if (part := _part(segment, arm, counted)) is not None]
    if not sum(part.mine + part.theirs for part in parts):
        return nothing("no requests of both versions yet")
    return _read(parts, terms, terms.guard["allowance"] / terms.next_share)


def _part(segment: Segment, arm: str, counted: Counted) -> Part | None:
    others = others_in(segment, same_load=counted.same_load)
    mine, theirs = segment.weights.get(arm, 0.0), sum(segment.weights[other] for other in others)
    if not (mine > 0 and theirs > 0):
        return None
    tally, tallies = tally_of(segment, arm), [tally_of(segment, other) for other in others]
    return Part(
        mine / (mine + theirs),
        counted.trials(tally),
        counted.bad(tally),
        sum(counted.trials(one) for one in tallies),
        sum(counted.bad(one) for one in tallies),
    )


def _read(parts: Sequence[Part], terms: Terms, excess: float) -> Reading:
    margin, exact = terms.guard["margin"], terms.exact_shares
    for_harm, for_safety = _labels(parts, 1, exact=exact), _labels(parts, 0, exact=exact)
    harm = event_label.log_e(for_harm, margin, "harm")
    safe = event_label.log_e(for_safety, margin, "safe")
    if 0 < excess < 1:
        safe = _mean_log([safe, _log_e_excess(parts, excess, exact=exact)])
    elif excess >= 1:
        safe = math.inf  # the next step cannot cost as much, whatever the candidate does
    mine, theirs = sum(part.mine_bad for part in parts), sum(part.theirs_bad for part in parts)
    effect = event_label.estimated_ratio(for_safety if (mine and theirs) else for_harm)
    low = event_label.ratio_interval(for_harm, terms.alpha)[0]
    high = event_label.ratio_interval(for_safety, terms.alpha)[1]
    note = "" if mine + theirs else f"no bad event in {sum(part.mine for part in parts)} requests of its own"
    reading = Reading(harm, safe, effect, low, high, mine, theirs, note=note)
    if harm >= terms.harm_at or safe >= terms.safe_at:
        return reading
    return _with_more(reading, parts, terms, excess)


def _labels(parts: Sequence[Part], bound: int, *, exact: bool) -> list[event_label.Segment]:
    """For harm (bound 1) the largest shares, for safety (0) the least."""
    return [(part.bounds(exact=exact)[bound], part.mine_bad, part.theirs_bad) for part in parts]


def _log_e_excess(parts: Sequence[Part], excess: float, *, exact: bool, times: float = 1.0) -> float:
    values: list[Values] = []
    for part in parts:
        share = part.bounds(exact=exact)[0]
        good = part.mine - part.mine_bad + part.theirs - part.theirs_bad
        for candidate, value, count in ((True, 1, part.mine_bad), (False, 1, part.theirs_bad), (True, 0, good)):
            values.append(Values(share, candidate, value, times * count))
    return log_e_difference_below(values, excess, RATES)


def _mean_log(logs: Sequence[float]) -> float:
    return event_label.log_sum_exp(logs) - math.log(len(logs))


# --- what is still missing -------------------------------------------------------------------------------------


def _with_more(reading: Reading, parts: Sequence[Part], terms: Terms, excess: float) -> Reading:
    """How many more bad events decide it, or how much more of the same; whichever comes first."""
    bad, margin = reading.candidate + reading.baseline, terms.guard["margin"]
    shares = []
    events = None
    if reading.effect is not None:
        ratio = min(max(reading.effect, 0.01), 100.0)
        worse = ratio > 1 + margin
        aim = terms.harm_at if worse else terms.safe_at + (math.log(2) if excess > 0 else 0.0)
        labels = _labels(parts, int(worse), exact=terms.exact_shares)
        events = event_label.more_events(labels, parts[-1].share, ratio, aim, margin, "harm" if worse else "safe")
        if events is not None:
            shares.append(events / bad)
    if 0 < excess < 1:
        aim = terms.safe_at + math.log(2)
        times = _times(lambda factor: _log_e_excess(parts, excess, exact=terms.exact_shares, times=factor) >= aim)
        if times is not None:
            shares.append(times - 1)
    share = min(shares, default=None)
    if share is not None and bad and (events is None or share < events / bad):
        events = math.ceil(share * bad)
    return Reading(
        reading.log_e_harm,
        reading.log_e_safe,
        reading.effect,
        reading.low,
        reading.high,
        reading.candidate,
        reading.baseline,
        events,
        share,
        reading.note,
    )


def _times(enough: Callable[[float], bool]) -> float | None:
    """How many times the present evidence would be enough; None if none would."""
    if not enough(_MOST_MORE):
        return None
    low, high = 1.0, _MOST_MORE
    while high / low > 1.05:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


# --- slots -----------------------------------------------------------------------------------------------------


def read_slow_slots(evidence: Evidence, arm: str, terms: Terms) -> Reading:
    """Slow slots of both, of equal shares: an even chance each, and the margin lies in what is slow."""
    parts = []
    uneven = False
    for segment in evidence.segments:
        other = next(iter(others_in(segment, same_load=True)), None)
        if other is None or not segment.weights.get(arm):
            continue
        mine, theirs = tally_of(segment, arm), tally_of(segment, other)
        if abs(segment.weights[arm] - segment.weights[other]) > 1e-6:
            uneven = uneven or bool(mine.slots)
            continue
        parts.append(Part(0.5, mine.slots, mine.slow_slots, theirs.slots, theirs.slow_slots))
    if not sum(part.mine + part.theirs for part in parts):
        return nothing(
            "its share is not that of the version served now: slots of different loads cannot be compared; "
            "`twin: true` loads a copy of its size"
            if uneven
            else "no slot yet for which the minute before says what is slow"
        )
    guard = {**terms.guard, "margin": 0.0}
    return _read(parts, Terms(guard, terms.harm_at, terms.safe_at, terms.alpha, terms.beta), 0.0)

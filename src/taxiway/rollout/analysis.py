"""From evidence to a verdict: pure, and the same for the same evidence and plan, bit for bit.

For each guard two opposed e-processes: that the candidate is worse, at its share of alpha; that it is not worse by more
than the margin, at beta. Any guard that finds harm fails the candidate; all that are required must have passed for it
to go on; everything else holds still.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from taxiway.rollout.nouns import BASELINE, CONTROL, Evidence, GuardVerdict, Outcome, Tally, Verdict
from taxiway.stats import event_label, quantile_test
from taxiway.stats.betting import BettingTest
from taxiway.stats.log_buckets import GAMMA, LogHistogram
from taxiway.stats.mean_sequence import Moments, difference_interval
from taxiway.stats.rare_events import log_e_below, trials_needed
from taxiway.stats.sample_ratio import FLAG_LOG_E, log_bayes_factor

LEAST_SLOTS: Final = 60
"""Slots of each arm before the asymptotic interval of costs is believed."""


class Reading(Struct, frozen=True):
    """What one guard found, before it is put into words.

    Attributes:
        more: further bad events that decide it; None: nobody can tell.
        note: why nothing can be said.
    """

    log_e_harm: float
    log_e_safe: float
    effect: float | None
    low: float | None
    high: float | None
    candidate: int
    baseline: int
    more: int | None = None
    note: str = ""


class Terms(Struct, frozen=True):
    """One guard of the plan, and what it has to reach."""

    guard: dict[str, Any]
    harm_at: float
    safe_at: float
    alpha: float
    beta: float


def judge(evidence: Evidence, plan: Mapping[str, Any], arms: Sequence[str], evidence_s: float = 0.0) -> Verdict:
    """What the evidence says of these arms, under this plan (as `RolloutPlan` dumps it).

    Args:
        evidence: all of it.
        plan: whose guards decide.
        arms: those that are tried.
        evidence_s: how many seconds it took to gather, for the estimates of how long it will take.
    """
    guards = [
        _decide(arm, terms, _READERS[terms.guard["metric"]](evidence, arm, terms), evidence_s)
        for arm in arms
        for terms in _terms(plan, len(arms))
    ]
    outcomes = {arm: _outcome([one for one in guards if one.arm == arm], evidence, arm, plan) for arm in arms}
    mismatch = _mismatch(evidence, plan)
    outcome = _worst(list(outcomes.values()))
    bad = sum(_bad(tally) for arm in arms for tally in _tallies(evidence, arm))
    return Verdict(
        outcome, outcomes, tuple(guards), mismatch, bad, _sentence(outcome, guards, mismatch, evidence, arms)
    )


def _terms(plan: Mapping[str, Any], arms: int) -> list[Terms]:
    said = plan["guards"]
    guards = said["metrics"]
    total = sum(guard["weight"] for guard in guards if not guard["exploratory"]) or 1.0
    beta: float = said["beta"]
    made = []
    for guard in guards:
        alpha = said["alpha"] * guard["weight"] / total / arms
        made.append(Terms(guard, math.log(1 / alpha), math.log(1 / beta), alpha, beta))
    return made


# --- one guard ------------------------------------------------------------------------------------------------


def _decide(arm: str, terms: Terms, reading: Reading, evidence_s: float) -> GuardVerdict:
    outcome = Outcome.INCONCLUSIVE
    if math.isnan(reading.log_e_harm) or math.isnan(reading.log_e_safe):
        outcome = Outcome.ERROR
    elif reading.log_e_harm >= terms.harm_at:
        outcome = Outcome.FAIL
    elif reading.log_e_safe >= terms.safe_at:
        outcome = Outcome.PASS
    seen = reading.candidate + reading.baseline
    more_s = None
    if outcome is Outcome.INCONCLUSIVE and reading.more is not None and seen and evidence_s:
        more_s = reading.more / seen * evidence_s
    guard = terms.guard
    return GuardVerdict(
        arm,
        _name(guard),
        outcome,
        _finite(reading.effect),
        _finite(reading.low),
        _finite(reading.high),
        _finite(reading.log_e_harm) or 0.0,
        _finite(reading.log_e_safe) or 0.0,
        terms.harm_at,
        terms.safe_at,
        reading.candidate,
        reading.baseline,
        reading.more if outcome is Outcome.INCONCLUSIVE else None,
        more_s,
        bool(guard["required"]) and not guard["exploratory"],
        _guard_sentence(arm, guard, outcome, reading),
    )


def _name(guard: Mapping[str, Any]) -> str:
    return f"latency p{guard['quantile'] * 100:g}" if guard["metric"] == "latency" else str(guard["metric"])


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


_WORDS: Final = {
    Outcome.FAIL: "worse than the baseline",
    Outcome.PASS: "not worse than its margin allows",
    Outcome.INCONCLUSIVE: "not decided yet",
    Outcome.ERROR: "the evidence contradicts itself",
}


def _guard_sentence(arm: str, guard: Mapping[str, Any], outcome: Outcome, reading: Reading) -> str:
    name = _name(guard)
    if reading.note and outcome is not Outcome.FAIL:
        return f"{name} of {arm}: {_WORDS[outcome]}: {reading.note}"
    effect = "unknown" if reading.effect is None else f"{reading.effect:.3g}"
    low = "0" if reading.low is None else f"{reading.low:.3g}"
    high = "unbounded" if _finite(reading.high) is None else f"{reading.high:.3g}"
    return f"{name} of {arm}: {_WORDS[outcome]}: {effect} times the baseline's, between {low} and {high}"


# --- events ---------------------------------------------------------------------------------------------------


def _events(field: str, of: Callable[[Tally], int]) -> Callable[[Evidence, str, Terms], Reading]:
    """A reader of events that happen to requests: `field` of the tallies, out of those that `of` counts."""

    def read(evidence: Evidence, arm: str, terms: Terms) -> Reading:
        segments: list[event_label.Segment] = []
        trials = 0
        for segment in evidence.segments:
            share, mine = segment.weights.get(arm, 0.0), segment.tallies.get(arm)
            others = [one for one in (CONTROL, BASELINE) if segment.weights.get(one)]
            rest = sum(segment.weights[one] for one in others)
            if mine is None or not share or not rest:
                continue
            theirs = sum(getattr(segment.tallies.get(one, Tally()), field) for one in others)
            segments.append((share / (share + rest), getattr(mine, field), theirs))
            trials += of(mine)
        return _read_events(segments, trials, terms)

    return read


def _read_events(segments: Sequence[event_label.Segment], trials: int, terms: Terms) -> Reading:
    margin = terms.guard["margin"]
    mine, theirs = sum(part[1] for part in segments), sum(part[2] for part in segments)
    if not segments:
        return Reading(0.0, 0.0, None, None, None, 0, 0, note="no requests were split yet")
    harm = event_label.log_e(segments, margin, "harm")
    safe = event_label.log_e(segments, margin, "safe")
    effect = event_label.estimated_ratio(segments)
    low, high = event_label.ratio_interval(segments, terms.alpha)
    floor = terms.guard["floor"]
    note = "" if mine + theirs else "no bad events on either side"
    if floor and trials:
        # Where bad events hardly ever come, that the rate itself is small is what can be known. Half of beta each.
        rare = log_e_below(mine, trials, floor) - math.log(2)
        if rare > safe:
            safe, note = rare, f"{mine} in {trials} requests; below {floor:g} is well whatever the baseline's"
        else:
            safe -= math.log(2)
    more = _more_events(segments, effect, terms, harm, safe, floor, mine, trials)
    return Reading(harm, safe, effect, low, high, mine, theirs, more, note)


def _more_events(
    segments: Sequence[event_label.Segment],
    effect: float | None,
    terms: Terms,
    harm: float,
    safe: float,
    floor: float,
    mine: int,
    trials: int,
) -> int | None:
    """Bad events, or where none came yet good requests, that decide it at the present ratio."""
    if harm >= terms.harm_at or safe >= terms.safe_at:
        return None
    if effect is None:
        return max(0, trials_needed(floor, terms.safe_at + math.log(2)) - trials) if floor else None
    share, margin = segments[-1][0], terms.guard["margin"]
    ratio = min(max(effect, 0.01), 100.0)
    direction: event_label.Direction = "harm" if ratio > 1 + margin else "safe"
    aim = terms.harm_at if direction == "harm" else terms.safe_at + (math.log(2) if floor else 0.0)
    del mine
    return event_label.more_events(segments, share, ratio, aim, margin, direction)


# --- latency --------------------------------------------------------------------------------------------------


def _latency(evidence: Evidence, arm: str, terms: Terms) -> Reading:
    guard = terms.guard
    baseline, candidate = LogHistogram(), LogHistogram()
    for segment in evidence.segments:
        other = BASELINE if segment.weights.get(BASELINE) else CONTROL
        if segment.weights.get(arm) and segment.weights.get(other):
            candidate.merge(LogHistogram.from_sparse(segment.tallies.get(arm, Tally()).latency))
            baseline.merge(LogHistogram.from_sparse(segment.tallies.get(other, Tally()).latency))
    mine, theirs = candidate.count, baseline.count
    if not mine or not theirs:
        return Reading(0.0, 0.0, None, None, None, mine, theirs, note="no answers to compare yet")
    p, margin = guard["quantile"], guard["margin"]
    harm = quantile_test.log_e_harm(baseline, candidate, p, margin)
    safe = quantile_test.log_e_safe(baseline, candidate, p, margin)
    effect = candidate.quantile(p) / baseline.quantile(p)
    low, high = _ratio_bounds(baseline, candidate, p, math.log(2 / terms.alpha))
    return Reading(harm, safe, effect, low, high, mine, theirs)


def _ratio_bounds(baseline: LogHistogram, candidate: LogHistogram, p: float, level: float) -> tuple[float, float]:
    """The ratios of quantiles that neither direction refutes, to a whole bucket outwards."""
    low = _last_shift(lambda shift: quantile_test.log_e_shifted(baseline, candidate, p, shift) >= level)
    high = _last_shift(lambda shift: quantile_test.log_e_shifted(candidate, baseline, p, shift) >= level)
    return (0.0 if low is None else GAMMA**low), (math.inf if high is None else GAMMA**-high)


_WIDEST: Final = 160
"""Buckets to either side: ratios from 1/32 to 32."""


def _last_shift(refuted: Callable[[int], bool]) -> int | None:
    """The largest shift that is refuted; those below it are too."""
    low, high = -_WIDEST, _WIDEST
    if not refuted(low):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


def _slow_slots(evidence: Evidence, arm: str, terms: Terms) -> Reading:
    segments: list[event_label.Segment] = []
    uneven = False
    for segment in evidence.segments:
        other = BASELINE if segment.weights.get(BASELINE) else CONTROL
        mine, theirs = segment.tallies.get(arm), segment.tallies.get(other)
        if mine is None or theirs is None or not mine.slots or not theirs.slots:
            continue
        if not 0.8 <= segment.weights.get(arm, 0.0) / segment.weights[other] <= 1.25:
            uneven = True
            continue
        segments.append((mine.slots / (mine.slots + theirs.slots), mine.slow_slots, theirs.slow_slots))
    if not segments:
        why = "the arms have different loads, and slots of different loads say nothing" if uneven else "no slots yet"
        return Reading(0.0, 0.0, None, None, None, 0, 0, note=why)
    slotted = Terms({**terms.guard, "margin": 0.0, "floor": 0.0}, terms.harm_at, terms.safe_at, terms.alpha, terms.beta)
    return _read_events(segments, 0, slotted)


# --- cost and quality -----------------------------------------------------------------------------------------


def _cost(evidence: Evidence, arm: str, terms: Terms) -> Reading:
    mine, theirs = _moments(evidence, arm), _moments(evidence, BASELINE)
    if theirs.n < LEAST_SLOTS:
        theirs = _moments(evidence, CONTROL)
    if mine.n < LEAST_SLOTS or theirs.n < LEAST_SLOTS:
        note = f"{min(mine.n, theirs.n)} of {LEAST_SLOTS} slots of each"
        return Reading(0.0, 0.0, None, None, None, mine.n, theirs.n, max(0, LEAST_SLOTS - mine.n), note)
    base = theirs.mean
    worse, _ = difference_interval(mine, theirs, 2 * terms.alpha, LEAST_SLOTS * 2.0)
    _, better = difference_interval(mine, theirs, 2 * terms.beta, LEAST_SLOTS * 2.0)
    low, high = difference_interval(mine, theirs, terms.alpha, LEAST_SLOTS * 2.0)
    limit = terms.guard["margin"] * base
    harm = terms.harm_at if worse > limit else 0.0
    safe = terms.safe_at if better < limit else 0.0
    return Reading(harm, safe, mine.mean / base, 1 + low / base, 1 + high / base, mine.n, theirs.n)


def _moments(evidence: Evidence, arm: str) -> Moments:
    total = Moments(0, 0.0, 0.0)
    for tally in _tallies(evidence, arm):
        total = total.plus(Moments(tally.cost.n, tally.cost.total, tally.cost.squares))
    return total


def _quality(evidence: Evidence, arm: str, terms: Terms) -> Reading:
    """A score below one half is a bad answer; those of arms with known shares are compared as other bad events are."""
    scores = [score for score in evidence.scores if score.source in ("feedback", "judge")]
    segments: list[event_label.Segment] = []
    for share in sorted({score.weight for score in scores if score.arm == arm and 0 < score.weight < 1}):
        rest = [score for score in scores if score.arm in (CONTROL, BASELINE)]
        mine = sum(score.score < 0.5 for score in scores if score.arm == arm and score.weight == share)
        segments.append((share, mine, sum(score.score < 0.5 for score in rest if _beside(evidence, arm, share, score))))
    trials = sum(score.arm == arm for score in scores)
    if not segments:
        return Reading(0.0, 0.0, None, None, None, trials, len(scores) - trials, note="no scores yet")
    return _read_events(segments, trials, terms)


def _beside(evidence: Evidence, arm: str, share: float, score: Any) -> bool:  # noqa: ANN401 - a Score
    """Whether a score of the old version is of a time when the arm had this share."""
    return any(
        segment.weights.get(arm) == share and segment.weights.get(score.arm) == score.weight
        for segment in evidence.segments
    )


def _agreement(evidence: Evidence, _arm: str, terms: Terms) -> Reading:
    """Pairs of a shadow: that answers agree on average to 1 - margin at least."""
    limit = min(max(terms.guard["margin"], 0.001), 0.999)
    harm, safe = BettingTest(limit, terms.alpha), BettingTest(1 - limit, terms.beta)
    scores = [score.score for score in evidence.scores if score.source == "shadow"]
    for score in scores:
        harm.add(1 - score)
        safe.add(score)
    if not scores:
        return Reading(0.0, 0.0, None, None, None, 0, 0, note="no pairs yet")
    mean = sum(scores) / len(scores)
    note = f"{len(scores)} pairs agree to {mean:.3g} on average; {1 - limit:.3g} is asked"
    return Reading(harm.log_e, safe.log_e, mean, None, None, len(scores), len(scores), note=note)


_READERS: Final[Mapping[str, Callable[[Evidence, str, Terms], Reading]]] = {
    "errors": _events("failed", lambda tally: tally.answered + tally.failed),
    "timeouts": _events("timed_out", lambda tally: tally.answered + tally.timed_out),
    "refusals": _events("refused", lambda tally: tally.answered + tally.refused),
    "invalid-output": _events("invalid", lambda tally: tally.checked),
    "slow-slots": _slow_slots,
    "latency": _latency,
    "cost": _cost,
    "quality": _quality,
    "agreement": _agreement,
}


# --- all guards together --------------------------------------------------------------------------------------


def _tallies(evidence: Evidence, arm: str) -> list[Tally]:
    return [segment.tallies[arm] for segment in evidence.segments if arm in segment.tallies]


def _bad(tally: Tally) -> int:
    return tally.failed + tally.timed_out + tally.refused + tally.invalid


def _outcome(guards: Sequence[GuardVerdict], evidence: Evidence, arm: str, plan: Mapping[str, Any]) -> Outcome:
    watched = [one for one, said in zip(guards, plan["guards"]["metrics"], strict=True) if not said["exploratory"]]
    if any(one.outcome is Outcome.FAIL for one in watched):
        return Outcome.FAIL
    if any(one.outcome is Outcome.ERROR for one in watched):
        return Outcome.ERROR
    answered = sum(tally.answered for tally in _tallies(evidence, arm))
    pairs = len([score for score in evidence.scores if score.source == "shadow"])
    required = [one for one in watched if one.required]
    enough = answered >= plan["guards"]["min_requests"] or (not answered and pairs >= plan["guards"]["min_requests"])
    if enough and required and all(one.outcome is Outcome.PASS for one in required):
        return Outcome.PASS
    return Outcome.INCONCLUSIVE


def _worst(outcomes: Sequence[Outcome]) -> Outcome:
    for outcome in (Outcome.FAIL, Outcome.ERROR, Outcome.INCONCLUSIVE):
        if outcome in outcomes:
            return outcome
    return Outcome.PASS


def _mismatch(evidence: Evidence, plan: Mapping[str, Any]) -> str:
    """Of requests that were split one by one; those of one unit come together, and prove nothing about the ratio."""
    if list(plan["units"]) != ["request-id"]:
        return ""
    total = 0.0
    for segment in evidence.segments:
        arms = [arm for arm, weight in segment.weights.items() if weight > 0]
        counts = [segment.tallies.get(arm, Tally()).assigned for arm in arms]
        if len(arms) > 1 and any(counts):
            total += log_bayes_factor(counts, [segment.weights[arm] for arm in arms])
    if total < FLAG_LOG_E:
        return ""
    return f"requests were not split as asked (log e {total:.1f}): something before or behind the split loses some"


def _sentence(
    outcome: Outcome, guards: Sequence[GuardVerdict], mismatch: str, evidence: Evidence, arms: Sequence[str]
) -> str:
    if mismatch:
        return mismatch
    named = [one for one in guards if one.outcome is outcome and (one.required or outcome is not Outcome.INCONCLUSIVE)]
    if outcome is Outcome.PASS:
        return f"nothing is worse than its margin allows: {', '.join(one.metric for one in guards if one.required)}"
    if named:
        return named[0].sentence
    answered = sum(tally.answered for arm in arms for tally in _tallies(evidence, arm))
    return f"{answered} answers of {', '.join(arms)} are not enough"

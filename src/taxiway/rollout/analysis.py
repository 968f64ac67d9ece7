"""From evidence to a verdict: pure, and the same for the same evidence and plan, bit for bit.

Each guard runs two opposed e-processes: that the candidate is worse by more than the margin, at its share of alpha, and
that it is not, at beta. One guard that finds harm fails the candidate; all that are required must have found safety for
it to go on; everything else holds still, whatever time it takes. docs/rollout-statistics.md says what that promises.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from taxiway.rollout.event_guards import EVENTS, read_events, read_slow_slots
from taxiway.rollout.latency_guards import read_cost, read_latency
from taxiway.rollout.nouns import Evidence, GuardVerdict, Outcome, Segment, Tally, Verdict
from taxiway.rollout.score_guards import read_agreement, read_quality
from taxiway.rollout.terms import Reading, Terms, tallies_of, tally_of, terms_of
from taxiway.stats.many import level_by_e_bh
from taxiway.stats.sample_ratio import FLAG_LOG_E, log_bayes_factor

_READERS: Final[Mapping[str, Callable[[Evidence, str, Terms], Reading]]] = {
    **dict.fromkeys(EVENTS, read_events),
    "slow-slots": read_slow_slots,
    "latency": read_latency,
    "cost": read_cost,
    "quality": read_quality,
    "agreement": read_agreement,
}
_ONE_BY_ONE: Final = ["request-id"]
"""Units of a plan whose requests are split one by one, whoever sends them."""
_COUNTS: Final = (
    "assigned", "answered", "failed", "timed_out", "refused", "rejected", "cancelled", "checked", "invalid", "slots",
    "slow_slots",
)  # fmt: skip


def judge(evidence: Evidence, plan: Mapping[str, Any], arms: Sequence[str]) -> Verdict:
    """What the evidence says.

    Args:
        evidence: all that was gathered.
        plan: as `config.rollout_plan.RolloutPlan` dumps itself, every default filled in.
        arms: those that are tried, each against the version served now.
    """
    bad = sum(_bad(tally) for arm in arms for tally in tallies_of(evidence, arm))
    contradiction = contradiction_in(evidence)
    if contradiction:
        outcomes = dict.fromkeys(arms, Outcome.ERROR)
        return Verdict(Outcome.ERROR, outcomes, (), "", bad, f"the evidence contradicts itself: {contradiction}")
    one_by_one = list(plan["units"]) == _ONE_BY_ONE
    mismatch = _mismatch(evidence, one_by_one=one_by_one)
    # Where the shares are not those asked for, harm has to be plain by those that there were, too.
    exact = one_by_one and not mismatch
    read = {
        arm: [_read(evidence, arm, terms) for terms in terms_of(plan, evidence, arm, len(arms), exact_shares=exact)]
        for arm in arms
    }
    shown_at = _shown_at([one for arm in arms for one in read[arm]], plan["guards"]["alpha"])
    guards = {
        arm: [_decide(evidence, arm, _at_level(terms, shown_at), reading) for terms, reading in read[arm]]
        for arm in arms
    }
    outcomes = {arm: _outcome(guards[arm], plan, evidence, arm, mismatch) for arm in arms}
    outcome = _worst(outcomes.values())
    told = tuple(one for arm in arms for one in guards[arm])
    return Verdict(outcome, outcomes, told, mismatch, bad, _sentence(outcome, told, mismatch, plan, evidence, arms))


# --- one guard -------------------------------------------------------------------------------------------------


def _read(evidence: Evidence, arm: str, terms: Terms) -> tuple[Terms, Reading]:
    return terms, _READERS[terms.guard["metric"]](evidence, arm, terms)


def _shown_at(read: Iterable[tuple[Terms, Reading]], alpha: float) -> float:
    """The evidence that guards have to reach that are only shown: of all told as harm, alpha are wrong on average.

    There may be many of them, and none decides anything (stats/many.py).
    """
    shown = [reading.log_e_harm for terms, reading in read if terms.guard["exploratory"]]
    return level_by_e_bh([-math.inf if math.isnan(log_e) else log_e for log_e in shown], alpha) if shown else math.inf


def _at_level(terms: Terms, shown_at: float) -> Terms:
    return msgspec.structs.replace(terms, harm_at=shown_at) if terms.guard["exploratory"] else terms


def _decide(evidence: Evidence, arm: str, terms: Terms, reading: Reading) -> GuardVerdict:
    guard = terms.guard
    outcome = _outcome_of(reading, terms)
    open_ = outcome is Outcome.INCONCLUSIVE
    seconds = sum(segment.evidence_s for segment in evidence.segments)
    more_s = None
    if open_ and seconds:
        share = reading.more_share
        if share is None and reading.more_events is not None and reading.candidate + reading.baseline:
            share = reading.more_events / (reading.candidate + reading.baseline)
        more_s = None if share is None else share * seconds
    return GuardVerdict(
        arm,
        name_of(guard),
        outcome,
        _finite(reading.effect),
        _finite(reading.low),
        _finite(reading.high),
        _number(reading.log_e_harm),
        _number(reading.log_e_safe),
        terms.harm_at,
        terms.safe_at,
        reading.candidate,
        reading.baseline,
        reading.more_events if open_ else None,
        more_s,
        bool(guard["required"]) and not guard["exploratory"],
        _guard_sentence(arm, outcome, reading, terms, more_s),
    )


def _outcome_of(reading: Reading, terms: Terms) -> Outcome:
    if math.isnan(reading.log_e_harm) or math.isnan(reading.log_e_safe):
        return Outcome.ERROR
    if reading.log_e_harm >= terms.harm_at:
        return Outcome.FAIL
    return Outcome.PASS if reading.log_e_safe >= terms.safe_at else Outcome.INCONCLUSIVE


def name_of(guard: Mapping[str, Any]) -> str:
    """What a guard is called: of latency there may be several."""
    return f"latency p{guard['quantile'] * 100:g}" if guard["metric"] == "latency" else str(guard["metric"])


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


_AS_GOOD_AS_SURE: Final = 1e6


def _number(log_e: float) -> float:
    """JSON knows no infinity."""
    return 0.0 if math.isnan(log_e) else max(-_AS_GOOD_AS_SURE, min(log_e, _AS_GOOD_AS_SURE))


_WORDS: Final = {
    Outcome.FAIL: "worse than it may be",
    Outcome.PASS: "not worse than it may be",
    Outcome.INCONCLUSIVE: "not decided",
    Outcome.ERROR: "the evidence contradicts itself",
}


def _guard_sentence(arm: str, outcome: Outcome, reading: Reading, terms: Terms, more_s: float | None) -> str:
    parts = [f"{name_of(terms.guard)} of {arm}: {_WORDS[outcome]}"]
    if reading.effect is not None:
        parts.append(_effect_words(reading))
    if reading.note:
        parts.append(reading.note)
    if outcome is Outcome.INCONCLUSIVE and more_s is not None:
        events = f"{reading.more_events} more bad events, " if reading.more_events else ""
        parts.append(f"about {events}{_duration(more_s)} to decide")
    return "; ".join(parts)


def _effect_words(reading: Reading) -> str:
    low, high = _finite(reading.low), _finite(reading.high)
    if reading.difference:
        ends = f"from {-1 if low is None else low:+.3g} to {1 if high is None else high:+.3g}"
        return f"score {reading.effect:+.3g} against the other's ({ends})"
    effect = "unknown" if _finite(reading.effect) is None else f"{reading.effect:.3g}"
    ends = f"from {0 if low is None else low:.3g} to {'any' if high is None else f'{high:.3g}'}"
    return f"{effect} times the other's ({ends})"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


# --- all of them -----------------------------------------------------------------------------------------------


def _outcome(
    guards: Sequence[GuardVerdict], plan: Mapping[str, Any], evidence: Evidence, arm: str, mismatch: str
) -> Outcome:
    metrics = plan["guards"]["metrics"]
    watched = [one for one, guard in zip(guards, metrics, strict=True) if not guard["exploratory"]]
    if any(one.outcome is Outcome.ERROR for one in watched):
        return Outcome.ERROR
    if any(one.outcome is Outcome.FAIL for one in watched):
        return Outcome.FAIL
    required = [one for one in watched if one.required]
    passed = required and all(one.outcome is Outcome.PASS for one in required)
    enough = _answers(evidence, arm) >= plan["guards"]["min_requests"]
    return Outcome.PASS if passed and enough and not mismatch else Outcome.INCONCLUSIVE


def _answers(evidence: Evidence, arm: str) -> int:
    """Requests that it answered, or copies of them."""
    copies = sum(one.count for one in evidence.scores if one.source == "shadow" and one.arm == arm)
    return copies + sum(tally.answered for tally in tallies_of(evidence, arm))


def _worst(outcomes: Iterable[Outcome]) -> Outcome:
    found = set(outcomes)
    order = (Outcome.FAIL, Outcome.ERROR, Outcome.INCONCLUSIVE)
    return next((one for one in order if one in found), Outcome.PASS if found else Outcome.INCONCLUSIVE)


def _sentence(
    outcome: Outcome,
    guards: Sequence[GuardVerdict],
    mismatch: str,
    plan: Mapping[str, Any],
    evidence: Evidence,
    arms: Sequence[str],
) -> str:
    if mismatch and outcome is not Outcome.FAIL:
        return mismatch
    if outcome is Outcome.PASS:
        return f"{', '.join(one.metric for one in guards if one.required)}: not worse than they may be"
    shown = {name_of(guard) for guard in plan["guards"]["metrics"] if guard["exploratory"]}
    named = [one for one in guards if one.outcome is outcome and one.metric not in shown]
    if outcome is not Outcome.INCONCLUSIVE:
        return "; ".join(one.sentence for one in named)
    waited = [one for one in named if one.required]
    if waited:
        slowest = max(waited, key=lambda one: math.inf if one.more_s is None else one.more_s)
        return slowest.sentence
    if not any(one.required for one in guards):
        return "no guard is required: nothing can show that it may go on"
    least = plan["guards"]["min_requests"]
    return "; ".join(f"{_answers(evidence, arm)} of {least} requests of {arm}" for arm in arms)


# --- whether it can be believed --------------------------------------------------------------------------------


def contradiction_in(evidence: Evidence) -> str:
    """What cannot be so, if anything: numbers below zero, or none; more of some than there can be."""
    for segment in evidence.segments:
        if not all(0 <= weight <= 1 for weight in segment.weights.values()) or sum(segment.weights.values()) > 1 + 1e-6:
            return f"weights {segment.weights} in segment {segment.number}"
        if not 0 <= segment.evidence_s < math.inf:
            return f"{segment.evidence_s} s of evidence in segment {segment.number}"
        for arm, tally in segment.tallies.items():
            problem = _problem(tally)
            if problem:
                return f"{problem} of {arm} in segment {segment.number}"
    for score in evidence.scores:
        values = (score.score, score.other or 0.0, score.weight)
        if not all(0 <= value <= 1 for value in values) or score.count < 0:
            return f"a score of {score.score} of {score.arm}"
    return ""


def _problem(tally: Tally) -> str:
    for name in _COUNTS:
        value = getattr(tally, name)
        if not 0 <= value < math.inf:
            return f"{name} = {value}"
    cost = tally.cost
    if not (math.isfinite(cost.total) and 0 <= cost.squares < math.inf and cost.n >= 0):
        return f"cost {cost.total} over {cost.n} slots"
    if any(count < 0 for _, count in tally.latency):
        return "a latency that came less than never"
    timed = sum(count for _, count in tally.latency)
    for few, many, what in (
        (tally.slow_slots, tally.slots, "slow slots of slots"),
        (tally.invalid, tally.checked, "invalid of checked answers"),
        (timed, tally.answered, "latencies of answers"),
    ):
        if few > many:
            return f"{few} {what}, which are {many}"
    return ""


def _bad(tally: Tally) -> int:
    return tally.failed + tally.timed_out + tally.refused + tally.invalid


def _mismatch(evidence: Evidence, *, one_by_one: bool) -> str:
    """Whether requests came in the shares asked for, and were all heard of again.

    Those of one unit come together, so that only where requests are split one by one do their shares prove anything.
    """
    split = lost = 0.0
    for segment in evidence.segments:
        arms = [arm for arm, weight in segment.weights.items() if weight > 0]
        assigned = [tally_of(segment, arm).assigned for arm in arms]
        if len(arms) < 2 or min(assigned, default=0) < 1:
            continue
        split += log_bayes_factor(assigned, [segment.weights[arm] / _total(segment, arms) for arm in arms])
        ended = [min(_ended(tally_of(segment, arm)), count) for arm, count in zip(arms, assigned, strict=True)]
        lost += log_bayes_factor(ended, [count / sum(assigned) for count in assigned])
    if split >= FLAG_LOG_E and one_by_one:
        return f"requests were not split as asked for (log e {split:.1f}): {_shares(evidence)}"
    if lost >= FLAG_LOG_E:
        return (
            f"requests of some arms do not come to an end as those of others do (log e {lost:.1f}): {_shares(evidence)}"
        )
    return ""


def _total(segment: Segment, arms: Sequence[str]) -> float:
    return sum(segment.weights[arm] for arm in arms)


def _ended(tally: Tally) -> int:
    return tally.answered + tally.failed + tally.timed_out + tally.refused + tally.rejected + tally.cancelled


def _shares(evidence: Evidence) -> str:
    """What was asked for in the last segment, and what came."""
    segment = evidence.segments[-1]
    total = sum(tally.assigned for tally in segment.tallies.values()) or 1
    words = [
        f"{arm} {tally_of(segment, arm).assigned / total:.1%} of {weight:.1%}, "
        f"{_ended(tally_of(segment, arm))} of {tally_of(segment, arm).assigned} ended"
        for arm, weight in segment.weights.items()
        if weight > 0
    ]
    return "; ".join(words)

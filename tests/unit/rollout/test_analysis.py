"""From evidence to verdicts: each guard, the four outcomes, and what is said of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from taxiway.config.rollout_plan import RolloutPlan
from taxiway.rollout.analysis import judge
from taxiway.rollout.nouns import (
    BASELINE,
    CANDIDATE,
    CONTROL,
    Evidence,
    GuardVerdict,
    Moments,
    Outcome,
    Score,
    Segment,
    Tally,
    Verdict,
)
from taxiway.rollout.replaying import differences
from taxiway.stats.log_buckets import bucket_of

FAST, SLOW = bucket_of(20e6), bucket_of(40e6)


def plan(*metrics: dict[str, Any], **more: Any) -> dict[str, Any]:
    guards = {"metrics": metrics, **more.pop("guards", {})} if metrics else more.pop("guards", {})
    return RolloutPlan.model_validate({"to": "7", "guards": guards, **more}).model_dump(mode="json")


def tally(requests: int, bad: int = 0, bucket: int = FAST, **more: Any) -> Tally:
    fields: dict[str, Any] = {"assigned": requests, "answered": requests - bad, "failed": bad}
    fields["latency"] = [(bucket - 8, (requests - bad) // 2), (bucket, requests - bad - (requests - bad) // 2)]
    return Tally(**{**fields, **more})


def split(
    total: int = 10_000, share: float = 0.1, bad: tuple[int, int] = (0, 0), bucket: int = FAST, **more: Any
) -> Evidence:
    """Requests of a candidate, its twin and the rest; `bad` of the candidate's and of all others."""
    weights = {CANDIDATE: share, BASELINE: share, CONTROL: 1 - 2 * share}
    mine, rest = round(total * share), round(total * (1 - 2 * share))
    tallies = {CANDIDATE: tally(mine, bad[0], bucket, **more), BASELINE: tally(mine), CONTROL: tally(rest, bad[1])}
    return Evidence([Segment(1, weights, tallies, total / 100)])


def judged(evidence: Evidence, said: dict[str, Any]) -> Verdict:
    return judge(evidence, said, [CANDIDATE])


def guard(verdict: Verdict, metric: str = "errors", arm: str = CANDIDATE) -> GuardVerdict:
    return next(one for one in verdict.guards if (one.metric, one.arm) == (metric, arm))


ERRORS = {"metric": "errors", "margin": 0.1}

# --- errors ----------------------------------------------------------------------------------------------------


def test_more_errors_fail() -> None:
    verdict = judged(split(bad=(40, 90)), plan(ERRORS))
    assert verdict.outcome is Outcome.FAIL
    errors = guard(verdict)
    assert (errors.candidate, errors.baseline) == (40, 90)
    assert errors.effect == pytest.approx(4, rel=0.05)
    assert errors.low is not None
    assert errors.high is not None
    assert 1.1 < errors.low < 4 < errors.high
    assert "worse than it may be; 4 times the other's" in verdict.sentence
    assert verdict.bad_requests == 40


def test_no_errors_at_all_pass_once_enough_was_seen() -> None:
    few, many = judged(split(5000), plan(ERRORS)), judged(split(20_000), plan(ERRORS))
    assert few.outcome is Outcome.INCONCLUSIVE
    assert "no bad event in 500 requests of its own; about" in few.sentence
    assert many.outcome is Outcome.PASS
    assert judged(split(200_000), plan({**ERRORS, "allowance": 0})).outcome is Outcome.INCONCLUSIVE


def test_what_is_told_to_be_missing_is_about_what_is_missing() -> None:
    said = plan(ERRORS)
    more_s = guard(judged(split(3000), said)).more_s
    assert more_s is not None
    done_s = 30 + more_s
    assert judged(split(round(done_s * 100 * 1.1)), said).outcome is Outcome.PASS
    assert judged(split(round(done_s * 100 * 0.8)), said).outcome is Outcome.INCONCLUSIVE


def test_the_allowance_is_of_what_the_next_step_would_cost() -> None:
    """At 1 % the next step is 5 %: a fifth of a percent of all is 4 % of the candidate's. At 50 % it is all of it."""
    for share, enough in ((0.01, 200), (0.5, 4000)):
        verdicts = [judged(split(round(count / share), share), plan(ERRORS)) for count in (enough // 3, enough)]
        assert [one.outcome for one in verdicts] == [Outcome.INCONCLUSIVE, Outcome.PASS]


@pytest.mark.parametrize(("share", "requests"), [(0.01, 149), (0.5, 2967)])
def test_without_bad_events_it_takes_what_the_documentation_says(share: float, requests: int) -> None:
    said = plan(ERRORS)
    outcomes = [judged(split(round(count / share), share), said).outcome for count in (requests - 1, requests)]
    assert outcomes == [Outcome.INCONCLUSIVE, Outcome.PASS]


def test_an_excess_above_the_allowance_does_not_pass() -> None:
    """Half a percent and 0.9 percent, at 50 %: all of the requests would cost 0.4 % more."""
    verdict = judged(split(8000, 0.5, bad=(36, 0)), plan({**ERRORS, "margin": 2.0}))
    assert verdict.outcome is not Outcome.PASS


def test_nothing_passes_before_the_least_number_of_requests() -> None:
    said = plan(ERRORS, guards={"min_requests": 5000})
    verdict = judged(split(20_000), said)
    assert guard(verdict).outcome is Outcome.PASS
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.sentence == "2000 of 5000 requests of candidate"


def test_no_evidence_is_inconclusive_and_says_what_is_missing() -> None:
    for evidence in (Evidence(), Evidence([Segment(1, {CONTROL: 1.0}, {CONTROL: tally(1000)})]), split(0)):
        verdict = judged(evidence, plan())
        assert verdict.outcome is Outcome.INCONCLUSIVE
        assert "no " in verdict.sentence
        assert {one.outcome for one in verdict.guards} == {Outcome.INCONCLUSIVE}


def test_evidence_goes_on_over_changes_of_weights() -> None:
    one, other = split(2000, 0.05, bad=(4, 8)), split(2000, 0.25, bad=(10, 8))
    other.segments[0].number = 2
    both = Evidence([*one.segments, *other.segments])
    harm = [guard(judged(evidence, plan(ERRORS))).log_e_harm for evidence in (one, other, both)]
    assert harm[2] > max(harm) - 1e-9
    assert harm[2] > 0


def test_other_bad_events_have_guards_of_their_own() -> None:
    for field, metric in (("timed_out", "timeouts"), ("refused", "refusals")):
        evidence = split()
        for arm, count in ((CANDIDATE, 60), (BASELINE, 2)):
            evidence.segments[0].tallies[arm] = tally(1000, answered=1000 - count, latency=[])
            setattr(evidence.segments[0].tallies[arm], field, count)
        verdict = judged(evidence, plan({"metric": metric}))
        assert (verdict.outcome, guard(verdict, metric).baseline) == (Outcome.FAIL, 2)
    evidence = split(checked=500, invalid=60)
    evidence.segments[0].tallies[CONTROL].checked = 4000
    assert judged(evidence, plan({"metric": "invalid-output"})).outcome is Outcome.FAIL


# --- time ------------------------------------------------------------------------------------------------------

LATENCY = {"metric": "latency", "quantile": 0.9, "margin": 0.1}


def test_latency_fails_passes_and_holds() -> None:
    assert judged(split(bucket=SLOW), plan(LATENCY)).outcome is Outcome.FAIL
    alike = judged(split(), plan(LATENCY))
    assert alike.outcome is Outcome.PASS
    told = guard(alike, "latency p90")
    assert told.effect == 1.0
    assert told.low is not None
    assert told.high is not None
    assert told.low <= 1.0 <= told.high <= 1.1
    assert judged(split(200), plan(LATENCY)).outcome is Outcome.INCONCLUSIVE


def test_segments_with_other_ratios_of_shares_are_not_thrown_together() -> None:
    """The candidate has most of its requests in the slow half of the day, the other in the fast one: no harm."""
    weights = [{CANDIDATE: 0.1, CONTROL: 0.9}, {CANDIDATE: 0.9, CONTROL: 0.1}]
    fast = Segment(1, weights[0], {CANDIDATE: tally(400), CONTROL: tally(3600)}, 60)
    slow = Segment(2, weights[1], {CANDIDATE: tally(3600, bucket=SLOW), CONTROL: tally(400, bucket=SLOW)}, 60)
    verdict = judged(Evidence([fast, slow]), plan(LATENCY, twin=False))
    assert verdict.outcome is not Outcome.FAIL
    assert guard(verdict, "latency p90").log_e_harm < 0


def test_slow_slots_are_compared_between_arms_of_one_size_only() -> None:
    said = plan({"metric": "slow-slots"})
    evidence = split(slots=60, slow_slots=40)
    evidence.segments[0].tallies[BASELINE].slots = 60
    evidence.segments[0].tallies[BASELINE].slow_slots = 8
    assert judged(evidence, said).outcome is Outcome.FAIL
    alone = Segment(1, {CANDIDATE: 0.1, CONTROL: 0.9}, evidence.segments[0].tallies, 60)
    verdict = judged(Evidence([alone]), said)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "`twin: true`" in verdict.sentence


@pytest.mark.parametrize(
    ("ratio", "slots", "outcome"),
    [(1.3, 100, Outcome.FAIL), (1.0, 100, Outcome.PASS), (1.3, 59, Outcome.INCONCLUSIVE)],
)
def test_cost_is_judged_once_there_are_enough_slots(ratio: float, slots: int, outcome: Outcome) -> None:
    mean = math.log(ratio)
    cost = Moments(slots, slots * mean, slots * (mean**2 + 0.01))
    verdict = judged(split(cost=cost), plan({"metric": "cost", "margin": 0.1}))
    assert verdict.outcome is outcome
    if slots >= 60:
        assert guard(verdict, "cost").effect == pytest.approx(ratio)


# --- quality ---------------------------------------------------------------------------------------------------


def scored(mine: tuple[int, int], theirs: tuple[int, int], source: str = "feedback") -> Evidence:
    """Good and bad ratings of both."""
    evidence = split()
    for arm, weight, (good, bad) in ((CANDIDATE, 0.1, mine), (CONTROL, 0.8, theirs)):
        evidence.scores.append(Score(arm, source, weight, 1.0, segment=1, count=good))
        evidence.scores.append(Score(arm, source, weight, 0.0, count=bad))
    return evidence


def test_quality_by_feedback() -> None:
    said = plan({"metric": "quality", "margin": 0.05})
    worse, alike = judged(scored((300, 200), (4000, 500)), said), judged(scored((1800, 200), (16_200, 1800)), said)
    assert (worse.outcome, alike.outcome) == (Outcome.FAIL, Outcome.PASS)
    told = guard(worse, "quality")
    assert told.effect == pytest.approx(0.6 - 8 / 9)
    assert told.low is not None
    assert told.high is not None
    assert told.low < -0.28 < told.high < -0.05
    assert "score -0.289 against the other's" in worse.sentence
    assert judged(split(), said).outcome is Outcome.INCONCLUSIVE


def test_quality_by_pairs_of_judged_answers() -> None:
    said = plan({"metric": "quality", "margin": 0.05})
    for score, outcome in ((0.5, Outcome.FAIL), (0.8, Outcome.PASS)):
        evidence = split()
        evidence.scores = [Score(CANDIDATE, "judge", 0.1, score, 0.8, count=300)]
        verdict = judged(evidence, said)
        assert verdict.outcome is outcome
        assert guard(verdict, "quality").effect == pytest.approx(score - 0.8)


@pytest.mark.parametrize(("same", "outcome"), [(990, Outcome.PASS), (800, Outcome.FAIL)])
def test_agreement_of_a_shadow(same: int, outcome: Outcome) -> None:
    scores = [Score(CANDIDATE, "shadow", 1.0, 1.0, 1.0, count=same)]
    scores.append(Score(CANDIDATE, "shadow", 1.0, 0.0, 1.0, count=1000 - same))
    verdict = judged(Evidence([], scores), plan({"metric": "agreement", "margin": 0.05}, strategy="shadow"))
    assert verdict.outcome is outcome
    assert f"1000 pairs agree to {same / 1000:g} on average, 0.95 is asked for" in guard(verdict, "agreement").sentence


# --- all together ----------------------------------------------------------------------------------------------


def test_guards_that_are_not_required_can_only_stop_it_and_explored_ones_not_even_that() -> None:
    said = plan({**ERRORS, "required": False}, LATENCY)
    assert judged(split(bad=(40, 90)), said).outcome is Outcome.FAIL
    assert judged(split(1500, bad=(0, 2)), said).outcome is Outcome.PASS
    shown = plan({**ERRORS, "exploratory": True}, LATENCY)
    verdict = judged(split(bad=(40, 90)), shown)
    assert (verdict.outcome, guard(verdict).outcome) == (Outcome.PASS, Outcome.FAIL)
    nothing_asked = judged(split(), plan({**ERRORS, "required": False}))
    assert nothing_asked.outcome is Outcome.INCONCLUSIVE
    assert "no guard is required" in nothing_asked.sentence


def test_alpha_is_shared_by_guards_and_arms() -> None:
    said = plan({**ERRORS, "weight": 3}, LATENCY, {"metric": "cost", "exploratory": True})
    levels = {one.metric: one.harm_at for one in judged(split(), said).guards}
    assert levels["errors"] == pytest.approx(math.log(1 / (0.05 * 3 / 4)))
    assert levels["latency p90"] == pytest.approx(math.log(1 / (0.05 / 4)))
    two = judge(split(), said, ["one", "two"])
    assert two.guards[0].harm_at == pytest.approx(math.log(2 / (0.05 * 3 / 4)))
    assert two.guards[0].safe_at == pytest.approx(math.log(20))


def test_guards_that_are_only_shown_share_alpha_as_e_bh_has_it() -> None:
    """The more of them find harm, the less each has to find; none of them decides."""
    shown = [{"metric": "latency", "quantile": p, "margin": 0.1, "exploratory": True} for p in (0.5, 0.75, 0.9, 0.95)]
    levels = {one.metric: one.harm_at for one in judged(split(), plan(ERRORS, *shown)).guards}
    assert levels["latency p75"] == pytest.approx(math.log(4 / 0.05))
    verdict = judged(split(bucket=SLOW), plan(ERRORS, *shown))
    harmed = [one for one in verdict.guards if one.outcome is Outcome.FAIL]
    assert len(harmed) >= 2
    assert [one.harm_at for one in harmed] == pytest.approx([math.log(4 / len(harmed) / 0.05)] * len(harmed))
    assert verdict.outcome is not Outcome.FAIL


def test_each_arm_of_a_test_has_a_verdict_of_its_own() -> None:
    weights = {"one": 0.3, "two": 0.3, CONTROL: 0.4}
    tallies = {"one": tally(30_000, 100), "two": tally(30_000, 600), CONTROL: tally(40_000, 150)}
    arms = [{"name": "one", "to": "7", "percent": 30}, {"name": "two", "to": "8", "percent": 30}]
    said = RolloutPlan.model_validate({"strategy": "ab", "arms": arms, "guards": {"metrics": [ERRORS]}})
    verdict = judge(Evidence([Segment(1, weights, tallies, 60)]), said.model_dump(mode="json"), ["one", "two"])
    assert verdict.arms == {"one": Outcome.PASS, "two": Outcome.FAIL}
    assert verdict.outcome is Outcome.FAIL


def test_a_split_that_is_not_as_asked_for_holds_and_blames_nobody() -> None:
    evidence = split(40_000)
    tallies = evidence.segments[0].tallies
    tallies[CANDIDATE].assigned = 3000
    said = plan(ERRORS, units=["request-id"])
    verdict = judged(evidence, said)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "not split as asked for" in verdict.mismatch
    assert judged(evidence, plan(ERRORS)).mismatch == "" or "come to an end" in judged(evidence, plan(ERRORS)).mismatch
    tallies[CANDIDATE] = tally(3000, bad=300)
    assert judged(evidence, said).outcome is Outcome.FAIL


def test_a_heavy_unit_in_the_candidate_is_no_harm() -> None:
    """Units that send much come as a whole: the candidate has three times its share of requests, and of errors."""
    evidence = split(10_000, bad=(30, 70))
    evidence.segments[0].tallies[CANDIDATE] = tally(3000, 30)
    assert judged(evidence, plan(ERRORS)).outcome is not Outcome.FAIL


def test_requests_that_are_lost_hold_it() -> None:
    evidence = split(40_000)
    evidence.segments[0].tallies[CANDIDATE] = tally(4000, answered=2500, latency=[(FAST, 2500)])
    verdict = judged(evidence, plan(ERRORS))
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "do not come to an end" in verdict.mismatch
    assert "2500 of 4000 ended" in verdict.mismatch


@pytest.mark.parametrize(
    "spoil",
    [
        lambda evidence: setattr(evidence.segments[0].tallies[CANDIDATE], "failed", math.nan),
        lambda evidence: setattr(evidence.segments[0].tallies[CANDIDATE], "answered", -1),
        lambda evidence: setattr(evidence.segments[0].tallies[CANDIDATE], "slow_slots", 5),
        lambda evidence: setattr(evidence.segments[0].tallies[CANDIDATE], "invalid", 5),
        lambda evidence: setattr(evidence.segments[0].tallies[CANDIDATE], "latency", [(FAST, 10**6)]),
        lambda evidence: setattr(evidence.segments[0].tallies[CANDIDATE].cost, "total", math.inf),
        lambda evidence: setattr(evidence.segments[0], "evidence_s", math.nan),
        lambda evidence: evidence.segments[0].weights.update({CANDIDATE: math.nan}),
        lambda evidence: evidence.segments[0].weights.update({CANDIDATE: 0.9}),
        lambda evidence: evidence.scores.append(Score(CANDIDATE, "judge", 0.1, math.nan)),
    ],
)
def test_evidence_that_contradicts_itself_is_an_error(spoil: Callable[[Evidence], None]) -> None:
    evidence = split(20_000)
    spoil(evidence)
    verdict = judged(evidence, plan(ERRORS))
    assert verdict.outcome is Outcome.ERROR
    assert verdict.sentence.startswith("the evidence contradicts itself: ")


def test_a_verdict_is_the_same_for_the_same_evidence_bit_for_bit_and_json_holds_it() -> None:
    evidence = scored((300, 200), (4000, 500))
    said = plan(ERRORS, LATENCY, {"metric": "quality"}, {"metric": "cost"}, {"metric": "slow-slots"})
    verdict = judged(evidence, said)
    stored = msgspec.json.decode(msgspec.json.encode(evidence), type=Evidence)
    kept = msgspec.json.decode(msgspec.json.encode(verdict), type=Verdict)
    assert differences(kept, stored, said) == ()
    stored.segments[0].tallies[CANDIDATE].failed += 1
    stored.segments[0].tallies[CANDIDATE].answered -= 1
    stored.segments[0].tallies[CANDIDATE].latency[0] = (FAST - 8, 499)
    assert any(one.startswith("verdict.guards[0].log_e_safe: stored ") for one in differences(kept, stored, said))

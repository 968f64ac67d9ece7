"""Verdicts: what each guard says of evidence, and that nothing passes on silence."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest

from taxiway.config.rollout_plan import RolloutPlan
from taxiway.rollout.analysis import judge
from taxiway.rollout.nouns import BASELINE, CANDIDATE, CONTROL, Evidence, Outcome, Score, Segment, Tally, Verdict
from taxiway.stats.log_buckets import LogHistogram


def plan(*guards: dict[str, Any], **more: Any) -> dict[str, Any]:
    said = {"metrics": list(guards), "min_requests": 50, **more} if guards else more
    return RolloutPlan.model_validate({"to": "7", "guards": said}).model_dump(mode="json")


def times(count: int, scale: float, seed: int) -> list[tuple[int, int]]:
    histogram = LogHistogram()
    for one in np.random.default_rng(seed).lognormal(0, 0.3, count) * 1e7 * scale:
        histogram.observe(float(one))
    return histogram.to_sparse()


def tally(answered: int, scale: float = 1.0, seed: int = 1, **more: Any) -> Tally:
    return Tally(assigned=answered, answered=answered, latency=times(min(answered, 3000), scale, seed), **more)


def canary(candidate: Tally, baseline: Tally, control: Tally, share: float = 0.05) -> Evidence:
    weights = {CANDIDATE: share, BASELINE: share, CONTROL: 1 - 2 * share}
    return Evidence([Segment(1, weights, {CANDIDATE: candidate, BASELINE: baseline, CONTROL: control})])


def look(evidence: Evidence, *guards: dict[str, Any], **more: Any) -> Verdict:
    return judge(evidence, plan(*guards, **more), [CANDIDATE], 100.0)


ERRORS: dict[str, Any] = {"metric": "errors", "margin": 0.5}


def test_more_errors_fail_and_say_how_many_more() -> None:
    verdict = look(canary(tally(950, failed=50), tally(990, failed=10), tally(17820, failed=180)), ERRORS)
    assert verdict.outcome is Outcome.FAIL
    (guard,) = verdict.guards
    assert guard.effect == pytest.approx(5.0, rel=0.01)
    assert guard.low is not None
    assert guard.low > 1.5
    assert verdict.sentence.startswith("errors of candidate: worse than the baseline: 5 times the baseline's")
    assert verdict.bad_requests == 50


def test_equal_errors_hold_until_there_are_enough_and_then_pass() -> None:
    few = look(canary(tally(990, failed=10), tally(990, failed=10), tally(17820, failed=180)), ERRORS)
    assert few.outcome is Outcome.INCONCLUSIVE
    assert few.guards[0].more_events is not None
    assert few.guards[0].more_s == pytest.approx(few.guards[0].more_events / 200 * 100)
    many = look(canary(tally(49500, failed=500), tally(49500, failed=500), tally(891000, failed=9000)), ERRORS)
    assert many.outcome is Outcome.PASS


def test_a_service_that_never_fails_can_pass_by_its_floor_and_only_by_it() -> None:
    evidence = canary(tally(6000), tally(6000), tally(100_000))
    assert look(evidence, {**ERRORS, "floor": 0.001}).outcome is Outcome.PASS
    assert look(evidence, {**ERRORS, "floor": 0.0}).outcome is Outcome.INCONCLUSIVE
    assert (
        look(canary(tally(1000), tally(1000), tally(9000)), {**ERRORS, "floor": 0.001}).outcome is Outcome.INCONCLUSIVE
    )


@pytest.mark.parametrize(("scale", "outcome"), [(1.0, Outcome.PASS), (1.4, Outcome.FAIL)])
def test_latency_is_compared_with_the_twin(scale: float, outcome: Outcome) -> None:
    evidence = canary(tally(3000, scale, 2), tally(3000, 1.0, 3), tally(3000, 9.0, 4))
    verdict = look(evidence, {"metric": "latency", "quantile": 0.5, "margin": 0.1})
    assert verdict.outcome is outcome
    assert verdict.guards[0].effect == pytest.approx(scale, rel=0.05)
    assert verdict.guards[0].low is not None
    assert verdict.guards[0].low <= scale <= (verdict.guards[0].high or 99)


def test_slow_slots_of_equal_loads_are_compared_and_of_others_not() -> None:
    guard = {"metric": "slow-slots", "margin": 0.1}
    mine, theirs = tally(900, slots=60, slow_slots=30), tally(900, slots=60, slow_slots=3)
    assert look(canary(mine, theirs, tally(9000, slots=60, slow_slots=60)), guard).outcome is Outcome.FAIL
    uneven = Evidence([Segment(1, {CANDIDATE: 0.1, CONTROL: 0.9}, {CANDIDATE: mine, CONTROL: theirs})])
    verdict = look(uneven, guard)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "different loads" in verdict.guards[0].sentence


def test_what_is_not_required_stops_but_is_not_waited_for() -> None:
    quiet = {"metric": "timeouts", "margin": 0.5, "required": False}
    evidence = canary(tally(6000), tally(6000), tally(90_000))
    assert look(evidence, {**ERRORS, "floor": 0.001}, quiet).outcome is Outcome.PASS
    late = canary(tally(6000, timed_out=60), tally(6000), tally(90_000, timed_out=2))
    assert look(late, {**ERRORS, "floor": 0.001}, quiet).outcome is Outcome.FAIL
    assert look(late, {**ERRORS, "floor": 0.001}, {**quiet, "exploratory": True}).outcome is Outcome.PASS


def test_nothing_passes_on_silence() -> None:
    guards: list[dict[str, Any]] = [
        ERRORS,
        {"metric": "latency", "quantile": 0.5, "margin": 0.1},
        {"metric": "quality"},
        {"metric": "cost"},
    ]
    for evidence in (
        Evidence(),
        canary(Tally(), Tally(), Tally()),
        canary(Tally(), tally(5000), tally(50_000)),
        canary(tally(49), Tally(), Tally()),
        Evidence([Segment(1, {CANDIDATE: 1.0}, {CANDIDATE: tally(100_000)})]),
    ):
        for guard in guards:
            assert look(evidence, {**guard, "floor": 0.0}).outcome is Outcome.INCONCLUSIVE
        assert look(evidence).outcome is Outcome.INCONCLUSIVE


def test_evidence_goes_on_over_changes_of_weights() -> None:
    first = canary(tally(990, failed=12), tally(990, failed=10), tally(17820, failed=180), 0.05).segments[0]
    second = canary(tally(970, failed=30), tally(990, failed=10), tally(3000, failed=30), 0.2).segments[0]
    both = look(Evidence([first, Segment(2, second.weights, second.tallies)]), ERRORS)
    alone = look(Evidence([second]), ERRORS)
    assert both.guards[0].candidate == 42
    assert both.guards[0].log_e_harm != alone.guards[0].log_e_harm


@pytest.mark.parametrize(("wrong", "outcome"), [(10, Outcome.PASS), (200, Outcome.FAIL)])
def test_feedback_tells_quality(wrong: int, outcome: Outcome) -> None:
    scores = [Score(CANDIDATE, "feedback", 0.5, 0.0 if number < wrong else 1.0) for number in range(4000)]
    scores += [Score(CONTROL, "feedback", 0.5, 0.0 if number < 12 else 1.0) for number in range(4000)]
    segment = Segment(1, {CANDIDATE: 0.5, CONTROL: 0.5}, {CANDIDATE: tally(4000), CONTROL: tally(4000)})
    verdict = look(Evidence([segment], scores), {"metric": "quality", "margin": 0.5, "floor": 0.02})
    assert verdict.outcome is outcome


@pytest.mark.parametrize(("score", "outcome"), [(1.0, Outcome.PASS), (0.7, Outcome.FAIL)])
def test_pairs_tell_agreement(score: float, outcome: Outcome) -> None:
    pairs = [Score(CANDIDATE, "shadow", 1.0, score, 1.0) for _ in range(600)]
    verdict = look(Evidence([], pairs), {"metric": "agreement", "margin": 0.05})
    assert verdict.outcome is outcome


def test_a_split_that_is_not_what_was_asked_is_told() -> None:
    evidence = canary(tally(700), tally(500), tally(8800))
    said = {**plan(ERRORS), "units": ["request-id"]}
    assert "not split as asked" in judge(evidence, said, [CANDIDATE]).mismatch
    assert judge(evidence, plan(ERRORS), [CANDIDATE]).mismatch == "", "units come together"


def test_the_same_evidence_gives_the_same_verdict_bit_for_bit_after_the_journal() -> None:
    evidence = canary(
        tally(950, 1.1, failed=17, slots=60, slow_slots=9), tally(990, failed=10), tally(17820, failed=180)
    )
    kept = msgspec.convert(json.loads(json.dumps(msgspec.to_builtins(evidence))), Evidence)
    assert msgspec.json.encode(look(evidence)) == msgspec.json.encode(look(kept))


def test_every_arm_of_a_test_is_judged_at_its_share_of_alpha() -> None:
    weights = {"new": 0.2, "newer": 0.2, CONTROL: 0.6}
    tallies = {"new": tally(4900, failed=100), "newer": tally(6000, failed=0), CONTROL: tally(18000, failed=0)}
    verdict = judge(Evidence([Segment(1, weights, tallies)]), plan({**ERRORS, "floor": 0.001}), ["new", "newer"])
    assert verdict.arms == {"new": Outcome.FAIL, "newer": Outcome.PASS}
    assert verdict.guards[0].harm_at == pytest.approx(np.log(40))

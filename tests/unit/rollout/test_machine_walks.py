"""Each strategy's way from its beginning to its end, and each exit."""

from __future__ import annotations

import math
from typing import Any

import pytest
from tests.support.rollout_walks import CREATOR, STARTED_NS, Walk, guard, planned, verdict

from taxiway.rollout.commands import Abort, Advance, Approve, Extend, Pause, Promote, Resume
from taxiway.rollout.events import Admitted, Applied, Begun, Failed, Replaced, Staged
from taxiway.rollout.machine import S_NS, may_be_replaced
from taxiway.rollout.nouns import Phase
from taxiway.rollout.shares import weights_of

HOUR_S = 3600
AB: dict[str, Any] = {
    "strategy": "ab",
    "arms": [{"name": "new", "to": "7", "percent": 10}, {"name": "newer", "to": "8", "percent": 20}],
}


# --- strategies -------------------------------------------------------------------------------------------


def test_a_canary_climbs_its_steps_and_succeeds() -> None:
    walk = Walk(planned(steps=[10, 50, 100]))
    assert walk.to_stage().at(Phase.STAGE)
    walk.tell(Staged())
    assert (walk.now.phase, weights_of(walk.now)) == (Phase.STEP, {"control": 0.8, "candidate": 0.1, "baseline": 0.1})
    assert walk.now.deadline_ns == STARTED_NS + 7200 * S_NS
    walk.look()
    assert weights_of(walk.now) == {"control": 0.0, "candidate": 0.5, "baseline": 0.5}
    walk.look()
    assert (walk.now.phase, weights_of(walk.now)) == (Phase.PROMOTE, {"candidate": 1.0})
    walk.apply()
    walk.look()
    assert walk.at(Phase.DRAIN)
    walk.apply()
    assert (walk.now.phase, weights_of(walk.now)) == (Phase.SUCCEEDED, {"candidate": 1.0})
    assert walk.became() == [
        "started", "begun", "admitted", "stepped", "stepped", "promoting", "guarding", "draining", "succeeded",
    ]  # fmt: skip
    assert not walk.now.quarantined
    walk.check_replay()


def test_a_canary_without_a_twin_is_compared_with_all_the_rest() -> None:
    assert weights_of(Walk(planned(twin=False)).to_step().now) == {"control": 0.99, "candidate": 0.01}


def test_a_step_lasts_as_long_as_there_was_evidence_whatever_the_clock_says() -> None:
    walk = Walk(planned(min_step_s=60)).to_step()
    walk.wait(HOUR_S)
    assert walk.look(evidence_s=59.9) is None
    assert walk.look(evidence_s=math.nan) is None
    assert walk.look(segment=walk.now.segment - 1) is None, "evidence of other weights"
    assert walk.look(evidence_s=60) is not None
    assert walk.now.step == 1


@pytest.mark.parametrize("outcome", ["inconclusive", "error"])
def test_what_does_not_pass_stays(outcome: str) -> None:
    walk = Walk(planned()).to_step()
    assert walk.look(outcome) is None


def test_a_shadow_before_a_canary_needs_its_pairs_and_asks_nothing_of_answers_that_nobody_got() -> None:
    walk = Walk(planned(shadow={"percent": 20, "pairs": 300})).to_first()
    assert (walk.now.phase, weights_of(walk.now)) == (Phase.SHADOW, {"control": 1.0})
    assert walk.look(verdict("inconclusive", guard("agreement", n=299))) is None
    assert walk.look(verdict("inconclusive", guard("agreement", n=300, outcome="inconclusive"))) is None
    assert walk.look(verdict("error", guard("agreement", n=300))) is None
    walk.look(verdict("inconclusive", guard("agreement", n=300), guard("errors", outcome="inconclusive")))
    assert (walk.now.phase, walk.now.segment) == (Phase.STEP, 2)
    assert walk.became()[-2:] == ["shadowing", "stepped"]


def test_a_shadow_alone_ends_without_traffic() -> None:
    walk = Walk(planned(strategy="shadow")).to_first()
    walk.look()
    assert (walk.now.phase, weights_of(walk.now)) == (Phase.DRAIN, {"control": 1.0})
    walk.apply()
    assert (walk.now.phase, walk.now.winner, walk.now.quarantined) == (Phase.SUCCEEDED, "", False)
    assert "nobody got its answers" in walk.now.reason
    walk.check_replay()


def test_blue_green_goes_at_once_and_back_at_once() -> None:
    walk = Walk(planned(strategy="blue-green")).to_first()
    assert (walk.now.phase, weights_of(walk.now)) == (Phase.PROMOTE, {"candidate": 1.0})
    walk.apply()
    assert walk.at(Phase.GUARD)
    walk.tell(Abort("undo"))
    assert (walk.now.phase, weights_of(walk.now)) == (Phase.ROLLING_BACK, {"control": 1.0})
    walk.apply()
    assert walk.at(Phase.ROLLED_BACK)
    walk.check_replay()


def test_a_watch_ends_by_evidence_and_not_by_the_clock() -> None:
    walk = Walk(planned(strategy="blue-green", guard_for_s=600)).to_guard()
    walk.wait(HOUR_S)
    assert walk.look("inconclusive", evidence_s=599) is None
    assert walk.look("error", evidence_s=601) is None
    walk.look("inconclusive", evidence_s=600)
    assert walk.at(Phase.DRAIN)


def test_a_test_of_arms_ends_when_every_arm_is_decided() -> None:
    walk = Walk(planned(**AB)).to_first()
    assert weights_of(walk.now) == pytest.approx({"control": 0.7, "new": 0.1, "newer": 0.2})
    assert walk.now.deadline_ns == STARTED_NS + 14 * 86400 * S_NS
    assert walk.look(verdict("inconclusive", new="pass", newer="inconclusive")) is None
    assert walk.look(verdict("error", new="pass", newer="pass")) is None
    walk.look(verdict("fail", new="pass", newer="fail"))
    assert weights_of(walk.now) == pytest.approx({"control": 0.9, "new": 0.1})
    walk.look(verdict("pass", new="pass", newer="fail"))
    assert (walk.now.phase, weights_of(walk.now)) == (Phase.DRAIN, {"control": 1.0})
    assert (walk.now.best, walk.now.outcomes) == ("new", {"new": "pass", "newer": "fail"})
    walk.apply()
    assert (walk.now.phase, walk.now.winner, walk.now.quarantined) == (Phase.SUCCEEDED, "", False)
    walk.check_replay()


def test_of_several_arms_that_pass_the_one_with_better_quality_did_best() -> None:
    for guards, best in (
        ([guard("quality", "new", low=0.01), guard("quality", "newer", low=0.03)], "newer"),
        ([guard("quality", "new", low=-0.01), guard("quality", "newer", low=-0.1)], ""),
        ([], ""),
    ):
        walk = Walk(planned(**AB)).to_first()
        walk.look(verdict("pass", *guards, new="pass", newer="pass"))
        assert (walk.now.phase, walk.now.best) == (Phase.DRAIN, best)


def test_a_test_of_arms_ends_at_its_time_with_all_requests_back() -> None:
    walk = Walk(planned(**AB)).to_first()
    walk.to_deadline()
    assert (walk.now.phase, weights_of(walk.now), walk.now.best) == (Phase.DRAIN, {"control": 1.0}, "")


def test_a_test_that_loses_all_its_arms_is_turned_back() -> None:
    walk = Walk(planned(**AB)).to_first()
    walk.fuse("new")
    assert weights_of(walk.now) == pytest.approx({"control": 0.8, "newer": 0.2})
    walk.fuse("newer")
    assert (walk.now.phase, weights_of(walk.now)) == (Phase.ROLLING_BACK, {"control": 1.0})
    assert (walk.now.quarantined, walk.now.dropped) == (True, ("new", "newer"))
    assert "no arm is left" in walk.now.reason
    walk.check_replay()


def test_a_person_promotes_an_arm() -> None:
    walk = Walk(planned(**AB)).to_first()
    walk.tell(Promote(arm="newer"))
    assert (walk.now.phase, weights_of(walk.now)) == (Phase.PROMOTE, {"newer": 1.0})
    walk.apply()
    assert walk.look(verdict("fail", new="fail", newer="pass")), "of an arm that takes no part any more"
    walk.apply()
    assert (walk.now.phase, walk.now.winner) == (Phase.SUCCEEDED, "newer")
    walk.check_replay()


def test_a_test_that_asks_leaves_its_end_to_a_person() -> None:
    walk = Walk(planned(**AB, on_inconclusive="approve")).to_first()
    both = verdict("pass", new="pass", newer="pass")
    walk.look(both)
    assert walk.at(Phase.STEP)
    assert "promote --arm NAME" in walk.now.approval
    assert walk.look(both) is None
    walk.tell(Approve())
    assert walk.at(Phase.DRAIN)


# --- turning back -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", [Phase.SHADOW, Phase.STEP, Phase.PROMOTE, Phase.GUARD])
@pytest.mark.parametrize("hold", [False, True])
def test_harm_turns_back_from_wherever_a_candidate_runs(phase: Phase, hold: bool) -> None:
    walk = Walk(planned(shadow={}, steps=[10, 100])).to_first()
    while not walk.at(phase):
        walk.look() or walk.apply()
    if hold:
        walk.tell(Pause())
    walk.look("fail", evidence_s=0, segment=0, degraded="a process is gone")
    assert (walk.now.phase, walk.now.quarantined) == (Phase.ROLLING_BACK, True)
    assert walk.now.reason == "the guards say fail"
    assert walk.look() is None
    assert walk.tell(Applied(walk.now.generation - 1)) is None
    walk.apply()
    assert (walk.now.phase, walk.now.reason) == (Phase.ROLLED_BACK, "the guards say fail")
    walk.check_replay()


def test_harm_turns_back_what_waits_for_a_person() -> None:
    walk = Walk(planned(on_inconclusive="approve")).to_step().to_deadline()
    assert walk.now.approval
    walk.look("fail")
    assert walk.at(Phase.ROLLING_BACK)


def test_a_fuse_turns_back_and_an_old_one_does_not() -> None:
    walk = Walk(planned()).to_step()
    walk.tell(Advance("I know it"))
    assert walk.fuse(generation=walk.now.acknowledged) is None
    assert walk.fuse("baseline") is None
    walk.fuse()
    assert (walk.now.phase, walk.now.quarantined) == (Phase.ROLLING_BACK, True)
    assert "20 requests in a row failed" in walk.now.reason
    assert walk.recorded[-1].payload["basis"] == {"fuse": "20 requests in a row failed"}


def test_the_exposure_budget_turns_back_by_what_the_old_version_would_not_have_cost() -> None:
    walk = Walk(planned(max_bad_requests=30)).to_step()
    assert walk.look(verdict("inconclusive", bad=900)) is None, "nobody knows what the old version would have cost"
    assert walk.look(verdict("inconclusive", bad=900, excess=29.0)) is None
    walk.look(verdict("inconclusive", bad=900, excess=30.0))
    assert (walk.now.phase, walk.now.quarantined) == (Phase.ROLLING_BACK, True)
    assert "the whole exposure budget (30)" in walk.now.reason


@pytest.mark.parametrize(("bad", "excess", "goes"), [(20, None, False), (15, None, True), (900, 15.0, True)])
def test_the_exposure_budget_bounds_what_the_next_step_may_cost(bad: int, excess: float | None, goes: bool) -> None:
    walk = Walk(planned(max_bad_requests=100, steps=[10, 50, 100])).to_step()
    said = verdict("pass", bad=bad, excess=excess)
    assert (walk.look(said, evidence_s=120) is not None) is goes, "50 % costs five times as much"
    assert walk.now.exposure_s == pytest.approx(12 if goes else 0)


def test_after_a_promotion_bad_requests_alone_prove_nothing() -> None:
    walk = Walk(planned(strategy="blue-green", max_bad_requests=30)).to_guard()
    assert walk.look(verdict("inconclusive", bad=1000), evidence_s=1) is None


def test_what_a_person_promoted_verdicts_do_not_take_back() -> None:
    walk = Walk(planned()).to_step()
    walk.tell(Promote(full=True, reason="the release cannot wait"))
    walk.apply()
    walk.look("fail")
    assert (walk.now.phase, weights_of(walk.now)) == (Phase.GUARD, {"candidate": 1.0})
    assert "a person promoted it: `abort` goes back, `approve` keeps it" in walk.now.approval
    assert walk.look("fail") is None
    assert walk.look() is None, "it waits for the person"
    walk.tell(Approve())
    assert walk.at(Phase.DRAIN)
    walk.tell(Abort())
    assert (walk.now.phase, walk.now.quarantined) == (Phase.ROLLING_BACK, False)
    walk.check_replay()


def test_what_a_person_promoted_a_fuse_takes_back() -> None:
    walk = Walk(planned()).to_step()
    walk.tell(Promote(full=True, reason="the release cannot wait"))
    walk.fuse()
    assert walk.at(Phase.ROLLING_BACK)


def test_an_undo_is_not_turned_back_by_verdicts() -> None:
    walk = Walk(planned({"by_hand": True}, strategy="blue-green")).to_guard()
    walk.look("fail")
    assert walk.at(Phase.GUARD)


def test_a_person_s_abort_holds_nothing_against_a_version() -> None:
    for walk in (Walk(planned()).to_admit(), Walk(planned()).to_stage(), Walk(planned()).to_step()):
        walk.tell(Abort("the wrong one"))
        assert (walk.now.phase, walk.now.quarantined) == (Phase.ROLLING_BACK, False)
        assert walk.now.reason == "aborted by bob: the wrong one"
        assert walk.tell(Abort()) is None, "it is being done"


# --- other exits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("blame", "phase"), [(True, Phase.ROLLED_BACK), (False, Phase.FAILED_INFRA)])
def test_the_candidate_is_blamed_only_for_what_is_its_fault(blame: bool, phase: Phase) -> None:
    walk = Walk(planned()).to_stage()
    walk.tell(Failed("no memory is left", blame))
    assert (walk.now.phase, walk.now.quarantined, weights_of(walk.now)) == (phase, blame, {"control": 1.0})
    walk.check_replay()


def test_an_exchange_that_failed_goes_back() -> None:
    walk = Walk(planned(strategy="blue-green")).to_first()
    walk.tell(Failed("the exchange failed"))
    assert (walk.now.phase, walk.now.quarantined) == (Phase.ROLLING_BACK, False)


def test_a_newer_rollout_replaces_what_is_not_about_to_end() -> None:
    walk = Walk(planned()).to_step()
    assert may_be_replaced(walk.now)
    walk.tell(Replaced("r-2"))
    assert (walk.now.phase, walk.now.quarantined) == (Phase.SUPERSEDED, False)
    assert walk.now.reason == "rollout r-2 takes its place"
    for ending in (Walk(planned()).to_guard(), Walk(planned()).to_drain()):
        assert not may_be_replaced(ending.now)
        assert ending.tell(Replaced("r-2")) is None


def test_what_waited_begins_with_what_is_served_then() -> None:
    walk = Walk(planned({"baseline_shared": True}))
    walk.tell(Begun(5, "fraud/5", "/cache/5"))
    now = walk.now
    assert (now.phase, now.baseline, now.baseline_key, now.baseline_path) == (Phase.ADMIT, 5, "fraud/5", "/cache/5")
    assert not now.baseline_shared
    walk.check_replay()
    same = Walk(planned())
    same.tell(Begun(7, "fraud/7", "/cache/7"))
    assert (same.now.phase, same.now.quarantined) == (Phase.ROLLED_BACK, False)
    assert "version 7 answers already" in same.now.reason
    other = Walk(planned())
    other.tell(Abort())
    assert (other.now.phase, other.now.quarantined) == (Phase.ROLLED_BACK, False)


# --- standing still ---------------------------------------------------------------------------------------


def test_nothing_goes_forward_in_a_pause_and_its_time_does_not_count() -> None:
    walk = Walk(planned()).to_step()
    deadline_ns = walk.now.deadline_ns
    walk.tell(Pause("lunch"))
    walk.wait(3 * HOUR_S)
    assert walk.look() is None
    assert walk.look("inconclusive") is None, "its time does not run out in a pause"
    walk.tell(Resume())
    assert walk.now.deadline_ns == deadline_ns + 3 * HOUR_S * S_NS
    assert walk.look() is not None
    walk.check_replay()


def test_what_was_said_in_a_pause_is_said_again_and_heard() -> None:
    walk = Walk(planned()).to_admit()
    walk.tell(Pause())
    assert walk.tell(Admitted()) is None
    walk.tell(Resume())
    assert walk.tell(Admitted()) is not None


def test_missing_evidence_freezes_until_it_is_back() -> None:
    walk = Walk(planned()).to_step()
    walk.look(degraded="process 4711 does not report")
    assert walk.now.degraded == "process 4711 does not report"
    assert walk.look(degraded="process 4711 does not report, nor does 4712") is None
    walk.look()
    assert (walk.now.degraded, walk.now.step) == ("", 0)
    walk.look()
    assert walk.now.step == 1
    assert walk.became()[-3:] == ["degraded", "evidence-back", "stepped"]


def test_a_split_that_is_not_as_it_should_be_freezes() -> None:
    walk = Walk(planned()).to_step()
    walk.look(verdict("pass", mismatch="7 % came instead of 1 %"))
    assert "the split is not to be believed: 7 % came" in walk.now.degraded


@pytest.mark.parametrize("policy", ["hold", "rollback", "approve"])
def test_the_deadline_never_leads_forward(policy: str) -> None:
    walk = Walk(planned(on_inconclusive=policy, max_duration_s=600)).to_step()
    walk.wait(599)
    assert walk.look("inconclusive") is None
    walk.wait(HOUR_S)
    walk.look("inconclusive")
    assert weights_of(walk.now).get("candidate", 0) <= 0.01
    assert walk.look("inconclusive") is None
    match policy:
        case "hold":
            assert walk.now.overdue
            assert walk.look() is None, "whose time is over is left to people"
            walk.tell(Extend(by_s=600))
            assert (walk.now.overdue, walk.now.deadline_ns) == (False, walk.at_ns + 600 * S_NS)
            assert walk.look() is not None
        case "rollback":
            assert (walk.now.phase, walk.now.quarantined) == (Phase.ROLLING_BACK, False)
        case "approve":
            assert "may it go on? not decided in 600 s" in walk.now.approval
            walk.tell(Approve())
            assert (walk.now.step, walk.now.approval) == (1, "")
            assert walk.now.deadline_ns == walk.at_ns + 600 * S_NS
    walk.check_replay()


def test_numbers_that_json_does_not_have_keep_nobody_from_turning_back() -> None:
    walk = Walk(planned()).to_step()
    endless = guard("errors", outcome="fail", low=math.inf)
    walk.look(verdict("fail", endless, excess=math.nan))
    assert walk.at(Phase.ROLLING_BACK)
    walk.check_replay()


def test_every_event_says_what_it_rests_on() -> None:
    walk = Walk(planned(steps=[10, 100])).to_guard()
    bases = [recorded.payload["basis"] for recorded in walk.recorded[1:]]
    assert bases[:3] == [{"person": CREATOR}] * 3
    assert bases[3] == {"evidence": "sha256:look"}

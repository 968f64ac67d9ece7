"""Each strategy's way from its beginning to its end, and each exit."""

from __future__ import annotations

import pytest
from tests.support.rollout_walks import CREATOR, SECOND_NS, STARTED_NS, Walk, planned, quality, verdict

from taxiway.rollout.commands import Abort, Advance, Approve, Extend, Pause, Promote, Resume, Undo
from taxiway.rollout.events import (
    AdmissionRefused,
    Admitted,
    BaselineLost,
    Dequeued,
    Drained,
    Staged,
    StagingFailed,
    Superseded,
    TimePassed,
    WeightsApplied,
)
from taxiway.rollout.machine import on_newer
from taxiway.rollout.nouns import Candidate, Phase
from taxiway.rollout.shares import weights

HOUR_S = 3600
AB = {
    "strategy": "ab",
    "arms": [{"name": "new", "to": "7", "percent": 10}, {"name": "newer", "to": "8", "percent": 20}],
}


def kinds(walk: Walk) -> list[str]:
    walk.check_replay()
    return [recorded.kind for recorded in walk.recorded]


# --- strategies -------------------------------------------------------------------------------------------


def test_a_canary_climbs_its_steps_and_succeeds() -> None:
    walk = Walk.of(planned(steps=[10, 50, 100]))
    assert walk.at(Phase.ADMIT)
    assert walk.to_stage().at(Phase.STAGE)
    walk.tell(Staged())
    assert (walk.now.phase, weights(walk.now)) == (Phase.STEP, {"control": 0.8, "candidate": 0.1, "baseline": 0.1})
    assert walk.now.deadline_ns == STARTED_NS + 7200 * SECOND_NS
    walk.look()
    assert weights(walk.now) == {"control": 0.0, "candidate": 0.5, "baseline": 0.5}
    walk.look()
    assert (walk.now.phase, weights(walk.now)) == (Phase.PROMOTE, {"control": 0.0, "candidate": 1.0})
    walk.apply()
    walk.look()
    assert walk.at(Phase.DRAIN)
    walk.tell(Drained())
    assert (walk.now.phase, weights(walk.now)) == (Phase.SUCCEEDED, {"candidate": 1.0})
    said = ["started", "admitted", "stepped", "stepped", "promoting", "guarding", "draining", "succeeded"]
    assert kinds(walk) == said
    assert not walk.now.quarantined


def test_a_canary_without_a_twin_is_compared_with_all_the_rest() -> None:
    assert weights(Walk.of(planned(twin=False)).to_step().now) == {"control": 0.99, "candidate": 0.01}


def test_a_step_lasts_as_long_as_there_was_evidence_whatever_the_clock_says() -> None:
    walk = Walk.of(planned(min_step_s=60)).to_step()
    walk.wait(HOUR_S)
    assert walk.look(evidence_s=59.9) is None
    assert walk.look(evidence_s=float("nan")) is None
    assert walk.look(evidence_s=1e6, segment=walk.now.segment - 1) is None, "evidence of other weights"
    assert walk.look(evidence_s=60) is not None
    assert walk.now.step == 1


@pytest.mark.parametrize("outcome", ["inconclusive", "error"])
def test_what_does_not_pass_stays(outcome: str) -> None:
    walk = Walk.of(planned()).to_step()
    assert walk.look(outcome) is None


def test_a_shadow_before_a_canary_needs_its_pairs() -> None:
    walk = Walk.of(planned(shadow={"percent": 20, "pairs": 300})).to_first()
    assert (walk.now.phase, weights(walk.now)) == (Phase.SHADOW, {"control": 1.0, "candidate": 0.0})
    assert walk.look(pairs=299) is None
    assert walk.look("inconclusive", pairs=300) is None
    walk.look(pairs=300)
    assert walk.at(Phase.STEP)
    assert kinds(walk)[-2:] == ["shadowing", "stepped"]


def test_a_shadow_alone_ends_without_traffic() -> None:
    walk = Walk.of(planned(strategy="shadow")).to_first()
    walk.look(pairs=500)
    assert (walk.now.phase, weights(walk.now)) == (Phase.DRAIN, {"control": 1.0})
    walk.tell(Drained())
    assert (walk.now.phase, weights(walk.now), walk.now.quarantined) == (Phase.SUCCEEDED, {"control": 1.0}, False)
    assert "nobody got its answers" in walk.now.reason
    assert "move-alias" not in [letter.kind for moved in walk.transitions for letter in moved.letters]
    walk.check_replay()


def test_blue_green_goes_at_once_and_back_at_once() -> None:
    walk = Walk.of(planned(strategy="blue-green")).to_first()
    assert (walk.now.phase, weights(walk.now)) == (Phase.PROMOTE, {"control": 0.0, "candidate": 1.0})
    walk.apply()
    assert walk.at(Phase.GUARD)
    walk.tell(Undo(actor="bob"))
    assert (walk.now.phase, weights(walk.now)) == (Phase.ROLLING_BACK, {"control": 1.0})
    walk.apply()
    assert walk.at(Phase.ROLLED_BACK)
    walk.check_replay()


def test_a_watch_ends_by_evidence_and_not_by_the_clock() -> None:
    walk = Walk.of(planned(strategy="blue-green", guard_for_s=600)).to_guard()
    walk.wait(HOUR_S)
    assert walk.tell(TimePassed()) is None
    assert walk.look("inconclusive", evidence_s=599) is None
    assert walk.look("error", evidence_s=601) is None
    walk.look("inconclusive", evidence_s=600)
    assert walk.at(Phase.DRAIN)


def test_an_ab_test_ends_when_every_arm_is_decided() -> None:
    walk = Walk.of(planned(**AB)).to_first()
    assert weights(walk.now) == pytest.approx({"control": 0.7, "new": 0.1, "newer": 0.2})
    assert walk.now.deadline_ns == STARTED_NS + 14 * 86400 * SECOND_NS
    assert walk.look(verdict("inconclusive", new="pass", newer="inconclusive")) is None
    walk.look(verdict("fail", new="pass", newer="fail"))
    assert weights(walk.now) == pytest.approx({"control": 0.9, "new": 0.1})
    walk.look(verdict("pass", new="pass", newer="fail"))
    assert (walk.now.phase, weights(walk.now)) == (Phase.DRAIN, {"control": 1.0})
    assert (walk.now.winner, walk.now.outcomes) == ("new", {"new": "pass", "newer": "fail"})
    walk.tell(Drained())
    assert (walk.now.phase, walk.now.quarantined) == (Phase.SUCCEEDED, False)
    walk.check_replay()


def test_of_several_arms_that_pass_the_one_with_better_quality_wins() -> None:
    both = verdict("pass", new="pass", newer="pass")
    scored = type(both)(both.outcome, both.arms, (quality("new", 0.01), quality("newer", 0.03)), "", 0, "both pass")
    level = type(both)(both.outcome, both.arms, (quality("new", -0.01), quality("newer", -0.1)), "", 0, "both pass")
    for said, winner in ((scored, "newer"), (level, ""), (both, "")):
        walk = Walk.of(planned(**AB)).to_first()
        walk.look(said)
        assert (walk.now.phase, walk.now.winner) == (Phase.DRAIN, winner)


def test_an_ab_test_ends_at_its_time_with_all_requests_back() -> None:
    walk = Walk.of(planned(**AB)).to_first()
    walk.deadline()
    assert (walk.now.phase, weights(walk.now), walk.now.winner) == (Phase.DRAIN, {"control": 1.0}, "")


def test_an_ab_test_that_loses_all_arms_is_over() -> None:
    walk = Walk.of(planned(**AB)).to_first()
    walk.fuse("new")
    assert weights(walk.now) == pytest.approx({"control": 0.8, "newer": 0.2})
    walk.fuse("newer")
    assert (walk.now.phase, weights(walk.now)) == (Phase.DRAIN, {"control": 1.0})
    assert "no arm is left" in walk.now.reason


def test_a_person_promotes_an_arm() -> None:
    walk = Walk.of(planned(**AB)).to_first()
    walk.tell(Promote(actor="bob", arm="newer"))
    assert (walk.now.phase, weights(walk.now)) == (Phase.PROMOTE, {"control": 0.0, "newer": 1.0})
    walk.apply()
    walk.look()
    walk.tell(Drained())
    assert (walk.now.phase, weights(walk.now)) == (Phase.SUCCEEDED, {"newer": 1.0})
    [moved] = [letter for letter in walk.transitions[-1].letters if letter.kind == "move-alias"]
    assert (moved.args["alias"], moved.args["to"], moved.args["from"]) == ("stable", 8, 3)
    walk.check_replay()


def test_an_ab_test_that_asks_leaves_the_end_to_a_person() -> None:
    walk = Walk.of(planned(**AB, on_inconclusive="approve")).to_first()
    walk.look(verdict("pass", new="pass", newer="pass"))
    assert walk.at(Phase.STEP)
    assert "promote --arm NAME" in walk.now.approval
    assert walk.look(verdict("pass", new="pass", newer="pass")) is None
    walk.tell(Approve(actor="bob"))
    assert walk.at(Phase.DRAIN)


# --- turning back -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", [Phase.SHADOW, Phase.STEP, Phase.PROMOTE, Phase.GUARD])
@pytest.mark.parametrize("hold", [False, True])
def test_harm_turns_back_from_wherever_the_candidate_runs(phase: Phase, hold: bool) -> None:
    walk = Walk.of(planned(shadow={}, steps=[10, 100])).to_first()
    while not walk.at(phase):
        walk.look(pairs=500) or walk.apply()
    if hold:
        walk.tell(Pause(actor="bob"))
    walk.look("fail", evidence_s=0, segment=0, degraded="a process is gone")
    assert (walk.now.phase, walk.now.quarantined) == (Phase.ROLLING_BACK, True)
    assert walk.now.reason == "the guards say fail"
    assert walk.look() is None
    assert walk.tell(WeightsApplied(walk.now.generation - 1)) is None
    walk.apply()
    assert (walk.now.phase, walk.now.reason) == (Phase.ROLLED_BACK, "the guards say fail")
    walk.check_replay()


def test_a_fuse_turns_back_and_an_old_one_does_not() -> None:
    walk = Walk.of(planned()).to_step()
    walk.tell(Advance(actor="bob", reason="I know it"))
    assert walk.fuse(generation=walk.now.acknowledged) is None
    assert walk.fuse("baseline") is None
    walk.fuse()
    assert (walk.now.phase, walk.now.quarantined) == (Phase.ROLLING_BACK, True)
    assert "20 requests in a row failed" in walk.now.reason
    assert walk.recorded[-1].payload["basis"]["fuse"] == "20 requests in a row failed"


def test_the_exposure_budget_turns_back() -> None:
    walk = Walk.of(planned(max_bad_requests=30)).to_step()
    assert walk.look(verdict("inconclusive", bad=29)) is None
    assert walk.look(verdict("inconclusive", bad=900, excess=29.0)) is None, "the baseline had as many"
    walk.look(verdict("inconclusive", bad=30))
    assert walk.at(Phase.ROLLING_BACK)
    assert "whole exposure budget (30)" in walk.now.reason


def test_the_exposure_budget_bounds_what_the_next_step_may_cost() -> None:
    walk = Walk.of(planned(max_bad_requests=100, steps=[10, 50, 100])).to_step()
    assert walk.look(verdict("pass", bad=20), evidence_s=120) is None, "50 % would cost 100 more"
    assert walk.look(verdict("pass", bad=15), evidence_s=120) is not None
    assert walk.now.exposure_s == pytest.approx(12)


def test_after_a_promotion_bad_requests_alone_prove_nothing() -> None:
    walk = Walk.of(planned(strategy="blue-green", max_bad_requests=30)).to_guard()
    assert walk.look(verdict("inconclusive", bad=1000), evidence_s=1) is None


def test_what_a_person_promoted_only_a_person_takes_back() -> None:
    walk = Walk.of(planned()).to_step()
    walk.tell(Promote(actor="bob", full=True, reason="the release cannot wait"))
    walk.apply()
    walk.look("fail")
    assert (walk.now.phase, weights(walk.now)["candidate"]) == (Phase.GUARD, 1.0)
    assert "bob promoted it: `abort` goes back, `approve` keeps it" in walk.now.approval
    assert walk.look("fail") is None
    assert walk.look() is None, "it waits for the person"
    walk.tell(Approve(actor="bob"))
    assert walk.at(Phase.DRAIN)
    walk.tell(Abort(actor="eve"))
    assert walk.at(Phase.ROLLING_BACK)
    walk.check_replay()


def test_an_undo_is_not_turned_back_by_automation() -> None:
    walk = Walk.of(planned(strategy="blue-green"), by_hand=True).to_guard()
    assert walk.now.promoted_by == CREATOR
    walk.look("fail")
    assert walk.at(Phase.GUARD)


def test_nothing_is_held_against_what_never_ran() -> None:
    for walk in (Walk.of(planned()), Walk.of(planned()).to_stage()):
        walk.tell(Abort(actor="bob", reason="the wrong one"))
        assert (walk.now.phase, walk.now.quarantined) == (Phase.ROLLING_BACK, False)
        assert walk.now.reason == "aborted by bob: the wrong one"
        assert walk.tell(Abort(actor="eve")) is None
        assert walk.tell(Undo(actor="eve")) is None


# --- other exits ------------------------------------------------------------------------------------------


def test_what_may_not_be_loaded_ends_before_it_began() -> None:
    walk = Walk.of(planned())
    walk.tell(AdmissionRefused("version 7 takes other inputs"))
    assert (walk.now.phase, walk.now.quarantined) == (Phase.ROLLED_BACK, False)
    assert kinds(walk) == ["started", "admission-refused"]


@pytest.mark.parametrize(("blame", "phase"), [(True, Phase.ROLLED_BACK), (False, Phase.FAILED_INFRA)])
def test_the_candidate_is_blamed_only_for_what_is_its_fault(blame: bool, phase: Phase) -> None:
    walk = Walk.of(planned()).to_stage()
    walk.tell(StagingFailed("no memory is left", blame))
    assert (walk.now.phase, walk.now.quarantined, weights(walk.now)) == (phase, blame, {"control": 1.0})


def test_a_newer_rollout_replaces_what_is_not_about_to_end() -> None:
    walk = Walk.of(planned(on_superseded="replace")).to_step()
    assert on_newer(walk.now) == "replace"
    walk.tell(Superseded("r-2", "eve"))
    assert (walk.now.phase, walk.now.quarantined) == (Phase.SUPERSEDED, False)
    assert walk.now.reason == "eve began r-2, which replaces it"
    assert on_newer(Walk.of(planned(on_superseded="replace")).to_guard().now) == "queue"
    assert on_newer(Walk.of(planned()).to_step().now) == "reject"


def test_what_waited_begins_with_what_is_served_then() -> None:
    walk = Walk.of(planned(), queued=True)
    assert walk.at(Phase.QUEUED)
    walk.tell(Dequeued("sha256:new", 5, "fraud/5", (Candidate("candidate", 7),), "/cache/5"))
    assert (walk.now.phase, walk.now.baseline, walk.now.baseline_key) == (Phase.ADMIT, 5, "fraud/5")
    other = Walk.of(planned(), queued=True)
    other.tell(Abort(actor="bob"))
    assert (other.now.phase, other.now.quarantined) == (Phase.ROLLED_BACK, False)
    walk.check_replay()


# --- standing still ---------------------------------------------------------------------------------------


def test_nothing_goes_forward_in_a_pause_and_its_time_does_not_count() -> None:
    walk = Walk.of(planned()).to_step()
    deadline_ns = walk.now.deadline_ns
    walk.tell(Pause(actor="bob", reason="lunch"))
    walk.wait(3 * HOUR_S)
    assert walk.look() is None
    assert walk.tell(TimePassed()) is None
    walk.tell(Resume(actor="bob"))
    assert walk.now.deadline_ns == deadline_ns + 3 * HOUR_S * SECOND_NS
    assert walk.look() is not None
    walk.check_replay()


def test_what_was_said_in_a_pause_is_said_again_and_heard() -> None:
    walk = Walk.of(planned())
    walk.tell(Pause(actor="bob"))
    assert walk.tell(Admitted()) is None
    walk.tell(Resume(actor="bob"))
    assert walk.tell(Admitted()) is not None


def test_missing_evidence_freezes_until_it_is_back() -> None:
    walk = Walk.of(planned()).to_step()
    walk.look(degraded="process 4711 does not report")
    assert walk.now.degraded == "process 4711 does not report"
    assert walk.look(degraded="process 4711 does not report, nor does 4712") is None
    walk.look()
    assert (walk.now.degraded, walk.now.step) == ("", 0)
    walk.look()
    assert walk.now.step == 1
    assert kinds(walk)[-3:] == ["degraded", "evidence-back", "stepped"]


def test_a_split_that_is_not_as_it_should_be_freezes() -> None:
    walk = Walk.of(planned()).to_step()
    walk.look(verdict("pass", mismatch="7 % came instead of 1 %"))
    assert "the split is not to be believed: 7 % came" in walk.now.degraded


def test_a_lost_baseline_freezes() -> None:
    walk = Walk.of(planned()).to_step()
    walk.tell(BaselineLost("the twin is not ready"))
    assert walk.now.degraded == "the twin is not ready"
    assert walk.tell(BaselineLost("the twin is not ready")) is None


@pytest.mark.parametrize("policy", ["hold", "rollback", "approve"])
def test_the_deadline_never_leads_forward(policy: str) -> None:
    walk = Walk.of(planned(on_inconclusive=policy, max_duration_s=600)).to_step()
    walk.wait(599)
    assert walk.tell(TimePassed()) is None
    walk.wait(HOUR_S)
    walk.tell(TimePassed("sha256:last"))
    assert weights(walk.now).get("candidate", 0) <= 0.01
    assert walk.tell(TimePassed()) is None
    match policy:
        case "hold":
            assert walk.now.overdue
            assert walk.look() is None, "whose time is over is left to people"
            walk.tell(Extend(actor="bob", by_s=600))
            assert (walk.now.overdue, walk.now.deadline_ns) == (False, walk.at_ns + 600 * SECOND_NS)
            assert walk.look() is not None
        case "rollback":
            assert walk.at(Phase.ROLLING_BACK)
        case "approve":
            assert "`approve` goes one step on" in walk.now.approval
            walk.tell(Approve(actor="bob"))
            assert (walk.now.step, walk.now.approval) == (1, "")
            assert walk.now.deadline_ns == walk.at_ns + 600 * SECOND_NS
    walk.check_replay()

"""What becomes of a rollout by what happens to it. None: nothing.

Automation takes back what it gave, from any phase in which the candidate runs anything. What a person promoted it does
not take back: then it asks, loudly (delivery: never past a human promotion).
"""

from __future__ import annotations

from taxiway.rollout.events import (
    AdmissionRefused,
    Admitted,
    BaselineLost,
    Dequeued,
    Drained,
    EvidenceLooked,
    FuseBlew,
    Staged,
    StagingFailed,
    Superseded,
    TimePassed,
    WeightsApplied,
)
from taxiway.rollout.moving import (
    Basis,
    Move,
    asking,
    dropping,
    finishing,
    may_go_on,
    onward,
    rolling_back,
)
from taxiway.rollout.nouns import Outcome, Phase, Rollout, Verdict
from taxiway.rollout.pacing import frozen, spent, stands_still, waits_for
from taxiway.rollout.shares import live_candidates, plan_of


def dequeued(rollout: Rollout, event: Dequeued, _now_ns: int) -> Move | None:
    """Its turn has come."""
    changes = {
        "phase": Phase.ADMIT,
        "plan_digest": event.plan_digest,
        "baseline": event.baseline,
        "baseline_key": event.baseline_key,
        "baseline_path": event.baseline_path,
        "baseline_shared": event.baseline_shared,
        "candidates": event.candidates,
    }
    return Move("dequeued", "the rollout that it waited for is over", _begun(rollout), changes)


def admitted(rollout: Rollout, _event: Admitted, _now_ns: int) -> Move | None:
    """Its versions are loaded next."""
    if not may_go_on(rollout):
        return None
    return Move("admitted", "its versions may be loaded", _begun(rollout), {"phase": Phase.STAGE})


def refused(rollout: Rollout, event: AdmissionRefused, _now_ns: int) -> Move | None:
    """It ends before anything was loaded."""
    changes = {"phase": Phase.ROLLED_BACK, "paused": None}
    return Move("admission-refused", event.reason, _begun(rollout), changes)


def staged(rollout: Rollout, _event: Staged, now_ns: int) -> Move | None:
    """It runs its first requests, or copies."""
    if not may_go_on(rollout):
        return None
    return onward(rollout, _begun(rollout), "its versions are loaded and warm", now_ns)


def staging_failed(rollout: Rollout, event: StagingFailed, _now_ns: int) -> Move | None:
    """It ends; the version that served before never stopped."""
    phase = Phase.ROLLED_BACK if event.blame else Phase.FAILED_INFRA
    changes = {"phase": phase, "quarantined": rollout.quarantined or event.blame}
    ended = {**changes, "paused": None, "degraded": "", "approval": "", "promoted": "", "promoted_by": ""}
    return Move("staging-failed", event.reason, _begun(rollout), ended)


def applied(rollout: Rollout, event: WeightsApplied, now_ns: int) -> Move | None:
    """The data plane does as it should: a rollback is over, the watch after a promotion begins."""
    if event.generation < rollout.generation:
        return None
    if rollout.phase is Phase.ROLLING_BACK:
        changes = {"phase": Phase.ROLLED_BACK}
        return Move("rolled-back", rollout.reason, _begun(rollout), changes)
    if not may_go_on(rollout):
        return None
    return onward(rollout, _begun(rollout), f"version {_version(rollout)} answers everything", now_ns)


def drained(rollout: Rollout, _event: Drained, now_ns: int) -> Move | None:
    """All is over, well."""
    return onward(rollout, _begun(rollout), rollout.reason, now_ns) if may_go_on(rollout) else None


def looked(rollout: Rollout, look: EvidenceLooked, now_ns: int) -> Move | None:
    """Harm turns back first; then evidence that is missing freezes; then what is proved lets go on."""
    basis = Basis(evidence=look.digest)
    harm = _harm(rollout, look, basis)
    if harm is not None:
        return harm
    problem = frozen(look)
    if bool(problem) != bool(rollout.degraded):
        if problem:
            return Move("degraded", f"nothing moves forward: {problem}", basis, {"degraded": problem}, notify=True)
        return Move("evidence-back", "there is evidence again", basis, {"degraded": ""})
    if rollout.phase is Phase.PROMOTE or waits_for(rollout, look):
        return None
    if rollout.phase is Phase.STEP and plan_of(rollout).strategy == "ab":
        return _decided(rollout, look.verdict, basis)
    return onward(rollout, basis, look.verdict.sentence, now_ns)


def fuse_blew(rollout: Rollout, event: FuseBlew, _now_ns: int) -> Move | None:
    """The arm gets nothing already; so it stays."""
    if event.generation <= rollout.acknowledged or event.arm not in _exposed_arms(rollout):
        return None
    basis = Basis(evidence=event.digest, fuse=event.reason)
    if rollout.phase is Phase.STEP and plan_of(rollout).strategy == "ab":
        return dropping(rollout, {event.arm: f"its fuse blew: {event.reason}"}, basis)
    return _back(rollout, f"the data plane's fuse blew: {event.reason}", basis)


def baseline_lost(rollout: Rollout, event: BaselineLost, _now_ns: int) -> Move | None:
    """Nothing is proved without it."""
    if rollout.degraded:
        return None
    changes = {"degraded": event.reason}
    return Move("degraded", f"nothing moves forward: {event.reason}", _begun(rollout), changes, notify=True)


def time_passed(rollout: Rollout, event: TimePassed, now_ns: int) -> Move | None:
    """At its deadline a rollout does what its plan says, which never is to go on."""
    if not rollout.deadline_ns or now_ns < rollout.deadline_ns or stands_still(rollout):
        return None
    plan = plan_of(rollout)
    basis = Basis(evidence=event.digest, person=rollout.created_by)
    why = f"its {plan.max_duration_s:.0f} s are over, and the guards have not decided"
    if plan.on_inconclusive == "approve":
        return asking(_question(rollout, why), basis)
    if plan.strategy == "ab":
        return finishing(basis, f"{why}: all requests go back to version {rollout.baseline}")
    if plan.on_inconclusive == "rollback":
        return rolling_back(rollout, basis, why)
    return Move("overdue", f"{why}: it stays as it is", basis, {"overdue": True}, notify=True)


def superseded(_rollout: Rollout, event: Superseded, _now_ns: int) -> Move | None:
    """A newer one takes over, and says what is served from now on."""
    changes = {"phase": Phase.SUPERSEDED, "paused": None, "approval": "", "overdue": False, "degraded": ""}
    return Move("superseded", f"{event.actor} began {event.by}, which replaces it", Basis(person=event.actor), changes)


# --- harm -------------------------------------------------------------------------------------------------


def _harm(rollout: Rollout, look: EvidenceLooked, basis: Basis) -> Move | None:
    plan, verdict = plan_of(rollout), look.verdict
    if rollout.phase is Phase.STEP and plan.strategy == "ab":
        return _harmful_arms(rollout, verdict, basis)
    outcome = verdict.arms.get(rollout.promoted, verdict.outcome) if plan.strategy == "ab" else verdict.outcome
    if outcome is Outcome.FAIL:
        return _back(rollout, verdict.sentence, basis)
    if rollout.phase is Phase.STEP and spent(verdict) >= plan.max_bad_requests:
        why = f"{spent(verdict):.0f} bad requests, which is the whole exposure budget ({plan.max_bad_requests})"
        return _back(rollout, why, basis)
    return None


def _harmful_arms(rollout: Rollout, verdict: Verdict, basis: Basis) -> Move | None:
    failed = [one.arm for one in live_candidates(rollout) if verdict.arms.get(one.arm) is Outcome.FAIL]
    if failed:
        return dropping(rollout, dict.fromkeys(failed, verdict.sentence), basis)
    budget = plan_of(rollout).max_bad_requests
    if verdict.excess is not None and verdict.excess >= budget:
        return finishing(basis, f"{verdict.excess:.0f} bad requests, which is the whole exposure budget ({budget})")
    return None


def _exposed_arms(rollout: Rollout) -> set[str]:
    """Those that callers are answered by, besides the old version."""
    if rollout.phase is Phase.STEP:
        return {one.arm for one in live_candidates(rollout)}
    return {rollout.promoted} - {""}


def _back(rollout: Rollout, why: str, basis: Basis) -> Move | None:
    """Back; or, of what a person promoted, the question whether to go back."""
    if not rollout.promoted_by:
        return rolling_back(rollout, basis, why)
    if rollout.approval:
        return None
    return asking(f"{why}; {rollout.promoted_by} promoted it: `abort` goes back, `approve` keeps it", basis)


# --- A/B/n ------------------------------------------------------------------------------------------------


def _decided(rollout: Rollout, verdict: Verdict, basis: Basis) -> Move:
    """Every arm is: the outcome is recorded, and the old version gets everything, unless somebody promotes an arm."""
    live = [one.arm for one in live_candidates(rollout)]
    outcomes = {**rollout.outcomes, **{arm: verdict.arms[arm].value for arm in live}}
    winner = _winner(live, verdict)
    told = f"arm {winner} won" if winner else "no arm won"
    if plan_of(rollout).on_inconclusive == "approve":
        question = f"{told}: `promote --arm NAME` has it answer everything, `approve` ends the test"
        return Move(
            "approval-asked", question, basis, {"approval": question, "winner": winner, "outcomes": outcomes}, True
        )
    why = f"decided: {told}; all requests go back to version {rollout.baseline}"
    return finishing(basis, why, outcomes=outcomes, winner=winner)


def _winner(live: list[str], verdict: Verdict) -> str:
    """Where quality is guarded, the arm that is certainly better, and most so; else the only one that passed."""
    scores = [guard for guard in verdict.guards if guard.metric == "quality" and guard.arm in live]
    if scores:
        better = [guard for guard in scores if guard.low is not None and guard.low > 0]
        return max(better, key=lambda guard: (guard.low or 0.0, guard.arm)).arm if better else ""
    return live[0] if len(live) == 1 else ""


def _question(rollout: Rollout, why: str) -> str:
    if plan_of(rollout).strategy == "ab":
        return f"{why}: `promote --arm NAME` has an arm answer everything, `approve` ends the test"
    return f"{why}: `approve` goes one step on, `extend` gives more time, `abort` goes back"


def _begun(rollout: Rollout) -> Basis:
    return Basis(person=rollout.created_by)


def _version(rollout: Rollout) -> int:
    return next((one.version for one in rollout.candidates if one.arm == rollout.promoted), rollout.baseline)

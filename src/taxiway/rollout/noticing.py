"""What becomes of a rollout by what happens to it. None: nothing.

Automation takes back what it gave, from any phase in which a candidate runs anything. What a person promoted its
verdicts do not take back: then it asks, loudly. Only the data plane's fuse does, which has acted already: an arm that
fails everything is no matter of opinion.
"""

from __future__ import annotations

from typing import Final

from taxiway.rollout.events import Admitted, Applied, Begun, Failed, FuseBlew, Looked, Replaced, Staged
from taxiway.rollout.moving import (
    Basis,
    Move,
    asking,
    dropping,
    finishing,
    may_go_on,
    moved,
    onward,
    rolling_back,
)
from taxiway.rollout.nouns import Outcome, Phase, Rollout, Verdict
from taxiway.rollout.pacing import frozen, spent, stands_still, waits_for
from taxiway.rollout.shares import is_test, live_candidates, winner_of

BEFORE_TRAFFIC: Final = frozenset({Phase.QUEUED, Phase.ADMIT, Phase.STAGE})
"""Phases in which nothing of a candidate has run yet."""


def begun(rollout: Rollout, event: Begun, _now_ns: int) -> Move | None:
    """Its turn has come; what it waited for may have changed what it starts from."""
    basis = _creator(rollout)
    baseline = event.baseline or rollout.baseline
    if any(one.version == baseline for one in rollout.candidates):
        why = f"version {baseline} answers already: the rollout that it waited for brought it"
        return moved("refused", Phase.ROLLED_BACK, why, basis)
    changes = {}
    if event.baseline:
        same = {"baseline_shared": rollout.baseline_shared and event.baseline_key == rollout.baseline_key}
        path = {"baseline_path": event.baseline_path}
        changes = {"baseline": baseline, "baseline_key": event.baseline_key, **path, **same}
    return moved("begun", Phase.ADMIT, "its turn has come", basis, **changes)


def admitted(rollout: Rollout, _event: Admitted, _now_ns: int) -> Move | None:
    """Its versions are loaded next."""
    if not may_go_on(rollout):
        return None
    return moved(
        "admitted", Phase.STAGE, "the candidate exists and may be tried; it is being loaded", _creator(rollout)
    )


def staged(rollout: Rollout, _event: Staged, now_ns: int) -> Move | None:
    """It runs its first requests, or copies."""
    return onward(rollout, _creator(rollout), "loaded and warm", now_ns) if may_go_on(rollout) else None


def failed(rollout: Rollout, event: Failed, _now_ns: int) -> Move | None:
    """It ends; what serves never stopped, or is gone back to."""
    basis = _creator(rollout)
    if rollout.phase not in BEFORE_TRAFFIC:
        return rolling_back(rollout, basis, event.reason, harmful=event.blame)
    changes = {"paused": None, "quarantined": rollout.quarantined or event.blame}
    phase = Phase.ROLLED_BACK if event.blame else Phase.FAILED_INFRA
    return moved("refused" if event.blame else "failed", phase, event.reason, basis, **changes)


def replaced(_rollout: Rollout, event: Replaced, _now_ns: int) -> Move | None:
    """A newer one takes over, and says what is served from now on."""
    changes = {"paused": None, "approval": "", "overdue": False, "degraded": ""}
    why = f"rollout {event.by} takes its place"
    return moved("superseded", Phase.SUPERSEDED, why, Basis(person=event.by), **changes)


def applied(rollout: Rollout, event: Applied, now_ns: int) -> Move | None:
    """The data plane does as it should: a rollback is over, the watch after a promotion begins, or all is over."""
    if event.generation < rollout.generation:
        return None
    basis = _creator(rollout)
    if rollout.phase is Phase.ROLLING_BACK:
        return moved("rolled-back", Phase.ROLLED_BACK, rollout.reason, basis)
    if not may_go_on(rollout):
        return None
    if rollout.phase is Phase.PROMOTE:
        why = f"everything goes to {rollout.winner}; the old version stays loaded"
        return onward(rollout, basis, why, now_ns)
    return onward(rollout, basis, rollout.reason, now_ns)


def looked(rollout: Rollout, look: Looked, now_ns: int) -> Move | None:
    """Harm turns back first; then evidence that is missing freezes; what is proved lets go on; then time is up."""
    basis = Basis(evidence=look.digest)
    harm = _harm(rollout, look, basis)
    if harm is not None:
        return harm
    problem = frozen(look)
    if bool(problem) != bool(rollout.degraded):
        if problem:
            return Move("degraded", f"nothing moves forward: {problem}", basis, {"degraded": problem})
        return Move("evidence-back", "there is evidence again", basis, {"degraded": ""})
    if rollout.phase is Phase.PROMOTE:
        return None
    if waits_for(rollout, look):
        return _at_deadline(rollout, look.verdict, basis, now_ns)
    if rollout.phase is Phase.STEP and is_test(rollout):
        return _decided(rollout, look.verdict, basis)
    why = look.verdict.sentence
    if rollout.phase is Phase.GUARD:
        why = f"{rollout.winner} answered for {look.evidence_s:.0f} s of evidence, and nothing spoke against it"
    return onward(rollout, basis, why, now_ns)


def fuse_blew(rollout: Rollout, event: FuseBlew, _now_ns: int) -> Move | None:
    """The arm gets nothing already; so it stays."""
    exposed = {one.arm for one in live_candidates(rollout)}
    winner = winner_of(rollout)
    if winner is not None:
        exposed = {winner.arm}
    if event.generation <= rollout.acknowledged or event.arm not in exposed:
        return None
    why, basis = f"the data plane turned {event.arm} off: {event.reason}", Basis(fuse=event.reason)
    if rollout.phase is Phase.STEP and is_test(rollout):
        return dropping(rollout, {event.arm: event.reason}, basis)
    if rollout.phase is Phase.DRAIN and winner is None:
        return None
    return rolling_back(rollout, basis, why, harmful=True)


# --- harm -------------------------------------------------------------------------------------------------


def _harm(rollout: Rollout, look: Looked, basis: Basis) -> Move | None:
    verdict, budget = look.verdict, rollout.plan["max_bad_requests"]
    if rollout.phase is Phase.STEP and is_test(rollout):
        failed = [one.arm for one in live_candidates(rollout) if verdict.arms.get(one.arm) is Outcome.FAIL]
        return dropping(rollout, dict.fromkeys(failed, verdict.sentence), basis) if failed else None
    outcome = verdict.arms.get(rollout.winner, verdict.outcome) if is_test(rollout) else verdict.outcome
    if outcome is Outcome.FAIL:
        return _back(rollout, verdict.sentence, basis)
    if rollout.phase is Phase.STEP and verdict.excess is not None and spent(verdict) >= budget:
        why = f"{spent(verdict):.0f} bad requests more than the old version's, the whole exposure budget ({budget})"
        return _back(rollout, why, basis)
    return None


def _back(rollout: Rollout, why: str, basis: Basis) -> Move | None:
    """Back; or, of what a person promoted, the question whether to go back."""
    if not (rollout.by_hand and rollout.winner):
        return rolling_back(rollout, basis, why, harmful=True)
    if rollout.approval:
        return None
    return asking(f"{why}; a person promoted it: `abort` goes back, `approve` keeps it", basis)


# --- time -------------------------------------------------------------------------------------------------


def _at_deadline(rollout: Rollout, verdict: Verdict, basis: Basis, now_ns: int) -> Move | None:
    """At its deadline a rollout does what its plan says, which never is to go on."""
    if rollout.phase not in (Phase.SHADOW, Phase.STEP) or not rollout.deadline_ns or now_ns < rollout.deadline_ns:
        return None
    if stands_still(rollout):
        return None
    over = f"not decided in {rollout.plan['max_duration_s']:g} s: {verdict.sentence}"
    policy, test = rollout.plan["on_inconclusive"], is_test(rollout) and rollout.phase is Phase.STEP
    if policy == "approve":
        return asking(f"may the test end? {over}" if test else f"may it go on? {over}", basis)
    if test:
        outcomes = {**rollout.outcomes, **{arm: outcome.value for arm, outcome in verdict.arms.items()}}
        return finishing(basis, f"the test is over: {over}", outcomes=outcomes)
    if policy == "rollback":
        return rolling_back(rollout, basis, over, harmful=False)
    return Move("overdue", f"{over}; it stays as it is", basis, {"overdue": True})


# --- A/B/n ------------------------------------------------------------------------------------------------


def _decided(rollout: Rollout, verdict: Verdict, basis: Basis) -> Move:
    """Every arm is: the outcome is recorded, and the old version gets everything, unless somebody promotes an arm."""
    live = [one.arm for one in live_candidates(rollout)]
    outcomes = {**rollout.outcomes, **{arm: verdict.arms[arm].value for arm in live}}
    best = _best(live, verdict)
    told = f"{best} did best" if best else "no arm did better"
    if rollout.plan["on_inconclusive"] == "approve":
        question = f"{told}: may the test end? `promote --arm NAME` has an arm answer everything"
        changes = {"approval": question, "best": best, "outcomes": outcomes}
        return Move("approval-asked", question, basis, changes)
    return finishing(basis, f"the test is decided: {told}", outcomes=outcomes, best=best)


def _best(live: list[str], verdict: Verdict) -> str:
    """Where quality is guarded, the arm that is certainly better, and most so; else the only one that passed."""
    scores = [guard for guard in verdict.guards if guard.metric == "quality" and guard.arm in live]
    if scores:
        better = [guard for guard in scores if guard.low is not None and guard.low > 0]
        return max(better, key=lambda guard: (guard.low or 0.0, guard.arm)).arm if better else ""
    return live[0] if len(live) == 1 else ""


def _creator(rollout: Rollout) -> Basis:
    return Basis(person=rollout.created_by)

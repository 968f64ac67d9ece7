"""What a rollout still waits for before automation lets it go on. Empty: nothing. Only this may raise a weight.

Evidence time is what counts, never the clock: who slept for an hour has gathered nothing.
"""

from __future__ import annotations

import math

from taxiway.config.rollout_plan import RolloutPlan
from taxiway.rollout.events import EvidenceLooked
from taxiway.rollout.nouns import Outcome, Phase, Rollout, Verdict
from taxiway.rollout.shares import candidate_share, live_candidates, plan_of


def waits_for(rollout: Rollout, look: EvidenceLooked) -> str:
    """Why this look does not let the rollout go on, as a sentence for people."""
    standing = stands_still(rollout) or _missing(look)
    if standing:
        return standing
    if look.segment != rollout.segment:
        return f"for evidence of the present weights (segment {rollout.segment}, not {look.segment})"
    plan = plan_of(rollout)
    needed = plan.guard_for_s if rollout.phase is Phase.GUARD else plan.min_step_s
    if not look.evidence_s >= needed:  # which NaN is not
        return f"for {needed - look.evidence_s:.0f} s more of evidence, of {needed:.0f} s"
    match rollout.phase:
        case Phase.GUARD:
            return "" if look.verdict.outcome is not Outcome.ERROR else look.verdict.sentence
        case Phase.SHADOW:
            return _pairs(plan, look) or _guards(look.verdict)
        case Phase.STEP if plan.strategy == "ab":
            return _undecided(rollout, look.verdict)
        case Phase.STEP:
            return _guards(look.verdict) or _budget(rollout, plan, look)
    return f"for what phase {rollout.phase.value} does"


def stands_still(rollout: Rollout) -> str:
    """Why nothing moves it forward but a person."""
    if rollout.paused is not None:
        why = f": {rollout.paused.reason}" if rollout.paused.reason else ""
        return f"for `resume`: {rollout.paused.by} paused it{why}"
    if rollout.approval:
        return f"for a person: {rollout.approval}"
    if rollout.overdue:
        return "for a person: its time is over, and the guards have not decided"
    return ""


def frozen(look: EvidenceLooked) -> str:
    """Why this look's evidence is not to be believed, or is not there; empty: it is well."""
    if look.degraded:
        return look.degraded
    return f"the split is not to be believed: {look.verdict.mismatch}" if look.verdict.mismatch else ""


def spent(verdict: Verdict) -> float:
    """What the candidate has cost of the exposure budget, in bad requests."""
    if verdict.excess is None or not math.isfinite(verdict.excess):
        return float(verdict.bad_requests)
    return max(0.0, verdict.excess)


def expected_cost(rollout: Rollout, look: EvidenceLooked, share: float) -> float:
    """Bad requests that the exposure budget is to reckon with until `share` has been held for a step's least time.

    What was spent, and as much again for each second of evidence and share as before.
    """
    risked_s = rollout.exposure_s + candidate_share(rollout) * look.evidence_s
    cost = spent(look.verdict)
    if cost == 0 or risked_s <= 0:
        return cost
    return cost + cost / risked_s * share * plan_of(rollout).min_step_s


def _missing(look: EvidenceLooked) -> str:
    problem = frozen(look)
    return f"for evidence: {problem}" if problem else ""


def _pairs(plan: RolloutPlan, look: EvidenceLooked) -> str:
    wanted = 0 if plan.shadow is None else plan.shadow.pairs
    return f"for {wanted - look.pairs} more pairs of answers, of {wanted}" if look.pairs < wanted else ""


def _guards(verdict: Verdict) -> str:
    return "" if verdict.outcome is Outcome.PASS else f"for the guards: {verdict.sentence}"


def _undecided(rollout: Rollout, verdict: Verdict) -> str:
    if verdict.outcome is Outcome.ERROR:
        return f"for the guards: {verdict.sentence}"
    open_ = [one.arm for one in live_candidates(rollout) if verdict.arms.get(one.arm) is not Outcome.PASS]
    return f"for a decision about {', '.join(open_)}: {verdict.sentence}" if open_ else ""


def _budget(rollout: Rollout, plan: RolloutPlan, look: EvidenceLooked) -> str:
    share = plan.steps[rollout.step + 1] / 100
    cost, budget = expected_cost(rollout, look, share), plan.max_bad_requests
    if share >= 1 or cost <= budget:  # the last step is no trial: the guards have passed at all of those before
        return ""
    return f"for the exposure budget: {share:.0%} would cost about {cost:.0f} bad requests, of {budget} at most"

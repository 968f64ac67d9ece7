"""What a rollout still waits for before automation lets it go on. Empty: nothing. Only this may raise a weight.

Evidence time is what counts, never the clock: who slept for an hour has gathered nothing.
"""

from __future__ import annotations

import math

from taxiway.rollout.events import Looked
from taxiway.rollout.nouns import Outcome, Phase, Rollout, Verdict
from taxiway.rollout.shares import candidate_share, is_test, live_candidates


def waits_for(rollout: Rollout, look: Looked) -> str:
    """Why this look does not let the rollout go on, as the end of `waits for ...`."""
    standing = stands_still(rollout) or frozen(look)
    if standing:
        return standing
    if look.segment not in (-1, rollout.segment):
        return f"evidence of the present weights (segment {rollout.segment}, not {look.segment})"
    needed = rollout.plan["guard_for_s"] if rollout.phase is Phase.GUARD else rollout.plan["min_step_s"]
    if not look.evidence_s >= needed:  # which NaN is not
        return f"{needed - look.evidence_s:.0f} s more of evidence, of {needed:g} s"
    match rollout.phase:
        case Phase.GUARD:
            return look.verdict.sentence if look.verdict.outcome is Outcome.ERROR else ""
        case Phase.SHADOW:
            return _copies(rollout, look.verdict)
        case Phase.STEP if is_test(rollout):
            return _undecided(rollout, look.verdict)
        case Phase.STEP:
            return _guards(look.verdict) or _budget(rollout, look)
    return f"what phase {rollout.phase.value} does"


def stands_still(rollout: Rollout) -> str:
    """What a person has to say before anything moves forward."""
    if rollout.paused is not None:
        why = f": {rollout.paused.reason}" if rollout.paused.reason else ""
        return f"`resume`, since {rollout.paused.by} paused it{why}"
    if rollout.approval:
        return f"a person: {rollout.approval}"
    if rollout.overdue:
        return "a person: its time is over, and the guards have not decided"
    return ""


def frozen(look: Looked) -> str:
    """Why this look's evidence is not to be believed, or is not there; empty: it is well."""
    if look.degraded:
        return look.degraded
    return f"the split is not to be believed: {look.verdict.mismatch}" if look.verdict.mismatch else ""


def spent(verdict: Verdict) -> float:
    """What the candidate has cost of the exposure budget, in bad requests."""
    if verdict.excess is None or not math.isfinite(verdict.excess):
        return float(verdict.bad_requests)
    return max(0.0, verdict.excess)


def expected_cost(rollout: Rollout, look: Looked, share: float) -> float:
    """Bad requests that the exposure budget is to reckon with until `share` has been held for a step's least time.

    What was spent, and as much again for each second of evidence and share as before.
    """
    risked_s = rollout.exposure_s + candidate_share(rollout) * look.evidence_s
    cost = spent(look.verdict)
    if cost == 0 or risked_s <= 0:
        return cost
    again: float = cost / risked_s * share * rollout.plan["min_step_s"]
    return cost + again


def _copies(rollout: Rollout, verdict: Verdict) -> str:
    """Copies tell how alike the answers are; what callers meet nobody knows yet."""
    agreement = [guard for guard in verdict.guards if guard.metric == "agreement"]
    if not agreement:
        return _guards(verdict)
    shadow = rollout.plan["shadow"]
    wanted, pairs = 0 if shadow is None else shadow["pairs"], min(guard.candidate for guard in agreement)
    if pairs < wanted:
        return f"{wanted - pairs} more pairs of answers, of {wanted}"
    if verdict.outcome in (Outcome.FAIL, Outcome.ERROR):
        return f"the guards: {verdict.sentence}"
    undecided = [guard.sentence for guard in agreement if guard.outcome is not Outcome.PASS]
    return f"the guards: {'; '.join(undecided)}" if undecided else ""


def _guards(verdict: Verdict) -> str:
    return "" if verdict.outcome is Outcome.PASS else f"the guards: {verdict.sentence}"


def _undecided(rollout: Rollout, verdict: Verdict) -> str:
    if verdict.outcome is Outcome.ERROR:
        return f"the guards: {verdict.sentence}"
    open_ = [one.arm for one in live_candidates(rollout) if verdict.arms.get(one.arm) is not Outcome.PASS]
    return f"a decision about {', '.join(open_)}: {verdict.sentence}" if open_ else ""


def _budget(rollout: Rollout, look: Looked) -> str:
    budget: int = rollout.plan["max_bad_requests"]
    share = rollout.plan["steps"][rollout.step + 1] / 100
    used = spent(look.verdict)
    cost = expected_cost(rollout, look, share) if share < 1 else used  # the last step is no trial: all before it passed
    if used < budget and cost <= budget:
        return ""
    return f"the exposure budget: {share:.0%} would cost about {cost:.0f} bad requests, of {budget} at most"

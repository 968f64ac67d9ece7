"""Which share of the requests each arm is to have, by where a rollout is."""

from __future__ import annotations

from taxiway.config.rollout_plan import RolloutPlan
from taxiway.rollout.nouns import BASELINE, CANDIDATE, CONTROL, TERMINAL, Candidate, Phase, Rollout

EXPOSED = frozenset({Phase.SHADOW, Phase.STEP, Phase.PROMOTE, Phase.GUARD, Phase.DRAIN})
"""Phases in which the candidate runs requests, or copies of them."""

_PROMOTED = frozenset({Phase.PROMOTE, Phase.GUARD, Phase.DRAIN, Phase.SUCCEEDED})
_BITS = 1e-12


def plan_of(rollout: Rollout) -> RolloutPlan:
    """Its plan, typed."""
    return RolloutPlan.model_validate(rollout.plan)


def live_candidates(rollout: Rollout) -> tuple[Candidate, ...]:
    """Those that still take part."""
    return tuple(one for one in rollout.candidates if one.arm not in rollout.dropped)


def promoted(rollout: Rollout) -> Candidate | None:
    """The candidate that has everything, or is to get it."""
    if rollout.phase not in _PROMOTED:
        return None
    return next((one for one in rollout.candidates if one.arm == rollout.promoted), None)


def has_twin(plan: RolloutPlan) -> bool:
    """Whether the candidate is compared with a second copy of the old version: where its share is raised by steps."""
    return plan.twin and plan.strategy in ("canary", "rolling") and not plan.exclusive and plan.steps[0] < 100


def weights(rollout: Rollout) -> dict[str, float]:
    """Shares by arm, which add up to 1; arms that are ready and get nothing have 0, others are not named."""
    winner = promoted(rollout)
    if winner is not None:
        if rollout.phase in TERMINAL or plan_of(rollout).exclusive:
            return {winner.arm: 1.0}
        return {CONTROL: 0.0, winner.arm: 1.0}
    if rollout.phase is Phase.SHADOW:
        return {CONTROL: 1.0, **{one.arm: 0.0 for one in rollout.candidates}}
    if rollout.phase is Phase.STEP:
        return _shares(rollout, plan_of(rollout))
    return {CONTROL: 1.0}


def _shares(rollout: Rollout, plan: RolloutPlan) -> dict[str, float]:
    if plan.strategy == "ab":
        shares = {one.arm: one.percent / 100 for one in live_candidates(rollout)}
    else:
        share = plan.steps[rollout.step] / 100
        shares = {CANDIDATE: share}
        if has_twin(plan):
            shares[BASELINE] = min(share, 1 - share)
    rest = 1 - sum(shares.values())
    return {CONTROL: rest if rest > _BITS else 0.0, **shares}


def candidate_share(rollout: Rollout) -> float:
    """What all candidates have together, 0 to 1."""
    shares = weights(rollout)
    return sum(shares.get(one.arm, 0.0) for one in rollout.candidates)

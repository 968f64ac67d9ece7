"""Which share of the requests each arm is to have, by where a rollout is. Reads plans as they were written."""

from __future__ import annotations

from typing import Final

from taxiway.rollout.nouns import BASELINE, CANDIDATE, CONTROL, Candidate, Phase, Rollout

WITH_TRAFFIC: Final = frozenset({Phase.SHADOW, Phase.STEP, Phase.PROMOTE, Phase.GUARD})
"""Phases in which a candidate runs requests, or copies of them, and is watched."""

WON: Final = frozenset({Phase.PROMOTE, Phase.GUARD, Phase.DRAIN, Phase.SUCCEEDED})
"""Phases in which the winner, if there is one, has everything."""

_BITS: Final = 1e-12


def is_test(rollout: Rollout) -> bool:
    """Whether it is an A/B/n test, whose arms keep their shares."""
    return bool(rollout.plan["strategy"] == "ab")


def live_candidates(rollout: Rollout) -> tuple[Candidate, ...]:
    """Those that still take part."""
    return tuple(one for one in rollout.candidates if one.arm not in rollout.dropped)


def winner_of(rollout: Rollout) -> Candidate | None:
    """The candidate that has everything."""
    if rollout.phase not in WON:
        return None
    return next((one for one in rollout.candidates if one.arm == rollout.winner), None)


def has_twin(rollout: Rollout) -> bool:
    """Whether the candidate is compared with a copy of the old version of its own size: where steps raise its share.

    Whole processes are alike already.
    """
    plan = rollout.plan
    raised = plan["strategy"] in ("canary", "rolling") and plan["steps"][0] < 100
    return bool(plan["twin"] and raised and not by_replica(rollout))


def by_replica(rollout: Rollout) -> bool:
    """Whether each data-plane process answers by one version only."""
    return list(rollout.plan["units"]) == ["replica"]


def weights_of(rollout: Rollout) -> dict[str, float]:
    """The share of each arm, 0 to 1; together 1."""
    winner = winner_of(rollout)
    if winner is not None:
        return {winner.arm: 1.0}
    if rollout.phase is not Phase.STEP:
        return {CONTROL: 1.0}
    if is_test(rollout):
        shares = {one.arm: one.percent / 100 for one in live_candidates(rollout)}
    else:
        share = rollout.plan["steps"][rollout.step] / 100
        shares = {CANDIDATE: share}
        if has_twin(rollout):
            shares[BASELINE] = min(share, 1 - share)
    rest = 1 - sum(shares.values())
    return {CONTROL: rest if rest > _BITS else 0.0, **shares}


def candidate_share(rollout: Rollout) -> float:
    """What all candidates have together, 0 to 1."""
    shares = weights_of(rollout)
    return sum(shares.get(one.arm, 0.0) for one in rollout.candidates)


def split_differs(one: Rollout, other: Rollout) -> bool:
    """Whether what is counted in both cannot be counted together: other weights, or copies in one of them."""
    copies = {one.phase, other.phase} & {Phase.SHADOW}
    return weights_of(one) != weights_of(other) or (bool(copies) and one.phase is not other.phase)

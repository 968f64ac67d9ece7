"""What is wanted of the data plane, by where a rollout is: said again until it is so, and fenced by its generation.

Pure functions of the state. A control process that starts anew wants the same, and nothing has to be replayed.
"""

from __future__ import annotations

from taxiway.config.rollout_plan import RolloutPlan
from taxiway.core.traffic import Arm, Companion, Fuse, HeaderRoute, Recording, Shadow, Swap, Traffic, UnitSource
from taxiway.rollout.nouns import BASELINE, CONTROL, TERMINAL, Candidate, Phase, Rollout
from taxiway.rollout.shares import has_twin, live_candidates, plan_of, promoted, weights

_LOADED = frozenset({Phase.STAGE, Phase.SHADOW, Phase.STEP})
_UNHEARD = frozenset({Phase.QUEUED, Phase.SUPERSEDED})
"""Another rollout says what is served."""


# --- keys -------------------------------------------------------------------------------------------------


def candidate_key(rollout: Rollout, candidate: Candidate) -> str:
    """What answers for a candidate: a companion, or what the server was told to serve; or the baseline's own place."""
    if plan_of(rollout).exclusive:
        return rollout.baseline_key
    return f"{rollout.service}/{candidate.version}" if candidate.path else rollout.service


def twin_key(rollout: Rollout) -> str:
    """What answers for the baseline's second copy."""
    return f"{rollout.service}/{rollout.baseline}~twin"


# --- what is loaded ---------------------------------------------------------------------------------------


def desired_companions(rollout: Rollout) -> tuple[Companion, ...]:
    """What is to be loaded beside what the server was told to serve. Empty for an exclusive plan: see `desired_swap`.

    While it is on its way back nothing is wanted, and nothing is released yet: what answers callers still may.
    """
    plan = plan_of(rollout)
    if plan.exclusive or rollout.phase in _UNHEARD:
        return ()
    wanted = list(_baseline_companion(rollout))
    if rollout.phase in _LOADED:
        wanted += [made for one in live_candidates(rollout) for made in _companion(rollout, one)]
        if has_twin(plan):
            wanted.append(Companion(twin_key(rollout), rollout.service, rollout.baseline))
    elif (winner := promoted(rollout)) is not None:
        wanted += _companion(rollout, winner)
    return tuple(wanted)


def _baseline_companion(rollout: Rollout) -> tuple[Companion, ...]:
    """The version served before, if an earlier rollout put it beside what the server was told to serve."""
    if "/" not in rollout.baseline_key or not rollout.baseline_path or rollout.phase is Phase.SUCCEEDED:
        return ()
    return (Companion(rollout.baseline_key, rollout.service, rollout.baseline, rollout.baseline_path),)


def _companion(rollout: Rollout, candidate: Candidate) -> tuple[Companion, ...]:
    if not candidate.path:
        return ()
    key = candidate_key(rollout, candidate)
    return (Companion(key, rollout.service, candidate.version, candidate.path, candidate.trusted),)


def desired_swap(rollout: Rollout) -> Swap | None:
    """Which version is to be in the baseline's place, if it is not there already; None: the plan is not exclusive."""
    plan = plan_of(rollout)
    if not plan.exclusive or rollout.phase in _UNHEARD:
        return None
    place, winner = rollout.baseline_key, promoted(rollout)
    # its key is one that no model can have: what comes takes over the place of what leaves, and needs none of its own
    if winner is None:
        comes = Companion(_beside(rollout, rollout.baseline), rollout.service, rollout.baseline, rollout.baseline_path)
    else:
        key = _beside(rollout, winner.version)
        comes = Companion(key, rollout.service, winner.version, winner.path, winner.trusted)
    return Swap(comes, place, plan.max_hold_s, plan.max_held)


def _beside(rollout: Rollout, version: int) -> str:
    return f"{rollout.service}/{version}"


def released(rollout: Rollout) -> tuple[str, ...]:
    """Keys that this rollout needs no longer, once its weights are applied.

    Of one that was superseded, the newer one may need some: those are left alone.
    """
    plan = plan_of(rollout)
    if plan.exclusive or rollout.phase in (Phase.QUEUED, Phase.ADMIT, Phase.ROLLING_BACK):
        return ()
    kept = {companion.key for companion in desired_companions(rollout)}
    keys = [companion.key for one in rollout.candidates for companion in _companion(rollout, one)]
    if has_twin(plan):
        keys.append(twin_key(rollout))
    if rollout.phase is Phase.SUCCEEDED and _has_left(rollout):
        keys.append(rollout.baseline_key)
    return tuple(key for key in keys if key not in kept)


def _has_left(rollout: Rollout) -> bool:
    """Whether nobody is answered by the baseline's place any more."""
    winner = promoted(rollout)
    if winner is None or candidate_key(rollout, winner) == rollout.baseline_key:
        return False
    return not rollout.baseline_shared


# --- who answers ------------------------------------------------------------------------------------------


def desired_traffic(rollout: Rollout) -> Traffic | None:
    """Who answers requests that name no version; None: that is not this rollout's to say (it waits, or was replaced).

    A rollback names the version served before, and nothing else: it must work although the candidate is dead.
    """
    if rollout.phase in _UNHEARD:
        return None
    plan, shares = plan_of(rollout), weights(rollout)
    arms = tuple(_arm(rollout, name, share) for name, share in shares.items())
    return Traffic(
        service=rollout.service,
        rollout=rollout.id,
        generation=rollout.generation,
        segment=rollout.segment,
        salt=rollout.id,
        arms=arms,
        default=CONTROL if CONTROL in shares else rollout.promoted,
        units=tuple(_unit(text) for text in plan.units),
        routes=_routes(rollout, plan, shares),
        shadow=_shadow(rollout, plan),
        fuses=_fuses(rollout, plan, shares),
        recording=_recording(plan),
        counted=rollout.phase not in TERMINAL and rollout.phase not in (Phase.ADMIT, Phase.STAGE),
        acknowledged=rollout.acknowledged,
    )


def _arm(rollout: Rollout, name: str, share: float) -> Arm:
    if name == CONTROL:
        return Arm(name, rollout.baseline_key, rollout.baseline, share)
    if name == BASELINE:
        return Arm(name, twin_key(rollout), rollout.baseline, share)
    candidate = next(one for one in rollout.candidates if one.arm == name)
    return Arm(name, candidate_key(rollout, candidate), candidate.version, share)


def _unit(text: str) -> UnitSource:
    kind, _, name = text.partition(":")
    match kind:
        case "header" | "cookie":
            return UnitSource(kind, name.strip())
        case "api-key":
            return UnitSource("api-key")
        case _:
            return UnitSource("request-id")


def _routes(rollout: Rollout, plan: RolloutPlan, shares: dict[str, float]) -> tuple[HeaderRoute, ...]:
    """Of testers, while their arm is loaded; in a shadow they would get answers that nobody is to get."""
    if rollout.phase is Phase.SHADOW or rollout.phase in TERMINAL:
        return ()
    return tuple(HeaderRoute(one.header, one.value, one.arm) for one in plan.routes if one.arm in shares)


def _shadow(rollout: Rollout, plan: RolloutPlan) -> Shadow | None:
    if rollout.phase is not Phase.SHADOW or plan.shadow is None:
        return None
    return Shadow(rollout.candidates[0].arm, plan.shadow.percent / 100)


def _fuses(rollout: Rollout, plan: RolloutPlan, shares: dict[str, float]) -> tuple[Fuse, ...]:
    """One for each candidate that callers are answered by.

    The budget bounds what is risked before the guards have passed; after a promotion there is nothing left to compare
    with, and any version fails in the long run as often as the budget allows. What a person promoted has none: only a
    person takes it back. Where both versions do not fit into memory there is nobody to fall back to.
    """
    if rollout.phase not in (Phase.STEP, Phase.PROMOTE, Phase.GUARD) or rollout.promoted_by or plan.exclusive:
        return ()
    against = BASELINE if BASELINE in shares else CONTROL
    budget = plan.max_bad_requests if rollout.phase is Phase.STEP and plan.strategy != "ab" else None
    tried = [one.arm for one in rollout.candidates if shares.get(one.arm, 0.0) > 0]
    return tuple(Fuse(arm, against, bad_requests=budget) for arm in tried)


def _recording(plan: RolloutPlan) -> Recording:
    """No more than the plan's guards need."""
    metrics = {guard.metric for guard in plan.guards.metrics}
    ids, share = "quality" in metrics, 0.0
    if ids:
        share = plan.quality.judged_percent / 100 if plan.quality.judge else 0.0
        share = share if plan.quality.metric == "rating" else 1.0  # a label is compared with the answer it is for
    checked = Recording().checked_share if "invalid-output" in metrics else 0.0
    return Recording(ids=ids, share=share, checked_share=checked)

"""What a rollout wants of the data plane in its phase: who gets which share, and what has to be loaded for it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from taxiway.core.traffic import Arm, Companion, Fuse, HeaderRoute, Recording, Shadow, Traffic, UnitKind, UnitSource
from taxiway.rollout.machine import WITH_TRAFFIC, is_test
from taxiway.rollout.nouns import BASELINE, CANDIDATE, CONTROL, Candidate, Phase, Rollout

_ENDING: Final = frozenset({Phase.DRAIN, Phase.SUCCEEDED})
_COMPARED: Final = frozenset({Phase.STEP, Phase.PROMOTE, Phase.GUARD})
_SPLIT: Final = frozenset({*WITH_TRAFFIC, Phase.ROLLING_BACK})


def weights_of(rollout: Rollout) -> dict[str, float]:
    """The share of each arm, 0 to 1; together 1."""
    if rollout.phase in (Phase.PROMOTE, Phase.GUARD, *_ENDING):
        return {rollout.winner or CONTROL: 1.0}
    if rollout.phase is not Phase.STEP:
        return {CONTROL: 1.0}
    if is_test(rollout):
        shares = {one.arm: one.percent / 100 for one in rollout.candidates if one.arm not in rollout.dropped}
        return {**shares, CONTROL: 1.0 - sum(shares.values())}
    share = rollout.plan["steps"][rollout.step] / 100
    twin = min(share, 1.0 - share) if has_twin(rollout) else 0.0
    return {CANDIDATE: share, BASELINE: twin, CONTROL: 1.0 - share - twin}


def has_twin(rollout: Rollout) -> bool:
    """Whether the candidate is compared with a copy of the old version of its own size."""
    steps = rollout.plan["steps"]
    return bool(rollout.plan["twin"]) and rollout.plan["strategy"] in ("canary", "rolling") and steps[0] < 100


def desired_traffic(rollout: Rollout) -> Traffic:
    """How the requests of its service are to be split now."""
    weights, plan = weights_of(rollout), rollout.plan
    arms = _arms(rollout, weights)
    default = rollout.winner if rollout.winner and rollout.phase in _ENDING else CONTROL
    names = {arm.name for arm in arms}
    return Traffic(
        rollout.service,
        rollout.id,
        rollout.generation,
        rollout.segment,
        rollout.id,
        arms,
        default,
        tuple(_unit(text) for text in plan["units"]),
        tuple(HeaderRoute(one["header"], one["value"], one["arm"]) for one in plan["routes"] if one["arm"] in names),
        _shadow(rollout),
        tuple(_fuses(rollout)),
        _recording(plan),
        rollout.phase in _SPLIT,
        rollout.acknowledged,
    )


def _arms(rollout: Rollout, weights: Mapping[str, float]) -> tuple[Arm, ...]:
    arms = [Arm(CONTROL, rollout.baseline_key, rollout.baseline, weights.get(CONTROL, 0.0))]
    if rollout.phase in WITH_TRAFFIC:
        if has_twin(rollout):
            arms.append(Arm(BASELINE, twin_key(rollout), rollout.baseline, weights.get(BASELINE, 0.0)))
        arms += [
            Arm(one.arm, key_of(rollout, one), one.version, weights.get(one.arm, 0.0)) for one in rollout.candidates
        ]
    elif rollout.phase in _ENDING and rollout.winner:
        won = next(one for one in rollout.candidates if one.arm == rollout.winner)
        arms = [Arm(won.arm, key_of(rollout, won), won.version, 1.0)]
    return tuple(arms)


def key_of(rollout: Rollout, candidate: Candidate) -> str:
    """What answers for a candidate: a companion, or the service itself where the server was told to serve it."""
    if rollout.plan["exclusive"]:
        return rollout.baseline_key
    return f"{rollout.service}/{candidate.version}" if candidate.path else rollout.service


def twin_key(rollout: Rollout) -> str:
    """What answers for the twin."""
    return f"{rollout.service}/{rollout.baseline}~twin"


def desired_companions(rollout: Rollout) -> tuple[Companion, ...]:
    """What has to be loaded beside what serves."""
    if rollout.plan["exclusive"]:
        return ()
    staged = [
        Companion(key_of(rollout, one), rollout.service, one.version, one.path, one.trusted)
        for one in rollout.candidates
        if one.path and (rollout.phase in {*_SPLIT, Phase.STAGE} or one.arm == rollout.winner)
    ]
    if has_twin(rollout) and rollout.phase in {*_SPLIT, Phase.STAGE} - {Phase.PROMOTE, Phase.GUARD}:
        staged.append(Companion(twin_key(rollout), rollout.service, rollout.baseline))
    return tuple(staged)


def released(rollout: Rollout) -> tuple[str, ...]:
    """Keys of what is of no use any more, once the traffic of this state is followed everywhere."""
    keep = {companion.key for companion in desired_companions(rollout)} | {arm.key for arm in _arms(rollout, {})}
    known = {key_of(rollout, one) for one in rollout.candidates if one.path} | {rollout.baseline_key}
    if has_twin(rollout):
        known.add(twin_key(rollout))
    return tuple(sorted(known - keep))


def _shadow(rollout: Rollout) -> Shadow | None:
    said = rollout.plan["shadow"]
    if rollout.phase is not Phase.SHADOW:
        return None
    percent = said["percent"] if said is not None else 20.0
    return Shadow(rollout.candidates[0].arm, percent / 100)


def _fuses(rollout: Rollout) -> list[Fuse]:
    if rollout.phase not in _COMPARED:
        return []
    budget = rollout.plan["max_bad_requests"]
    return [Fuse(one.arm, CONTROL, bad_requests=budget) for one in rollout.candidates if one.arm not in rollout.dropped]


def _recording(plan: Mapping[str, Any]) -> Recording:
    metrics = {guard["metric"] for guard in plan["guards"]["metrics"]}
    judged = plan["quality"]["judged_percent"] / 100 if plan["quality"]["judge"] else 0.0
    return Recording(ids="quality" in metrics, share=judged if "quality" in metrics else 0.0)


def _unit(text: str) -> UnitSource:
    kind, _, name = text.partition(":")
    return UnitSource(cast("UnitKind", kind), name)  # config.rollout_plan has checked it

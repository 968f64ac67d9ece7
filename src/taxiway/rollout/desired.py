"""What a rollout wants of the data plane in its phase: who gets which share, and what has to be loaded for it. Pure.

It is said until it is so, fenced by the generation; a control process that starts anew wants the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from taxiway.core.traffic import Arm, Companion, Fuse, HeaderRoute, Recording, Shadow, Traffic, UnitKind, UnitSource
from taxiway.rollout.nouns import BASELINE, CONTROL, TERMINAL, Candidate, Phase, Rollout
from taxiway.rollout.shares import by_replica, has_twin, is_test, live_candidates, weights_of, winner_of

__all__ = [
    "desired_companions",
    "desired_traffic",
    "has_twin",
    "key_of",
    "released",
    "twin_key",
    "weights_of",
]

_COMPARED: Final = frozenset({Phase.STAGE, Phase.SHADOW, Phase.STEP})
_KEPT: Final = frozenset({*_COMPARED, Phase.ROLLING_BACK})
_UNCOUNTED: Final = TERMINAL | {Phase.QUEUED, Phase.ADMIT, Phase.STAGE, Phase.DRAIN}


# --- keys -------------------------------------------------------------------------------------------------


def key_of(rollout: Rollout, candidate: Candidate) -> str:
    """What answers for a candidate: a companion, or the service itself where the server was told to serve it."""
    if rollout.plan["exclusive"]:
        return rollout.baseline_key
    return f"{rollout.service}/{candidate.version}" if candidate.path else rollout.service


def twin_key(rollout: Rollout) -> str:
    """What answers for the twin."""
    return f"{rollout.service}/{rollout.baseline}~twin"


# --- what is loaded ---------------------------------------------------------------------------------------


def desired_companions(rollout: Rollout) -> tuple[Companion, ...]:
    """What has to be loaded beside what serves; on its way back, what may still be answering."""
    if rollout.plan["exclusive"]:
        return ()
    winner = winner_of(rollout)
    wanted = [] if rollout.phase is Phase.SUCCEEDED else list(_baseline_companion(rollout))
    if winner is not None:
        wanted += _companion(rollout, winner)
    elif rollout.phase in _KEPT:
        wanted += [made for one in live_candidates(rollout) for made in _companion(rollout, one)]
        if has_twin(rollout):
            wanted.append(Companion(twin_key(rollout), rollout.service, rollout.baseline))
    return tuple(wanted)


def _baseline_companion(rollout: Rollout) -> tuple[Companion, ...]:
    """The version served before, if an earlier rollout put it beside what the server was told to serve."""
    if rollout.baseline_key == rollout.service or not rollout.baseline_path:
        return ()
    return (Companion(rollout.baseline_key, rollout.service, rollout.baseline, rollout.baseline_path),)


def _companion(rollout: Rollout, candidate: Candidate) -> tuple[Companion, ...]:
    if not candidate.path:
        return ()
    key = key_of(rollout, candidate)
    return (Companion(key, rollout.service, candidate.version, candidate.path, candidate.trusted),)


def released(rollout: Rollout) -> tuple[str, ...]:
    """Keys of what is of no use any more, once the traffic of this state is followed everywhere.

    Of one that was superseded the newer one may use some.
    """
    if rollout.plan["exclusive"]:
        return ()
    keep = {companion.key for companion in desired_companions(rollout)}
    keep |= {arm.key for arm in desired_traffic(rollout).arms}
    known = {made.key for one in rollout.candidates for made in _companion(rollout, one)}
    if has_twin(rollout):
        known.add(twin_key(rollout))
    if not rollout.baseline_shared:
        known.add(rollout.baseline_key)
    return tuple(sorted(known - keep))


# --- who answers ------------------------------------------------------------------------------------------


def desired_traffic(rollout: Rollout) -> Traffic:
    """How the requests of its service are to be split now. Of one that waits, or was replaced, nobody is to be told.

    A rollback names the version served before, and nothing else: it must work although the candidate is dead.
    """
    plan = rollout.plan
    arms = _arms(rollout, weights_of(rollout))
    names = [arm.name for arm in arms]
    return Traffic(
        service=rollout.service,
        rollout=rollout.id,
        generation=rollout.generation,
        segment=rollout.segment,
        salt=rollout.id,
        arms=arms,
        default=CONTROL if CONTROL in names else names[0],
        units=tuple(_unit(text) for text in plan["units"]),
        routes=_routes(rollout, names),
        shadow=_shadow(rollout),
        fuses=tuple(_fuses(rollout, names)),
        recording=_recording(plan),
        counted=rollout.phase not in _UNCOUNTED,
        acknowledged=rollout.acknowledged,
    )


def _arms(rollout: Rollout, weights: Mapping[str, float]) -> tuple[Arm, ...]:
    """Those that get something, the copies', and, until all is over, the version that would be gone back to."""
    shares = dict(weights)
    if rollout.phase not in TERMINAL and not rollout.plan["exclusive"]:
        shares = {CONTROL: shares.pop(CONTROL, 0.0), **shares}
    if rollout.phase is Phase.SHADOW:
        shares |= {one.arm: 0.0 for one in rollout.candidates}
    return tuple(_arm(rollout, name, share) for name, share in shares.items())


def _arm(rollout: Rollout, name: str, share: float) -> Arm:
    if name == CONTROL:
        return Arm(name, rollout.baseline_key, rollout.baseline, share)
    if name == BASELINE:
        return Arm(name, twin_key(rollout), rollout.baseline, share)
    candidate = next(one for one in rollout.candidates if one.arm == name)
    return Arm(name, key_of(rollout, candidate), candidate.version, share)


def _routes(rollout: Rollout, names: list[str]) -> tuple[HeaderRoute, ...]:
    """Of testers, while their arm is loaded; a shadow's answers nobody is to get."""
    if rollout.phase is Phase.SHADOW or rollout.phase in TERMINAL:
        return ()
    routes = [HeaderRoute(one["header"], one["value"], one["arm"]) for one in rollout.plan["routes"]]
    return tuple(route for route in routes if route.arm in names)


def _shadow(rollout: Rollout) -> Shadow | None:
    if rollout.phase is not Phase.SHADOW:
        return None
    said = rollout.plan["shadow"]
    return Shadow(rollout.candidates[0].arm, (20.0 if said is None else said["percent"]) / 100)


def _fuses(rollout: Rollout, names: list[str]) -> list[Fuse]:
    """One for each candidate that callers are answered by, where there is somebody to fall back to.

    The budget bounds what is risked before the guards have passed. After a promotion there is nothing left to compare
    with, and any version fails in the long run as often as the budget allows; arms of a test last for weeks. A process
    in which only the candidate answers has nothing to compare with either.
    """
    if rollout.phase not in (Phase.STEP, Phase.PROMOTE, Phase.GUARD) or CONTROL not in names:
        return []
    bounded = rollout.phase is Phase.STEP and not is_test(rollout) and not by_replica(rollout)
    budget = rollout.plan["max_bad_requests"] if bounded else None
    against = BASELINE if BASELINE in names else CONTROL
    return [Fuse(one.arm, against, bad_requests=budget) for one in rollout.candidates if one.arm in names]


def _recording(plan: Mapping[str, Any]) -> Recording:
    """No more than the plan's guards need."""
    metrics = {guard["metric"] for guard in plan["guards"]["metrics"]}
    checked = Recording().checked_share if "invalid-output" in metrics else 0.0
    if "quality" not in metrics:
        return Recording(checked_share=checked)
    quality = plan["quality"]
    share = quality["judged_percent"] / 100 if quality["judge"] else 0.0
    if quality["metric"] != "rating":
        share = 1.0  # a label is compared with the answer that it is for, whichever that was
    return Recording(ids=True, share=share, checked_share=checked)


def _unit(text: str) -> UnitSource:
    kind, _, name = text.partition(":")
    return UnitSource(cast("UnitKind", kind), name.strip())  # config.rollout_plan has checked it

"""From what a plan says to a plan that can be followed: defaults of its strategy, checks that need more than the plan.

Whoever begins a rollout finds out what its words mean (resolving.py); here it is decided whether that may be tried.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal

from msgspec import Struct

from taxiway.config.rollout_plan import GuardSettings, RolloutPlan, ShadowSettings
from taxiway.core.errors import InvalidArgument, InvalidTransition, QuarantinedVersion, RolloutActive
from taxiway.registry.canonical import canonical_json, digest_of
from taxiway.rollout.events import Dequeued, Started
from taxiway.rollout.machine import on_newer
from taxiway.rollout.nouns import BASELINE, CANDIDATE, CONTROL, Candidate, Rollout
from taxiway.rollout.shares import has_twin, plan_of, promoted

_NONE: Final[Mapping[str, Rollout]] = MappingProxyType({})
MAX_STEPS: Final = 50
"""Of a rolling plan; with more processes than that, a step is of several."""

AB_DURATION_S = 14 * 86400.0
"""How long an A/B/n test lasts whose plan does not say: two weeks, so that every weekday is seen twice."""

AB_PERCENT = 50.0
"""Share of a single arm whose plan does not say."""

AGREEMENT = GuardSettings(metric="agreement", margin=0.02)
"""What a shadow is judged by if its plan does not say."""


class Wanted(Struct, frozen=True):
    """An arm whose version is to be found.

    Attributes:
        to: a number, or an alias.
        percent: its share, where the plan fixes it.
    """

    arm: str
    to: str
    percent: float = 0.0


class Serving(Struct, frozen=True):
    """What answers for a service now, and what is to be tried beside it.

    Attributes:
        baseline, baseline_key: the version that answers, and what answers for it (core.traffic.Arm.key).
        candidates: in the order of `wanted`.
        baseline_path: where the baseline lies, if it was laid out; an exclusive swap needs it to go back.
        baseline_shared: what answers for it serves other versions too.
        replicas: processes that serve; a rolling plan makes a step of each.
    """

    baseline: int
    baseline_key: str
    candidates: tuple[Candidate, ...]
    baseline_path: str = ""
    baseline_shared: bool = False
    replicas: int = 1


class Planned(Struct, frozen=True):
    """A plan that can be followed.

    Attributes:
        plan: complete, as JSON.
        digest: of all that an approval is for: service, versions and plan.
        forced: why a quarantined digest is tried again; empty: none is.
    """

    service: str
    plan: dict[str, Any]
    digest: str
    serving: Serving
    forced: str = ""

    def started(
        self,
        rollout_id: str,
        actor: str,
        reason: str = "",
        *,
        queued: bool = False,
        by_hand: bool = False,
        supersedes: str = "",
    ) -> Started:
        """The first event of a rollout that follows it."""
        now = self.serving
        return Started(
            id=rollout_id,
            service=self.service,
            plan=self.plan,
            plan_digest=self.digest,
            baseline=now.baseline,
            baseline_key=now.baseline_key,
            candidates=now.candidates,
            actor=actor,
            reason=reason,
            forced=self.forced,
            queued=queued,
            by_hand=by_hand,
            supersedes=supersedes,
            baseline_path=now.baseline_path,
            baseline_shared=now.baseline_shared,
        )

    def dequeued(self) -> Dequeued:
        """The event for a rollout that waited, whose plan was made anew as this."""
        now = self.serving
        return Dequeued(
            self.digest, now.baseline, now.baseline_key, now.candidates, now.baseline_path, now.baseline_shared
        )


# --- defaults ---------------------------------------------------------------------------------------------


def completed(plan: RolloutPlan, replicas: int = 1) -> RolloutPlan:
    """The plan with what its strategy implies. Completing it twice changes nothing.

    Args:
        plan: what was said.
        replicas: processes that serve; a rolling plan makes a step of each.
    """
    said = plan.model_fields_set
    more: dict[str, Any] = {}
    match plan.strategy:
        case "blue-green":
            more = {"steps": (100.0,), "twin": False}
        case "rolling" if "steps" not in said:
            more = {"steps": _by_replica(replicas)}
        case "shadow":
            more = {"twin": False, "shadow": plan.shadow or ShadowSettings()}
        case "ab":
            more = {"twin": False}
            if "max_duration_s" not in said:
                more["max_duration_s"] = AB_DURATION_S
    shadow = more.get("shadow", plan.shadow)
    if shadow is not None and all(guard.metric != "agreement" for guard in plan.guards.metrics):
        metrics = (*plan.guards.metrics, AGREEMENT)
        more["guards"] = plan.guards.model_copy(update={"metrics": metrics})
    return plan.model_copy(update=more)


def _by_replica(replicas: int) -> tuple[float, ...]:
    steps = max(1, min(replicas, MAX_STEPS))
    return tuple(100 * number / steps for number in range(1, steps + 1))


def wanted(plan: RolloutPlan) -> tuple[Wanted, ...]:
    """Which versions have to be found.

    Raises:
        InvalidArgument: the plan names none.
    """
    if plan.arms:
        return tuple(Wanted(arm.name, arm.to, arm.percent) for arm in plan.arms)
    if not plan.to:
        raise InvalidArgument(
            "to: is missing: which version is to be tried?",
            hint="give `--to VERSION`, or arms of an A/B/n test as `--arm NAME=VERSION:PERCENT`",
            field="to",
        )
    return (Wanted(CANDIDATE, plan.to, AB_PERCENT if plan.strategy == "ab" else 0.0),)


# --- checks -----------------------------------------------------------------------------------------------


def make_plan(
    service: str,
    plan: RolloutPlan,
    serving: Serving,
    *,
    quarantined: Mapping[str, Rollout] = _NONE,
    force: bool = False,
    reason: str = "",
) -> Planned:
    """A plan that can be followed.

    Args:
        service: the model's name.
        plan: what was said.
        serving: what was found for it.
        quarantined: rollouts that turned back one of the candidates, by its digest.
        force: try those again all the same.
        reason: why; `force` needs one.

    Raises:
        InvalidArgument: the plan and what was found for it do not go together.
        QuarantinedVersion: one of the candidates was turned back before.
    """
    whole = completed(plan, serving.replicas)
    _check_candidates(service, whole, serving)
    _check_routes(whole, serving)
    if whole.exclusive:
        _check_exclusive(service, whole, serving)
    forced = _forced(service, serving, quarantined, reason if force else "")
    said = whole.model_dump(mode="json")
    return Planned(service, said, _digest(service, said, serving), serving, forced)


def _digest(service: str, said: Mapping[str, Any], serving: Serving) -> str:
    tried = [[one.arm, one.version, one.digest, one.percent] for one in serving.candidates]
    return digest_of(canonical_json([service, serving.baseline, tried, dict(said)]))


def _check_candidates(service: str, plan: RolloutPlan, serving: Serving) -> None:
    arms = [one.arm for one in wanted(plan)]
    found = [one.arm for one in serving.candidates]
    if arms != found:
        raise InvalidArgument(f"the plan names arms {arms}, and versions were found for {found}", field="arms")
    versions = [one.version for one in serving.candidates]
    if serving.baseline in versions:
        raise InvalidArgument(
            f"to = {serving.baseline}: version {serving.baseline} of {service} answers already",
            hint=f"`taxiway models {service}` lists its versions; choose another one",
            field="to",
            version=serving.baseline,
        )
    twice = next((version for version in versions if versions.count(version) > 1), None)
    if twice is not None:
        both = ", ".join(one.arm for one in serving.candidates if one.version == twice)
        raise InvalidArgument(f"arms {both} are the same version, {twice}", hint="give each its own", field="arms")


def _check_routes(plan: RolloutPlan, serving: Serving) -> None:
    arms = [CONTROL, *([BASELINE] if has_twin(plan) else []), *(one.arm for one in serving.candidates)]
    for place, route in enumerate(plan.routes):
        if route.arm not in arms:
            raise InvalidArgument(
                f"routes[{place}].arm = {route.arm!r}: there is no such arm",
                hint=f"arms of this plan: {', '.join(arms)}",
                field="routes",
            )


def _check_exclusive(service: str, plan: RolloutPlan, serving: Serving) -> None:
    if plan.shadow is not None:
        raise InvalidArgument(
            "shadow: copies need both versions in memory, and `exclusive` says that they do not fit",
            hint="leave one of them out",
            field="shadow",
        )
    if not (serving.baseline_path and all(one.path for one in serving.candidates)):
        raise InvalidArgument(
            f"exclusive: version {serving.baseline} of {service} is not in the registry, so that nobody could go back",
            hint=f"`taxiway import SOURCE --name {service} --why TEXT` registers one",
            field="exclusive",
        )


def _forced(service: str, serving: Serving, quarantined: Mapping[str, Rollout], reason: str) -> str:
    """Why a quarantined version is tried again; empty: none is."""
    for one in serving.candidates:
        before = quarantined.get(one.digest) if one.digest else None
        if before is None:
            continue
        if not reason.strip():
            raise QuarantinedVersion(
                f"version {one.version} of {service} was turned back by rollout {before.id}: {before.reason}",
                hint="try another version; or this one again with `--force --why TEXT`",
                rollout=before.id,
                version=one.version,
                digest=one.digest,
            )
        return reason
    return ""


# --- other rollouts of the service ------------------------------------------------------------------------


def place_beside(active: Rollout | None) -> Literal["begin", "queue", "replace"]:
    """What a new rollout does beside the one of its service that goes on.

    Raises:
        RolloutActive: that one allows no other.
    """
    if active is None:
        return "begin"
    policy = on_newer(active)
    if policy != "reject":
        return policy
    raise RolloutActive(
        f"rollout {active.id} of {active.service} goes on (phase {active.phase.value}): {active.reason}",
        hint=f"wait for it, or `taxiway rollout abort {active.service}`; its plan's `on_superseded` could let a newer "
        "one queue, or replace it",
        rollout=active.id,
        phase=active.phase.value,
    )


def undoing(last: Rollout, to: int | None = None) -> RolloutPlan:
    """The plan that undoes a rollout which is over: at once to the version before, by a person's word.

    Begin it with `Planned.started(..., by_hand=True)`.

    Args:
        last: the service's last rollout.
        to: another version than the one before.

    Raises:
        InvalidTransition: it did not change what answers, so that there is nothing to go back from.
    """
    if to is None and promoted(last) is None:
        raise InvalidTransition(
            f"rollout {last.id} of {last.service} left version {last.baseline} answering (phase {last.phase.value}; "
            f"last: {last.reason}): there is nothing to undo",
            hint=f"name a version: `taxiway rollout undo {last.service} --to VERSION`",
            rollout=last.id,
        )
    plan = plan_of(last)
    return RolloutPlan(
        to=str(last.baseline if to is None else to),
        strategy="blue-green",
        guard_for_s=0,
        exclusive=plan.exclusive,
        units=plan.units,
        alias=plan.alias,
    )

"""From what somebody asked for to a rollout at its beginning: checked, completed, digested. Pure."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from taxiway.config.rollout_plan import GuardSettings, RolloutPlan, ShadowSettings
from taxiway.core.errors import FailedPrecondition, InvalidArgument
from taxiway.registry.canonical import canonical_json, digest_of
from taxiway.rollout.desired import key_of
from taxiway.rollout.events import Begun
from taxiway.rollout.nouns import BASELINE, CONTROL, Candidate, Phase, Rollout
from taxiway.rollout.shares import has_twin, winner_of

TEST_DURATION_S: Final = 14 * 86400.0
"""How long an A/B/n test may take where its plan does not say: two weeks, so that every weekday is seen twice."""

TEST_PERCENT: Final = 50.0
"""Share of a test's arm where its plan names only one version."""

AGREEMENT: Final = GuardSettings(metric="agreement", margin=0.02)
"""What copies are judged by where the plan does not say."""

MAX_STEPS: Final = 50
"""Of a rolling plan; with more processes than that, a step is of several."""


def new_id() -> str:
    """An id that nobody else has."""
    return f"r-{secrets.token_hex(6)}"


def completed(plan: RolloutPlan, replicas: int = 0) -> RolloutPlan:
    """The plan with what follows from its strategy. Completing it twice changes nothing.

    Args:
        plan: what was said.
        replicas: processes that serve; a rolling plan has one after the other change. 0: nobody knows.
    """
    said = plan.model_fields_set
    update: dict[str, object] = {}
    shadow = plan.shadow
    match plan.strategy:
        case "blue-green":
            update = {"steps": (100.0,)}
        case "rolling" if replicas > 1:
            by_replica = {"steps": _by_replica(replicas), "units": ("replica",)}
            update = {key: value for key, value in by_replica.items() if key not in said}
        case "shadow":
            shadow = shadow or ShadowSettings()
            update = {"steps": (100.0,), "shadow": shadow}
        case "ab" if "max_duration_s" not in said:
            update = {"max_duration_s": TEST_DURATION_S}
    if shadow is not None and all(guard.metric != "agreement" for guard in plan.guards.metrics):
        update["guards"] = plan.guards.model_copy(update={"metrics": (*plan.guards.metrics, AGREEMENT)})
    return plan.model_copy(update=update)


def _by_replica(replicas: int) -> tuple[float, ...]:
    steps = min(replicas, MAX_STEPS)
    return tuple(100 * number / steps for number in range(1, steps + 1))


def wanted_arms(plan: RolloutPlan) -> list[tuple[str, str, float]]:
    """Name, version and share of each arm that the plan asks for.

    Raises:
        InvalidArgument: it asks for none.
    """
    if plan.arms:
        return [(arm.name, arm.to, arm.percent) for arm in plan.arms]
    if not plan.to:
        raise InvalidArgument("to is missing: which version is to be tried?", hint="--to VERSION, or an alias")
    return [("candidate", plan.to, TEST_PERCENT if plan.strategy == "ab" else 0.0)]


def new_rollout(
    rollout_id: str,
    service: str,
    plan: RolloutPlan,
    baseline: int,
    baseline_key: str,
    candidates: Sequence[Candidate],
    *,
    actor: str,
    now_ns: int,
    **more: Any,  # noqa: ANN401 - fields of Rollout
) -> Rollout:
    """A rollout that waits for its turn.

    Args:
        rollout_id: its own.
        service: the model's name.
        plan: what was said.
        baseline: the version that answers now.
        baseline_key: what answers for it.
        candidates: the versions that the plan's words mean, in the order of `wanted_arms`.
        actor: who begins it.
        now_ns: UTC nanoseconds.
        more: of `Rollout`: baseline_path, baseline_shared, by_hand, forced, supersedes.

    Raises:
        FailedPrecondition: a candidate is what answers now.
        InvalidArgument: the plan and what was found for it do not go together.
    """
    said = completed(plan).model_dump(mode="json")
    rollout = Rollout(
        id=rollout_id,
        service=service,
        generation=1,
        phase=Phase.QUEUED,
        plan=said,
        plan_digest=_digest(service, said, baseline, candidates),
        baseline=baseline,
        baseline_key=baseline_key,
        candidates=tuple(candidates),
        created_by=actor,
        created_at_ns=now_ns,
        phase_since_ns=now_ns,
        reason="waits for its turn",
        **more,
    )
    _check(rollout)
    return msgspec.convert(msgspec.to_builtins(rollout), Rollout)  # as it will be read again


class Answering(Struct, frozen=True):
    """What answers for a service.

    Attributes:
        key: see core.traffic.Arm.
        path: where it was laid out; empty for what the server was told to serve.
    """

    version: int
    key: str
    path: str = ""


def answering(last: Rollout) -> Answering:
    """What answers since the last rollout of a service ended, or is gone back to while it goes on."""
    winner = winner_of(last) if last.phase is Phase.SUCCEEDED else None
    if winner is None:
        return Answering(last.baseline, last.baseline_key, last.baseline_path)
    return Answering(winner.version, key_of(last, winner), winner.path)


def begun_after(last: Rollout | None, rollout: Rollout) -> Begun:
    """The event that begins a rollout which waited, told what answers if that has changed meanwhile."""
    if last is None or last.phase_since_ns <= rollout.created_at_ns:
        return Begun()
    now = answering(last)
    return Begun() if now.version == rollout.baseline else Begun(now.version, now.key, now.path)


def _digest(service: str, said: Mapping[str, Any], baseline: int, candidates: Sequence[Candidate]) -> str:
    """Of all that an approval is for: the plan, and the versions that its words mean."""
    tried = [[one.arm, one.version, one.digest, float(one.percent)] for one in candidates]
    return digest_of(canonical_json([service, baseline, tried, dict(said)]))


def _check(rollout: Rollout) -> None:
    service, baseline = rollout.service, rollout.baseline
    versions = [one.version for one in rollout.candidates]
    if baseline in versions:
        raise FailedPrecondition(
            f"version {baseline} of {service} answers already",
            hint=f"`taxiway models {service}` lists its versions",
        )
    twice = next((version for version in versions if versions.count(version) > 1), None)
    if twice is not None:
        both = ", ".join(one.arm for one in rollout.candidates if one.version == twice)
        raise InvalidArgument(f"arms {both} are the same version, {twice}", hint="give each its own", field="arms")
    _check_routes(rollout)
    if rollout.plan["exclusive"]:
        _check_exclusive(rollout)


def _check_routes(rollout: Rollout) -> None:
    arms = [CONTROL, *([BASELINE] if has_twin(rollout) else []), *(one.arm for one in rollout.candidates)]
    for place, route in enumerate(rollout.plan["routes"]):
        if route["arm"] not in arms:
            raise InvalidArgument(
                f"routes[{place}].arm = {route['arm']!r}: there is no such arm",
                hint=f"arms of this plan: {', '.join(arms)}",
                field="routes",
            )


def _check_exclusive(rollout: Rollout) -> None:
    if rollout.plan["shadow"] is not None:
        raise InvalidArgument(
            "shadow: copies need both versions in memory, and `exclusive` says that they do not fit",
            hint="leave one of them out",
            field="shadow",
        )
    if not (rollout.baseline_path and all(one.path for one in rollout.candidates)):
        raise InvalidArgument(
            f"exclusive: version {rollout.baseline} of {rollout.service} is not in the registry: nobody could go back",
            hint=f"`taxiway import SOURCE --name {rollout.service} --why TEXT` registers one",
            field="exclusive",
        )

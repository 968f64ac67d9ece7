"""From what somebody asked for to a rollout at its beginning: checked, completed, digested. Pure."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from taxiway.config.rollout_plan import RolloutPlan
from taxiway.core.errors import FailedPrecondition, InvalidArgument
from taxiway.registry.canonical import canonical_json, digest_of
from taxiway.rollout.machine import S_NS
from taxiway.rollout.nouns import Candidate, Phase, Rollout

TEST_DURATION_S = 14 * 86400.0
"""How long an A/B/n test may take where its plan does not say."""


def new_id() -> str:
    """An id that nobody else has."""
    return f"r-{secrets.token_hex(6)}"


def completed(plan: RolloutPlan) -> RolloutPlan:
    """The plan with what follows from its strategy."""
    update: dict[str, object] = {}
    if plan.strategy in ("blue-green", "shadow"):
        update["steps"] = (100.0,)
    if plan.strategy == "ab" and "max_duration_s" not in plan.model_fields_set:
        update["max_duration_s"] = TEST_DURATION_S
    return plan.model_copy(update=update)


def wanted_arms(plan: RolloutPlan) -> list[tuple[str, str, float]]:
    """Name, version and share of each arm that the plan asks for.

    Raises:
        InvalidArgument: it asks for none.
    """
    if plan.arms:
        return [(arm.name, arm.to, arm.percent) for arm in plan.arms]
    if not plan.to:
        raise InvalidArgument("to is missing: which version is to be tried?", hint="--to VERSION, or an alias")
    share = 50.0 if plan.strategy == "ab" else 0.0
    return [("candidate", plan.to, share)]


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
) -> Rollout:
    """A rollout that waits for its turn.

    Raises:
        FailedPrecondition: a candidate is what answers now.
    """
    same = [one for one in candidates if one.version == baseline]
    if same:
        raise FailedPrecondition(
            f"version {baseline} of {service} answers already",
            hint=f"`taxiway models {service}` lists its versions",
        )
    said = completed(plan).model_dump(mode="json")
    return Rollout(
        id=rollout_id,
        service=service,
        generation=1,
        phase=Phase.QUEUED,
        plan=said,
        plan_digest=digest_of(canonical_json(said)),
        baseline=baseline,
        baseline_key=baseline_key,
        candidates=tuple(candidates),
        created_by=actor,
        created_at_ns=now_ns,
        phase_since_ns=now_ns,
        reason="waits for its turn",
        deadline_ns=now_ns + round(plan.max_duration_s * S_NS),
    )

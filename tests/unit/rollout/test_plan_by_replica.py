"""Rolling plans: a step for each process, and what cannot be compared within one is left out."""

from __future__ import annotations

import msgspec
import pytest
from pydantic import ValidationError
from tests.support.rollout_states import rollout

from taxiway.config.rollout_plan import RolloutPlan
from taxiway.rollout.desired import desired_traffic
from taxiway.rollout.nouns import Phase
from taxiway.rollout.plan import completed
from taxiway.rollout.shares import weights_of


def _plan(**said: object) -> RolloutPlan:
    return RolloutPlan.model_validate({"to": "7", "strategy": "rolling", **said})


def test_each_process_is_a_step_and_the_unit() -> None:
    plan = completed(_plan(), replicas=4)
    assert list(plan.steps) == [25, 50, 75, 100]
    assert list(plan.units) == ["replica"]
    assert completed(plan, replicas=4) == plan
    assert len(completed(_plan(), replicas=200).steps) == 50


def test_one_process_alone_takes_the_steps_of_a_canary() -> None:
    plan = completed(_plan(), replicas=1)
    assert (plan.steps, plan.units) == (RolloutPlan().steps, RolloutPlan().units)


def test_what_is_said_stays() -> None:
    plan = completed(_plan(steps=[50, 100], units=["api-key"]), replicas=4)
    assert (plan.steps, plan.units) == ((50, 100), ("api-key",))


def test_there_is_no_twin_and_the_fuse_only_knows_rows_of_failures() -> None:
    plan = completed(_plan(), replicas=2).model_dump()
    stepping = msgspec.structs.replace(rollout(**plan), phase=Phase.STEP, step=0)
    assert weights_of(stepping) == {"control": 0.5, "candidate": 0.5}
    (fuse,) = desired_traffic(stepping).fuses
    assert fuse.bad_requests is None


def test_the_replica_stands_alone() -> None:
    with pytest.raises(ValidationError, match="has replica beside others"):
        _plan(units=["replica", "api-key"])

"""Rollouts to test with, and verdicts to tell them."""

from __future__ import annotations

from typing import Any

from taxiway.config.rollout_plan import RolloutPlan
from taxiway.rollout.nouns import Candidate, Outcome, Rollout, Verdict
from taxiway.rollout.plan import new_rollout, wanted_arms

NOW_NS = 1_790_000_000_000_000_000
S_NS = 1_000_000_000


def rollout(**plan: Any) -> Rollout:
    """Of `pay`, from version 1 to 7 (and on), waiting for its turn."""
    wanted = RolloutPlan.model_validate({"to": "7", **plan} if "arms" not in plan else plan)
    candidates = [
        Candidate(name, 7 + place, f"sha256:{place}", f"/models/pay{place}", percent)
        for place, (name, _, percent) in enumerate(wanted_arms(wanted))
    ]
    return new_rollout("r-1", "pay", wanted, 1, "pay", candidates, actor="ada", now_ns=NOW_NS)


def verdict(outcome: Outcome, *, bad: int = 0, mismatch: str = "", arms: dict[str, Outcome] | None = None) -> Verdict:
    """As the analysis gives it."""
    return Verdict(outcome, arms or {"candidate": outcome}, (), mismatch, bad, f"it is {outcome.value}")

"""What a guard has to reach, and what it found: the words between the judge and its guards."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from taxiway.rollout.nouns import BASELINE, CONTROL, Evidence, Segment, Tally

_SOME: Final = 0.1
"""Nats from which on evidence says how fast it grows."""


class Terms(Struct, frozen=True):
    """One guard of the plan.

    Attributes:
        guard: its settings, as `config.rollout_plan.GuardSettings` dumps them.
        harm_at, safe_at: the evidence that it has to reach, in nats.
        alpha, beta: the same as probabilities.
        next_share: of the requests that the arm would get by the next step.
        exact_shares: requests are split one by one, so that an arm's share of them is its weight.
    """

    guard: Mapping[str, Any]
    harm_at: float
    safe_at: float
    alpha: float
    beta: float
    next_share: float = 1.0
    exact_shares: bool = True


class Reading(Struct, frozen=True):
    """What one guard found, before it is put into words.

    Attributes:
        events: bad ones, or what else it rests on, of the candidate and of the other.
        more_events: further bad events that decide it, at the present ratio; None: nobody can tell.
        more_share: how much more of all evidence decides it, as a share of what there is; None: nobody can tell.
        note: what a person has to know beside the numbers.
        difference: the effect is a difference of scores, and no ratio.
    """

    log_e_harm: float
    log_e_safe: float
    effect: float | None
    low: float | None
    high: float | None
    candidate: int
    baseline: int
    more_events: int | None = None
    more_share: float | None = None
    note: str = ""
    difference: bool = False


def nothing(note: str, candidate: int = 0, baseline: int = 0) -> Reading:
    """Nothing can be said, and why."""
    return Reading(0.0, 0.0, None, None, None, candidate, baseline, note=note)


def more_share(harm: float, safe: float, worse: bool, terms: Terms) -> float | None:
    """How much more decides it, where evidence grows in proportion to what there is: once there is some."""
    log_e, aim = (harm, terms.harm_at) if worse else (safe, terms.safe_at)
    decided = harm >= terms.harm_at or safe >= terms.safe_at
    return aim / log_e - 1 if not decided and log_e > _SOME else None


def terms_of(plan: Mapping[str, Any], evidence: Evidence, arm: str, arms: int, *, exact_shares: bool) -> list[Terms]:
    """The plan's guards for one of so many arms: alpha is shared by all of them by their weights, and by the arms.

    Guards that are only shown get the alpha of their weight, and take none from the others.
    """
    said = plan["guards"]
    total = sum(guard["weight"] for guard in said["metrics"] if not guard["exploratory"]) or 1.0
    beta: float = said["beta"]
    share = _next_share(plan, evidence, arm)
    made = []
    for guard in said["metrics"]:
        alpha = min(said["alpha"] * guard["weight"] / total / max(arms, 1), said["alpha"])
        made.append(Terms(guard, math.log(1 / alpha), math.log(1 / beta), alpha, beta, share, exact_shares))
    return made


def _next_share(plan: Mapping[str, Any], evidence: Evidence, arm: str) -> float:
    """What the arm gets by the next step; all, where there are no steps."""
    if plan["strategy"] == "ab" or not evidence.segments:
        return 1.0
    now = evidence.segments[-1].weights.get(arm, 0.0) * 100
    return float(next((step for step in plan["steps"] if step > now + 1e-9), 100.0)) / 100


def tally_of(segment: Segment, arm: str) -> Tally:
    """What is known of an arm in a segment; nothing, if it had no share."""
    return segment.tallies.get(arm) or Tally()


def tallies_of(evidence: Evidence, arm: str) -> list[Tally]:
    """What is known of an arm, segment by segment."""
    return [segment.tallies[arm] for segment in evidence.segments if arm in segment.tallies]


def others_in(segment: Segment, *, same_load: bool) -> Sequence[str]:
    """The arms of the version served now that a candidate is compared with.

    Args:
        segment: in which they may have a share, or not.
        same_load: what is compared depends on the load: then it is the twin alone, if there is one.
    """
    present = [arm for arm in (BASELINE, CONTROL) if segment.weights.get(arm, 0.0) > 0]
    return present[:1] if same_load else present

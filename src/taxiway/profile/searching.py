"""Finds the highest rate at which an open target keeps its SLO: has `slo_search` ask, and measures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from taxiway.core.errors import InvalidArgument
from taxiway.profile.arrivals import MAX_REQUESTS, Replay
from taxiway.profile.outcome import Profile
from taxiway.profile.plan import Plan
from taxiway.profile.running import NothingDue, run_profile
from taxiway.profile.samples import OK, Samples
from taxiway.profile.slo_search import Ask, Found, Sample, SloPlan, run_search_async
from taxiway.profile.slos import Slo
from taxiway.profile.targets.target import Target
from taxiway.profile.workload import Workload

_HOPELESS: Final = 0.5
"""A target that answered less than this share of what was due in time has lost, however few requests that were."""
_LEAST_ASKED: Final = 20

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Searched:
    """What the search found, and what makes it doubtful.

    Attributes:
        doubts: rates at which the generator was late, with why; they may be higher than they seem.
    """

    found: Found
    doubts: tuple[str, ...] = field(default=())


async def search_slo(
    plan: Plan, slo: Slo, target: Target, workload: Workload | None = None, tell: Tell = lambda _: None
) -> Searched:
    """The highest rate that keeps `slo`; each is measured `plan.duration_s` at most, from `plan.rate_per_s` on.

    Args:
        plan: of each run; its arrivals take whatever rate they are given.
        slo: what is to be kept.
        target: opened by the caller, who closes it.
        workload: what is asked.
        tell: is told what is measured next.

    Raises:
        InvalidArgument: the SLO bounds no latency, or the loop is closed.
    """
    if plan.concurrency is not None or plan.all_at_once:
        raise InvalidArgument("a closed loop has no rate to search", hint="leave --concurrency out")
    if not (slo.latency_ms or slo.first_ms or slo.per_output_ms):
        raise InvalidArgument("the SLO bounds no latency", hint="--slo 'p99<50ms'")
    stages = Stages(plan)
    doubts: list[str] = []

    async def measure(ask: Ask) -> Sample:
        tell(f"measuring {ask.rate_per_s:.4g}/s for {ask.seconds:g} s")
        run = stages.plan(ask)
        kept: list[Samples] = []
        try:
            profile = await run_profile(run, target, workload, kept.append)
        except NothingDue:
            return Sample(0, 0, 0.0)
        stages.ran(ask, len(kept[0].rows))
        counted = kept[0].after(run.warm_up_s)
        if len(counted.rows) and not profile.valid:
            doubts.append(f"{ask.rate_per_s:.4g}/s: {profile.reasons[0]}")
        return sample_of(counted, slo, profile)

    least = min(plan.rate_per_s, _LEAST_ASKED / plan.duration_s)
    wanted = SloPlan(
        plan.rate_per_s,
        plan.duration_s,
        slo.percentile / 100,
        least_per_s=least,
        most_per_s=MAX_REQUESTS / (plan.warm_up_s + plan.duration_s),
        first_s=2 * plan.warm_up_s,
    )
    return Searched(await run_search_async(wanted, measure), tuple(doubts))


class Stages:
    """The run of each stage: no two draw the same arrivals, and a replay of a rate goes on where it was left."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._asked = 0
        self._sent: Counter[float] = Counter()

    def plan(self, ask: Ask) -> Plan:
        """Of the next stage."""
        self._asked += 1
        plan = replace(self._plan.at(ask.rate_per_s), duration_s=ask.seconds, seed=self._plan.seed + self._asked)
        arrivals = plan.arrivals
        if not isinstance(arrivals, Replay):
            return plan
        begin = self._sent[ask.rate_per_s] % len(arrivals.times_s)
        return replace(plan, arrivals=replace(arrivals, scale=None, repeats=True, begin=begin))

    def ran(self, ask: Ask, requests: int) -> None:
        """It took so many requests of a replay."""
        self._sent[ask.rate_per_s] += requests


def sample_of(counted: Samples, slo: Slo, profile: Profile) -> Sample:
    """How many of these requests broke the SLO, whichever bound; one that failed did."""
    answered = counted.ending == OK
    times = np.where(answered, np.stack(_ratios(counted, slo)).max(axis=0), np.inf)
    hopeless = profile.achieved_per_s < _HOPELESS * profile.offered_per_s and len(counted.rows) >= _LEAST_ASKED
    return Sample.of(times.tolist(), 1.0, hopeless=hopeless)


def _ratios(counted: Samples, slo: Slo) -> list[NDArray[np.float64]]:
    """Each time by its bound, shape (requests,)."""
    ratios = []
    if slo.latency_ms:
        ratios.append((counted.done - counted.due) * 1e3 / slo.latency_ms)
    if slo.first_ms:
        ratios.append(np.nan_to_num((counted.first - counted.due) * 1e3 / slo.first_ms, nan=np.inf))
    if slo.per_output_ms:
        each = (counted.done - counted.first) * 1e3 / np.maximum(counted.tokens - 1, 1)
        ratios.append(np.nan_to_num(each / slo.per_output_ms, nan=np.inf))
    return ratios

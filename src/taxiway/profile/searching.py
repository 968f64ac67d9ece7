"""Finds the highest rate at which an open target keeps its SLO: has `slo_search` ask, and measures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from taxiway.core.errors import InvalidArgument
from taxiway.profile.arrivals import Replay
from taxiway.profile.outcome import Profile
from taxiway.profile.plan import Plan
from taxiway.profile.running import run_profile
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
    if isinstance(plan.arrivals, Replay):  # as it came, but at the rate that is tried
        plan = replace(plan, arrivals=replace(plan.arrivals, scale=None, repeats=True))
    doubts: list[str] = []
    asked = 0

    async def measure(ask: Ask) -> Sample:
        nonlocal asked
        asked += 1
        tell(f"measuring {ask.rate_per_s:.4g}/s for {ask.seconds:g} s")
        run = replace(plan.at(ask.rate_per_s), duration_s=ask.seconds, seed=plan.seed + asked)
        kept: list[Samples] = []
        profile = await run_profile(run, target, workload, kept.append)
        if not profile.valid:
            doubts.append(f"{ask.rate_per_s:.4g}/s: {profile.reasons[0]}")
        return sample_of(kept[0].after(run.warm_up_s), slo, profile)

    least = min(plan.rate_per_s, _LEAST_ASKED / plan.duration_s)
    wanted = SloPlan(
        plan.rate_per_s, plan.duration_s, slo.percentile / 100, least_per_s=least, first_s=2 * plan.warm_up_s
    )
    return Searched(await run_search_async(wanted, measure), tuple(doubts))


def sample_of(counted: Samples, slo: Slo, profile: Profile) -> Sample:
    """How many of these requests broke the SLO, whichever bound; one that failed did."""
    answered = counted.ending == OK
    times = np.stack(list(_ratios(counted, slo)), axis=1)[answered].max(axis=1, initial=0.0)
    failed = int(np.count_nonzero(~answered))
    hopeless = profile.achieved_per_s < _HOPELESS * profile.offered_per_s and len(counted.rows) >= _LEAST_ASKED
    return Sample.of(times.tolist(), 1.0, failed, hopeless=hopeless)


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

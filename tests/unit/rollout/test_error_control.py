"""How often rollouts are decided wrongly: `benchmarks.rollout_errors` in short, which computes as the judge does."""

from __future__ import annotations

import math

import numpy as np
import pytest
from benchmarks.rollout_errors import ALPHA, BASE, BETA, LOG_HARM, LOG_SAFE, MARGIN, guards_of, null_times, null_walks
from benchmarks.rollout_simulation import STEPS, EventGuard, Lateness, Rates, Schedule, World, walk, watch_times

from taxiway.config.rollout_plan import DEFAULT_GUARDS, GuardSettings, RolloutPlan
from taxiway.core.traffic import ArmCounts
from taxiway.rollout.analysis import judge
from taxiway.rollout.nouns import BASELINE, CANDIDATE, CONTROL, Evidence, Segment, Tally
from taxiway.rollout.slots import S_NS, Slots, SlotTerms, cut
from taxiway.stats.log_buckets import LogHistogram

RUNS = 300


def test_equal_candidates_are_seldom_turned_back_and_mostly_promoted() -> None:
    walks = null_walks(RUNS, seed=7, seconds=1800)
    wrong = (walks.rolled_back >= 0) | null_times(RUNS, seed=8, seconds=300)
    assert wrong.mean() <= ALPHA / 2
    assert (walks.promoted >= 0).mean() > 0.8


def test_candidates_at_the_boundary_seldom_pass() -> None:
    guard = EventGuard(RUNS, MARGIN, 0.0, LOG_HARM, LOG_SAFE)
    pair = {"errors": (guard, Rates(BASE * (1 + MARGIN), BASE))}
    found = walk(World(rate=1000), pair, Schedule(RUNS, 900, min_step_s=0, first_step=4), seed=9)
    assert (found.promoted >= 0).mean() <= BETA
    assert (found.rolled_back >= 0).mean() <= ALPHA


def test_four_times_the_errors_are_found_in_two_minutes() -> None:
    found = walk(World(), guards_of(RUNS, 4 * BASE), Schedule(RUNS, 600, first_step=1, min_step_s=600), seed=10)
    times = np.where(found.rolled_back < 0, math.inf, found.rolled_back)
    assert np.median(times) <= 120


def test_the_simulation_is_of_the_plan_that_is_the_default() -> None:
    guards: dict[str, GuardSettings] = {guard.metric: guard for guard in DEFAULT_GUARDS}
    assert len(DEFAULT_GUARDS) == 6
    for name, (guard, _) in guards_of(1, BASE).items():
        assert (guards[name].margin, guards[name].allowance) == (guard.margin, guard.allowance)
    how = Lateness()
    assert (guards["slow-slots"].quantile, guards["slow-slots"].margin) == (how.slow_quantile, how.slow_margin)
    assert (guards["latency"].quantile, guards["latency"].margin) == (how.quantile, how.margin)


@pytest.mark.parametrize("exact", [False, True])
def test_bad_events_are_judged_as_the_judge_does(exact: bool) -> None:
    runs = 12
    guards = guards_of(runs, 0.01)
    for guard, _ in guards.values():
        guard.exact = exact
    walk(World(), guards, Schedule(runs, 400), seed=11)
    units = ["request-id"] if exact else ["api-key", "request-id"]
    plan = RolloutPlan(to="7", units=tuple(units)).model_dump(mode="json")
    for run in range(runs):
        step = max(number for number in range(5) if guards["errors"][0].counts[number, 0, run])
        live, here = np.array([run]), np.array([step])
        told = {one.metric: one for one in judge(_evidence(guards, run, step), plan, [CANDIDATE]).guards}
        for name, (guard, _) in guards.items():
            assert told[name].log_e_harm == pytest.approx(float(guard.harm(live, here)[0]), abs=1e-6), name
            assert told[name].log_e_safe == pytest.approx(float(guard.safe(live, here)[0]), abs=1e-6), name


def _evidence(guards: dict[str, tuple[EventGuard, Rates]], run: int, last: int) -> Evidence:
    """What was counted: what one guard counts is none of the others' trials here, but where they are the same."""
    segments = []
    for number in range(last + 1):
        weight = STEPS[number]
        weights = {CANDIDATE: weight, BASELINE: min(weight, 1 - weight), CONTROL: max(0.0, 1 - 2 * weight)}
        bad = {name: guard.counts[number, :, run] for name, (guard, _) in guards.items()}
        tallies = {arm: Tally() for arm, share in weights.items() if share}
        for arm, place in ((CANDIDATE, 0), (BASELINE, 2)):
            tally = tallies[arm]
            tally.timed_out, tally.refused = int(bad["timeouts"][place + 1]), int(bad["refusals"][place + 1])
            tally.answered = int(bad["timeouts"][place]) - tally.timed_out - tally.refused
            tally.checked = int(bad["invalid-output"][place]) if arm == CANDIDATE else 0
        tallies[CANDIDATE].failed = int(bad["errors"][1])
        tallies[CANDIDATE].answered -= tallies[CANDIDATE].failed
        tallies[CANDIDATE].invalid = int(bad["invalid-output"][1])
        # Errors and invalid output are compared with all that is old: what the twin has not is the rest's.
        rest = tallies.get(CONTROL, tallies[BASELINE])
        rest.failed, rest.checked = int(bad["errors"][3]), int(bad["invalid-output"][2])
        rest.invalid = int(bad["invalid-output"][3])
        twin = tallies[BASELINE]
        if rest is twin:
            twin.answered -= rest.failed
        else:
            rest.answered = int(bad["errors"][2] - bad["timeouts"][2]) - rest.failed
        for tally in tallies.values():
            tally.assigned = tally.answered + tally.failed + tally.timed_out + tally.refused
        segments.append(Segment(number, weights, tallies, 60.0))
    return Evidence(segments)


def test_slots_are_cut_as_the_simulation_says() -> None:
    """One process and run of the simulation, drawn again and told as reports."""
    how = Lateness(processes=1, rate=20.0, ratio=1.3)
    world, seconds, found = World(rate=50), 120, {CANDIDATE: [0, 0], BASELINE: [0, 0]}
    drawn: list[tuple[np.ndarray, np.ndarray]] = []
    times = watch_times(world, how, runs=1, seconds=seconds, seed=12, log_harm=LOG_HARM, log_safe=LOG_SAFE, drawn=drawn)
    slots, terms = Slots(), SlotTerms(BASELINE, [BASELINE], how.slow_quantile, how.slow_margin)
    totals = {arm: LogHistogram() for arm in found}
    for number, pair in enumerate([(np.empty((1, 1, 0)), np.empty((1, 1, 0))), *drawn]):
        for arm, buckets in zip((CANDIDATE, BASELINE), pair, strict=True):
            for bucket in buckets.reshape(-1):
                totals[arm].counts[int(bucket)] += int(bucket) >= 0
        counts = {arm: ArmCounts(arm, 1, latency=totals[arm].to_sparse()) for arm in found}
        for arm, closed in cut(slots, counts, 1, number * 5 * S_NS + 1, terms, counted=True).items():
            if number * 5 > how.history_s:
                found[arm][0] += closed.slots
                found[arm][1] += closed.slow
    assert found[CANDIDATE][0] == seconds // 5
    assert [found[arm][1] / found[arm][0] for arm in found] == pytest.approx(times.slow)

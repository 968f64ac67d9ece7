"""From reports to evidence: nothing doubled, nothing lost, and silence is never evidence."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from tests.support.rollout_reports import S_NS, SPLIT, Look, Plane, Watcher

from taxiway.core.traffic import Report
from taxiway.rollout.evidence import SEALED_S, Gathered, add_calls, add_scores, evidence_of
from taxiway.rollout.nouns import BASELINE, CANDIDATE, CONTROL, Calls, Evidence, Outcome, Score, Tally

LEAST_S = 120.0


def total(evidence: Evidence, arm: str = CANDIDATE, field: str = "answered") -> int:
    return sum(getattr(segment.tallies.get(arm, Tally()), field) for segment in evidence.segments)


def seconds(watcher: Watcher, plane: Plane, count: int) -> list[Look]:
    """So many seconds of traffic, looked at each second."""
    looks = []
    for _ in range(count):
        plane.serve(1.0)
        degraded = watcher.take(plane.reports(), plane.rules(), plane.now_ns)
        looks.append(Look(None, watcher.gathered.evidence_s, degraded))  # type: ignore[arg-type]
    return looks


# --- sums ------------------------------------------------------------------------------------------------------


def test_what_settles_is_left_out_and_the_rest_adds_up_over_processes() -> None:
    plane, watcher = Plane(), Watcher()
    seconds(watcher, plane, 6)
    before = {one.boot: one.of(CANDIDATE, 1).assigned for one in plane.processes}
    seconds(watcher, plane, 20)
    counted = total(evidence_of(watcher.gathered), field="assigned")
    since = sum(one.of(CANDIDATE, 1).assigned - before[one.boot] for one in plane.processes)
    assert since < counted < since + 60  # the base is the last look of the five seconds
    assert watcher.gathered.evidence_s == pytest.approx(20, abs=2)


def test_reports_lost_or_heard_twice_change_nothing() -> None:
    plane, steady, shaky = Plane(), Watcher(), Watcher()
    for number in range(40):
        plane.serve(1.0)
        steady.take(plane.reports(), plane.rules(), plane.now_ns)
        if number % 3 or number < 8 or number > 36:
            for _ in range(1 + number % 2):
                shaky.take(plane.reports(), plane.rules(), plane.now_ns)
    one, other = evidence_of(steady.gathered), evidence_of(shaky.gathered)
    for arm in SPLIT:
        for field in ("assigned", "answered", "failed", "latency"):
            assert getattr(one.segments[0].tallies[arm], field) == getattr(other.segments[0].tallies[arm], field)


def test_a_state_that_went_through_json_goes_on_bit_for_bit() -> None:
    plane, kept, anew = Plane(), Watcher(), Watcher()
    state = Gathered()
    from taxiway.rollout.evidence import gather

    for number in range(60):
        if number == 30:
            plane.shift({CANDIDATE: 0.25, BASELINE: 0.25, CONTROL: 0.5})
        plane.serve(1.0)
        gather(state, plane.reports(), plane.rules(), plane.now_ns)
        anew.take(plane.reports(), plane.rules(), plane.now_ns)
    kept.gathered = state
    assert msgspec.json.encode(evidence_of(state)) == msgspec.json.encode(evidence_of(anew.gathered))
    assert msgspec.json.encode(kept.judge()) == msgspec.json.encode(anew.judge())


def test_an_older_report_heard_late_changes_nothing() -> None:
    plane, watcher = Plane(), Watcher()
    seconds(watcher, plane, 10)
    old = plane.reports()
    seconds(watcher, plane, 10)
    before = evidence_of(watcher.gathered)
    assert watcher.take(old, plane.rules(), plane.now_ns) == ""
    assert evidence_of(watcher.gathered) == before


def test_a_process_that_starts_in_between_counts_from_its_beginning() -> None:
    plane, watcher = Plane(processes=1), Watcher()
    seconds(watcher, plane, 10)
    gone = plane.processes.pop()
    plane.start("boot-new")
    seconds(watcher, plane, 10)
    new = plane.processes[0]
    base = watcher.gathered.boots[gone.boot].courses[1][CANDIDATE].base.assigned
    assert total(evidence_of(watcher.gathered), field="assigned") == (
        gone.of(CANDIDATE, 1).assigned - base + new.of(CANDIDATE, 1).assigned
    )


def test_segments_that_are_long_over_become_sums() -> None:
    plane, watcher = Plane(), Watcher()
    seconds(watcher, plane, 15)
    plane.shift({CANDIDATE: 0.25, BASELINE: 0.25, CONTROL: 0.5})
    seconds(watcher, plane, 15)
    before = evidence_of(watcher.gathered).segments[0]
    for _ in range(int(SEALED_S / 20) + 2):
        plane.now_ns += 20 * S_NS
        watcher.take(plane.reports(), plane.rules(), plane.now_ns)
    assert 1 in watcher.gathered.sealed
    assert all(1 not in boot.courses for boot in watcher.gathered.boots.values())
    assert evidence_of(watcher.gathered).segments[0] == before


def test_each_segment_keeps_its_weights_and_settles_anew() -> None:
    plane, watcher = Plane(), Watcher()
    seconds(watcher, plane, 15)
    plane.shift({CANDIDATE: 0.5, BASELINE: 0.5})
    seconds(watcher, plane, 15)
    first, second = evidence_of(watcher.gathered).segments
    assert (first.weights, second.weights) == (SPLIT, {CANDIDATE: 0.5, BASELINE: 0.5})
    assert second.evidence_s == watcher.gathered.evidence_s == pytest.approx(10, abs=2)
    assert second.tallies[CANDIDATE].assigned < 15 * 200 * 0.5


# --- slots -----------------------------------------------------------------------------------------------------


def test_slots_find_an_arm_that_is_slower_than_its_margin() -> None:
    plane, watcher = Plane(processes=1), Watcher()
    plane.arms[CANDIDATE].typical_ms *= 1.5
    seconds(watcher, plane, 120)
    tallies = evidence_of(watcher.gathered).segments[0].tallies
    assert tallies[CANDIDATE].slots == tallies[BASELINE].slots == pytest.approx(21, abs=2)
    assert tallies[CANDIDATE].slow_slots > 3 * tallies[BASELINE].slow_slots
    cost = tallies[CANDIDATE].cost
    assert cost.n >= 20
    assert cost.total / cost.n == pytest.approx(0.0, abs=0.02)


def test_a_slot_that_nobody_looked_at_is_none() -> None:
    plane, watcher = Plane(processes=1), Watcher()
    seconds(watcher, plane, 60)
    before = evidence_of(watcher.gathered).segments[0].tallies[CANDIDATE].slots
    plane.now_ns += 3600 * S_NS
    seconds(watcher, plane, 4)
    assert evidence_of(watcher.gathered).segments[0].tallies[CANDIDATE].slots == before


# --- silence ---------------------------------------------------------------------------------------------------


def none(_plane: Plane, _reports: list[Report]) -> list[Report]:
    return []


def frozen() -> Callable[[Plane, list[Report]], list[Report]]:
    kept: list[Report] = []

    def same(_plane: Plane, reports: list[Report]) -> list[Report]:
        if not kept:
            kept.extend(reports)
        return kept

    return same


def not_a_number(_plane: Plane, reports: list[Report]) -> list[Report]:
    reports[0].counts[0].answered = math.nan  # type: ignore[assignment]
    return reports


def behind(_plane: Plane, reports: list[Report]) -> list[Report]:
    for report in reports:
        report.generation -= 1
    return reports


def not_ready(_plane: Plane, reports: list[Report]) -> list[Report]:
    state = msgspec.structs.replace(reports[0].states[0], ready=False, reason="it was killed")
    reports[0].states[0] = state
    return reports


def fewer(_plane: Plane, reports: list[Report]) -> list[Report]:
    for report in reports:
        for counts in report.counts:
            counts.answered //= 2
    return reports


TROUBLE: dict[str, Any] = {
    "source down": lambda: none,
    "stale": frozen,
    "not a number": lambda: not_a_number,
    "an older generation": lambda: behind,
    "an arm is not ready": lambda: not_ready,
    "counters that go backwards": lambda: fewer,
}


@pytest.mark.parametrize("trouble", TROUBLE)
def test_silence_and_nonsense_promote_nobody(trouble: str) -> None:
    plane, watcher, spoil = Plane(), Watcher(), TROUBLE[trouble]()
    seconds(watcher, plane, 60)
    rules = plane.rules()
    for number in range(0, 3600, 5):
        plane.serve(5.0) if number < 200 else plane.wait(5.0)
        degraded = watcher.take(spoil(plane, plane.reports()), rules, plane.now_ns)
        assert not (watcher.gathered.evidence_s >= LEAST_S and not degraded), f"after {number} s"
    assert watcher.gathered.evidence_s < LEAST_S
    assert watcher.gathered.evidence_s == pytest.approx(55, abs=5)


def test_without_requests_nobody_is_promoted() -> None:
    plane, watcher = Plane(), Watcher()
    seconds(watcher, plane, 60)
    before, degraded = watcher.gathered.evidence_s, ""
    for _ in range(60):
        plane.wait(10.0)
        degraded = watcher.take(plane.reports(), plane.rules(), plane.now_ns)
    assert watcher.gathered.evidence_s == before
    assert "nothing came of" in degraded


def test_without_requests_for_the_candidate_nobody_is_promoted() -> None:
    plane, watcher = Plane(), Watcher()
    seconds(watcher, plane, 60)
    before, rules, degraded = watcher.gathered.evidence_s, plane.rules(), ""
    plane.weights = {CANDIDATE: 0.0, BASELINE: 0.5, CONTROL: 0.5}
    for _ in range(60):
        plane.serve(5.0)
        degraded = watcher.take(plane.reports(), rules, plane.now_ns)
    assert watcher.gathered.evidence_s == before
    assert "nothing came of candidate" in degraded


@pytest.mark.parametrize("jump_s", [3600, -3600])
def test_a_clock_that_jumps_an_hour_promotes_nobody_early(jump_s: int) -> None:
    plane, watcher = Plane(), Watcher()
    seconds(watcher, plane, 60)
    before = watcher.gathered.evidence_s
    plane.now_ns += jump_s * S_NS
    first, *_ = seconds(watcher, plane, 1)
    assert first.degraded
    assert watcher.gathered.evidence_s == before
    looks = seconds(watcher, plane, 100)
    reached = next(number for number, look in enumerate(looks) if look.evidence_s >= LEAST_S)
    assert reached >= LEAST_S - before - 3
    assert looks[-1].degraded == ""


def test_a_jump_does_not_cut_the_time_to_settle_short() -> None:
    plane, watcher = Plane(), Watcher()
    seconds(watcher, plane, 2)
    plane.now_ns += 3600 * S_NS
    seconds(watcher, plane, 4)
    assert total(evidence_of(watcher.gathered), field="assigned") == 0
    seconds(watcher, plane, 4)
    assert total(evidence_of(watcher.gathered), field="assigned") > 0


def test_a_control_process_that_was_down_for_an_hour_does_not_promote_on_waking() -> None:
    plane, watcher = Plane(), Watcher()
    seconds(watcher, plane, 60)
    before = watcher.gathered.evidence_s
    for _ in range(36):
        plane.serve(1.0)
        plane.now_ns += 99 * S_NS  # nobody looks
    assert "nobody looked" in seconds(watcher, plane, 1)[0].degraded
    assert watcher.gathered.evidence_s == before


def test_a_process_that_falls_silent_holds_the_rollout_until_it_is_thought_gone() -> None:
    plane, watcher = Plane(), Watcher()
    seconds(watcher, plane, 20)
    plane.processes.pop()
    degraded = [look.degraded for look in seconds(watcher, plane, 70)]
    assert degraded[0] == ""
    assert "has not reported for" in degraded[10]
    assert degraded[-1] == ""


def test_healthy_traffic_is_promoted_or_the_tests_above_prove_nothing() -> None:
    plane, watcher = Plane(), Watcher(steps=[10, 100])
    plane.shift({CANDIDATE: 0.5, BASELINE: 0.5})
    seconds(watcher, plane, 130)
    plane.serve(1.0)
    look = watcher.look(plane)
    assert look.goes_on(LEAST_S), look
    assert look.verdict.outcome is Outcome.PASS


# --- scores ----------------------------------------------------------------------------------------------------


def test_scores_that_are_alike_are_one_and_nonsense_is_told() -> None:
    gathered = Gathered()
    scores = [Score(CANDIDATE, "feedback", 0.1, 1.0), Score(CANDIDATE, "feedback", 0.1, 1.0)]
    assert add_scores(gathered, [*scores, Score(CONTROL, "feedback", 0.9, 0.5)]) == ""
    assert [one.count for one in gathered.scores] == [2, 1]
    for wrong in (math.nan, -0.1, 1.5):
        assert "must be from 0 to 1" in add_scores(gathered, [Score(CANDIDATE, "feedback", 0.1, wrong)])
    assert "must be" in add_scores(gathered, [Score(CANDIDATE, "judge", 0.1, 0.5, math.nan)])
    assert [one.count for one in gathered.scores] == [2, 1]


def test_an_arm_whose_answers_a_function_often_fails_at_has_no_evidence_until_it_does_so_seldom() -> None:
    gathered = Gathered()
    judged, pair = Score(CANDIDATE, "judge", 0.1, 1.0), Score(CANDIDATE, "shadow", 0.1, 0.5, 1.0)
    add_scores(gathered, [judged, pair])
    assert add_calls(gathered, {CANDIDATE: Calls(199, 1, "KeyError"), CONTROL: Calls(5000)}) == ""
    assert evidence_of(gathered).scores == [judged, pair]
    told = add_calls(gathered, {CANDIDATE: Calls(2, 2, "MemoryError")})
    assert told == "3 of 201 answers of candidate have no score: MemoryError"
    kept = msgspec.json.decode(msgspec.json.encode(gathered), type=Gathered)
    assert add_calls(kept, {CONTROL: Calls(1)}) == told, "a control process that is started anew knows it still"
    assert evidence_of(kept).scores == [pair]
    assert add_calls(gathered, {CANDIDATE: Calls(99)}) == ""
    assert evidence_of(gathered).scores == [judged, pair]
    assert (
        add_calls(Gathered(), {CONTROL: Calls(1, 1, "KeyError")}) == "1 of 1 answers of control have no score: KeyError"
    )

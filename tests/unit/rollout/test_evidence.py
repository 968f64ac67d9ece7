"""Evidence: what is counted, what is left out, and that silence and broken sources never add up to anything."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from taxiway.core.traffic import ArmCounts, ArmState, Report
from taxiway.rollout.evidence import Gathered, Rules, evidence_of, gather
from taxiway.rollout.nouns import CANDIDATE, CONTROL, Tally

S_NS = 1_000_000_000
RULES = Rules("r-1", 5, 3, {CANDIDATE: 0.5, CONTROL: 0.5}, CONTROL, (CANDIDATE, CONTROL), 2.0)


def counts(arm: str, answered: int, **more: Any) -> ArmCounts:
    latency = more.pop("latency", [(400, answered)] if answered else [])
    return ArmCounts(arm, more.pop("segment", 3), answered, answered, latency=latency, **more)


def report(answered: int, boot: str = "one", **more: Any) -> Report:
    arms = [counts(CANDIDATE, answered), counts(CONTROL, answered)]
    said: dict[str, Any] = {
        "counts": arms,
        "states": [ArmState(CANDIDATE, True, 0), ArmState(CONTROL, True, 0)],
        **more,
    }
    return Report(boot, 1, "pay", "r-1", said.pop("generation", 5), said["counts"], said["states"], [], [])


class Looking:
    """Looks once a second."""

    def __init__(self) -> None:
        self.gathered, self.now_s = Gathered(), 1000.0

    def look(self, *reports: Report, after_s: float = 1.0) -> str:
        self.now_s += after_s
        return gather(self.gathered, list(reports), RULES, round(self.now_s * S_NS))

    def tally(self, arm: str = CANDIDATE) -> Tally:
        found = evidence_of(self.gathered).segments
        return found[0].tallies[arm] if found else Tally()


def test_what_came_before_it_settled_is_left_out() -> None:
    looking = Looking()
    for answered in (100, 200, 300, 400, 500):
        assert looking.look(report(answered)) == ""
    assert looking.tally().answered == 200  # of the looks two seconds after the first one
    assert looking.tally().latency == [(400, 200)]
    assert looking.gathered.evidence_s == pytest.approx(2.0)


def test_a_report_that_is_lost_or_heard_twice_changes_nothing() -> None:
    one, other = Looking(), Looking()
    for answered in range(0, 1000, 100):
        one.look(report(answered))
        other.look(report(answered), report(answered))
    lost = Looking()
    for answered in range(0, 1000, 100):
        if answered not in (500, 600):
            lost.look(report(answered))
        else:
            lost.look()
    assert one.tally() == other.tally()
    assert lost.tally().answered == one.tally().answered


def test_processes_add_up_and_a_dead_one_keeps_what_it_counted() -> None:
    looking = Looking()
    for answered in (0, 0, 0, 100):
        looking.look(report(answered), report(answered, "two"))
    looking.look(report(200), report(0, "three"))
    assert looking.tally().answered == 300


@pytest.mark.parametrize(
    ("reports", "why"),
    [
        ([], "no data-plane process reports"),
        ([report(500, generation=4)], "follows generation 4, not 5"),
        ([report(10)], "counts less than it did before"),
        (
            [report(500, states=[ArmState(CANDIDATE, False, 0, "stalled")])],
            "candidate does not answer in process 1: stalled",
        ),
    ],
)
def test_a_source_that_is_down_stale_or_broken_is_told_and_adds_nothing(reports: list[Report], why: str) -> None:
    looking = Looking()
    for answered in (100, 200, 300, 400):
        looking.look(report(answered))
    before = looking.gathered.evidence_s
    assert why in looking.look(*reports)
    assert looking.gathered.evidence_s == before


def test_zero_traffic_and_clocks_that_jump_are_no_evidence() -> None:
    looking = Looking()
    for answered in (100, 200, 300, 400):
        looking.look(report(answered))
    before = looking.gathered.evidence_s
    for _ in range(100):
        looking.look(report(400))
    assert looking.gathered.evidence_s == before
    looking.look(report(900), after_s=3600.0)
    looking.look(report(950), after_s=-3600.0)
    assert looking.gathered.evidence_s == before


def test_only_one_arm_that_answers_is_no_evidence() -> None:
    looking = Looking()
    for answered in range(0, 1000, 100):
        looking.look(report(0, counts=[counts(CANDIDATE, 0), counts(CONTROL, answered)]))
    assert looking.gathered.evidence_s == 0.0


def test_slots_are_cut_and_slow_ones_found_by_the_minute_before() -> None:
    looking = Looking()
    quick, slow = 400, 440  # buckets: the second is more than twice as long
    for second in range(60):
        mine = [(quick, 20 * second)] if second < 40 else [(quick, 800), (slow, 20 * (second - 40))]
        arms = [
            counts(CANDIDATE, 20 * second, latency=mine),
            counts(CONTROL, 20 * second, latency=[(quick, 20 * second)]),
        ]
        looking.look(report(0, counts=arms))
    candidate, control = looking.tally(), looking.tally(CONTROL)
    assert candidate.slots == control.slots >= 9
    assert control.slow_slots == 0
    assert candidate.slow_slots in (3, 4)


def test_what_is_gathered_survives_the_journal_bit_for_bit() -> None:
    looking = Looking()
    for answered in range(0, 2000, 70):
        looking.look(report(answered))
    kept = msgspec.convert(
        json.loads(json.dumps(msgspec.to_builtins(looking.gathered, str_keys=True))), Gathered, strict=False
    )
    assert kept == looking.gathered
    assert evidence_of(kept) == evidence_of(looking.gathered)

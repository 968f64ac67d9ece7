"""Whatever happens to a rollout, in whatever order: what must stay true of it, in virtual time."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.support.rollout_walks import CREATOR, Walk, planned, verdict

from taxiway.core.errors import InvalidTransition, StaleGeneration
from taxiway.rollout.changing import Transition
from taxiway.rollout.commands import Abort, Advance, Approve, Command, Extend, Pause, Promote, Resume, Undo
from taxiway.rollout.desired import desired_companions, desired_traffic, released
from taxiway.rollout.events import (
    AdmissionRefused,
    Admitted,
    BaselineLost,
    Drained,
    Event,
    EvidenceLooked,
    FuseBlew,
    Staged,
    StagingFailed,
    Superseded,
    TimePassed,
    WeightsApplied,
)
from taxiway.rollout.machine import allowed, step
from taxiway.rollout.nouns import TERMINAL, Outcome, Phase, Rollout, Verdict
from taxiway.rollout.shares import candidate_share, weights

BACK = TERMINAL - {Phase.SUCCEEDED} | {Phase.ROLLING_BACK}
ARMS = [{"name": "new", "to": "7", "percent": 10}, {"name": "newer", "to": "8", "percent": 20}]
PLANS: list[dict[str, Any]] = [
    {"steps": [1, 50, 100]},
    {"steps": [10, 100], "shadow": {"pairs": 10}, "twin": False},
    {"strategy": "blue-green"},
    {"strategy": "shadow", "shadow": {"pairs": 10}},
    {"strategy": "rolling"},
    {"strategy": "ab", "arms": ARMS},
]
COMMANDS: list[Command] = [
    Pause(actor="bob"),
    Resume(actor="bob"),
    Advance(actor="bob", reason="so be it"),
    Promote(actor="bob"),
    Promote(actor="bob", full=True, reason="so be it"),
    Promote(actor="bob", arm="new"),
    Approve(actor="bob"),
    Extend(actor="bob", by_s=60),
    Abort(actor="bob"),
    Undo(actor="bob"),
]


def looks(*said: Verdict, pairs: int = 10, degraded: str = "") -> list[EvidenceLooked]:
    """With all the evidence that could be asked for, with too little, with none that is known."""
    return [
        EvidenceLooked(one, segment, evidence_s, "sha256:look", pairs=pairs, degraded=degraded)
        for one in said
        for segment in (0, -1)
        for evidence_s in (1e9, 120.0, 119.9, math.nan)
    ]


def fuses(*arms: str) -> list[FuseBlew]:
    """In the present generation, and before."""
    return [FuseBlew(arm, "20 requests in a row failed", ago) for arm in arms for ago in (0, -1, -3)]


GOOD = verdict("pass", new="pass", newer="pass")
WELL: list[Event] = [Admitted(), Staged(), WeightsApplied(0), Drained(), *looks(GOOD)[:2]]
"""Numbers of segments and generations are counted from those of the moment at which it is told."""
OTHER: list[Event] = [
    *looks(GOOD, verdict("inconclusive", new="pass"), verdict("error"), verdict("pass", new="error")),
    *looks(verdict("pass", bad=20), verdict("inconclusive", bad=5000), verdict("pass", mismatch="7 % came")),
    *looks(GOOD, pairs=9),
    *looks(GOOD, degraded="a process does not report"),
    WeightsApplied(-1),
    BaselineLost("the twin is gone"),
]
HARM: list[Event] = [
    *looks(verdict("fail"), verdict("fail", new="fail", newer="pass"), verdict("fail", newer="fail"))[::4],
    *fuses("candidate", "new", "newer", "baseline"),
    AdmissionRefused("no"),
    StagingFailed("no memory"),
    StagingFailed("no model", blame=True),
    Superseded("r-2", "eve"),
]
HAPPENS: list[Event] = [*WELL * 20, *OTHER, *HARM]
BEGUN = st.tuples(
    st.sampled_from(PLANS),
    st.sampled_from([False, False, True]),
    st.sampled_from([False, False, True]),
    st.sampled_from(["hold", "rollback", "approve"]),
    st.sampled_from(range(5)),
)
"""A plan, whether it waits, whether a person decided where it leads, what it does at its deadline, and how often all
that goes well is said first: few would get far else."""

Begun = tuple[dict[str, Any], bool, bool, str, int]


class RolloutMachine(RuleBasedStateMachine):
    """Rollouts one after the other, everything that may happen to them, and an hour that may pass at any time."""

    @initialize(begun=BEGUN)
    def begin(self, begun: Begun) -> None:
        words, queued, by_hand, on_inconclusive, well = begun
        plan = planned(**words, on_inconclusive=on_inconclusive, max_duration_s=3000, guard_for_s=100)
        self.walk = Walk.of(plan, queued=queued, by_hand=by_hand)
        if queued:
            self.dequeued = plan.dequeued()
        for event in WELL[:-1] * well:
            self._happens(event)

    def teardown(self) -> None:
        if hasattr(self, "walk"):
            self.walk.check_replay()

    # --- what happens -----------------------------------------------------------------------------------

    def tell(self, event: Event | Command) -> None:
        before = self.walk.now
        moved = self.walk.tell(event)
        if moved is not None:
            check_transition(before, event, moved)

    @rule(numbers=st.lists(st.sampled_from(range(len(HAPPENS))), min_size=1, max_size=6), begun=BEGUN)
    def is_told(self, numbers: list[int], begun: Begun) -> None:
        for number in numbers:
            self._happens(HAPPENS[number])
        if self.walk.now.phase in TERMINAL:
            self.walk.check_replay()
            self.begin(begun)

    def _happens(self, event: Event) -> None:
        if self.walk.at(Phase.QUEUED):
            self.tell(self.dequeued)
        try:
            self.tell(self._of_now(event))
        except InvalidTransition:
            assert isinstance(event, Superseded)

    def _of_now(self, event: Event) -> Event:
        now = self.walk.now
        match event:
            case EvidenceLooked():
                return msgspec.structs.replace(event, segment=now.segment + event.segment)
            case FuseBlew() | WeightsApplied():
                return msgspec.structs.replace(event, generation=max(1, now.generation + event.generation))
            case _:
                return event

    @rule(seconds=st.sampled_from([1, 600, 3600]))
    def grows_older(self, seconds: int) -> None:
        self.walk.wait(seconds)
        before = self.walk.now
        self.tell(TimePassed("sha256:look"))
        assert candidate_share(self.walk.now) <= candidate_share(before), "a clock raises nothing"

    @rule(command=st.sampled_from([*COMMANDS[:-2], *COMMANDS]), late=st.sampled_from([False, False, True]))
    def is_commanded(self, command: Command, late: bool) -> None:
        now = self.walk.now
        if late:
            old = msgspec.structs.replace(command, expect_generation=now.generation - 1)
            with pytest.raises(StaleGeneration):
                step(now, old, self.walk.at_ns)
        if command.verb not in allowed(now):
            with pytest.raises(InvalidTransition):
                step(now, command, self.walk.at_ns)
            return
        try:
            self.tell(command)
        except InvalidTransition:
            assert isinstance(command, Promote)  # for the arm that it names, or does not

    # --- what stays true --------------------------------------------------------------------------------

    @invariant()
    def shares_add_up(self) -> None:
        now = self.walk.now
        assert sum(weights(now).values()) == pytest.approx(1, abs=1e-12)
        assert min(weights(now).values()) >= 0
        if now.phase in BACK:
            assert candidate_share(now) == 0

    @invariant()
    def nothing_that_is_wanted_is_released(self) -> None:
        now = self.walk.now
        traffic, gone = desired_traffic(now), set(released(now))
        assert not gone & {companion.key for companion in desired_companions(now)}
        if traffic is not None:
            assert not gone & {arm.key for arm in traffic.arms}
            assert traffic.default in {arm.name for arm in traffic.arms}
            assert {fuse.against for fuse in traffic.fuses} <= {arm.name for arm in traffic.arms}

    @precondition(lambda self: self.walk.now.phase not in TERMINAL)
    @invariant()
    def a_person_can_always_go_back(self) -> None:
        now = self.walk.now
        aborted = step(now, Abort(actor="eve"), self.walk.at_ns)
        back = now if aborted is None else aborted.after
        if back.phase is Phase.ROLLING_BACK:
            applied = step(back, WeightsApplied(back.generation), self.walk.at_ns)
            assert applied is not None
            back = applied.after
        assert back.phase is Phase.ROLLED_BACK


def check_transition(before: Rollout, event: Event | Command, moved: Transition) -> None:
    """What must be true of every transition."""
    after = moved.after
    assert moved.before is before
    assert after.generation == before.generation + 1
    assert before.phase not in TERMINAL
    assert after.reason
    if weights(after) != weights(before):
        assert after.segment == before.segment + 1
        assert moved.payload["basis"], "no change of weights without evidence, or somebody's name"
    person = isinstance(event, Command)
    raised = candidate_share(after) > candidate_share(before)
    if raised and not person:
        assert (before.paused, before.degraded, before.approval, before.overdue) == (None, "", "", False)
        if before.phase is Phase.STAGE:
            assert moved.payload["basis"] == {"person": CREATOR}
        else:
            assert isinstance(event, EvidenceLooked)
            assert (event.verdict.outcome, event.degraded) == (Outcome.PASS, "")
            assert event.segment == before.segment
            assert event.evidence_s >= 120
            assert moved.payload["basis"] == {"evidence": event.digest}
    if raised and person:
        assert moved.payload["basis"] == {"person": "bob"}
    if isinstance(event, EvidenceLooked) and event.verdict.outcome is not Outcome.PASS:
        assert not raised
        assert after.step == before.step
    if before.promoted_by and not person:
        assert after.phase not in BACK or isinstance(event, StagingFailed), "a person's promotion is a person's to undo"


RolloutMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)
TestRollout = RolloutMachine.TestCase

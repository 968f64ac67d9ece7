"""Rollouts walked in virtual time, each event recorded as the journal would, and folded again at the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from taxiway.config.rollout_plan import RolloutPlan
from taxiway.registry.canonical import canonical_json, read_json
from taxiway.rollout.changing import Transition
from taxiway.rollout.commands import Command
from taxiway.rollout.events import (
    Admitted,
    Drained,
    EvidenceLooked,
    FuseBlew,
    Staged,
    TimePassed,
    WeightsApplied,
)
from taxiway.rollout.events import (
    Event as Happened,
)
from taxiway.rollout.machine import begin, replay, step
from taxiway.rollout.nouns import Candidate, GuardVerdict, Outcome, Phase, Rollout, Verdict
from taxiway.rollout.plan import Planned, Serving, make_plan, wanted

SERVICE = "fraud"
STARTED_NS = 1_700_000_000_000_000_000
SECOND_NS = 1_000_000_000
CREATOR = "ann"


def serving(plan: RolloutPlan, **more: Any) -> Serving:
    """Version 3 answers; candidates are 7, 8, ..., laid out from the registry."""
    found = tuple(
        Candidate(one.arm, number, f"sha256:{number:064x}", f"/cache/{number}", one.percent)
        for number, one in enumerate(wanted(plan), 7)
    )
    return Serving(**{"baseline": 3, "baseline_key": SERVICE, "candidates": found, **more})


def planned(**words: Any) -> Planned:
    """A plan from 3 to 7."""
    plan = RolloutPlan(**{"to": "7", "settle_s": 0, **words} if "arms" not in words else words)
    return make_plan(SERVICE, plan, serving(plan))


def verdict(
    outcome: str = "pass", *, bad: int = 0, excess: float | None = None, mismatch: str = "", **arms: str
) -> Verdict:
    """As the judge would give it."""
    by_arm = {arm: Outcome(one) for arm, one in arms.items()}
    return Verdict(Outcome(outcome), by_arm, (), mismatch, bad, f"the guards say {outcome}", excess)


def quality(arm: str, low: float) -> GuardVerdict:
    """A guard on quality that passed, the interval beginning at `low`."""
    return GuardVerdict(
        arm, "quality", Outcome.PASS, low + 0.1, low, low + 0.2, 0, 9, 3, 3, 9, 9, None, None, True, "better"
    )


@dataclass(frozen=True)
class Recorded:
    """One event as it lies in the journal: JSON."""

    kind: str
    at_ns: int
    payload: Mapping[str, Any]


@dataclass
class Walk:
    """One rollout, its clock, and all that was recorded of it."""

    now: Rollout
    at_ns: int = STARTED_NS
    recorded: list[Recorded] = field(default_factory=list)
    transitions: list[Transition] = field(default_factory=list)

    @classmethod
    def of(cls, plan: Planned, **more: Any) -> Walk:
        """Begin it."""
        begun = begin(plan.started("r-1", CREATOR, "because", **more), STARTED_NS)
        walk = cls(begun.after)
        walk._record(begun)
        return walk

    def tell(self, event: Happened | Command) -> Transition | None:
        """What comes of it, if anything."""
        moved = step(self.now, event, self.at_ns)
        if moved is not None:
            self._record(moved)
            self.now = moved.after
        return moved

    def _record(self, moved: Transition) -> None:
        kept = read_json(canonical_json(moved.payload))
        self.recorded.append(Recorded(moved.kind, self.at_ns, kept))
        self.transitions.append(moved)

    def at(self, phase: Phase) -> bool:
        """Whether it is there now."""
        return self.now.phase is phase

    def wait(self, seconds: float) -> None:
        """Nothing but time."""
        self.at_ns += int(seconds * SECOND_NS)

    def look(
        self, said: Verdict | str = "pass", evidence_s: float = 1e6, *, segment: int | None = None, **more: Any
    ) -> Transition | None:
        """Evidence of the present weights, by default plenty."""
        judged = verdict(said) if isinstance(said, str) else said
        number = self.now.segment if segment is None else segment
        return self.tell(EvidenceLooked(judged, number, evidence_s, f"sha256:look{self.now.generation}", **more))

    def fuse(self, arm: str = "candidate", generation: int | None = None) -> Transition | None:
        """The data plane's fuse blows."""
        return self.tell(FuseBlew(arm, "20 requests in a row failed", generation or self.now.generation))

    def apply(self) -> Transition | None:
        """The data plane does as it should."""
        return self.tell(WeightsApplied(self.now.generation))

    def to_stage(self) -> Walk:
        """Admitted."""
        self.tell(Admitted())
        return self

    def to_first(self) -> Walk:
        """Loaded, and in the first phase in which the candidate runs anything."""
        self.to_stage().tell(Staged())
        return self

    def to_step(self, index: int = 0) -> Walk:
        """At this step, the guards having passed at all before."""
        self.to_first()
        while self.now.phase is Phase.SHADOW or (self.now.phase is Phase.STEP and self.now.step < index):
            assert self.look(pairs=10_000)
        return self

    def to_guard(self) -> Walk:
        """Promoted, and watched."""
        self.to_step(99).apply()
        return self

    def to_drain(self) -> Walk:
        """Watched for long enough."""
        self.to_guard().look()
        return self

    def to_end(self) -> Walk:
        """All over, well."""
        self.to_drain().tell(Drained())
        return self

    def deadline(self) -> Transition | None:
        """The deadline passes."""
        self.at_ns = max(self.at_ns, self.now.deadline_ns)
        return self.tell(TimePassed("sha256:last"))

    def check_replay(self) -> None:
        """All that was recorded leads to the same state, bit for bit."""
        assert canonical(replay(self.recorded)) == canonical(self.now)


def canonical(rollout: Rollout) -> str:
    """A state, bit for bit."""
    return canonical_json(msgspec.to_builtins(rollout))

"""Rollouts walked in virtual time, each event recorded as the journal would, and folded again at the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from taxiway.config.rollout_plan import RolloutPlan
from taxiway.registry.canonical import canonical_json, read_json
from taxiway.rollout.events import Admitted, Applied, Begun, Event, FuseBlew, Looked, Staged
from taxiway.rollout.machine import S_NS, Step, begin, replay, step
from taxiway.rollout.nouns import Candidate, GuardVerdict, Outcome, Phase, Rollout, Verdict
from taxiway.rollout.plan import new_rollout, wanted_arms

SERVICE = "fraud"
STARTED_NS = 1_700_000_000_000_000_000
CREATOR = "ann"


def planned(plan: Mapping[str, Any] | None = None, **words: Any) -> Rollout:
    """A rollout from 3 to 7, and on; `words` are of its plan, `plan` says what else is known of it."""
    said = RolloutPlan.model_validate(words if "arms" in words else {"to": "7", **words})
    found = [
        Candidate(arm, number, f"sha256:{number:064x}", f"/cache/{number}", percent)
        for number, (arm, _, percent) in enumerate(wanted_arms(said), 7)
    ]
    known = {"baseline": 3, "baseline_key": SERVICE, "candidates": found, **(plan or {})}
    return new_rollout("r-1", SERVICE, said, actor=CREATOR, now_ns=STARTED_NS, **known)


def verdict(
    outcome: str = "pass",
    *guards: GuardVerdict,
    bad: int = 0,
    excess: float | None = None,
    mismatch: str = "",
    **arms: str,
) -> Verdict:
    """As the judge would give it."""
    by_arm = {arm: Outcome(one) for arm, one in arms.items()}
    return Verdict(Outcome(outcome), by_arm, guards, mismatch, bad, f"the guards say {outcome}", excess)


def guard(metric: str, arm: str = "candidate", *, outcome: str = "pass", low: float = 0.0, n: int = 9) -> GuardVerdict:
    """What a guard says, its interval beginning at `low`, by so many observations."""
    effect, high = low + 0.1, low + 0.2
    said = f"{metric} of {arm}: {outcome}"
    return GuardVerdict(
        arm, metric, Outcome(outcome), effect, low, high, 0.0, 9.0, 3.0, 3.0, n, n, None, None, True, said
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

    def __post_init__(self) -> None:
        self._record(begin(self.now, CREATOR))

    def tell(self, event: Event, actor: str = "bob") -> Step | None:
        """What comes of it, if anything."""
        moved = step(self.now, event, self.at_ns, actor)
        if moved is not None:
            self._record(moved)
            self.now = moved.after
        return moved

    def _record(self, moved: Step) -> None:
        self.recorded.append(Recorded(moved.kind, self.at_ns, read_json(canonical_json(moved.payload))))

    def at(self, phase: Phase) -> bool:
        """Whether it is there now."""
        return self.now.phase is phase

    def became(self) -> list[str]:
        """What it became, from its beginning on."""
        return [recorded.payload.get("became", recorded.kind) for recorded in self.recorded]

    def wait(self, seconds: float) -> None:
        """Nothing but time."""
        self.at_ns += round(seconds * S_NS)

    def look(
        self, said: Verdict | str = "pass", evidence_s: float = 1e6, *, segment: int = -1, degraded: str = ""
    ) -> Step | None:
        """Evidence, by default plenty, and of the present weights."""
        judged = verdict(said) if isinstance(said, str) else said
        return self.tell(Looked(judged, evidence_s, degraded, "sha256:look", segment), "taxiway")

    def fuse(self, arm: str = "candidate", generation: int | None = None) -> Step | None:
        """The data plane's fuse blows."""
        return self.tell(FuseBlew(arm, generation or self.now.generation, "20 requests in a row failed"), "taxiway")

    def apply(self) -> Step | None:
        """The data plane does as it should."""
        return self.tell(Applied(self.now.generation), "taxiway")

    def to_admit(self) -> Walk:
        """Its turn has come."""
        self.tell(Begun(), "taxiway")
        return self

    def to_stage(self) -> Walk:
        """Admitted."""
        self.to_admit().tell(Admitted(), "taxiway")
        return self

    def to_first(self) -> Walk:
        """Loaded, and in the first phase in which the candidate runs anything."""
        self.to_stage().tell(Staged(), "taxiway")
        return self

    def to_step(self, index: int = 0) -> Walk:
        """At this step, the guards having passed at all before."""
        self.to_first()
        while self.at(Phase.SHADOW) or (self.at(Phase.STEP) and self.now.step < index):
            assert self.look()
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
        self.to_drain().apply()
        return self

    def to_deadline(self) -> Walk:
        """Its time is up, and the guards have not decided."""
        self.at_ns = max(self.at_ns, self.now.deadline_ns)
        self.look("inconclusive")
        return self

    def check_replay(self) -> None:
        """All that was recorded leads to the same state, bit for bit."""
        assert canonical(replay((one.payload, one.at_ns) for one in self.recorded)) == canonical(self.now)


def canonical(rollout: Rollout) -> str:
    """A state, bit for bit."""
    return canonical_json(msgspec.to_builtins(rollout))

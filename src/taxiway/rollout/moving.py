"""What becomes of a rollout: the moves that events and commands share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from taxiway.rollout.nouns import CANDIDATE, Outcome, Phase, Rollout
from taxiway.rollout.pacing import stands_still
from taxiway.rollout.shares import is_test

S_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Basis:
    """What a move rests on; one of them is said at least where weights change.

    Attributes:
        evidence: the digest of it.
        person: who said so, or began the rollout whose plan says so.
        fuse: why the data plane's own fuse blew.
    """

    evidence: str = ""
    person: str = ""
    fuse: str = ""

    def told(self) -> dict[str, str]:
        """Those that are said."""
        said = {"evidence": self.evidence, "person": self.person, "fuse": self.fuse}
        return {name: value for name, value in said.items() if value}


@dataclass(frozen=True, slots=True)
class Move:
    """What is to change.

    Attributes:
        became: what it is called, in the past tense.
        reason: a sentence for people.
        changes: fields of `Rollout`.
    """

    became: str
    reason: str
    basis: Basis
    changes: Mapping[str, Any] = field(default_factory=dict)


_ASKED_NOTHING: Mapping[str, Any] = {"approval": "", "overdue": False}


def onward(rollout: Rollout, basis: Basis, why: str, now_ns: int, *, by_person: bool = False) -> Move:
    """One step on; by a person's word, or by automation."""
    plan = rollout.plan
    match rollout.phase:
        case Phase.STAGE if plan["shadow"] is not None or plan["strategy"] == "shadow":
            return moved("shadowing", Phase.SHADOW, why, basis, deadline_ns=_deadline(rollout, now_ns))
        case Phase.SHADOW if plan["strategy"] == "shadow":
            return finishing(basis, f"the shadow is over, and nobody got its answers: {why}")
        case Phase.STAGE | Phase.SHADOW:
            return _step(rollout, 0, basis, why, now_ns, by_person=by_person)
        case Phase.STEP:
            return _step(rollout, rollout.step + 1, basis, why, now_ns, by_person=by_person)
        case Phase.PROMOTE:
            return moved("guarding", Phase.GUARD, why, basis)
        case Phase.GUARD:
            return moved("draining", Phase.DRAIN, why, basis, **_ASKED_NOTHING)
        case _:
            return moved("succeeded", Phase.SUCCEEDED, why, basis, degraded="")


def _step(rollout: Rollout, step: int, basis: Basis, why: str, now_ns: int, *, by_person: bool) -> Move:
    raised = {"acknowledged": rollout.generation} if by_person else {}
    asked = bool(rollout.approval or rollout.overdue)
    deadline = _deadline(rollout, now_ns, anew=by_person and asked)
    if is_test(rollout):
        return moved("testing", Phase.STEP, why, basis, step=0, deadline_ns=deadline, **_ASKED_NOTHING, **raised)
    if rollout.plan["steps"][step] >= 100:
        return promoting(rollout, CANDIDATE, basis, why, by_person=by_person)
    return moved("stepped", Phase.STEP, why, basis, step=step, deadline_ns=deadline, **_ASKED_NOTHING, **raised)


def promoting(rollout: Rollout, arm: str, basis: Basis, why: str, *, by_person: bool = False) -> Move:
    """Everything to this arm."""
    raised = {"acknowledged": rollout.generation, "by_hand": True} if by_person else {}
    return moved("promoting", Phase.PROMOTE, why, basis, winner=arm, deadline_ns=0, **_ASKED_NOTHING, **raised)


def finishing(basis: Basis, why: str, **changes: Any) -> Move:  # noqa: ANN401 - fields of Rollout
    """It ends well, and the version that served before goes on to do so."""
    return moved("draining", Phase.DRAIN, why, basis, winner="", deadline_ns=0, **_ASKED_NOTHING, **changes)


def rolling_back(rollout: Rollout, basis: Basis, why: str, *, harmful: bool) -> Move:
    """Everything back to the version that served before, now; what proved harmful is quarantined."""
    quarantined = rollout.quarantined or harmful
    if rollout.phase is Phase.QUEUED:  # another rollout says what is served: there is nothing to take back
        return moved("rolled-back", Phase.ROLLED_BACK, why, basis, paused=None)
    changes = {"winner": "", "paused": None, "degraded": "", "deadline_ns": 0, "quarantined": quarantined}
    return moved("rolling-back", Phase.ROLLING_BACK, why, basis, **changes, **_ASKED_NOTHING)


def dropping(rollout: Rollout, arms: Mapping[str, str], basis: Basis) -> Move:
    """Arms of an A/B/n test get nothing more, each for its reason; if none is left, all were harmful."""
    why = "; ".join(f"{arm} is turned off: {reason}" for arm, reason in arms.items())
    changes = {
        "dropped": (*rollout.dropped, *arms),
        "outcomes": {**rollout.outcomes, **dict.fromkeys(arms, Outcome.FAIL.value)},
    }
    if all(one.arm in changes["dropped"] for one in rollout.candidates):
        back = rolling_back(rollout, basis, f"{why}; no arm is left", harmful=True)
        return Move(back.became, back.reason, basis, {**back.changes, **changes})
    return Move("arm-dropped", why, basis, changes)


def asking(question: str, basis: Basis) -> Move:
    """A person is asked."""
    return Move("approval-asked", question, basis, {"approval": question})


def may_go_on(rollout: Rollout) -> bool:
    """Whether automation may do the next thing."""
    return not (stands_still(rollout) or rollout.degraded)


def moved(became: str, phase: Phase, why: str, basis: Basis, **changes: Any) -> Move:  # noqa: ANN401 - fields of Rollout
    """A move to another phase."""
    return Move(became, why, basis, {"phase": phase, **changes})


def _deadline(rollout: Rollout, now_ns: int, *, anew: bool = False) -> int:
    """When it must be decided, counted from when the candidate first ran anything."""
    if rollout.deadline_ns and not anew:
        return rollout.deadline_ns
    lasts_s: float = rollout.plan["max_duration_s"]
    return now_ns + round(lasts_s * S_NS)

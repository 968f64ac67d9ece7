"""What becomes of a rollout: the moves that events and commands share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from taxiway.rollout.nouns import CANDIDATE, Outcome, Phase, Rollout
from taxiway.rollout.pacing import stands_still
from taxiway.rollout.shares import EXPOSED, plan_of

_S = 1_000_000_000


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
        kind: what it is called in the journal.
        reason: a sentence for people.
        changes: fields of `Rollout`.
        notify: whether others are told, beside of changes of phase.
    """

    kind: str
    reason: str
    basis: Basis
    changes: Mapping[str, Any] = field(default_factory=dict)
    notify: bool = False


_ASKED_NOTHING: Mapping[str, Any] = {"approval": "", "overdue": False}


def onward(rollout: Rollout, basis: Basis, why: str, now_ns: int, *, person: str = "") -> Move:
    """One step on; by the word of `person`, or, if that is empty, of automation."""
    plan = plan_of(rollout)
    match rollout.phase:
        case Phase.STAGE if plan.shadow is not None:
            return _moved("shadowing", Phase.SHADOW, why, basis, deadline_ns=_deadline(rollout, now_ns))
        case Phase.SHADOW if plan.strategy == "shadow":
            return finishing(basis, f"{why}; nobody got its answers")
        case Phase.STAGE | Phase.SHADOW:
            return _step(rollout, 0, basis, why, now_ns, person)
        case Phase.STEP:
            return _step(rollout, rollout.step + 1, basis, why, now_ns, person)
        case Phase.PROMOTE:
            return _moved("guarding", Phase.GUARD, why, basis)
        case Phase.GUARD:
            return _moved("draining", Phase.DRAIN, why, basis, **_ASKED_NOTHING)
        case _:
            return _moved("succeeded", Phase.SUCCEEDED, why, basis, degraded="")


def _step(rollout: Rollout, step: int, basis: Basis, why: str, now_ns: int, person: str) -> Move:
    plan = plan_of(rollout)
    raised = {"acknowledged": rollout.generation} if person else {}
    if plan.strategy == "ab":
        deadline = _deadline(rollout, now_ns)
        return _moved("testing", Phase.STEP, why, basis, step=0, deadline_ns=deadline, **_ASKED_NOTHING, **raised)
    if plan.steps[step] >= 100:
        person = person or (rollout.created_by if rollout.by_hand else "")
        return promoting(rollout, CANDIDATE, basis, why, person=person)
    deadline = _deadline(rollout, now_ns, anew=bool(person and (rollout.approval or rollout.overdue)))
    return _moved("stepped", Phase.STEP, why, basis, step=step, deadline_ns=deadline, **_ASKED_NOTHING, **raised)


def promoting(rollout: Rollout, arm: str, basis: Basis, why: str, *, person: str = "") -> Move:
    """Everything to this arm."""
    raised = {"acknowledged": rollout.generation, "promoted_by": person} if person else {}
    return _moved("promoting", Phase.PROMOTE, why, basis, promoted=arm, deadline_ns=0, **_ASKED_NOTHING, **raised)


def finishing(basis: Basis, why: str, **changes: Any) -> Move:  # noqa: ANN401 - fields of Rollout
    """It ends well, and the version that served before goes on to do so."""
    return _moved("draining", Phase.DRAIN, why, basis, promoted="", deadline_ns=0, **_ASKED_NOTHING, **changes)


def rolling_back(rollout: Rollout, basis: Basis, why: str) -> Move:
    """Everything back to the version that served before, now; what ran anything is quarantined."""
    if rollout.phase is Phase.QUEUED:
        return _moved("rolled-back", Phase.ROLLED_BACK, why, basis, paused=None)
    changes = {"promoted": "", "promoted_by": "", "paused": None, "degraded": "", "deadline_ns": 0}
    quarantined = rollout.quarantined or rollout.phase in EXPOSED
    return _moved("rolling-back", Phase.ROLLING_BACK, why, basis, quarantined=quarantined, **changes, **_ASKED_NOTHING)


def dropping(rollout: Rollout, arms: Mapping[str, str], basis: Basis) -> Move:
    """Arms of an A/B/n test get nothing more, each for its reason; if none is left, the test is over."""
    why = "; ".join(f"arm {arm} gets nothing more: {reason}" for arm, reason in arms.items())
    dropped = (*rollout.dropped, *arms)
    outcomes = {**rollout.outcomes, **dict.fromkeys(arms, Outcome.FAIL.value)}
    if all(one.arm in dropped for one in rollout.candidates):
        return finishing(basis, f"{why}; no arm is left", dropped=dropped, outcomes=outcomes)
    return Move("arm-dropped", why, basis, {"dropped": dropped, "outcomes": outcomes}, notify=True)


def asking(question: str, basis: Basis) -> Move:
    """A person is asked."""
    return Move("approval-asked", question, basis, {"approval": question}, notify=True)


def may_go_on(rollout: Rollout) -> bool:
    """Whether automation may do the next thing."""
    return not (stands_still(rollout) or rollout.degraded)


def _deadline(rollout: Rollout, now_ns: int, *, anew: bool = False) -> int:
    """When it must be decided, counted from when the candidate first ran anything."""
    if rollout.deadline_ns and not anew:
        return rollout.deadline_ns
    return now_ns + int(plan_of(rollout).max_duration_s * _S)


def _moved(kind: str, phase: Phase, why: str, basis: Basis, **changes: Any) -> Move:  # noqa: ANN401 - fields of Rollout
    return Move(kind, why, basis, {"phase": phase, **changes})

"""What becomes of a rollout by what a person asks of it, and what is refused, with what would be allowed instead."""

from __future__ import annotations

from typing import Final

from taxiway.core.errors import InvalidArgument, InvalidTransition
from taxiway.rollout.commands import (
    COMMANDS,
    Abort,
    Advance,
    Approve,
    Command,
    Extend,
    Pause,
    Promote,
    Resume,
    verb_of,
)
from taxiway.rollout.moving import S_NS, Basis, Move, finishing, onward, promoting, rolling_back
from taxiway.rollout.nouns import TERMINAL, Phase, Rollout
from taxiway.rollout.nouns import Pause as Paused
from taxiway.rollout.shares import is_test, live_candidates

TRIED: Final = frozenset({Phase.SHADOW, Phase.STEP})
"""Phases in which something is yet to be decided."""

_AT_REST: Final = TERMINAL | {Phase.ROLLING_BACK}


# --- what is allowed --------------------------------------------------------------------------------------


def allowed(rollout: Rollout) -> list[str]:
    """The commands that would not be refused now."""
    if rollout.phase in _AT_REST:
        return []
    return [verb_of(kind) for kind in COMMANDS.values() if not objection(rollout, kind)]


def objection(rollout: Rollout, kind: type[Command]) -> str:
    """Why every command of this kind is refused now; empty: it is not."""
    phase = rollout.phase
    if phase in TERMINAL:
        return "it has ended"
    if kind is Abort:
        return ""
    if phase in (Phase.QUEUED, Phase.ROLLING_BACK):
        return "it waits for another rollout" if phase is Phase.QUEUED else "it is on its way back"
    if kind is Pause:
        return f"{rollout.paused.by} has paused it already" if rollout.paused else ""
    if kind is Resume:
        return "" if rollout.paused else "it is not paused"
    if kind is Extend:
        return "" if phase in TRIED else "nothing is to be decided by a deadline"
    if rollout.paused:
        return f"{rollout.paused.by} has paused it"
    if kind is Approve:
        return "" if rollout.approval else "it does not wait for anybody"
    return _forward_objection(rollout, kind)


def _forward_objection(rollout: Rollout, kind: type[Command]) -> str:
    if rollout.phase in (Phase.ADMIT, Phase.STAGE):
        return "its versions are not loaded yet"
    if rollout.phase not in TRIED:
        return "it has all of the requests already" if rollout.winner else "it is ending"
    if kind is Promote and rollout.plan["strategy"] == "shadow":
        return "a shadow never answers anybody"
    if kind is Advance and is_test(rollout) and rollout.phase is Phase.STEP:
        return "a test of arms has no steps"
    return ""


def check_allowed(rollout: Rollout, command: Command) -> None:
    """Refuse what cannot be done now: with why, the story so far, and what would be allowed.

    Raises:
        InvalidTransition: it cannot.
    """
    why = objection(rollout, type(command))
    if not why:
        return
    may = allowed(rollout)
    service = rollout.service
    ways = (
        f"`taxiway rollout undo {service}` goes back to what was before, `taxiway rollout start {service}` begins anew"
    )
    raise InvalidTransition(
        f"{command.verb} is not possible: rollout {rollout.id} of {service} is in phase {rollout.phase.value} "
        f"({rollout.reason}), and {why}",
        hint=f"allowed now: {', '.join(may) or f'nothing; {ways}'}",
        rollout=rollout.id,
        generation=rollout.generation,
        phase=rollout.phase.value,
        allowed=may,
    )


# --- what is done -----------------------------------------------------------------------------------------


def pause(_rollout: Rollout, command: Pause, now_ns: int, actor: str) -> Move | None:
    """Nothing moves forward."""
    paused = Paused(actor, command.reason, now_ns)
    return Move("paused", _told("paused", command, actor), Basis(person=actor), {"paused": paused})


def resume(rollout: Rollout, command: Resume, now_ns: int, actor: str) -> Move | None:
    """It goes on, with as much time before its deadline as it had."""
    stood_ns = now_ns - rollout.paused.at_ns if rollout.paused else 0
    deadline_ns = rollout.deadline_ns + max(0, stood_ns) if rollout.deadline_ns else 0
    changes = {"paused": None, "deadline_ns": deadline_ns}
    return Move("resumed", _told("resumed", command, actor), Basis(person=actor), changes)


def advance(rollout: Rollout, command: Advance, now_ns: int, actor: str) -> Move | None:
    """One step on by a person's word."""
    return onward(rollout, Basis(person=actor), _told("moved on", command, actor), now_ns, by_person=True)


def promote(rollout: Rollout, command: Promote, now_ns: int, actor: str) -> Move | None:
    """One step on, or everything, by a person's word."""
    why, basis = _told("promoted", command, actor), Basis(person=actor)
    arms = [one.arm for one in live_candidates(rollout)]
    named = command.arm or (arms[0] if len(arms) == 1 else "")
    if named not in arms:
        raise InvalidArgument(
            f"arm {command.arm!r} is none of {', '.join(arms)}", hint=f"name the one that is to answer: {arms[0]}"
        )
    if command.full or is_test(rollout):
        return promoting(rollout, named, basis, why, by_person=True)
    return onward(rollout, basis, why, now_ns, by_person=True)


def approve(rollout: Rollout, command: Approve, now_ns: int, actor: str) -> Move | None:
    """Yes to what it waits for: one step on, the end of a test, or that what a person promoted stays."""
    if command.plan_digest not in ("", rollout.plan_digest):
        raise InvalidArgument(
            f"plan_digest = {command.plan_digest[:80]!r}: rollout {rollout.id} follows {rollout.plan_digest}",
            hint="look at its plan again, and approve that one",
            field="plan_digest",
        )
    why, basis = _told("approved", command, actor), Basis(person=actor)
    if is_test(rollout) and rollout.phase is Phase.STEP:
        return finishing(basis, f"the test is over: {why}")
    if rollout.phase not in TRIED:
        return Move("approved", why, basis, {"approval": "", "phase": Phase.DRAIN})
    return onward(rollout, basis, why, now_ns, by_person=True)


def extend(rollout: Rollout, command: Extend, now_ns: int, actor: str) -> Move | None:
    """More time, from its deadline or from now, whichever is later; what was asked at the deadline is asked no more."""
    deadline_ns = max(now_ns, rollout.deadline_ns) + round(command.by_s * S_NS)
    changes = {"deadline_ns": deadline_ns, "overdue": False, "approval": ""}
    why = _told(f"extended by {command.by_s:g} s", command, actor)
    return Move("extended", why, Basis(person=actor), changes)


def abort(rollout: Rollout, command: Abort, _now_ns: int, actor: str) -> Move | None:
    """Everything back. Said while it is on its way back, it is being done already."""
    if rollout.phase is Phase.ROLLING_BACK:
        return None
    why = _told("aborted", command, actor)
    return rolling_back(rollout, Basis(person=actor), why, harmful=False)


def _told(what: str, command: Command, actor: str) -> str:
    """For those who come later."""
    return f"{what} by {actor}" + (f": {command.reason}" if command.reason else "")

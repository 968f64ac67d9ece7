"""What becomes of a rollout by what a person asks of it, and what is refused, with what would be allowed instead."""

from __future__ import annotations

from taxiway.core.errors import InvalidTransition
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
    Start,
    Undo,
)
from taxiway.rollout.moving import Basis, Move, finishing, onward, promoting, rolling_back
from taxiway.rollout.nouns import TERMINAL, Phase, Rollout
from taxiway.rollout.nouns import Pause as Paused
from taxiway.rollout.shares import live_candidates, plan_of

_S = 1_000_000_000
_TRIED = frozenset({Phase.SHADOW, Phase.STEP})
_MOVING = frozenset({Phase.ADMIT, Phase.STAGE, Phase.SHADOW, Phase.STEP, Phase.PROMOTE, Phase.GUARD, Phase.DRAIN})
ORDERED: tuple[type[Command], ...] = (Pause, Resume, Advance, Promote, Approve, Extend, Abort, Undo)
"""Commands that a rollout may be given once it is there."""


# --- what is allowed --------------------------------------------------------------------------------------


def allowed(rollout: Rollout) -> tuple[str, ...]:
    """The verbs that would not be refused now."""
    return tuple(kind.verb for kind in ORDERED if not objection(rollout, kind))


def objection(rollout: Rollout, kind: type[Command]) -> str:
    """Why every command of this kind is refused now, as `it is ...`; empty: it is not."""
    phase = rollout.phase
    if phase in TERMINAL:
        return f"it has ended ({phase.value})"
    if kind is Abort or kind is Undo:
        return ""
    if phase not in _MOVING:
        return "it waits for another rollout" if phase is Phase.QUEUED else "it is on its way back"
    if kind is Pause:
        return f"{rollout.paused.by} has paused it already" if rollout.paused else ""
    if kind is Resume:
        return "" if rollout.paused else "it is not paused"
    if kind is Extend:
        return "" if phase in _TRIED else f"nothing is to be decided by a deadline in phase {phase.value}"
    if rollout.paused:
        return f"{rollout.paused.by} has paused it"
    if kind is Approve:
        return "" if rollout.approval else "it does not wait for anybody's approval"
    return _forward_objection(rollout, kind)


def _forward_objection(rollout: Rollout, kind: type[Command]) -> str:
    phase, strategy = rollout.phase, plan_of(rollout).strategy
    if phase in (Phase.ADMIT, Phase.STAGE):
        return "its versions are not loaded yet"
    if phase in (Phase.PROMOTE, Phase.DRAIN):
        return "it has all of the requests already" if rollout.promoted else "it is ending"
    if kind is Promote and strategy == "shadow":
        return "its plan is a shadow, which never answers anybody"
    if kind is Advance and strategy == "ab" and phase is Phase.STEP:
        return "its plan is an A/B/n test, which has no steps"
    return ""


def refusal(rollout: Rollout, command: Command, why: str, hint: str = "") -> InvalidTransition:
    """The error that tells where the rollout is, how it got there, and what would be allowed."""
    may = allowed(rollout)
    hint = hint or _what_would_be_allowed(rollout, may)
    return InvalidTransition(
        f"rollout {rollout.id} of {rollout.service} cannot be given `{command.verb}`: {why} "
        f"(phase {rollout.phase.value}, generation {rollout.generation}; last: {rollout.reason})",
        hint=hint,
        rollout=rollout.id,
        generation=rollout.generation,
        phase=rollout.phase.value,
        allowed=list(may),
    )


def _what_would_be_allowed(rollout: Rollout, may: tuple[str, ...]) -> str:
    if may:
        return f"allowed now: {', '.join(may)}; as `{COMMANDS[may[0]].words.format(service=rollout.service)}`"
    ways = " or ".join(f"`{kind.words.format(service=rollout.service)}`" for kind in (Undo, Start))
    return f"what has ended stays so; go on with {ways}"


def check_allowed(rollout: Rollout, command: Command) -> None:
    """Refuse what cannot be done now.

    Raises:
        InvalidTransition: it cannot.
    """
    why = objection(rollout, type(command))
    if why:
        raise refusal(rollout, command, why)


# --- what is done -----------------------------------------------------------------------------------------


def pause(_rollout: Rollout, command: Pause, now_ns: int) -> Move | None:
    """Nothing moves forward."""
    paused = Paused(command.actor, command.reason, now_ns)
    return Move("paused", _told("paused", command), _by(command), {"paused": paused}, notify=True)


def resume(rollout: Rollout, command: Resume, now_ns: int) -> Move | None:
    """It goes on, with as much time before its deadline as it had."""
    stood_ns = now_ns - rollout.paused.at_ns if rollout.paused else 0
    deadline_ns = rollout.deadline_ns + max(0, stood_ns) if rollout.deadline_ns else 0
    changes = {"paused": None, "deadline_ns": deadline_ns}
    return Move("resumed", _told("resumed", command), _by(command), changes, notify=True)


def advance(rollout: Rollout, command: Advance, now_ns: int) -> Move | None:
    """One step on by a person's word."""
    return onward(rollout, _by(command), _told("advanced", command), now_ns, person=command.actor)


def promote(rollout: Rollout, command: Promote, now_ns: int) -> Move | None:
    """One step on, or everything, by a person's word."""
    told = _told("promoted", command)
    if plan_of(rollout).strategy == "ab" and rollout.phase is not Phase.GUARD:
        return promoting(rollout, _arm_named(rollout, command), _by(command), told, person=command.actor)
    if command.arm not in ("", *(one.arm for one in rollout.candidates)):
        raise refusal(rollout, command, f"it has no arm {command.arm!r}", "leave the arm out: there is one candidate")
    if command.full and rollout.phase in _TRIED:
        return promoting(rollout, rollout.candidates[0].arm, _by(command), told, person=command.actor)
    return onward(rollout, _by(command), told, now_ns, person=command.actor)


def _arm_named(rollout: Rollout, command: Promote) -> str:
    live = [one.arm for one in live_candidates(rollout)]
    if not command.arm and len(live) == 1:
        return live[0]
    if command.arm in live:
        return command.arm
    why = f"arm {command.arm!r} does not take part any more" if command.arm in rollout.dropped else "no arm is named"
    if command.arm and command.arm not in rollout.dropped:
        why = f"it has no arm {command.arm!r}"
    raise refusal(rollout, command, why, f"name one that takes part: {', '.join(live)}")


def approve(rollout: Rollout, command: Approve, now_ns: int) -> Move | None:
    """Yes to what it waits for: one step on, the end of a test, or that a promotion stays."""
    if command.plan_digest not in ("", rollout.plan_digest):
        why = f"its plan is {rollout.plan_digest}, not {command.plan_digest}"
        raise refusal(rollout, command, why, "look at the plan again, and approve that one")
    told = _told("approved", command)
    if plan_of(rollout).strategy == "ab" and rollout.phase is Phase.STEP:
        return finishing(_by(command), f"{told}; all requests go back to version {rollout.baseline}")
    return onward(rollout, _by(command), told, now_ns, person=command.actor)


def extend(rollout: Rollout, command: Extend, now_ns: int) -> Move | None:
    """More time, from its deadline or from now, whichever is later; what was asked at the deadline is asked no more."""
    deadline_ns = max(now_ns, rollout.deadline_ns) + int(command.by_s * _S)
    changes = {"deadline_ns": deadline_ns, "overdue": False, "approval": ""}
    return Move("extended", _told(f"extended by {command.by_s:.0f} s", command), _by(command), changes)


def abort(rollout: Rollout, command: Abort, _now_ns: int) -> Move | None:
    """Everything back. Said while it is on its way back, it is being done already."""
    if rollout.phase is Phase.ROLLING_BACK:
        return None
    return rolling_back(rollout, _by(command), _told("aborted", command))


def undo(rollout: Rollout, command: Undo, _now_ns: int) -> Move | None:
    """Everything back, to the version that served before: of a rollout that goes on there is no other."""
    if command.to not in (None, rollout.baseline):
        why = f"it can go back to version {rollout.baseline}, not to {command.to}"
        then = f"`taxiway rollout start {rollout.service} --to {command.to}`"
        raise refusal(rollout, command, why, f"`taxiway rollout abort {rollout.service}`, then {then}")
    if rollout.phase is Phase.ROLLING_BACK:
        return None
    return rolling_back(rollout, _by(command), _told("undone", command))


def _by(command: Command) -> Basis:
    return Basis(person=command.actor)


def _told(what: str, command: Command) -> str:
    """`command.reason` for those who come later."""
    return f"{what} by {command.actor}" + (f": {command.reason}" if command.reason else "")

"""What becomes of a rollout when something happens: a pure function of its state, the event, and the time.

`step` gives None where nothing changes, so that looking every second leaves no trace. What it refuses it refuses with
the story so far and with what would be allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from taxiway.core.errors import InvalidArgument, InvalidTransition
from taxiway.rollout import commands as ask
from taxiway.rollout import events as told
from taxiway.rollout.nouns import CANDIDATE, TERMINAL, Outcome, Pause, Phase, Rollout

S_NS: Final = 1_000_000_000
BEFORE_TRAFFIC: Final = frozenset({Phase.QUEUED, Phase.ADMIT, Phase.STAGE})
WITH_TRAFFIC: Final = frozenset({Phase.SHADOW, Phase.STEP, Phase.PROMOTE, Phase.GUARD})
NEEDS_REASON: Final = (ask.Advance,)


@dataclass(frozen=True, slots=True)
class Step:
    """One transition. `kind` and `payload` are what `replay` makes it from again."""

    after: Rollout
    kind: str
    payload: Mapping[str, Any]


def step(rollout: Rollout, event: told.Event, now_ns: int, actor: str) -> Step | None:
    """What becomes of it; None if nothing does.

    Raises:
        InvalidTransition: a person asks for what is not possible now.
        InvalidArgument: a command lacks its reason, or names an arm that there is not.
    """
    if isinstance(event, ask.Command):
        _check(rollout, event)
    elif rollout.phase in TERMINAL:
        return None
    after = _HANDLERS[type(event)](rollout, event, now_ns, actor)
    if after is None or after == rollout:
        return None
    after = _change(after, generation=rollout.generation + 1)
    payload = {"event": msgspec.to_builtins(event), "actor": actor}
    return Step(after, type(event).__name__.lower(), payload)


def begin(rollout: Rollout, actor: str) -> Step:
    """The beginning of a rollout, whose generation is 1."""
    return Step(rollout, "started", {"rollout": msgspec.to_builtins(rollout), "actor": actor})


def replay(happened: Iterable[tuple[Mapping[str, Any], int]]) -> Rollout:
    """The state that these payloads, each with its time in UTC nanoseconds, lead to: oldest first, all of them.

    Raises:
        ValueError: they do not begin with a beginning, or one of them changes nothing.
    """
    state: Rollout | None = None
    for payload, at_ns in happened:
        if state is None:
            state = msgspec.convert(payload["rollout"], Rollout)
            continue
        event = msgspec.convert(payload["event"], told.Event)
        made = step(state, event, at_ns, payload["actor"])
        if made is None:
            raise ValueError(f"{type(event).__name__} changes nothing in {state.phase.value}")
        state = made.after
    if state is None:
        raise ValueError("nothing happened")
    return state


def allowed(rollout: Rollout) -> list[str]:
    """The commands that would not be refused now."""
    if rollout.phase in TERMINAL or rollout.phase is Phase.ROLLING_BACK:
        return []
    found = ["resume" if rollout.paused else "pause", "abort"]
    if rollout.phase in (Phase.SHADOW, Phase.STEP):
        found += ["promote", "advance", "extend"]
    if rollout.approval:
        found.append("approve")
    return found


# --- commands -------------------------------------------------------------------------------------------------


def _check(rollout: Rollout, command: ask.Command) -> None:
    word = type(command).__name__.lower()
    if word not in allowed(rollout):
        ways = (
            ", ".join(allowed(rollout)) or "nothing: it has ended; `taxiway rollout undo` goes back to what was before"
        )
        raise InvalidTransition(
            f"{word} is not possible: rollout {rollout.id} of {rollout.service} is in phase {rollout.phase.value} "
            f"({rollout.reason})",
            hint=f"allowed now: {ways}",
            rollout=rollout.id,
            phase=rollout.phase.value,
        )
    needs = isinstance(command, NEEDS_REASON) or (isinstance(command, ask.Promote) and command.full)
    if needs and not command.reason.strip():
        raise InvalidArgument(f"reason is missing: {word} goes past the guards", hint="say why: --why TEXT")


def _pause(rollout: Rollout, event: ask.Pause, now_ns: int, actor: str) -> Rollout:
    return _change(rollout, paused=Pause(actor, event.reason, now_ns), reason=f"paused by {actor}{_why(event)}")


def _resume(rollout: Rollout, event: ask.Resume, _now_ns: int, actor: str) -> Rollout:
    return _change(rollout, paused=None, reason=f"resumed by {actor}{_why(event)}")


def _advance(rollout: Rollout, event: ask.Advance | ask.Approve, now_ns: int, actor: str) -> Rollout:
    return _next_step(rollout, now_ns, f"moved on by {actor}{_why(event)}")


def _promote(rollout: Rollout, event: ask.Promote, now_ns: int, actor: str) -> Rollout:
    arms = [one.arm for one in rollout.candidates if one.arm not in rollout.dropped]
    if event.arm not in arms and (event.arm or is_test(rollout)):
        raise InvalidArgument(
            f"arm {event.arm!r} is none of {', '.join(arms) or 'those that are left'}",
            hint=f"name the arm that is to answer: {arms[0] if arms else 'none is left'}",
        )
    why = f"promoted by {actor}{_why(event)}"
    if event.full or is_test(rollout):
        return _to_end(_change(rollout, by_hand=True), event.arm or CANDIDATE, now_ns, why)
    return _next_step(rollout, now_ns, why)


def _abort(rollout: Rollout, event: ask.Abort, now_ns: int, actor: str) -> Rollout:
    return _turn_back(rollout, now_ns, f"aborted by {actor}{_why(event)}", quarantined=False)


def _extend(rollout: Rollout, event: ask.Extend, now_ns: int, actor: str) -> Rollout:
    if event.by_s <= 0:
        raise InvalidArgument(f"by_s = {event.by_s}: must be above 0", hint="seconds, as in --by-s 3600")
    until = max(rollout.deadline_ns, now_ns) + round(event.by_s * S_NS)
    return _change(rollout, deadline_ns=until, approval="", reason=f"extended by {actor}{_why(event)}")


def _why(command: ask.Command) -> str:
    return f": {command.reason}" if command.reason else ""


# --- what the controller sees ---------------------------------------------------------------------------------


def _begun(rollout: Rollout, _event: told.Begun, now_ns: int, _actor: str) -> Rollout | None:
    if rollout.phase is not Phase.QUEUED:
        return None
    until = now_ns + round(rollout.plan["max_duration_s"] * S_NS)
    return _enter(_change(rollout, deadline_ns=until), Phase.ADMIT, now_ns, "its turn has come")


def _admitted(rollout: Rollout, _event: told.Admitted, now_ns: int, _actor: str) -> Rollout | None:
    if rollout.phase is not Phase.ADMIT:
        return None
    return _enter(rollout, Phase.STAGE, now_ns, "the candidate exists and may be tried; it is being loaded")


def _staged(rollout: Rollout, _event: told.Staged, now_ns: int, _actor: str) -> Rollout | None:
    if rollout.phase is not Phase.STAGE:
        return None
    if rollout.plan["shadow"] is not None or rollout.plan["strategy"] == "shadow":
        return _weigh(_enter(rollout, Phase.SHADOW, now_ns, "it answers copies of requests"))
    return _next_step(rollout, now_ns, "loaded and warm")


def _failed(rollout: Rollout, event: told.Failed, now_ns: int, _actor: str) -> Rollout:
    ended = Phase.FAILED_INFRA if rollout.phase in BEFORE_TRAFFIC else Phase.ROLLING_BACK
    return _weigh(_enter(_change(rollout, winner="", paused=None, approval=""), ended, now_ns, event.reason))


def _replaced(rollout: Rollout, event: told.Replaced, now_ns: int, _actor: str) -> Rollout:
    why = f"rollout {event.by} takes its place"
    return _weigh(_enter(_change(rollout, winner="", paused=None, approval=""), Phase.SUPERSEDED, now_ns, why))


def _applied(rollout: Rollout, event: told.Applied, now_ns: int, _actor: str) -> Rollout | None:
    if event.generation < rollout.generation:
        return None
    if rollout.phase is Phase.PROMOTE:
        why = f"everything goes to {rollout.winner}; the old version stays loaded"
        return _enter(rollout, Phase.GUARD, now_ns, why)
    if rollout.phase is Phase.ROLLING_BACK:
        return _change(rollout, phase=Phase.ROLLED_BACK, phase_since_ns=now_ns)
    if rollout.phase is Phase.DRAIN:
        return _change(rollout, phase=Phase.SUCCEEDED, phase_since_ns=now_ns)
    return None


def _looked(rollout: Rollout, event: told.Looked, now_ns: int, _actor: str) -> Rollout | None:
    if rollout.phase not in WITH_TRAFFIC:
        return None
    verdict = event.verdict
    if is_test(rollout) and (worse := _worse_arms(rollout, event)):
        return _drop(rollout, worse, now_ns, verdict.sentence)
    if verdict.outcome is Outcome.FAIL and not (rollout.by_hand or is_test(rollout)):
        return _turn_back(rollout, now_ns, verdict.sentence, quarantined=True)
    rollout = _change(rollout, degraded=event.degraded)
    if rollout.paused or rollout.degraded or verdict.mismatch or rollout.phase is Phase.PROMOTE:
        return rollout
    if rollout.phase is Phase.GUARD:
        return _after_guard(rollout, event, now_ns)
    if _is_decided(rollout, event):
        return _next_step(_change(rollout, evidence_s=event.evidence_s), now_ns, verdict.sentence)
    return _at_deadline(rollout, now_ns, verdict.sentence)


def _after_guard(rollout: Rollout, event: told.Looked, now_ns: int) -> Rollout:
    """Only time for which there is evidence counts: nobody's silence ends the guard."""
    if event.evidence_s < rollout.plan["guard_for_s"] or now_ns < rollout.phase_since_ns:
        return rollout
    why = f"{rollout.winner} answered for {event.evidence_s:.0f} s and nothing spoke against it"
    return _weigh(_enter(rollout, Phase.DRAIN, now_ns, why))


def _is_decided(rollout: Rollout, event: told.Looked) -> bool:
    if rollout.approval or event.evidence_s < rollout.plan["min_step_s"]:
        return False
    if is_test(rollout):
        left = [one.arm for one in rollout.candidates if one.arm not in rollout.dropped]
        return all(event.verdict.arms.get(arm) is Outcome.PASS for arm in left)
    return event.verdict.outcome is Outcome.PASS and _can_afford(rollout, event)


def _can_afford(rollout: Rollout, event: told.Looked) -> bool:
    """Whether what the candidate has cost leaves something of the exposure budget."""
    budget: int = rollout.plan["max_bad_requests"]
    return event.verdict.bad_requests < budget


def _at_deadline(rollout: Rollout, now_ns: int, sentence: str) -> Rollout:
    if not rollout.deadline_ns or now_ns < rollout.deadline_ns:
        return rollout
    over = f"not decided in {rollout.plan['max_duration_s']:g} s: {sentence}"
    if is_test(rollout):
        return _end_test(rollout, now_ns, over)
    match rollout.plan["on_inconclusive"]:
        case "rollback":
            return _turn_back(rollout, now_ns, over, quarantined=False)
        case "approve" if not rollout.approval:
            return _change(rollout, approval=f"may it go on? {over}", reason=over)
        case _:
            return rollout


def _fuse_blew(rollout: Rollout, event: told.FuseBlew, now_ns: int, _actor: str) -> Rollout | None:
    if rollout.phase not in WITH_TRAFFIC or event.arm in rollout.dropped:
        return None
    why = f"the data plane turned {event.arm} off: {event.reason}"
    if is_test(rollout) and rollout.phase is Phase.STEP:
        return _drop(rollout, [event.arm], now_ns, why)
    return _turn_back(rollout, now_ns, why, quarantined=True)


_HANDLERS: Final[Mapping[type, Callable[[Rollout, Any, int, str], Rollout | None]]] = {
    ask.Pause: _pause,
    ask.Resume: _resume,
    ask.Advance: _advance,
    ask.Approve: _advance,
    ask.Promote: _promote,
    ask.Abort: _abort,
    ask.Extend: _extend,
    told.Begun: _begun,
    told.Admitted: _admitted,
    told.Staged: _staged,
    told.Failed: _failed,
    told.Replaced: _replaced,
    told.Applied: _applied,
    told.Looked: _looked,
    told.FuseBlew: _fuse_blew,
}


# --- moves ----------------------------------------------------------------------------------------------------


def is_test(rollout: Rollout) -> bool:
    """Whether it is an A/B/n test, whose arms keep their shares."""
    return bool(rollout.plan["strategy"] == "ab")


def _next_step(rollout: Rollout, now_ns: int, why: str) -> Rollout:
    """One step on, or to the end."""
    rollout = _change(rollout, approval="")
    if rollout.plan["strategy"] == "shadow":
        return _weigh(_enter(rollout, Phase.DRAIN, now_ns, f"the shadow is over: {why}"))
    if is_test(rollout):
        return _end_test(rollout, now_ns, why) if rollout.phase is Phase.STEP else _step_to(rollout, 0, now_ns, why)
    following = rollout.step + 1
    if rollout.plan["steps"][following] >= 100:
        return _to_end(rollout, CANDIDATE, now_ns, why)
    return _step_to(rollout, following, now_ns, why)


def _step_to(rollout: Rollout, number: int, now_ns: int, why: str) -> Rollout:
    stepped = _change(rollout, step=number, step_since_ns=now_ns, evidence_s=0.0)
    return _weigh(_enter(stepped, Phase.STEP, now_ns, why))


def _to_end(rollout: Rollout, winner: str, now_ns: int, why: str) -> Rollout:
    return _weigh(_enter(_change(rollout, winner=winner, approval="", paused=None), Phase.PROMOTE, now_ns, why))


def _turn_back(rollout: Rollout, now_ns: int, why: str, *, quarantined: bool) -> Rollout:
    cleared = _change(rollout, winner="", paused=None, approval="", degraded="", quarantined=quarantined)
    return _weigh(_enter(cleared, Phase.ROLLING_BACK, now_ns, why))


def _worse_arms(rollout: Rollout, event: told.Looked) -> list[str]:
    arms = event.verdict.arms
    return [one for one in arms if arms[one] is Outcome.FAIL and one not in rollout.dropped]


def _drop(rollout: Rollout, arms: list[str], now_ns: int, why: str) -> Rollout:
    """Arms of a test get nothing more; the others go on, and without any the test is over."""
    dropped = (*rollout.dropped, *arms)
    rollout = _change(rollout, dropped=dropped, reason=f"{', '.join(arms)} turned off: {why}")
    if all(one.arm in dropped for one in rollout.candidates):
        return _turn_back(rollout, now_ns, rollout.reason, quarantined=True)
    return _weigh(rollout)


def _end_test(rollout: Rollout, now_ns: int, why: str) -> Rollout:
    """The version that served before answers again; whoever won may be promoted by a rollout of its own."""
    return _weigh(_enter(rollout, Phase.DRAIN, now_ns, f"the test is over: {why}"))


def _enter(rollout: Rollout, phase: Phase, now_ns: int, why: str) -> Rollout:
    return _change(rollout, phase=phase, phase_since_ns=now_ns, reason=why)


def _weigh(rollout: Rollout) -> Rollout:
    """The weights are others: what is counted from now on is counted apart."""
    return _change(rollout, segment=rollout.segment + 1, evidence_s=0.0)


def _change(rollout: Rollout, **fields: Any) -> Rollout:  # noqa: ANN401 - fields of Rollout
    return msgspec.structs.replace(rollout, **fields)

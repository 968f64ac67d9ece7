"""What becomes of a rollout when something happens: a pure function of its state, the event, and the time.

ADMIT -> STAGE -> SHADOW -> STEP[i] -> PROMOTE -> GUARD -> DRAIN -> SUCCEEDED, with the exits ROLLING_BACK ->
ROLLED_BACK, SUPERSEDED and FAILED_INFRA. Who may do what:

- Harm turns a rollout back from every phase in which a candidate runs anything, paused or not, asked about or not.
- Only a verdict that passes lets automation raise a weight, and only after enough evidence time; a clock raises none.
- A person's abort always wins. What a person promoted, verdicts do not take back: they ask.
- What has ended stays as it is; going back from there is a rollout of its own.

`step` gives None where nothing changes, so that looking every second leaves no trace. What it refuses it refuses with
the story so far and with what would be allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from taxiway.rollout import commands as ask
from taxiway.rollout import events as told
from taxiway.rollout import noticing, obeying
from taxiway.rollout.moving import S_NS, Move
from taxiway.rollout.noticing import BEFORE_TRAFFIC
from taxiway.rollout.nouns import Phase, Rollout
from taxiway.rollout.obeying import allowed
from taxiway.rollout.shares import WITH_TRAFFIC, candidate_share, is_test, split_differs, weights_of

__all__ = ["BEFORE_TRAFFIC", "S_NS", "WITH_TRAFFIC", "Step", "allowed", "begin", "is_test", "replay", "step"]

_BEGINNING: Final = (Phase.QUEUED, Phase.ADMIT, Phase.STAGE)
_TRAFFIC: Final = (Phase.SHADOW, Phase.STEP, Phase.PROMOTE, Phase.GUARD)

_NOTICED: Final[Mapping[type, tuple[Callable[[Rollout, Any, int], Move | None], tuple[Phase, ...]]]] = {
    told.Begun: (noticing.begun, (Phase.QUEUED,)),
    told.Admitted: (noticing.admitted, (Phase.ADMIT,)),
    told.Staged: (noticing.staged, (Phase.STAGE,)),
    told.Failed: (noticing.failed, (*_BEGINNING, *_TRAFFIC, Phase.DRAIN)),
    told.Applied: (noticing.applied, (Phase.PROMOTE, Phase.DRAIN, Phase.ROLLING_BACK)),
    told.Looked: (noticing.looked, _TRAFFIC),
    told.FuseBlew: (noticing.fuse_blew, (Phase.STEP, Phase.PROMOTE, Phase.GUARD, Phase.DRAIN)),
    told.Replaced: (noticing.replaced, (*_BEGINNING, Phase.SHADOW, Phase.STEP)),
}
"""What each event does, and in which phases; in all others it does nothing. What has everything, or is about to end, is
not replaced: the newer one waits for it."""

_OBEYED: Final[Mapping[type, Callable[[Rollout, Any, int, str], Move | None]]] = {
    ask.Pause: obeying.pause,
    ask.Resume: obeying.resume,
    ask.Advance: obeying.advance,
    ask.Promote: obeying.promote,
    ask.Approve: obeying.approve,
    ask.Abort: obeying.abort,
    ask.Extend: obeying.extend,
}
"""What each command does where `obeying.objection` has nothing against it."""


@dataclass(frozen=True, slots=True)
class Step:
    """One transition. `kind` and `payload` are what `replay` makes it from again."""

    after: Rollout
    kind: str
    payload: Mapping[str, Any]


def step(rollout: Rollout, event: told.Event, now_ns: int, actor: str) -> Step | None:
    """What becomes of it; None if nothing does.

    Args:
        rollout: as it is.
        event: what happened, or what somebody asks.
        now_ns: UTC nanoseconds; of the journal's change, so that a replay is told the same.
        actor: who asks; for what nobody asks, whoever saw it.

    Raises:
        InvalidTransition: a person asks for what is not possible now.
        InvalidArgument: a command lacks its reason, or names an arm that there is not.
    """
    payload = told.to_payload(event)
    event = told.from_payload(payload)  # as it will be read again, so that the same follows from it, bit for bit
    move = _move(rollout, event, now_ns, actor)
    if move is None:
        return None
    after = _after(rollout, event, move, now_ns)
    became = {"became": move.became, "phase": after.phase.value, "weights": weights_of(after)}
    told_of = {"basis": move.basis.told(), "reason": after.reason}
    return Step(after, type(event).__name__.lower(), {"event": payload, "actor": actor, **became, **told_of})


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
        event = told.from_payload(payload["event"])
        made = step(state, event, at_ns, payload["actor"])
        if made is None:
            raise ValueError(f"{type(event).__name__} changes nothing in {state.phase.value}")
        state = made.after
    if state is None:
        raise ValueError("nothing happened")
    return state


def may_be_replaced(rollout: Rollout) -> bool:
    """Whether a newer rollout can take its place now; else it has to wait."""
    return rollout.phase in _NOTICED[told.Replaced][1]


def _move(rollout: Rollout, event: told.Event, now_ns: int, actor: str) -> Move | None:
    if isinstance(event, ask.Command):
        ask.check_command(event)
        obeying.check_allowed(rollout, event)
        return _OBEYED[type(event)](rollout, event, now_ns, actor)
    handler, phases = _NOTICED[type(event)]
    return handler(rollout, event, now_ns) if rollout.phase in phases else None


def _after(rollout: Rollout, event: told.Event, move: Move, now_ns: int) -> Rollout:
    """The next state: what the move changes, and what follows from that."""
    changes = {"generation": rollout.generation + 1, "reason": move.reason, **move.changes}
    after: Rollout = msgspec.structs.replace(rollout, **changes)
    gathered = rollout.evidence_s
    if isinstance(event, told.Looked) and event.segment in (-1, rollout.segment):
        gathered = event.evidence_s
    follows: dict[str, Any] = {"evidence_s": gathered}
    if after.phase is not rollout.phase:
        follows["phase_since_ns"] = now_ns
    if split_differs(rollout, after):
        follows |= {
            "segment": rollout.segment + 1,
            "evidence_s": 0.0,
            "step_since_ns": now_ns,
            "exposure_s": rollout.exposure_s + candidate_share(rollout) * gathered,
        }
    return msgspec.structs.replace(after, **follows)

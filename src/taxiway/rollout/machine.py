"""A rollout's life: state and what happened in, the next state out. Pure; asks no clock and touches nothing.

ADMIT -> STAGE -> SHADOW -> STEP[i] -> PROMOTE -> GUARD -> DRAIN -> SUCCEEDED, with the exits ROLLING_BACK ->
ROLLED_BACK, SUPERSEDED and FAILED_INFRA. Who may do what:

- Harm turns a rollout back from every phase in which its candidate runs anything, paused or not, approved or not.
- Only a verdict that passes lets automation raise a weight, and only after enough evidence time; a clock raises none.
- A person's abort always wins. What a person promoted, automation does not take back: it asks.
- What has ended stays as it is; going back from there is a rollout of its own.

An event that changes nothing gives None, a command that cannot be obeyed raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, Protocol, TypeVar

import msgspec

from taxiway.core.errors import InternalError, InvalidTransition
from taxiway.registry.outbox import Message
from taxiway.rollout import commands as asked
from taxiway.rollout import events as happened
from taxiway.rollout import noticing, obeying
from taxiway.rollout.changing import Transition, stale
from taxiway.rollout.events import Event, from_payload, to_payload
from taxiway.rollout.letters import letters_of
from taxiway.rollout.moving import Basis, Move
from taxiway.rollout.nouns import TERMINAL, Phase, Rollout
from taxiway.rollout.shares import candidate_share, plan_of, weights

_Event = TypeVar("_Event", bound=Event | asked.Command)
_Handler = Callable[[Rollout, Any, int], Move | None]

_NOTICED: Mapping[type[Any], tuple[_Handler, tuple[Phase, ...]]] = {
    happened.Dequeued: (noticing.dequeued, (Phase.QUEUED,)),
    happened.Admitted: (noticing.admitted, (Phase.ADMIT,)),
    happened.AdmissionRefused: (noticing.refused, (Phase.QUEUED, Phase.ADMIT)),
    happened.Staged: (noticing.staged, (Phase.STAGE,)),
    happened.StagingFailed: (noticing.staging_failed, (Phase.ADMIT, Phase.STAGE, Phase.PROMOTE)),
    happened.WeightsApplied: (noticing.applied, (Phase.PROMOTE, Phase.ROLLING_BACK)),
    happened.EvidenceLooked: (noticing.looked, (Phase.SHADOW, Phase.STEP, Phase.PROMOTE, Phase.GUARD)),
    happened.FuseBlew: (noticing.fuse_blew, (Phase.STEP, Phase.PROMOTE, Phase.GUARD, Phase.DRAIN)),
    happened.BaselineLost: (noticing.baseline_lost, (Phase.SHADOW, Phase.STEP, Phase.PROMOTE, Phase.GUARD)),
    happened.Drained: (noticing.drained, (Phase.DRAIN,)),
    happened.TimePassed: (noticing.time_passed, (Phase.SHADOW, Phase.STEP)),
    happened.Superseded: (noticing.superseded, (Phase.QUEUED, Phase.ADMIT, Phase.STAGE, Phase.SHADOW, Phase.STEP)),
}
"""What each event does, and in which phases; in all others it does nothing."""

_OBEYED: Mapping[type[asked.Command], _Handler] = {
    asked.Pause: obeying.pause,
    asked.Resume: obeying.resume,
    asked.Advance: obeying.advance,
    asked.Promote: obeying.promote,
    asked.Abort: obeying.abort,
    asked.Undo: obeying.undo,
    asked.Extend: obeying.extend,
    asked.Approve: obeying.approve,
}
"""What each command does where `obeying.objection` has nothing against it."""

allowed = obeying.allowed


def begin(started: happened.Started, now_ns: int) -> Transition:
    """A rollout's first state."""
    started = as_recorded(started)
    after = Rollout(
        id=started.id,
        service=started.service,
        generation=1,
        phase=Phase.QUEUED if started.queued else Phase.ADMIT,
        plan=started.plan,
        plan_digest=started.plan_digest,
        baseline=started.baseline,
        baseline_key=started.baseline_key,
        candidates=started.candidates,
        created_by=started.actor,
        created_at_ns=now_ns,
        phase_since_ns=now_ns,
        reason=f"begun by {started.actor}" + (f": {started.reason}" if started.reason else ""),
        supersedes=started.supersedes,
        baseline_path=started.baseline_path,
        baseline_shared=started.baseline_shared,
        by_hand=started.by_hand,
        forced=started.forced,
    )
    kind = "queued" if started.queued else "started"
    return _transition(None, after, started, Move(kind, after.reason, Basis(person=started.actor)))


def step(rollout: Rollout, event: Event | asked.Command, now_ns: int) -> Transition | None:
    """What becomes of a rollout.

    Args:
        rollout: as it is.
        event: what happened, or what somebody asks.
        now_ns: UTC nanoseconds; of the journal's change, so that a replay is told the same.

    Raises:
        StaleGeneration: a command was decided by another generation.
        InvalidTransition: a command cannot be obeyed now; says what could.
    """
    event = as_recorded(event)
    move = _obey(rollout, event, now_ns) if isinstance(event, asked.Command) else _notice(rollout, event, now_ns)
    return None if move is None else _transition(rollout, _moved(rollout, event, move, now_ns), event, move)


def as_recorded(event: _Event) -> _Event:
    """The event as the journal gives it back, so that what is decided by it can be decided again, bit for bit."""
    return from_payload(to_payload(event))  # type: ignore[return-value]


def on_newer(rollout: Rollout) -> Literal["reject", "queue", "replace"]:
    """What a newer rollout of the service does while this one goes on.

    It is as the plan of this one says, but that what is about to end is not replaced: then the newer one waits.
    """
    policy = plan_of(rollout).on_superseded
    replaceable = rollout.phase in _NOTICED[happened.Superseded][1]
    return "queue" if policy == "replace" and not replaceable else policy


def _notice(rollout: Rollout, event: Event | asked.Command, now_ns: int) -> Move | None:
    handler, phases = _NOTICED.get(type(event), (None, ()))
    if handler is not None and rollout.phase in phases:
        return handler(rollout, event, now_ns)
    if isinstance(event, happened.Superseded | happened.Started):
        raise InvalidTransition(
            f"rollout {rollout.id} of {rollout.service} cannot be {type(event).__name__.lower()} in phase "
            f"{rollout.phase.value} (generation {rollout.generation}; last: {rollout.reason})",
            hint="let the newer one wait",
            rollout=rollout.id,
            phase=rollout.phase.value,
        )
    return None


def _obey(rollout: Rollout, command: asked.Command, now_ns: int) -> Move | None:
    if command.expect_generation not in (None, rollout.generation):
        raise stale(rollout, command.expect_generation or 0)
    handler = _OBEYED.get(type(command))
    if handler is None:
        raise obeying.refusal(rollout, command, "it has begun already")
    asked.check_command(command)
    obeying.check_allowed(rollout, command)
    return handler(rollout, command, now_ns)


def _moved(rollout: Rollout, event: Event | asked.Command, move: Move, now_ns: int) -> Rollout:
    """The next state: what the move changes, and what follows from that."""
    after: Rollout = msgspec.structs.replace(
        rollout, **{"generation": rollout.generation + 1, "reason": move.reason, **move.changes}
    )
    gathered = rollout.evidence_s
    if isinstance(event, happened.EvidenceLooked) and event.segment == rollout.segment:
        gathered = event.evidence_s
    follows: dict[str, Any] = {"evidence_s": gathered}
    if after.phase is not rollout.phase:
        follows["phase_since_ns"] = now_ns
    if weights(after) != weights(rollout):
        follows |= {
            "segment": rollout.segment + 1,
            "evidence_s": 0.0,
            "step_since_ns": now_ns,
            "exposure_s": rollout.exposure_s + candidate_share(rollout) * gathered,
        }
    return msgspec.structs.replace(after, **follows)


def _transition(before: Rollout | None, after: Rollout, event: Event | asked.Command, move: Move) -> Transition:
    payload = {
        "event": to_payload(event),
        "phase": after.phase.value,
        "weights": weights(after),
        "basis": move.basis.told(),
        "sentence": after.reason,
    }
    letters: tuple[Message, ...] = letters_of(before, after, move)
    return Transition(before, after, move.kind, payload, letters=letters)


class Recorded(Protocol):
    """An event as the journal gives it back."""

    @property
    def at_ns(self) -> int:
        """UTC nanoseconds."""

    @property
    def payload(self) -> Mapping[str, Any]:
        """As the transition had it."""


def replay(events: Iterable[Recorded]) -> Rollout:
    """The state that all events of one rollout lead to, oldest first: the same, bit for bit, as was written.

    Raises:
        InternalError: they do not begin with its beginning, or one of them changes nothing.
    """
    rollout: Rollout | None = None
    for recorded in events:
        event = from_payload(recorded.payload["event"])
        if rollout is None and isinstance(event, happened.Started):
            rollout = begin(event, recorded.at_ns).after
            continue
        moved = None if rollout is None else step(rollout, event, recorded.at_ns)
        if moved is None:
            raise InternalError(f"a rollout's events cannot be followed: {type(event).__name__} leads nowhere")
        rollout = moved.after
    if rollout is None:
        raise InternalError("a rollout has no events")
    return rollout


def is_over(rollout: Rollout) -> bool:
    """Whether nothing happens to it any more."""
    return rollout.phase in TERMINAL

"""One change of the journal under way: everything in it is written together, or nothing is.

There is no way to write a rollout, an event or a command's outcome but through a `Change`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, delete, insert, select, update

from taxiway.core.errors import (
    AlreadyExists,
    InternalError,
    InvalidTransition,
    RolloutActive,
    StaleGeneration,
)
from taxiway.registry.canonical import canonical_json, checked_text, digest_of, read_json, time_text
from taxiway.registry.outbox import Message, write_letters
from taxiway.rollout import reading, schema
from taxiway.rollout.blobs import Packed
from taxiway.rollout.chain import Event, event_hash
from taxiway.rollout.moments import utc_time
from taxiway.rollout.nouns import TERMINAL, Evidence, Phase, Rollout

_NOTHING: Final[Mapping[str, Any]] = {}


@dataclass(frozen=True, slots=True)
class Transition:
    """A rollout's next state, and all that is to be written with it.

    Attributes:
        before: as it was read; None: `after` is its beginning, of generation 1.
        after: of the next generation.
        kind, payload: what happened, in the machine's words, from which it can make `after` again. JSON.
        evidence: what a verdict rests on; kept for good.
        letters: what others are to be told.
    """

    before: Rollout | None
    after: Rollout
    kind: str
    payload: Mapping[str, Any]
    evidence: Evidence | None = None
    letters: Sequence[Message] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """A command that whoever sent it may send again, because no answer came.

    Attributes:
        key: its idempotency key; nobody uses it for another command.
        request: all that was asked. JSON.
    """

    key: str
    request: Mapping[str, Any]


class Change:
    """One change, alone: nobody else writes until it is over.

    Attributes:
        connection: its transaction.
        at_ns: the moment of all that it writes, UTC nanoseconds: the clock's, but never before the last event's. What
            the machine decides in this change, it decides at this moment.
        actor: who asks for it.
    """

    def __init__(self, connection: Connection, seq: int, prev_hash: str, at_ns: int, actor: str) -> None:
        self.connection = connection
        self.at_ns = at_ns
        self.actor = actor
        self._seq = seq
        self._hash = prev_hash

    # --- reading: what is true until this change is over ----------------------------------------------------

    def rollout(self, number: str) -> Rollout:
        """The rollout of this id. Raises RolloutNotFound."""
        return reading.rollout(self.connection, number)

    def active(self, service: str) -> Rollout | None:
        """The one that goes on; those that wait in the queue do not."""
        return reading.active(self.connection, service)

    def queued(self, service: str) -> list[Rollout]:
        """Those that wait, the longest first."""
        return reading.queued(self.connection, service)

    def quarantined(self, digest: str) -> Rollout | None:
        """As `Journal.quarantined`."""
        return reading.quarantined(self.connection, digest)

    def outcome(self, asked: Asked) -> dict[str, Any] | None:
        """What came of this very command when it was sent before; None: it is new.

        Raises:
            IdempotencyConflict: the key was used for another command.
        """
        return reading.outcome(self.connection, asked.key, asked.request)

    # --- writing -------------------------------------------------------------------------------------------

    def write(
        self, transition: Transition, *, asked: Asked | None = None, outcome: Mapping[str, Any] = _NOTHING
    ) -> Event:
        """Write a transition; with `asked`, also that `outcome` (JSON) came of that command.

        Raises:
            StaleGeneration: the rollout is no longer as `before` says.
            RolloutActive: it would go on beside another of its service.
            InvalidTransition: it has ended.
            AlreadyExists: `before` is None, and there is a rollout of this id.
        """
        _check(transition)
        self._seq += 1
        state = canonical_json(msgspec.to_builtins(transition.after))
        self._place(transition, state)
        facts: dict[str, Any] = {"state": digest_of(state)}
        if transition.evidence is not None:
            facts["evidence"] = self._keep(transition.evidence)
        at = time_text(utc_time(self.at_ns))
        if letters := write_letters(self.connection, schema.outbox, at, transition.letters):
            facts["letters"] = letters
        if asked is not None:
            facts["command"] = self._settle(asked, outcome)
        return self._link(transition, canonical_json(transition.payload), canonical_json(facts))

    def _place(self, transition: Transition, state: str) -> None:
        before, after = transition.before, transition.after
        if is_active(after.phase):
            self._require_alone(after)
        row = {
            "generation": after.generation,
            "phase": after.phase.value,
            "active": int(is_active(after.phase)),
            "moved": self._seq,
            "state": state,
        }
        if before is None:
            self._begin(after, row)
        else:
            self._move(before, after, row)

    def _begin(self, after: Rollout, row: dict[str, Any]) -> None:
        here = schema.rollout.c
        if self.connection.scalar(select(here.generation).where(here.id == after.id)) is not None:
            raise AlreadyExists(f"there is a rollout {after.id} already", hint="give each rollout an id of its own")
        entered = self._seq if after.phase is not Phase.QUEUED else 0
        row |= {"id": after.id, "service": after.service, "opened": self._seq, "entered": entered}
        self.connection.execute(insert(schema.rollout).values(**row))
        self._name_candidates(after)

    def _move(self, before: Rollout, after: Rollout, row: dict[str, Any]) -> None:
        here = schema.rollout.c
        if before.phase is Phase.QUEUED and is_active(after.phase):
            row["entered"] = self._seq
        this = update(schema.rollout).where(here.id == before.id, here.generation == before.generation)
        if self.connection.execute(this.values(**row)).rowcount == 0:
            found = self.rollout(before.id)
            raise stale(found, before.generation)
        if before.candidates != after.candidates:
            self.connection.execute(delete(schema.candidate).where(schema.candidate.c.rollout == after.id))
            self._name_candidates(after)

    def _name_candidates(self, after: Rollout) -> None:
        for tried in after.candidates:
            row = {"rollout": after.id, "arm": tried.arm, "version": tried.version, "digest": tried.digest}
            self.connection.execute(insert(schema.candidate).values(**row))

    def _require_alone(self, after: Rollout) -> None:
        other = self.active(after.service)
        if other is not None and other.id != after.id:
            raise RolloutActive(
                f"rollout {other.id} of {after.service} goes on (phase {other.phase.value}): one at a time",
                hint=f"wait for it, or `taxiway rollout abort {other.id}`; or let the new one queue or replace it",
                rollout=other.id,
                phase=other.phase.value,
            )

    def _keep(self, evidence: Evidence) -> str:
        packed = Packed.of(evidence)
        here = schema.evidence.c
        if self.connection.scalar(select(here.size).where(here.digest == packed.digest)) is None:
            row = {"digest": packed.digest, "size": packed.size, "blob": packed.blob}
            self.connection.execute(insert(schema.evidence).values(**row))
        return packed.digest

    def _settle(self, asked: Asked, outcome: Mapping[str, Any]) -> list[str]:
        checked_text("idempotency_key", asked.key, at_most=reading.MAX_KEY)
        request, text = digest_of(canonical_json(asked.request)), canonical_json(dict(outcome))
        row = {"key": asked.key, "request": request, "outcome": text, "seq": self._seq, "at_ns": self.at_ns}
        self.connection.execute(insert(schema.command).values(**row))
        return [asked.key, request, digest_of(text)]

    def _link(self, transition: Transition, payload: str, facts: str) -> Event:
        after, kind = transition.after, transition.kind
        said = (self._seq, after.id, after.generation, kind, self.actor, self.at_ns, payload, facts)
        link = event_hash(self._hash, *said)
        columns = ("seq", "rollout", "generation", "kind", "actor", "at_ns", "payload", "facts")
        row = dict(zip(columns, said, strict=True)) | {"prev_hash": self._hash, "hash": link}
        self.connection.execute(insert(schema.event).values(**row))
        self.connection.execute(update(schema.head).values(seq=self._seq, at_ns=self.at_ns, hash=link))
        event = Event(*said[:6], read_json(payload), read_json(facts), self._hash, link)
        self._hash = link
        return event


def is_active(phase: Phase) -> bool:
    """Whether a rollout in this phase goes on: it is neither over nor waiting in the queue."""
    return phase is not Phase.QUEUED and phase not in TERMINAL


def stale(found: Rollout, expected: int) -> StaleGeneration:
    """The error for whoever decided by an older generation than there is."""
    return StaleGeneration(
        f"rollout {found.id} is of generation {found.generation} (phase {found.phase.value}), not {expected}",
        hint="look at it again, and decide by what it is now",
        rollout=found.id,
        found=found.generation,
        expected=expected,
    )


def _check(transition: Transition) -> None:
    """What the machine promises; a broken promise is a defect of ours."""
    before, after = transition.before, transition.after
    checked_text("kind", transition.kind, at_most=reading.MAX_KEY)
    last = 0 if before is None else before.generation
    if after.generation != last + 1:
        raise InternalError(f"rollout {after.id}: generation {after.generation} cannot follow {last}")
    if before is None:
        return
    if (before.id, before.service) != (after.id, after.service):
        raise InternalError(f"rollout {before.id} of {before.service} cannot become {after.id} of {after.service}")
    if before.phase in TERMINAL and after.phase is not before.phase:
        raise InvalidTransition(
            f"rollout {before.id} has ended ({before.phase.value}), and cannot become {after.phase.value}",
            hint="start a new rollout",
            rollout=before.id,
        )

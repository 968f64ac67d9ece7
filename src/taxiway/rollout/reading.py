"""What is read from the journal's tables, in a transaction that somebody else opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, Select, select

from taxiway.core.errors import IdempotencyConflict, JournalBroken, RolloutNotFound
from taxiway.registry.canonical import canonical_json, checked_text, digest_of, read_json
from taxiway.rollout import schema
from taxiway.rollout.blobs import unpack
from taxiway.rollout.chain import HINT, Event, read_event
from taxiway.rollout.nouns import Evidence, Phase, Rollout

MAX_KEY: Final = 256
"""Characters of an idempotency key."""


@dataclass(frozen=True, slots=True)
class ServiceRollouts:
    """Where a service stands.

    Attributes:
        last: the last of its rollouts that began, whether it goes on or is over: it says which version answers. None:
            all that there are wait, or were superseded while they waited.
        queued: those that wait, the longest first.
    """

    service: str
    last: Rollout | None
    queued: tuple[Rollout, ...]


_states = select(schema.rollout)
_here = schema.rollout.c


def read_state(row: Row[Any]) -> Rollout:
    """A rollout from its row."""
    try:
        return msgspec.convert(read_json(row.state), Rollout)
    except (ValueError, msgspec.ValidationError) as error:
        raise JournalBroken(f"the state of rollout {row.id} cannot be read: {error}", hint=HINT) from None


def rollout(connection: Connection, number: str) -> Rollout:
    """The rollout of this id. Raises RolloutNotFound."""
    row = connection.execute(_states.where(_here.id == number)).one_or_none()
    if row is None:
        raise RolloutNotFound(f"there is no rollout {number[:80]!r}", hint="`taxiway rollout list` shows all of them")
    return read_state(row)


def rollouts(
    connection: Connection, service: str | None, *, active: bool | None, limit: int, after: str | None
) -> list[Rollout]:
    """Newest first."""
    query: Select[Any] = _states.order_by(_here.opened.desc()).limit(limit)
    if service is not None:
        query = query.where(_here.service == service)
    if active is not None:
        query = query.where(_here.active == int(active))
    if after is not None:
        opened = connection.scalar(select(_here.opened).where(_here.id == after))
        if opened is None:
            raise RolloutNotFound(f"there is no rollout {after[:80]!r} to go on after", hint="begin the list again")
        query = query.where(_here.opened < opened)
    return [read_state(row) for row in connection.execute(query)]


def active(connection: Connection, service: str) -> Rollout | None:
    """The one that goes on."""
    row = connection.execute(_states.where(_here.service == service, _here.active == 1)).one_or_none()
    return None if row is None else read_state(row)


def queued(connection: Connection, service: str) -> list[Rollout]:
    """Those that wait, the longest first."""
    waiting = _states.where(_here.service == service, _here.phase == Phase.QUEUED.value).order_by(_here.opened)
    return [read_state(row) for row in connection.execute(waiting)]


def services(connection: Connection) -> list[ServiceRollouts]:
    """Every service that ever had a rollout, by name."""
    names = connection.scalars(select(_here.service).distinct().order_by(_here.service)).all()
    return [ServiceRollouts(name, _last(connection, name), tuple(queued(connection, name))) for name in names]


def _last(connection: Connection, service: str) -> Rollout | None:
    began = _states.where(_here.service == service, _here.entered > 0).order_by(_here.entered.desc()).limit(1)
    row = connection.execute(began).one_or_none()
    return None if row is None else read_state(row)


def quarantined(connection: Connection, digest: str) -> Rollout | None:
    """The newest rollout of this digest that turned it back or was won by it decides."""
    named = select(schema.candidate.c.rollout).where(schema.candidate.c.digest == digest)
    for row in connection.execute(_states.where(_here.id.in_(named)).order_by(_here.moved.desc())):
        found = read_state(row)
        if found.quarantined:
            return found
        if found.phase is Phase.SUCCEEDED and digest in (
            one.digest for one in found.candidates if one.arm == found.winner
        ):
            return None
    return None


def events(connection: Connection, number: str, *, after: int, limit: int) -> list[Event]:
    """Of one rollout, those after a generation."""
    here = schema.event.c
    query = select(schema.event).where(here.rollout == number, here.generation > after)
    return [read_event(row) for row in connection.execute(query.order_by(here.generation).limit(limit))]


def history(connection: Connection, service: str | None, *, before: int | None, limit: int) -> list[Event]:
    """Of all rollouts, newest first, those before a number."""
    here = schema.event.c
    query = select(schema.event).order_by(here.seq.desc()).limit(limit)
    if service is not None:
        query = query.where(here.rollout.in_(select(_here.id).where(_here.service == service)))
    if before is not None:
        query = query.where(here.seq < before)
    return [read_event(row) for row in connection.execute(query)]


def evidence(connection: Connection, digest: str) -> Evidence:
    """What an event names. Raises JournalBroken if it is not there, or not what was written."""
    blob = connection.scalar(select(schema.evidence.c.blob).where(schema.evidence.c.digest == digest))
    if blob is None:
        raise JournalBroken(f"the evidence {digest[:80]!r} is not in the journal", hint=HINT, digest=digest[:80])
    return unpack(blob, Evidence, digest)


def outcome(connection: Connection, key: str, request: Mapping[str, Any]) -> dict[str, Any] | None:
    """What came of a command that was sent before; None: it is new. Raises IdempotencyConflict."""
    checked_text("idempotency_key", key, at_most=MAX_KEY)
    found = connection.execute(select(schema.command).where(schema.command.c.key == key)).one_or_none()
    if found is None:
        return None
    if found.request != digest_of(canonical_json(request)):
        raise IdempotencyConflict(
            f"idempotency key {key!r} was used before, for another command",
            hint="use a new key for each command, and the same one only to send it again",
            key=key,
        )
    became: dict[str, Any] = read_json(found.outcome)
    return became

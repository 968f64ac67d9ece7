"""Whether the journal is what it says it is: the chain, and everything that its events tell of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from sqlalchemy import Connection, Row, select

from taxiway.core.errors import InternalError, JournalBroken, TaxiwayError
from taxiway.registry.canonical import digest_of
from taxiway.registry.outbox import letter_digest
from taxiway.rollout import reading, schema
from taxiway.rollout.chain import HINT, Event, broken, verified_events
from taxiway.rollout.nouns import TERMINAL, Phase, Rollout

Fold = Callable[[Sequence[Event]], Rollout]
"""Makes a rollout's state of all its events, oldest first."""

_ALL = 1 << 31


@dataclass(slots=True)
class _Told:
    """What the chain tells of.

    Attributes:
        last: of each rollout, its last event; `first` its first.
        evidence: digests, and the first event that names each.
        letters, commands: what must be in their tables.
    """

    count: int = 0
    first: dict[str, int] = field(default_factory=dict)
    last: dict[str, Event] = field(default_factory=dict)
    evidence: dict[str, int] = field(default_factory=dict)
    letters: dict[str, str] = field(default_factory=dict)
    commands: dict[str, str] = field(default_factory=dict)


def verify(connection: Connection, fold: Fold | None = None) -> int:
    """Check the chain, that the tables hold what it tells, and that `fold` makes of the events what the states are.

    Returns how many events there are.

    Raises:
        JournalBroken: names the first event, or the first piece of state, that is not as it was written.
    """
    told = _follow(verified_events(connection))
    _compare("rollout", {key: event.facts["state"] for key, event in told.last.items()}, dict(_states(connection)))
    _compare("letter", told.letters, dict(_letters(connection)))
    _compare("command", told.commands, dict(_commands(connection)))
    for row in connection.execute(select(schema.rollout).order_by(schema.rollout.c.id)):
        state = reading.read_state(row)
        _check_columns(connection, row, state, told)
        if fold is not None:
            _check_fold(connection, state, fold)
    for digest, seq in told.evidence.items():
        try:
            reading.evidence(connection, digest)
        except JournalBroken as error:
            raise broken(seq, f"rests on evidence that is no longer what it was: {error.message}") from error
    return told.count


def _follow(events: Iterator[Event]) -> _Told:
    told = _Told()
    for event in events:
        told.count += 1
        before = told.last.get(event.rollout)
        if event.generation != (1 if before is None else before.generation + 1):
            raise broken(event.seq, f"makes generation {event.generation} of rollout {event.rollout} out of turn")
        told.first.setdefault(event.rollout, event.seq)
        told.last[event.rollout] = event
        if event.evidence:
            told.evidence.setdefault(event.evidence, event.seq)
        told.letters.update({str(number): digest for number, digest in event.facts.get("letters", ())})
        if "command" in event.facts:
            key, request, outcome = event.facts["command"]
            told.commands[key] = f"{request} {outcome}"
    return told


def _compare(what: str, told: dict[str, str], found: dict[str, str]) -> None:
    for key in sorted(told.keys() | found.keys()):
        if told.get(key) != found.get(key):
            here, said = found.get(key, "not there"), told.get(key, "nothing of it")
            raise JournalBroken(f"{what} {key} is {here}; the chain says {said}", hint=HINT, part=what, subject=key)


def _states(connection: Connection) -> Iterator[tuple[str, str]]:
    for row in connection.execute(select(schema.rollout.c.id, schema.rollout.c.state)):
        yield row.id, digest_of(row.state)


def _letters(connection: Connection) -> Iterator[tuple[str, str]]:
    for row in connection.execute(select(schema.outbox)):
        yield str(row.id), letter_digest(row.target, row.kind, row.subject, row.args)


def _commands(connection: Connection) -> Iterator[tuple[str, str]]:
    for row in connection.execute(select(schema.command)):
        yield row.key, f"{row.request} {digest_of(row.outcome)}"


def _check_columns(connection: Connection, row: Row[Any], state: Rollout, told: _Told) -> None:
    """The columns that rollouts are found by say what the state says."""
    active = state.phase is not Phase.QUEUED and state.phase not in TERMINAL
    last = told.last[state.id]
    said = (state.id, state.service, last.generation, state.phase.value, int(active), told.first[state.id], last.seq)
    found = (row.id, row.service, row.generation, row.phase, row.active, row.opened, row.moved)
    if said != found or state.generation != row.generation:
        _refuse(state, f"its row says {found}, its state {said}")
    here = schema.candidate.c
    query = select(here.arm, here.version, here.digest).where(here.rollout == state.id)
    candidates = sorted(tuple(one) for one in connection.execute(query))
    if candidates != sorted((one.arm, one.version, one.digest) for one in state.candidates):
        _refuse(state, f"its candidates are listed as {candidates}")


def _check_fold(connection: Connection, state: Rollout, fold: Fold) -> None:
    try:
        folded = fold(reading.events(connection, state.id, after=0, limit=_ALL))
    except (TaxiwayError, LookupError, TypeError, ValueError) as error:
        if isinstance(error, InternalError):
            raise
        _refuse(state, f"its events cannot be followed: {error}", error)
    if folded != state:
        differ = [name for name in state.__struct_fields__ if getattr(folded, name) != getattr(state, name)]
        _refuse(state, f"its events make another state of it: they differ in {', '.join(differ)}")


def _refuse(state: Rollout, what: str, cause: Exception | None = None) -> NoReturn:
    raise JournalBroken(f"rollout {state.id}: {what}", hint=HINT, part="rollout", subject=state.id) from cause

"""What others are to be told of a change: written with it, in one transaction, and delivered afterwards.

So nothing is told of a change that was undone, and nothing is forgotten by a process that died. Whoever delivers claims
one letter at a time: the first that waits of its subject, so that a subject's letters arrive in order. A claim is a
lease: who dies with it loses it, and the letter is delivered again. Its receiver must therefore take the same letter
twice for one, and refuse an old one: that is the part of who delivers.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, Table, func, insert, select, update

from taxiway.core.clock import Clock
from taxiway.registry import audit, schema
from taxiway.registry.audit import Change
from taxiway.registry.canonical import MAX_TEXT, canonical_json, digest_of, read_json, read_time, time_text
from taxiway.registry.database import Database

LEASE_S: Final = 60.0
"""How long a letter is its claimer's alone."""


@dataclass(frozen=True, slots=True)
class Message:
    """What is to be said.

    Attributes:
        target: who is told, as `mlflow`.
        kind: what it is about, in words that the target's deliverer knows.
        subject: letters about one subject arrive in the order in which they were written.
        args: the rest. JSON.
    """

    target: str
    kind: str
    subject: str
    args: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Letter:
    """A message on its way.

    Attributes:
        done_at: when it was delivered, or given up for `problem`; None while it waits.
        tries: how often it was claimed; tells the holder of one claim from that of the next.
        not_before: when it may be claimed again.
        problem: why it was given up, or what kept the last try from succeeding.
    """

    id: int
    target: str
    kind: str
    subject: str
    args: Mapping[str, Any]
    created_at: dt.datetime
    done_at: dt.datetime | None
    tries: int
    not_before: dt.datetime
    problem: str


def post(change: Change, messages: Iterable[Message]) -> dict[str, list[tuple[int, str]]]:
    """Write letters as a part of `change`; returns what its audit entry must say of them."""
    posted = write_letters(change.connection, schema.outbox, change.at, messages)
    return {"outbox": posted} if posted else {}


def write_letters(connection: Connection, table: Table, at: str, messages: Iterable[Message]) -> list[tuple[int, str]]:
    """Write letters into a table of them, in a transaction that writes alone; the number and digest of each."""
    written = list(messages)
    last = (connection.scalar(select(func.max(table.c.id))) or 0) if written else 0
    posted: list[tuple[int, str]] = []
    for number, message in enumerate(written, last + 1):
        row = {"target": message.target, "kind": message.kind, "subject": message.subject}
        row["args"] = canonical_json(dict(message.args))
        state = {"created_at": at, "not_before": at, "done_at": None, "tries": 0, "problem": ""}
        connection.execute(insert(table).values(id=number, **row, **state))
        posted.append((number, letter_digest(**row)))
    return posted


def letter_digest(target: str, kind: str, subject: str, args: str) -> str:
    """The digest of what a letter says, for the audit log."""
    return digest_of(canonical_json([target, kind, subject, args]))


def withdraw(change: Change, target: str, subjects: Iterable[str], reason: str) -> None:
    """Give up the letters that wait about `subjects`."""
    here = schema.outbox.c
    waiting = (here.target == target) & here.subject.in_(list(subjects)) & here.done_at.is_(None)
    change.connection.execute(update(schema.outbox).where(waiting).values(done_at=change.at, problem=reason))


class Letters:
    """The letters of one table, for those who deliver them; as many processes as like may do so."""

    def __init__(self, database: Database, clock: Clock, table: Table) -> None:
        self._database = database
        self._clock = clock
        self._table = table

    def claim(self, target: str, *, lease_s: float = LEASE_S) -> Letter | None:
        """The next letter for `target` that may be delivered now; the caller's alone for `lease_s`."""
        now = self._clock.now_utc()
        with self._database.write() as connection:
            row = self._first_waiting(connection, target, time_text(now))
            if row is None:
                return None
            until = time_text(now + dt.timedelta(seconds=lease_s))
            held = update(self._table).where(self._held(row.id, row.tries))
            taken = connection.execute(held.values(tries=row.tries + 1, not_before=until))
            if taken.rowcount == 0:  # PostgreSQL let another claim it between the two statements
                return None
            return _read(connection.execute(select(self._table).where(self._table.c.id == row.id)).one())

    def holds(self, letter: Letter) -> bool:
        """Whether the claim is still good: nobody else has claimed the letter since, and its lease has not run out."""
        with self._database.read() as connection:
            found = connection.scalar(select(self._table.c.not_before).where(self._held(letter.id, letter.tries)))
        return found is not None and self._clock.now_utc() < read_time(found)

    def settle(self, letter: Letter) -> bool:
        """It was delivered; False if the claim was lost meanwhile."""
        now = time_text(self._clock.now_utc())
        with self._database.write() as connection:
            return self._end(connection, letter, now, "")

    def postpone(self, letter: Letter, problem: str, *, delay_s: float) -> None:
        """It could not be delivered now: to be tried again after `delay_s`."""
        later = time_text(self._clock.now_utc() + dt.timedelta(seconds=delay_s))
        with self._database.write() as connection:
            held = update(self._table).where(self._held(letter.id, letter.tries))
            connection.execute(held.values(not_before=later, problem=problem[:MAX_TEXT]))

    def letters(self, target: str, *, waiting: bool | None = None, limit: int = 1000) -> list[Letter]:
        """The newest letters for `target`, oldest of them first; all, or those that wait, or those that do not."""
        here = self._table.c
        query = select(self._table).where(here.target == target).order_by(here.id.desc()).limit(limit)
        if waiting is not None:
            query = query.where(here.done_at.is_(None) if waiting else here.done_at.is_not(None))
        with self._database.read() as connection:
            return [_read(row) for row in connection.execute(query)][::-1]

    def last_delivered(self, target: str, kind: str, subject: str) -> Letter | None:
        """The last letter of a subject that arrived: what its receiver was left with."""
        here = self._table.c
        these = (here.target == target) & (here.subject == subject) & (here.kind == kind)
        arrived = these & here.done_at.is_not(None) & (here.problem == "")
        query = select(self._table).where(arrived).order_by(here.id.desc()).limit(1)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _read(row)

    def _first_waiting(self, connection: Connection, target: str, now: str) -> Row[Any] | None:
        """The oldest letter among those that nothing older of their subject holds up."""
        here = self._table.c
        waiting = (here.target == target) & here.done_at.is_(None)
        heads = select(func.min(here.id)).where(waiting).group_by(here.subject)
        query = select(self._table).where(here.id.in_(heads), here.not_before <= now).order_by(here.id).limit(1)
        return connection.execute(query).one_or_none()

    def _held(self, number: int, tries: int) -> Any:  # noqa: ANN401 - SQLAlchemy's condition
        here = self._table.c
        return (here.id == number) & (here.tries == tries) & here.done_at.is_(None)

    def _end(self, connection: Connection, letter: Letter, now: str, problem: str) -> bool:
        done = update(self._table).where(self._held(letter.id, letter.tries)).values(done_at=now, problem=problem)
        return connection.execute(done).rowcount == 1


class Outbox(Letters):
    """The letters of a registry."""

    def __init__(self, database: Database, clock: Clock) -> None:
        super().__init__(database, clock, schema.outbox)

    def refuse(self, letter: Letter, problem: str, *, actor: str) -> bool:
        """It cannot be delivered, now or ever; the audit log tells of it. False if the claim was lost meanwhile."""
        with audit.change(self._database, self._clock, actor) as change:
            done = self._end(change.connection, letter, change.at, problem[:MAX_TEXT])
            if done:
                said = {
                    "target": letter.target,
                    "letter": letter.id,
                    "kind": letter.kind,
                    "problem": problem[:MAX_TEXT],
                }
                change.tell("letter-refused", letter.subject, said)
            return done


def _read(row: Row[Any]) -> Letter:
    done_at = None if row.done_at is None else read_time(row.done_at)
    return Letter(
        row.id,
        row.target,
        row.kind,
        row.subject,
        read_json(row.args),
        read_time(row.created_at),
        done_at,
        row.tries,
        read_time(row.not_before),
        row.problem,
    )

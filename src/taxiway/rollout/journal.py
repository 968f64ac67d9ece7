"""The journal's face: what rollouts are, were, and rested on. Blocking; threads may share one.

A transition is one transaction: the state of the next generation, a link of the chain that tells of it, the letters
that go out because of it, the evidence that it rests on, and what came of the command that asked for it. Effects come
afterwards, and are made again by whoever finds the state: nothing is ever replayed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Final, Self

from sqlalchemy import delete, insert, select, update

from taxiway.core.clock import Clock, SystemClock
from taxiway.core.errors import JournalBusy, JournalUnavailable
from taxiway.registry.canonical import canonical_json, checked_text, digest_of, time_text
from taxiway.registry.database import Database, Purpose
from taxiway.registry.outbox import Letter, Letters
from taxiway.rollout import reading, schema
from taxiway.rollout.answers import Answers
from taxiway.rollout.blobs import Kind, Packed, unpack
from taxiway.rollout.chain import Event
from taxiway.rollout.changing import Asked, Change, Transition, stale
from taxiway.rollout.journal_migrations import migrate
from taxiway.rollout.leading import LEASE_S, Leadership, Lease, lock_head, require_leadership
from taxiway.rollout.moments import utc_ns
from taxiway.rollout.nouns import Evidence, Rollout
from taxiway.rollout.reading import ServiceRollouts
from taxiway.rollout.verifying import Fold, verify

__all__ = ["JOURNAL", "Asked", "Change", "Event", "Journal", "Leadership", "ServiceRollouts", "Transition"]

JOURNAL: Final = Purpose("the journal of rollouts", "control.journal", "rollouts.db", JournalUnavailable, JournalBusy)


class Outbox(Letters):
    """The letters of a journal: each arrives at least once, those of a subject in order."""

    def __init__(self, database: Database, clock: Clock) -> None:
        super().__init__(database, clock, schema.outbox)

    def refuse(self, letter: Letter, problem: str) -> bool:
        """It cannot be delivered, now or ever; False if the claim was lost meanwhile."""
        with self._database.write() as connection:
            return self._end(connection, letter, time_text(self._clock.now_utc()), problem)


def delivery_id(letter: Letter) -> str:
    """The same each time a letter is delivered, and of no other letter: its receiver takes it once."""
    said = [letter.id, time_text(letter.created_at), letter.target, letter.kind, letter.subject, dict(letter.args)]
    return digest_of(canonical_json(said)).removeprefix("sha256:")[:32]


class Journal:
    """Rollouts in a database. What changes a rollout asks for leadership, which one process has."""

    def __init__(self, database: Database, clock: Clock, *, lease_s: float = LEASE_S) -> None:
        self._database = database
        self._clock = clock
        self.lease = Lease(database, clock, lease_s=lease_s)
        """Who leads."""
        self.outbox = Outbox(database, clock)
        """What others are to be told, for those who deliver it."""
        self.answers = Answers(database, clock)
        """What quality is judged by."""

    @classmethod
    def open(cls, url: str, *, clock: Clock | None = None, lease_s: float = LEASE_S) -> Self:
        """Open a journal, made if it is not there, its tables brought up to this release.

        Args:
            url: `sqlite:///PATH` or `postgresql://...`.
            clock: tells the time of each change.
            lease_s: how long a leader that is not heard of keeps its lease.

        Raises:
            SchemaTooNew: a later release wrote it.
            JournalUnavailable: it cannot be reached.
        """
        clock = clock or SystemClock()
        database = Database.open(url, JOURNAL)
        try:
            migrate(database, time_text(clock.now_utc()))
        except BaseException:
            database.close()
            raise
        return cls(database, clock, lease_s=lease_s)

    @property
    def url(self) -> str:
        """Where it is, without the password."""
        return self._database.url

    def close(self) -> None:
        """Close its connections; the lease is kept."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- changing --------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def change(self, leadership: Leadership, actor: str) -> Iterator[Change]:
        """Begin a change: waits until nobody else has one under way. It is undone if the block raises.

        It may write several transitions, as when one rollout replaces another.

        Raises:
            NotLeader: another process has taken the lease.
        """
        checked_text("actor", actor, at_most=256)
        with self._database.write() as connection:
            head = lock_head(connection)
            require_leadership(connection, leadership)
            at_ns = max(utc_ns(self._clock.now_utc()), head.at_ns)
            yield Change(connection, head.seq, head.hash, at_ns, actor)

    def transition(
        self,
        leadership: Leadership,
        actor: str,
        number: str,
        decide: Callable[[Rollout, int], Transition | None],
        *,
        expect_generation: int | None = None,
    ) -> Rollout:
        """Read a rollout, let `decide` say what becomes of it at a moment (UTC nanoseconds), and write that.

        Returns the rollout afterwards; as it was, if `decide` gives None. `decide` runs while everybody else waits: it
        must be pure and quick.

        Raises:
            StaleGeneration: it is not of `expect_generation`.
            RolloutNotFound, NotLeader, and what `Change.write` raises.
        """
        with self.change(leadership, actor) as change:
            before = change.rollout(number)
            if expect_generation is not None and expect_generation != before.generation:
                raise stale(before, expect_generation)
            decided = decide(before, change.at_ns)
            if decided is None:
                return before
            change.write(decided)
            return decided.after

    def keep_working(self, leadership: Leadership, number: str, gathered: object) -> None:
        """Replace what is gathered for a rollout (structs or plain data): at each look, without waiting for the disk.

        A power cut may take the last of it, unless a transition followed: reports are cumulative, and come again.

        Raises:
            NotLeader: another process has taken the lease.
        """
        packed = Packed.of(gathered)
        row = {"at_ns": utc_ns(self._clock.now_utc()), "blob": packed.blob}
        here = schema.working.c
        with self._database.note() as connection:
            lock_head(connection)
            require_leadership(connection, leadership)
            if connection.execute(update(schema.working).where(here.rollout == number).values(**row)).rowcount == 0:
                connection.execute(insert(schema.working).values(rollout=number, **row))

    def forget_working(self, leadership: Leadership, number: str) -> None:
        """Drop what was gathered for a rollout that is over. What its events name stays."""
        with self._database.write() as connection:
            lock_head(connection)
            require_leadership(connection, leadership)
            connection.execute(delete(schema.working).where(schema.working.c.rollout == number))

    # --- reading ---------------------------------------------------------------------------------------------

    def rollout(self, number: str) -> Rollout:
        """The rollout of this id.

        Raises:
            RolloutNotFound: there is none.
        """
        with self._database.read() as connection:
            return reading.rollout(connection, number)

    def rollouts(
        self,
        service: str | None = None,
        *,
        active: bool | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> list[Rollout]:
        """Newest first: of one service, or of all; those that go on, or those that do not; those older than `after`.

        Raises:
            RolloutNotFound: there is no rollout `after`.
        """
        with self._database.read() as connection:
            return reading.rollouts(connection, service, active=active, limit=limit, after=after)

    def active(self, service: str) -> Rollout | None:
        """The rollout of a service that goes on; those that wait in the queue do not."""
        with self._database.read() as connection:
            return reading.active(connection, service)

    def services(self) -> list[ServiceRollouts]:
        """Every service that ever had a rollout: its last one, and those that wait."""
        with self._database.read() as connection:
            return reading.services(connection)

    def quarantined(self, digest: str) -> Rollout | None:
        """The rollout that turned this digest back, unless a later one of it succeeded."""
        with self._database.read() as connection:
            return reading.quarantined(connection, digest)

    def events(self, number: str, *, after: int = 0, limit: int = 1000) -> list[Event]:
        """What happened to one rollout, oldest first, after generation `after`.

        Raises:
            RolloutNotFound: there is none.
        """
        with self._database.read() as connection:
            reading.rollout(connection, number)
            return reading.events(connection, number, after=after, limit=limit)

    def history(self, service: str | None = None, *, before: int | None = None, limit: int = 100) -> list[Event]:
        """What happened to the rollouts of one service, or of all, newest first, before event `before`."""
        with self._database.read() as connection:
            return reading.history(connection, service, before=before, limit=limit)

    def evidence(self, digest: str) -> Evidence:
        """What an event names, as it was: to the bit.

        Raises:
            JournalBroken: it is not there, or was changed.
        """
        with self._database.read() as connection:
            return reading.evidence(connection, digest)

    def working(self, number: str, kind: type[Kind]) -> Kind | None:
        """What was gathered for a rollout when it was last looked at, read as a `kind`; None: nothing yet."""
        query = select(schema.working.c.blob).where(schema.working.c.rollout == number)
        with self._database.read() as connection:
            blob = connection.scalar(query)
        return None if blob is None else unpack(blob, kind)

    def outcome(self, asked: Asked) -> dict[str, Any] | None:
        """What came of this very command when it was sent before; None: it is new.

        Raises:
            IdempotencyConflict: the key was used for another command.
        """
        with self._database.read() as connection:
            return reading.outcome(connection, asked.key, asked.request)

    def verify(self, fold: Fold | None = None) -> int:
        """Check the chain, that the tables hold what it tells, and that `fold` makes of the events what the states are.

        Returns how many events there are.

        Raises:
            JournalBroken: names the first event, or the first piece of state, that is not as it was written.
        """
        with self._database.read() as connection:
            return verify(connection, fold)

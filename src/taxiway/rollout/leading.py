"""Who leads: of all control processes on one journal, one moves rollouts, and the others wait.

A lease is a row: its holder, a fencing number that grows each time somebody takes it, and when it runs out unless it is
renewed. Every transition checks the fencing number in its own transaction, so that whoever lost the lease without
noticing (a stopped process, a clock that jumped) cannot write. All else here is about how soon somebody else may take
it: at once when it was given back, or when its holder was a process of this machine that is gone; else when it has run
out. Of a holder that lives on this machine the clock alone says nothing: then it must have stayed silent for the whole
length of a lease, by the waiting process's own monotonic clock. That goes for any holder, wherever it is, so that a
clock which is set back keeps nobody waiting.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from sqlalchemy import Connection, Row, select, update

from taxiway.core.clock import Clock
from taxiway.core.errors import NotLeader
from taxiway.registry.database import Database
from taxiway.rollout import schema
from taxiway.rollout.moments import utc_ns

LEASE_S: Final = 10.0
"""How long a leader that is not heard of keeps its lease where nobody can see whether it lives."""

FREE: Final[Mapping[str, Any]] = {"name": "", "machine": "", "pid": 0, "started": 0, "expires_at_ns": 0}
"""The lease while nobody has it."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process, so that others of its machine can tell whether it lives.

    Attributes:
        name: for people: `host:pid`.
        machine: the boot of the machine, and the name space of its process ids: containers of one host differ.
        started: when it began, in the kernel's ticks since boot: ids are used again.
    """

    name: str
    machine: str
    pid: int
    started: int

    @classmethod
    def this(cls) -> Self:
        """This one."""
        pid = os.getpid()
        return cls(f"{socket.gethostname()}:{pid}", _machine(), pid, _started(pid))

    def is_gone(self) -> bool:
        """Whether it is certain that it ended: it ran on this machine, and does so no longer."""
        return self.machine == _machine() and _started(self.pid) != self.started

    def is_here(self) -> bool:
        """Whether it is certain that it lives: it is a process of this machine."""
        return self.machine == _machine() and _started(self.pid) == self.started


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # no Linux: then nobody knows, and leases run out
        return f"unknown {socket.gethostname()} {os.getpid()}"


def _started(pid: int) -> int:
    """0: there is no such process, or it has ended and nobody has asked for its exit code yet."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    fields = text.rpartition(")")[2].split()  # its name, before that, may hold anything
    return 0 if fields[0] in "ZX" else int(fields[19])


@dataclass(frozen=True, slots=True)
class Leadership:
    """The right to move rollouts, until somebody else takes it."""

    fencing: int
    process: Process


@dataclass(frozen=True, slots=True)
class Leader:
    """Who leads, for people.

    Attributes:
        since_ns, expires_at_ns: UTC nanoseconds.
    """

    name: str
    fencing: int
    since_ns: int
    expires_at_ns: int


class Lease:
    """The lease of one journal, as one process sees it."""

    def __init__(self, database: Database, clock: Clock, *, lease_s: float = LEASE_S) -> None:
        self._database = database
        self._clock = clock
        self._lease_ns = int(lease_s * 1e9)
        self._heard: tuple[int, int] = (0, 0)
        self._heard_at_ns = clock.monotonic_ns()

    def take(self, process: Process | None = None) -> Leadership | None:
        """Take it if it is free; else None, and `leader` says who has it. Ask again, at least five times a second."""
        with self._database.read() as connection:
            if not self._is_free(_row(connection)):
                return None
        process = process or Process.this()
        with self._database.write() as connection:
            lock_head(connection)
            row = _row(connection)
            if not self._is_free(row):
                return None
            now = utc_ns(self._clock.now_utc())
            connection.execute(
                update(schema.lease).values(
                    fencing=row.fencing + 1,
                    beat=0,
                    name=process.name,
                    machine=process.machine,
                    pid=process.pid,
                    started=process.started,
                    taken_at_ns=now,
                    expires_at_ns=now + self._lease_ns,
                )
            )
            return Leadership(row.fencing + 1, process)

    def renew(self, leadership: Leadership) -> bool:
        """Say that its holder lives, several times in the length of a lease; False if it has been taken away."""
        expires = utc_ns(self._clock.now_utc()) + self._lease_ns
        with self._database.note() as connection:
            mine = update(schema.lease).where(schema.lease.c.fencing == leadership.fencing, schema.lease.c.pid != 0)
            said = mine.values(beat=schema.lease.c.beat + 1, expires_at_ns=expires)
            return connection.execute(said).rowcount == 1

    def give_back(self, leadership: Leadership) -> None:
        """Let somebody else lead, at once."""
        with self._database.write() as connection:
            lock_head(connection)
            mine = update(schema.lease).where(schema.lease.c.fencing == leadership.fencing)
            connection.execute(mine.values(**FREE))

    def leader(self) -> Leader | None:
        """Who leads, or None; it may have died without anybody's noticing yet."""
        with self._database.read() as connection:
            row = _row(connection)
        return None if row.pid == 0 else Leader(row.name, row.fencing, row.taken_at_ns, row.expires_at_ns)

    def _is_free(self, row: Row[Any]) -> bool:
        return not _may_live(row, self._clock) or self._was_silent(row)

    def _was_silent(self, row: Row[Any]) -> bool:
        now = self._clock.monotonic_ns()
        if (row.fencing, row.beat) != self._heard:
            self._heard, self._heard_at_ns = (row.fencing, row.beat), now
        return now - self._heard_at_ns >= self._lease_ns


def lock_head(connection: Connection) -> Row[Any]:
    """The last link of the chain, locked: from here on this transaction writes alone."""
    return connection.execute(select(schema.head).with_for_update()).one()


def require_leadership(connection: Connection, leadership: Leadership) -> None:
    """Check it, in a transaction that has locked the head.

    Raises:
        NotLeader: somebody else has taken the lease, or it was given back.
    """
    row = _row(connection)
    if row.fencing != leadership.fencing or row.pid == 0:
        leader = row.name or "nobody"
        raise NotLeader(
            f"{leader} leads the rollouts of this journal, not {leadership.process.name}",
            hint="ask the control process that leads; this one waits until the lease is free",
            leader=row.name,
            fencing=row.fencing,
        )


def require_no_leader(connection: Connection, clock: Clock) -> int:
    """Check that nobody leads, or that it is certain that who did has ended; returns the last fencing number.

    Raises:
        NotLeader: somebody does.
    """
    row = _row(connection)
    if _may_live(row, clock):
        raise NotLeader(
            f"{row.name} leads the rollouts of this journal",
            hint=f"stop that server (`taxiway serve`) first; if its machine is gone, wait {LEASE_S:g} s",
            leader=row.name,
            fencing=row.fencing,
        )
    return int(row.fencing)


def _may_live(row: Row[Any], clock: Clock) -> bool:
    """Whether somebody has the lease, as far as can be seen at one look."""
    holder = Process(row.name, row.machine, row.pid, row.started)
    if row.pid == 0 or holder.is_gone():
        return False
    return holder.is_here() or utc_ns(clock.now_utc()) < row.expires_at_ns


def _row(connection: Connection) -> Row[Any]:
    return connection.execute(select(schema.lease)).one()

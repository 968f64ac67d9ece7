"""What a backup has to know of the journal's database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Connection, Table, func, select, update

from taxiway.core.clock import Clock
from taxiway.registry.dumping import Ledger
from taxiway.rollout import schema
from taxiway.rollout.journal import JOURNAL
from taxiway.rollout.journal_migrations import MIGRATIONS
from taxiway.rollout.leading import FREE, require_no_leader
from taxiway.rollout.verifying import verify

_WITH_FEEDBACK: Final = 2
"""The step that made its table."""


def _contents(connection: Connection, schema_number: int) -> str:
    counts = {
        "rollouts": _count(connection, schema.rollout),
        "of them going on": _count(connection, schema.rollout, schema.rollout.c.active == 1),
        "events": _count(connection, schema.event),
    }
    if schema_number >= _WITH_FEEDBACK:
        counts["feedback"] = _count(connection, schema.feedback)
    return ", ".join(f"{what}: {count}" for what, count in counts.items()) if any(counts.values()) else ""


def _count(connection: Connection, table: Table, *where: Any) -> int:  # noqa: ANN401 - SQLAlchemy's condition
    return connection.scalar(select(func.count()).select_from(table).where(*where)) or 0


def _take_over(connection: Connection, clock: Clock) -> Callable[[], None]:
    """Refuse while somebody leads. Afterwards nobody does, and whoever led before, here or there, cannot write."""
    fencing = require_no_leader(connection, clock)

    def fence() -> None:
        theirs = connection.scalar(select(schema.lease.c.fencing)) or 0
        connection.execute(update(schema.lease).values(**FREE, beat=0, fencing=max(fencing, theirs) + 1))

    return fence


LEDGER: Final = Ledger(
    name="journal",
    purpose=JOURNAL,
    prefix=schema.PREFIX,
    tables=(
        *("state", "candidate", "event", "evidence", "working", "command", "outbox"),
        *("answer", "feedback", "score", "head", "lease"),
    ),
    steps=MIGRATIONS,
    log=schema.migration,
    verify=verify,
    contents=_contents,
    take_over=_take_over,
)

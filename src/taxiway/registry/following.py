"""What was last seen of an alias elsewhere that one of ours follows, kept so that any process can go on from there.

Each row is changed by compare-and-swap on `seq`, the number of the audit entry that told of it last: of two followers
at once one records, and the other looks again. A version and our alias pointing to it become true together.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, cast

from sqlalchemy import Connection, Row, insert, select, update

from taxiway.core.clock import Clock
from taxiway.registry import audit, reading, schema, writing
from taxiway.registry.audit import Change
from taxiway.registry.canonical import MAX_TEXT, read_time
from taxiway.registry.database import Database

Outcome = Literal["begun", "placed", "refused", "conflict"]
"""Nothing was seen yet; our alias points to what was seen; it may not come in; somebody else moved our alias."""


@dataclass(frozen=True, slots=True)
class Followed:
    """One alias that follows another.

    Attributes:
        source: the alias elsewhere, as a URI.
        name, alias: ours.
        seen: the version there that was dealt with last; empty: none yet.
        outcome: what came of it.
        number: the version it is here, if it came in.
        placed: where we left our alias; somebody else moved it if it points elsewhere.
        terms: under which `seen` was refused, as which signatures are wanted; other terms deserve another try.
        problem: why it was refused, or what the conflict is.
        seq: of the audit entry that told of this.
    """

    source: str
    name: str
    alias: str
    seen: str
    outcome: Outcome
    number: int | None
    placed: int | None
    terms: str
    problem: str
    at: dt.datetime
    seq: int


class Followings:
    """The followed aliases of a registry."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def all(self) -> list[Followed]:
        """Every one."""
        here = schema.followed.c
        with self._database.read() as connection:
            rows = connection.execute(select(schema.followed).order_by(here.source, here.name, here.alias))
            return [_read(row) for row in rows]

    def begin(self, source: str, name: str, alias: str, *, actor: str) -> Followed:
        """The row, made if it is not there: then our alias is where its mover believes it to be."""
        writing.checked_alias(name, alias)
        with self._database.read() as connection:
            found = _find(connection, source, name, alias)
        if found is not None:
            return found
        with audit.change(self._database, self._clock, actor) as change:
            found = _find(change.connection, source, name, alias)
            if found is not None:  # another follower was quicker
                return found
            placed = reading.alias_target(change.connection, name, alias)
            at = read_time(change.at)
            begun = Followed(source, name, alias, "", "begun", None, placed, "", "", at, change.seq)
            change.connection.execute(insert(schema.followed).values(**_row(begun, change)))
            change.tell("followed", f"{name}@{alias}", {"followed": _said(begun)})
            return begun

    def record(self, before: Followed, after: Followed, *, actor: str) -> bool:
        """Keep what came of a look, unless another follower kept something since `before`."""
        with audit.change(self._database, self._clock, actor) as change:
            if not _swap(change, before, after):
                return False
            change.tell("followed", f"{after.name}@{after.alias}", {"followed": _said(after)})
            return True

    def place(self, before: Followed, seen: str, number: int, *, actor: str, why: str) -> bool:
        """Point our alias to version `number`, which is `seen` there; False if another follower was quicker.

        Raises:
            AliasMoved: it is neither where we left it nor where it should go.
        """
        ref = writing.checked_alias(before.name, before.alias)
        after = replace(before, seen=seen, outcome="placed", number=number, placed=number, problem="", terms="")
        with audit.change(self._database, self._clock, actor) as change:
            if not _swap(change, before, after):
                return False
            if reading.alias_target(change.connection, before.name, before.alias) == number:
                change.tell("followed", str(ref), {"followed": _said(after)})
            else:
                writing.set_alias(change, ref, number, before.placed, why, also={"followed": _said(after)})
            return True


def _find(connection: Connection, source: str, name: str, alias: str) -> Followed | None:
    here = schema.followed.c
    this = (here.source == source) & (here.name == name) & (here.alias == alias)
    row = connection.execute(select(schema.followed).where(this)).one_or_none()
    return None if row is None else _read(row)


def _swap(change: Change, before: Followed, after: Followed) -> bool:
    here = schema.followed.c
    this = (here.source == before.source) & (here.name == before.name) & (here.alias == before.alias)
    swapped = update(schema.followed).where(this, here.seq == before.seq).values(**_row(after, change))
    return change.connection.execute(swapped).rowcount == 1


def _said(followed: Followed) -> dict[str, Any]:
    """What the audit log tells of it."""
    said = asdict(followed) | {"problem": followed.problem[:MAX_TEXT]}
    return {key: value for key, value in said.items() if key not in ("name", "alias", "at", "seq")}


def _row(followed: Followed, change: Change) -> Mapping[str, Any]:
    return _said(followed) | {"name": followed.name, "alias": followed.alias, "at": change.at, "seq": change.seq}


def _read(row: Row[Any]) -> Followed:
    return Followed(
        row.source,
        row.name,
        row.alias,
        row.seen,
        cast("Outcome", row.outcome),
        row.number,
        row.placed,
        row.terms,
        row.problem,
        read_time(row.at),
        row.seq,
    )

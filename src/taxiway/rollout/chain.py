"""The chain of events: a link for each transition of any rollout, each one's hash covering the one before it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, select

from taxiway.core.errors import JournalBroken
from taxiway.registry.canonical import canonical_json, digest_of, read_json
from taxiway.registry.migrating import GENESIS
from taxiway.rollout import schema

HINT: Final = "somebody wrote to the database past taxiway; compare with a backup before you trust the journal"

_PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class Event:
    """One transition, as it was written.

    Attributes:
        seq: its place in the journal, from 1, without gaps.
        generation: of the rollout, after it; the first is 1.
        kind, payload: what happened, in the machine's words. JSON.
        at_ns: UTC nanoseconds; never less than the event before it has, of whichever rollout.
        facts: what was written with it: `state`, the digest of the rollout after it; `evidence`, the digest of what a
            verdict rests on; `letters`, pairs of number and digest; `command`, key, request and outcome.
    """

    seq: int
    rollout: str
    generation: int
    kind: str
    actor: str
    at_ns: int
    payload: Mapping[str, Any]
    facts: Mapping[str, Any]
    prev_hash: str
    hash: str

    @property
    def evidence(self) -> str:
        """The digest of the evidence it rests on; empty: none."""
        return str(self.facts.get("evidence", ""))


def event_hash(prev_hash: str, *said: int | str) -> str:
    """The hash of a link, from the hash of the one before it and everything it says: its columns, in their order."""
    return digest_of(canonical_json([prev_hash, *said])).removeprefix("sha256:")


def read_event(row: Row[Any]) -> Event:
    """An event from its row."""
    return Event(
        row.seq,
        row.rollout,
        row.generation,
        row.kind,
        row.actor,
        row.at_ns,
        read_json(row.payload),
        read_json(row.facts),
        row.prev_hash,
        row.hash,
    )


def verified_events(connection: Connection) -> Iterator[Event]:
    """Every event, in order, each one checked.

    Raises:
        JournalBroken: one was changed, added or taken away; names the first.
    """
    seq, prev_hash, at_ns = 0, GENESIS, 0
    query = select(schema.event).order_by(schema.event.c.seq).execution_options(yield_per=_PAGE)
    with connection.execute(query) as rows:
        for row in rows:
            _check_link(row, seq, prev_hash, at_ns)
            seq, prev_hash, at_ns = row.seq, row.hash, row.at_ns
            yield read_event(row)
    head = connection.execute(select(schema.head)).one_or_none()
    if head is None or (head.seq, head.hash) != (seq, prev_hash):
        last = "no head" if head is None else f"event {head.seq}"
        raise broken(seq + 1, f"is missing: the chain ends with {seq}, and its last one was {last}")


def _check_link(row: Row[Any], last_seq: int, last_hash: str, last_at_ns: int) -> None:
    if row.seq != last_seq + 1:
        raise broken(last_seq + 1, f"is missing; after {last_seq} comes {row.seq}")
    if row.prev_hash != last_hash:
        raise broken(row.seq, "does not follow from the one before it")
    said = (row.seq, row.rollout, row.generation, row.kind, row.actor, row.at_ns, row.payload, row.facts)
    if row.hash != event_hash(last_hash, *said):
        raise broken(row.seq, "was changed after it was written")
    if row.at_ns < last_at_ns:
        raise broken(row.seq, "was written before the one before it")


def broken(seq: int, what: str) -> JournalBroken:
    """The error that says where the journal is not as it was written."""
    return JournalBroken(f"event {seq} of the journal {what}", hint=HINT, seq=seq)

"""The journal's tables as this release knows them. What made them so is in journal_migrations.py; a test compares both.

Every table's name begins with `taxiway_rollout_`: a PostgreSQL database may hold the registry too. Moments are UTC
nanoseconds, but in the outbox, whose code is the registry's. JSON is text. `seq` is the number of a link of the chain.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Double, LargeBinary, MetaData, Table, Text

PREFIX: Final = "taxiway_rollout_"

metadata = MetaData()

_Kind = type[Text | BigInteger | Double[float] | LargeBinary]


def _table(table: str, /, **columns: _Kind) -> Table:
    return Table(f"{PREFIX}{table}", metadata, *(Column(column, kind) for column, kind in columns.items()))


head = _table("head", id=BigInteger, seq=BigInteger, at_ns=BigInteger, hash=Text)
"""One row: the last link of the chain. A writer locks it first, so that writers come one after the other."""

lease = _table(
    "lease",
    id=BigInteger,
    fencing=BigInteger,
    beat=BigInteger,
    name=Text,
    machine=Text,
    pid=BigInteger,
    started=BigInteger,
    taken_at_ns=BigInteger,
    expires_at_ns=BigInteger,
)
"""One row: who leads. `fencing` grows whenever somebody takes it, `beat` whenever it is renewed; see leading.py."""

rollout = _table(
    "state",
    id=Text,
    service=Text,
    generation=BigInteger,
    phase=Text,
    active=BigInteger,
    opened=BigInteger,
    entered=BigInteger,
    moved=BigInteger,
    state=Text,
)
"""A row for each rollout: `state` is all of it, the rest is there to be asked for. `active` is 1 from its leaving the
queue until its end; `opened`, `entered` and `moved` are the links by which it was made, left the queue (0: never, or
only by being superseded) and last changed."""

candidate = _table("candidate", rollout=Text, arm=Text, version=BigInteger, digest=Text)
"""What each rollout tries, to find rollouts by the digest of a version."""

event = _table(
    "event",
    seq=BigInteger,
    rollout=Text,
    generation=BigInteger,
    kind=Text,
    actor=Text,
    at_ns=BigInteger,
    payload=Text,
    facts=Text,
    prev_hash=Text,
    hash=Text,
)
"""The chain: a link for each transition. `facts` are the journal's own words: the digests of the state it led to, of
the evidence it rests on, of the letters and the command's outcome that were written with it."""

evidence = _table("evidence", digest=Text, size=BigInteger, blob=LargeBinary)
"""What events name, by the digest of its JSON; never deleted. `blob` is that JSON, by zlib."""

working = _table("working", rollout=Text, at_ns=BigInteger, blob=LargeBinary)
"""What is gathered for each rollout, as of the last look; replaced each time, and no part of the chain."""

command = _table("command", key=Text, request=Text, outcome=Text, seq=BigInteger, at_ns=BigInteger)
"""Idempotency keys of commands, with the digest of what was asked and what came of it."""

outbox = _table(
    "outbox",
    id=BigInteger,
    target=Text,
    kind=Text,
    subject=Text,
    args=Text,
    created_at=Text,
    done_at=Text,
    tries=BigInteger,
    not_before=Text,
    problem=Text,
)
"""What others are to be told, written with the transition that it tells of; see registry/outbox.py."""

answer = _table(
    "answer",
    id=BigInteger,
    service=Text,
    rollout=Text,
    arm=Text,
    segment=BigInteger,
    request=Text,
    unit=Text,
    at_ns=BigInteger,
    weight=Double,
    prediction=Text,
)
"""Answers that feedback may come for; see answers.py."""

feedback = _table(
    "feedback",
    id=BigInteger,
    service=Text,
    request=Text,
    kind=Text,
    value=Text,
    at_ns=BigInteger,
    answer=BigInteger,
    joined_at_ns=BigInteger,
)
"""What callers said of answers. `answer` is 0 until that is known, and `joined_at_ns` until both were scored."""

score = _table(
    "score",
    rollout=Text,
    number=BigInteger,
    arm=Text,
    source=Text,
    segment=BigInteger,
    request=Text,
    weight=Double,
    score=Double,
    other=Double,
    at_ns=BigInteger,
)
"""Scores of each rollout in the order in which they came, numbered from 1 without gaps."""

migration = _table("migration", number=BigInteger, title=Text, at=Text)

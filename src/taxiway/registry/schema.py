"""The tables as this release knows them. What made them so is in migrations.py; a test compares the two.

Every table's name begins with `taxiway_`, for a PostgreSQL database that is shared. Times are text of one width and
JSON is canonical text: what is hashed is what is stored, and both databases compare it alike. `seq` is always the
number of the audit entry that tells of the row.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, MetaData, Table, Text

PREFIX: Final = "taxiway_"

metadata = MetaData()


def _table(table: str, /, **columns: type[Text | BigInteger]) -> Table:
    return Table(f"{PREFIX}{table}", metadata, *(Column(column, kind) for column, kind in columns.items()))


model = _table("model", name=Text, last_number=BigInteger, created_at=Text, created_by=Text, changed_at=Text)
"""One row a model; `last_number` only grows, so that no number is used twice."""

version = _table(
    "version",
    name=Text,
    number=BigInteger,
    digest=Text,
    manifest=Text,
    framework=Text,
    signature=Text,
    origin=Text,
    facts=Text,
    created_at=Text,
    created_by=Text,
    seq=BigInteger,
)

variant = _table(
    "variant",
    name=Text,
    number=BigInteger,
    variant=Text,
    digest=Text,
    manifest=Text,
    recipe=Text,
    parent=Text,
    created_at=Text,
    created_by=Text,
    seq=BigInteger,
)

idempotency = _table("idempotency", name=Text, key=Text, number=BigInteger, request=Text)
"""Keys under which something was registered, with the digest of the whole request."""

alias = _table("alias", name=Text, alias=Text, number=BigInteger, seq=BigInteger)

alias_move = _table(
    "alias_move",
    seq=BigInteger,
    name=Text,
    alias=Text,
    from_number=BigInteger,
    to_number=BigInteger,
    at=Text,
    by=Text,
    why=Text,
)

tag = _table("tag", name=Text, number=BigInteger, key=Text, value=Text, seq=BigInteger)
"""Number 0 stands for the model itself."""

edge = _table("edge", seq=BigInteger, child=Text, kind=Text, parent=Text, facts=Text, at=Text, by=Text)

blob = _table("blob", sha256=Text, size=BigInteger, state=Text, touched_at=Text)
"""Every blob that was ever wanted and not collected; see keeping.py for its states."""

blob_use = _table("blob_use", sha256=Text, name=Text, number=BigInteger, variant=Text)
"""Which versions and variants hold a blob; variant '' is the version itself."""

audit = _table(
    "audit",
    seq=BigInteger,
    at=Text,
    actor=Text,
    kind=Text,
    subject=Text,
    payload=Text,
    prev_hash=Text,
    hash=Text,
)

head = _table("head", id=BigInteger, seq=BigInteger, at=Text, hash=Text)
"""One row: the last audit entry. A writer locks it first, so that writers come one after the other."""

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
"""What others are to be told, written with the change that it tells of; see outbox.py."""

mirror = _table("mirror", target=Text, name=Text, seq=BigInteger)
"""Which models' aliases and tags a target is told of."""

followed = _table(
    "followed",
    source=Text,
    name=Text,
    alias=Text,
    seen=Text,
    outcome=Text,
    number=BigInteger,
    placed=BigInteger,
    terms=Text,
    problem=Text,
    at=Text,
    seq=BigInteger,
)
"""What was last seen of each alias elsewhere that an alias of ours follows; see following.py."""

migration = _table("migration", number=BigInteger, title=Text, at=Text)

"""Questions to the tables, within a transaction that somebody else opened."""

from __future__ import annotations

import datetime as dt
import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select

from taxiway.core.errors import VersionNotRegistered
from taxiway.core.refs import ModelRef
from taxiway.registry import schema
from taxiway.registry.canonical import read_json, read_time, time_text
from taxiway.registry.migrations import schema_of
from taxiway.registry.nouns import AliasMove, Edge, Manifest, ModelSummary, RegistryInfo, Served, Variant, Version


def resolve(connection: Connection, ref: ModelRef) -> Version:
    """What `ref` means now; a bare name means the newest version.

    Raises:
        VersionNotRegistered: nothing.
    """
    number = ref.version
    if ref.alias is not None:
        number = alias_target(connection, ref.name, ref.alias)
    elif number is None:
        number = connection.scalar(select(schema.model.c.last_number).where(schema.model.c.name == ref.name))
    found = None if number is None else _version(connection, ref.name, number)
    if found is None:
        raise _not_registered(connection, ref)
    if ref.variant is None:
        return found
    sibling = variant(connection, found.name, found.number, ref.variant)
    if sibling is None:
        raise _not_registered(connection, ref)
    return _as_variant(found, sibling)


def alias_target(connection: Connection, name: str, alias: str) -> int | None:
    """The number that an alias points to."""
    here = schema.alias.c
    return connection.scalar(select(here.number).where(here.name == name, here.alias == alias))


def _version(connection: Connection, name: str, number: int) -> Version | None:
    here = schema.version.c
    row = connection.execute(select(schema.version).where(here.name == name, here.number == number)).one_or_none()
    return None if row is None else read_version(row, tags_of(connection, name, [number]).get(number, {}))


def read_version(row: Row[Any], tags: dict[str, str]) -> Version:
    """A version from its row."""
    return Version(
        row.name,
        row.number,
        row.digest,
        Manifest.read(read_json(row.manifest)),
        row.framework,
        read_json(row.signature),
        read_json(row.origin),
        read_json(row.facts),
        read_time(row.created_at),
        row.created_by,
        tags,
    )


def tags_of(connection: Connection, name: str, numbers: Iterable[int]) -> dict[int, dict[str, str]]:
    """The tags of versions; number 0 is the model itself."""
    here = schema.tag.c
    query = select(schema.tag).where(here.name == name, here.number.in_(list(numbers))).order_by(here.key)
    found: dict[int, dict[str, str]] = {}
    for row in connection.execute(query):
        found.setdefault(row.number, {})[row.key] = row.value
    return found


def _as_variant(version: Version, sibling: Variant) -> Version:
    return Version(
        version.name,
        version.number,
        sibling.digest,
        sibling.manifest,
        version.framework,
        version.signature,
        version.origin,
        version.facts,
        sibling.created_at,
        sibling.created_by,
        version.tags,
        sibling.variant,
    )


def _not_registered(connection: Connection, ref: ModelRef) -> VersionNotRegistered:
    newest = connection.scalar(select(schema.model.c.last_number).where(schema.model.c.name == ref.name))
    if newest is None:
        names = connection.scalars(select(schema.model.c.name))
        close = difflib.get_close_matches(ref.name, list(names), n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        hint += "`taxiway models` lists the models there are"
    elif ref.alias is not None:
        known = ", ".join(aliases(connection, ref.name)) or "none"
        hint = f"the aliases of {ref.name}: {known}; `taxiway alias set {ref} VERSION` makes one"
    elif ref.variant is not None:
        hint = f"`taxiway show {ref.name}:{ref.version}` lists the variants there are"
    else:
        hint = f"the newest version is {ref.name}:{newest}; `taxiway models {ref.name}` lists them all"
    return VersionNotRegistered(f"{ref} is not registered", hint=hint, ref=str(ref))


# --- lists ---------------------------------------------------------------------------------------------


def models(connection: Connection, prefix: str, limit: int, after: str) -> list[ModelSummary]:
    """Models by name, those after `after`."""
    here = schema.model.c
    query = select(schema.model).where(here.name > after).order_by(here.name).limit(limit)
    if prefix:
        query = query.where(here.name.startswith(prefix, autoescape=True))
    rows = connection.execute(query).all()
    names = [row.name for row in rows]
    return [
        ModelSummary(
            row.name,
            row.last_number,
            read_time(row.created_at),
            read_time(row.changed_at),
            of_aliases.get(row.name, {}),
            of_tags.get(row.name, {}),
        )
        for of_aliases, of_tags in [(_grouped(connection, _aliases(names)), _grouped(connection, _model_tags(names)))]
        for row in rows
    ]


def _aliases(names: Sequence[str]) -> Select[Any]:
    here = schema.alias.c
    return select(here.name, here.alias, here.number).where(here.name.in_(names)).order_by(here.alias)


def _model_tags(names: Sequence[str]) -> Select[Any]:
    here = schema.tag.c
    return select(here.name, here.key, here.value).where(here.name.in_(names), here.number == 0).order_by(here.key)


def _grouped(connection: Connection, query: Select[Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name, key, value in connection.execute(query):
        found.setdefault(name, {})[key] = value
    return found


def versions(connection: Connection, name: str, limit: int, after: int | None) -> list[Version]:
    """Versions of a model, newest first; `after` is the number that the page before ended with.

    Raises:
        VersionNotRegistered: no such model.
    """
    here = schema.version.c
    query = select(schema.version).where(here.name == name).order_by(here.number.desc()).limit(limit)
    if after is not None:
        query = query.where(here.number < after)
    rows = connection.execute(query).all()
    if not rows and after is None:
        raise _not_registered(connection, ModelRef(name))
    tags = tags_of(connection, name, [row.number for row in rows])
    return [read_version(row, tags.get(row.number, {})) for row in rows]


def variant(connection: Connection, name: str, number: int, word: str) -> Variant | None:
    """One variant of a version."""
    return next((found for found in variants(connection, name, number) if found.variant == word), None)


def variants(connection: Connection, name: str, number: int) -> list[Variant]:
    """The variants of a version, by name."""
    here = schema.variant.c
    query = select(schema.variant).where(here.name == name, here.number == number).order_by(here.variant)
    return [
        Variant(
            row.name,
            row.number,
            row.variant,
            row.digest,
            Manifest.read(read_json(row.manifest)),
            read_json(row.recipe),
            row.parent,
            read_time(row.created_at),
            row.created_by,
        )
        for row in connection.execute(query)
    ]


# --- aliases -------------------------------------------------------------------------------------------


def aliases(connection: Connection, name: str) -> dict[str, int]:
    """Every alias of a model and the version it points to."""
    return {row.alias: row.number for row in connection.execute(_aliases([name]))}


def alias_moves(connection: Connection, name: str, alias: str) -> list[AliasMove]:
    """Every move of one alias, oldest first."""
    here = schema.alias_move.c
    query = select(schema.alias_move).where(here.name == name, here.alias == alias).order_by(here.seq)
    return [read_move(row) for row in connection.execute(query)]


def moves_touching(connection: Connection, name: str, number: int) -> list[AliasMove]:
    """Every move to or from one version."""
    here = schema.alias_move.c
    touching = (here.from_number == number) | (here.to_number == number)
    query = select(schema.alias_move).where(here.name == name, touching).order_by(here.seq)
    return [read_move(row) for row in connection.execute(query)]


def read_move(row: Row[Any]) -> AliasMove:
    """A move from its row."""
    return AliasMove(row.seq, row.name, row.alias, row.from_number, row.to_number, read_time(row.at), row.by, row.why)


def serving_at(connection: Connection, when: dt.datetime, name: str | None = None) -> list[Served]:
    """What each alias pointed to at a moment."""
    move = schema.alias_move
    last = select(func.max(move.c.seq)).where(move.c.at <= time_text(when)).group_by(move.c.name, move.c.alias)
    if name is not None:
        last = last.where(move.c.name == name)
    there = schema.version.c
    query = (
        select(move, there.digest)
        .join(schema.version, (there.name == move.c.name) & (there.number == move.c.to_number))
        .where(move.c.seq.in_(last))
        .order_by(move.c.name, move.c.alias)
    )
    return [
        Served(row.name, row.alias, row.to_number, row.digest, read_time(row.at), row.by, row.why)
        for row in connection.execute(query)
    ]


def info(connection: Connection, url: str, blobs_url: str) -> RegistryInfo:
    """How much there is of everything."""
    counts = [connection.scalar(select(func.count()).select_from(table)) for table in (schema.model, schema.version)]
    stored = select(func.count(), func.coalesce(func.sum(schema.blob.c.size), 0)).where(schema.blob.c.state == "stored")
    blobs, size = connection.execute(stored).one()
    head = connection.execute(select(schema.head)).one()
    models, versions = (count or 0 for count in counts)
    return RegistryInfo(url, blobs_url, schema_of(connection), models, versions, blobs, int(size), head.seq, head.hash)


# --- lineage -------------------------------------------------------------------------------------------


def edges_from(connection: Connection, children: Sequence[str]) -> list[Edge]:
    """The steps that lead from `children` to their parents."""
    return _edges(connection, select(schema.edge).where(schema.edge.c.child.in_(children)))


def edges_to(connection: Connection, parent: str) -> list[Edge]:
    """The steps that lead from others to `parent`."""
    return _edges(connection, select(schema.edge).where(schema.edge.c.parent == parent))


def _edges(connection: Connection, query: Select[Any]) -> list[Edge]:
    return [
        Edge(row.seq, row.child, row.kind, row.parent, read_json(row.facts), read_time(row.at), row.by)
        for row in connection.execute(query.order_by(schema.edge.c.seq))
    ]

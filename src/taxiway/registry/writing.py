"""The changes: what each does to the tables, and what it tells the audit log. Each is given a `Change` under way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, get_args

from sqlalchemy import Connection, delete, insert, select, update

from taxiway.core.errors import (
    AliasMoved,
    AlreadyExists,
    AlreadyRegistered,
    IdempotencyConflict,
    InvalidArgument,
    VersionNotRegistered,
)
from taxiway.core.refs import ModelRef
from taxiway.registry import outbox, reading, schema
from taxiway.registry.audit import Change
from taxiway.registry.canonical import canonical_json, checked_text, digest_of, read_time
from taxiway.registry.keeping import record_use, require_stored
from taxiway.registry.mirroring import messages_of_move, messages_of_version
from taxiway.registry.nouns import (
    ANY,
    AliasMove,
    Edge,
    EdgeKind,
    Expected,
    Manifest,
    NewVersion,
    Variant,
    Version,
    ref_text,
)

MAX_KEY: Final = 200
"""Characters of a tag's key and of an idempotency key."""


def checked_name(name: str) -> str:
    """`name`, if a model may be called so."""
    if ModelRef.parse(name).name != name:
        raise InvalidArgument(f"{name!r} is a reference, not the name of a model", value=name)
    return name


def checked_alias(name: str, alias: str) -> ModelRef:
    """`name@alias`, if an alias may be called so."""
    ref = ModelRef.parse(f"{name}@{alias}")
    if (ref.name, ref.alias) != (name, alias):
        raise InvalidArgument(f"{name!r} with alias {alias!r} is not of the form name@alias", value=f"{name}@{alias}")
    return ref


# --- versions ------------------------------------------------------------------------------------------


def register(change: Change, new: NewVersion, why: str, key: str | None) -> Version:
    """Give `new` the next number of its model."""
    request = _request_digest(new)
    if key is not None:
        number = _registered_under(change.connection, new.name, key, request)
        if number is not None:
            return reading.resolve(change.connection, ModelRef(new.name, number))
    require_stored(change.connection, new.manifest.files)
    number = _next_number(change, new)
    _insert_version(change, new, number)
    record_use(change.connection, new.manifest.files, new.name, number, "")
    if key is not None:
        row = {"name": new.name, "key": key, "number": number, "request": request}
        change.connection.execute(insert(schema.idempotency).values(**row))
    ref = ref_text(new.name, number)
    source = _source_of(new)
    if source is not None:
        _insert_edge(change, ref, "artifact", source, {})
    said = {"digest": new.manifest.digest, "framework": new.framework, "request": request, "source": source}
    posted = outbox.post(change, messages_of_version(change, new.name, number))
    trusted = {"trusted": found} if (found := _trusted_in(new)) else {}
    change.tell("version-registered", ref, said | {"why": why, **trusted, **posted})
    return reading.resolve(change.connection, ModelRef(new.name, number))


def _trusted_in(new: NewVersion) -> list[str]:
    """What somebody vouched for so that it came in: the log tells who, when and why, as a server will load it."""
    scan = new.facts.get("scan")
    trusted = scan.get("trusted") if isinstance(scan, Mapping) else None
    return [str(digest) for digest in trusted] if isinstance(trusted, list) else []


def _source_of(new: NewVersion) -> str | None:
    source = new.origin.get("source")
    return checked_text("origin.source", source) if isinstance(source, str) and source else None


def _request_digest(new: NewVersion) -> str:
    return digest_of(
        canonical_json(
            [new.name, new.manifest.digest, new.framework, dict(new.signature), dict(new.origin), dict(new.facts)]
        )
    )


def _registered_under(connection: Connection, name: str, key: str, request: str) -> int | None:
    checked_text("idempotency_key", key, at_most=MAX_KEY)
    here = schema.idempotency.c
    row = connection.execute(select(schema.idempotency).where(here.name == name, here.key == key)).one_or_none()
    if row is None:
        return None
    if row.request != request:
        raise IdempotencyConflict(
            f"idempotency key {key!r} made {ref_text(name, row.number)}, of another request",
            hint="use a new key for a new request",
            version=row.number,
        )
    number: int = row.number
    return number


def _next_number(change: Change, new: NewVersion) -> int:
    """The model's row, made or counted up. The same files again would be the same version under two numbers."""
    connection, there = change.connection, schema.version.c
    same = select(there.number).where(there.name == new.name, there.digest == new.manifest.digest)
    found = connection.scalar(same)
    if found is not None:
        raise AlreadyRegistered(
            f"these files are {ref_text(new.name, found)} already ({new.manifest.digest})",
            hint=f"use {ref_text(new.name, found)}; `taxiway why {ref_text(new.name, found)}` says where it came from",
            name=new.name,
            version=found,
        )
    this = schema.model.c.name == new.name
    last = connection.scalar(select(schema.model.c.last_number).where(this))
    if last is None:
        row = {"created_at": change.at, "created_by": change.actor, "changed_at": change.at}
        connection.execute(insert(schema.model).values(name=new.name, last_number=1, **row))
        return 1
    connection.execute(update(schema.model).where(this).values(last_number=last + 1, changed_at=change.at))
    return int(last) + 1


def _insert_version(change: Change, new: NewVersion, number: int) -> None:
    change.connection.execute(
        insert(schema.version).values(
            name=new.name,
            number=number,
            digest=new.manifest.digest,
            manifest=new.manifest.text,
            framework=checked_text("framework", new.framework, at_most=64),
            signature=canonical_json(dict(new.signature)),
            origin=canonical_json(dict(new.origin)),
            facts=canonical_json(dict(new.facts)),
            created_at=change.at,
            created_by=change.actor,
            seq=change.seq,
        )
    )


def add_variant(
    change: Change, ref: ModelRef, manifest: Manifest, recipe: Mapping[str, Any], parent: ModelRef | None
) -> Variant:
    """A sibling of a version under a word of its own."""
    if ref.version is None or ref.variant is None:
        raise InvalidArgument(f"{ref} names no variant", hint="write name:3-int8", value=str(ref))
    connection = change.connection
    version = reading.resolve(connection, ModelRef(ref.name, ref.version))
    source = version.ref if parent is None else reading.resolve(connection, parent).ref
    if reading.variant(connection, ref.name, ref.version, ref.variant) is not None:
        raise AlreadyExists(
            f"{ref} is there already", hint="a variant never changes; choose another word", ref=str(ref)
        )
    require_stored(connection, manifest.files)
    row = {
        "name": ref.name,
        "number": ref.version,
        "variant": ref.variant,
        "digest": manifest.digest,
        "parent": source,
        "created_by": change.actor,
    }
    values = row | {"manifest": manifest.text, "recipe": canonical_json(dict(recipe)), "created_at": change.at}
    connection.execute(insert(schema.variant).values(**values, seq=change.seq))
    record_use(connection, manifest.files, ref.name, ref.version, ref.variant)
    _insert_edge(change, str(ref), "variant-of", source, {})
    change.tell("variant-added", str(ref), {"digest": manifest.digest, "parent": source, "recipe": dict(recipe)})
    found = reading.variant(connection, ref.name, ref.version, ref.variant)
    assert found is not None, "inserted above"  # noqa: S101 - for the type checker
    return found


# --- lineage -------------------------------------------------------------------------------------------


def add_lineage(change: Change, child: ModelRef, kind: EdgeKind, parent: str, facts: Mapping[str, Any]) -> Edge:
    """One step: what `child` came from, or what was found of it."""
    if kind not in get_args(EdgeKind):
        raise InvalidArgument(f"lineage kind {kind!r} is none of {', '.join(get_args(EdgeKind))}", value=kind)
    ref = reading.resolve(change.connection, child).ref
    checked_text("parent", parent)
    here = schema.edge.c
    same = select(here.seq).where(here.child == ref, here.kind == kind, here.parent == parent)
    if change.connection.scalar(same) is not None:
        raise AlreadyExists(f"{ref} {kind} {parent} is recorded already", child=ref, kind=kind, parent=parent)
    _insert_edge(change, ref, kind, parent, facts)
    change.tell("lineage-added", ref, {"kind": kind, "parent": parent, "facts": dict(facts)})
    return Edge(change.seq, ref, kind, parent, dict(facts), read_time(change.at), change.actor)


def _insert_edge(change: Change, child: str, kind: EdgeKind, parent: str, facts: Mapping[str, Any]) -> None:
    row = {"seq": change.seq, "child": child, "kind": kind, "parent": parent, "facts": canonical_json(dict(facts))}
    change.connection.execute(insert(schema.edge).values(**row, at=change.at, by=change.actor))


# --- aliases -------------------------------------------------------------------------------------------


def set_alias(
    change: Change, ref: ModelRef, to: int | None, expect: Expected, why: str, also: Mapping[str, Any] | None = None
) -> AliasMove:
    """Point an alias to a version, or to none (which deletes it), if it points where the caller believes it does.

    `also` is what else the change does, for the log.
    """
    connection, name, alias = change.connection, ref.name, str(ref.alias)
    found = reading.alias_target(connection, name, alias)
    if expect is not ANY and found != expect:
        raise AliasMoved(
            f"{ref} points to {_pointed(found)}, not to {_pointed(expect)} as expected",
            hint=f"somebody else moved it: see `taxiway alias history {ref}`, then decide again",
            found=found,
            expected=expect,
        )
    if to is not None:
        reading.resolve(connection, ModelRef(name, to))
    elif found is None:
        raise VersionNotRegistered(f"{ref} is not there to be deleted", hint=f"see `taxiway show {name}`", ref=str(ref))
    _point(change, name, alias, to, there=found is not None)
    row = {"from_number": found, "to_number": to, "by": change.actor, "why": why}
    connection.execute(insert(schema.alias_move).values(seq=change.seq, name=name, alias=alias, at=change.at, **row))
    posted = outbox.post(change, messages_of_move(change, name, alias, found, to))
    change.tell("alias-moved", str(ref), {"from": found, "to": to, "why": why, **(also or {}), **posted})
    return AliasMove(change.seq, name, alias, found, to, read_time(change.at), change.actor, why)


def _point(change: Change, name: str, alias: str, to: int | None, *, there: bool) -> None:
    here = schema.alias.c
    this = (here.name == name) & (here.alias == alias)
    if to is None:
        change.connection.execute(delete(schema.alias).where(this))
    elif there:
        change.connection.execute(update(schema.alias).where(this).values(number=to, seq=change.seq))
    else:
        change.connection.execute(insert(schema.alias).values(name=name, alias=alias, number=to, seq=change.seq))


def _pointed(number: int | None) -> str:
    return "nothing" if number is None else f"version {number}"


# --- tags ----------------------------------------------------------------------------------------------


def set_tag(change: Change, ref: ModelRef, key: str, value: str | None) -> None:
    """Set a tag of a model or of a version; None takes it away."""
    checked_text("tag", key, at_most=MAX_KEY)
    connection, number = change.connection, ref.version or 0
    reading.resolve(connection, ref)
    here = schema.tag.c
    this = (here.name == ref.name) & (here.number == number) & (here.key == key)
    before = connection.scalar(select(here.value).where(this))
    if value is None and before is None:
        raise VersionNotRegistered(f"{ref} has no tag {key!r}", hint=f"see `taxiway show {ref}`", ref=str(ref))
    connection.execute(delete(schema.tag).where(this))
    if value is not None:
        checked_text(f"tag {key}", value, empty=True)
        row = {"name": ref.name, "number": number, "key": key, "value": value}
        connection.execute(insert(schema.tag).values(**row, seq=change.seq))
    kind = "tag-deleted" if value is None else "tag-set"
    posted = outbox.post(change, messages_of_version(change, ref.name, number) if number else ())
    change.tell(kind, str(ref), {"key": key, "from": before, "to": value, **posted})

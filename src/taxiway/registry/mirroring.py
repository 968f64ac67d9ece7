"""Which models' changes a target is told of, and the messages that tell them.

A target hears of the versions that came from it: those whose origin has its word as `kind`. Messages hold the whole
state as of their change, not a difference, so that the last one of a subject is enough.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sqlalchemy import Connection, delete, insert, select

from taxiway.core.clock import Clock
from taxiway.core.errors import AlreadyExists, NotFound
from taxiway.core.refs import ModelRef
from taxiway.registry import audit, outbox, reading, schema
from taxiway.registry.audit import Change
from taxiway.registry.database import Database
from taxiway.registry.nouns import Version
from taxiway.registry.outbox import Message

ALIAS: Final = "alias"
"""A message's kind; its args: `name`, `alias`, `from` and `to` (numbers of versions, or None)."""

VERSION: Final = "version"
"""A message's kind; its args: `name`, `number`, `digest`, `aliases` and `tags`."""


def messages_of_version(change: Change, name: str, number: int) -> list[Message]:
    """What is to be told after something of a version changed."""
    targets = _targets(change.connection, name)
    if not targets:
        return []
    version = _version(change.connection, name, number)
    return [_version_message(change.connection, target, version) for target in targets if _came_from(version, target)]


def messages_of_move(change: Change, name: str, alias: str, old: int | None, new: int | None) -> list[Message]:
    """What is to be told after an alias moved: where it is, and which aliases the two versions have now."""
    targets = _targets(change.connection, name)
    if not targets:
        return []
    numbers = [number for number in dict.fromkeys((old, new)) if number is not None]
    versions = [_version(change.connection, name, number) for number in numbers]
    told: list[Message] = []
    for target in targets:
        known = [version for version in versions if _came_from(version, target)]
        if known:
            told.append(_alias_message(target, name, alias, old, new))
            told += [_version_message(change.connection, target, version) for version in known]
    return told


def _alias_message(target: str, name: str, alias: str, old: int | None, new: int | None) -> Message:
    return Message(target, ALIAS, f"{name}@{alias}", {"name": name, "alias": alias, "from": old, "to": new})


def _version_message(connection: Connection, target: str, version: Version) -> Message:
    aliases = [alias for alias, to in reading.aliases(connection, version.name).items() if to == version.number]
    said = {"name": version.name, "number": version.number, "digest": version.digest}
    return Message(target, VERSION, version.ref, said | {"aliases": aliases, "tags": dict(version.tags)})


def _came_from(version: Version, target: str) -> bool:
    return version.origin.get("kind") == target


def _version(connection: Connection, name: str, number: int) -> Version:
    return reading.resolve(connection, ModelRef(name, number))


def _targets(connection: Connection, name: str) -> list[str]:
    here = schema.mirror.c
    return list(connection.scalars(select(here.target).where(here.name == name).order_by(here.target)))


class Mirrors:
    """Which models are mirrored where."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def names(self, target: str) -> list[str]:
        """The models that `target` is told of."""
        here = schema.mirror.c
        with self._database.read() as connection:
            return list(connection.scalars(select(here.name).where(here.target == target).order_by(here.name)))

    def turn_on(self, target: str, name: str, *, actor: str) -> None:
        """Tell `target` of the model's aliases from now on, and of those that it has.

        Raises:
            VersionNotRegistered: there is no such model.
            AlreadyExists: it is told already.
        """
        with audit.change(self._database, self._clock, actor) as change:
            reading.resolve(change.connection, ModelRef(name))
            if target in _targets(change.connection, name):
                raise AlreadyExists(f"{name} is mirrored to {target} already", name=name, target=target)
            change.connection.execute(insert(schema.mirror).values(target=target, name=name, seq=change.seq))
            posted = outbox.post(change, _all_messages(change.connection, target, name))
            change.tell("mirror-on", name, {"target": target, **posted})

    def turn_off(self, target: str, name: str, *, actor: str) -> None:
        """Tell `target` no more of it; what waits to be told is dropped.

        Raises:
            NotFound: it is not told.
        """
        here = schema.mirror.c
        with audit.change(self._database, self._clock, actor) as change:
            if target not in _targets(change.connection, name):
                raise NotFound(f"{name} is not mirrored to {target}", name=name, target=target)
            outbox.withdraw(change, target, _subjects(change.connection, target, name), "mirroring was turned off")
            change.connection.execute(delete(schema.mirror).where(here.target == target, here.name == name))
            change.tell("mirror-off", name, {"target": target})


def _all_messages(connection: Connection, target: str, name: str) -> Iterator[Message]:
    """The aliases as they are, and the versions that they point to."""
    told: set[int] = set()
    for alias, number in reading.aliases(connection, name).items():
        version = _version(connection, name, number)
        if _came_from(version, target):
            yield _alias_message(target, name, alias, None, number)
            if number not in told:
                told.add(number)
                yield _version_message(connection, target, version)


def _subjects(connection: Connection, target: str, name: str) -> list[str]:
    """What letters about the model wait for; a model's name ends at the first `@` or `:`."""
    here = schema.outbox.c
    waiting = select(here.subject).distinct().where(here.target == target, here.done_at.is_(None))
    return [subject for subject in connection.scalars(waiting) if ModelRef.parse(subject).name == name]

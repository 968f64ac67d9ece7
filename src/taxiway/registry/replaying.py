"""What the audit log says the registry's state must be. Pure; verifying.py compares it with the tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from taxiway.registry.nouns import AuditEntry


@dataclass(slots=True)
class Told:
    """Each piece of state, by what it is about, as the log tells it."""

    models: dict[str, str] = field(default_factory=dict)
    """Name -> the number of its newest version, which is what the bare name means."""

    versions: dict[str, str] = field(default_factory=dict)
    """Reference -> digest of all that was registered."""

    variants: dict[str, str] = field(default_factory=dict)
    """Reference -> digest of its files, its parent and its recipe."""

    aliases: dict[str, str] = field(default_factory=dict)
    """`name@alias` -> version."""

    moves: dict[str, str] = field(default_factory=dict)
    """Number of the entry -> who moved which alias from where to where, and why."""

    tags: dict[str, str] = field(default_factory=dict)
    """Reference and key -> value."""

    lineage: dict[str, str] = field(default_factory=dict)
    """Number of the entry -> child, kind and parent."""

    mirrors: dict[str, str] = field(default_factory=dict)
    """Target and model -> on."""

    letters: dict[str, str] = field(default_factory=dict)
    """Number of a letter in the outbox -> digest of what it says."""

    followed: dict[str, str] = field(default_factory=dict)
    """Source and `name@alias` -> what was last seen there, and what came of it."""


def replay(entries: Iterable[AuditEntry]) -> Told:
    """Follow the log from its beginning."""
    told = Told()
    for entry in entries:
        _follow(told, entry)
    return told


def followed_text(row: Mapping[str, Any]) -> str:
    """What is said of a followed alias, as one text."""
    return " ".join(str(row[key]) for key in ("seen", "outcome", "number", "placed", "terms", "problem"))


def _follow(told: Told, entry: AuditEntry) -> None:
    said = entry.payload
    told.letters.update({str(number): digest for number, digest in said.get("outbox", ())})
    if "followed" in said:
        told.followed[f"{said['followed']['source']} {entry.subject}"] = followed_text(said["followed"])
    match entry.kind:
        case "version-registered":
            name, _, number = entry.subject.rpartition(":")
            told.models[name] = number
            told.versions[entry.subject] = f"{said['digest']} {said['request']}"
            if said["source"]:
                told.lineage[str(entry.seq)] = f"{entry.subject} artifact {said['source']}"
        case "variant-added":
            told.variants[entry.subject] = f"{said['digest']} {said['parent']} {said['recipe']}"
            told.lineage[str(entry.seq)] = f"{entry.subject} variant-of {said['parent']}"
        case "alias-moved":
            told.moves[str(entry.seq)] = f"{entry.subject} {said['from']} {said['to']} {entry.actor} {said['why']}"
            told.aliases.pop(entry.subject, None)
            if said["to"] is not None:
                told.aliases[entry.subject] = str(said["to"])
        case "tag-set":
            told.tags[f"{entry.subject} {said['key']}"] = said["to"]
        case "tag-deleted":
            told.tags.pop(f"{entry.subject} {said['key']}", None)
        case "lineage-added":
            told.lineage[str(entry.seq)] = f"{entry.subject} {said['kind']} {said['parent']}"
        case "mirror-on":
            told.mirrors[f"{said['target']} {entry.subject}"] = "on"
        case "mirror-off":
            told.mirrors.pop(f"{said['target']} {entry.subject}", None)
        case _:  # garbage collected, backup restored, letter refused: no state of these
            pass

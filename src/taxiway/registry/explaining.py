"""Why a version is here: where it came from, what was made of it, who moved it where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, select

from taxiway.core.errors import InvalidArgument
from taxiway.core.refs import ModelRef
from taxiway.registry import audit, reading, schema
from taxiway.registry.nouns import AliasMove, AuditEntry, Edge, Variant, Version

_MAX_STEPS: Final = 1000
"""Steps of a lineage that are followed: a person reads them."""


@dataclass(frozen=True, slots=True)
class Step:
    """One edge of a lineage; `depth` counts from the version that was asked about."""

    depth: int
    edge: Edge


@dataclass(frozen=True, slots=True)
class Explanation:
    """All that is known of one version.

    Attributes:
        asked: the reference as it was written.
        version: what it means.
        aliases: those that point to it now.
        lineage: what it came from, each step followed by what led there.
        descendants: what was made of it.
        variants: its siblings.
        moves: of aliases to it and away from it.
        entries: the log about it.
    """

    asked: str
    version: Version
    aliases: tuple[str, ...]
    lineage: tuple[Step, ...]
    descendants: tuple[Edge, ...]
    variants: tuple[Variant, ...]
    moves: tuple[AliasMove, ...]
    entries: tuple[AuditEntry, ...]


def explain(connection: Connection, ref: ModelRef) -> Explanation:
    """Gather it.

    Raises:
        VersionNotRegistered: there is no such version.
    """
    version = reading.resolve(connection, ref)
    moves = reading.moves_touching(connection, version.name, version.number)
    here = schema.audit.c
    about = (here.subject == version.ref) | here.seq.in_([move.seq for move in moves])
    rows = connection.execute(select(schema.audit).where(about).order_by(here.seq))
    return Explanation(
        str(ref),
        version,
        tuple(alias for alias, to in reading.aliases(connection, version.name).items() if to == version.number),
        tuple(_ancestry(connection, version.ref)),
        tuple(reading.edges_to(connection, version.ref)),
        tuple(reading.variants(connection, version.name, version.number)),
        tuple(moves),
        tuple(audit.read_entry(row) for row in rows),
    )


def _ancestry(connection: Connection, ref: str) -> list[Step]:
    """Depth first, so that each step stands before what led to it; a circle is walked once."""
    found: list[Step] = []
    seen = {ref}

    def walk(child: str, depth: int) -> None:
        for edge in reading.edges_from(connection, [child]):
            if len(found) >= _MAX_STEPS:
                return
            found.append(Step(depth, edge))
            if edge.parent not in seen and _is_ref(edge.parent):
                seen.add(edge.parent)
                walk(edge.parent, depth + 1)

    walk(ref, 0)
    return found


def _is_ref(text: str) -> bool:
    try:
        return ModelRef.parse(text).version is not None
    except InvalidArgument:
        return False

"""What the console tells of the registry: models, lineage, who changed what, what was found of variants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from taxiway.control.console.asking import ms
from taxiway.core.errors import VersionNotRegistered
from taxiway.registry import Registry
from taxiway.registry.nouns import Edge, Version

_MODELS: Final = 500
_VERSIONS: Final = 50
_T = TypeVar("_T")


class Shelf:
    """Asks the registry; everything blocks.

    Args:
        open_: opens it; None: there is none.
    """

    def __init__(self, open_: Callable[[], Registry | None]) -> None:
        self._open = open_

    def aliases(self, model: str | None) -> dict[str, Mapping[str, int]]:
        """By model, where each alias points."""

        def read(registry: Registry) -> dict[str, Mapping[str, int]]:
            if model is not None:
                return {model: registry.aliases(model)}
            return {one.name: one.aliases for one in registry.models(limit=_MODELS)}

        return self._read(read) or {}

    def overview(self) -> dict[str, Any]:
        """Its size, and its models."""
        return self._read(_overview) or {"there": False, "info": None, "models": []}

    def model(self, name: str) -> dict[str, Any]:
        """Versions of a model, moves of its aliases, and how each came to be."""
        return self._read(lambda registry: _model(registry, name)) or {
            "model": name,
            "versions": [],
            "moves": [],
            "edges": [],
        }

    def reports(self, name: str | None) -> dict[str, Any]:
        """Variants with their verdicts, and profiles, of one model or of all."""
        return self._read(lambda registry: _reports(registry, name)) or {"models": []}

    def audit(self, before: int | None, limit: int) -> dict[str, Any]:
        """Changes, newest first."""

        def read(registry: Registry) -> dict[str, Any]:
            entries = [
                {
                    "seq": one.seq,
                    "at_ms": ms(one.at),
                    "actor": one.actor,
                    "kind": one.kind,
                    "subject": one.subject,
                    "payload": one.payload,
                    "hash": one.hash,
                }
                for one in registry.latest_changes(before=before, limit=limit)
            ]
            return {"there": True, "entries": entries, "before": next_page(entries, limit)}

        return self._read(read) or {"there": False, "entries": [], "before": None}

    def _read(self, what: Callable[[Registry], _T]) -> _T | None:
        registry = self._open()
        if registry is None:
            return None
        with registry:
            return what(registry)


def next_page(entries: Sequence[Mapping[str, Any]], limit: int) -> int | None:
    """Before which number the next page ends; None: there is none."""
    return entries[-1]["seq"] if len(entries) == limit and entries[-1]["seq"] > 1 else None


def _overview(registry: Registry) -> dict[str, Any]:
    info = registry.info()
    told = {name: getattr(info, name) for name in ("models", "versions", "blobs", "size", "entries", "head")}
    models = [
        {
            "model": one.name,
            "versions": one.versions,
            "changed_ms": ms(one.changed_at),
            "aliases": one.aliases,
            "tags": one.tags,
        }
        for one in registry.models(limit=_MODELS)
    ]
    return {"there": True, "info": told, "models": models}


def _model(registry: Registry, name: str) -> dict[str, Any]:
    try:
        versions = registry.versions(name, limit=_VERSIONS)
    except VersionNotRegistered:  # it is served from a file
        versions = []
    refs, told = [], []
    for one in versions:
        variants = registry.variants(name, one.number)
        refs += [one.ref, *(variant.ref for variant in variants)]
        told.append(_version(one, [variant.variant for variant in variants]))
    moves = [
        {
            "alias": move.alias,
            "from": move.from_version,
            "to": move.to_version,
            "at_ms": ms(move.at),
            "by": move.by,
            "why": move.why,
        }
        for alias in registry.aliases(name)
        for move in registry.alias_history(name, alias)
    ]
    edges = [_edge(one) for one in registry.edges(refs)]
    return {"model": name, "versions": told, "moves": sorted(moves, key=_newest), "edges": edges}


def _newest(move: Mapping[str, Any]) -> int:
    return -int(move["at_ms"])


def _version(one: Version, variants: list[str]) -> dict[str, Any]:
    return {
        "version": one.number,
        "digest": one.digest,
        "framework": one.framework,
        "created_ms": ms(one.created_at),
        "created_by": one.created_by,
        "origin": one.origin,
        "tags": one.tags,
        "variants": variants,
    }


def _edge(one: Edge) -> dict[str, Any]:
    return {"child": one.child, "kind": one.kind, "parent": one.parent, "at_ms": ms(one.at), "by": one.by}


def _reports(registry: Registry, name: str | None) -> dict[str, Any]:
    names = [name] if name is not None else [one.name for one in registry.models(limit=_MODELS)]
    return {"models": [told for one in names for told in _model_reports(registry, one)]}


def _model_reports(registry: Registry, name: str) -> list[dict[str, Any]]:
    """Of each version of which something was found."""
    told = []
    try:
        versions = registry.versions(name, limit=_VERSIONS)
    except VersionNotRegistered:
        return []
    for version in versions:
        variants = registry.variants(name, version.number)
        edges = registry.edges([version.ref, *(one.ref for one in variants)])
        verdicts = {edge.child: edge.facts for edge in edges if edge.kind == "verdict"}
        profiles = [edge for edge in edges if edge.kind == "profile"]
        if variants or profiles:
            told.append(
                {
                    "model": name,
                    "version": version.number,
                    "variants": [
                        {
                            "variant": one.variant,
                            "recipe": one.recipe,
                            "made_ms": ms(one.created_at),
                            "by": one.created_by,
                            "verdict": verdicts.get(one.ref),
                        }
                        for one in variants
                    ],
                    "profiles": [{"at_ms": ms(edge.at), "by": edge.by, "facts": edge.facts} for edge in profiles],
                }
            )
    return told

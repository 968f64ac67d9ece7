"""What a person reads of the registry: lines of plain text, aligned, without colours."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from taxiway.registry.canonical import canonical_json
from taxiway.registry.explaining import Explanation
from taxiway.registry.garbage import Garbage
from taxiway.registry.nouns import (
    AliasMove,
    AuditEntry,
    Edge,
    ModelSummary,
    RegistryInfo,
    Served,
    Variant,
    Version,
)

Lines = list[str]
_LINE = 160
"""Characters of a fact that are shown; `--output json` has them all."""

_KINDS = {
    "trained-by": "trained by",
    "artifact": "made from",
    "variant-of": "a variant of",
    "profile": "profiled as",
    "rollout": "rolled out as",
    "verdict": "judged as",
}


# --- words ---------------------------------------------------------------------------------------------


def time_words(when: dt.datetime) -> str:
    """To the second, in UTC."""
    return when.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def size_words(size: int) -> str:
    """`418.3 MB`."""
    number, units = float(size), ["B", "kB", "MB", "GB", "TB"]
    while number >= 999.95 and len(units) > 1:
        number, units = number / 1000, units[1:]
    return f"{size} B" if units[0] == "B" else f"{number:.1f} {units[0]}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Lines:
    """Columns as wide as their widest cell."""
    all_rows = [head, *rows]
    widths = [max(len(row[column]) for row in all_rows) for column in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in all_rows]


def _pairs(pairs: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in pairs.items())


def _fact(value: object) -> str:
    return value if isinstance(value, str) else canonical_json(value)


def _spread(facts: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Facts a line each, `parity.rows`, without what is empty; what is longer than a line is cut."""
    for key, value in facts.items():
        if isinstance(value, Mapping):
            yield from _spread(value, f"{path}{key}.")
        elif value not in (None, "", [], False):
            said = _fact(value)
            yield f"{path}{key}", said if len(said) <= _LINE else f"{said[:_LINE]} ..."


def _fields(pairs: Iterable[tuple[str, str]], indent: str = "  ") -> Lines:
    told = list(pairs)
    width = max((len(name) for name, _ in told), default=0)
    return [f"{indent}{name.ljust(width)}  {value}".rstrip() for name, value in told]


# --- models and versions -------------------------------------------------------------------------------


def models_text(models: Sequence[ModelSummary]) -> Lines:
    """A list of models."""
    if not models:
        return ["no models are registered; `taxiway import SOURCE` registers one"]
    rows = [
        (model.name, str(model.versions), _pairs(model.aliases) or "-", time_words(model.changed_at))
        for model in models
    ]
    return table(("NAME", "VERSIONS", "ALIASES", "LAST VERSION"), rows)


def versions_text(versions: Sequence[Version], aliases: Mapping[str, int]) -> Lines:
    """A list of versions of one model."""
    rows = [
        (
            version.ref,
            " ".join(alias for alias, to in aliases.items() if to == version.number) or "-",
            version.framework,
            size_words(version.manifest.size),
            time_words(version.created_at),
            version.created_by,
            _pairs(version.tags),
        )
        for version in versions
    ]
    return table(("VERSION", "ALIASES", "FRAMEWORK", "SIZE", "REGISTERED", "BY", "TAGS"), rows)


def version_text(version: Version, aliases: Sequence[str], variants: Sequence[Variant]) -> Lines:
    """All about one version."""
    backend = version.facts.get("backend")
    about = [
        ("framework", version.framework),
        *([("served by", backend)] if isinstance(backend, str) and backend else []),
        ("registered", f"{time_words(version.created_at)} by {version.created_by}"),
        ("digest", version.digest),
        ("aliases", " ".join(aliases) or "-"),
    ]
    about.append(("to serve it", f"taxiway serve {version.ref}"))
    about += [("tag", f"{key} = {value}") for key, value in version.tags.items()]
    about += [(way, tensor) for way in ("inputs", "outputs") for tensor in _tensors(version.signature.get(way))]
    lines = [version.ref, *_fields(about)]
    files = [(file.path, size_words(file.size), file.sha256[:16]) for file in version.manifest.files]
    lines += ["", *table((f"FILES ({size_words(version.manifest.size)})", "SIZE", "SHA-256"), files)]
    for title, facts in (("ORIGIN", version.origin), ("FACTS", version.facts)):
        if facts:
            lines += ["", title, *_fields(_spread(facts))]
    if variants:
        rows = [
            (variant.ref, size_words(variant.manifest.size), variant.parent, canonical_json(variant.recipe))
            for variant in variants
        ]
        lines += ["", *table(("VARIANTS", "SIZE", "FROM", "RECIPE"), rows)]
    return lines


def _tensors(tensors: object) -> list[str]:
    """`x FP32[-1,4]`; a signature is whatever was registered, so nothing is taken for granted."""
    if not isinstance(tensors, list):
        return []
    return [
        f"{tensor.get('name')} {tensor.get('datatype')}{canonical_json(tensor.get('shape'))}"
        if isinstance(tensor, Mapping)
        else _fact(tensor)
        for tensor in tensors
    ]


# --- aliases -------------------------------------------------------------------------------------------


def move_text(move: AliasMove) -> str:
    """`fraud@stable: 1 -> 2`."""
    steps = [str(number) if number is not None else "none" for number in (move.from_version, move.to_version)]
    return f"{move.name}@{move.alias}: {' -> '.join(steps)}"


def history_text(moves: Sequence[AliasMove]) -> Lines:
    """The moves of an alias."""
    rows = [(time_words(move.at), move_text(move), move.by, move.why) for move in moves]
    return table(("WHEN", "MOVE", "BY", "WHY"), rows)


def served_text(served: Sequence[Served]) -> Lines:
    """What aliases pointed to."""
    if not served:
        return ["no alias pointed to anything then"]
    rows = [
        (f"{one.name}@{one.alias}", f"{one.name}:{one.number}", time_words(one.since), one.by, one.why)
        for one in served
    ]
    return table(("ALIAS", "VERSION", "SINCE", "BY", "WHY"), rows)


# --- why -----------------------------------------------------------------------------------------------


def why_text(told: Explanation) -> Lines:
    """Where a version came from, what became of it, and who said so."""
    version = told.version
    means = f"  ({told.asked} means it now)" if told.asked != version.ref else ""
    registered = f"registered {time_words(version.created_at)} by {version.created_by}"
    lines = [f"{version.ref}{means}", f"  {registered}: {_reason(told.entries)}", f"  {version.digest}"]
    if told.lineage:
        lines += ["", "came from", *(_step(step.edge, step.depth) for step in told.lineage)]
    if told.descendants:
        lines += ["", "became", *(f"  {edge.child}  ({edge.by}, {time_words(edge.at)})" for edge in told.descendants)]
    if told.moves:
        lines += ["", "aliases", *(f"  {line}" for line in history_text(told.moves)[1:])]
    return [*lines, "", "log", *(f"  {line}" for line in log_text(told.entries)[1:])]


def _reason(entries: Sequence[AuditEntry]) -> str:
    return str(next((entry.payload["why"] for entry in entries if "why" in entry.payload), "no reason was given"))


def _step(edge: Edge, depth: int) -> str:
    facts = ", ".join(f"{key.replace('_', ' ')} {_short(value)}" for key, value in edge.facts.items())
    return f"  {'  ' * depth}{edge.child} {_KINDS[edge.kind]} {edge.parent}{f'  ({facts})' if facts else ''}"


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else _fact(value)


# --- the log and upkeep --------------------------------------------------------------------------------


def log_text(entries: Sequence[AuditEntry]) -> Lines:
    """Entries of the audit log."""
    rows = [
        (str(entry.seq), time_words(entry.at), entry.actor, entry.kind, entry.subject, entry.hash[:12])
        for entry in entries
    ]
    return table(("ENTRY", "WHEN", "WHO", "WHAT", "OF", "HASH"), rows)


def garbage_text(garbage: Garbage, *, dry_run: bool) -> Lines:
    """What was collected, or would be."""
    lines = [f"{blob.sha256}  {size_words(blob.size)}" for blob in garbage.blobs] if dry_run else []
    verb = "would be deleted" if dry_run else "deleted"
    lines.append(f"{len(garbage.blobs)} unused blobs, {size_words(garbage.size)}, {verb}")
    if garbage.unknown:
        lines.append(f"{garbage.unknown} blobs that the registry did not know; their grace begins now")
    if garbage.swept:
        lines.append(f"{garbage.swept} files that killed writers had left, deleted")
    return lines


def info_text(info: RegistryInfo) -> Lines:
    """Where the registry lies and how large it is."""
    return _fields(
        [
            ("database", info.url),
            ("blobs", info.blobs_url),
            ("schema", str(info.schema)),
            ("models", str(info.models)),
            ("versions", str(info.versions)),
            ("stored", f"{info.blobs} blobs, {size_words(info.size)}"),
            ("audit log", f"{info.entries} entries, last hash {info.head}"),
        ],
        indent="",
    )

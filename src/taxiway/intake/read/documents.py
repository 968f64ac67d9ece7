"""JSON and YAML from strangers: bounded in size, depth and count, and without YAML's aliases."""

from __future__ import annotations

from typing import Any

import orjson
import yaml

from taxiway.core.errors import MalformedArtifact, OversizedArtifact
from taxiway.intake.limits import Limits


def read_json(data: bytes | memoryview, where: str, limits: Limits) -> Any:  # noqa: ANN401 - whatever JSON holds
    """Parse JSON. Nesting is bounded by the parser itself, far above what a person writes.

    Raises:
        MalformedArtifact: it is not JSON.
        OversizedArtifact: it is too large, or nests too deep.
    """
    _check_size(len(data), where, limits)
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as problem:
        if "recursion" in str(problem) or "depth" in str(problem):
            raise OversizedArtifact(f"{where} nests too deep for a JSON document", file=where, rule="depth") from None
        raise MalformedArtifact(f"{where} is not JSON: {problem}", file=where, rule="json") from None


def json_or(text: str | bytes, default: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    """JSON that is merely told on: what cannot be read is not told."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return default


def read_yaml(data: bytes, where: str, limits: Limits) -> Any:  # noqa: ANN401 - whatever YAML holds
    """Parse YAML, plain values only.

    Raises:
        MalformedArtifact: it is not YAML, or asks for Python objects.
        OversizedArtifact: it is too large, nests too deep, or refers to itself.
    """
    check_yaml(data, where, limits)
    try:
        return yaml.load(data, Loader=_SAFE)  # noqa: S506 - both are safe loaders
    except yaml.YAMLError as problem:
        said = " ".join(str(problem).split())[:200]
        raise MalformedArtifact(f"{where} is not plain YAML: {said}", file=where, rule="yaml") from None
    except (RecursionError, ValueError) as problem:
        raise MalformedArtifact(f"{where} is not plain YAML: {problem}", file=where, rule="yaml") from None


def check_yaml(data: bytes, where: str, limits: Limits) -> None:
    """Go through YAML without building anything.

    Raises:
        MalformedArtifact, OversizedArtifact: as `read_yaml`.
    """
    _check_size(len(data), where, limits)
    try:
        _check_events(data, where, limits)
    except (yaml.YAMLError, RecursionError, ValueError) as problem:
        said = " ".join(str(problem).split())[:200]
        raise MalformedArtifact(f"{where} is not YAML: {said}", file=where, rule="yaml") from None


_SAFE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _check_events(data: bytes, where: str, limits: Limits) -> None:
    """Count before anything is built: ten lines of aliases become a billion values."""
    depth = nodes = 0
    for event in yaml.parse(data, Loader=_SAFE):
        if isinstance(event, yaml.AliasEvent):
            raise OversizedArtifact(
                f"{where} uses YAML aliases (*{event.anchor}), with which a few lines grow without bound",
                hint="write the values out",
                file=where,
                rule="yaml-alias",
            )
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        nodes += isinstance(event, yaml.NodeEvent)
        if depth > limits.max_document_depth or nodes > limits.max_document_nodes:
            rule = "max_document_depth" if depth > limits.max_document_depth else "max_document_nodes"
            raise OversizedArtifact(
                f"{where} is over {rule} ({getattr(limits, rule)}) for a YAML document", file=where, rule=rule
            )


def _check_size(size: int, where: str, limits: Limits) -> None:
    if size > limits.max_document_bytes:
        rule = f"is larger than max_document_bytes ({limits.max_document_bytes})"
        raise OversizedArtifact(f"{where} {rule}", file=where, rule="max_document_bytes")

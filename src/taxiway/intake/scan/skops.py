"""skops' archives: their schema names every type that loading builds; what is not known is as good as a pickle."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from typing import Any, Final

from taxiway.core.errors import MalformedArtifact, OversizedArtifact, UntrustedPickle
from taxiway.intake.read.documents import read_json
from taxiway.intake.scan.look import Look

SCHEMA: Final = "schema.json"

_BUILDERS: Final = frozenset({
    "BytearrayNode", "BytesNode", "CachedNode", "DTypeNode", "DefaultDictNode", "DictNode", "JsonNode", "ListNode",
    "LossNode", "MaskedArrayNode", "NdArrayNode", "ObjectNode", "RandomGeneratorNode", "RandomStateNode", "SetNode",
    "SliceNode", "SparseMatrixNode", "TreeNode", "TupleNode", "TypeNode", "_DictWithDeprecatedKeysNode",
})  # fmt: skip
"""Loaders that build values of the type they name, and call nothing else: no methods, operators or partials."""

_KNOWN: Final = re.compile(
    r"sklearn\.[\w.]+|numpy\.\w+|numpy\.(_core|core|ma|random|dtypes)\.[\w.]+|scipy\.(sparse|stats|interpolate)\.[\w.]+"
    r"|builtins\.(dict|list|tuple|set|frozenset|str|bytes|bytearray|int|float|complex|bool|slice|range|NoneType)"
    r"|collections\.(OrderedDict|defaultdict)"
)
"""Types that are known to do nothing while they are built."""

_FUNCTIONS: Final = re.compile(
    r"numpy\.(log|log1p|log2|log10|exp|expm1|sqrt|cbrt|square|abs|absolute|sign|sin|cos|tan|tanh|add|subtract|multiply)"
    r"|scipy\.special\.\w+|sklearn\.metrics\.[\w.]+|sklearn\.feature_selection\.[\w.]+"
)
_MAX_TOLD = 8


def is_skops(archive: zipfile.ZipFile) -> bool:
    """Whether an archive is skops'."""
    return SCHEMA in archive.NameToInfo


def read_schema(archive: zipfile.ZipFile, look: Look) -> Any:  # noqa: ANN401 - JSON
    """The schema of an archive.

    Raises:
        OversizedArtifact, MalformedArtifact: it is larger or deeper than schemas are, or no JSON.
    """
    where = f"{look.shown}!{SCHEMA}"
    with archive.open(SCHEMA) as member:
        text = member.read(look.limits.max_document_bytes + 1)
    return read_json(text, where, look.limits)


def scan_schema(look: Look, archive: zipfile.ZipFile) -> None:
    """Refuse what would build a type that is not known, unless the file is trusted.

    Raises:
        UntrustedPickle: names the types.
    """
    schema = read_schema(archive, look)
    if not isinstance(schema, dict) or "__loader__" not in schema:
        raise MalformedArtifact(f"{look.shown}!{SCHEMA} names no loader", file=look.shown, rule="skops")
    unknown = sorted(set(_unknown(schema, look)))
    if not unknown:
        return
    told = ", ".join(unknown[:_MAX_TOLD])
    if look.trusted:
        look.note(f"builds {told}, which is not known to be harmless, and is trusted")
        return
    raise UntrustedPickle(
        f"{look.shown} builds {told}, which is not known to be harmless",
        hint=f"if you made this file yourself, say --trust {look.owner.digest}",
        file=look.shown,
        rule="skops-types",
        digest=look.owner.digest,
        globals=unknown,
    )


def _unknown(schema: dict[str, Any], look: Look) -> Iterator[str]:
    for node in nodes(schema, look):
        name, loader = f"{node.get('__module__')}.{node.get('__class__')}", str(node["__loader__"])
        if loader == "FunctionNode":
            if not _FUNCTIONS.fullmatch(name):
                yield f"{name} (a function)"
        elif loader not in _BUILDERS:
            yield f"{name} (by a {loader})"
        elif loader != "CachedNode" and not _KNOWN.fullmatch(name):
            yield name


def nodes(schema: dict[str, Any], look: Look) -> Iterator[dict[str, Any]]:
    """Every node of a schema, outermost first.

    Raises:
        OversizedArtifact: more values than a document has.
    """
    waiting: list[Any] = [schema]
    seen = 0
    while waiting:
        value = waiting.pop()
        seen += 1
        if seen > look.limits.max_document_nodes:
            rule = f"has more values than max_document_nodes ({look.limits.max_document_nodes})"
            raise OversizedArtifact(f"{look.shown}!{SCHEMA} {rule}", file=look.shown, rule="max_document_nodes")
        if isinstance(value, dict):
            if "__loader__" in value:
                yield value
            waiting += reversed(value.values())
        elif isinstance(value, list):
            waiting += reversed(value)

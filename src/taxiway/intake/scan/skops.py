"""skops' archives: their schema names every type that loading builds; what is not known is as good as a pickle."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from typing import Any, Final

from taxiway.core.errors import MalformedArtifact, OversizedArtifact, UntrustedPickle
from taxiway.intake.read.documents import read_json
from taxiway.intake.scan.look import Look
from taxiway.runtimes.hosted.built_types import HARMLESS

SCHEMA: Final = "schema.json"

_SCALARS = r"numpy\.(bool_?|str_|bytes_|object_|(u?int|float|complex)\d+|datetime64|timedelta64|longdouble|ndarray)"
_PLAIN = (
    r"builtins\.(dict|list|tuple|set|frozenset|str|bytes|bytearray|int|float|complex|bool|slice|range|NoneType|type)"
)
_CLASS = r"sklearn\.(\w+\.)*_?[A-Z]\w*"

_BUILDERS: Final = {
    loader: re.compile(names)
    for loader, names in {
        "BytearrayNode": r"builtins\.bytearray",
        "BytesNode": r"builtins\.bytes",
        "CachedNode": r".*",
        "DTypeNode": r"numpy\.(dtype|dtypes\.\w+|dtype\[\w+\])",
        "DefaultDictNode": r"collections\.defaultdict",
        "DictNode": r"builtins\.dict|collections\.OrderedDict",
        "JsonNode": rf"{_PLAIN}|{_SCALARS}",
        "ListNode": r"builtins\.list",
        "LossNode": r"(sklearn\._loss\._loss|_loss|sklearn\.linear_model\._sgd_fast|_sgd_fast)\.[A-Z]\w*",
        "MaskedArrayNode": r"numpy\.ma\.(core\.)?MaskedArray",
        "NdArrayNode": _SCALARS,
        "ObjectNode": rf"{_CLASS}|scipy\.(stats|interpolate)\.(\w+\.)*\w+",
        "RandomGeneratorNode": r"numpy\.random\.(_generator\.)?Generator",
        "RandomStateNode": r"numpy\.random\.(mtrand\.)?RandomState",
        "SetNode": r"builtins\.(set|frozenset)",
        "SliceNode": r"builtins\.slice",
        "SparseMatrixNode": r"scipy\.sparse\.(\w+\.)*\w+",
        "TreeNode": r"sklearn\.tree\._tree\.Tree",
        "TupleNode": r"builtins\.tuple",
        "TypeNode": rf"{_PLAIN}|{_SCALARS}|{_CLASS}",
        "_DictWithDeprecatedKeysNode": rf"{_CLASS}",
    }.items()
}
"""Loaders, and what each may build. Most call what the schema names: a `ListNode` of `numpy.load` would be a call."""

_FUNCTIONS: Final = re.compile(
    r"numpy\.(log|log1p|log2|log10|exp|expm1|sqrt|cbrt|square|abs|absolute|sign|sin|cos|tan|tanh|add|subtract|multiply)"
    r"|scipy\.special\.\w+|sklearn\.metrics\.[\w.]+|sklearn\.feature_selection\.[\w.]+"
)
_OF_HARMLESS: Final = frozenset({"DictNode", "FunctionNode", "ObjectNode", "PartialNode", "TypeNode"})
"""Loaders that may have what a runtime builds unasked: the two would disagree about a file otherwise."""
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
        look.vouch(f"builds {told}, which is not known to be harmless")
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
        if name in HARMLESS and loader in _OF_HARMLESS:
            continue
        if loader == "FunctionNode":
            if not _FUNCTIONS.fullmatch(name):
                yield f"{name} (a function)"
        elif loader not in _BUILDERS or not _BUILDERS[loader].fullmatch(name):
            yield f"{name} (by a {loader})"


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

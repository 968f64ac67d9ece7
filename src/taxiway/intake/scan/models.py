"""Model files that are no archives and no pickles: their headers are read to the end and held against the file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from taxiway.core.errors import MalformedArtifact, OversizedArtifact, UnsafePath
from taxiway.intake.nouns import Buffer
from taxiway.intake.read.documents import check_yaml
from taxiway.intake.read.gguf import read_gguf
from taxiway.intake.read.onnx import External, read_onnx
from taxiway.intake.read.safetensors import read_safetensors
from taxiway.intake.scan.look import Look

_BRACKETS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\]]', re.DOTALL)
_TAGS = re.compile(rb"</?[A-Za-z](?:[^<>\"']|\"[^\"]*\"|'[^']*')*(?<!/)>")


def scan_onnx(look: Look) -> None:
    """Read the whole structure; check where its tensors' numbers lie.

    Raises:
        UnsafePath: external data outside of the model.
        MalformedArtifact: it contradicts itself or the files.
        OversizedArtifact: it nests or counts beyond the limits.
    """
    with look.mapped() as data:
        found = read_onnx(data, look.shown, look.limits)
    for external in found.external:
        _check_external(look, external)
    custom = found.custom_domains()
    if custom:
        look.note(f"uses operators of {', '.join(custom)}, which need a library of their own to run")


def _check_external(look: Look, external: External) -> None:
    location = external.location
    where = f"{look.shown}: tensor {external.tensor!r}"
    rule = external_path_rule(location)
    if rule:
        raise UnsafePath(
            f"{where} wants its numbers from {location!r}, which {rule}",
            hint="save the model again with its external data beside it: onnx.save(..., save_as_external_data=True)",
            file=look.shown,
            rule="external-data-path",
            location=location,
        )
    directory = PurePosixPath(look.shown).parent
    path = (directory / location).as_posix()
    file = look.shared.staged.files.get(path) if look.depth == 0 else None
    if file is None:
        raise MalformedArtifact(
            f"{where} wants its numbers from {location!r}, which is not there",
            hint="copy the external data beside the model",
            file=look.shown,
            rule="external-data-missing",
            location=location,
        )
    end = external.offset + (external.length or 0)
    if end > file.size:
        raise MalformedArtifact(
            f"{where} wants bytes up to {end} of {location!r}, which has {file.size}",
            hint="copy the external data again: it is cut off",
            file=look.shown,
            rule="external-data-span",
        )


def external_path_rule(location: str) -> str:
    """Which rule a location of external data breaks; empty if none."""
    path = PurePosixPath(location)
    if not location or path.is_absolute() or location[1:2] == ":":
        return "is no relative path"
    if ".." in path.parts:
        return "leads out of the model"
    if path.parts[0] == "*":
        return "is what ONNX Runtime takes for an address in its memory"
    if "\\" in location or not location.isprintable():
        return "has a backslash or a control character"
    return ""


def scan_safetensors(look: Look) -> None:
    """Read and check the header.

    Raises:
        MalformedArtifact, OversizedArtifact: it lies.
    """
    with look.mapped() as data:
        read_safetensors(data, look.shown, look.limits)


def scan_gguf(look: Look) -> None:
    """Read and check the header.

    Raises:
        MalformedArtifact, OversizedArtifact: it lies.
    """
    with look.mapped() as data:
        read_gguf(data, look.shown, look.limits)


def scan_text(look: Look) -> None:
    """Documents that others will parse: no deeper than their parsers stand, and nothing that grows while it is read.

    Raises:
        OversizedArtifact: it nests beyond the limit, or refers to itself.
        MalformedArtifact: it is not what its name says.
    """
    name = look.shown.rpartition("!")[2].rpartition("/")[2].lower()
    with look.mapped() as data:
        if name.endswith((".yaml", ".yml")) or name == "mlmodel":
            check_yaml(bytes(data[: look.limits.max_document_bytes + 1]), look.shown, look.limits)
        elif name.endswith((".json", ".pbtxt", ".prototxt")):
            _check_depth(_BRACKETS.finditer(data), look)
        elif name.endswith((".xml", ".pmml")):
            _check_xml(data, look)


def _check_depth(found: Iterator[re.Match[bytes]], look: Look) -> None:
    """Brackets and tags within each other; what stands in quotes is none."""
    depth = 0
    for match in found:
        mark = match[0]
        if mark[:1] in b"\"'#":
            continue
        depth += -1 if mark[:1] in b"}])>" or mark[:2] == b"</" else 1
        if depth > look.limits.max_nesting:
            rule = f"nests deeper than max_nesting ({look.limits.max_nesting})"
            raise OversizedArtifact(f"{look.shown} {rule}", file=look.shown, rule="max_nesting")


def _check_xml(data: Buffer, look: Look) -> None:
    if re.search(rb"<!ENTITY", data):
        rule = "defines XML entities, with which a few lines grow without bound"
        raise OversizedArtifact(f"{look.shown} {rule}", file=look.shown, rule="xml-entity")
    _check_depth(_TAGS.finditer(data), look)

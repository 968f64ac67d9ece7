"""What a person reads after an import, and the same as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from taxiway.config.backends import BACKENDS
from taxiway.core.tensors import TensorSpec
from taxiway.intake.converting import is_converted
from taxiway.intake.nouns import Understanding
from taxiway.intake.read.plain import plain
from taxiway.intake.walk import Imported, facts_of, signature_of

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_LABEL_WIDTH = 11
_MAX_FILES = 12
_MAX_FINDINGS = 8


def format_report(imported: Sequence[Imported]) -> str:
    """One paragraph for each model."""
    return "\n\n".join("\n".join(plain(line) for line in _lines(one)) for one in imported)


def _lines(one: Imported) -> Iterator[str]:
    model = one.model
    ref = one.version.ref if one.version else one.name
    yield f"{ref}  {_state(one)}"
    yield _row("format", one.title)
    yield _row("framework", f"{model.framework} {model.version}".strip())
    yield _row("backend", _backend(model))
    yield from _rows("converted", _conversion(model))
    yield from _rows("inputs", [_tensor(spec) for spec in model.inputs] or [_unknown(model)])
    yield from _rows("outputs", [_tensor(spec) for spec in model.outputs] or [_unknown(model)])
    yield from _rows("files", _files(one))
    if one.left_out:
        yield _row("left out", _some(one.left_out))
    yield from _rows("scan", _findings(one))
    yield _row("signature", _signature(one))
    yield _row("digest", one.digest)
    if model.notes:
        yield from _rows("note", list(model.notes))
    if one.version:
        yield _row("next", f"taxiway serve {one.alias_ref or ref}" if model.servable else f"taxiway why {ref}")


def _backend(model: Understanding) -> str:
    """What serves it, and where."""
    named = model.backend or model.platform
    if not model.servable:
        return f"{named}  (not served here: it is kept)"
    backend = BACKENDS.get(model.backend)
    return f"{named}  (in a process of its own)" if backend is not None and backend.hosted else named


def _conversion(model: Understanding) -> list[str]:
    """What became of the attempt to make ONNX of it; nothing if there was none."""
    told = model.conversion
    if not told:
        return []
    if not is_converted(model):
        return [f"no, its own library serves it: {told['message']}"]
    parity = told["parity"]
    lines = [f"to ONNX by {told['converter']}; the original is kept with it"]
    error = parity["worst_relative_error"]
    compared = f"{parity['rows']} rows answered alike: labels equal, worst relative error {error:.2g}"
    splits = f", at {parity['splits']} of {parity['splits_in_all']} splits" if parity["splits_in_all"] else ""
    return [*lines, compared + splits]


def _state(one: Imported) -> str:
    if one.version is None:
        return "not registered (dry run)"
    return "registered" if one.is_new else "was registered before"


def _unknown(model: Understanding) -> str:
    if model.tells_later:
        return "known once it is loaded"
    return "nobody tells them: say --input and --output-tensor NAME:DATATYPE[SHAPE], or it cannot be served"


def _row(label: str, said: str) -> str:
    return f"  {label:<{_LABEL_WIDTH}}{said}"


def _rows(label: str, lines: Sequence[str]) -> Iterator[str]:
    for index, line in enumerate(lines):
        yield _row("" if index else label, line)


def _tensor(spec: TensorSpec) -> str:
    return f"{spec.name}  {spec.datatype.wire_name}{list(spec.shape)}"


def _files(one: Imported) -> list[str]:
    width = max(len(entry.path) for entry in one.files)
    lines = [f"{entry.path:<{width}}  {human_size(entry.size)}" for entry in one.files[:_MAX_FILES]]
    if len(one.files) > _MAX_FILES:
        rest = one.files[_MAX_FILES:]
        lines.append(f"... and {len(rest)} more, {human_size(sum(entry.size for entry in rest))}")
    return lines


def _some(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - _MAX_FILES} more" if len(paths) > _MAX_FILES else ""
    return ", ".join(paths[:_MAX_FILES]) + more


def _findings(one: Imported) -> list[str]:
    count = len(one.scanned.kinds)
    lines = [f"{count} file{'' if count == 1 else 's'} looked at, nothing refused"]
    lines += [f"{finding.file} {finding.said}" for finding in one.scanned.findings[:_MAX_FINDINGS]]
    more = len(one.scanned.findings) - _MAX_FINDINGS
    return [*lines, f"... and {more} more findings"] if more > 0 else lines


def _signature(one: Imported) -> str:
    return f"verified with {one.signature.key}" if one.signature.key else one.signature.state


def human_size(count: int) -> str:
    """Bytes as people say them."""
    size, unit = float(count), 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{count} B" if unit == 0 else f"{size:.1f} {_UNITS[unit]}"


def as_json(imported: Sequence[Imported]) -> list[dict[str, Any]]:
    """The same for programs."""
    return [
        {
            "ref": one.version.ref if one.version else None,
            "name": one.name,
            "version": one.version.number if one.version else None,
            "digest": one.digest,
            "framework": one.model.framework,
            "signature": signature_of(one.model),
            "files": [{"path": entry.path, "sha256": entry.sha256, "size": entry.size} for entry in one.files],
            "origin": dict(one.origin),
            **facts_of(one),
        }
        for one in imported
    ]

"""ONNX: one file, or a directory with one at its top, and the external data that it names."""

from __future__ import annotations

from pathlib import PurePosixPath

from taxiway.intake.formats.files import kind_of, placed
from taxiway.intake.limits import DEFAULT_LIMITS
from taxiway.intake.nouns import Format, Staged, StagedFile, Understanding
from taxiway.intake.read.onnx import OnnxFile, read_onnx
from taxiway.intake.scan.content import Kind
from taxiway.intake.scan.models import external_path_rule

_MODEL = "model.onnx"


def _recognise(staged: Staged) -> bool:
    return _model_file(staged) is not None


def _model_file(staged: Staged) -> StagedFile | None:
    """The model: the one file, or the only ONNX model at the top of a directory that has nothing but its data."""
    one = staged.one()
    candidates = [one] if one else [file for file in staged.files.values() if "/" not in file.path]
    found = [file for file in candidates if is_onnx(file)]
    return found[0] if len(found) == 1 else None


def is_onnx(file: StagedFile) -> bool:
    """Whether the file's bytes are an ONNX model."""
    return kind_of(file) is Kind.ONNX


def read_file(file: StagedFile) -> OnnxFile:
    """What the file says of itself."""
    with file.mapped() as data:
        return read_onnx(data, file.path, DEFAULT_LIMITS)


def external_files(file: StagedFile) -> frozenset[str]:
    """Paths of its external data, relative to its directory, without those that no rule lets through."""
    locations = {one.location for one in read_file(file).external}
    return frozenset(PurePosixPath(location).as_posix() for location in locations if not external_path_rule(location))


def _raw(staged: Staged) -> frozenset[str]:
    file = _model_file(staged)
    return frozenset() if file is None else beside(file)


def beside(file: StagedFile) -> frozenset[str]:
    """Its external data as paths of the source."""
    directory = PurePosixPath(file.path).parent
    return frozenset((directory / location).as_posix() for location in external_files(file))


def _understand(staged: Staged) -> tuple[Understanding, ...]:
    file = _model_file(staged)
    assert file is not None, "recognised before"  # noqa: S101 - a broken promise of ours
    found = read_file(file)
    files = placed({f"@/{_MODEL}": file.path}, {f"@/{path}": path for path in sorted(beside(file))})
    return (
        Understanding(
            format="onnx",
            framework=found.producer or "onnx",
            version=found.producer_version,
            backend="onnxruntime",
            files=files,
            inputs=() if found.unspoken else tuple(found.inputs),
            outputs=() if found.unspoken else tuple(found.outputs),
            facts=_facts(found),
            notes=_notes(found),
        ),
    )


def _facts(found: OnnxFile) -> dict[str, object]:
    return {
        "ir_version": found.ir_version,
        "opsets": found.opsets,
        "nodes": found.nodes,
        "custom_domains": found.custom_domains(),
        "external_files": sorted({one.location for one in found.external}),
    }


def _notes(found: OnnxFile) -> tuple[str, ...]:
    notes = []
    if found.custom_domains():
        notes.append(f"needs custom operators: {', '.join(found.custom_domains())}")
    if found.unspoken:
        notes.append(f"{', '.join(found.unspoken)}: no tensor that the protocol can carry (a sequence or a map)")
    return tuple(notes)


ONNX = Format("onnx", "ONNX", _recognise, _understand, _raw)

"""The scan: every file by the kind of its bytes; what is unknown, or cannot be looked at to its end, is refused."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taxiway.core.errors import ScanFailed, UnknownContent, UnsafeArtifact
from taxiway.intake.limits import Limits
from taxiway.intake.nouns import Staged, StagedFile
from taxiway.intake.read.plain import plain
from taxiway.intake.scan import archives, models, pickles
from taxiway.intake.scan.content import Kind, identify
from taxiway.intake.scan.look import Finding, Look, Shared
from taxiway.intake.scan.opinions import ask_opinions


@dataclass(frozen=True, slots=True)
class Scanned:
    """What a scan that refused nothing has seen.

    Attributes:
        findings: what a person should know.
        kinds: path of each file -> what its bytes are.
        trusted: digests of its files that somebody vouches for.
    """

    findings: tuple[Finding, ...]
    kinds: Mapping[str, str]
    trusted: tuple[str, ...]

    def as_facts(self) -> dict[str, Any]:
        """As JSON, for the version's facts."""
        return {
            "files": dict(self.kinds),
            "findings": [{"file": finding.file, "said": finding.said} for finding in self.findings],
            "trusted": list(self.trusted),
        }


def scan(staged: Staged, raw: frozenset[str], trusted: frozenset[str], limits: Limits) -> Scanned:
    """Look at every file.

    Args:
        staged: private copies.
        raw: paths of files that are bare numbers by what a format's header says.
        trusted: digests of files that somebody vouches for: their pickles and unknown bytes pass.
        limits: what is called a bomb.

    Raises:
        UnsafeArtifact: of the family of the first rule that is broken; `facts['refusals']` holds all of them.
    """
    with tempfile.TemporaryDirectory(dir=staged.root.parent, prefix="unpacked-") as scratch:
        shared = Shared(staged, limits, raw, trusted, Path(scratch))
        for file in staged.files.values():
            _scan_file(file, shared)
        _judge_pickles(shared)
    if shared.refusals:
        raise _all_of(shared.refusals)
    vouched = {file.digest for file in staged.files.values()} & trusted
    return Scanned(tuple(shared.findings), shared.kinds, tuple(sorted(vouched)))


def _scan_file(file: StagedFile, shared: Shared) -> None:
    look = Look(file.path, file.at, file, shared)
    try:
        _scan(look)
    except UnsafeArtifact as refusal:
        shared.refusals.append(refusal)
    except Exception as problem:  # noqa: BLE001 - the boundary: whatever a scanner stumbles on is a refusal
        shared.refusals.append(
            ScanFailed(
                f"{file.path} could not be looked at: {type(problem).__name__}: {problem}",
                hint="this is worth a report, with the file",
                file=file.path,
                rule="scanner",
            )
        )


def _scan(look: Look) -> None:
    with look.mapped() as data:
        kind = identify(data)
    if look.depth == 0:
        look.shared.kinds[look.shown] = kind.value
        if look.shown in look.shared.raw and kind in _RAW_KINDS:
            return
    if kind not in _ARCHIVES:
        archives.refuse_hidden_zip(look, kind.value)
    scanner = _SCANNERS.get(kind)
    if scanner is not None:
        scanner(look)


def _refuse_unknown(look: Look) -> None:
    if look.trusted:
        look.vouch("is of no known kind")
        return
    with look.at.open("rb") as file:
        head = file.read(8)
    raise UnknownContent(
        f"{look.shown} is of no kind that is known here (it begins with {head.hex(' ')})",
        hint=f"leave it out of the model, or say --trust {look.owner.digest}",
        file=look.shown,
        rule="unknown-content",
    )


def _refuse_native(look: Look) -> None:
    if look.trusted:
        look.vouch("is native code")
        return
    raise UnknownContent(
        f"{look.shown} is native code, which runs as soon as it is loaded",
        hint=f"leave it out of the model; if you built it yourself, say --trust {look.owner.digest}",
        file=look.shown,
        rule="native-code",
    )


def _scan_compressed(look: Look) -> None:
    try:
        archives.scan_compressed(look, _scan)
    except ScanFailed as refusal:
        if not look.trusted:
            raise
        look.vouch(refusal.message.removeprefix(f"{look.shown} "))


_RAW_KINDS = frozenset({Kind.EMPTY, Kind.TEXT, Kind.COMPRESSED, Kind.NATIVE, Kind.UNKNOWN})
"""What bare numbers can look like by chance: magic of two bytes is met in any gigabyte."""

_ARCHIVES = frozenset({Kind.ZIP, Kind.TAR, Kind.COMPRESSED, Kind.EMPTY})

_SCANNERS: Mapping[Kind, Callable[[Look], None]] = {
    Kind.PICKLE: pickles.scan_pickle,
    Kind.NPY: pickles.scan_npy,
    Kind.ZIP: lambda look: archives.scan_zip(look, _scan),
    Kind.TAR: lambda look: archives.scan_tar(look, _scan),
    Kind.COMPRESSED: _scan_compressed,
    Kind.ONNX: models.scan_onnx,
    Kind.SAFETENSORS: models.scan_safetensors,
    Kind.GGUF: models.scan_gguf,
    Kind.TEXT: models.scan_text,
    Kind.NATIVE: _refuse_native,
    Kind.HDF5: _refuse_unknown,
    Kind.UNKNOWN: _refuse_unknown,
}


def _judge_pickles(shared: Shared) -> None:
    """Let those pass whose file is trusted, refuse the others."""
    for found, opinions in zip(shared.pickles, ask_opinions(shared.pickles, shared.limits), strict=True):
        if found.owner.digest in shared.trusted:
            shared.findings.append(
                Finding(found.shown, f"is a pickle, and is trusted. {pickles.describe(found, opinions)}")
            )
        else:
            shared.refusals.append(pickles.refusal(found, opinions))


def _all_of(refusals: list[UnsafeArtifact]) -> UnsafeArtifact:
    """The first refusal, with all of them in its facts."""
    first = refusals[0]
    more = f" (and {len(refusals) - 1} more)" if len(refusals) > 1 else ""
    facts = {**first.facts, "refusals": [refusal.to_data() for refusal in refusals[:100]]}
    return type(first)(plain(f"{first.message}{more}"), hint=first.hint, **facts)

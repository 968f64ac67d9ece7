"""What recognisers ask of files."""

from __future__ import annotations

import functools
import re
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

from taxiway.core.errors import MalformedArtifact, UnsafeArtifact
from taxiway.intake.limits import DEFAULT_LIMITS
from taxiway.intake.nouns import Staged, StagedFile
from taxiway.intake.read.documents import read_json
from taxiway.intake.scan.content import Kind, identify


@functools.lru_cache(maxsize=1024)
def kind_of(file: StagedFile) -> Kind:
    """What its bytes are. Sixteen formats ask it of the same copy, which nobody changes."""
    with file.mapped() as data:
        return identify(data)


def one_of_kind(staged: Staged, kind: Kind) -> StagedFile | None:
    """The file that the source is, if its bytes are of this kind."""
    one = staged.one()
    return one if one is not None and kind_of(one) is kind else None


def one_text(staged: Staged, begins: re.Pattern[bytes]) -> StagedFile | None:
    """The file that the source is, if it begins as the pattern says."""
    one = staged.one()
    return one if one is not None and begins.match(one.head()) else None


def the_one(staged: Staged) -> StagedFile:
    """The file of a source that was recognised as one."""
    one = staged.one()
    assert one is not None, "recognised before"  # noqa: S101 - a broken promise of ours
    return one


def placed(model: Mapping[str, str], others: Mapping[str, str]) -> dict[str, str]:
    """Path in the manifest -> path in the source, of a model under its backend's name and of what lies beside it.

    Raises:
        MalformedArtifact: another file has that name, and would be served in the model's place.
    """
    for path in model.keys() & others.keys():
        if model[path] != others[path]:
            raise MalformedArtifact(
                f"{others[path]} lies where {model[path]} would be served from",
                hint=f"rename {others[path]}, or leave it out",
                file=others[path],
                rule="model-file-name",
            )
    return {**model, **others}


def zip_names(staged: Staged) -> tuple[str, ...]:
    """Names in the zip archive that the source is; none if it is none."""
    one = one_of_kind(staged, Kind.ZIP)
    if one is None:
        return ()
    try:
        with zipfile.ZipFile(one.at) as archive:
            return tuple(archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return ()


def zip_member(file: StagedFile, name: str) -> bytes:
    """A member of an archive that was scanned, up to the size of a document."""
    with zipfile.ZipFile(file.at) as archive, archive.open(name) as member:
        return member.read(DEFAULT_LIMITS.max_document_bytes + 1)


def json_of(file: StagedFile) -> Any:  # noqa: ANN401 - whatever JSON holds
    """A file as JSON; None if it is none."""
    try:
        return read_json(file.head(DEFAULT_LIMITS.max_document_bytes + 1), file.path, DEFAULT_LIMITS)
    except UnsafeArtifact:
        return None


Recognise = Callable[[Staged], bool]

"""Every format that is recognised, and the choice of exactly one."""

from __future__ import annotations

from typing import Final

from taxiway.core.errors import UnrecognisedModel
from taxiway.intake.formats.onnx import ONNX
from taxiway.intake.nouns import Format, Staged

FORMATS: Final[tuple[Format, ...]] = (ONNX,)

_MAX_TOLD = 12


def recognise(staged: Staged) -> Format:
    """The format of the source.

    Raises:
        UnrecognisedModel: none, or more than one.
    """
    found = [one for one in FORMATS if one.recognise(staged)]
    if len(found) == 1:
        return found[0]
    files = ", ".join(sorted(staged.files)[:_MAX_TOLD]) or "nothing"
    if found:
        titles = " and ".join(one.title for one in found)
        raise UnrecognisedModel(
            f"{staged.name} is {titles} at once; it holds {files}",
            hint="import each by its own path",
            formats=[one.name for one in found],
        )
    raise UnrecognisedModel(
        f"{staged.name} is no model of a known format; it holds {files}",
        hint=f"known are {', '.join(one.title for one in FORMATS)}",
        formats=[],
    )

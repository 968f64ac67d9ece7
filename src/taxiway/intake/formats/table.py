"""Every format that is recognised, and the choice of exactly one."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from taxiway.core.errors import UnrecognisedModel
from taxiway.intake.formats.catboost import CATBOOST
from taxiway.intake.formats.hugging_face import HUGGING_FACE, SAFETENSORS
from taxiway.intake.formats.lightgbm import LIGHTGBM
from taxiway.intake.formats.llm import GGUF, PLAN
from taxiway.intake.formats.mlflow import MLFLOW
from taxiway.intake.formats.onnx import ONNX
from taxiway.intake.formats.pickled import PICKLED
from taxiway.intake.formats.python_class import PYTHON_CLASS
from taxiway.intake.formats.skops import SKOPS
from taxiway.intake.formats.torch import TORCH_EXPORT, TORCHSCRIPT
from taxiway.intake.formats.torchserve import TORCHSERVE
from taxiway.intake.formats.triton import TRITON
from taxiway.intake.formats.xgboost import XGBOOST
from taxiway.intake.nouns import Format, Staged

FORMATS: Final[tuple[Format, ...]] = (
    ONNX,
    HUGGING_FACE,
    SAFETENSORS,
    SKOPS,
    PICKLED,
    XGBOOST,
    LIGHTGBM,
    CATBOOST,
    TORCHSCRIPT,
    TORCH_EXPORT,
    TRITON,
    TORCHSERVE,
    MLFLOW,
    GGUF,
    PLAN,
    PYTHON_CLASS,
)

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
    models = _models_in(staged)
    if models:
        raise UnrecognisedModel(
            f"{staged.name} is no model, but holds some: {', '.join(models)}",
            hint="import each by its own path",
            formats=[],
        )
    raise UnrecognisedModel(
        f"{staged.single or staged.name} is no model of a known format"
        + (f"; it holds {files}" if staged.single is None else ""),
        hint=f"known are {', '.join(one.title for one in FORMATS)}",
        formats=[],
    )


def _models_in(staged: Staged) -> list[str]:
    """What lies at the top of a directory and is a model by itself, with its format; some of it, if it is much."""
    told: list[str] = []
    for path in sorted(staged.top())[:_MAX_TOLD] if staged.single is None else ():
        one = replace(staged, files={path: staged.files[path]}, single=path)
        found = [format_.title for format_ in FORMATS if format_.recognise(one)]
        if len(found) == 1:
            told.append(f"{path} ({found[0]})")
    return told

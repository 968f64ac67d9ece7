"""LightGBM's text: a header of `key=value` lines, then trees."""

from __future__ import annotations

import re
from typing import Final

from taxiway.core.errors import MalformedArtifact
from taxiway.core.tensors import Datatype, TensorSpec
from taxiway.intake.formats.files import one_text, the_one
from taxiway.intake.formats.trees import classes_out, numbers_out, rows_in
from taxiway.intake.nouns import Format, Staged, Understanding

_BEGINS: Final = re.compile(rb"tree\r?\nversion=v\d")
_HEADER_BYTES: Final = 16 << 20
"""A header names every feature, so it can be long."""


def _recognise(staged: Staged) -> bool:
    return one_text(staged, _BEGINS) is not None


def _understand(staged: Staged) -> tuple[Understanding, ...]:
    file = the_one(staged)
    head = file.head(_HEADER_BYTES).decode("utf-8", "replace").partition("\nTree=")[0]
    values = dict(line.split("=", 1) for line in head.splitlines() if "=" in line)
    try:
        features = _count(values["max_feature_idx"]) + 1
        scores = _count(values["num_tree_per_iteration"])
        classes = _count(values.get("num_class", "1"))
    except (KeyError, ValueError) as problem:
        raise MalformedArtifact(
            f"{file.path} has a broken LightGBM header: {problem}",
            hint="save it again: booster.save_model('model.txt')",
            file=file.path,
            rule="lightgbm",
        ) from None
    return (
        Understanding(
            format="lightgbm",
            framework="lightgbm",
            backend="lightgbm",
            files={"@/model.txt": file.path},
            inputs=rows_in(features, Datatype.FP64),
            outputs=_outputs(values.get("objective", ""), scores),
            facts={
                "features": features,
                "classes": classes,
                "objective": values.get("objective", ""),
                "feature_names": values.get("feature_names", "").split()[:1000],
                "format_version": values.get("version", ""),
            },
        ),
    )


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ValueError(f"{text[:40]!r} is no count")
    return int(text)


def _outputs(objective: str, scores: int) -> tuple[TensorSpec, ...]:
    word = objective.partition(" ")[0]
    if word in ("binary", "multiclass", "multiclassova"):
        return classes_out(max(2, scores), Datatype.FP64)
    return numbers_out(scores, Datatype.FP64)


LIGHTGBM = Format("lightgbm", "LightGBM", _recognise, _understand)

"""CatBoost's own format: `CBM1`, a length, and a FlatBuffer (catboost/libs/model/flatbuffers/model.fbs)."""

from __future__ import annotations

import struct
from typing import Any

from taxiway.core.errors import MalformedArtifact
from taxiway.core.tensors import Datatype, TensorSpec
from taxiway.intake.formats.files import one_of_kind, the_one
from taxiway.intake.formats.trees import LABEL, classes_out, numbers_out, rows_in
from taxiway.intake.nouns import Format, Staged, StagedFile, Understanding
from taxiway.intake.read.documents import json_or
from taxiway.intake.read.flatbuffer import Table
from taxiway.intake.scan.content import Kind

_TREES, _INFO = 1, 2
"""Fields of TModelCore."""

_DIMENSION, _CATEGORICAL, _FLOAT = 0, 4, 5
"""Fields of TModelTrees."""

_CLASSIFIES = frozenset({"Logloss", "CrossEntropy", "Focal", "MultiClass", "MultiClassOneVsAll"})
"""Losses of classifiers."""

_SEVERAL_LABELS = frozenset({"MultiLogloss", "MultiCrossEntropy"})
"""Losses of those whose rows may have any of the classes: a 0 or 1 for each."""


def _recognise(staged: Staged) -> bool:
    return one_of_kind(staged, Kind.CATBOOST) is not None


def _understand(staged: Staged) -> tuple[Understanding, ...]:
    file = the_one(staged)
    with file.mapped() as data:
        (size,) = struct.unpack_from("<I", data, 4) if len(data) >= 8 else (0,)
        if size < 8 or size > len(data) - 8:
            raise _broken(file, f"it says that its core has {size} bytes, and has {len(data) - 8}")
        core = Table.root(bytes(data[8 : 8 + size]), file.path)
    trees = core.table(_TREES)
    if trees is None:
        raise _broken(file, "it has no trees")
    info = {pair.text(0): pair.text(1) for pair in core.tables(_INFO)}
    floats, categorical = trees.count(_FLOAT), trees.count(_CATEGORICAL)
    classes = json_or(info.get("class_params", ""), {})
    names = classes.get("class_names", []) if isinstance(classes, dict) else []
    facts: dict[str, Any] = {
        "features": floats + categorical,
        "categorical_features": categorical,
        "classes": len(names),
        "class_names": names[:1000],
        "objective": _objective(info),
    }
    return (
        Understanding(
            format="catboost",
            framework="catboost",
            version=_version(info.get("catboost_version_info", "")),
            backend="catboost",
            files={"@/model.cbm": file.path},
            inputs=rows_in(floats) if not categorical else (),
            outputs=_outputs(facts["objective"], names, trees.number(_DIMENSION)),
            facts=facts,
            notes=("has categorical features: each feature is an input of its own",) if categorical else (),
        ),
    )


def _outputs(objective: str, classes: list[Any], dimension: int) -> tuple[TensorSpec, ...]:
    if objective in _SEVERAL_LABELS:
        _, probabilities = classes_out(dimension, Datatype.FP64)
        return TensorSpec(LABEL, Datatype.INT64, probabilities.shape), probabilities
    if objective not in _CLASSIFIES:
        return numbers_out(dimension, Datatype.FP64)
    label = Datatype.BYTES if any(isinstance(name, str) for name in classes) else Datatype.INT64
    return classes_out(max(2, len(classes), dimension), Datatype.FP64, label)


def _objective(info: dict[str, str]) -> str:
    parameters = json_or(info.get("params", ""), {})
    loss = parameters.get("loss_function", {}) if isinstance(parameters, dict) else {}
    return str(loss.get("type", "")) if isinstance(loss, dict) else ""


def _version(text: str) -> str:
    """Out of what the build says of itself: `Branch: tags/v1.2.10`."""
    _, tag, rest = text.partition("tags/v")
    return rest.split()[0] if tag and rest.split() else ""


def _broken(file: StagedFile, what: str) -> MalformedArtifact:
    return MalformedArtifact(
        f"{file.path} is no whole CatBoost model: {what}",
        hint="save it again: model.save_model('model.cbm')",
        file=file.path,
        rule="catboost",
    )


CATBOOST = Format("catboost", "CatBoost", _recognise, _understand)

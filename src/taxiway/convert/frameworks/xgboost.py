"""XGBoost boosters, from .json and .ubj."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xgboost
from numpy.typing import NDArray
from onnxmltools.convert import convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType

from taxiway.convert.foreign import MATRIX, Column, Export, Rows, samples_of_trees
from taxiway.convert.outcome import Reason, Refused
from taxiway.convert.parity import Samples
from taxiway.convert.trees import LEAF, Tree
from taxiway.core.tensors import Datatype

_NUMBERS = ("reg:", "count:", "survival:", "rank:")


@dataclass(frozen=True)
class XGBoostModel:
    """A booster, which compares in float32 itself: one type of inputs says all."""

    booster: xgboost.Booster
    classes: int
    framework = "xgboost"
    converter = "onnxmltools"
    libraries = ("xgboost", "xgboost-cpu", "onnxmltools")
    datatypes = (Datatype.FP32,)

    @property
    def width(self) -> int:
        """How many features a row has."""
        return int(self.booster.num_features())

    @property
    def columns(self) -> tuple[Column, ...]:
        """One matrix."""
        return (Column(MATRIX, self.width),)

    @property
    def outputs(self) -> Mapping[str, int | None]:
        """A label with probabilities, or a prediction."""
        return {"label": None, "probabilities": self.classes} if self.classes else {"prediction": 1}

    def answer(self, rows: Rows) -> dict[str, NDArray[Any]]:
        """As the booster predicts; labels as XGBClassifier forms them."""
        numbers = self.booster.inplace_predict(rows[MATRIX].astype(np.float32))
        if not self.classes:
            return {"prediction": numbers.reshape(len(numbers), -1)}
        if self.classes == 2 and numbers.ndim == 1:
            return {
                "label": (numbers > 0.5).astype(np.int64),
                "probabilities": np.stack([1 - numbers, numbers], axis=1),
            }
        return {"label": numbers.argmax(axis=1).astype(np.int64), "probabilities": numbers}

    def samples(self, datatype: Datatype, chance: np.random.Generator) -> Samples:
        """Rows at the splits."""
        return samples_of_trees(self, trees_of(self.booster), self.width, datatype, chance)

    def export(self, datatype: Datatype) -> Export:  # noqa: ARG002 - there is one
        """By onnxmltools, which knows features by number only."""
        booster = self.booster.copy()
        booster.feature_names = [f"f{i}" for i in range(self.width)]
        return Export(convert_xgboost(booster, initial_types=[(MATRIX, FloatTensorType([None, self.width]))]))


def load(path: Path, trusted_digest: str | None) -> XGBoostModel:  # noqa: ARG001 - the format cannot hold code
    """Read a booster.

    Raises:
        Refused: XGBoost does not read it, or its objective is none whose answers we know.
    """
    try:
        booster = xgboost.Booster(model_file=str(path), params={"nthread": 1})
    except xgboost.core.XGBoostError as problem:
        said = str(problem).strip().splitlines()[-1]
        raise Refused(Reason.UNREADABLE, f"XGBoost cannot read {path.name}: {said}") from problem
    return XGBoostModel(booster, _classes(booster))


def _classes(booster: xgboost.Booster) -> int:
    """How many classes are told apart; 0 where numbers are predicted."""
    learner = json.loads(booster.save_config())["learner"]
    objective = learner["objective"]["name"]
    if objective == "binary:logistic":
        return 2
    if objective == "multi:softprob":
        return int(learner["learner_model_param"]["num_class"])
    if objective.startswith(_NUMBERS):
        return 0
    raise Refused(
        Reason.UNSUPPORTED,
        f"objective {objective!r} is not one whose answers can be compared",
        "binary:logistic, multi:softprob, and the reg:, count:, survival: and rank: objectives can be converted",
    )


def trees_of(booster: xgboost.Booster) -> list[Tree]:
    """The booster's trees; none for a linear one."""
    saved = json.loads(booster.save_raw(raw_format="json"))["learner"]["gradient_booster"]
    model = saved.get("gbtree", saved).get("model", {})  # `dart` holds its trees one level deeper
    return [_tree(tree) for tree in model.get("trees", [])]


def _tree(saved: Mapping[str, Any]) -> Tree:
    left = np.asarray(saved["left_children"], dtype=np.intp)
    return Tree(
        feature=np.where(left < 0, LEAF, np.asarray(saved["split_indices"], dtype=np.intp)),
        threshold=np.asarray(saved["split_conditions"], dtype=np.float64),
        left=left,
        right=np.asarray(saved["right_children"], dtype=np.intp),
    )

"""XGBoost boosters, from .json and .ubj."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xgboost
from numpy.typing import NDArray
from onnxmltools.convert import convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType

from taxiway.convert.foreign import Export, Rows, answers, samples_of_trees, widths
from taxiway.convert.outcome import Reason, Refused
from taxiway.convert.parity import Samples
from taxiway.convert.trees import LEAF, Tree
from taxiway.core.tensors import Datatype
from taxiway.runtimes.hosted.guests import xgboost as hosted
from taxiway.runtimes.hosted.tabular import MATRIX, Column


@dataclass(frozen=True)
class XGBoostModel:
    """A booster, which compares in float32 itself: one type of inputs says all."""

    table: hosted.Booster
    trees: list[Tree]
    framework = "xgboost"
    converter = "onnxmltools"
    libraries = ("xgboost", "xgboost-cpu", "onnxmltools")
    datatypes = (Datatype.FP32,)

    @property
    def columns(self) -> Sequence[Column]:
        """One matrix."""
        return self.table.columns

    @property
    def outputs(self) -> Mapping[str, int | None]:
        """A label with probabilities, or a prediction."""
        return widths(self.table)

    def answer(self, rows: Rows) -> dict[str, NDArray[Any]]:
        """As it is hosted."""
        return answers(self.table, rows)

    def samples(self, datatype: Datatype, chance: np.random.Generator) -> Samples:
        """Rows at the splits."""
        return samples_of_trees(self, self.trees, self.columns[0].width, datatype, chance)

    def export(self, datatype: Datatype) -> Export:  # noqa: ARG002 - there is one
        """By onnxmltools, which knows features by number only."""
        width = self.columns[0].width
        booster = self.table.booster.copy()
        booster.feature_names = [f"f{place}" for place in range(width)]
        return Export(convert_xgboost(booster, initial_types=[(MATRIX, FloatTensorType([None, width]))]))


def load(path: Path, trusted: Collection[str]) -> XGBoostModel:  # noqa: ARG001 - the format cannot hold code
    """Read a booster.

    Raises:
        InvalidModel, Unsupported: as if it were to be hosted.
        Refused: the exporter knows nothing of its kind.
    """
    table = hosted.load(path)
    kind = str(json.loads(table.booster.save_config())["learner"]["gradient_booster"]["name"])
    if kind != "gbtree":
        raise Refused(
            Reason.UNSUPPORTED, f"onnxmltools does not export boosters of kind {kind!r}", "the native library serves it"
        )
    return XGBoostModel(table, trees_of(table.booster))


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

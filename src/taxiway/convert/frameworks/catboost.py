"""CatBoost models, from .cbm, by CatBoost's own ONNX export."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import catboost
import numpy as np
import onnx
from numpy.typing import NDArray

from taxiway.convert.foreign import Export, Rows, answers, samples_of_trees, widths
from taxiway.convert.outcome import Reason, Refused
from taxiway.convert.parity import Samples
from taxiway.convert.trees import Tree
from taxiway.core.tensors import Datatype
from taxiway.runtimes.hosted.guests import catboost as hosted
from taxiway.runtimes.hosted.tabular import MATRIX, Column


@dataclass(frozen=True)
class CatBoostModel:
    """A model whose borders are float32: one type of inputs says all."""

    table: hosted.Model
    trees: list[Tree]
    framework = "catboost"
    converter = "catboost"
    libraries = ("catboost",)
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
        """By CatBoost itself; its one input is called `features`."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.onnx")
            self.table.model.save_model(str(path), format="onnx")
            model = onnx.load(path)
        for node in model.graph.node:
            node.input[:] = [MATRIX if name == "features" else name for name in node.input]
        model.graph.input[0].name = MATRIX
        return Export(model)


def load(path: Path, trusted: Collection[str]) -> CatBoostModel:  # noqa: ARG001 - the format cannot hold code
    """Read a model.

    Raises:
        InvalidModel: as if it were to be hosted.
        Refused: it has features that are no numbers, or trees that CatBoost does not export.
    """
    table = hosted.load(path)
    if table.columns[0].name != MATRIX:
        raise Refused(Reason.UNSUPPORTED, f"{path.name} has features of text, which CatBoost's ONNX export has not")
    if table.has_several_labels:
        raise Refused(
            Reason.UNSUPPORTED, f"{path.name} predicts several labels at once", "the native library serves it"
        )
    return CatBoostModel(table, [_tree(tree["splits"] or []) for tree in _saved(table.model)])


def _saved(model: catboost.CatBoost) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.json")
        model.save_model(str(path), format="json")
        saved = json.loads(path.read_text("utf-8"))
    if "oblivious_trees" not in saved:
        raise Refused(Reason.UNSUPPORTED, "the model's trees are not symmetric, which CatBoost's ONNX export needs")
    trees: list[dict[str, Any]] = saved["oblivious_trees"]
    return trees


def _tree(splits: list[Mapping[str, Any]]) -> Tree:
    """A symmetric tree, which has one split a level, as the path along its left edge: every split is there once."""
    count = len(splits)
    feature = np.array([split["float_feature_index"] for split in splits] + [-1] * (count + 1), dtype=np.intp)
    threshold = np.array([split["border"] for split in splits] + [0.0] * (count + 1))
    left = np.array([*range(1, count), 2 * count, *[-1] * (count + 1)][: 2 * count + 1], dtype=np.intp)
    right = np.array([*range(count, 2 * count), *[-1] * (count + 1)], dtype=np.intp)
    return Tree(feature, threshold, left, right)

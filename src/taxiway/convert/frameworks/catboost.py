"""CatBoost models, from .cbm, by CatBoost's own ONNX export."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import catboost
import numpy as np
import onnx
from numpy.typing import NDArray

from taxiway.convert.foreign import MATRIX, Column, Export, Rows, samples_of_trees
from taxiway.convert.outcome import Reason, Refused
from taxiway.convert.parity import Samples
from taxiway.convert.trees import Tree
from taxiway.core.tensors import Datatype

_CLASSES = ("Logloss", "MultiClass")
_NUMBERS = ("RMSE", "MAE", "Quantile", "MAPE", "LogCosh", "Huber", "Expectile", "YetiRank", "QueryRMSE", "PairLogit")


@dataclass(frozen=True)
class CatBoostModel:
    """A model whose borders are float32: one type of inputs says all. `classes` is empty where it predicts numbers."""

    model: catboost.CatBoost
    classes: NDArray[Any]
    width: int
    trees: list[Tree]
    framework = "catboost"
    converter = "catboost"
    libraries = ("catboost",)
    datatypes = (Datatype.FP32,)

    @property
    def columns(self) -> tuple[Column, ...]:
        """One matrix."""
        return (Column(MATRIX, self.width),)

    @property
    def outputs(self) -> Mapping[str, int | None]:
        """A label with probabilities, or a prediction."""
        return {"label": None, "probabilities": len(self.classes)} if len(self.classes) else {"prediction": 1}

    def answer(self, rows: Rows) -> dict[str, NDArray[Any]]:
        """As the model predicts."""
        matrix = rows[MATRIX].astype(np.float32)
        if not len(self.classes):
            return {"prediction": self._predict(matrix, "RawFormulaVal").reshape(len(matrix), -1)}
        labels = self._predict(matrix, "Class").reshape(-1)
        return {"label": labels.astype(self.classes.dtype), "probabilities": self._predict(matrix, "Probability")}

    def _predict(self, matrix: NDArray[Any], kind: str) -> NDArray[Any]:
        return np.asarray(self.model.predict(matrix, prediction_type=kind, thread_count=1))

    def samples(self, datatype: Datatype, chance: np.random.Generator) -> Samples:
        """Rows at the splits."""
        return samples_of_trees(self, self.trees, self.width, datatype, chance)

    def export(self, datatype: Datatype) -> Export:  # noqa: ARG002 - there is one
        """By CatBoost itself; its one input is called `features`."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.onnx")
            self.model.save_model(str(path), format="onnx")
            model = onnx.load(path)
        for node in model.graph.node:
            node.input[:] = [MATRIX if name == "features" else name for name in node.input]
        model.graph.input[0].name = MATRIX
        return Export(model)


def load(path: Path, trusted_digest: str | None) -> CatBoostModel:  # noqa: ARG001 - the format cannot hold code
    """Read a model.

    Raises:
        Refused: CatBoost does not read it, or it has features that are no numbers.
    """
    try:
        model = catboost.CatBoost().load_model(str(path), format="cbm")
        saved = _saved(model)
    except catboost.CatBoostError as problem:
        raise Refused(Reason.UNREADABLE, f"CatBoost cannot read {path.name}: {problem}") from problem
    others = [kind for kind in ("categorical_features", "text_features", "embedding_features") if saved[kind]]
    if others:
        raise Refused(Reason.UNSUPPORTED, f"the model has {' and '.join(others)}, which CatBoost's ONNX export has not")
    loss = str(model.get_all_params().get("loss_function", "")).partition(":")[0]
    if loss not in _CLASSES + _NUMBERS:
        raise Refused(Reason.UNSUPPORTED, f"loss function {loss!r} is not one whose answers can be compared")
    classes = np.asarray(model.classes_) if loss in _CLASSES else np.empty(0)
    width = 1 + max(feature["flat_feature_index"] for feature in saved["float_features"])
    return CatBoostModel(model, classes, width, [_tree(tree["splits"] or []) for tree in saved["oblivious_trees"]])


def _saved(model: catboost.CatBoost) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.json")
        model.save_model(str(path), format="json")
        saved = json.loads(path.read_text("utf-8"))
    kinds = ("float_features", "categorical_features", "text_features", "embedding_features")
    if "oblivious_trees" not in saved:
        raise Refused(Reason.UNSUPPORTED, "the model's trees are not symmetric, which CatBoost's ONNX export needs")
    return {"oblivious_trees": saved["oblivious_trees"], **{kind: saved["features_info"].get(kind) for kind in kinds}}


def _tree(splits: list[Mapping[str, Any]]) -> Tree:
    """A symmetric tree, which has one split a level, as the path along its left edge: every split is there once."""
    count = len(splits)
    feature = np.array([split["float_feature_index"] for split in splits] + [-1] * (count + 1), dtype=np.intp)
    threshold = np.array([split["border"] for split in splits] + [0.0] * (count + 1))
    left = np.array([*range(1, count), 2 * count, *[-1] * (count + 1)][: 2 * count + 1], dtype=np.intp)
    right = np.array([*range(count, 2 * count), *[-1] * (count + 1)], dtype=np.intp)
    return Tree(feature, threshold, left, right)

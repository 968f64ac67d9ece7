"""CatBoost: a model in its own binary format. Categorical and text features are columns of text."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import catboost
import numpy as np
from numpy.typing import NDArray

from taxiway.core.errors import InvalidModel, Unsupported
from taxiway.runtimes.hosted.answering import ArrayGuest
from taxiway.runtimes.hosted.batch import Arrays
from taxiway.runtimes.hosted.frames import Declared
from taxiway.runtimes.hosted.guest import Source
from taxiway.runtimes.hosted.lines import Lines
from taxiway.runtimes.hosted.tabular import LABEL, MATRIX, PREDICTION, PROBABILITIES, RAW, Column, open_table
from taxiway.runtimes.hosted.tensors import datatype_of

_EXPONENTS = ("Poisson", "Tweedie")
"""Losses whose CatBoostRegressor predicts the exponent of the sum of the trees."""
_SEVERAL_LABELS = ("MultiLogloss", "MultiCrossEntropy")
_CLASSES = ("Logloss", "CrossEntropy", "Focal", "MultiClass", "MultiClassOneVsAll", *_SEVERAL_LABELS)


@dataclass(frozen=True)
class Model:
    """A model; `classes` is empty where it predicts numbers, and `kind` then says which, as CatBoost calls them.

    Attributes:
        has_several_labels: a row may have any of the classes, and its label is a 0 or 1 for each.
    """

    model: catboost.CatBoost
    classes: NDArray[Any]
    kind: str
    columns: Sequence[Column]
    width: int
    has_several_labels: bool = False

    @property
    def outputs(self) -> Sequence[Declared]:
        """A label with probabilities, or a prediction."""
        if not len(self.classes):
            return (Declared(PREDICTION, "FP64", (-1, self.width)),)
        probabilities = Declared(PROBABILITIES, "FP64", (-1, len(self.classes)))
        if self.has_several_labels:
            return Declared(LABEL, "INT64", (-1, len(self.classes))), probabilities
        return Declared(LABEL, datatype_of(self.classes).wire_name, (-1,)), probabilities

    @property
    def raw(self) -> Declared:
        """One number a row, or several: the sum of the trees."""
        return Declared(RAW, "FP64", (-1,) if self.width == 1 else (-1, self.width))

    def answer(self, rows: Arrays, wanted: Collection[str]) -> dict[str, NDArray[Any]]:
        """As the model predicts."""
        given = self._given(rows)
        answers: dict[str, NDArray[Any]] = {}
        if RAW in wanted:
            answers[RAW] = self._predict(given, "RawFormulaVal")
        if PREDICTION in wanted:
            numbers = self._predict(given, self.kind)
            answers[PREDICTION] = numbers.reshape(len(numbers), -1)
        if LABEL in wanted:
            label = self._predict(given, "Class")
            several = self.has_several_labels
            answers[LABEL] = label.astype(np.int64) if several else label.reshape(-1).astype(self.classes.dtype)
        if PROBABILITIES in wanted:
            answers[PROBABILITIES] = self._predict(given, "Probability")
        return answers

    def _given(self, rows: Arrays) -> Any:  # noqa: ANN401 - an array, or rows of different types
        if self.columns[0].name == MATRIX:
            return rows[MATRIX].astype(np.float32, copy=False)
        values = [rows[column.name].reshape(-1).tolist() for column in self.columns]
        return [list(row) for row in zip(*values, strict=True)]

    def _predict(self, given: Any, kind: str) -> NDArray[Any]:  # noqa: ANN401 - as above
        return np.asarray(self.model.predict(given, prediction_type=kind, thread_count=1))


def load(path: Path) -> Model:
    """Read a model.

    Raises:
        InvalidModel: CatBoost does not read it.
        Unsupported: it takes embeddings.
    """
    try:
        model = catboost.CatBoost().load_model(str(path), format="cbm")
    except catboost.CatBoostError as problem:
        hint = "save it anew: model.save_model('model.cbm')"
        raise InvalidModel(f"CatBoost cannot read {path}: {problem}", hint=hint) from problem
    if model.get_embedding_feature_indices():
        raise Unsupported(f"{path.name} takes embeddings, which are no column of a table")
    loss = str(model.get_all_params().get("loss_function", "")).partition(":")[0]
    classes = np.asarray(model.classes_) if loss in _CLASSES else np.empty(0)
    kind = "Exponent" if loss in _EXPONENTS else "RawFormulaVal"
    found = Model(model, classes, kind, _columns(model), 1, loss in _SEVERAL_LABELS)
    one = found.answer({column.name: _blank(column) for column in found.columns}, (RAW,))[RAW]
    return replace(found, width=one.size)


def _blank(column: Column) -> NDArray[Any]:
    return np.full((1, column.width), "", dtype=object) if column.is_text else np.zeros((1, column.width), np.float32)


def _columns(model: catboost.CatBoost) -> Sequence[Column]:
    """One matrix if all features are numbers, which CatBoost compares in float32; else one column for each."""
    texts = {*model.get_cat_feature_indices(), *model.get_text_feature_indices()}
    names = list(model.feature_names_)
    if not texts:
        return (Column(MATRIX, "FP32", len(names)),)
    return [Column(str(name), "BYTES" if place in texts else "FP32") for place, name in enumerate(names)]


def open_model(source: Source, lines: Lines) -> ArrayGuest:
    """Load the model in the version's file."""
    return open_table(load(source.file), source, lines)

"""XGBoost: a booster in a file of its own format."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xgboost
from numpy.typing import NDArray

from taxiway.core.errors import InvalidModel
from taxiway.runtimes.hosted.answering import ArrayGuest
from taxiway.runtimes.hosted.batch import Arrays
from taxiway.runtimes.hosted.frames import Declared
from taxiway.runtimes.hosted.guest import Source
from taxiway.runtimes.hosted.lines import Lines
from taxiway.runtimes.hosted.tabular import LABEL, MATRIX, PREDICTION, PROBABILITIES, RAW, Column, open_table

_PARAMETERS = {"nthread": 1}


@dataclass(frozen=True)
class Booster:
    """A booster; `classes` is 0 where it predicts numbers, of which there are `width` a row.

    Attributes:
        is_linear: it has no trees, and XGBoost does not predict in place with it.
    """

    booster: xgboost.Booster
    classes: int
    width: int
    is_linear: bool = False

    @cached_property
    def columns(self) -> Sequence[Column]:
        """One matrix: XGBoost compares in float32."""
        return (Column(MATRIX, "FP32", int(self.booster.num_features())),)

    @property
    def outputs(self) -> Sequence[Declared]:
        """A label with probabilities, or a prediction."""
        if self.classes:
            return Declared(LABEL, "INT64", (-1,)), Declared(PROBABILITIES, "FP32", (-1, self.classes))
        return (Declared(PREDICTION, "FP32", (-1, self.width)),)

    @property
    def raw(self) -> Declared:
        """One number a row, or several."""
        width = self.classes if self.classes > 2 else self.width
        return Declared(RAW, "FP32", (-1,) if width == 1 else (-1, width))

    def answer(self, rows: Arrays, wanted: Collection[str]) -> dict[str, NDArray[Any]]:  # noqa: ARG002 - one run
        """As the booster predicts; labels as XGBClassifier forms them."""
        numbers = self._predict(rows[MATRIX].astype(np.float32, copy=False))
        if not self.classes:
            return {RAW: numbers, PREDICTION: numbers.reshape(len(numbers), -1)}
        if numbers.ndim == 1:
            both = np.stack([1 - numbers, numbers], axis=1)
            return {RAW: numbers, LABEL: (numbers > 0.5).astype(np.int64), PROBABILITIES: both}
        return {RAW: numbers, LABEL: numbers.argmax(axis=1).astype(np.int64), PROBABILITIES: numbers}

    def _predict(self, matrix: NDArray[np.float32]) -> NDArray[Any]:
        if self.is_linear:
            return np.asarray(self.booster.predict(xgboost.DMatrix(matrix, nthread=1), validate_features=False))
        return np.asarray(self.booster.inplace_predict(matrix, validate_features=False))


def load(path: Path) -> Booster:
    """Read a booster.

    Raises:
        InvalidModel: XGBoost does not read it.
    """
    try:
        booster = xgboost.Booster(model_file=str(path), params=_PARAMETERS)
    except xgboost.core.XGBoostError as problem:
        said = str(problem).strip().splitlines()[-1]
        hint = "save it anew: booster.save_model('model.ubj')"
        raise InvalidModel(f"XGBoost cannot read {path}: {said}", hint=hint) from problem
    learner = json.loads(booster.save_config())["learner"]
    objective = str(learner["objective"]["name"])
    told = learner["learner_model_param"]
    is_linear = learner["gradient_booster"]["name"] == "gblinear"
    if not is_linear:
        booster = _as_its_estimator(booster)
    if objective == "binary:logistic":
        return Booster(booster, 2, 1, is_linear)
    if objective == "multi:softprob":
        return Booster(booster, int(told["num_class"]), 1, is_linear)
    return Booster(booster, 0, max(1, int(told.get("num_target", 1))), is_linear)


def _as_its_estimator(booster: xgboost.Booster) -> xgboost.Booster:
    """The trees that the estimator which saved it predicts with: up to the best one, where it stopped early.

    A booster that was saved as one predicts with all of them. It has the attribute `best_iteration` too; the other one
    is what XGBoost's estimators leave in their files only.
    """
    best = booster.attr("best_iteration")
    if best is None or booster.attr("scikit_learn") is None:
        return booster
    until_best = booster[: int(best) + 1]
    until_best.set_param(_PARAMETERS)
    return until_best


def open_model(source: Source, lines: Lines) -> ArrayGuest:
    """Load the booster in the version's file."""
    return open_table(load(source.file), source, lines)

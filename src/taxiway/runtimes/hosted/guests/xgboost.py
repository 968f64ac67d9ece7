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


@dataclass(frozen=True)
class Booster:
    """A booster; `classes` is 0 where it predicts numbers, of which there are `width` a row."""

    booster: xgboost.Booster
    classes: int
    width: int

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
        numbers = self.booster.inplace_predict(rows[MATRIX].astype(np.float32, copy=False), validate_features=False)
        if not self.classes:
            return {RAW: numbers, PREDICTION: numbers.reshape(len(numbers), -1)}
        if numbers.ndim == 1:
            both = np.stack([1 - numbers, numbers], axis=1)
            return {RAW: numbers, LABEL: (numbers > 0.5).astype(np.int64), PROBABILITIES: both}
        return {RAW: numbers, LABEL: numbers.argmax(axis=1).astype(np.int64), PROBABILITIES: numbers}


def load(path: Path) -> Booster:
    """Read a booster.

    Raises:
        InvalidModel: XGBoost does not read it.
    """
    try:
        booster = xgboost.Booster(model_file=str(path), params={"nthread": 1})
    except xgboost.core.XGBoostError as problem:
        said = str(problem).strip().splitlines()[-1]
        hint = "save it anew: booster.save_model('model.ubj')"
        raise InvalidModel(f"XGBoost cannot read {path}: {said}", hint=hint) from problem
    learner = json.loads(booster.save_config())["learner"]
    objective = str(learner["objective"]["name"])
    told = learner["learner_model_param"]
    if objective == "binary:logistic":
        return Booster(booster, 2, 1)
    if objective == "multi:softprob":
        return Booster(booster, int(told["num_class"]), 1)
    return Booster(booster, 0, max(1, int(told.get("num_target", 1))))


def open_model(source: Source, lines: Lines) -> ArrayGuest:
    """Load the booster in the version's file."""
    return open_table(load(source.file), source, lines)

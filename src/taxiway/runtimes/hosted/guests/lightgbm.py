"""LightGBM: a booster in a text file."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
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

    booster: lightgbm.Booster
    objective: str
    classes: int
    width: int

    @cached_property
    def columns(self) -> Sequence[Column]:
        """One matrix: LightGBM compares in float64."""
        return (Column(MATRIX, "FP64", int(self.booster.num_feature())),)

    @property
    def outputs(self) -> Sequence[Declared]:
        """A label with probabilities, or a prediction."""
        if self.classes:
            return Declared(LABEL, "INT64", (-1,)), Declared(PROBABILITIES, "FP64", (-1, self.classes))
        return (Declared(PREDICTION, "FP64", (-1, self.width)),)

    @property
    def raw(self) -> Declared:
        """One number a row, or several."""
        return Declared(RAW, "FP64", (-1,) if self.width == 1 else (-1, self.width))

    def answer(self, rows: Arrays, wanted: Collection[str]) -> dict[str, NDArray[Any]]:  # noqa: ARG002 - one run
        """As the booster predicts; labels as LGBMClassifier forms them."""
        numbers = np.asarray(self.booster.predict(rows[MATRIX], num_threads=1, validate_features=False))
        if not self.classes:
            return {RAW: numbers, PREDICTION: numbers.reshape(len(numbers), -1)}
        both = np.stack([1.0 - numbers, numbers], axis=1) if numbers.ndim == 1 else numbers
        return {RAW: numbers, LABEL: both.argmax(axis=1).astype(np.int64), PROBABILITIES: both}


def load(path: Path) -> Booster:
    """Read a booster.

    Raises:
        InvalidModel: LightGBM does not read it.
    """
    try:
        booster = lightgbm.Booster(model_file=str(path), params={"verbose": -1})
    except lightgbm.basic.LightGBMError as problem:
        hint = "save it anew: booster.save_model('model.txt')"
        raise InvalidModel(f"LightGBM cannot read {path}: {problem}", hint=hint) from problem
    saved = booster.dump_model(num_iteration=1)
    objective = str(saved.get("objective", "none")).split()[0]
    width = int(booster.num_model_per_iteration())
    return Booster(
        booster, objective, {"binary": 2, "multiclass": width, "multiclassova": width}.get(objective, 0), width
    )


def open_model(source: Source, lines: Lines) -> ArrayGuest:
    """Load the booster in the version's file."""
    return open_table(load(source.file), source, lines)

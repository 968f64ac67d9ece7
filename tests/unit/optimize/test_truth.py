"""Labels that an output cannot be held against are refused: every model would be as good as every other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from taxiway.core.errors import InvalidData
from taxiway.core.tensors import Datatype, TensorSpec
from taxiway.optimize.data.samples import Group, Samples
from taxiway.optimize.metrics import METRICS, Call
from taxiway.optimize.truth import are_measured, check_baseline, check_truth

SCORES = TensorSpec("scores", Datatype.FP32, (-1, 10))
CHANCE = TensorSpec("chance", Datatype.FP32, (-1, 1))
CLASS = TensorSpec("class", Datatype.INT64, (-1,))
NAME = TensorSpec("name", Datatype.BYTES, (-1,))
FREE = TensorSpec("free", Datatype.FP32, (-1, -1))

CLASSES = np.arange(30) % 10
ONE_HOT = np.eye(10, dtype=np.int64)[CLASSES]
PRICES = np.linspace(1e5, 9e5, 30)
WORDS = np.array(["spam", "ham", "ham"] * 10)


def samples(labels: NDArray[Any]) -> Samples:
    return Samples((Group({"x": np.zeros((len(labels), 1))}, labels, whole=False),))


@pytest.mark.parametrize(
    ("metric", "labels", "output"),
    [
        ("accuracy", CLASSES, SCORES),
        ("accuracy", CLASSES[:, None].astype(np.float32), SCORES),
        ("accuracy", CLASSES % 2, CHANCE),
        ("accuracy", CLASSES, CLASS),
        ("accuracy", WORDS, NAME),
        ("f1", CLASSES, SCORES),
        ("rmse", PRICES, CHANCE),
        ("rmse", ONE_HOT.astype(np.float64), SCORES),
        ("perplexity", np.full((30, 4), -100), SCORES),
        ("score.py:f", PRICES, SCORES),
    ],
)
def test_what_fits_is_taken(metric: str, labels: NDArray[Any], output: TensorSpec) -> None:
    check_truth(metric, samples(labels), output)


@pytest.mark.parametrize(
    ("metric", "labels", "output", "said"),
    [
        ("accuracy", ONE_HOT, SCORES, r"each is of 10 values, not one class \(one-hot: argmax"),
        ("accuracy", PRICES.astype(np.int64), CHANCE, r"go from 100000 to 900000, and it names classes from 0 to 1"),
        ("accuracy", PRICES + 0.5, SCORES, "no whole numbers"),
        ("accuracy", CLASSES + 1, SCORES, "go from 1 to 10, and it names classes from 0 to 9"),
        ("accuracy", WORDS, SCORES, "they are text, and it is FP32"),
        ("f1", WORDS, NAME, "they are text"),
        ("rmse", PRICES, SCORES, "each is of 1 values, and a sample's output of 10"),
        ("rmse", WORDS, CHANCE, "no numbers"),
        ("rmse", np.where(np.arange(30) == 7, np.nan, PRICES), CHANCE, "1 labels are NaN or infinite"),
        ("perplexity", PRICES + 0.5, SCORES, "no whole numbers"),
    ],
)
def test_what_does_not_is_told(metric: str, labels: NDArray[Any], output: TensorSpec, said: str) -> None:
    with pytest.raises(InvalidData, match=said):
        check_truth(metric, samples(labels), output)


@pytest.mark.parametrize(
    ("labels", "output", "measured"),
    [
        (PRICES, CHANCE, True),
        (PRICES.astype(np.int64), CHANCE, True),
        (CLASSES % 2, CHANCE, False),
        (CLASSES, SCORES, False),
        (ONE_HOT, SCORES, False),
        (PRICES + 0.5, FREE, True),
        (WORDS, NAME, False),
    ],
)
def test_measured_numbers_are_told_from_classes(labels: NDArray[Any], output: TensorSpec, measured: bool) -> None:
    assert are_measured(samples(labels), output) == measured


def test_a_baseline_that_is_never_right_measures_nothing() -> None:
    with pytest.raises(InvalidData, match="names the label of none of 30 samples in output 'scores'"):
        check_baseline("accuracy", np.zeros(30), None, "scores")
    with pytest.raises(InvalidData, match="none of 30"):
        check_baseline("f1", (CLASSES + 1).astype(np.float64), CLASSES.astype(np.float64), "scores")
    check_baseline("accuracy", np.array([1.0, *[0.0] * 29]), None, "scores")
    check_baseline("rmse", np.zeros(30), None, "scores")


def test_numbers_of_another_shape_are_not_spread_over_the_output() -> None:
    call = Call({"y": np.zeros((4, 3))}, {}, np.zeros((4, 1)), {}, 4)
    with pytest.raises(InvalidData, match="has 3 values for each sample, and its label 1"):
        METRICS["rmse"].score(call, "y")

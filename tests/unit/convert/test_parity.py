"""What counts as the same answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from taxiway.convert.outcome import Parity
from taxiway.convert.parity import Answered, Samples, compare


def judge(expected: dict[str, NDArray[Any]], got: dict[str, NDArray[Any]]) -> Parity:
    count = len(next(iter(expected.values())))
    samples = Samples({"X": np.arange(float(count)).reshape(-1, 1)}, ["given"] * count)
    return compare("FP32", samples, expected, [Answered(0, count, got)])


def column(*values: float) -> NDArray[np.float64]:
    return np.array(values).reshape(-1, 1)


def test_numbers_within_the_tolerance_are_the_same() -> None:
    parity = judge({"prediction": column(100.0, 200.0)}, {"prediction": column(100.0005, 200.0)})
    assert parity.holds
    assert parity.worst_relative_error == pytest.approx(5e-6)


def test_a_number_outside_is_told_with_its_row() -> None:
    parity = judge({"prediction": column(100.0, 200.0)}, {"prediction": column(100.0, 200.1)})
    assert not parity.holds
    assert parity.numbers_wrong == 1
    assert parity.worst is not None
    assert (parity.worst.row, parity.worst.expected, parity.worst.got, parity.worst.inputs) == (
        1,
        200.0,
        200.1,
        {"X": [1.0]},
    )
    assert "row 1 (given): prediction is 200.1, not 200.0" in parity.in_words()


def test_a_prediction_that_cancels_to_nothing_is_judged_by_the_usual_size() -> None:
    expected = column(100.0, 120.0, 1e-9)
    assert judge({"prediction": expected}, {"prediction": expected + column(0, 0, 5e-5)}).holds
    assert not judge({"prediction": expected}, {"prediction": expected + column(0, 0, 2e-4)}).holds


def test_each_column_of_predictions_has_its_own_size() -> None:
    expected = np.array([[1e6, 1e-3], [2e6, 2e-3]])
    assert not judge({"prediction": expected}, {"prediction": expected + np.array([[0, 1e-6], [0, 0]])}).holds


def test_probabilities_are_of_size_one() -> None:
    expected = np.array([[1 - 1e-7, 1e-7], [0.25, 0.75]])
    assert judge({"probabilities": expected}, {"probabilities": expected + np.array([[0, 1e-7], [0, 0]])}).holds
    assert not judge({"probabilities": expected}, {"probabilities": expected + np.array([[0, 2e-6], [0, 0]])}).holds


@pytest.mark.parametrize("got", [np.nan, np.inf])
def test_what_is_no_number_is_wrong(got: float) -> None:
    parity = judge({"prediction": column(1.0)}, {"prediction": column(got)})
    assert not parity.holds
    assert parity.worst is not None
    assert (parity.worst.relative_error, parity.worst.got) == (None, str(got))


def test_not_a_number_is_the_same_where_the_framework_says_so_too() -> None:
    assert judge({"prediction": column(np.nan, 1.0)}, {"prediction": column(np.nan, 1.0)}).holds


@pytest.mark.parametrize(
    ("expected", "got", "same"),
    [
        (np.array([1, 2]), np.array([1, 2]), True),
        (np.array([1.0, 2.0]), np.array([1, 2]), True),
        (np.array(["a", "b"]), np.array(["a", "b"]), True),
        (np.array(["a", "b"]), np.array(["a", "c"]), False),
        (np.array([1, 2]), np.array([1, 3]), False),
    ],
)
def test_labels_are_equal_or_wrong(expected: NDArray[Any], got: NDArray[Any], same: bool) -> None:
    parity = judge({"label": expected}, {"label": got})
    assert parity.holds is same
    assert parity.labels_wrong == (0 if same else 1)


def test_a_label_that_the_framework_itself_cannot_decide_is_counted_apart() -> None:
    expected = {"label": np.array([0, 1]), "probabilities": np.array([[0.5, 0.5], [0.4, 0.6]])}
    tie = judge(expected, {**expected, "label": np.array([1, 1])})
    assert (tie.holds, tie.ties, tie.labels_wrong) == (True, 1, 0)
    wrong = judge(expected, {**expected, "label": np.array([1, 0])})
    assert (wrong.holds, wrong.ties, wrong.labels_wrong) == (False, 1, 1)


def test_another_shape_is_wrong_however_equal_its_numbers() -> None:
    parity = judge({"prediction": column(1.0, 2.0)}, {"prediction": np.array([1.0, 2.0])})
    assert not parity.holds
    assert parity.worst is not None
    assert parity.worst.got == "shape (2,)"

"""What counts as the same answer of a network: judged on graphs that answer it, and graphs that do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from tests.support.onnx_models import save, tensor

from taxiway.convert.networks.proof import Case, prove
from taxiway.convert.outcome import Parity
from taxiway.runtimes.onnx import OnnxModel, OnnxOptions, OnnxRuntime

KINDS = {"f4": TensorProto.FLOAT, "f2": TensorProto.FLOAT16, "i8": TensorProto.INT64, "?": TensorProto.BOOL}


def echo(folder: Path, datatype: str) -> OnnxModel:
    """A graph that answers what it is given: whatever a test has it say."""
    kind = KINDS[datatype]
    node = helper.make_node("Identity", ["x"], ["y"])
    path = save(folder / "echo.onnx", [node], [tensor("x", ["N", "M"], kind)], [tensor("y", ["N", "M"], kind)])
    return OnnxRuntime().load(path, OnnxOptions())


def judged(folder: Path, expected: Any, got: Any, datatype: str = "f4") -> Parity:
    """The verdict on a graph that says `got` where torch says `expected`."""
    said: NDArray[Any] = np.array(got, datatype)
    case = Case({"x": said}, {"y": np.array(expected, datatype)}, "example")
    return prove([case], echo(folder, datatype))


def test_numbers_within_the_tolerance_are_the_same(tmp_path: Path) -> None:
    parity = judged(tmp_path, [[1.0, 2.0]], [[1.0, 2.0001]])
    assert parity.holds
    assert parity.worst_relative_error == pytest.approx(5e-5, rel=0.05)
    assert not judged(tmp_path, [[1.0, 2.0]], [[1.0, 2.001]]).holds


def test_a_whole_number_has_no_tolerance(tmp_path: Path) -> None:
    """The token 30001 is another one than 30000, though they are near each other."""
    parity = judged(tmp_path, [[30000], [7]], [[30001], [7]], "i8")
    assert parity.numbers_wrong == 1
    assert parity.worst is not None
    assert (parity.worst.row, parity.worst.expected, parity.worst.got) == (0, 30000, 30001)
    assert judged(tmp_path, [[30000], [7]], [[30000], [7]], "i8").holds


def test_whole_numbers_that_float64_does_not_tell_apart_differ(tmp_path: Path) -> None:
    assert not judged(tmp_path, [[2**60]], [[2**60 + 1]], "i8").holds


def test_truth_values_are_equal_or_not(tmp_path: Path) -> None:
    assert judged(tmp_path, [[True, False]], [[True, False]], "?").holds
    assert not judged(tmp_path, [[True, False]], [[True, True]], "?").holds


@pytest.mark.parametrize(
    ("expected", "got"), [((0, 6), (3, 6)), ((3, 0), (3, 6)), ((3, 6), (0, 6)), ((2, 3), (3, 2)), ((1, 6), (3, 6))]
)
def test_another_shape_is_wrong_though_it_may_hold_no_number(
    expected: tuple[int, int], got: tuple[int, int], tmp_path: Path
) -> None:
    parity = judged(tmp_path, np.zeros(expected), np.zeros(got))
    assert not parity.holds
    assert parity.worst is not None
    assert (parity.worst.expected, parity.worst.got) == (f"shape {expected}", f"shape {got}")


def test_an_empty_answer_to_an_empty_argument_is_the_same(tmp_path: Path) -> None:
    assert judged(tmp_path, np.zeros((0, 6)), np.zeros((0, 6))).holds


def test_not_a_number_is_the_same_as_itself_only(tmp_path: Path) -> None:
    assert judged(tmp_path, [[np.nan, 1.0]], [[np.nan, 1.0]]).holds
    assert not judged(tmp_path, [[np.nan, 1.0]], [[0.0, 1.0]]).holds
    assert not judged(tmp_path, [[0.0, 1.0]], [[np.nan, 1.0]]).holds


def test_half_precision_has_a_wider_tolerance_and_its_whole_numbers_none(tmp_path: Path) -> None:
    assert judged(tmp_path, [[1.0, 2.0]], [[1.0, 2.01]], "f2").holds
    assert not judged(tmp_path, [[1.0, 2.0]], [[1.0, 2.1]], "f2").holds

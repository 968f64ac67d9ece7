"""The trial of rows: models whose rows are not their own are found, and nobody else is blamed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support import onnx_models

from taxiway.core.tensors import Datatype, TensorSpec
from taxiway.runtimes.onnx import OnnxOptions, OnnxRuntime
from taxiway.server.models.rows import Rows, RowTrial, try_rows


def _try(path: Path) -> RowTrial:
    model = OnnxRuntime().load(path, OnnxOptions())
    inputs = [replace(spec, shape=spec.shape[1:]) for spec in model.inputs]
    return try_rows(model, inputs, {})


@pytest.mark.parametrize(
    ("make", "verdict"),
    [
        (onnx_models.doubler, Rows.INDEPENDENT),
        (onnx_models.two_outputs, Rows.INDEPENDENT),
        (onnx_models.poisonable, Rows.INDEPENDENT),
        (lambda path: onnx_models.embedding(path, 2), Rows.INDEPENDENT),
        (onnx_models.softmax_of_rows, Rows.MIXED),
        (onnx_models.running_sum, Rows.MIXED),
        (onnx_models.row_eater, Rows.MIXED),
        (onnx_models.noise, Rows.UNKNOWN),
        (onnx_models.no_number, Rows.UNKNOWN),
        (onnx_models.echo_texts, Rows.UNKNOWN),
        (lambda path: onnx_models.embedding(path, 1), Rows.UNKNOWN),
    ],
)
def test_the_verdict(tmp_path: Path, make: Callable[[Path], Path], verdict: Rows) -> None:
    trial = _try(make(tmp_path / "m.onnx"))
    assert trial.verdict is verdict, trial.reason
    assert trial.reason


def test_rows_too_large_to_make_up_are_not_tried(tmp_path: Path) -> None:
    model = OnnxRuntime().load(onnx_models.doubler(tmp_path / "m.onnx"), OnnxOptions())
    trial = try_rows(model, [TensorSpec("x", Datatype.FP32, (1 << 20, 1 << 20))], {})
    assert trial.verdict is Rows.UNKNOWN
    assert "too large" in trial.reason


def test_the_verdict_is_the_same_each_time(tmp_path: Path) -> None:
    path = onnx_models.softmax_of_rows(tmp_path / "m.onnx")
    assert _try(path) == _try(path)

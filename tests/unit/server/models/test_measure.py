"""Measuring at load: it keeps its budget, whatever a run costs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.support import onnx_models

from taxiway.core.errors import ModelFailed
from taxiway.core.tensors import Datatype, TensorSpec
from taxiway.runtimes.onnx import OnnxOptions, OnnxRuntime
from taxiway.server.models import measure
from taxiway.server.models.measure import measure_model

ROW = TensorSpec("x", Datatype.FP32, (2,))


class Model:
    """Takes `run_s` for each row on a clock of its own; refuses free dimensions other than `free`."""

    inputs: tuple[TensorSpec, ...] = (ROW,)
    outputs: tuple[TensorSpec, ...] = (ROW,)

    def __init__(self, monkeypatch: pytest.MonkeyPatch, run_s: float, free: int = 0) -> None:
        self.now_ns = time.perf_counter_ns()
        self.runs: list[int] = []
        self._run_ns = int(run_s * 1e9)
        self._free = free
        monkeypatch.setattr(measure, "perf_counter_ns", lambda: self.now_ns)

    def run(self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[Any]]:
        rows, *row = feeds["x"].shape
        if self._free and row != [self._free]:
            raise ModelFailed("wrong size")
        self.runs.append(rows)
        self.now_ns += self._run_ns * rows
        return [feeds["x"]]

    def close(self) -> None:
        pass


def test_a_model_slower_than_the_budget_is_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(monkeypatch, run_s=5.0)
    assert measure_model(model, [ROW], {}, max_rows=64, budget_s=1.0) == [(1, 5_000_000_000)]
    assert model.runs == [1]


@pytest.mark.parametrize("run_s", [0.0001, 0.003, 0.02, 0.05, 0.1, 0.3, 0.6, 2.0])
def test_the_budget_holds_but_for_one_run(monkeypatch: pytest.MonkeyPatch, run_s: float) -> None:
    model = Model(monkeypatch, run_s)
    begun = model.now_ns
    points = measure_model(model, [ROW], {}, max_rows=1024, budget_s=1.0)
    assert (model.now_ns - begun) / 1e9 <= max(1.0, run_s) + run_s * max(model.runs)
    assert [ns for _, ns in points] == [int(run_s * 1e9) * rows for rows, _ in points]


def test_a_free_dimension_gets_a_size_the_model_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(monkeypatch, run_s=0.001, free=224)
    spec = TensorSpec("x", Datatype.FP32, (-1,))
    assert measure_model(model, [spec], {}, max_rows=1, budget_s=1.0) == [(1, 1_000_000)]


def test_a_real_model_is_measured_by_rows(tmp_path: Path) -> None:
    model = OnnxRuntime().load(onnx_models.doubler(tmp_path / "m.onnx"), OnnxOptions())
    points = measure_model(model, [ROW], {}, max_rows=4, budget_s=0.5)
    assert [rows for rows, _ in points] == [1, 2, 4]
    assert all(ns > 0 for _, ns in points)
    assert np.isfinite(points[0][1])

"""The ONNX runtime: signatures, and errors that name the next step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.support import onnx_models

from taxiway.core.errors import InvalidConfig, InvalidModel, ModelFailed
from taxiway.core.tensors import Datatype
from taxiway.runtimes.onnx import OnnxOptions, OnnxRuntime


def test_the_signature_is_the_files(tmp_path: Path) -> None:
    model = OnnxRuntime().load(onnx_models.two_outputs(tmp_path / "m.onnx"), OnnxOptions())
    assert [(spec.name, spec.datatype, spec.shape) for spec in model.inputs] == [
        ("a", Datatype.FP32, (-1, 2)),
        ("b", Datatype.FP32, (-1, 2)),
    ]
    assert [spec.name for spec in model.outputs] == ["SUM", "DIFFERENCE"]


def test_outputs_come_in_the_order_asked(tmp_path: Path) -> None:
    model = OnnxRuntime().load(onnx_models.two_outputs(tmp_path / "m.onnx"), OnnxOptions())
    feeds = {"a": np.ones((1, 2), np.float32), "b": np.zeros((1, 2), np.float32)}
    difference, total = model.run(feeds, ["DIFFERENCE", "SUM"])
    assert difference.tolist() == [[1, 1]]
    assert total.tolist() == [[1, 1]]


def test_a_file_that_is_not_onnx_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(InvalidModel, match=str(path)) as caught:
        OnnxRuntime().load(path, OnnxOptions())
    assert caught.value.hint


def test_a_provider_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"'NopeExecutionProvider'.*CPUExecutionProvider"):
        OnnxRuntime().load(tmp_path / "m.onnx", OnnxOptions(providers=("NopeExecutionProvider",)))


def test_a_failing_run_is_the_models_failure(tmp_path: Path) -> None:
    model = OnnxRuntime().load(onnx_models.poisonable(tmp_path / "m.onnx"), OnnxOptions())
    with pytest.raises(ModelFailed):
        model.run({"x": np.asarray([[99]], np.int64)}, ["y"])

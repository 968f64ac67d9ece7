"""The ONNX runtime: signatures, and errors that name the next step."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
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


class FallenBack:
    """A session of ONNX Runtime whose first provider did not start."""

    def __init__(self, *args: Any, **options: Any) -> None:
        pass

    def get_providers(self) -> list[str]:
        return ["CPUExecutionProvider"]


def test_a_provider_that_fell_back_silently_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ("CUDAExecutionProvider", "CPUExecutionProvider")
    monkeypatch.setattr(ort, "get_available_providers", lambda: list(asked))
    monkeypatch.setattr(ort, "InferenceSession", FallenBack)
    with pytest.raises(InvalidConfig, match="'CUDAExecutionProvider' did not start") as caught:
        OnnxRuntime().load(tmp_path / "m.onnx", OnnxOptions(providers=asked))
    assert "provider_options" in caught.value.hint


@pytest.mark.parametrize(("threads", "mode"), [(1, "ORT_SEQUENTIAL"), (2, "ORT_PARALLEL")])
def test_inter_op_threads_need_the_parallel_executor(tmp_path: Path, threads: int, mode: str) -> None:
    model = OnnxRuntime().load(onnx_models.doubler(tmp_path / "m.onnx"), OnnxOptions(inter_op_threads=threads))
    assert model._session.get_session_options().execution_mode == getattr(ort.ExecutionMode, mode)
    assert model.run({"x": np.ones((1, 2), np.float32)}, ["y"])[0].tolist() == [[2, 2]]


def test_nothing_is_reported_to_the_makers_of_the_runtime(tmp_path: Path) -> None:
    """A process of its own: what the runtime does when it is imported cannot be undone in this one."""
    code = "import taxiway.runtimes.onnx, onnxruntime; onnxruntime.InferenceSession"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ORT_")}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert not list(tmp_path.rglob("*")), "a store of what is to be reported"

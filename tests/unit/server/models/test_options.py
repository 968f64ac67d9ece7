"""Providers, devices and threads of a session."""

from __future__ import annotations

from typing import Any

import pytest

from taxiway.config.model_config import parse_pbtxt
from taxiway.config.settings import Settings
from taxiway.core.errors import Unsupported
from taxiway.runtimes.onnx import OnnxOptions
from taxiway.server.models.options import devices_of, session_options

CUDA: dict[str, Any] = {"execution": {"providers": ["CUDAExecutionProvider", "CPUExecutionProvider"]}}


def _options(text: str = "", cpus: int = 8, instances: int = 4, **settings: Any) -> OnnxOptions:
    model = Settings.model_validate(settings).for_model("m")
    return session_options(model, parse_pbtxt(text, "test"), instances=instances, cpus=cpus)


@pytest.mark.parametrize(
    ("text", "cpus", "threads"),
    [
        ("", 8, 5),
        ("", 4, 1),
        ("", 2, 1),
        ("instance_group { count: 1 }", 8, 8),
        ("instance_group { count: 2 }", 8, 7),
        ("instance_group { count: 1 } instance_group { count: 2 }", 8, 6),
        ("instance_group { count: 2 } instance_group { count: 3 passive: true }", 8, 7),
        ("instance_group { kind: KIND_CPU }", 8, 5),
        ("instance_group { count: 99 }", 8, 1),
    ],
)
def test_instances_and_the_pool_fill_the_processors(text: str, cpus: int, threads: int) -> None:
    assert _options(text, cpus).intra_op_threads == threads


def test_instances_said_by_name_win_over_the_configuration() -> None:
    overrides: dict[str, Any] = {"models": {"overrides": {"m": {"execution": {"instances": 3}}}}}
    assert _options("instance_group { count: 1 }", **overrides).intra_op_threads == 6


def test_threads_said_are_taken() -> None:
    assert _options(execution={"intra_op_threads": 3}).intra_op_threads == 3


def test_one_gpu_is_the_device() -> None:
    options = _options("instance_group { kind: KIND_GPU gpus: [1] }", **CUDA)
    assert options.provider_options == {"CUDAExecutionProvider": {"device_id": "1"}}


def test_several_gpus_are_refused() -> None:
    with pytest.raises(Unsupported, match=r"names \[0, 1\]"):
        _options("instance_group { gpus: [0] } instance_group { gpus: [1] }", **CUDA)


GPU_ACCELERATOR = 'optimization { execution_accelerators { gpu_execution_accelerator { name: "tensorrt" } } }'
CPU_ACCELERATOR = 'optimization { execution_accelerators { cpu_execution_accelerator { name: "openvino" } } }'


def test_an_accelerator_whose_provider_is_not_asked_for_is_refused() -> None:
    with pytest.raises(Unsupported, match=r"'tensorrt' is not in execution\.providers") as caught:
        _options(GPU_ACCELERATOR, **CUDA)
    assert "TensorrtExecutionProvider" in caught.value.hint
    with pytest.raises(Unsupported, match="openvino"):
        _options(CPU_ACCELERATOR)


def test_an_accelerator_is_had_or_does_not_apply() -> None:
    tensorrt: dict[str, Any] = {"execution": {"providers": ["TensorrtExecutionProvider", "CUDAExecutionProvider"]}}
    assert _options(GPU_ACCELERATOR, **tensorrt).providers[0] == "TensorrtExecutionProvider"
    assert _options(GPU_ACCELERATOR).providers == ("CPUExecutionProvider",)


@pytest.mark.parametrize(
    ("text", "instances", "gpu", "devices"),
    [
        ("", 2, False, [("CPU", 0), ("CPU", 0)]),
        ("", 1, True, [("GPU", 0)]),
        ("instance_group { count: 2 }", 2, True, [("GPU", 0), ("GPU", 0)]),
        ("instance_group { kind: KIND_CPU }", 1, True, [("CPU", 0)]),
        ("instance_group { kind: KIND_GPU gpus: [1, 2] }", 2, False, [("GPU", 1), ("GPU", 2)]),
        (
            "instance_group { kind: KIND_GPU } instance_group { kind: KIND_CPU count: 2 }",
            3,
            False,
            [("GPU", 0), ("CPU", 0), ("CPU", 0)],
        ),
    ],
)
def test_each_process_has_its_device(text: str, instances: int, gpu: bool, devices: list[tuple[str, int]]) -> None:
    assert devices_of(parse_pbtxt(text, "test"), instances, gpu=gpu) == tuple(devices)

"""Where a variant is to run: the execution provider, its options, and whether this machine has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import onnxruntime as ort


@dataclass(frozen=True, slots=True)
class Target:
    """A place that models run in.

    Attributes:
        provider: of ONNX Runtime.
        options: what it is started with; `{engines}` stands for a folder of engines.
        keep_shapes: it wants shapes of inner tensors written down.
        needs: what it takes, in words.
    """

    name: str
    provider: str
    needs: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    keep_shapes: bool = False

    @property
    def here(self) -> bool:
        """Whether this machine's ONNX Runtime has it."""
        return self.provider in ort.get_available_providers()

    @property
    def providers(self) -> tuple[str, ...]:
        """To time on: its own, if it is here."""
        return (self.provider,) if self.here else ()


TARGETS: Final[Mapping[str, Target]] = {
    target.name: target
    for target in (
        Target("cpu", "CPUExecutionProvider"),
        Target("openvino", "OpenVINOExecutionProvider", needs="onnxruntime-openvino"),
        Target("cuda", "CUDAExecutionProvider", needs="an NVIDIA GPU and onnxruntime-gpu"),
        Target(
            "tensorrt",
            "TensorrtExecutionProvider",
            needs="an NVIDIA GPU, TensorRT and onnxruntime-gpu",
            options={
                "trt_engine_cache_enable": "1",
                "trt_engine_cache_path": "{engines}",
                "trt_timing_cache_enable": "1",
                "trt_timing_cache_path": "{engines}",
                "trt_fp16_enable": "1",
                "trt_builder_optimization_level": "3",
            },
            keep_shapes=True,
        ),
    )
}


def provider_options(target: Target, shapes: Sequence[Mapping[str, Sequence[int]]], engines: Path) -> dict[str, str]:
    """What the target's provider is started with.

    Args:
        target: where the model runs.
        shapes: of the inputs of each run of a workload: TensorRT builds an engine for what lies between the least and
            the greatest of them, and tunes it for the middle one.
        engines: a folder for engines and timings, which are a GPU's and a version's own.
    """
    options = {key: value.replace("{engines}", str(engines)) for key, value in target.options.items()}
    if target.name != "tensorrt" or not shapes:
        return options
    for word, pick in (("min", _least), ("opt", _middle), ("max", _greatest)):
        options[f"trt_profile_{word}_shapes"] = ",".join(
            f"{name}:{'x'.join(str(pick(sizes)) for sizes in zip(*(one[name] for one in shapes), strict=True))}"
            for name in shapes[0]
        )
    return options


def _least(sizes: Sequence[int]) -> int:
    return min(sizes)


def _middle(sizes: Sequence[int]) -> int:
    return sorted(sizes)[len(sizes) // 2]


def _greatest(sizes: Sequence[int]) -> int:
    return max(sizes)


def engines_folder(cache: Path) -> Path:
    """For this GPU and these versions: an engine of another is of no use."""
    return cache / f"engines-{_gpu().replace(' ', '_')}-onnxruntime-{ort.__version__}"


def _gpu() -> str:
    """Its name and driver, as the kernel module tells them; empty without one."""
    found = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    told = [line.partition(":")[2].strip() for one in found for line in one.read_text().splitlines() if "Model" in line]
    return told[0] if told else "none"

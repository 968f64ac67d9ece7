"""Where a variant is to run: the execution provider, its options, and whether this machine has it."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import onnxruntime as ort


@dataclass(frozen=True, slots=True)
class Target:
    """A place that models run in.

    Attributes:
        provider: of ONNX Runtime.
        options: what it is started with; `{cache}` stands for a folder for engines.
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
                "trt_engine_cache_path": "{cache}",
                "trt_timing_cache_enable": "1",
                "trt_timing_cache_path": "{cache}",
                "trt_fp16_enable": "1",
                "trt_builder_optimization_level": "3",
            },
            keep_shapes=True,
        ),
    )
}


def simplifier() -> str:
    """The version-bearing name of the simplifier in use; empty: none is installed."""
    return "onnxslim" if importlib.util.find_spec("onnxslim") else ""

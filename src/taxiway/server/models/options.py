"""How a model's sessions are made: providers, devices and threads, from its settings and its configuration."""

from __future__ import annotations

from collections.abc import Iterator

from taxiway.config.model_config import ModelConfig
from taxiway.config.model_defaults import overrides_from, uses_gpu
from taxiway.config.settings import ModelSettings
from taxiway.core.errors import Unsupported
from taxiway.runtimes.onnx import OnnxOptions

_ACCELERATORS = {
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}
"""Triton's names of execution accelerators -> the providers that do the same."""
_DEVICE_PROVIDERS = ("CUDAExecutionProvider", "TensorrtExecutionProvider")


def session_options(settings: ModelSettings, message: ModelConfig, *, instances: int, cpus: int) -> OnnxOptions:
    """How to load this model; `instances` where neither its configuration nor its settings say how many.

    All instances share one session. ONNX Runtime computes on the thread that calls and on `intra_op_threads` - 1
    more, so the instances and those together are as many as there are processors.

    Raises:
        Unsupported: the configuration asks for accelerators or devices that it does not get.
    """
    execution = settings.execution
    _refuse_accelerators(settings, message)
    running = effective_instances(settings, message, instances)
    return OnnxOptions(
        providers=tuple(execution.providers),
        provider_options=_with_device(settings, message),
        intra_op_threads=execution.intra_op_threads or max(1, cpus - running + 1),
        inter_op_threads=execution.inter_op_threads or 1,
    )


def effective_instances(settings: ModelSettings, message: ModelConfig, default: int) -> int:
    """Runs that may go on at the same time, as the completed configuration will say."""
    said = overrides_from(settings).instance_count
    if said:
        return said
    return sum(group.count or default for group in message.instance_group if not group.passive) or default


def devices_of(message: ModelConfig, instances: int, *, gpu: bool) -> tuple[tuple[str, int], ...]:
    """CPU or GPU, and which, for each process of a hosted model, in the order of its instance groups.

    `gpu`: what KIND_AUTO means. A group on several GPUs has its count of instances on each, as in Triton.
    """
    devices: list[tuple[str, int]] = []
    for group in message.instance_group:
        kind = group.Kind.Name(group.kind)
        on_gpu = kind == "KIND_GPU" or (kind == "KIND_AUTO" and gpu)
        places = [("GPU", number) for number in group.gpus or (0,)] if on_gpu else [("CPU", 0)]
        devices += places * (group.count or 1)
    devices = devices or [("GPU" if gpu else "CPU", 0)]
    return tuple(devices[index % len(devices)] for index in range(instances))


def _refuse_accelerators(settings: ModelSettings, message: ModelConfig) -> None:
    missing = [
        (path, provider)
        for path, provider in _accelerators(message, gpu=uses_gpu(settings))
        if provider not in settings.execution.providers
    ]
    if missing:
        path, provider = missing[0]
        raise Unsupported(
            f"config.pbtxt's {path} is not in execution.providers ({', '.join(settings.execution.providers)})",
            hint=f"put {provider} first in execution.providers, its options into execution.provider_options; "
            "or take the field out",
            fields=[path for path, _ in missing],
        )


def _accelerators(message: ModelConfig, *, gpu: bool) -> Iterator[tuple[str, str]]:
    """Those that apply; as in Triton, a GPU's accelerators mean nothing to instances on the CPU."""
    asked = message.optimization.execution_accelerators
    lists = {"cpu_execution_accelerator": asked.cpu_execution_accelerator}
    if gpu:
        lists = {"gpu_execution_accelerator": asked.gpu_execution_accelerator}
    for side, accelerators in lists.items():
        for index, accelerator in enumerate(accelerators):
            path = f"optimization.execution_accelerators.{side}[{index}] {accelerator.name!r}"
            yield path, _ACCELERATORS.get(accelerator.name, "the execution provider that does the same")


def _with_device(settings: ModelSettings, message: ModelConfig) -> dict[str, dict[str, str]]:
    """The provider options, and `instance_group.gpus` as the device where they name none."""
    options = {name: dict(given) for name, given in settings.execution.provider_options.items()}
    gpus = sorted({gpu for group in message.instance_group if not group.passive for gpu in group.gpus})
    if not gpus or not uses_gpu(settings):
        return options
    if len(gpus) > 1:
        raise Unsupported(
            f"instance_group.gpus of config.pbtxt names {gpus}; one model runs on one GPU so far",
            hint="name one GPU; start a server for each of the others",
            fields=["instance_group.gpus"],
        )
    for name in _DEVICE_PROVIDERS:
        if name in settings.execution.providers:
            options.setdefault(name, {}).setdefault("device_id", str(gpus[0]))
    return options

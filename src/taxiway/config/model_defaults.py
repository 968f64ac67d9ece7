"""From the server's settings for one model to what completes, and what overrides, its configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taxiway.config.autocomplete import Defaults, Overrides

if TYPE_CHECKING:
    from taxiway.config.settings import ModelSettings


GPU_PROVIDERS = frozenset(
    {
        "CUDAExecutionProvider",
        "TensorrtExecutionProvider",
        "NvTensorRTRTXExecutionProvider",
        "ROCMExecutionProvider",
        "MIGraphXExecutionProvider",
    }
)
"""ONNX Runtime's providers that run on what Triton calls a GPU."""


def uses_gpu(settings: ModelSettings) -> bool:
    """Whether this model's providers make KIND_GPU possible; `build_spec` asks the same."""
    return not GPU_PROVIDERS.isdisjoint(settings.execution.providers)


def defaults_from(settings: ModelSettings, *, automatic_max_batch_size: int, instance_count: int) -> Defaults:
    """What fills a silent configuration.

    Args:
        settings: of this model (`Settings.for_model`).
        automatic_max_batch_size: rows, used where `batching.max_batch_size` is 0.
        instance_count: used where `execution.instances` is 0.
    """
    batching = settings.batching
    return Defaults(
        max_batch_size=batching.max_batch_size or automatic_max_batch_size,
        dynamic_batching=batching.enabled,
        max_queue_delay_us=round(batching.max_delay_ms * 1000),
        preferred_batch_sizes=batching.preferred,
        instance_count=settings.execution.instances or instance_count,
        gpu=uses_gpu(settings),
    )


def overrides_from(settings: ModelSettings) -> Overrides:
    """What was said for this model by name, and so wins over its configuration; 0 says nothing."""
    batching, said = settings.batching, settings.overridden
    return Overrides(
        max_batch_size=(batching.max_batch_size or None) if "batching.max_batch_size" in said else None,
        dynamic_batching=batching.enabled if "batching.enabled" in said else None,
        max_queue_delay_us=round(batching.max_delay_ms * 1000) if "batching.max_delay_ms" in said else None,
        preferred_batch_sizes=batching.preferred if "batching.preferred" in said else None,
        instance_count=(settings.execution.instances or None) if "execution.instances" in said else None,
    )

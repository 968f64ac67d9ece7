"""A graph of models as it is configured: its steps, and the tensors by which they hang together. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from taxiway.config.model_config import ModelConfig


@dataclass(frozen=True, slots=True)
class Need:
    """A model that another one asks; `version` is None for whichever answers when none is named."""

    model: str
    version: int | None = None

    def __str__(self) -> str:
        return self.model if self.version is None else f"{self.model}:{self.version}"


@dataclass(frozen=True, slots=True)
class StepSpec:
    """One model of the graph.

    Attributes:
        inputs: the model's input -> the tensor of the graph that it reads.
        outputs: the model's output -> the tensor of the graph that it writes.
    """

    need: Need
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class EnsembleSpec:
    """The steps in the order they are written, which means nothing: each runs as soon as its inputs are there.

    Attributes:
        max_inflight: requests in each step at a time, of all callers together; 0: no limit.
    """

    steps: tuple[StepSpec, ...]
    max_inflight: int = 0

    @property
    def needs(self) -> tuple[Need, ...]:
        """The models that it asks, each once."""
        return tuple(dict.fromkeys(step.need for step in self.steps))


def read_ensemble(config: ModelConfig) -> EnsembleSpec | None:
    """The graph that a configuration describes, right or wrong; None if it describes none."""
    if not config.HasField("ensemble_scheduling"):
        return None
    scheduling = config.ensemble_scheduling
    steps = tuple(
        StepSpec(
            Need(step.model_name, step.model_version if step.model_version > 0 else None),
            MappingProxyType({name: step.input_map[name] for name in sorted(step.input_map)}),
            MappingProxyType({name: step.output_map[name] for name in sorted(step.output_map)}),
        )
        for step in scheduling.step
    )
    return EnsembleSpec(steps, scheduling.max_inflight_requests)

"""One version of one model, ready to answer: signature, queue, executor, statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from taxiway.config.model_spec import ModelSpec
from taxiway.core.ports import Executor, LoadedModel
from taxiway.core.requests import InferRequest
from taxiway.server.batching.loop import Batcher
from taxiway.server.statistics import ModelStatistics
from taxiway.server.tracing.gates import TraceGate


class Front(Protocol):
    """Takes requests in for one version, each to be answered once through its responder."""

    def submit(self, request: InferRequest) -> None:
        """Take a NEW request.

        Raises:
            TaxiwayError: it is refused, and still the caller's; its responder is not called.
        """

    def cancel(self, request: InferRequest) -> bool:
        """Take a request back; its responder is not called any more. True: it cost no execution."""

    def close(self) -> None:
        """Take nothing new, reject what waits, keep nothing. What runs is still answered when it comes back."""


@dataclass(eq=False, slots=True)
class ServedModel:
    """Everything the data plane needs to answer for one version. Compared by identity: a reload is another one.

    Attributes:
        spec: the configuration, completed from the file.
        config: the same as Triton's configuration JSON.
        version: its number.
        front: what takes its requests in: the batcher, or what stands before it (the response cache).
        traces: the gate through which requests come that are traced.
        codecs: where each edge keeps what all requests for this version share; nobody else looks inside.
    """

    spec: ModelSpec
    config: Mapping[str, Any]
    version: int
    model: LoadedModel
    executor: Executor
    batcher: Batcher
    statistics: ModelStatistics
    front: Front
    traces: TraceGate
    codecs: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The model's name."""
        return self.spec.name

    @property
    def batches(self) -> bool:
        """Whether the first dimension of every tensor counts rows."""
        return self.spec.max_batch_size > 0

"""One version of one model, ready to answer: signature, queue, executor, statistics."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from taxiway.config.model_spec import ModelSpec
from taxiway.core.ports import BatchOutcome
from taxiway.core.requests import InferRequest
from taxiway.server.sampling import RowSampler, SampledFront
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


class Engine(Protocol):
    """What stands behind a front and answers what it takes in."""

    async def settle(self) -> None:
        """Wait for no company, and return when everything accepted is answered."""

    def depth(self) -> tuple[int, int, int]:
        """Requests, rows and bytes that wait."""

    def running(self) -> int:
        """Runs that are out."""

    def running_since_ns(self) -> int:
        """When the oldest of them began, in monotonic nanoseconds; NEVER_NS if none is out."""

    def trouble(self) -> str | None:
        """Why nobody is answered now, as one sentence; None if somebody is."""

    def close(self) -> None:
        """Free whatever it holds; nothing runs any more. Blocks."""


@dataclass(eq=False, slots=True)
class ServedModel:
    """Everything the data plane needs to answer for one version. Compared by identity: a reload is another one.

    Attributes:
        spec: the configuration, completed from the file.
        config: the same as Triton's configuration JSON.
        version: its number.
        engine: what runs them.
        front: what takes its requests in: the batcher, or what stands before it (the response cache).
        run_alone: has one request answered at once, where nothing but a queue stands before the model (see
            `Batcher.run_alone`); None where every request has to go through the front.
        wind_down: lets what goes on from request to request (sequences) end by itself, and begins no more of it; None
            where requests have nothing to do with each other.
        traces: the gate through which requests come that are traced.
        codecs: where each edge keeps what all requests for this version share; nobody else looks inside.
    """

    spec: ModelSpec
    config: Mapping[str, Any]
    version: int
    engine: Engine
    statistics: ModelStatistics
    front: Front
    traces: TraceGate
    run_alone: Callable[[InferRequest], BatchOutcome | None] | None = None
    wind_down: Callable[[], Coroutine[Any, Any, None]] | None = None
    codecs: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The model's name."""
        return self.spec.name

    @property
    def batches(self) -> bool:
        """Whether the first dimension of every tensor counts rows."""
        return self.spec.max_batch_size > 0


def sampled(served: ServedModel, sampler: RowSampler) -> ServedModel:
    """The same, where some of its requests are copied for whoever watches."""
    front = SampledFront(sampler, served.front, served.run_alone)
    served.front = front
    if served.run_alone is not None:
        served.run_alone = front.run_alone
    return served

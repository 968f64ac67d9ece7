"""A SequenceFront in virtual time; fakes are only the model, its processes and the callers."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
from tests.unit.server.batching.fakes import MS, Done, FakeExecutor, RecordingObserver, RecordingResponder

from taxiway.config.model_spec import ModelSpec, VersionPolicy
from taxiway.config.sequence_spec import (
    ControlKind,
    ControlTensor,
    DirectStrategy,
    OldestStrategy,
    SequenceBatching,
    StateTensor,
)
from taxiway.core.errors import ModelFailed, TaxiwayError
from taxiway.core.ports import BatchOutcome
from taxiway.core.requests import NEVER_NS, BatchResult, InferRequest, InputTensor, SequenceStep
from taxiway.core.tensors import Datatype, TensorSpec
from taxiway.server.sequencing.front import SequenceFront, SequencePorts
from taxiway.server.sequencing.plan import SequencePlan
from taxiway.server.sequencing.tensors import SequenceTensors, shapes_of
from taxiway.stats.latency import LatencyCurve
from taxiway.testing import VirtualClock, VirtualTimeLoop

SEQUENCES = SequenceBatching(
    DirectStrategy(),
    1_000 * MS,
    (ControlTensor(ControlKind.READY, "READY", Datatype.INT32, 0, 1),),
    (StateTensor("BEFORE", "AFTER", Datatype.FP32, (1,), (1,)),),
)
SPEC = ModelSpec(
    name="m",
    platform="",
    backend="",
    inputs=(TensorSpec("X", Datatype.FP32, (1,)),),
    outputs=(TensorSpec("SUM", Datatype.FP32, (1,)),),
    max_batch_size=4,
    dynamic_batching=None,
    instance_count=1,
    version_policy=VersionPolicy(),
    default_model_filename="",
    reshapes={},
    parameters={},
    warmup=(),
    decoupled=False,
    response_cache=False,
    ignored=(),
    sequences=SEQUENCES,
)


class FakeInstances(FakeExecutor):
    """Instances of SUM = AFTER = X + BEFORE, 10 ms a run. X of 13 fails the run, or its row if `by_row`."""

    def __init__(self, loop: VirtualTimeLoop, clock: VirtualClock, instances: int, *, inline: bool) -> None:
        super().__init__(loop, clock, slots=instances, inline=inline)
        self.by_row = False
        self.busy: set[int] = set()
        self.runs: list[list[float]] = []
        """X by row, of every run; -1 for a row that is not ready."""
        self.lost: Callable[[int], None] = lambda _: None
        self.ending = self._end

    @property
    def instances(self) -> int:
        return self.slots

    def watch(self, lost: Callable[[int], None]) -> None:
        self.lost = lost

    def submit_to(self, instance: int, batch: list[InferRequest], done: Done) -> None:
        assert instance not in self.busy, "two runs at a time on one instance"
        self.busy.add(instance)

        def back(same: list[InferRequest], outcome: BatchOutcome) -> None:
            self.busy.discard(instance)
            done(same, outcome)

        self.submit(batch, back)

    def _end(self, batch: list[InferRequest]) -> BatchOutcome:
        x, before = (self._rows(batch, place) for place in (0, 2))
        ready = [_number(request.inputs[1], "i4") for request in batch]
        self.runs.append([value if is_ready else -1 for value, is_ready in zip(x, ready, strict=True)])
        now_ns = self._clock.monotonic_ns()
        after = (np.array(x, np.float32) + np.array(before, np.float32)).reshape(-1, 1)
        if self.by_row:
            parts = [self._outcome_of(now_ns, after[row : row + 1], x[row] == 13) for row in range(len(batch))]
            return BatchOutcome(started_ns=now_ns - 1, finished_ns=now_ns, parts=parts)
        return self._outcome_of(now_ns, after, 13 in x)

    @staticmethod
    def _rows(batch: list[InferRequest], place: int) -> list[float]:
        return [_number(request.inputs[place], "f4") for request in batch]

    @staticmethod
    def _outcome_of(now_ns: int, after: Any, fails: bool) -> BatchOutcome:
        outcome = BatchOutcome(started_ns=now_ns - 1, finished_ns=now_ns)
        if fails:
            outcome.error = ModelFailed("no thirteens")
        else:
            outcome.result = BatchResult(("SUM", "AFTER"), (after, after), len(after))
        return outcome


def _number(tensor: InputTensor | None, dtype: str) -> float:
    assert tensor is not None
    return float(np.ndarray(tensor.shape, dtype, tensor.data).item())


class Bench:
    """A front, and callers who send steps to it."""

    def __init__(
        self,
        strategy: DirectStrategy | OldestStrategy | None = None,
        *,
        rows: int = 4,
        instances: int = 1,
        inline: bool = False,
        **plan: Any,
    ) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        self.loop = loop
        self.clock = VirtualClock()
        self.executor = FakeInstances(loop, self.clock, instances, inline=inline)
        self.responder = RecordingResponder()
        self.responder.clock = self.clock
        self.observer = RecordingObserver()
        self.tensors = SequenceTensors(SPEC, SEQUENCES, ())
        initial = shapes_of(self.tensors.initial)
        usual: dict[str, Any] = {"merged_rows": rows, "max_idle_ns": 1_000 * MS, "initial_shapes": initial}
        self.plan = SequencePlan(
            "m",
            strategy or DirectStrategy(),
            rows,
            instances=instances,
            **(usual | plan),
        )
        ports = SequencePorts(self.executor, self.clock, loop, LatencyCurve(), self.observer)
        self.front = SequenceFront(self.plan, self.tensors, ports, expire_running=True)
        self.sent = 0

    def make(
        self,
        number: float,
        sequence: int | str = 1,
        flags: str = "",
        *,
        timeout_ms: int | None = None,
        rows: int = 1,
    ) -> InferRequest:
        """A step, named by its sequence, its flags and its number."""
        now_ns = self.clock.monotonic_ns()
        request = InferRequest(
            id=f"{sequence}{flags}{number:g}",
            inputs=(InputTensor(array("f", [number]), (1, 1)),),
            rows=rows,
            responder=self.responder,
            arrived_ns=now_ns,
            nbytes=4,
            deadline_ns=NEVER_NS if timeout_ms is None else now_ns + timeout_ms * MS,
        )
        request.sequence = SequenceStep(sequence, "S" in flags, "E" in flags)
        return request

    def send(self, number: float, sequence: int | str = 1, flags: str = "", **more: Any) -> InferRequest:
        request = self.make(number, sequence, flags, **more)
        self.front.submit(request)
        return request

    def sum(self, name: str) -> float:
        """What a step was answered."""
        answer = self.responder.answers[name]
        assert not isinstance(answer, TaxiwayError), answer
        result, start, stop = answer
        assert result.names == ("SUM",)
        return float(result.arrays[0][start:stop].item())

"""A CacheFront with a real batcher, store and statistics; fakes are only the model and the callers."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Collection
from typing import Any

import numpy as np
from tests.unit.server.batching.fakes import MS, FakeExecutor, RecordingResponder

from taxiway.core.errors import ModelFailed, TaxiwayError
from taxiway.core.ports import BatchOutcome
from taxiway.core.requests import NEVER_NS, BatchResult, InferRequest, InputTensor
from taxiway.core.tensors import Datatype, TensorSpec
from taxiway.server.batching.loop import Batcher
from taxiway.server.batching.plan import BatchingPlan
from taxiway.server.cache.front import CacheFront, RunAccounts
from taxiway.server.cache.key import KeyMaker
from taxiway.server.cache.shelf import Shelf
from taxiway.server.cache.store import AnswerStore
from taxiway.server.models.assembling import Accounts
from taxiway.server.statistics import ModelStatistics
from taxiway.stats.latency import LatencyCurve
from taxiway.testing import VirtualClock, VirtualTimeLoop

X = TensorSpec("x", Datatype.INT64, (1,))
Y = TensorSpec("y", Datatype.INT64, (1,))
MAX_INPUT_BYTES = 1000


class Callers(RecordingResponder):
    """Keeps the number that each was answered, or the error; converts what `prints` says, as an edge does."""

    prints: Collection[int] = ()

    def resolve(self, request: InferRequest, result: BatchResult, start: int, stop: int) -> None:
        result.printed.update((place, result.arrays[0].reshape(-1).tolist()) for place in self.prints)
        super().resolve(request, result, start, stop)

    def number(self, name: str) -> int:
        answer = self.answers[name]
        assert not isinstance(answer, TaxiwayError), answer
        result, start, stop = answer
        return int(result.arrays[0][start:stop].sum())


class Bench:
    """y = 2 x, 10 ms a batch; numbers in `failing` fail their run."""

    def __init__(
        self,
        plan: BatchingPlan | None = None,
        *,
        store: AnswerStore | None = None,
        expire_running: bool = True,
        slots: int = 1,
    ) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        self.clock = VirtualClock()
        self.plan = plan or BatchingPlan(max_rows=8)
        self.executor = FakeExecutor(loop, self.clock, slots=slots)
        self.executor.ending = self._end
        self.failing: set[int] = set()
        self.ran: list[int] = []
        self.callers = Callers()
        self.callers.clock = self.clock
        self.statistics = ModelStatistics("m", "1", self.clock)
        self.store = AnswerStore(1 << 20) if store is None else store
        accounts = RunAccounts(Accounts(self.statistics, self.clock))
        self.batcher = Batcher(self.plan, self.executor, self.clock, loop, LatencyCurve(), accounts)
        shelf = Shelf(KeyMaker([X], [Y], MAX_INPUT_BYTES), self.store, batches=True)
        self.front = CacheFront(
            self.batcher, shelf, self.plan, self.statistics, self.clock, loop, expire_running=expire_running
        )

    def make(self, name: str, number: int, *, timeout_ms: int | None = None, **given: Any) -> InferRequest:
        now_ns = self.clock.monotonic_ns()
        return InferRequest(
            id=name,
            inputs=(InputTensor(array("q", [number]), (1, 1)),),
            rows=1,
            responder=self.callers,
            arrived_ns=now_ns,
            deadline_ns=NEVER_NS if timeout_ms is None else now_ns + timeout_ms * MS,
            **{"nbytes": 8, **given},
        )

    def submit(self, name: str, number: int, *, timeout_ms: int | None = None, **given: Any) -> InferRequest:
        request = self.make(name, number, timeout_ms=timeout_ms, **given)
        self.front.submit(request)
        return request

    def cache(self) -> tuple[int, int]:
        """Hits and misses, as Triton's statistics tell them."""
        told = self.statistics.to_json()["inference_stats"]
        return told["cache_hit"]["count"], told["cache_miss"]["count"]

    def counted(self) -> int:
        """Callers that the statistics know of."""
        return self.statistics.success_count + self.statistics.failure_count

    def assert_nobody_is_left(self) -> None:
        assert not self.front._flights
        assert not self.front._flight_of

    def _end(self, batch: list[InferRequest]) -> BatchOutcome:
        numbers = [request.inputs[0].data[0] for request in batch if request.inputs[0] is not None]
        self.ran += numbers
        ended_ns = self.clock.monotonic_ns()
        if self.failing.isdisjoint(numbers):
            doubled = np.array([[2 * number] for number in numbers])
            result = BatchResult(["y"], [doubled], len(batch))
            return BatchOutcome(started_ns=ended_ns - 1, finished_ns=ended_ns, result=result)
        parts = [self._part(number, ended_ns) for number in numbers]
        return BatchOutcome(started_ns=ended_ns - 1, finished_ns=ended_ns, parts=parts)

    def _part(self, number: int, ended_ns: int) -> BatchOutcome:
        if number in self.failing:
            return BatchOutcome(started_ns=ended_ns - 1, finished_ns=ended_ns, error=ModelFailed(f"no {number}"))
        result = BatchResult(["y"], [np.array([[2 * number]])], 1)
        return BatchOutcome(started_ns=ended_ns - 1, finished_ns=ended_ns, result=result)

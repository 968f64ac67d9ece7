"""HybridExecutor: where a batch runs, judged by its rows and its bytes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

from taxiway.core.ports import BatchOutcome
from taxiway.core.requests import BatchResult, InferRequest
from taxiway.server.execution import BatchRunner, HybridExecutor
from taxiway.stats.latency import LatencyCurve

LIMIT_NS = 4 * 1000
KIB = 1024


class _Runner(BatchRunner):
    """Takes as long as it is told per byte, and notes in which thread."""

    def __init__(self) -> None:
        self.ns_per_byte = 0.0
        self.inline: list[bool] = []
        self._loops_thread = threading.get_ident()

    def run(self, batch: list[InferRequest]) -> BatchOutcome:
        self.inline.append(threading.get_ident() == self._loops_thread)
        took = round(sum(request.nbytes for request in batch) * self.ns_per_byte)
        result = BatchResult((), (), sum(request.rows for request in batch))
        return BatchOutcome(started_ns=0, finished_ns=took, result=result)


class _Bench:
    def __init__(self, curve: LatencyCurve | None = None) -> None:
        self.runner = _Runner()
        curve = curve or LatencyCurve([(1, 100), (64, 200)])
        self.executor = HybridExecutor(self.runner, asyncio.get_running_loop(), "m", curve, LIMIT_NS // 4)

    async def ran_inline(self, nbytes: int, rows: int = 1) -> bool:
        back = asyncio.get_running_loop().create_future()
        request = InferRequest(inputs=(), rows=rows, responder=None, arrived_ns=0, nbytes=nbytes)  # type: ignore[arg-type]
        self.executor.submit([request], lambda _, outcome: back.set_result(outcome))
        await asyncio.wait_for(back, 10)
        return self.runner.inline[-1]


def _run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


def test_one_row_of_a_huge_dimension_runs_in_the_thread() -> None:
    async def scenario() -> None:
        bench = _Bench()
        bench.runner.ns_per_byte = 0.01
        assert await bench.ran_inline(KIB)
        assert not await bench.ran_inline(64 * KIB * KIB)
        assert await bench.ran_inline(KIB), "a slow one in the thread says nothing of small ones"
        bench.executor.close()

    _run(scenario())


def test_one_row_that_the_curve_knows_to_be_dear_runs_in_the_thread() -> None:
    async def scenario() -> None:
        bench = _Bench(LatencyCurve([(1, 10**9)]))
        assert not await bench.ran_inline(16)
        bench.executor.close()

    _run(scenario())


def test_what_was_cheap_in_the_thread_raises_the_bound_step_by_step() -> None:
    async def scenario() -> None:
        bench = _Bench()
        assert not await bench.ran_inline(100 * KIB)
        assert await bench.ran_inline(400 * KIB)
        assert await bench.ran_inline(1600 * KIB)
        assert not await bench.ran_inline(6401 * KIB)
        bench.executor.close()

    _run(scenario())


def test_a_slow_run_lowers_the_bound_for_good_until_as_large_a_one_is_fast() -> None:
    async def scenario() -> None:
        bench = _Bench()
        bench.runner.ns_per_byte = LIMIT_NS / (20 * KIB)
        assert await bench.ran_inline(30 * KIB), "not known yet"
        assert not await bench.ran_inline(30 * KIB)
        assert await bench.ran_inline(10 * KIB)
        assert not await bench.ran_inline(30 * KIB), "a small fast one does not lift what is known of the large"
        bench.runner.ns_per_byte = 0
        assert not await bench.ran_inline(30 * KIB)
        assert await bench.ran_inline(30 * KIB)
        bench.executor.close()

    _run(scenario())

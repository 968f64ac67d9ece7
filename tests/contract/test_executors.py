"""One suite for every Executor: what the batcher relies on, whichever runs the batch."""

from __future__ import annotations

import asyncio
import threading
from array import array
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from tests.support import onnx_models
from tests.support.hosted import POISONABLE, hosted_executor

from taxiway.core.ports import BatchOutcome, Executor, PinnedExecutor
from taxiway.core.requests import BatchResult, InferRequest, InputTensor
from taxiway.core.tensors import TensorSpec
from taxiway.runtimes.onnx import OnnxOptions, OnnxRuntime
from taxiway.server.execution import BatchRunner, HybridExecutor, ThreadExecutor
from taxiway.stats.latency import LatencyCurve

Make = Callable[[Path, asyncio.AbstractEventLoop], PinnedExecutor]


def _thread(folder: Path, loop: asyncio.AbstractEventLoop) -> PinnedExecutor:
    return ThreadExecutor(_runner(folder), 2, loop, "contract")


def _inline(folder: Path, loop: asyncio.AbstractEventLoop) -> PinnedExecutor:
    return HybridExecutor(_runner(folder), loop, "contract", LatencyCurve([(1, 1000), (64, 2000)]), 300_000)


def _handed_over(folder: Path, loop: asyncio.AbstractEventLoop) -> PinnedExecutor:
    """A hybrid that holds every batch of more than one row to be dear."""
    return HybridExecutor(_runner(folder), loop, "contract", LatencyCurve([(1, 10**9), (2, 2 * 10**9)]), 300_000)


def _processes(folder: Path, loop: asyncio.AbstractEventLoop) -> PinnedExecutor:
    """Two processes that each run the same model, written in Python."""
    return hosted_executor(folder, POISONABLE, loop, instances=2)


@pytest.fixture(
    params=[_thread, _inline, _handed_over, _processes],
    ids=["threads", "hybrid-inline", "hybrid-thread", "processes"],
)
def make(request: pytest.FixtureRequest) -> Make:
    made: Make = request.param
    return made


class _Nobody:
    def resolve(self, request: InferRequest, result: BatchResult, start: int, stop: int) -> None:
        raise AssertionError

    def reject(self, request: InferRequest, error: Exception) -> None:
        raise AssertionError


def _batch(*values: int) -> list[InferRequest]:
    return [
        InferRequest(inputs=[InputTensor(array("q", [value]), (1, 1))], rows=1, responder=_Nobody(), arrived_ns=0)
        for value in values
    ]


def _runner(tmp_path: Path) -> BatchRunner:
    model = OnnxRuntime().load(onnx_models.poisonable(tmp_path / "m.onnx"), OnnxOptions())
    specs = [[TensorSpec(t.name, t.datatype, t.shape[1:]) for t in side] for side in (model.inputs, model.outputs)]
    return BatchRunner(model, specs[0], specs[1], batches=True)


async def _submit(executor: Executor, batch: list[InferRequest]) -> tuple[BatchOutcome, int]:
    """The outcome, and the thread that told it."""
    told: asyncio.Future[tuple[BatchOutcome, int]] = asyncio.get_running_loop().create_future()

    def done(same: list[InferRequest], outcome: BatchOutcome) -> None:
        assert same is batch
        told.set_result((outcome, threading.get_ident()))

    executor.submit(batch, done)
    return await asyncio.wait_for(told, 30)


def test_a_batch_comes_back_on_the_loops_thread(make: Make, tmp_path: Path) -> None:
    async def scenario() -> None:
        executor = make(tmp_path, asyncio.get_running_loop())
        outcome, thread = await _submit(executor, _batch(1, 2, 3))
        assert thread == threading.get_ident()
        assert outcome.result is not None
        assert outcome.result.arrays[0].tolist() == [[10], [20], [30]]
        assert outcome.started_ns <= outcome.finished_ns
        executor.close()

    asyncio.run(scenario())


def test_what_a_model_raises_comes_back_as_an_outcome(make: Make, tmp_path: Path) -> None:
    async def scenario() -> None:
        executor = make(tmp_path, asyncio.get_running_loop())
        outcome, _ = await _submit(executor, _batch(99))
        assert outcome.error is not None
        mixed, _ = await _submit(executor, _batch(1, 99))
        assert mixed.parts is not None
        assert [part.error is None for part in mixed.parts] == [True, False]
        executor.close()

    asyncio.run(scenario())


def test_as_many_batches_as_slots_are_taken_at_once(make: Make, tmp_path: Path) -> None:
    async def scenario() -> None:
        executor = make(tmp_path, asyncio.get_running_loop())
        outcomes = await asyncio.gather(*(_submit(executor, _batch(n, n)) for n in range(executor.slots)))
        assert [outcome.result is not None for outcome, _ in outcomes] == [True] * executor.slots
        executor.close()

    asyncio.run(scenario())


def test_close_finishes_what_runs_and_frees_the_threads(make: Make, tmp_path: Path) -> None:
    async def scenario() -> None:
        before = threading.active_count()
        executor = make(tmp_path, asyncio.get_running_loop())
        told: list[BatchOutcome] = []
        executor.submit(_batch(5, 6), lambda _, outcome: told.append(outcome))
        executor.close()
        assert threading.active_count() == before
        await asyncio.sleep(0)  # call_soon_threadsafe from the thread comes with the next turn
        assert len(told) == 1

    asyncio.run(scenario())


def test_what_runs_here_is_as_if_submitted_and_what_does_not_is_not_begun(make: Make, tmp_path: Path) -> None:
    async def scenario() -> None:
        executor = make(tmp_path, asyncio.get_running_loop())
        cheap = isinstance(executor, HybridExecutor) and make is _inline
        outcome = executor.run_here(_batch(7))
        assert (outcome is not None) == cheap
        if outcome is not None and outcome.result is not None:
            assert outcome.result.arrays[0].tolist() == [[70]]
        later, _ = await _submit(executor, _batch(7))
        assert later.result is not None
        executor.close()

    asyncio.run(scenario())


def test_a_batch_runs_where_it_is_pinned_to(make: Make, tmp_path: Path) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        executor = make(tmp_path, loop)
        executor.watch(lambda _: None)
        outcomes: dict[int, BatchOutcome] = {}
        all_came = asyncio.Event()

        def came(instance: int, _: list[InferRequest], outcome: BatchOutcome) -> None:
            outcomes[instance] = outcome
            if len(outcomes) == executor.instances:
                all_came.set()

        for instance in range(executor.instances):
            executor.submit_to(instance, _batch(instance, 3), partial(came, instance))
        await asyncio.wait_for(all_came.wait(), 30)
        results = {at: one.result.arrays[0].tolist() for at, one in outcomes.items() if one.result is not None}
        assert results == {instance: [[10 * instance], [30]] for instance in range(executor.instances)}
        executor.close()

    asyncio.run(scenario())

"""Processes that are given several short runs at a time: nothing is lost that none of them has begun."""

from __future__ import annotations

import asyncio
import os
import signal
from array import array
from pathlib import Path

from tests.support.hosted import hosted_executor

from taxiway.core.errors import ModelProcessDied
from taxiway.core.ports import BatchOutcome
from taxiway.core.requests import BatchResult, InferRequest, InputTensor
from taxiway.server.execution.processes.executor import ProcessExecutor

WAITING = """
import os, time

class Model:
    inputs = {"x": ("INT64", [-1, 1])}
    outputs = {"y": ("INT64", [-1, 1])}

    def predict(self, x):
        if (x == 7).any():
            open(os.path.join(os.path.dirname(__file__), "begun"), "w").close()
            time.sleep(60)
        return {"y": x * 10}
"""
"""7 takes a minute, and says that it has begun."""


class _Nobody:
    def resolve(self, request: InferRequest, result: BatchResult, start: int, stop: int) -> None:
        raise AssertionError

    def reject(self, request: InferRequest, error: Exception) -> None:
        raise AssertionError


def _batch(value: int) -> list[InferRequest]:
    return [InferRequest([InputTensor(array("q", [value]), (1, 1))], 1, _Nobody(), 0)]


async def _submit(executor: ProcessExecutor, value: int) -> BatchOutcome:
    done: asyncio.Future[BatchOutcome] = asyncio.get_running_loop().create_future()
    executor.submit(_batch(value), lambda _, outcome: done.set_result(outcome))
    return await asyncio.wait_for(done, 30)


async def _look_far_ahead(executor: ProcessExecutor) -> list[int]:
    """Short runs, until it has learnt that they are; by how many the slots have become more each time."""
    grown: list[int] = []
    executor.look_ahead(grown.append)
    for value in range(1000):
        if executor.slots > 4:
            break
        await _submit(executor, value % 7)
    return grown


def test_short_runs_are_given_several_at_a_time(tmp_path: Path) -> None:
    async def scenario() -> None:
        executor = hosted_executor(tmp_path, WAITING, asyncio.get_running_loop())
        assert executor.slots == 1
        grown = await _look_far_ahead(executor)
        assert executor.slots == 1 + sum(grown) > 4
        outcomes = await asyncio.gather(*(_submit(executor, value % 7) for value in range(executor.slots)))
        assert [one.result.arrays[0].item() for one in outcomes if one.result is not None] == [
            value % 7 * 10 for value in range(len(outcomes))
        ]
        executor.close()

    asyncio.run(scenario())


def test_what_a_dying_process_had_not_begun_runs_in_the_next(tmp_path: Path) -> None:
    async def scenario() -> None:
        executor = hosted_executor(tmp_path, WAITING, asyncio.get_running_loop())
        await _look_far_ahead(executor)
        begun = tmp_path / "1" / "begun"
        fatal = asyncio.ensure_future(_submit(executor, 7))
        behind = [asyncio.ensure_future(_submit(executor, value)) for value in (1, 2, 3)]
        while not begun.exists():  # noqa: ASYNC110 - it is another process that says so
            await asyncio.sleep(0.01)
        (pid,) = executor.pids()
        os.kill(pid, signal.SIGKILL)
        died = await fatal
        assert isinstance(died.error, ModelProcessDied)
        outcomes = await asyncio.gather(*behind)
        assert [one.result.arrays[0].item() for one in outcomes if one.result is not None] == [10, 20, 30]
        executor.close()

    asyncio.run(scenario())

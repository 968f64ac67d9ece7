"""What stands behind the front of a version that runs batches: its queue, its executor, the model itself."""

from __future__ import annotations

from dataclasses import dataclass

from taxiway.core.ports import Executor, LoadedModel
from taxiway.server.batching.loop import Batcher
from taxiway.server.execution.processes.executor import ProcessExecutor
from taxiway.server.sequencing.front import SequenceFront


@dataclass(frozen=True, slots=True)
class BatchEngine:
    """A queue before an executor before a model."""

    batcher: Batcher
    executor: Executor
    model: LoadedModel

    async def settle(self) -> None:
        """Return when everything accepted is answered."""
        await self.batcher.settle()

    def depth(self) -> tuple[int, int, int]:
        """Requests, rows and bytes that wait."""
        return self.batcher.depth()

    def running(self) -> int:
        """Runs that are out."""
        return self.batcher.gauges().running_batches

    def running_since_ns(self) -> int:
        """When the oldest of them began."""
        return self.executor.running_since_ns()

    def trouble(self) -> str | None:
        """Why nobody is answered now; None if somebody is."""
        return _trouble_of(self.executor)

    def close(self) -> None:
        """Free the threads or processes, and the model. Blocks."""
        self.executor.close()
        self.model.close()


@dataclass(frozen=True, slots=True)
class SequenceEngine:
    """A stateful model: its sequences before an executor before the model."""

    front: SequenceFront
    executor: Executor
    model: LoadedModel

    async def settle(self) -> None:
        """Return when everything accepted is answered."""
        await self.front.settle()

    def depth(self) -> tuple[int, int, int]:
        """Requests, rows and bytes that wait."""
        return self.front.depth()

    def running(self) -> int:
        """Runs that are out."""
        return self.front.running()

    def running_since_ns(self) -> int:
        """When the oldest of them began."""
        return self.executor.running_since_ns()

    def trouble(self) -> str | None:
        """Why nobody is answered now; None if somebody is."""
        return _trouble_of(self.executor)

    def close(self) -> None:
        """Free the threads or processes, and the model. Blocks."""
        self.executor.close()
        self.model.close()


def _trouble_of(executor: Executor) -> str | None:
    """Only processes get into trouble of their own."""
    return executor.trouble() if isinstance(executor, ProcessExecutor) else None

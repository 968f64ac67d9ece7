"""What stands behind the front of a version whose model is loaded: its queue, its executor, the model itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from taxiway.core.ports import Executor, LoadedModel
from taxiway.server.execution.processes.executor import ProcessExecutor


class Queue(Protocol):
    """Where requests wait to run, and come back from it: a batcher, or the sequences of a stateful model."""

    async def settle(self) -> None:
        """Wait for no company, and return when everything accepted is answered."""

    def depth(self) -> tuple[int, int, int]:
        """Requests, rows and bytes that wait."""

    def running(self) -> int:
        """Runs that are out."""


@dataclass(frozen=True, slots=True)
class ModelEngine:
    """A queue before an executor before a model."""

    queue: Queue
    executor: Executor
    model: LoadedModel

    async def settle(self) -> None:
        """Return when everything accepted is answered."""
        await self.queue.settle()

    def depth(self) -> tuple[int, int, int]:
        """Requests, rows and bytes that wait."""
        return self.queue.depth()

    def running(self) -> int:
        """Runs that are out."""
        return self.queue.running()

    def running_since_ns(self) -> int:
        """When the oldest of them began."""
        return self.executor.running_since_ns()

    def trouble(self) -> str | None:
        """Why nobody is answered now; None if somebody is. Only processes get into trouble of their own."""
        return self.executor.trouble() if isinstance(self.executor, ProcessExecutor) else None

    def close(self) -> None:
        """Free the threads or processes, and the model. Blocks."""
        self.executor.close()
        self.model.close()

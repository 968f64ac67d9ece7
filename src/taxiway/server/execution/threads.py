"""Run in threads of the model's own, all on one shared session: ONNX Runtime releases the interpreter lock."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from time import monotonic_ns

from taxiway.core.ports import BatchOutcome
from taxiway.core.requests import NEVER_NS, InferRequest
from taxiway.server.execution.runner import BatchRunner

Done = Callable[[list[InferRequest], BatchOutcome], None]


class ThreadExecutor:
    """`slots` threads; a batch runs in whichever is free. The batcher never submits more than `slots` at once."""

    def __init__(self, runner: BatchRunner, slots: int, loop: asyncio.AbstractEventLoop, name: str) -> None:
        self.slots = slots
        self._runner = runner
        self._loop = loop
        self._since_ns = [NEVER_NS] * slots
        """When each thread began what it runs."""
        self._work: queue.SimpleQueue[tuple[list[InferRequest], Done] | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run_batches, args=(index,), name=f"{name}-{index}", daemon=True)
            for index in range(slots)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, batch: list[InferRequest], done: Done) -> None:
        """Hand it to a free thread; `done` is called on the event loop."""
        self._work.put((batch, done))

    def submit_to(self, instance: int, batch: list[InferRequest], done: Done) -> None:
        """Hand it to any free thread: they share one session, which keeps nothing from one run to the next."""
        del instance
        self._work.put((batch, done))

    @property
    def instances(self) -> int:
        """Each slot counts as one."""
        return self.slots

    def watch(self, lost: Callable[[int], None]) -> None:
        """Nothing is kept here that could be lost."""

    def run_here(self, batch: list[InferRequest]) -> None:
        """Whatever has threads is worth one."""

    def abandon(self, request: InferRequest) -> None:
        """A run in this process cannot be told to stop."""

    def running_since_ns(self) -> int:
        """When the oldest run began that has not come back."""
        return min(self._since_ns)

    def close(self) -> None:
        """Let the threads finish what they hold, and wait for them."""
        for _ in self._threads:
            self._work.put(None)
        for thread in self._threads:
            thread.join()

    def _run_batches(self, index: int) -> None:
        while (work := self._work.get()) is not None:
            batch, done = work
            self._since_ns[index] = monotonic_ns()
            outcome = self._runner.run(batch)
            self._since_ns[index] = NEVER_NS
            with contextlib.suppress(RuntimeError):  # the loop is closed: the server has given this run up
                self._loop.call_soon_threadsafe(done, batch, outcome)
            del work, batch, outcome  # an idle thread must not keep the last batch's memory

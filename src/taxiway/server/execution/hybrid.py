"""Run on the event loop what is cheap, in a thread what is not: one model, both kinds of batch.

A tiny model's run costs less than handing it to a thread. But one request may bring a thousand rows to it, or one row
of a million elements, and nobody else's request should wait for those.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from taxiway.core.ports import BatchOutcome
from taxiway.core.requests import NEVER_NS, InferRequest
from taxiway.server.execution.runner import BatchRunner
from taxiway.server.execution.threads import Done, ThreadExecutor
from taxiway.stats.latency import LatencyCurve

_WORTH_A_THREAD = 4
"""A run of up to this many thresholds stays on the loop: merged rows there save more than they delay."""
_FIRST_BYTES = 64 * 1024
"""Bytes of input that are tried on the loop before anything is known of their cost."""
_STEP = 4
"""How many times the largest input known to be cheap the next one tried on the loop may be."""
_UNKNOWN = 1 << 62
"""More bytes than any input has."""


class HybridExecutor:
    """For models whose single run takes under `threshold_ns`.

    Args:
        curve: what a run of so many rows is expected to take; it keeps learning.
        threshold_ns: what counts as cheap (`execution.inline_threshold_us`).
    """

    slots = 1

    def __init__(
        self,
        runner: BatchRunner,
        loop: asyncio.AbstractEventLoop,
        name: str,
        curve: LatencyCurve,
        threshold_ns: int,
    ) -> None:
        self._run = runner.run
        self._runner = runner
        self._loop = loop
        self._name = name
        self._expected_ns = curve.expected_ns
        self._limit_ns = threshold_ns * _WORTH_A_THREAD
        self._thread: ThreadExecutor | None = None
        self._cheap_rows = 0
        """Rows known to be cheap: asking the curve for every batch would cost as much as a tiny run."""
        self._cheap_bytes = _FIRST_BYTES
        """Bytes of input that may run on the loop: where a dimension is free, the number of rows says little."""
        self._dear_bytes = _UNKNOWN
        """The least input that was slow; until one as large is fast again, none as large runs on the loop."""

    def submit(self, batch: list[InferRequest], done: Done) -> None:
        """Run it here and now if it is cheap; `done` is then called before this returns."""
        outcome = self.run_here(batch)
        if outcome is not None:
            done(batch, outcome)
            return
        if self._thread is None:
            self._thread = ThreadExecutor(self._runner, 1, self._loop, self._name)
        nbytes = sum([request.nbytes for request in batch])
        self._thread.submit(batch, partial(self._back_from_thread, nbytes, done))

    def submit_to(self, instance: int, batch: list[InferRequest], done: Done) -> None:
        """As `submit`: there is one instance."""
        del instance
        self.submit(batch, done)

    @property
    def instances(self) -> int:
        """One."""
        return self.slots

    def watch(self, lost: Callable[[int], None]) -> None:
        """Nothing is kept here that could be lost."""

    def run_here(self, batch: list[InferRequest]) -> BatchOutcome | None:
        """Run it if it is cheap."""
        rows, nbytes = batch[0].rows, batch[0].nbytes
        if len(batch) > 1:
            rows = sum([request.rows for request in batch])
            nbytes = sum([request.nbytes for request in batch])
        if nbytes > self._cheap_bytes or (rows > self._cheap_rows and not self._is_cheap(rows)):
            return None
        outcome = self._run(batch)
        if outcome.finished_ns - outcome.started_ns > self._limit_ns:
            self._was_dear(nbytes)
        elif nbytes * _STEP > self._cheap_bytes:
            self._was_cheap(nbytes)
        return outcome

    def abandon(self, request: InferRequest) -> None:
        """A run in this process cannot be told to stop."""

    def running_since_ns(self) -> int:
        """When the run in the thread began; what runs on the loop is back before anybody can ask."""
        return NEVER_NS if self._thread is None else self._thread.running_since_ns()

    def close(self) -> None:
        """Free the thread, if there is one."""
        if self._thread is not None:
            self._thread.close()

    def _back_from_thread(self, nbytes: int, done: Done, batch: list[InferRequest], outcome: BatchOutcome) -> None:
        """What ran in the thread tells whether the loop could have borne it."""
        if outcome.finished_ns - outcome.started_ns > self._limit_ns:
            # The bound stays below what is known to be slow, but a slow batch of many rows says nothing of bytes.
            if nbytes > self._cheap_bytes:
                self._dear_bytes = min(self._dear_bytes, nbytes)
        elif outcome.result is not None and nbytes * _STEP > self._cheap_bytes:
            self._was_cheap(nbytes)
        done(batch, outcome)

    def _was_dear(self, nbytes: int) -> None:
        self._cheap_rows = 0
        self._dear_bytes = min(self._dear_bytes, nbytes)
        self._cheap_bytes = nbytes - 1

    def _was_cheap(self, nbytes: int) -> None:
        if nbytes >= self._dear_bytes:
            self._dear_bytes = _UNKNOWN
        self._cheap_bytes = max(self._cheap_bytes, min(nbytes * _STEP, self._dear_bytes - 1))

    def _is_cheap(self, rows: int) -> bool:
        cheap = self._expected_ns(rows) <= self._limit_ns
        if cheap:
            self._cheap_rows = rows
        return cheap

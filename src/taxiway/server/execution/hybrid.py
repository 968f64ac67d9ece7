"""Run on the event loop what is cheap, in a thread what is not: one model, both kinds of batch.

A tiny model's run costs less than handing it to a thread. But one request may bring a thousand rows to it, and nobody
else's request should wait for those.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from taxiway.core.ports import BatchOutcome
from taxiway.core.requests import InferRequest
from taxiway.server.execution.runner import BatchRunner
from taxiway.server.execution.threads import ThreadExecutor
from taxiway.stats.latency import LatencyCurve

_WORTH_A_THREAD = 4
"""A run of up to this many thresholds stays on the loop: merged rows there save more than they delay."""


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
        self._cheap_rows = 1
        """Rows known to be cheap: asking the curve for every batch would cost as much as a tiny run."""

    def submit(self, batch: list[InferRequest], done: Callable[[list[InferRequest], BatchOutcome], None]) -> None:
        """Run it here and now if it is cheap; `done` is then called before this returns."""
        rows = batch[0].rows if len(batch) == 1 else sum([request.rows for request in batch])
        if rows <= self._cheap_rows or self._is_cheap(rows):
            outcome = self._run(batch)
            if outcome.finished_ns - outcome.started_ns > self._limit_ns:
                self._cheap_rows = 1
            done(batch, outcome)
        else:
            if self._thread is None:
                self._thread = ThreadExecutor(self._runner, 1, self._loop, self._name)
            self._thread.submit(batch, done)

    def close(self) -> None:
        """Free the thread, if there is one."""
        if self._thread is not None:
            self._thread.close()

    def _is_cheap(self, rows: int) -> bool:
        cheap = self._expected_ns(rows) <= self._limit_ns
        if cheap:
            self._cheap_rows = rows
        return cheap

"""Deadlines of requests that already run, for the strict option that answers them at expiry all the same."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from itertools import count

from taxiway.core.requests import NEVER_NS, InferRequest, RequestState

_RUNNING = RequestState.RUNNING
_SLACK = 64


class RunningDeadlines:
    """A heap of running requests by deadline. Those that are answered in time leave it lazily."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, InferRequest]] = []
        self._numbers = count()
        self._sweep_at = _SLACK

    def watch(self, batch: list[InferRequest]) -> None:
        """Remember those of `batch` that have a deadline."""
        for request in batch:
            if request.deadline_ns != NEVER_NS:
                heappush(self._heap, (request.deadline_ns, next(self._numbers), request))
        if len(self._heap) > self._sweep_at:
            self._heap = [timed for timed in self._heap if timed[2].state is _RUNNING]
            heapify(self._heap)
            self._sweep_at = 2 * len(self._heap) + _SLACK

    def expire(self, now_ns: int) -> list[InferRequest]:
        """Forget and return those that still run at their deadline."""
        expired = []
        while self.next_expiry_ns <= now_ns:
            expired.append(heappop(self._heap)[2])
        return expired

    @property
    def next_expiry_ns(self) -> int:
        """The earliest deadline of one that runs; NEVER_NS if there is none."""
        heap = self._heap
        while heap and heap[0][2].state is not _RUNNING:
            heappop(heap)
        return heap[0][0] if heap else NEVER_NS

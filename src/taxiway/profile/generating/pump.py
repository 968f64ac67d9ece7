"""Sends a schedule (open loop), or the next request when one is answered (closed loop).

The open loop sleeps until shortly before a request is due and then goes round without sleeping: uvloop's timers tick
in milliseconds. Going round, it takes answers too, so that nothing waits for the schedule, and the schedule for
nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol

from taxiway.profile.generating.job import Job
from taxiway.profile.generating.record import Record

_TICK_S: Final = 0.001


class Sender(Protocol):
    """What sends: connections of HTTP, or a channel of gRPC."""

    async def open(self, count: int) -> None:
        """Connect."""

    @property
    def under_way(self) -> int:
        """Requests that have not ended."""

    def send(self, due: float, number: int) -> None:
        """Send the shot of this number; never waits."""

    def finish(self) -> None:
        """Give up what is under way, and close."""


MakeSender = Callable[[Job, Record, Callable[[], None]], Sender]


class OpenLoop:
    """Sends what is due when it is due, and waits for the last answer."""

    def __init__(self, job: Job, record: Record, make: MakeSender) -> None:
        self._record = record
        self._spin_s = job.spin_s
        self._due: list[float] = job.due_s.tolist()
        self._which: list[int] = job.indices.tolist()
        self._next = 0
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self.sender = make(job, record, self._ended)

    async def run(self, began: float) -> None:
        """Begin at this moment of the monotonic clock."""
        self._record.began = began
        self._due = [began + due for due in self._due]
        if self._due:
            self._tick()
            await self._over

    def _tick(self) -> None:
        due, which, send, now = self._due, self._which, self.sender.send, time.monotonic()
        position, count = self._next, len(due)
        while position < count and due[position] <= now:
            send(due[position], which[position])
            position += 1
            now = time.monotonic()
        self._next = position
        if position == count:
            self._ended()
            return
        left = due[position] - now - self._spin_s
        if left > _TICK_S:
            self._loop.call_later(left - _TICK_S, self._tick)  # uvloop rounds to a millisecond, up or down
        elif left > 0:
            self._loop.call_later(_TICK_S, self._tick)
        else:
            self._loop.call_soon(self._tick)

    def _ended(self) -> None:
        if self._next == len(self._due) and not self.sender.under_way and not self._over.done():
            self._over.set_result(None)


class ClosedLoop:
    """Keeps so many requests under way until its time is over; sends a query of several when all are back."""

    def __init__(self, job: Job, record: Record, make: MakeSender) -> None:
        self._job = job
        self._record = record
        self._which: list[int] = job.indices.tolist()
        self._next = 0
        self._end = 0.0
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.sender = make(job, record, self._ended)

    async def run(self, began: float) -> None:
        """Begin at this moment of the monotonic clock."""
        self._record.began = began
        self._end = began + self._job.duration_s
        while (left := began - time.monotonic()) > 0:  # noqa: ASYNC110 - a moment, and a timer may be early
            await asyncio.sleep(left)
        for _ in range(self._job.concurrency):
            self._send(time.monotonic())
        await self._over

    def _send(self, now: float) -> None:
        for _ in range(self._job.query):
            self.sender.send(now, self._which[self._next % len(self._which)])
            self._next += 1

    def _ended(self) -> None:
        now = time.monotonic()
        under_way = self.sender.under_way
        if now < self._end:
            if under_way <= (self._job.concurrency - 1) * self._job.query:
                self._send(now)
        elif not under_way and not self._over.done():
            self._over.set_result(None)

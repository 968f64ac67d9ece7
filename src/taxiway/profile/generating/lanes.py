"""The connections of one process: those that are free, those under way, and those still to be opened."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections import deque
from collections.abc import Callable

from taxiway.profile.generating.events import EventReader
from taxiway.profile.generating.http1 import Lane
from taxiway.profile.generating.job import Job
from taxiway.profile.generating.record import Record
from taxiway.profile.samples import NOT_CONNECTED, OK, TIMED_OUT

_LOOK_S = 0.02
"""How often it is looked who has waited too long."""


class Lanes:
    """Sends requests, each on a connection of its own; more connections are opened while all are busy.

    `send` never waits. `ended` is called after each answer, or error, or when nobody waits for it any more.
    """

    def __init__(self, job: Job, record: Record, ended: Callable[[], None]) -> None:
        self._job = job
        self._record = record
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._tls = ssl.create_default_context() if job.door.tls else None
        self._wires = [shot.wire for shot in job.shots]
        self._idle: list[Lane] = []
        self._busy: dict[Lane, None] = {}
        self._waiting: deque[tuple[float, int]] = deque()
        self._opening: set[asyncio.Task[None]] = set()
        self._count = 0
        self._look = self._loop.call_later(_LOOK_S, self._look_for_late)

    async def open(self, count: int) -> None:
        """Open so many connections now.

        Raises:
            OSError: the first could not be opened.
        """
        for number in range(count):
            try:
                lane = await self._connect()
            except OSError:
                if not number:
                    raise
                return
            self._count += 1
            self._idle.append(lane)

    @property
    def under_way(self) -> int:
        """Requests that have not ended, those that wait for a connection among them."""
        return len(self._busy) + len(self._waiting) + len(self._opening)

    def send(self, due: float, number: int) -> None:
        """Send the shot of this number, which was due then."""
        if self._idle:
            self._dispatch(self._idle.pop(), due, time.monotonic(), number)
        elif self._count < self._job.connections:
            self._count += 1
            task = self._loop.create_task(self._open_and_send(due, time.monotonic(), number))
            self._opening.add(task)
            task.add_done_callback(self._opened)
        else:
            self._waiting.append((due, number))

    def answered(self, lane: Lane, ending: int) -> None:
        """As `Answered` says."""
        now = time.monotonic()
        self._busy.pop(lane, None)
        events = lane.events
        if ending == OK and events is not None:
            self._record.note_tokens(lane.due, lane.sent, now, (events.first, events.tokens, events.gaps))
        else:
            self._record.note(lane.due, lane.sent, now, ending)
        if ending != OK:
            self._record.explain(ending, lane.said)
            lane.said = b""
        self._release(lane)
        self._ended()

    def closed(self, lane: Lane) -> None:
        """As `Answered` says."""
        if lane in self._idle:
            self._idle.remove(lane)
            self._count -= 1

    def finish(self) -> None:
        """Give up what is under way, and close all."""
        self._look.cancel()
        now = time.monotonic()
        for due, _ in self._waiting:
            self._record.never_sent(due, now)
        self._waiting.clear()
        for lane in list(self._busy):
            self._give_up(lane, now)
        for task in self._opening:
            task.cancel()
        for lane in self._idle:
            lane.close()

    def _dispatch(self, lane: Lane, due: float, sent: float, number: int) -> None:
        lane.due, lane.sent, lane.number = due, sent, number
        self._busy[lane] = None
        lane.send(self._wires[number])

    async def _open_and_send(self, due: float, sent: float, number: int) -> None:
        try:
            async with asyncio.timeout(self._job.timeout_s):
                lane = await self._connect()
        except (OSError, TimeoutError) as error:
            self._count -= 1
            late = isinstance(error, TimeoutError)
            self._record.note(due, sent, time.monotonic(), TIMED_OUT if late else NOT_CONNECTED)
            self._record.explain(NOT_CONNECTED, str(error).encode())
            return
        except asyncio.CancelledError:
            self._record.note(due, sent, time.monotonic(), TIMED_OUT)
            raise
        self._dispatch(lane, due, sent, number)

    def _opened(self, task: asyncio.Task[None]) -> None:
        self._opening.discard(task)
        self._ended()

    async def _connect(self) -> Lane:
        door = self._job.door

        def make() -> Lane:
            return Lane(self, EventReader() if door.events else None)

        _, lane = await self._loop.create_connection(make, door.host, door.port, ssl=self._tls)
        return lane

    def _release(self, lane: Lane) -> None:
        """The lane is free; who waits longest has it."""
        if not lane.open:
            self._count -= 1
            if self._waiting:
                self.send(*self._waiting.popleft())
        elif self._waiting:
            due, number = self._waiting.popleft()
            self._dispatch(lane, due, time.monotonic(), number)
        else:
            self._idle.append(lane)

    def _give_up(self, lane: Lane, now: float) -> None:
        self._busy.pop(lane, None)
        lane.give_up()
        self._record.note(lane.due, lane.sent, now, TIMED_OUT)
        self._release(lane)

    def _look_for_late(self) -> None:
        self._look = self._loop.call_later(_LOOK_S, self._look_for_late)
        now = time.monotonic()
        limit = now - self._job.timeout_s
        gone = 0
        with contextlib.suppress(StopIteration):
            # In the order in which they were sent, but for those that had to connect first.
            while (lane := next(iter(self._busy))).sent <= limit:
                self._give_up(lane, now)
                gone += 1
        while self._waiting and self._waiting[0][0] <= limit and not self._job.patient:
            self._record.never_sent(self._waiting.popleft()[0], now)
            gone += 1
        for _ in range(gone):
            self._ended()

"""The inner structures of the queue: a Lane (one bucket of one level) and a Band (a level's buckets).

Order within both: earliest deadline first, those without deadline last, then arrival. While no deadline is
present a lane is a plain deque; requests with deadlines live in a heap ahead of it. A cancelled request
stays as a tombstone (its state is no longer QUEUED) until it comes to the front or tombstones outnumber the
living.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from heapq import heapify, heappop, heappush
from itertools import count

from taxiway.core.requests import NEVER_NS, InferRequest, RequestState

_QUEUED = RequestState.QUEUED
_SLACK = 32
"""Tombstones that are never worth a clean-up."""

Timed = tuple[int, int, InferRequest]
"""Deadline, a number that keeps arrival order among equals, the request."""


class Lane:
    """The waiting requests of one bucket in one band."""

    __slots__ = ("bucket", "entry", "fifo", "requests", "rows", "timed")

    def __init__(self, bucket: Hashable) -> None:
        self.bucket = bucket
        self.timed: list[Timed] = []
        self.fifo: deque[InferRequest] = deque()
        self.requests = 0
        self.rows = 0
        self.entry: Head | None = None
        """Where its band lists it; None: not listed."""

    def first(self) -> InferRequest | None:
        """The most urgent request; tombstones ahead of it are forgotten."""
        timed = self.timed
        while timed:
            request = timed[0][2]
            if request.state is _QUEUED:
                return request
            heappop(timed)
        fifo = self.fifo
        while fifo:
            request = fifo[0]
            if request.state is _QUEUED:
                return request
            fifo.popleft()
        return None

    def take(self, room: int, batch: list[InferRequest]) -> bool:
        """Move requests into `batch`, in order, while their rows fit into `room`; True if none is left."""
        if self.rows <= room and not self.timed and len(self.fifo) == self.requests:
            batch.extend(self.fifo)
            self.fifo.clear()
            self.requests = self.rows = 0
            return True
        while (request := self.first()) is not None:
            room -= request.rows
            if room < 0:
                return False
            self.pop_first(request)
            batch.append(request)
        return True

    def pop_first(self, request: InferRequest) -> None:
        """Remove `request`, which `first` has just given."""
        if self.timed:
            heappop(self.timed)
        else:
            self.fifo.popleft()
        self.requests -= 1
        self.rows -= request.rows

    def bury(self, request: InferRequest) -> None:
        """Count out `request`, which is not QUEUED any more."""
        self.requests -= 1
        self.rows -= request.rows
        if len(self.fifo) + len(self.timed) > 2 * self.requests + _SLACK:
            self.fifo = deque(request for request in self.fifo if request.state is _QUEUED)
            self.timed = [timed for timed in self.timed if timed[2].state is _QUEUED]
            heapify(self.timed)

    def leading(self, enough_rows: int) -> list[InferRequest]:
        """The first requests in order, until they have `enough_rows`. O(that many log n)."""
        found: list[InferRequest] = []
        passed: list[Timed] = []
        rows = 0
        while rows < enough_rows and self.timed:
            timed = heappop(self.timed)
            if timed[2].state is _QUEUED:
                passed.append(timed)
                found.append(timed[2])
                rows += timed[2].rows
        for timed in passed:
            heappush(self.timed, timed)
        for request in self.fifo:
            if rows >= enough_rows:
                break
            if request.state is _QUEUED:
                found.append(request)
                rows += request.rows
        return found


Head = tuple[int, int, int, Lane]
"""Deadline and arrival of a lane's first request when it was listed, a unique number, the lane."""


class Band:
    """Lanes that stand at the same height: one priority level, or the requests of it that were late."""

    __slots__ = ("_heads", "_lanes", "_numbers", "requests")

    def __init__(self) -> None:
        self.requests = 0
        self._lanes: dict[Hashable, Lane] = {}
        self._heads: list[Head] = []
        """A heap. A lane's entry is never later than its first request; `head` lists it anew if earlier."""
        self._numbers = count()

    def push(self, request: InferRequest) -> None:
        """Add `request`. O(log n); O(1) without deadlines."""
        lane = self._lanes.get(request.bucket)
        if lane is None:
            lane = self._lanes[request.bucket] = Lane(request.bucket)
        deadline_ns = request.deadline_ns
        if deadline_ns == NEVER_NS:
            lane.fifo.append(request)
        else:
            heappush(lane.timed, (deadline_ns, next(self._numbers), request))
        lane.requests += 1
        lane.rows += request.rows
        self.requests += 1
        entry = lane.entry
        if entry is None or deadline_ns < entry[0]:
            self._list(lane, request)

    def head(self) -> Lane | None:
        """The lane whose first request is the most urgent."""
        if len(self._lanes) == 1:
            (lane,) = self._lanes.values()
            return lane if lane.first() is not None else None
        heads = self._heads
        while heads:
            entry = heads[0]
            lane = entry[3]
            if entry is lane.entry:
                first = lane.first()
                if first is None:
                    self._drop(lane)
                elif first.arrived_ns == entry[1] and first.deadline_ns == entry[0]:
                    return lane
                else:
                    heappop(heads)
                    self._list(lane, first)
            else:
                heappop(heads)
        return None

    def lane(self, bucket: Hashable) -> Lane | None:
        """The lane of `bucket`, if it was ever met; it may be empty."""
        return self._lanes.get(bucket)

    def lanes(self) -> Iterator[Lane]:
        """All lanes in which something waits."""
        return (lane for lane in self._lanes.values() if lane.requests)

    def take(self, lane: Lane, room: int, batch: list[InferRequest]) -> bool:
        """As Lane.take."""
        before = len(batch)
        emptied = lane.take(room, batch)
        self.requests -= len(batch) - before
        return emptied

    def pop_first(self, lane: Lane, request: InferRequest) -> None:
        """Remove `request`, the first of `lane`."""
        lane.pop_first(request)
        self.requests -= 1

    def bury(self, request: InferRequest) -> None:
        """Count out `request`, which is not QUEUED any more."""
        self.requests -= 1
        self._lanes[request.bucket].bury(request)

    def _list(self, lane: Lane, first: InferRequest) -> None:
        heads = self._heads
        if len(heads) > 2 * len(self._lanes) + _SLACK:
            heads[:] = [entry for entry in heads if entry is entry[3].entry]
            heapify(heads)
        lane.entry = entry = (first.deadline_ns, first.arrived_ns, next(self._numbers), lane)
        heappush(heads, entry)

    def _drop(self, lane: Lane) -> None:
        """Unlist an empty lane, and forget it unless it is the only one: it will be wanted again."""
        heappop(self._heads)
        lane.entry = None
        if len(self._lanes) > 1:
            del self._lanes[lane.bucket]

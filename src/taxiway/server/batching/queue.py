"""The waiting requests of one model version: a pure data structure, time passed in.

Priority levels, most urgent first; within a level the earliest deadline first, then arrival. A batch holds
requests of one bucket. Limits are checked before anything else happens to a request. Requests, rows and bytes
are counted as they stand: a cancelled or expired request is out of the totals, and its inputs out of memory,
at once, whenever its tombstone is swept up.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from taxiway.core.errors import InvalidArgument, Overloaded
from taxiway.core.requests import NEVER_NS, InferRequest, RequestState
from taxiway.server.batching.lanes import Band, Lane
from taxiway.server.batching.plan import BatchingPlan, LevelPolicy
from taxiway.server.batching.policy import BucketView

_QUEUED, _RUNNING, _DONE = RequestState.QUEUED, RequestState.RUNNING, RequestState.DONE
_UNLIMITED = 1 << 62
_LEAST_RETRY_S = 0.05
_UNKNOWN_RETRY_S = 1.0


class _Level:
    """One priority level: what is wanted of it, and the two bands in which its requests wait."""

    __slots__ = ("delays", "late", "limit", "policy", "retimes", "timely")

    def __init__(self, policy: LevelPolicy, *, strict: bool) -> None:
        self.policy = policy
        self.limit = policy.max_requests or _UNLIMITED
        self.retimes = bool(policy.default_timeout_ns) or not strict
        """Whether a request's own deadline may have to change."""
        self.delays = policy.timeout_action == "delay"
        self.timely = Band()
        self.late = Band()
        """Those whose time ran out where the action is to delay them."""


class RequestQueue:
    """All that waits for one model version.

    Owns a request from a `push` that returns until `take`, `expire`, `cancel` or `take_all` gives it back. It
    moves `state` to QUEUED, RUNNING (taken) or DONE (the other three), and sets `deadline_ns` to the moment
    that its level's policy makes of the request's own wish. Where a level only delays what its own timeout
    catches, that timeout ends with the queue: a request that was taken or delayed has its own deadline again.

    Args:
        plan: levels, limits and sizes.
        predict_wait_ns: how long a request would wait that comes behind so many rows and has so many itself; asked
        when one is refused, and at each push only if `limits.max_wait_ns` is set.
    """

    def __init__(self, plan: BatchingPlan, predict_wait_ns: Callable[[int, int], int] = lambda _ahead, _own: 0) -> None:
        self.requests = 0
        self.rows = 0
        self.nbytes = 0
        self._plan = plan
        self._predict_wait_ns = predict_wait_ns
        self._hard_rows = plan.hard_rows
        limits = plan.limits
        self._max_requests = limits.max_requests or _UNLIMITED
        self._max_rows = limits.max_rows or _UNLIMITED
        self._max_bytes = limits.max_bytes or _UNLIMITED
        self._max_wait_ns = limits.max_wait_ns
        levels = [_Level(policy, strict=plan.strict_timeouts) for policy in plan.levels]
        self._by_priority = [levels[plan.default_level - 1], *levels]
        self._bands = [band for level in levels for band in (level.timely, level.late)]
        if all(level.policy.timeout_action == "reject" for level in levels):
            self._bands = [level.timely for level in levels]
        self._levels = levels
        self._late: set[InferRequest] = set()
        self._own_ns: dict[InferRequest, int] = {}
        """Their own deadlines, of those that are to be delayed where `deadline_ns` comes before it."""
        self.soonest_ns = NEVER_NS
        """A cheap bound: no queued request has an earlier deadline. `next_expiry_ns` is the exact one."""

    def push(self, request: InferRequest) -> None:
        """Add a NEW request.

        Raises:
            Overloaded: a limit is reached; the request was not touched.
            InvalidArgument: it has more rows than one run may have.
        """
        rows = request.rows
        priority = request.priority
        levels = self._by_priority
        level = levels[priority] if 0 <= priority < len(levels) else levels[0]
        band = level.timely
        if (
            rows > self._hard_rows
            or self.requests >= self._max_requests
            or self.rows + rows > self._max_rows
            or self.nbytes + request.nbytes > self._max_bytes
            or band.requests + level.late.requests >= level.limit
            or self._max_wait_ns
        ):
            self._check(request, level)
        if level.retimes:
            self._retime(request, level)
        if request.deadline_ns < self.soonest_ns:  # noqa: PLR1730 - min() costs a call on the hot path
            self.soonest_ns = request.deadline_ns
        request.state = _QUEUED
        band.push(request)
        self.requests += 1
        self.rows += rows
        self.nbytes += request.nbytes

    def cancel(self, request: InferRequest) -> bool:
        """Take `request` back, if it still waits: its rows and bytes are free at once. O(1) on average."""
        if request.state is not _QUEUED:
            return False
        request.state = _DONE
        self._band_of(request).bury(request)
        self._count_out(request)
        # The tombstone may lie for a while; what it weighs must not.
        request.inputs = ()
        return True

    def expire(self, now_ns: int) -> list[InferRequest]:
        """Remove and return the requests to reject, their deadline reached; those to delay move back."""
        expired: list[InferRequest] = []
        if now_ns < self.soonest_ns:
            return expired
        for level in self._levels:
            # Those delayed just now stand in `late` by their own deadlines, which may have come as well.
            for band in (level.timely, level.late):
                while (lane := band.head()) and (request := lane.first()) and request.deadline_ns <= now_ns:
                    band.pop_first(lane, request)
                    if request in self._own_ns:
                        request.deadline_ns = self._own_ns.pop(request)
                        level.late.push(request)
                        self._late.add(request)
                    else:
                        request.state = _DONE
                        self._count_out(request)
                        expired.append(request)
        self.soonest_ns = self._find_soonest_ns()
        return expired

    @property
    def next_expiry_ns(self) -> int:
        """The earliest deadline of a request that waits; NEVER_NS if none has one."""
        if self.soonest_ns != NEVER_NS:
            self.soonest_ns = self._find_soonest_ns()
        return self.soonest_ns

    def take(self, max_rows: int) -> list[InferRequest]:
        """The next batch, of the most urgent request's bucket; empty if nothing waits. See `take_bucket`."""
        for band in self._bands:
            lane = band.head()
            if lane is not None:
                if lane.requests == self.requests and lane.rows <= max_rows:
                    return self._take_everything(band, lane)
                return self.take_bucket(lane.bucket, max_rows)
        return []

    def take_bucket(self, bucket: Hashable, max_rows: int) -> list[InferRequest]:
        """The next batch of `bucket`: requests in order, RUNNING now, while their rows fit in `max_rows`.

        A first request with more rows than that comes alone. Nobody overtakes a request that does not fit.
        """
        batch: list[InferRequest] = []
        room = max_rows
        for band in self._bands:
            lane = band.lane(bucket)
            if lane is None or not lane.requests:
                continue
            if not batch:
                room = max(room, self._first_rows(lane))
            elif (room := max_rows - sum(request.rows for request in batch)) <= 0:
                break
            if not band.take(lane, room, batch):
                break
        self._start(batch)
        return batch

    def take_all(self) -> list[InferRequest]:
        """Everything, DONE, to be answered by the caller: the queue is empty."""
        left: list[InferRequest] = []
        for band in self._bands:
            while (lane := band.head()) and (request := lane.first()):
                band.pop_first(lane, request)
                request.state = _DONE
                self._count_out(request)
                left.append(request)
        self.soonest_ns = NEVER_NS
        return left

    def buckets(self) -> list[Hashable]:
        """Every bucket in which something waits, that of the most urgent request first."""
        found: dict[Hashable, None] = {}
        for band in self._bands:
            lane = band.head()
            if lane is not None:
                found.setdefault(lane.bucket)
                found.update((other.bucket, None) for other in band.lanes() if other.bucket not in found)
        return list(found)

    def view(self, bucket: Hashable, enough_rows: int) -> BucketView:
        """`bucket` as the policy sees it: its rows, and its first requests up to `enough_rows`."""
        leading: list[InferRequest] = []
        rows = seen = 0
        for band in self._bands:
            lane = band.lane(bucket)
            if lane is not None and lane.requests:
                rows += lane.rows
                if seen < enough_rows:
                    leading += lane.leading(enough_rows - seen)
                    seen = sum(request.rows for request in leading)
        return BucketView(rows, leading)

    def _take_everything(self, band: Band, lane: Lane) -> list[InferRequest]:
        """The usual case, at no more than its cost: all that waits is in one lane and fits."""
        batch: list[InferRequest] = []
        band.take(lane, lane.rows, batch)
        for request in batch:
            request.state = _RUNNING
        self.requests = self.rows = self.nbytes = 0
        self._late.clear()
        if self._own_ns:
            self._restore_deadlines(batch)
        return batch

    def _start(self, batch: list[InferRequest]) -> None:
        rows = nbytes = 0
        for request in batch:
            request.state = _RUNNING
            rows += request.rows
            nbytes += request.nbytes
        self.requests -= len(batch)
        self.rows -= rows
        self.nbytes -= nbytes
        if self._late:
            self._late.difference_update(batch)
        if self._own_ns:
            self._restore_deadlines(batch)

    def _retime(self, request: InferRequest, level: _Level) -> None:
        """Give it the deadline that its level's policy makes of its own."""
        strict = self._plan.strict_timeouts
        # Otherwise a request's own timeout is no more than another value for its level's.
        own_ns = request.deadline_ns if strict else NEVER_NS
        request.deadline_ns = level.policy.deadline_ns(request, strict=strict)
        if level.delays and request.deadline_ns < own_ns:
            self._own_ns[request] = own_ns

    def _restore_deadlines(self, batch: list[InferRequest]) -> None:
        """The queue's timeouts are over for those that leave it."""
        for request in batch:
            request.deadline_ns = self._own_ns.pop(request, request.deadline_ns)

    def _count_out(self, request: InferRequest) -> None:
        self.requests -= 1
        self.rows -= request.rows
        self.nbytes -= request.nbytes
        self._late.discard(request)
        self._own_ns.pop(request, None)

    def _rows_ahead(self, level: _Level) -> int:
        """Rows that go before a request of `level` that comes now. O(buckets), unless there is but one band."""
        if len(self._bands) == 1:
            return self.rows
        place = self._levels.index(level)
        bands = [band for more in self._levels[:place] for band in (more.timely, more.late)]
        return sum(lane.rows for band in (*bands, level.timely) for lane in band.lanes())

    def _band_of(self, request: InferRequest) -> Band:
        priority = request.priority
        level = self._by_priority[priority if 0 <= priority < len(self._by_priority) else 0]
        return level.late if request in self._late else level.timely

    def _find_soonest_ns(self) -> int:
        soonest_ns = NEVER_NS
        for band in self._bands:
            lane = band.head()
            first = lane.first() if lane else None
            if first is not None and first.deadline_ns < soonest_ns:
                soonest_ns = first.deadline_ns
        return soonest_ns

    @staticmethod
    def _first_rows(lane: Lane) -> int:
        first = lane.first()
        return first.rows if first else 0

    def _check(self, request: InferRequest, level: _Level) -> None:
        """Raise for the first limit that `request` would break."""
        if request.rows > self._hard_rows:
            raise InvalidArgument(
                f"the request has {request.rows} rows, the model takes at most {self._hard_rows} in one run",
                hint="send fewer rows, or raise the model's max_batch_size",
                rows=request.rows,
                limit=self._hard_rows,
            )
        limits = self._plan.limits
        wait_ns = self._predict_wait_ns(self._rows_ahead(level), request.rows)
        in_level = level.timely.requests + level.late.requests
        number = self._levels.index(level) + 1
        checks = (
            (self.requests >= self._max_requests, "max_requests", limits.max_requests, self.requests),
            (self.rows + request.rows > self._max_rows, "max_rows", limits.max_rows, self.rows),
            (self.nbytes + request.nbytes > self._max_bytes, "max_bytes", limits.max_bytes, self.nbytes),
            (in_level >= level.limit, f"levels.{number}.max_requests", level.policy.max_requests, in_level),
            (wait_ns > self._max_wait_ns > 0, "max_wait", self._max_wait_ns / 1e9, wait_ns / 1e9),
        )
        for broken, key, limit, waiting in checks:
            if broken:
                raise _overloaded(f"queue.{key}", limit, waiting, wait_ns)


def _overloaded(key: str, limit: float, waiting: float, wait_ns: int) -> Overloaded:
    what = "the predicted wait is" if key == "queue.max_wait" else "it holds"
    unit = " s" if key == "queue.max_wait" else ""
    return Overloaded(
        f"the model's queue is full: {what} {waiting:g}{unit}, its limit is {key} = {limit:g}{unit}",
        hint=f"retry later, add instances, or raise {key}",
        retry_after_s=max(wait_ns / 1e9, _LEAST_RETRY_S) if wait_ns else _UNKNOWN_RETRY_S,
        limit=limit,
        key=key,
    )

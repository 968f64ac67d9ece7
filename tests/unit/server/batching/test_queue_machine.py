"""The queue against a plain list: Hypothesis invents the order of events, the invariants hold after each."""

from __future__ import annotations

import gc

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.unit.server.batching.fakes import RecordingResponder, make_request

from taxiway.core.errors import InvalidArgument, Overloaded
from taxiway.core.requests import NEVER_NS, InferRequest, RequestState
from taxiway.server.batching.plan import BatchingPlan, LevelPolicy, QueueLimits
from taxiway.server.batching.queue import RequestQueue

MAX_ROWS = 8


class QueueMachine(RuleBasedStateMachine):
    """The model: `waiting` in order of arrival, `late` the delayed ones in the order in which they became late."""

    @initialize(
        delay_first=st.booleans(),
        first_timeout=st.sampled_from([0, 5]),
        strict=st.booleans(),
        limits=st.builds(QueueLimits, st.sampled_from([0, 6]), st.sampled_from([0, 20]), st.sampled_from([0, 90])),
        level_limit=st.sampled_from([0, 3]),
    )
    def set_up(
        self, delay_first: bool, first_timeout: int, strict: bool, limits: QueueLimits, level_limit: int
    ) -> None:
        levels = (
            LevelPolicy(timeout_action="delay" if delay_first else "reject", default_timeout_ns=first_timeout),
            LevelPolicy(max_requests=level_limit),
        )
        self.limits, self.levels = limits, levels
        self.strict = strict
        self.queue = RequestQueue(
            BatchingPlan(max_rows=MAX_ROWS, levels=levels, limits=limits, default_level=2, strict_timeouts=strict)
        )
        self.own_ns: dict[InferRequest, int] = {}
        self.now_ns = 0
        self.made: list[InferRequest] = []
        self.waiting: list[InferRequest] = []
        self.late: list[InferRequest] = []
        self.gone: list[InferRequest] = []

    def level_of(self, request: InferRequest) -> int:
        return request.priority if request.priority in (1, 2) else 2

    def in_order(self) -> list[InferRequest]:
        """Level, then timely before late, then earliest deadline, then arrival."""
        timely = sorted(self.waiting, key=lambda request: request.deadline_ns)  # stable: arrival among equals
        late = sorted(self.late, key=lambda request: request.deadline_ns)
        return [
            request
            for level in (1, 2)
            for group in (timely, late)
            for request in group
            if self.level_of(request) == level
        ]

    @rule(
        rows=st.integers(1, MAX_ROWS + 1),
        bucket=st.sampled_from(["a", "b", "c"]),
        priority=st.integers(0, 3),
        allowance=st.sampled_from([None, None, 0, 3, 7, 30]),
        nbytes=st.integers(0, 30),
    )
    def push(self, rows: int, bucket: str, priority: int, allowance: int | None, nbytes: int) -> None:
        self.now_ns += 1  # between buckets, order within one nanosecond is left open
        request = make_request(
            str(len(self.made)),
            RecordingResponder(),
            rows=rows,
            bucket=bucket,
            priority=priority,
            nbytes=nbytes,
            arrived_ns=self.now_ns,
            deadline_ns=NEVER_NS if allowance is None else self.now_ns + allowance,
        )
        self.made.append(request)
        self.own_ns[request] = request.deadline_ns if self.strict else NEVER_NS
        held = self.waiting + self.late
        level = self.level_of(request)
        in_level = sum(self.level_of(other) == level for other in held)
        limits, level_limit = self.limits, self.levels[level - 1].max_requests
        fits = (
            (not limits.max_requests or len(held) < limits.max_requests)
            and (not limits.max_rows or sum(other.rows for other in held) + rows <= limits.max_rows)
            and (not limits.max_bytes or sum(other.nbytes for other in held) + nbytes <= limits.max_bytes)
            and (not level_limit or in_level < level_limit)
        )
        try:
            self.queue.push(request)
        except Overloaded:
            assert not fits
            assert request.state is RequestState.NEW
        except InvalidArgument:
            assert rows > MAX_ROWS
        else:
            assert fits
            assert rows <= MAX_ROWS
            self.waiting.append(request)

    @rule(ahead=st.integers(1, 10))
    def expire(self, ahead: int) -> None:
        self.now_ns += ahead
        due = sorted(
            (request for request in self.waiting + self.late if request.deadline_ns <= self.now_ns),
            key=lambda request: request.deadline_ns,
        )
        delayed = [
            request
            for request in due
            if self.levels[self.level_of(request) - 1].timeout_action == "delay" and self.own_ns[request] > self.now_ns
        ]
        expired = self.queue.expire(self.now_ns)
        assert {id(request) for request in expired} == {id(r) for r in due} - {id(r) for r in delayed}
        assert all(request.state is RequestState.DONE for request in expired)
        assert all(request.deadline_ns == self.own_ns[request] for request in delayed), "late once, not again"
        self._leave(expired)
        self.waiting = [request for request in self.waiting if request not in delayed]
        self.late += delayed

    @rule(max_rows=st.integers(1, MAX_ROWS), other_bucket=st.sampled_from([None, "a", "b", "c"]))
    def take(self, max_rows: int, other_bucket: str | None) -> None:
        ordered = self.in_order()
        if other_bucket is None:
            batch = self.queue.take(max_rows)
            bucket = ordered[0].bucket if ordered else None
        else:
            batch = self.queue.take_bucket(other_bucket, max_rows)
            bucket = other_bucket
        candidates = [request for request in ordered if request.bucket == bucket]
        expected, rows = candidates[:1], sum(request.rows for request in candidates[:1])
        for request in candidates[1:]:
            rows += request.rows
            if rows > max_rows:
                break
            expected.append(request)
        assert batch == expected
        assert all(request.state is RequestState.RUNNING for request in batch)
        for request in batch:
            if self.levels[self.level_of(request) - 1].timeout_action == "delay":
                assert request.deadline_ns == self.own_ns[request], "the queue's timeout is over"
        self._leave(batch)

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.made:
            request = data.draw(st.sampled_from(self.made))
            waits = request in self.waiting or request in self.late
            assert self.queue.cancel(request) is waits
            if waits:
                assert not request.inputs, "a cancelled request must not keep its inputs"
                self._leave([request])

    @rule()
    def take_all(self) -> None:
        left = self.queue.take_all()
        assert left == self.in_order() or {id(r) for r in left} == {id(r) for r in self.in_order()}
        self._leave(left)

    def _leave(self, requests: list[InferRequest]) -> None:
        self.gone += requests
        self.waiting = [request for request in self.waiting if request not in requests]
        self.late = [request for request in self.late if request not in requests]

    @invariant()
    def totals_equal_the_sum(self) -> None:
        held = self.waiting + self.late
        assert self.queue.requests == len(held)
        assert self.queue.rows == sum(request.rows for request in held)
        assert self.queue.nbytes == sum(request.nbytes for request in held)

    @invariant()
    def limits_hold(self) -> None:
        for most, used in zip(
            (self.limits.max_requests, self.limits.max_rows, self.limits.max_bytes),
            (self.queue.requests, self.queue.rows, self.queue.nbytes),
            strict=True,
        ):
            assert not most or used <= most

    @invariant()
    def nothing_is_lost_or_given_twice(self) -> None:
        assert len({id(request) for request in self.gone}) == len(self.gone)
        accepted = [request for request in self.made if request.state is not RequestState.NEW]
        assert {id(r) for r in accepted} == {id(r) for r in self.gone + self.waiting + self.late}

    @invariant()
    def the_next_expiry_is_exact(self) -> None:
        assert self.queue.next_expiry_ns == min((r.deadline_ns for r in self.waiting + self.late), default=NEVER_NS)
        assert self.queue.soonest_ns <= self.queue.next_expiry_ns

    @invariant()
    def buckets_and_views_tell_the_truth(self) -> None:
        ordered = self.in_order()
        buckets = self.queue.buckets()
        assert set(buckets) == {request.bucket for request in ordered}
        assert buckets[:1] == [request.bucket for request in ordered[:1]]
        for bucket in buckets:
            mine = [request for request in ordered if request.bucket == bucket]
            view = self.queue.view(bucket, MAX_ROWS)
            assert view.rows == sum(request.rows for request in mine)
            sums = [sum(r.rows for r in mine[: n + 1]) for n in range(len(mine))]
            assert view.sums == sums[: len(view.sums)]
            assert len(view.sums) == len(mine) or view.sums[-1] >= MAX_ROWS
            assert view.oldest_ns == min(r.arrived_ns for r in mine[: len(view.sums)])


QueueMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestQueueMachine = QueueMachine.TestCase


def test_many_cancellations_leave_no_memory_behind() -> None:
    queue = RequestQueue(BatchingPlan(max_rows=8))
    responder = RecordingResponder()
    kept = make_request("kept", responder)
    queue.push(kept)
    for number in range(5000):
        deadline_ns = NEVER_NS if number % 2 else 10**9 - number
        request = make_request(str(number), responder, deadline_ns=deadline_ns, bucket=number % 7 or None)
        queue.push(request)
        queue.cancel(request)
    gc.collect()
    alive = [thing for thing in gc.get_objects() if isinstance(thing, InferRequest) and thing.responder is responder]
    assert len(alive) < 1000
    assert queue.take(8) == [kept]

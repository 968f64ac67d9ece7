"""Single-flight under any order of events: everybody is answered once, correctly, in time, and counted once."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.unit.server.batching.fakes import MS
from tests.unit.server.cache.bench import Bench

from taxiway.core.errors import DeadlineExceeded, ModelFailed, Overloaded, TaxiwayError, Unavailable
from taxiway.core.requests import InferRequest, RequestState
from taxiway.server.batching.plan import BatchingPlan, LevelPolicy, QueueLimits
from taxiway.server.cache.store import AnswerStore
from taxiway.testing import run_virtual


class Submit(NamedTuple):
    number: int
    timeout_ms: int | None
    priority: int


class Cancel(NamedTuple):
    place: int


class Fail(NamedTuple):
    number: int
    fails: bool


class Wait(NamedTuple):
    ms: int


class Settle(NamedTuple):
    pass


class Close(NamedTuple):
    pass


Event = Submit | Cancel | Fail | Wait | Settle | Close
_submits = st.builds(Submit, st.integers(0, 2), st.none() | st.integers(1, 40), st.integers(0, 2))
_events: st.SearchStrategy[Event] = st.one_of(
    _submits,
    _submits,
    _submits,
    st.builds(Wait, st.sampled_from([0, 1, 1, 3, 5, 10, 11, 30])),
    st.builds(Cancel, st.integers(0, 30)),
    st.builds(Fail, st.integers(0, 2), st.booleans()),
)
_endings: st.SearchStrategy[list[Event]] = st.sampled_from([[], [Settle()], [Close()], [Settle(), Wait(5), Close()]])
PLANS = {
    "merging": BatchingPlan(max_rows=8),
    "one by one": BatchingPlan(max_rows=1),
    "levels": BatchingPlan(
        max_rows=1, levels=(LevelPolicy(), LevelPolicy(default_timeout_ns=20 * MS)), default_level=2
    ),
    "delaying": BatchingPlan(max_rows=1, levels=(LevelPolicy("delay", default_timeout_ns=5 * MS),)),
    "tight": BatchingPlan(max_rows=1, limits=QueueLimits(max_requests=2)),
}


class Run:
    """One script of events against a bench, and what must hold after it."""

    def __init__(self, plan: BatchingPlan, *, keeps: bool) -> None:
        self.bench = Bench(plan, store=AnswerStore(1 << 20 if keeps else 0), slots=2)
        self.plan = plan
        self.submitted: dict[str, tuple[InferRequest, Submit, int]] = {}
        self.refused: set[str] = set()
        self.cancelled: set[str] = set()
        self.settling: list[asyncio.Future[None]] = []

    async def play(self, events: list[Event]) -> None:
        for event in events:
            await self._do(event)
        await asyncio.sleep(10)

    async def _do(self, event: Event) -> None:
        if isinstance(event, Submit):
            self._submit(event)
        elif isinstance(event, Cancel) and self.submitted:
            self._cancel(event.place % len(self.submitted))
        elif isinstance(event, Fail):
            (self.bench.failing.add if event.fails else self.bench.failing.discard)(event.number)
        elif isinstance(event, Wait):
            await asyncio.sleep(event.ms / 1000)
        elif isinstance(event, Settle):
            self.settling.append(asyncio.ensure_future(self.bench.batcher.settle()))
        elif isinstance(event, Close):
            self.bench.front.close()

    def _submit(self, event: Submit) -> None:
        name = f"r{len(self.submitted)}"
        request = self.bench.make(name, event.number, timeout_ms=event.timeout_ms, priority=event.priority)
        self.submitted[name] = (request, event, self.bench.clock.monotonic_ns())
        try:
            self.bench.front.submit(request)
        except (Overloaded, Unavailable):
            self.refused.add(name)

    def _cancel(self, place: int) -> None:
        name = f"r{place}"
        if name in self.bench.callers.answers or name in self.refused | self.cancelled:
            return  # its edge would not
        self.bench.front.cancel(self.submitted[name][0])
        self.cancelled.add(name)

    def check(self) -> None:
        answers = self.bench.callers.answers
        assert answers.keys() == self.submitted.keys() - self.refused - self.cancelled, "each once, or taken back"
        for name, answer in answers.items():
            self._check_answer(name, answer)
        assert self.bench.counted() == len(self.submitted), "each is counted once"
        hits, misses = self.bench.cache()
        assert self.bench.statistics.success_count == hits + misses
        self.bench.assert_nobody_is_left()
        assert self.bench.batcher.depth() == (0, 0, 0)
        assert all(settled.done() for settled in self.settling)

    def _check_answer(self, name: str, answer: object) -> None:
        request, event, submitted_ns = self.submitted[name]
        assert request.state is RequestState.DONE
        if not isinstance(answer, TaxiwayError):
            assert self.bench.callers.number(name) == 2 * event.number, "an answer of its own bytes"
        elif isinstance(answer, DeadlineExceeded):
            due_ns = self.plan.patience_ns(self.bench.make(name, 0)) if event.timeout_ms is None else None
            default_ns = self.plan.level_of(request).default_timeout_ns
            own_ns = (event.timeout_ms or 1 << 40) * MS
            waited_ns = self.bench.callers.at_ns[name] - submitted_ns
            assert waited_ns >= min(own_ns, default_ns or own_ns), "nobody is told before its own time"
            assert due_ns is None or default_ns, "who has no timeout never gets one"
        else:
            assert isinstance(answer, ModelFailed | Unavailable | Overloaded)


@given(st.sampled_from(sorted(PLANS)), st.lists(_events, min_size=3, max_size=40), _endings, st.booleans())
@example("one by one", [Submit(0, None, 0), Wait(1), Submit(1, 3, 0), Submit(1, None, 0), Settle(), Wait(30)], [], True)
@settings(max_examples=300, deadline=None)
def test_any_order_of_events(plan: str, events: list[Event], ending: list[Event], keeps: bool) -> None:
    async def main() -> None:
        run = Run(PLANS[plan], keeps=keeps)
        await run.play(events + ending)
        run.check()

    run_virtual(main)

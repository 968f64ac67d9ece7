"""The whole Batcher in virtual time, with fakes only at its boundaries."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest
from tests.unit.server.batching.fakes import (
    MS,
    FakeExecutor,
    RecordingObserver,
    RecordingResponder,
    make_request,
)

from taxiway.core.errors import DeadlineExceeded, InvalidArgument, ModelFailed, Overloaded, Unavailable
from taxiway.core.ports import BatchOutcome
from taxiway.core.requests import BatchResult, InferRequest, RequestState
from taxiway.server.batching.loop import Batcher
from taxiway.server.batching.plan import BatchingPlan, LevelPolicy, QueueLimits
from taxiway.stats.latency import LatencyCurve
from taxiway.testing import VirtualClock, VirtualTimeLoop, run_virtual

BIG = 64


class Bench:
    """A Batcher on fakes; 10 ms a batch unless said otherwise."""

    def __init__(
        self, plan: BatchingPlan, *, slots: int = 1, inline: bool = False, expire_running: bool = False
    ) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        self.loop = loop
        self.clock = VirtualClock()
        self.executor = FakeExecutor(loop, self.clock, slots=slots, inline=inline)
        self.responder = RecordingResponder()
        self.responder.clock = self.clock
        self.observer = RecordingObserver()
        self.curve = LatencyCurve([(1, 10 * MS), (32, 12 * MS)])
        self.batcher = Batcher(
            plan,
            self.executor,
            self.clock,
            loop,
            self.curve,
            self.observer,
            expire_running=expire_running,
        )

    def make(self, name: str, *, timeout_ms: int | None = None, **given: Any) -> InferRequest:
        now_ns = self.clock.monotonic_ns()
        if timeout_ms is not None:
            given["deadline_ns"] = now_ns + timeout_ms * MS
        return make_request(name, self.responder, arrived_ns=now_ns, **given)

    def submit(self, *names: str, timeout_ms: int | None = None, **given: Any) -> list[InferRequest]:
        requests = [self.make(name, timeout_ms=timeout_ms, **given) for name in names]
        for request in requests:
            self.batcher.submit(request)
        return requests

    def error(self, name: str, kind: type[BaseException]) -> None:
        assert isinstance(self.responder.error(name), kind)


def virtual(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        run_virtual(test)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def _always(outcome: BatchOutcome, _batch: list[InferRequest]) -> BatchOutcome:
    return outcome


@virtual
async def test_one_turn_is_one_batch_and_each_gets_its_rows() -> None:
    bench = Bench(BatchingPlan(max_rows=BIG), inline=True)
    bench.submit("a", "b")
    bench.submit("c", rows=3)
    bench.submit("d")
    assert bench.executor.batches == [], "nothing runs before the turn ends"
    await asyncio.sleep(0)
    assert bench.executor.batches == [["a", "b", "c", "d"]]
    assert [bench.responder.rows(name) for name in "abcd"] == [(0, 1), (1, 2), (2, 5), (5, 6)]
    assert bench.observer.done == [(["a", "b", "c", "d"], 0)]
    assert bench.batcher.depth() == (0, 0, 0)


@virtual
async def test_what_queued_while_the_slot_was_busy_runs_together_at_once() -> None:
    bench = Bench(BatchingPlan(max_rows=BIG, merge_rows=4))
    bench.submit("first")
    for number in range(6):
        await asyncio.sleep(0.001)
        bench.submit(str(number))
    gauges = bench.batcher.gauges()
    assert (gauges.queued_requests, gauges.queued_rows, gauges.queued_bytes) == (6, 6, 48)
    assert gauges.running_batches == 1
    assert gauges.predicted_wait_ns > 10 * MS
    await bench.batcher.settle()
    assert bench.executor.batches == [["first"], ["0", "1", "2", "3"], ["4", "5"]]
    assert bench.executor.started_ns == [0, 10 * MS, 20 * MS]


@virtual
async def test_every_slot_is_used() -> None:
    bench = Bench(BatchingPlan(max_rows=2), slots=2)
    bench.submit(*"abcde")
    await bench.batcher.settle()
    assert bench.executor.batches == [["a", "b"], ["c", "d"], ["e"]]
    assert bench.executor.started_ns == [0, 0, 10 * MS]


@virtual
async def test_no_merging_when_the_model_does_not_batch_and_large_requests_run_alone() -> None:
    bench = Bench(BatchingPlan(max_rows=0), inline=True)
    bench.submit("a", "b")
    await asyncio.sleep(0)
    assert bench.executor.batches == [["a"], ["b"]]
    bench = Bench(BatchingPlan(max_rows=32, merge_rows=4), inline=True)
    bench.submit("small")
    bench.submit("large", rows=30)
    bench.submit("last")
    await asyncio.sleep(0)
    assert bench.executor.batches == [["small"], ["large"], ["last"]]
    with pytest.raises(InvalidArgument, match="33 rows"):
        bench.submit("huge", rows=33)


@virtual
async def test_buckets_are_never_mixed() -> None:
    bench = Bench(BatchingPlan(max_rows=BIG), inline=True)
    for name in ("x1", "y1", "x2", "y2"):
        bench.submit(name, bucket=name[0])
    await asyncio.sleep(0)
    assert bench.executor.batches == [["x1", "x2"], ["y1", "y2"]]


@virtual
async def test_cancelled_before_it_ran_costs_nothing() -> None:
    bench = Bench(BatchingPlan(max_rows=1))
    bench.submit("running")
    await asyncio.sleep(0.001)
    a, b = bench.submit("a", "b")
    assert bench.batcher.cancel(a)
    assert not bench.batcher.cancel(a), "only once"
    assert bench.batcher.depth() == (1, 1, 8)
    await bench.batcher.settle()
    assert bench.executor.batches == [["running"], ["b"]]
    assert "a" not in bench.responder.answers
    assert bench.observer.taken_back == ["a"]
    assert (a.state, b.state) == (RequestState.DONE, RequestState.DONE)


@virtual
async def test_cancelled_while_it_runs_is_not_answered_but_its_neighbour_is() -> None:
    bench = Bench(BatchingPlan(max_rows=8))
    a, _ = bench.submit("a", "b")
    await asyncio.sleep(0.005)
    assert not bench.batcher.cancel(a)
    await bench.batcher.settle()
    assert "a" not in bench.responder.answers
    assert bench.responder.rows("b") == (1, 2)
    assert bench.batcher.gauges().dropped_results == 1
    assert bench.observer.taken_back == bench.observer.gone == ["a"]


@virtual
async def test_expiry_is_answered_at_its_deadline_while_all_slots_are_busy() -> None:
    """D2: Triton answers a timeout of 200 ms after 890 ms."""
    bench = Bench(BatchingPlan(max_rows=1))
    bench.executor.run_ns = lambda _: 890 * MS
    bench.submit("long")
    await asyncio.sleep(0.01)
    bench.submit("slow", timeout_ms=300)
    bench.submit("late", timeout_ms=200)
    bench.submit("patient")
    await bench.batcher.settle()
    assert bench.responder.at_ns["late"] == 210 * MS
    assert bench.responder.at_ns["slow"] == 310 * MS
    bench.error("late", DeadlineExceeded)
    assert "timeout of 200 ms ran out before it started" in bench.responder.error("late").message
    assert bench.executor.batches == [["long"], ["patient"]]
    assert bench.observer.refused == [("late", "timeout"), ("slow", "timeout")]


@virtual
async def test_a_level_s_default_timeout() -> None:
    level = LevelPolicy(default_timeout_ns=50 * MS)
    bench = Bench(BatchingPlan(max_rows=1, levels=(level,)))
    bench.executor.run_ns = lambda _: 500 * MS
    bench.submit("long")
    await asyncio.sleep(0)
    bench.submit("says nothing")
    bench.submit("asks for more", timeout_ms=100)
    await bench.batcher.settle()
    assert bench.responder.at_ns["says nothing"] == bench.responder.at_ns["asks for more"] == 50 * MS


@virtual
async def test_running_requests_expire_only_if_strict() -> None:
    for strict in (False, True):
        bench = Bench(BatchingPlan(max_rows=2), expire_running=strict)
        bench.executor.run_ns = lambda _: 100 * MS
        start_ns = bench.clock.monotonic_ns()
        bench.submit("a", timeout_ms=30)
        bench.submit("b")
        await bench.batcher.settle()
        assert bench.responder.rows("b") == (1, 2)
        if strict:
            bench.error("a", DeadlineExceeded)
            assert bench.responder.at_ns["a"] == start_ns + 30 * MS
            assert bench.observer.refused == [("a", "timeout")]
        else:
            assert bench.responder.rows("a") == (0, 1)
        assert bench.batcher.gauges().dropped_results == int(strict)


@virtual
async def test_at_the_deadline_itself_it_is_over() -> None:
    bench = Bench(BatchingPlan(max_rows=1), expire_running=True)
    bench.submit("a", timeout_ms=10)
    await bench.batcher.settle()
    bench.error("a", DeadlineExceeded)


@virtual
async def test_a_long_turn_of_inline_runs_does_not_run_what_is_late_by_then() -> None:
    bench = Bench(BatchingPlan(max_rows=1), inline=True)
    bench.executor.ending = lambda _: bench.loop.advance(0.01)
    bench.submit("a", "b", timeout_ms=100)
    bench.submit("c", timeout_ms=15, priority=0)
    bench.submit("d", timeout_ms=16)
    bench.submit("e", timeout_ms=17)
    await bench.batcher.settle()
    assert bench.executor.batches == [["c"], ["d"], ["a"], ["b"]]
    bench.error("e", DeadlineExceeded)


@virtual
async def test_delayed_requests_go_behind_their_level() -> None:
    levels = (LevelPolicy(timeout_action="delay", default_timeout_ns=9 * MS), LevelPolicy())
    bench = Bench(BatchingPlan(max_rows=1, levels=levels), expire_running=True)
    bench.submit("running")
    await asyncio.sleep(0.0005)
    bench.submit("late", priority=1)
    await asyncio.sleep(0.001)
    bench.submit("low", priority=2)
    bench.submit("timely", priority=1)
    await bench.batcher.settle()
    assert bench.executor.batches == [["running"], ["timely"], ["late"], ["low"]]
    assert bench.observer.refused == []


@virtual
async def test_delayed_or_not_a_request_s_own_timeout_is_answered() -> None:
    levels = (LevelPolicy(timeout_action="delay", default_timeout_ns=5 * MS),)
    bench = Bench(BatchingPlan(max_rows=1, levels=levels))
    bench.executor.run_ns = lambda _: 100 * MS
    bench.submit("running")
    await asyncio.sleep(0.001)
    bench.submit("short", timeout_ms=3)
    bench.submit("longer", timeout_ms=20)
    bench.submit("says nothing")
    await bench.batcher.settle()
    bench.error("short", DeadlineExceeded)
    bench.error("longer", DeadlineExceeded)
    assert (bench.responder.at_ns["short"], bench.responder.at_ns["longer"]) == (4 * MS, 21 * MS)
    assert bench.executor.batches == [["running"], ["says nothing"]]


@virtual
async def test_a_level_s_timeout_that_only_delays_ends_when_the_run_starts() -> None:
    levels = (LevelPolicy(timeout_action="delay", default_timeout_ns=5 * MS),)
    bench = Bench(BatchingPlan(max_rows=2, levels=levels), expire_running=True)
    bench.executor.run_ns = lambda _: 100 * MS
    bench.submit("a", "b", timeout_ms=500)
    await bench.batcher.settle()
    assert bench.responder.rows("b") == (1, 2)


@virtual
async def test_a_turn_of_inline_runs_lets_others_have_the_loop() -> None:
    bench = Bench(BatchingPlan(max_rows=1), inline=True)
    bench.executor.ending = lambda _: bench.loop.advance(0.001)
    seen: list[int] = []
    bench.submit(*(str(number) for number in range(10)))
    bench.loop.call_soon(lambda: seen.append(len(bench.responder.answers)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert seen == [2], "two milliseconds of runs, then the next callback"
    await bench.batcher.settle()
    assert bench.responder.order == [str(number) for number in range(10)]


@virtual
async def test_the_predicted_wait_counts_what_goes_before_and_no_more() -> None:
    limits = QueueLimits(max_wait_ns=14 * MS)
    bench = Bench(BatchingPlan(max_rows=2, limits=limits, levels=(LevelPolicy(),) * 2, default_level=2))
    bench.submit("a", "b", "c")
    with pytest.raises(Overloaded):
        bench.submit("d", "e", "f")
    bench.submit("urgent", "urgent too", priority=1)
    await bench.batcher.settle()


@virtual
async def test_urgent_levels_first_then_earliest_deadline() -> None:
    bench = Bench(BatchingPlan(max_rows=1, levels=(LevelPolicy(),) * 3, default_level=2))
    bench.submit("running")
    await asyncio.sleep(0)
    bench.submit("low", priority=3)
    bench.submit("middle")
    bench.submit("middle soon", timeout_ms=900)
    bench.submit("middle sooner", timeout_ms=800, priority=2)
    bench.submit("unknown level", priority=9)
    bench.submit("high", priority=1)
    await bench.batcher.settle()
    names = [name for (name,) in bench.executor.batches[1:]]
    assert names == ["high", "middle sooner", "middle soon", "middle", "unknown level", "low"]


@virtual
async def test_a_delay_waits_exactly_so_long_for_company() -> None:
    bench = Bench(BatchingPlan(max_rows=3, max_delay_ns=5 * MS))
    bench.submit("a")
    await asyncio.sleep(0.002)
    bench.submit("b")
    await asyncio.sleep(1)
    bench.submit("c")
    await asyncio.sleep(0.001)
    bench.submit("d", "e")
    await asyncio.sleep(1)
    assert bench.executor.batches == [["a", "b"], ["c", "d", "e"]]
    assert bench.executor.started_ns == [5 * MS, 1003 * MS]


@virtual
async def test_a_full_batch_does_not_wait_behind_another_bucket() -> None:
    bench = Bench(BatchingPlan(max_rows=2, max_delay_ns=50 * MS))
    bench.submit("x", bucket="x")
    bench.submit("y1", "y2", bucket="y")
    await asyncio.sleep(1)
    assert bench.executor.batches == [["y1", "y2"], ["x"]]
    assert bench.executor.started_ns == [0, 50 * MS]


@virtual
async def test_preferred_sizes_leave_the_rest_waiting() -> None:
    bench = Bench(BatchingPlan(max_rows=8, preferred_rows=(4,), max_delay_ns=30 * MS))
    bench.submit(*"abcdef")
    await asyncio.sleep(1)
    assert bench.executor.batches == [["a", "b", "c", "d"], ["e", "f"]]
    assert bench.executor.started_ns == [0, 30 * MS]


@virtual
async def test_a_p99_objective_fills_batches_and_is_kept() -> None:
    bench = Bench(BatchingPlan(max_rows=32, objective_p99_ns=100 * MS))
    bench.executor.run_ns = lambda batch: 10 * MS + len(batch) * MS // 16
    for number in range(300):
        bench.submit(str(number))
        await asyncio.sleep(0.001)
    await bench.batcher.settle()
    waits_ms = [(bench.responder.at_ns[str(n)] - n * MS) / MS for n in range(300)]
    assert max(waits_ms) <= 100
    natural = 300 / 11  # what would run if it took whatever came during each run of 11 ms
    assert len(bench.executor.batches) < 0.7 * natural


@pytest.mark.parametrize(
    ("limits", "levels", "key", "reason"),
    [
        (QueueLimits(max_requests=2), (LevelPolicy(),), "queue.max_requests", "queue_full"),
        (QueueLimits(max_rows=2), (LevelPolicy(),), "queue.max_rows", "queue_rows_full"),
        (QueueLimits(max_bytes=20), (LevelPolicy(),), "queue.max_bytes", "queue_bytes_full"),
        (QueueLimits(max_wait_ns=14 * MS), (LevelPolicy(),), "queue.max_wait", "predicted_late"),
        (QueueLimits(), (LevelPolicy(max_requests=2),), "queue.levels.1.max_requests", "queue_full"),
    ],
)
def test_overload_is_refused_before_any_work(
    limits: QueueLimits, levels: tuple[LevelPolicy, ...], key: str, reason: str
) -> None:
    async def main() -> None:
        bench = Bench(BatchingPlan(max_rows=1, limits=limits, levels=levels))
        bench.submit("running")
        await asyncio.sleep(0.001)
        bench.submit("a") if key == "queue.max_wait" else bench.submit("a", "b")
        depth = bench.batcher.depth()
        refused = bench.make("c")
        with pytest.raises(Overloaded) as caught:
            bench.batcher.submit(refused)
        assert key in caught.value.message
        expected_s = bench.batcher.gauges().predicted_wait_ns / 1e9
        assert caught.value.retry_after_s == pytest.approx(max(expected_s, 0.05))
        assert refused.state is RequestState.NEW
        assert bench.batcher.depth() == depth
        assert bench.observer.refused == [("c", reason)]
        await bench.batcher.settle()
        assert "c" not in bench.responder.answers

    run_virtual(main)


@virtual
async def test_a_poisoned_request_fails_alone() -> None:
    bench = Bench(BatchingPlan(max_rows=8))

    def ending(batch: list[InferRequest]) -> BatchOutcome:
        parts = [
            BatchOutcome(started_ns=0, finished_ns=1, error=ValueError("bad pixel"))
            if request.id == "bad"
            else BatchOutcome(started_ns=0, finished_ns=1, result=BatchResult((), (), request.rows))
            for request in batch
        ]
        return BatchOutcome(started_ns=0, finished_ns=2, parts=parts)

    bench.executor.ending = ending
    bench.submit("a", rows=2)
    bench.submit("bad", "c")
    await bench.batcher.settle()
    assert bench.responder.rows("a") == (0, 2)
    assert bench.responder.rows("c") == (0, 1)
    bench.error("bad", ModelFailed)
    assert "ValueError: bad pixel" in bench.responder.error("bad").message


@virtual
async def test_a_failed_batch_fails_all_and_the_observer_sees_our_error() -> None:
    bench = Bench(BatchingPlan(max_rows=8))
    ours = Unavailable("the model process is gone")
    for number, error in enumerate((RuntimeError("cuda"), ours, None)):
        outcome = BatchOutcome(started_ns=0, finished_ns=1, error=error)
        bench.executor.ending = partial(_always, outcome)
        bench.submit(f"a{number}", f"b{number}")
        await asyncio.sleep(0.1)
    bench.error("a0", ModelFailed)
    assert bench.responder.error("a1") is bench.responder.error("b1") is ours
    assert bench.responder.error("b2").code == "internal"
    assert isinstance(bench.observer.outcomes[0].error, ModelFailed)


@virtual
async def test_a_responder_that_breaks_does_not_cost_the_others_their_answers() -> None:
    bench = Bench(BatchingPlan(max_rows=8))
    seen: list[dict[str, Any]] = []
    bench.loop.set_exception_handler(lambda _, context: seen.append(context))
    bench.responder.breaks_on = {"a"}
    bench.submit("a", "b")
    await bench.batcher.settle()
    assert bench.responder.rows("b") == (1, 2)
    assert [str(context["exception"]) for context in seen] == ["responder of a broke"]


@virtual
async def test_an_executor_that_breaks_its_word_strands_nobody() -> None:
    bench = Bench(BatchingPlan(max_rows=8))
    seen: list[dict[str, Any]] = []
    bench.loop.set_exception_handler(lambda _, context: seen.append(context))

    def submit(batch: list[InferRequest], done: object) -> None:
        raise OSError("no thread")

    bench.executor.submit = submit  # type: ignore[method-assign]
    bench.submit("a")
    await bench.batcher.settle()
    bench.error("a", ModelFailed)
    assert len(seen) == 1


@virtual
async def test_answers_keep_the_order_of_arrival() -> None:
    for ordered in (False, True):
        bench = Bench(BatchingPlan(max_rows=1, preserve_ordering=ordered), slots=3)
        bench.executor.run_ns = lambda batch: {"a": 30, "b": 10, "c": 20, "d": 1}[str(batch[0].id)] * MS
        bench.submit(*"abcd")
        await bench.batcher.settle()
        assert bench.responder.order == (list("abcd") if ordered else list("bdca"))


@virtual
async def test_ordered_answers_are_not_held_up_by_those_who_left() -> None:
    bench = Bench(BatchingPlan(max_rows=1, preserve_ordering=True), slots=3, expire_running=True)
    durations = {"a": 500, "b": 10, "c": 500, "d": 10}
    bench.executor.run_ns = lambda batch: durations[str(batch[0].id)] * MS
    bench.submit("a", timeout_ms=50)
    bench.submit("b")
    (c,) = bench.submit("c")
    bench.submit("d")
    await asyncio.sleep(0.1)
    assert bench.responder.order == ["a", "b"]
    bench.error("a", DeadlineExceeded)
    bench.batcher.cancel(c)
    assert bench.responder.order == ["a", "b", "d"]
    await bench.batcher.settle()
    assert bench.batcher.gauges().dropped_results == 2


@virtual
async def test_what_settles_takes_what_still_comes_waits_for_no_company_and_answers_all() -> None:
    bench = Bench(BatchingPlan(max_rows=8, max_delay_ns=10_000 * MS))
    bench.submit("a")
    await asyncio.sleep(0.001)
    settling = asyncio.create_task(bench.batcher.settle())
    await asyncio.sleep(0)
    bench.submit("b")
    assert not settling.done()
    await settling
    assert bench.clock.monotonic_ns() == 21 * MS
    assert bench.responder.rows("a") == bench.responder.rows("b") == (0, 1)
    await bench.batcher.settle()


@virtual
async def test_settling_ends_when_the_last_one_is_cancelled_or_expires() -> None:
    bench = Bench(BatchingPlan(max_rows=1))
    bench.executor.run_ns = lambda _: 5 * MS
    bench.submit("a")
    await asyncio.sleep(0)
    (b,) = bench.submit("b")
    settling = asyncio.create_task(bench.batcher.settle())
    await asyncio.sleep(0.001)
    bench.batcher.cancel(b)
    await settling
    assert bench.clock.monotonic_ns() == 5 * MS


@virtual
async def test_once_closed_it_is_kept_in_memory_by_no_deadline() -> None:
    bench = Bench(BatchingPlan(max_rows=1), expire_running=True)
    bench.submit("a", "b", timeout_ms=3_600_000)
    await bench.batcher.settle()
    bench.batcher.close()
    assert bench.responder.order == ["a", "b"]
    batcher = weakref.ref(bench.batcher)
    del bench
    gc.collect()
    assert batcher() is None


@virtual
async def test_close_rejects_what_waits_and_answers_what_runs() -> None:
    bench = Bench(BatchingPlan(max_rows=1))
    bench.submit("running")
    await asyncio.sleep(0)
    bench.submit("waiting", timeout_ms=5)
    await asyncio.sleep(0)
    bench.batcher.close()
    bench.error("waiting", Unavailable)
    assert bench.observer.refused == [("waiting", "unavailable")]
    await asyncio.sleep(1)
    assert bench.responder.rows("running") == (0, 1)
    with pytest.raises(Unavailable):
        bench.submit("more")


@virtual
async def test_a_responder_that_submits_again_gets_a_turn_of_its_own() -> None:
    bench = Bench(BatchingPlan(max_rows=8), inline=True)
    turns: list[str] = []
    resolve = bench.responder.resolve

    def resolve_and_pipeline(request: InferRequest, result: BatchResult, start: int, stop: int) -> None:
        resolve(request, result, start, stop)
        if len(turns) < 3:
            turns.append("answer")
            bench.loop.call_soon(turns.append, "others")
            bench.submit(f"next {len(turns)}")

    bench.responder.resolve = resolve_and_pipeline  # type: ignore[method-assign]
    bench.submit("first")
    await asyncio.sleep(0.001)
    assert turns[:4] == ["answer", "others", "answer", "others"]
    assert len(bench.responder.answers) == 3


@virtual
async def test_the_curve_learns_from_runs() -> None:
    bench = Bench(BatchingPlan(max_rows=8))
    bench.executor.run_ns = lambda _: 40 * MS
    for number in range(100):
        bench.submit(str(number))
        await asyncio.sleep(0.05)
    assert bench.curve.expected_ns(1) == pytest.approx(40 * MS, rel=0.05)


# --- alone -----------------------------------------------------------------------------------------------


@virtual
async def test_one_that_comes_alone_is_run_at_once_and_counted() -> None:
    bench = Bench(BatchingPlan(max_rows=BIG), inline=True)
    request = bench.make("a", rows=2)
    outcome = bench.batcher.run_alone(request)
    assert outcome is not None
    assert outcome.result is not None
    assert outcome.result.rows == 2
    assert request.state is RequestState.DONE
    assert bench.observer.done == [(["a"], 0)]
    await asyncio.sleep(1)
    assert bench.responder.answers == {}, "its outcome is the caller's to tell"


@virtual
async def test_none_is_run_alone_where_company_or_order_or_time_count() -> None:
    dear = Bench(BatchingPlan(max_rows=BIG))
    waiting = Bench(BatchingPlan(max_rows=BIG, max_delay_ns=MS), inline=True)
    ordered = Bench(BatchingPlan(max_rows=BIG, preserve_ordering=True), inline=True)
    behind = Bench(BatchingPlan(max_rows=BIG), inline=True)
    behind.submit("first")
    late = Bench(BatchingPlan(max_rows=BIG), inline=True)
    closed = Bench(BatchingPlan(max_rows=BIG), inline=True)
    closed.batcher.close()
    for bench in (dear, waiting, ordered, behind, late, closed):
        request = bench.make("a", timeout_ms=0 if bench is late else None)
        assert bench.batcher.run_alone(request) is None
        assert request.state is RequestState.NEW, "it may be submitted"
        assert bench.observer.done == []


@virtual
async def test_what_fails_alone_is_named_and_counted() -> None:
    bench = Bench(BatchingPlan(max_rows=BIG), inline=True)
    bench.executor.ending = partial(_always, BatchOutcome(started_ns=0, finished_ns=1, error=ValueError("odd")))
    outcome = bench.batcher.run_alone(bench.make("a"))
    assert outcome is not None
    assert isinstance(outcome.error, ModelFailed)
    assert bench.observer.outcomes == [outcome]

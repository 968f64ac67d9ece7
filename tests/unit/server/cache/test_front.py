"""What the cache's front does, one case at a time, in virtual time."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable

import numpy as np
import pytest
from tests.unit.server.batching.fakes import MS
from tests.unit.server.batching.test_batcher import virtual
from tests.unit.server.cache.bench import MAX_INPUT_BYTES, Bench

from taxiway.core.errors import DeadlineExceeded, InvalidArgument, ModelFailed, Overloaded, Unavailable
from taxiway.core.requests import BatchResult, InferRequest, RequestState, SequenceStep
from taxiway.server.batching.plan import BatchingPlan, LevelPolicy, QueueLimits
from taxiway.server.cache.store import AnswerStore, weigh
from taxiway.telemetry.catalogue import CACHE_JOINED
from taxiway.telemetry.render import Point


async def _pass(ms: float) -> None:
    await asyncio.sleep(ms / 1000)


@virtual
async def test_what_is_known_is_answered_at_once_and_not_run() -> None:
    bench = Bench()
    bench.submit("first", 3)
    await _pass(11)
    bench.submit("again", 3)
    assert bench.callers.number("again") == 6, "answered before submit returned"
    assert bench.ran == [3]
    assert bench.cache() == (1, 1)
    told = bench.statistics.to_json()
    assert told["inference_count"] == told["execution_count"] == 1, "hits are no inferences"
    assert told["inference_stats"]["success"]["count"] == told["inference_stats"]["queue"]["count"] == 2
    assert told["inference_stats"]["compute_infer"]["count"] == 1


@virtual
async def test_what_is_answered_from_the_cache_is_in_use() -> None:
    bench = Bench()
    bench.submit("first", 3)
    await _pass(500)
    bench.submit("again", 3)
    assert bench.ran == [3]
    assert bench.statistics.last_ns == bench.clock.monotonic_ns()


@virtual
async def test_a_closed_version_is_kept_in_memory_by_no_deadline() -> None:
    bench = Bench()
    bench.submit("a", 3, timeout_ms=3_600_000)
    await _pass(11)
    assert bench.callers.number("a") == 6
    bench.front.close()
    front = weakref.ref(bench.front)
    del bench
    gc.collect()
    assert front() is None


@virtual
async def test_another_number_or_rows_of_one_batch_share_nothing() -> None:
    bench = Bench()
    for name, number in (("a", 1), ("b", 2), ("c", 3)):
        bench.submit(name, number)
    await _pass(11)
    assert bench.executor.batches == [["a", "b", "c"]]
    for name, number in (("x", 3), ("y", 1), ("z", 2)):
        bench.submit(name, number)
    assert [bench.callers.number(name) for name in "abcxyz"] == [2, 4, 6, 6, 2, 4]
    assert all(entry.result.arrays[0].base is None for entry in bench.store._entries.values()), "the batch is not held"


@virtual
async def test_equal_requests_in_flight_run_once_and_all_are_answered() -> None:
    bench = Bench()
    for name in "abcde":
        bench.submit(name, 7)
    await _pass(5)
    bench.submit("late", 7)
    await _pass(6)
    assert bench.ran == [7]
    assert [bench.callers.number(name) for name in ["a", "b", "c", "d", "e", "late"]] == [14] * 6
    assert bench.cache() == (5, 1)
    assert Point(CACHE_JOINED, ("m", "1"), 5) in list(bench.statistics.points())
    assert bench.counted() == 6
    bench.assert_nobody_is_left()


@virtual
async def test_the_first_caller_leaves_queued_or_running_and_the_others_are_answered() -> None:
    bench = Bench()
    for pause_ms in (0, 5):
        first = bench.submit(f"first{pause_ms}", pause_ms)
        bench.submit(f"second{pause_ms}", pause_ms)
        await _pass(pause_ms)
        assert bench.front.cancel(first), "others want its run"
        assert not bench.front.cancel(first)
        await _pass(11)
        assert bench.callers.number(f"second{pause_ms}") == 2 * pause_ms
    assert bench.ran == [0, 5], "each ran once all the same"
    assert bench.callers.answers.keys() == {"second0", "second5"}
    assert bench.counted() == 4


@virtual
async def test_the_last_caller_takes_a_queued_run_with_it() -> None:
    bench = Bench()
    bench.submit("busy", 1)
    await _pass(1)
    callers = [bench.submit(name, 2) for name in "ab"]
    assert [bench.front.cancel(caller) for caller in callers] == [True, True]
    await _pass(30)
    assert bench.ran == [1]
    assert bench.counted() == 3
    bench.submit("again", 2)
    await _pass(11)
    assert bench.callers.number("again") == 4


@virtual
async def test_a_cancelled_run_that_goes_on_gives_nobody_its_answer() -> None:
    bench = Bench()
    only = bench.submit("only", 1)
    await _pass(5)
    assert not bench.front.cancel(only)
    bench.submit("next", 1)
    await _pass(30)
    assert bench.ran == [1, 1]
    assert bench.callers.answers.keys() == {"next"}
    assert bench.counted() == 2


@virtual
async def test_a_leaders_timeout_in_the_queue_does_not_fail_who_has_more_time() -> None:
    bench = Bench()
    bench.submit("busy", 1)
    await _pass(1)
    bench.submit("leader", 2, timeout_ms=3)
    bench.submit("patient", 2, timeout_ms=500)
    bench.submit("timeless", 2)
    bench.submit("hasty", 2, timeout_ms=2)
    await _pass(50)
    assert isinstance(bench.callers.error("leader"), DeadlineExceeded)
    assert (bench.callers.at_ns["hasty"], bench.callers.at_ns["leader"]) == (3 * MS, 4 * MS), "each at its own time"
    assert bench.callers.number("patient") == bench.callers.number("timeless") == 4
    assert bench.ran == [1, 2]
    assert bench.counted() == 5


@virtual
async def test_a_leaders_timeout_while_it_runs_leaves_the_run_to_the_others() -> None:
    bench = Bench()
    bench.submit("leader", 2, timeout_ms=3)
    bench.submit("patient", 2)
    await _pass(50)
    error = bench.callers.error("leader")
    assert isinstance(error, DeadlineExceeded)
    assert "while it ran" in error.message
    assert bench.callers.at_ns == {"leader": 3 * MS, "patient": 10 * MS}
    assert bench.ran == [2]


@virtual
async def test_each_is_late_at_its_own_time_while_the_run_goes_on() -> None:
    bench = Bench()
    bench.submit("leader", 2)
    for timeout_ms in (5, 3, 7):
        bench.submit(f"late{timeout_ms}", 2, timeout_ms=timeout_ms)
    await _pass(50)
    assert bench.callers.at_ns == {"leader": 10 * MS, "late3": 3 * MS, "late5": 5 * MS, "late7": 7 * MS}


@virtual
async def test_where_what_runs_is_not_expired_a_late_caller_is_answered() -> None:
    level = LevelPolicy(default_timeout_ns=3 * MS, allow_timeout_override=True)
    bench = Bench(BatchingPlan(max_rows=8, levels=(level,), strict_timeouts=False), expire_running=False)
    bench.submit("runs", 2)
    await _pass(1)
    bench.submit("queued", 3)
    bench.submit("hasty", 3, timeout_ms=1)
    await _pass(50)
    assert bench.callers.number("runs") == 4
    assert bench.callers.at_ns["hasty"] == 2 * MS
    assert isinstance(bench.callers.error("queued"), DeadlineExceeded)


@virtual
async def test_where_late_ones_are_delayed_they_are_answered() -> None:
    level = LevelPolicy("delay", default_timeout_ns=3 * MS)
    bench = Bench(BatchingPlan(max_rows=1, levels=(level,)))
    bench.submit("busy", 1)
    await _pass(1)
    bench.submit("first", 2)
    bench.submit("joined", 2)
    bench.submit("hasty", 2, timeout_ms=2)
    await _pass(50)
    assert [bench.callers.number(name) for name in ("first", "joined", "hasty")] == [4, 4, 4]


@virtual
async def test_an_error_is_told_to_all_and_never_kept() -> None:
    bench = Bench()
    bench.failing.add(9)
    for name in "abc":
        bench.submit(name, 9)
    await _pass(11)
    assert all(isinstance(bench.callers.error(name), ModelFailed) for name in "abc")
    assert bench.counted() == bench.statistics.failure_count == 3
    assert not len(bench.store)
    bench.failing.clear()
    bench.submit("again", 9)
    await _pass(11)
    assert bench.callers.number("again") == 18


@virtual
async def test_one_responder_that_breaks_does_not_cost_the_others() -> None:
    bench = Bench()
    problems: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context["exception"]))
    bench.callers.breaks_on = {"a", "hit"}
    bench.submit("a", 1)
    bench.submit("b", 1)
    await _pass(11)
    bench.submit("hit", 1)
    assert bench.callers.number("b") == 2
    assert len(problems) == 2


@virtual
async def test_a_full_queue_refuses_and_is_counted() -> None:
    bench = Bench(BatchingPlan(max_rows=1, limits=QueueLimits(max_requests=2)))
    bench.submit("busy", 0)
    await _pass(1)
    for number in (1, 2):
        bench.submit(f"queued{number}", number)
    with pytest.raises(Overloaded):
        bench.submit("over", 3)
    for number in (1, 2):
        bench.submit(f"joined{number}", number)
    with pytest.raises(Overloaded, match=r"queue\.max_requests"):
        bench.submit("too-many-joined", 1)
    await _pass(50)
    assert [bench.callers.number(f"joined{number}") for number in (1, 2)] == [2, 4]
    assert bench.counted() == 7
    bench.assert_nobody_is_left()


@virtual
async def test_too_many_rows_are_refused_as_without_a_cache() -> None:
    bench = Bench(BatchingPlan(max_rows=1))
    request = bench.make("large", 1)
    request.rows = 2
    with pytest.raises(InvalidArgument):
        bench.front.submit(request)
    bench.assert_nobody_is_left()


@virtual
async def test_a_large_request_is_run_and_not_looked_up() -> None:
    bench = Bench()
    for name in "ab":
        bench.submit(name, 1, nbytes=MAX_INPUT_BYTES + 1)
    await _pass(11)
    assert bench.ran == [1, 1]
    assert bench.cache() == (0, 0)
    assert not len(bench.store)
    assert bench.counted() == 2


@virtual
async def test_a_more_urgent_caller_lifts_the_run() -> None:
    bench = Bench(BatchingPlan(max_rows=1, levels=(LevelPolicy(), LevelPolicy()), default_level=2))
    bench.submit("busy", 0)
    await _pass(1)
    bench.submit("other", 1)
    bench.submit("slow", 2)
    bench.submit("urgent", 2, priority=1)
    await _pass(50)
    assert bench.ran == [0, 2, 1]
    assert bench.callers.at_ns["slow"] == bench.callers.at_ns["urgent"] == 20 * MS
    assert bench.counted() == 4


@virtual
async def test_a_draining_version_answers_all_it_has_taken_even_by_another_run() -> None:
    bench = Bench()
    bench.submit("busy", 1)
    await _pass(1)
    bench.submit("leader", 2, timeout_ms=3)
    bench.submit("joined", 2)
    settled = asyncio.ensure_future(bench.batcher.settle())
    await _pass(1)
    bench.submit("new", 3)
    await settled
    assert isinstance(bench.callers.error("leader"), DeadlineExceeded)
    assert bench.callers.number("joined") == 4, "settled means answered"
    assert bench.callers.number("new") == 6, "also what was on its way"
    assert bench.counted() == 4


@virtual
async def test_a_closed_version_refuses_what_waits_and_forgets_its_answers() -> None:
    store = AnswerStore(1 << 20)
    bench, other = Bench(store=store), Bench(store=store)
    for one in (bench, other):
        one.submit("known", 5)
    await _pass(11)
    for one in (bench, other):
        one.submit("runs", 1)
        one.submit("runs-too", 1)
    await _pass(1)
    bench.submit("waits", 2)
    bench.submit("waits-too", 2)
    bench.front.close()
    assert all(isinstance(bench.callers.error(name), Unavailable) for name in ("waits", "waits-too"))
    with pytest.raises(Unavailable):
        bench.submit("known-before", 5)
    await _pass(11)
    assert bench.callers.number("runs") == bench.callers.number("runs-too") == 2, "what runs is still answered"
    assert len(store) == 2, "and not kept: what is left is the other's"
    other.submit("again", 5)
    assert other.callers.number("again") == 10
    assert bench.counted() == 6


@virtual
async def test_two_loads_never_share_an_answer() -> None:
    store = AnswerStore(1 << 20)
    one, other = Bench(store=store), Bench(store=store)
    one.submit("a", 5)
    await _pass(11)
    other.submit("b", 5)
    await _pass(11)
    assert other.ran == [5]


@virtual
async def test_who_has_more_time_is_refused_where_no_other_run_finds_room() -> None:
    levels = (LevelPolicy(), LevelPolicy(max_requests=1))
    bench = Bench(BatchingPlan(max_rows=1, levels=levels))
    bench.submit("busy", 0)
    await _pass(1)
    bench.submit("leader", 2, timeout_ms=3)
    bench.submit("patient", 2, priority=2)
    bench.submit("fills", 1, priority=2)
    await _pass(50)
    assert isinstance(bench.callers.error("leader"), DeadlineExceeded)
    assert isinstance(bench.callers.error("patient"), Overloaded)
    assert bench.callers.number("fills") == 2
    assert bench.counted() == 4
    bench.assert_nobody_is_left()


@virtual
async def test_what_an_edge_converts_is_weighed_at_the_miss_and_at_a_hit() -> None:
    bench = Bench()
    bench.callers.prints = {0}
    bench.submit("miss", 5)
    await _pass(11)
    (entry,) = bench.store._entries.values()
    assert bench.store.bytes == weigh(entry.result) > weigh(BatchResult(["y"], entry.result.arrays, 1))
    bench.callers.prints = {1}
    bench.submit("hit", 5)
    assert entry.result.printed.keys() == {0, 1}
    assert bench.store.bytes == weigh(entry.result)


@virtual
async def test_an_answer_larger_than_the_store_is_given_and_not_kept() -> None:
    bench = Bench(store=AnswerStore(1))
    bench.submit("a", 5)
    bench.submit("b", 5)
    await _pass(11)
    assert bench.callers.number("a") == bench.callers.number("b") == 10
    assert (len(bench.store), bench.store.bytes, bench.store.oversized) == (0, 0, 1)


# --- runs that are no batcher's: of an ensemble, which may answer at once, and whose steps have deadlines of their own


class Runs:
    """Has each run end as `ends` says, before `submit` returns."""

    def __init__(self, ends: Callable[[InferRequest], None]) -> None:
        self.came: list[InferRequest] = []
        self._ends = ends

    def submit(self, request: InferRequest) -> None:
        self.came.append(request)
        request.state = RequestState.DONE
        self._ends(request)

    readmit = submit

    def cancel(self, request: InferRequest) -> bool:
        raise AssertionError("it is over")

    def close(self) -> None:
        """Nothing is taken any more."""


def _with(ends: Callable[[InferRequest], None]) -> tuple[Bench, Runs]:
    bench, runs = Bench(), Runs(ends)
    bench.front._batcher = runs
    return bench, runs


@virtual
async def test_a_run_may_be_answered_before_it_is_taken() -> None:
    result = BatchResult(["y"], [np.array([[6]])], 1)
    bench, runs = _with(lambda run: run.responder.resolve(run, result, 0, 1))
    for name in ("first", "again"):
        bench.submit(name, 3)
        assert bench.callers.number(name) == 6
    assert len(runs.came) == 1
    assert bench.cache() == (1, 1)
    bench.assert_nobody_is_left()


@virtual
async def test_a_run_that_is_late_by_its_own_rules_is_not_made_again() -> None:
    bench, runs = _with(lambda run: run.responder.reject(run, DeadlineExceeded("step 1 waited too long")))
    bench.submit("patient", 3)
    assert isinstance(bench.callers.answers["patient"], DeadlineExceeded)
    assert len(runs.came) == 1
    assert bench.statistics.failure_count == 1
    bench.assert_nobody_is_left()


@virtual
async def test_a_refused_request_is_as_it_was() -> None:
    def refuse(_: InferRequest) -> None:
        raise Overloaded("full", key="queue.max_requests")

    bench, _ = _with(refuse)
    request = bench.make("a", 3, timeout_ms=50)
    before = request.state, request.deadline_ns
    with pytest.raises(Overloaded):
        bench.front.submit(request)
    assert (request.state, request.deadline_ns) == before
    bench.assert_nobody_is_left()
    await _pass(60)
    assert not bench.callers.answers


@virtual
async def test_steps_of_sequences_are_run_as_they_are_and_not_kept() -> None:
    result = BatchResult(["y"], [np.array([[6]])], 1)
    bench, runs = _with(lambda run: run.responder.resolve(run, result, 0, 1))
    for name in ("first", "second"):
        request = bench.make(name, 3)
        request.sequence, request.timeout_ns = SequenceStep(7), 5
        bench.front.submit(request)
    assert [(run.sequence, run.timeout_ns) for run in runs.came] == [(SequenceStep(7), 5)] * 2
    assert bench.cache() == (0, 0)

"""The front of a stateful version in virtual time, with fakes only at its boundaries."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import cast

import numpy as np
import pytest
from tests.unit.server.batching.fakes import MS, Done, RecordingResponder
from tests.unit.server.batching.test_batcher import virtual
from tests.unit.server.sequencing.bench import Bench

from taxiway.config.sequence_spec import DirectStrategy, OldestStrategy
from taxiway.core.errors import (
    DeadlineExceeded,
    InvalidArgument,
    ModelFailed,
    ModelProcessDied,
    Overloaded,
    TaxiwayError,
    Unavailable,
)
from taxiway.core.ports import BatchOutcome
from taxiway.core.requests import NO_MORE, BatchResult, InferRequest, StreamResponder
from taxiway.server.batching.plan import QueueLimits
from taxiway.server.batching.streaming import StreamFront
from taxiway.server.statistics import ModelStatistics


async def _pass(ms: float) -> None:
    await asyncio.sleep(ms / 1000)


@virtual
async def test_steps_of_one_turn_run_together_and_states_are_kept() -> None:
    bench = Bench()
    for name in "ab":
        bench.send(1, name, "S")
        bench.send(2, name)
        bench.send(4, name, "E")
    await _pass(31)
    assert bench.executor.runs == [[1, 1], [2, 2], [4, 4]]
    assert [bench.sum(name) for name in ("aS1", "a2", "aE4", "bE4")] == [1, 3, 7, 7]
    assert [batch for batch, _ in bench.observer.done] == [["aS1", "bS1"], ["a2", "b2"], ["aE4", "bE4"]]
    assert bench.front.counts().placed == 0


@virtual
async def test_a_row_without_a_step_is_padded_and_not_counted() -> None:
    bench = Bench()
    bench.send(1, "a", "S")
    bench.send(1, "b", "S")
    await _pass(11)
    bench.send(5, "b")
    await _pass(11)
    assert bench.executor.runs[-1] == [-1, 5]
    assert bench.sum("b5") == 6
    outcome = bench.observer.outcomes[-1]
    assert outcome.result is not None
    assert outcome.result.rows == 1


@virtual
async def test_inline_runs_keep_the_order_of_answers() -> None:
    bench = Bench(inline=True)
    for number in range(20, 60):
        bench.send(number, "a", "S" if number == 20 else "")
    await _pass(1)
    assert bench.responder.order == ["aS20", *(f"a{number}" for number in range(21, 60))]
    assert bench.sum("a59") == sum(range(20, 60))


@virtual
async def test_a_run_that_fails_fails_all_its_steps_and_changes_no_state() -> None:
    bench = Bench()
    bench.send(1, "a", "S")
    bench.send(1, "b", "S")
    await _pass(11)
    bench.send(13, "a")
    bench.send(5, "b")
    await _pass(11)
    assert isinstance(bench.responder.error("a13"), ModelFailed)
    assert isinstance(bench.responder.error("b5"), ModelFailed)
    bench.send(2, "a", "E")
    bench.send(6, "b", "E")
    await _pass(11)
    assert (bench.sum("aE2"), bench.sum("bE6")) == (3, 7)


@virtual
async def test_a_row_that_fails_by_itself_fails_alone() -> None:
    bench = Bench()
    bench.executor.by_row = True
    bench.send(1, "a", "S")
    bench.send(1, "b", "S")
    bench.send(13, "a")
    bench.send(5, "b")
    bench.send(2, "a")
    await _pass(31)
    assert isinstance(bench.responder.error("a13"), ModelFailed)
    assert (bench.sum("b5"), bench.sum("a2")) == (6, 3)


@virtual
async def test_a_cancelled_step_is_left_out_and_the_sequence_goes_on() -> None:
    bench = Bench()
    bench.send(1, "a", "S")
    queued = bench.send(10, "a")
    await _pass(1)
    assert bench.front.cancel(queued)
    assert not bench.front.cancel(queued)
    running = bench.send(100, "a")
    bench.send(1000, "a", "E")
    await _pass(12)
    assert not bench.front.cancel(running), "it runs: its state stays"
    await _pass(30)
    assert bench.sum("aE1000") == 1101
    assert bench.observer.taken_back == ["a10", "a100"]
    assert bench.observer.gone == ["a100"]
    assert len(bench.executor.abandoned) == 1
    assert "a100" not in bench.responder.answers


@virtual
async def test_deadlines_before_and_while_a_step_runs() -> None:
    bench = Bench(OldestStrategy())
    bench.send(1, "a", "S")
    bench.send(10, "a", timeout_ms=5)
    bench.send(100, "a", timeout_ms=15)
    bench.send(1000, "a", "E")
    await _pass(31)
    assert bench.responder.at_ns["a10"] == 5 * MS
    assert bench.responder.at_ns["a100"] == 15 * MS
    assert isinstance(bench.responder.error("a10"), DeadlineExceeded)
    assert "while it ran" in bench.responder.error("a100").message
    assert bench.sum("aE1000") == 1101, "a step that was begun counts, whoever waits for it"
    assert bench.observer.refused == [("a10", "timeout"), ("a100", "timeout")]


@virtual
async def test_a_deadline_in_the_backlog() -> None:
    bench = Bench(rows=1)
    bench.send(1, "a", "S")
    bench.send(1, "b", "S", timeout_ms=50)
    bench.send(2, "b")
    await _pass(51)
    for name in ("bS1", "b2"):
        assert bench.responder.error(name).message == "timeout of the corresponding sequence has been expired"
        assert bench.responder.at_ns[name] == 50 * MS


@virtual
async def test_idle_sequences_make_room_by_themselves() -> None:
    bench = Bench(rows=1)
    bench.send(1, "a", "S")
    bench.send(7, "b", "S")
    await _pass(1009)
    assert "bS7" not in bench.responder.answers
    await _pass(12)
    assert bench.sum("bS7") == 7
    with pytest.raises(InvalidArgument, match="START flag"):
        bench.send(1, "a")


@virtual
async def test_waiting_for_rows_and_settling() -> None:
    bench = Bench(DirectStrategy(100 * MS, 1.0))
    bench.send(1, "a", "S")
    await _pass(99)
    assert bench.executor.runs == []
    await _pass(12)
    assert bench.sum("aS1") == 1
    bench.send(2, "a")
    await bench.front.settle()
    assert bench.sum("a2") == 3
    assert bench.responder.at_ns["a2"] < 130 * MS, "nothing waits for company any more"


@virtual
async def test_winding_down_lets_sequences_end() -> None:
    bench = Bench()
    bench.send(1, "a", "S")
    await _pass(20)
    ending = asyncio.ensure_future(bench.front.wind_down())
    await _pass(20)
    with pytest.raises(Unavailable, match="stopped accepting"):
        bench.send(1, "b", "S")
    bench.send(2, "a", "E")
    await asyncio.wait_for(ending, 0.1)
    assert bench.sum("aE2") == 3
    assert bench.observer.refused == [("bS1", "unavailable")]
    await asyncio.wait_for(bench.front.wind_down(), 0.1)


@virtual
async def test_closing_rejects_what_waits_and_answers_what_runs() -> None:
    bench = Bench(rows=1)
    for name in "ab":
        bench.send(1, name, "S")
        bench.send(2, name)
    await _pass(1)
    bench.front.close()
    for name in ("a2", "bS1", "b2"):
        assert isinstance(bench.responder.error(name), Unavailable)
    with pytest.raises(Unavailable):
        bench.send(1, "c", "S")
    await _pass(20)
    assert bench.sum("aS1") == 1
    assert bench.front.running() == 0
    assert bench.front.depth() == (0, 0, 0)


@virtual
async def test_a_closed_version_is_kept_in_memory_by_no_timer() -> None:
    bench = Bench()
    bench.send(1, "a", "S")
    await _pass(20)
    bench.front.close()
    front = weakref.ref(bench.front)
    del bench
    gc.collect()
    assert front() is None


@virtual
async def test_what_is_no_step_is_refused() -> None:
    bench = Bench(limits=QueueLimits(max_requests=1))
    nobody = bench.make(1)
    nobody.sequence = None
    with pytest.raises(InvalidArgument, match="non-zero or non-empty correlation ID"):
        bench.front.submit(nobody)
    with pytest.raises(InvalidArgument, match="batch-size 1"):
        bench.send(1, "a", "S", rows=2)
    bench.send(1, "a", "S")
    with pytest.raises(Overloaded):
        bench.send(1, "b", "S")
    assert bench.observer.refused == [("bS1", "queue_full")]


@virtual
async def test_a_lost_instance_takes_its_sequences_with_it() -> None:
    bench = Bench(instances=2, rows=1)
    for name in "ab":
        bench.send(1, name, "S")
    await _pass(1)
    bench.send(2, "a")
    bench.send(2, "b")
    bench.executor.lost(0)
    assert isinstance(bench.responder.error("a2"), ModelProcessDied)
    await _pass(30)
    assert bench.sum("b2") == 3
    with pytest.raises(InvalidArgument):
        bench.send(3, "a")
    bench.send(5, "a", "SE")
    await _pass(11)
    assert bench.sum("aSE5") == 5


@virtual
async def test_an_executor_that_raises_strands_nobody() -> None:
    bench = Bench()

    def broken(*_: object) -> None:
        raise RuntimeError("broken")

    bench.loop.set_exception_handler(lambda *_: None)
    bench.executor.submit_to = broken  # type: ignore[method-assign, assignment]
    bench.send(1, "a", "S")
    await _pass(1)
    assert "broken" in bench.responder.error("aS1").message


@virtual
async def test_a_responder_that_raises_costs_its_neighbours_nothing() -> None:
    bench = Bench()
    bench.loop.set_exception_handler(lambda *_: None)
    bench.responder.breaks_on = {"aS1"}
    bench.send(1, "a", "S")
    bench.send(2, "b", "S")
    bench.send(3, "a", "E")
    await _pass(21)
    assert (bench.sum("bS2"), bench.sum("aE3")) == (2, 4)


class _Listener(RecordingResponder):
    """Notes every part, too."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[tuple[str, BatchResult | TaxiwayError]] = []

    def part(self, request: InferRequest, answer: BatchResult | TaxiwayError) -> None:
        self.parts.append((str(request.id), answer))


@virtual
async def test_a_decoupled_model_answers_its_steps_in_parts() -> None:
    bench = Bench(OldestStrategy(4), rows=4, merged_rows=1)
    statistics = ModelStatistics("m", "1", bench.clock)
    front = StreamFront(bench.front, ["SUM"], statistics, bench.clock)
    listener = _Listener()
    executed: list[str] = []

    def submit_to(_: int, batch: list[InferRequest], done: Done) -> None:
        (row,) = batch
        executed.append(str(row.id))
        for number in range(2):
            answer = BatchResult(("SUM",), (np.array([[number]], np.float32),), 1)
            cast("StreamResponder", row.responder).part(row, answer)
        now_ns = bench.clock.monotonic_ns()
        done(batch, BatchOutcome(started_ns=now_ns, finished_ns=now_ns, result=NO_MORE))

    bench.executor.submit_to = submit_to  # type: ignore[method-assign, assignment]
    bench.tensors._state_outputs = ()  # such a model keeps its own state
    for sequence in "ab":
        request = bench.make(1, sequence, "S")
        request.responder = listener
        front.submit(request)
    await _pass(5)
    assert executed == ["aS1", "bS1"], "one by one: a run of a decoupled model is one request"
    assert [name for name, _ in listener.parts] == ["aS1", "aS1", "bS1", "bS1"]
    assert [listener.answers[name] for name in ("aS1", "bS1")] == [(NO_MORE, 0, 1), (NO_MORE, 0, 1)]

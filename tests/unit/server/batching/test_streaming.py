"""What stands before the batcher of a decoupled model: placing outputs, counting answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.core.errors import ModelFailed, Overloaded, TaxiwayError
from taxiway.core.ports import BatchOutcome
from taxiway.core.requests import NO_MORE, BatchResult, InferRequest
from taxiway.server.batching.streaming import Answering, StreamAccounts, StreamCurve, StreamFront
from taxiway.server.responses import MAX_COUNTED, AnswerKind, ResponseCounts
from taxiway.server.statistics import ModelStatistics


class Told:
    """A stream's responder that remembers."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def part(self, _request: InferRequest, answer: BatchResult | TaxiwayError) -> None:
        self.heard.append(answer)

    def resolve(self, _request: InferRequest, result: BatchResult, start: int, stop: int) -> None:
        self.heard.append((result, start, stop))

    def reject(self, _request: InferRequest, error: TaxiwayError) -> None:
        self.heard.append(error)


class Clock:
    """Stands still until a test moves it."""

    now_ns = 1000

    def monotonic_ns(self) -> int:
        return self.now_ns

    def now_utc(self) -> Any:
        raise AssertionError


class Queue:
    """Takes requests, or refuses them, as a batcher does."""

    def __init__(self, refusal: TaxiwayError | None = None) -> None:
        self._refusal = refusal

    def submit(self, _request: InferRequest) -> None:
        if self._refusal is not None:
            raise self._refusal

    def cancel(self, _request: InferRequest) -> bool:
        return True

    def close(self) -> None:
        """Nothing waits."""


class Counted:
    """An observer that remembers the batches it was told of."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, int]] = []
        self.rejected: Callable[..., None] = lambda *_: None
        self.cancelled: Callable[..., None] = lambda *_: None

    def batch_done(self, batch: list[InferRequest], outcome: BatchOutcome, _ns: int, _gone: Any) -> None:
        assert outcome.result is not None
        self.batches.append((len(batch), outcome.result.rows))


CLOCK = Clock()
ARRAY = np.array([1])


def _front(refusal: TaxiwayError | None = None) -> tuple[StreamFront, ModelStatistics]:
    statistics = ModelStatistics("m", "1", CLOCK)
    return StreamFront(Queue(refusal), ["a", "b"], statistics, CLOCK), statistics


def _answer(*names: str, rows: int = 1) -> BatchResult:
    return BatchResult(names, [ARRAY] * len(names), rows)


@pytest.mark.parametrize(
    ("names", "has"), [(("a", "b"), [True, True]), (("b", "a"), [True, True]), (("b",), [False, True])]
)
def test_arrays_stand_where_the_model_s_outputs_stand(names: tuple[str, ...], has: list[bool]) -> None:
    front, _ = _front()
    placed = front.placed(_answer(*names, rows=3))
    assert (tuple(placed.names), [array is not None for array in placed.arrays], placed.rows) == (("a", "b"), has, 3)


def test_an_output_that_the_model_does_not_have_is_its_failure() -> None:
    front, statistics = _front()
    statistics.count_responses()
    told = Told()
    request = InferRequest([], 1, told, 0)
    front.submit(request)
    answering: Any = request.responder
    answering.part(request, _answer("c"))
    answering.resolve(request, _answer("a", "d"), 0, 1)
    assert [type(one) for one in told.heard] == [ModelFailed, ModelFailed]
    assert "'c'" in told.heard[0].message


def test_of_a_result_that_others_share_a_request_gets_its_rows() -> None:
    front, _ = _front()
    told = Told()
    request = InferRequest([], 1, told, 0)
    front.submit(request)
    answering: Any = request.responder
    rows = np.arange(6).reshape(3, 2)
    answering.resolve(request, BatchResult(("b",), [rows], 3), 1, 2)
    ((result, start, stop),) = told.heard
    assert (start, stop, result.arrays[0], result.arrays[1].tolist()) == (0, 1, None, [[2, 3]])


def test_what_is_refused_is_the_caller_s_as_it_was() -> None:
    front, _ = _front(Overloaded("full"))
    told = Told()
    request = InferRequest([], 1, told, 0)
    with pytest.raises(Overloaded):
        front.submit(request)
    assert request.responder is told


def test_each_answer_takes_from_the_one_before_it() -> None:
    front, statistics = _front()
    observer = Counted()
    accounts = StreamAccounts(observer, statistics)
    told = Told()
    request = InferRequest([], 2, told, 900)
    front.submit(request)
    answering: Any = request.responder
    for at_ns, answer in ((1100, _answer("a", "b")), (1150, ModelFailed("no"))):
        CLOCK.now_ns = at_ns
        answering.part(request, answer)
    CLOCK.now_ns = 1400
    answering.resolve(request, NO_MORE, 0, 2)
    accounts.batch_done([request], BatchOutcome(started_ns=1000, finished_ns=1410, result=NO_MORE), 0, ())
    assert told.heard[-1] == (NO_MORE, 0, 2)
    assert observer.batches == [(1, 2)]
    stats = statistics.to_json()["response_stats"]
    assert stats["0"]["success"] == stats["0"]["compute_infer"] == {"count": 1, "ns": 100}
    assert stats["1"]["fail"] == {"count": 1, "ns": 50}
    assert stats["2"]["empty_response"] == {"count": 1, "ns": 250}


def test_a_request_that_was_taken_back_counts_as_cancelled_where_it_was() -> None:
    front, statistics = _front()
    accounts = StreamAccounts(Counted(), statistics)
    request = InferRequest([], 1, Told(), 0)
    front.submit(request)
    answering: Any = request.responder
    answering.part(request, _answer("a"))
    accounts.batch_done([request], BatchOutcome(started_ns=0, finished_ns=9000, result=NO_MORE), 0, {request})
    assert statistics.to_json()["response_stats"]["1"]["cancel"]["count"] == 1
    assert dict(accounts._counts.totals()) == {"success": 1, "fail": 0, "empty_response": 0, "cancel": 1}


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(AnswerKind), st.integers(0, 100))))
def test_nothing_is_counted_twice_or_lost(answers: list[tuple[int, AnswerKind, int]]) -> None:
    counts = ResponseCounts()
    for place, kind, ns in answers:
        counts.count(place, kind, ns)
    assert sum(count for _, count in counts.totals()) == len(answers)
    told = counts.to_json()
    for kind in AnswerKind:
        name = kind.name.lower()
        assert sum(stats[name]["ns"] for stats in told.values()) == sum(ns for _, one, ns in answers if one is kind)


def test_a_long_answer_is_counted_in_bounded_memory() -> None:
    front, statistics = _front()
    accounts = StreamAccounts(Counted(), statistics)
    request = InferRequest([], 1, Told(), 0)
    front.submit(request)
    answering = request.responder
    assert isinstance(answering, Answering)
    for _ in range(MAX_COUNTED + 10):
        answering.part(request, _answer("a"))
    accounts.batch_done([request], BatchOutcome(started_ns=0, finished_ns=9000, result=NO_MORE), 0, ())
    assert len(answering.kinds) == len(statistics.to_json()["response_stats"]) == MAX_COUNTED


def test_a_stream_s_last_answer_says_nothing_of_what_it_cost() -> None:
    curve = StreamCurve()
    curve.observe(0, 100)
    curve.observe(500, 100)
    assert curve.expected_ns(1) == pytest.approx(100)

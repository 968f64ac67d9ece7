"""What is noted of one request, and how it is told."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.core.errors import ModelFailed, TaxiwayError
from taxiway.core.ports import BatchOutcome
from taxiway.core.requests import BatchResult, InferRequest
from taxiway.server.tracing.files import describe_trace
from taxiway.server.tracing.plan import TracePlan
from taxiway.server.tracing.tensors import print_elements
from taxiway.server.tracing.trace import Origin, Tensor, Trace, note_runs

PLAN = TracePlan(frozenset({"TIMESTAMPS"}), rate=1)


class _Nobody:
    def resolve(self, request: InferRequest, result: BatchResult, start: int, stop: int) -> None:
        """Nobody waits."""

    def reject(self, request: InferRequest, error: TaxiwayError) -> None:
        """Nobody waits."""


class _Steps:
    """A clock that each reading moves on by the next step."""

    def __init__(self, now_ns: int, steps: list[int]) -> None:
        self.now_ns = now_ns
        self._steps = steps

    def __call__(self) -> int:
        self.now_ns += self._steps.pop(0) if self._steps else 0
        return self.now_ns


class _Follower:
    """Keeps what is closed."""

    def __init__(self, clock: _Steps, closed: list[Trace]) -> None:
        self.now_ns = clock
        self.close = closed.append

    def follow(self, *_: object) -> Trace:
        raise AssertionError("it makes no requests")


def _request(arrived_ns: int, rows: int = 1) -> InferRequest:
    return InferRequest((), rows, _Nobody(), arrived_ns, id="a")


def _trace(clock: _Steps, request: InferRequest, closed: list[Trace]) -> Trace:
    trace = Trace(7, PLAN, "m", 3, request, Origin("HTTP"), _Follower(clock, closed))
    request.trace = trace
    return trace


STEP = st.integers(0, 10**9)


@given(st.lists(STEP, min_size=4, max_size=4), STEP, STEP, STEP, st.sampled_from(["sent", "failed", "cancelled"]))
def test_times_never_go_back(steps: list[int], wait: int, put_in: int, infer: int, ends: str) -> None:
    clock, closed = _Steps(5, steps), list[Trace]()
    request = _request(5)
    trace = _trace(clock, request, closed)
    outcome = BatchOutcome(started_ns=clock.now_ns + wait, finished_ns=clock.now_ns + wait + put_in + infer)
    outcome.input_ns, outcome.infer_ns = put_in, infer
    note_runs([request], outcome)
    clock.now_ns = outcome.finished_ns
    if ends == "cancelled":
        trace.cancel()
    else:
        trace.answer(None if ends == "sent" else ModelFailed("no"))
        trace.sent()

    times = list(trace.timestamps())
    assert all(before <= after for (_, before), (_, after) in pairwise(times))
    assert len({name for name, _ in times}) == len(times)
    assert dict(times)["REQUEST_END"] > 0
    assert closed == [trace]
    assert ("INFER_RESPONSE_COMPLETE" in dict(times)) is (ends == "sent")


def test_a_request_that_is_cancelled_after_its_answer_was_answered() -> None:
    closed: list[Trace] = []
    trace = _trace(_Steps(1, []), _request(1), closed)
    trace.answer()
    trace.sent()
    trace.cancel()

    assert not trace.is_cancelled
    assert closed == [trace]


def test_each_request_of_a_batch_knows_its_company() -> None:
    requests = [_request(1, rows) for rows in (1, 2, 4)]
    traces = [_trace(_Steps(1, []), request, []) for request in requests]
    together = BatchOutcome(started_ns=10, finished_ns=20)
    alone = BatchOutcome(started_ns=30, finished_ns=40, error=ModelFailed("no"))

    note_runs(requests, BatchOutcome(started_ns=2, finished_ns=40, parts=[together, together, alone]))

    assert [(trace.run.requests, trace.run.rows) for trace in traces if trace.run] == [(2, 3), (2, 3), (1, 4)]


def test_how_it_failed_is_told_last() -> None:
    trace = _trace(_Steps(1, []), _request(1), [])
    trace.refuse(ModelFailed("it broke"))

    told = list(describe_trace(trace))

    assert told[2] == {"id": 7, "model_name": "m", "model_version": 3, "request_id": "a"}
    assert told[-1] == {"id": 7, "error": {"code": "model-failed", "message": "it broke"}}


@pytest.mark.parametrize(
    ("datatype", "data", "text"),
    [
        ("FP32", np.array([1, 2.5, 0.1, 1e-9, np.inf], "<f4"), "1,2.5,0.1,1e-09,inf"),
        ("INT64", np.array([1, -(2**62)]), "1,-4611686018427387904"),
        ("BOOL", np.array([True, False]), "1,0"),
        ("BF16", np.array([0x3F80, 0xC000], "<u2"), "1,-2"),
        ("BYTES", [b"a", b"\xff"], '"a","\\xff"'),
        ("UINT8", np.array([], "u1"), ""),
    ],
)
def test_elements_are_printed_as_triton_prints_them(datatype: str, data: Any, text: str) -> None:
    assert print_elements(Tensor("TENSOR_QUEUE_INPUT", "x", datatype, (1,), data)) == text

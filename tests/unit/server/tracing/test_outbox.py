"""Traces on their way off the event loop."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, cast

import pytest

from taxiway.server.tracing.outbox import Outbox
from taxiway.server.tracing.trace import Trace

WAIT_S = 10.0


def _traces(count: int) -> list[Trace]:
    return [cast("Trace", number) for number in range(count)]


def _counts(outbox: Outbox) -> dict[str, Any]:
    return {point.labels[1]: point.value for point in outbox.points()}


def test_all_that_is_taken_is_written_in_order_before_it_closes() -> None:
    written: list[Trace] = []
    outbox = Outbox("triton", written.extend)

    for trace in _traces(1200):
        outbox.put(trace)
    outbox.close(WAIT_S)

    assert written == _traces(1200)
    assert _counts(outbox) == {"written": 1200, "dropped": 0, "failed": 0}


def test_what_does_not_fit_is_dropped_and_the_end_is_bounded() -> None:
    writing, go_on = threading.Event(), threading.Event()

    def write(_traces: Sequence[Trace]) -> None:
        writing.set()
        go_on.wait(WAIT_S)

    outbox = Outbox("triton", write, capacity=3)
    outbox.put(_traces(1)[0])
    assert writing.wait(WAIT_S)
    for trace in _traces(5):
        outbox.put(trace)
    outbox.close(0.01)
    outbox.put(_traces(1)[0])

    assert _counts(outbox)["dropped"] == 3
    go_on.set()


def test_what_cannot_be_written_costs_only_itself(caplog: pytest.LogCaptureFixture) -> None:
    written: list[Trace] = []

    def write(traces: Sequence[Trace]) -> None:
        if not failed.is_set():
            failed.set()
            raise OSError(28, "No space left on device")
        written.extend(traces)

    failed = threading.Event()
    outbox = Outbox("triton", write)
    outbox.put(_traces(1)[0])
    assert failed.wait(WAIT_S)
    outbox.put(_traces(1)[0])
    outbox.close(WAIT_S)

    assert _counts(outbox) == {"written": 1, "dropped": 0, "failed": 1}
    assert "traces_lost" in caplog.text

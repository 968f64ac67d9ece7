"""Slow and failed requests that are kept: few, bounded, and by the version's own mean."""

from __future__ import annotations

from typing import Any

import pytest

from taxiway.core.clock import SystemClock
from taxiway.core.requests import InferRequest
from taxiway.server.keeping import MAX_KEPT, KeptRequests

MS = 1_000_000


class _Nobody:
    def resolve(self, *_: Any) -> None: ...
    def reject(self, *_: Any) -> None: ...
    def part(self, *_: Any) -> None: ...


def _request(arrived_ms: float = 0) -> InferRequest:
    return InferRequest((), 2, _Nobody(), round(arrived_ms * MS))


def test_slow_is_five_times_the_mean_and_nothing_before_there_is_one() -> None:
    kept = KeptRequests(SystemClock())
    assert kept.slow_ns > 10**18
    kept.renew(100, 100 * 4 * MS)
    assert kept.slow_ns == 20 * MS
    kept.renew(100, 100)
    assert kept.slow_ns == MS, "and never less than a millisecond"


def test_of_a_slow_run_those_that_were_slow_are_kept_with_their_stages() -> None:
    kept = KeptRequests(SystemClock())
    kept.renew(1, 4 * MS)
    kept.slow([_request(0), _request(29)], 30 * MS, (1 * MS, 2 * MS, 3 * MS))
    (one,) = kept.told()
    assert (one["kind"], one["rows"], one["total_s"]) == ("slow", 2, pytest.approx(0.036))
    assert [one[name] for name in ("queue_s", "input_s", "infer_s", "output_s")] == pytest.approx(
        [0.03, 0.001, 0.002, 0.003]
    )


def test_a_burst_is_kept_in_part_and_the_oldest_go() -> None:
    kept = KeptRequests(SystemClock())
    for look in range(20):
        kept.renew(1, MS)
        for _ in range(100):
            kept.failed(_request(), "timeout", look * MS)
    told = kept.told()
    assert len(told) == MAX_KEPT
    assert {round(one["total_s"] * 1000) for one in told} == set(range(15, 20))
    assert told[-1]["queue_s"] is None

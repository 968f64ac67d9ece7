from __future__ import annotations

from typing import Any

import numpy as np

from taxiway.core.clock import SystemClock
from taxiway.core.ports import BatchOutcome
from taxiway.core.requests import BatchResult, InferRequest
from taxiway.server.adding import add_statistics
from taxiway.server.statistics import ModelStatistics


def _told(name: str, *runs: tuple[int, int]) -> dict[str, Any]:
    """The statistics of a version after runs of (rows, nanoseconds inside the framework)."""
    statistics = ModelStatistics(name, "1", SystemClock())
    for rows, infer_ns in runs:
        request = InferRequest.__new__(InferRequest)
        request.arrived_ns = 0
        outcome = BatchOutcome(
            started_ns=5, finished_ns=5 + infer_ns + 2, result=BatchResult((), (np.zeros(rows),), rows)
        )
        outcome.infer_ns = infer_ns
        statistics.batch_done([request], outcome, 0)
    return statistics.to_json()


def test_those_of_several_processes_are_those_of_one_that_did_it_all() -> None:
    runs: list[tuple[int, int]] = [(1, 10), (4, 40), (1, 12), (8, 90), (4, 41)]
    parts = [[_told("m", *runs[:2])], [_told("m", *runs[2:3])], [_told("m", *runs[3:])]]
    (total,) = add_statistics(parts)
    (one,) = [_told("m", *runs)]
    assert total["last_inference"] == max(part[0]["last_inference"] for part in parts)
    assert {**total, "last_inference": 0} == {**one, "last_inference": 0}


def test_a_version_that_only_some_know_is_there() -> None:
    answers = [[_told("a", (1, 1))], [_told("a", (1, 1)), _told("b", (2, 1))]]
    assert [(told["name"], told["inference_count"]) for told in add_statistics(answers)] == [("a", 2), ("b", 2)]


def test_one_process_tells_its_own() -> None:
    told = [_told("m", (1, 1))]
    assert add_statistics([told]) == told

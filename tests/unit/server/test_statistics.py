from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.core.errors import InternalError, ModelFailed, TaxiwayError
from taxiway.core.ports import BatchOutcome
from taxiway.core.requests import BatchResult, InferRequest
from taxiway.server.models.assembling import Accounts
from taxiway.server.statistics import MAX_CODES, ModelStatistics
from taxiway.server.totals import ServerStatistics
from taxiway.telemetry.catalogue import CATALOGUE, FailureReason
from taxiway.telemetry.histogram import Distribution
from taxiway.telemetry.render import render_metrics

MS = 1_000_000


class HandClock:
    now_ns = 0
    utc = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)

    def monotonic_ns(self) -> int:
        return self.now_ns

    def now_utc(self) -> dt.datetime:
        return self.utc


class Nobody:
    def resolve(self, request: InferRequest, result: BatchResult, start: int, stop: int) -> None: ...

    def reject(self, request: InferRequest, error: TaxiwayError) -> None: ...


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def statistics(clock: HandClock) -> ModelStatistics:
    statistics = ModelStatistics("m", "3", clock, depth=lambda: (4, 5, 6))
    statistics.load_s = 0.5
    return statistics


def _request(arrived_ns: int = 0, rows: int = 1) -> InferRequest:
    return InferRequest(inputs=[], rows=rows, responder=Nobody(), arrived_ns=arrived_ns)


def _ran(rows: int, *, started_ns: int = 10 * MS) -> BatchOutcome:
    """2 ms of input, 5 of infer, 3 of output."""
    outcome = BatchOutcome(started_ns=started_ns, finished_ns=started_ns + 10 * MS, result=BatchResult((), (), rows))
    outcome.input_ns, outcome.infer_ns = 2 * MS, 5 * MS
    return outcome


def _failed(error: Exception, *, started_ns: int = 10 * MS) -> BatchOutcome:
    return BatchOutcome(started_ns=started_ns, finished_ns=started_ns + 10 * MS, error=error)


def _points(source: ModelStatistics | ServerStatistics) -> dict[tuple[str, ...], Any]:
    """By name and the labels after model and version."""
    skip = 2 if isinstance(source, ModelStatistics) else 0
    return {(point.family.name, *point.labels[skip:]): point.value for point in source.points()}


def test_the_json_is_triton_s_in_its_order(statistics: ModelStatistics) -> None:
    statistics.batch_done([_request(0), _request(4 * MS, rows=2)], _ran(3), 9 * MS)
    statistics.batch_done([_request(10 * MS)], _ran(1), 10 * MS)
    told = statistics.to_json()
    assert list(told) == [
        "name",
        "version",
        "last_inference",
        "inference_count",
        "execution_count",
        "inference_stats",
        "response_stats",
        "batch_stats",
        "memory_usage",
    ]
    assert (told["name"], told["version"]) == ("m", "3")
    assert (told["inference_count"], told["execution_count"]) == (4, 2)
    assert list(told["inference_stats"].items()) == [
        ("success", {"count": 3, "ns": (10 + 6 + 0 + 3 * 10) * MS}),
        ("fail", {"count": 0, "ns": 0}),
        ("queue", {"count": 3, "ns": 16 * MS}),
        ("compute_input", {"count": 3, "ns": 6 * MS}),
        ("compute_infer", {"count": 3, "ns": 15 * MS}),
        ("compute_output", {"count": 3, "ns": 9 * MS}),
        ("cache_hit", {"count": 0, "ns": 0}),
        ("cache_miss", {"count": 0, "ns": 0}),
    ]
    assert told["response_stats"] == {}
    assert told["memory_usage"] == []
    run = {
        "compute_input": {"count": 1, "ns": 2 * MS},
        "compute_infer": {"count": 1, "ns": 5 * MS},
        "compute_output": {"count": 1, "ns": 3 * MS},
    }
    assert told["batch_stats"] == [{"batch_size": 1, **run}, {"batch_size": 3, **run}]


def test_last_inference_is_utc_and_stays_while_nothing_runs(statistics: ModelStatistics, clock: HandClock) -> None:
    assert statistics.to_json()["last_inference"] == 0
    statistics.batch_done([_request()], _ran(1), 0)
    clock.now_ns = 1020 * MS
    told = statistics.to_json()["last_inference"]
    assert told == round(clock.utc.timestamp() * 1000) - 1000
    clock.now_ns, clock.utc = 5000 * MS, clock.utc + dt.timedelta(seconds=3)
    assert statistics.to_json()["last_inference"] == told


def test_a_failed_batch_is_the_model_s_failure_or_ours(statistics: ModelStatistics) -> None:
    statistics.batch_done([_request(), _request(5 * MS)], _failed(ModelFailed("no")), 0)
    statistics.batch_done([_request()], _failed(InternalError("ours")), 0)
    told = statistics.to_json()
    assert told["inference_stats"]["fail"] == {"count": 3, "ns": (20 + 15 + 20) * MS}
    assert told["inference_stats"]["success"]["count"] == 0
    assert told["execution_count"] == 0
    points = _points(statistics)
    assert points["taxiway_inference_failures_total", "model_failed"] == 2
    assert points["nv_inference_request_failure", "BACKEND"] == 2
    assert points["nv_inference_request_failure", "OTHER"] == 1


def test_the_parts_of_a_poisoned_batch_are_runs_of_their_own(statistics: ModelStatistics) -> None:
    parts = [_ran(1, started_ns=20 * MS), _failed(ModelFailed("no"), started_ns=30 * MS)]
    outcome = BatchOutcome(started_ns=10 * MS, finished_ns=40 * MS, parts=parts)
    statistics.batch_done([_request(), _request()], outcome, 10 * MS)
    told = statistics.to_json()
    assert told["execution_count"] == 1
    assert told["inference_stats"]["success"] == {"count": 1, "ns": 30 * MS}
    assert told["inference_stats"]["fail"] == {"count": 1, "ns": 40 * MS}


@pytest.mark.parametrize(
    ("reason", "label"),
    [
        *((reason, reason) for reason in ("queue_full", "queue_rows_full", "queue_bytes_full", "predicted_late")),
        *((reason, reason) for reason in ("timeout", "unavailable")),
        ("what?", "rejected"),
    ],
)
def test_what_the_queue_turns_away_is_a_failure(
    statistics: ModelStatistics, clock: HandClock, reason: str, label: str
) -> None:
    clock.now_ns = 7 * MS
    statistics.rejected(_request(5 * MS), reason)
    points = _points(statistics)
    assert points["taxiway_inference_failures_total", label] == 1
    assert points["nv_inference_request_failure", "REJECTED"] == 1
    assert statistics.to_json()["inference_stats"]["fail"] == {"count": 1, "ns": 2 * MS}


def test_cancelled_failed_and_invalid(statistics: ModelStatistics) -> None:
    statistics.cancelled(_request())
    statistics.failed("internal")
    statistics.failed("what?")
    statistics.invalid("wrong-shape")
    points = _points(statistics)
    assert points["nv_inference_request_failure", "CANCELED"] == 1
    assert points["nv_inference_request_failure", "OTHER"] == 2
    assert points["taxiway_inference_failures_total", "other"] == 1
    assert points["taxiway_inference_invalid_total", "wrong-shape"] == 1
    assert statistics.failure_count == 3, "a caller's mistake is no failed inference"


def test_a_request_given_up_while_it_ran_is_not_counted_again(statistics: ModelStatistics) -> None:
    batch = [_request(1), _request(2), _request(3)]
    statistics.cancelled(batch[0])
    statistics.rejected(batch[2], "timeout")
    statistics.batch_done(batch, _ran(3), 0, {batch[0], batch[2]})
    assert (statistics.success_count, statistics.failure_count) == (1, 2)
    assert statistics.inference_count == 3, "its rows were inferred all the same"
    statistics.batch_done([_request(1)], _ran(1), 0)
    assert statistics.success_count == 2


@pytest.mark.parametrize("outcome", [_failed(ModelFailed("no")), _ran(1)])
def test_a_lone_request_given_up_while_it_ran(statistics: ModelStatistics, outcome: BatchOutcome) -> None:
    request = _request()
    statistics.cancelled(request)
    statistics.batch_done([request], outcome, 0, {request})
    assert (statistics.success_count, statistics.failure_count) == (0, 1)


def test_one_given_up_in_the_queue_is_not_remembered(statistics: ModelStatistics) -> None:
    request = _request(7)
    statistics.cancelled(request)
    statistics.batch_done([request], _ran(1), 0)
    assert statistics.success_count == 1, "only the batcher knows who was gone when its batch came back"


def test_the_parts_cut_from_one_run_are_one_run(statistics: ModelStatistics) -> None:
    requests = [_request(rows=2), _request(), _request(), _request()]
    half = [_ran(2, started_ns=20 * MS), _ran(1, started_ns=20 * MS)]
    parts = [*half, _failed(ModelFailed("no"), started_ns=40 * MS), _ran(1, started_ns=60 * MS)]
    outcome = BatchOutcome(started_ns=10 * MS, finished_ns=80 * MS, parts=parts)
    statistics.batch_done(requests, outcome, 10 * MS, {requests[1]})
    told = statistics.to_json()
    assert (told["execution_count"], told["inference_count"]) == (2, 4)
    assert [run["batch_size"] for run in told["batch_stats"]] == [1, 3]
    assert (statistics.success_count, statistics.failure_count) == (2, 1)


def test_error_codes_cannot_grow_without_bound(statistics: ModelStatistics) -> None:
    for index in range(1000):
        statistics.invalid(f"code-{index}")
    codes = {labels[1]: value for labels, value in _points(statistics).items() if "invalid" in labels[0]}
    assert len(codes) == MAX_CODES + 1
    assert codes["other"] == 1000 - MAX_CODES


def test_points_agree_with_the_json(statistics: ModelStatistics) -> None:
    statistics.batch_done([_request(), _request(rows=3)], _ran(4), 0)
    points = _points(statistics)
    assert points["nv_inference_request_success",] == 2
    assert points["nv_inference_count",] == 4
    assert points["nv_inference_exec_count",] == 1
    assert points["nv_inference_request_duration_us",] == 40_000
    assert points["nv_inference_queue_duration_us",] == 20_000
    assert points["nv_inference_compute_infer_duration_us",] == 10_000
    assert points["nv_model_load_duration_secs",] == 0.5
    assert points["nv_inference_pending_request_count",] == 4
    assert (points["taxiway_queue_rows",], points["taxiway_queue_bytes",]) == (5, 6)
    rows = points["taxiway_inference_batch_rows",]
    assert (sum(rows.counts), rows.total) == (1, 4.0)


def test_answers_are_measured_to_the_socket(statistics: ModelStatistics) -> None:
    statistics.responses_done([], 0)
    statistics.responses_done([0], 200 * MS)
    statistics.responses_done([0, 150 * MS], 200 * MS)
    points = _points(statistics)
    first: Distribution = points["nv_inference_first_response_histogram_ms",]
    assert first.le == ("100.0", "500.0", "2000.0", "5000.0")
    assert first.counts == (1, 2, 0, 0, 0)
    assert first.total == 450.0
    assert points["taxiway_inference_request_seconds",].total == pytest.approx(0.45)


def test_only_requests_answered_with_a_result_have_a_latency(statistics: ModelStatistics, clock: HandClock) -> None:
    accounts = Accounts(statistics, clock)
    kept, cancelled, late, bad = batch = [_request() for _ in range(4)]
    clock.now_ns = 30 * MS
    accounts.batch_done([kept, cancelled], _ran(2), 0, {cancelled})
    accounts.batch_done([bad], _failed(ModelFailed("no")), 0, ())
    parts = [_ran(1), _ran(1), _ran(1), _failed(ModelFailed("no"))]
    accounts.batch_done(batch, BatchOutcome(started_ns=0, finished_ns=1, parts=parts), 0, {late})
    first: Distribution = _points(statistics)["nv_inference_first_response_histogram_ms",]
    assert (sum(first.counts), first.total) == (3, 90.0)


BATCHES = st.lists(
    st.tuples(st.lists(st.tuples(st.integers(0, 10 * MS), st.integers(1, 4)), min_size=1), st.booleans())
)


@given(BATCHES)
def test_nothing_is_lost_or_counted_twice(batches: list[tuple[list[tuple[int, int]], bool]]) -> None:
    statistics = ModelStatistics("m", "1", HandClock())
    for requests, good in batches:
        batch = [_request(arrived, rows) for arrived, rows in requests]
        outcome = _ran(sum(rows for _, rows in requests)) if good else _failed(ModelFailed("no"))
        statistics.batch_done(batch, outcome, 0)
    told = statistics.to_json()
    stats = told["inference_stats"]
    runs = [requests for requests, good in batches if good]
    assert stats["success"]["count"] == sum(map(len, runs))
    assert stats["success"]["ns"] == sum(20 * MS - arrived for run in runs for arrived, _ in run)
    assert stats["success"]["count"] + stats["fail"]["count"] == sum(len(requests) for requests, _ in batches)
    assert told["inference_count"] == sum(rows for run in runs for _, rows in run)
    assert told["execution_count"] == len(runs)


def test_the_front_counts_connections_and_status_classes() -> None:
    front = ServerStatistics(lambda: (1, 7, 2))
    front.accepted_connections += 3
    front.open_connections += 1
    front.responded(200, 3)
    front.responded(503)
    points = _points(front)
    assert points["taxiway_http_responses_total", "2xx"] == 3
    assert points["taxiway_http_responses_total", "5xx"] == 1
    assert points["taxiway_http_responses_total", "4xx"] == 0
    assert points["taxiway_http_open_connections",] == 1
    assert points["taxiway_http_accepted_connections_total",] == 3
    assert points["taxiway_http_requests_in_flight",] == 1
    assert points["taxiway_http_refused_requests_total",] == 2
    assert points["taxiway_http_buffered_bytes",] == 7


def test_every_point_is_of_a_family_of_the_catalogue(statistics: ModelStatistics) -> None:
    statistics.invalid("wrong-shape")
    points = [*statistics.points(), *ServerStatistics(lambda: (0, 0, 0)).points()]
    assert {point.family for point in points} <= set(CATALOGUE)
    assert all(len(point.labels) == len(point.family.labels) for point in points)
    assert b"taxiway_metrics_dropped_series 0\n" in render_metrics(points)


def test_every_reason_is_printed_before_it_happens(statistics: ModelStatistics) -> None:
    points = _points(statistics)
    for reason in FailureReason:
        assert points["taxiway_inference_failures_total", reason.label] == 0
        assert points["nv_inference_request_failure", reason.triton] == 0

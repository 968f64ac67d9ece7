"""What is made of samples: charged from the intended start, and not believed where the generator was late."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from taxiway.profile.arrivals import Constant
from taxiway.profile.judging import judge
from taxiway.profile.plan import Plan
from taxiway.profile.report import profile_data
from taxiway.profile.samples import NOT_SENT, OK, TIMED_OUT, Samples

RATE = 200.0
PLAN = Plan(Constant(), RATE, 30.0, warm_up_s=2.0)


def samples(
    due: NDArray[np.float64], latency: NDArray[np.float64] | float, lag: NDArray[np.float64] | float = 0.0
) -> Samples:
    rows = np.zeros((len(due), 6))
    rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3] = due, due + lag, np.nan, due + latency
    return Samples(rows, np.empty((0, 2)))


def due_of(plan: Plan) -> NDArray[np.float64]:
    return Constant().offsets(np.random.default_rng(0), plan.rate_per_s, plan.warm_up_s + plan.duration_s)


def stalled(due: NDArray[np.float64], at_s: float, stall_s: float) -> NDArray[np.float64]:
    """Latencies of a server that answers in a millisecond, but for one stall."""
    waits = (due >= at_s) & (due < at_s + stall_s)
    return np.where(waits, at_s + stall_s - due, 0.0) + 0.001


def test_a_stall_is_charged_to_everybody_who_came_meanwhile() -> None:
    due = due_of(PLAN)
    profile = judge("it", PLAN, samples(due, stalled(due, 10.0, 2.0)))
    # Of 6,000 requests 400 waited, evenly from 2 s down to 0: 60 of them longer than 1.7 s.
    assert profile.percentiles.p99_ms == pytest.approx(1700, rel=0.01)
    assert profile.valid
    assert profile.p99_interval.effective < 1000


def test_the_warm_up_is_left_out() -> None:
    due = due_of(PLAN)
    profile = judge("it", PLAN, samples(due, np.where(due < 2.0, 5.0, 0.001)))
    assert profile.requests == 6000
    assert profile.percentiles.max_ms < 2
    assert profile.stable


def test_a_late_generator_makes_the_run_invalid() -> None:
    due = due_of(PLAN)
    lag = np.where(np.arange(len(due)) % 50 == 0, 0.001, 0.0)
    profile = judge("it", PLAN, samples(due, 0.010 + lag, lag))
    assert not profile.valid
    assert "schedule lag p99 1.000 ms" in profile.reasons[0]
    assert judge("it", PLAN, samples(due, 0.030 + lag, lag)).valid


def test_a_generator_that_does_not_keep_up_makes_the_run_invalid() -> None:
    due = due_of(PLAN)
    lag = due * 0.02
    profile = judge("it", PLAN, samples(due, 60.0 + lag, lag))
    assert profile.reasons == ("200.0/s were due and only 195.8/s were sent in time; use more --processes",)


def test_who_timed_out_counts_with_what_was_waited() -> None:
    due = due_of(PLAN)
    told = samples(due, np.where(np.arange(len(due)) % 20 == 0, 30.0, 0.001))
    told.rows[np.arange(len(due)) % 20 == 0, 5] = TIMED_OUT
    profile = judge("it", PLAN, told)
    assert profile.percentiles.p99_ms == pytest.approx(30_000, rel=0.01)
    assert profile.errors == {"timeout": 300}
    assert profile.answered == 5700


def test_errors_are_counted_by_kind_and_are_no_latencies() -> None:
    due = due_of(PLAN)
    told = samples(due, 0.010)
    told.rows[:1000, 5] = 503
    told.rows[:1000, 3] = told.rows[:1000, 0] + 1e-5
    profile = judge("it", PLAN, told)
    assert profile.errors == {"http 503": 600}
    assert profile.percentiles.p50_ms == pytest.approx(10, rel=0.01)
    assert profile.error_share == pytest.approx(0.1)


def test_no_success_is_no_measurement() -> None:
    told = samples(due_of(PLAN), 0.010)
    told.rows[:, 5] = 500
    profile = judge("it", PLAN, told)
    assert profile.reasons == ("no request was answered with success",)


def test_what_was_never_sent_makes_the_run_invalid() -> None:
    told = samples(due_of(PLAN), 0.010)
    told.rows[1000, 5], told.rows[1000, 1] = NOT_SENT, np.nan
    assert "1 requests were never sent" in judge("it", PLAN, told).reasons[0]


def test_a_server_that_cannot_keep_up_is_not_stable() -> None:
    due = due_of(PLAN)
    profile = judge("it", PLAN, samples(due, 0.01 + 0.5 * due))
    assert profile.valid
    assert not profile.stable
    assert profile.achieved_per_s < 0.8 * profile.offered_per_s


def test_a_query_takes_as_long_as_its_slowest_request() -> None:
    plan = Plan(Constant(), 1.0, 10.0, warm_up_s=0.0, concurrency=1, query_samples=4)
    due = np.repeat(np.arange(10.0), 4)
    profile = judge("it", plan, samples(due, np.tile([0.1, 0.2, 0.3, 0.4], 10)))
    assert profile.latency.count == 10
    assert profile.percentiles.p50_ms == pytest.approx(400, rel=0.01)


def test_tokens_are_told_from_the_intended_start() -> None:
    due = due_of(PLAN)
    told = samples(due, 1.1, 0.0)
    told.rows[:, 2], told.rows[:, 4] = due + 0.1, 11
    tokens = judge("it", PLAN, Samples(told.rows, np.tile([5.0, 0.1], (100, 1)))).tokens
    assert tokens is not None
    assert tokens.first.p50_ms == pytest.approx(100, rel=0.01)
    assert tokens.per_output.p99_ms == pytest.approx(100, rel=0.01)
    assert tokens.between.p99_ms == pytest.approx(100, rel=0.01)
    assert tokens.per_s == pytest.approx(2200)


def test_the_warm_up_s_tokens_are_left_out() -> None:
    due = due_of(PLAN)
    told = samples(due, 1.1, 0.0)
    told.rows[:, 2], told.rows[:, 4] = due + 0.1, 2
    gaps = np.stack([due, np.where(due < 2.0, 5.0, 0.1)], axis=1)
    tokens = judge("it", PLAN, Samples(told.rows, gaps)).tokens
    assert tokens is not None
    assert tokens.between.max_ms == pytest.approx(100, rel=0.01)


def test_tokens_that_come_too_late_are_no_throughput() -> None:
    due = due_of(PLAN)
    told = samples(due, np.where(due < 17.0, 0.5, 600.0))
    told.rows[:, 2], told.rows[:, 4] = due + 0.1, 10
    profile = judge("it", PLAN, told)
    assert profile.tokens is not None
    assert profile.tokens.per_s == pytest.approx(10 * profile.achieved_per_s) == pytest.approx(1033, rel=0.01)
    assert profile.tokens.total == 60_000
    told = json.loads(json.dumps(profile_data(profile)))["tokens"]
    assert sum(count for _, count in told["first_ns"]) == 6000


def test_success_is_zero() -> None:
    assert OK == 0

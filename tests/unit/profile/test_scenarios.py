"""What a run of each scenario proves, and when it proves nothing."""

from __future__ import annotations

import re

import numpy as np
import pytest
from numpy.typing import NDArray

from taxiway.core.errors import InvalidArgument
from taxiway.profile.arrivals import Constant, Poisson
from taxiway.profile.judging import judge
from taxiway.profile.outcome import Profile
from taxiway.profile.plan import Plan
from taxiway.profile.samples import TIMED_OUT, Samples
from taxiway.profile.scenarios import Scenario, claim, format_claim, scenario_plan
from taxiway.profile.slos import PRESETS, Slo, broken_terms, parse_slo

PLAN = Plan(Constant(), 100.0, 60.0, warm_up_s=0.0)


def rows_of(latency_ms: list[float], plan: Plan = PLAN) -> NDArray[np.float64]:
    rows = np.zeros((len(latency_ms), 6))
    rows[:, 0] = rows[:, 1] = np.linspace(0, plan.duration_s, len(latency_ms), endpoint=False)
    rows[:, 2], rows[:, 3] = np.nan, rows[:, 0] + np.array(latency_ms) / 1e3
    return rows


def profile_of(latency_ms: list[float], plan: Plan = PLAN, *, failed: int = 0) -> Profile:
    """Of requests with these latencies, the first of which failed with a status of 503."""
    rows = rows_of(latency_ms, plan)
    rows[:failed, 5] = 503
    return judge("it", plan, Samples(rows, np.empty((0, 2))))


def test_server_is_an_open_poisson_loop() -> None:
    plan = scenario_plan(Scenario.SERVER, Plan(Constant(), 5.0, 10.0, concurrency=3))
    assert isinstance(plan.arrivals, Poisson)
    assert plan.concurrency is None


def test_streams_send_when_the_last_query_is_answered() -> None:
    assert scenario_plan(Scenario.SINGLE_STREAM, PLAN).query_samples == 1
    plan = scenario_plan(Scenario.MULTI_STREAM, PLAN)
    assert (plan.concurrency, plan.query_samples, plan.processes) == (1, 8, 1)


def test_offline_sends_everything_at_once() -> None:
    plan = scenario_plan(Scenario.OFFLINE, PLAN)
    assert plan.all_at_once
    assert plan.warm_up_s == 0


def test_server_passes_within_its_bound() -> None:
    proven = claim(Scenario.SERVER, profile_of([100.0] * 5950 + [200.0] * 30), PRESETS["bert"])
    assert proven.passed
    assert proven.result == "99.67 queries/s"
    assert "60 s are less than the 600 s that MLPerf asks for" in proven.notes


def test_as_many_over_as_the_percentile_allows_prove_nothing() -> None:
    proven = claim(Scenario.SERVER, profile_of([100.0] * 5941 + [200.0] * 59), PRESETS["bert"])
    assert not proven.passed
    assert not proven.broken
    assert "59 of 6000 queries took more than 130 ms" in proven.unproven[0]


def test_who_failed_is_over_the_bound() -> None:
    proven = claim(Scenario.SERVER, profile_of([200.0] * 60 + [100.0] * 9845), PRESETS["bert"])
    assert proven.passed
    mixed = claim(Scenario.SERVER, profile_of([1.0] * 95 + [200.0] * 60 + [100.0] * 9845, failed=95), PRESETS["bert"])
    assert not mixed.broken, "less than 1 % failed"
    assert "155 of 10000 queries took more than 130 ms or failed" in mixed.unproven[0]


def test_who_timed_out_is_over_a_bound_that_is_longer_than_the_timeout() -> None:
    rows = rows_of([100.0] * 6000)
    rows[:59, 5] = TIMED_OUT
    proven = claim(Scenario.SERVER, judge("it", PLAN, Samples(rows, np.empty((0, 2)))), PRESETS["bert"])
    assert "59 of 6000 queries took more than 130 ms or failed" in proven.unproven[0]


def tokens_of(first_ms: list[float], each_ms: list[float]) -> Profile:
    """Of answers in eleven tokens."""
    first, each = np.array(first_ms), np.array(each_ms)
    rows = rows_of((first + 10 * each).tolist())
    rows[:, 2], rows[:, 4] = rows[:, 0] + first / 1e3, 11
    return judge("it", PLAN, Samples(rows, np.empty((0, 2))))


def test_bounds_of_tokens_are_proven_like_any_other() -> None:
    assert claim(Scenario.SERVER, tokens_of([400.0] * 459, [20.0] * 459), PRESETS["llama2-70b-interactive"]).passed
    few = claim(Scenario.SERVER, tokens_of([400.0] * 20, [20.0] * 20), PRESETS["llama2-70b-interactive"])
    assert not few.broken
    assert [one.split(":")[0] for one in few.unproven] == [
        "0 of 20 queries took more to the first token than 450 ms",
        "0 of 20 queries took more per output token than 40 ms",
    ]
    slow = claim(Scenario.SERVER, tokens_of([400.0] * 6000, [20.0] * 5941 + [50.0] * 59), PRESETS["llama2-70b"])
    assert slow.passed
    slow = claim(
        Scenario.SERVER, tokens_of([400.0] * 6000, [20.0] * 5941 + [50.0] * 59), PRESETS["llama2-70b-interactive"]
    )
    assert "59 of 6000 queries took more per output token than 40 ms" in slow.unproven[0]


@pytest.mark.parametrize("scenario", list(Scenario))
def test_without_an_slo_nothing_may_fail(scenario: Scenario) -> None:
    half = claim(scenario, profile_of([1.0] * 6000, scenario_plan(scenario, PLAN), failed=3000), None)
    assert not half.passed
    assert "50.00% of the requests failed" in half.unproven[0]


def test_a_stream_s_percentile_counts_who_failed() -> None:
    slow = claim(Scenario.SINGLE_STREAM, profile_of([1.0] * 100 + [2.0] * 900, failed=50), Slo(errors=0.1))
    assert slow.passed
    assert slow.result == "p90 of 2.001 ms"
    half = claim(Scenario.SINGLE_STREAM, profile_of([1.0] * 1000, failed=500), Slo(errors=0.6))
    assert half.result == "nothing"
    assert "1000 queries, 500 of which failed, are too few" in half.unproven[0]


def test_a_query_of_several_fails_with_any_of_them() -> None:
    plan = scenario_plan(Scenario.MULTI_STREAM, PLAN)
    rows = rows_of([1.0] * 8000)
    rows[:, 0] = rows[:, 1] = np.repeat(rows[::8, 0], 8)
    rows[:, 3] = rows[:, 0] + 0.001
    rows[:10, 5] = 503
    proven = claim(Scenario.MULTI_STREAM, judge("it", plan, Samples(rows, np.empty((0, 2)))), Slo(errors=0.01))
    assert proven.passed, "2 queries of 1000 may be over it"
    rows[:80:8, 5] = 503
    proven = claim(Scenario.MULTI_STREAM, judge("it", plan, Samples(rows, np.empty((0, 2)))), Slo(errors=0.01))
    assert "1000 queries, 10 of which failed, are too few" in proven.unproven[0]


def test_a_broken_bound_is_broken() -> None:
    proven = claim(Scenario.SERVER, profile_of([100.0] * 5000 + [200.0] * 1000), PRESETS["bert"])
    assert proven.broken == ("p99 is 200.00 ms, more than 130 ms",) or "more than 130 ms" in proven.broken[0]
    assert "NOT passed" in format_claim(proven)[0]


def test_single_stream_needs_44_queries() -> None:
    assert claim(Scenario.SINGLE_STREAM, profile_of([1.0] * 44), None).passed
    assert not claim(Scenario.SINGLE_STREAM, profile_of([1.0] * 43), None).passed


def test_offline_has_no_latency() -> None:
    plan = scenario_plan(Scenario.OFFLINE, PLAN)
    proven = claim(Scenario.OFFLINE, profile_of([5000.0] * 6000, plan), PRESETS["bert"])
    assert proven.passed
    assert proven.result.endswith("samples/s")


def test_terms_are_read() -> None:
    assert parse_slo("p99.9 < 50ms, errors<0.5%") == Slo(latency_ms=50, percentile=99.9, errors=0.005)
    assert parse_slo("ttft<1s,tpot<=40ms") == Slo(first_ms=1000, per_output_ms=40)
    assert parse_slo("resnet50").latency_ms == 15


@pytest.mark.parametrize("text", ["fast", "p99<50", "errors<1ms", "p99<5%", ""])
def test_what_is_no_slo_is_refused_with_the_presets(text: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        parse_slo(text)
    assert "resnet50" in refused.value.hint


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("p50<10ms,p99<50ms", "both p50<10ms and p99<50ms"),
        ("p99<50ms,p99<40ms", "both p99<50ms and p99<40ms"),
        ("ttft<1s,tpot<40ms,ttft<2s", "both ttft<1s and ttft<2s"),
        ("errors<1%,errors<2%", "both errors<1% and errors<2%"),
        ("p999<50ms", "percentile 999, which must be above 0 and below 100"),
        ("p100<50ms", "percentile 100, which"),
        ("p0<50ms", "percentile 0, which"),
        ("p99<0ms", "bounds p99 by 0"),
        ("ttft<0.0s", "bounds ttft by 0"),
    ],
)
def test_no_promise_is_dropped_unsaid(text: str, problem: str) -> None:
    with pytest.raises(InvalidArgument, match=re.escape(problem)) as refused:
        parse_slo(text)
    assert refused.value.hint


def test_no_error_at_all_can_be_promised() -> None:
    assert parse_slo("errors<=0%").errors == 0


def test_tokens_that_did_not_come_break_a_promise_about_them() -> None:
    assert "in no tokens" in broken_terms(PRESETS["llama2-70b"], profile_of([1.0] * 100))[0]

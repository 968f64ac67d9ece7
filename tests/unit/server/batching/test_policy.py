"""decide_batch: the cases of each policy, and properties that hold for every plan."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.server.batching.fakes import MS, RecordingResponder, make_request

from taxiway.core.errors import InvalidConfig
from taxiway.core.requests import NEVER_NS
from taxiway.server.batching.plan import BatchingPlan, LevelPolicy
from taxiway.server.batching.policy import (
    ArrivalRate,
    BucketView,
    Dispatch,
    Wait,
    decide_batch,
    predict_wait_ns,
)
from taxiway.stats.latency import LatencyCurve

CHEAPER = LatencyCurve([(1, 10 * MS), (32, 20 * MS)])
"""Batches pay: 32 rows cost twice one."""
NO_GAIN = LatencyCurve([(1, 10 * MS), (32, 320 * MS)])


def view_of(*rows: int, arrived_ns: int = 0, deadline_ns: int = NEVER_NS) -> BucketView:
    responder = RecordingResponder()
    requests = [
        make_request(str(n), responder, rows=row, arrived_ns=arrived_ns, deadline_ns=deadline_ns)
        for n, row in enumerate(rows)
    ]
    return BucketView(sum(rows), requests)


def test_without_an_idle_slot_it_just_queues() -> None:
    assert decide_batch(view_of(1, 1), 0, 0, CHEAPER, BatchingPlan(max_rows=8)) == Wait(NEVER_NS)


def test_by_default_it_takes_what_is_there_up_to_the_best_batch() -> None:
    plan = BatchingPlan(max_rows=64, merge_rows=16)
    assert decide_batch(view_of(1), 0, 1, CHEAPER, plan) == Dispatch(16)


@pytest.mark.parametrize(
    ("rows", "now_ns", "decision"),
    [
        ((1, 1), 0, Wait(5 * MS)),
        ((1, 1), 5 * MS - 1, Wait(5 * MS)),
        ((1, 1), 5 * MS, Dispatch(8)),  # the oldest has waited long enough
        ((4, 4), 0, Dispatch(8)),  # full
        ((5, 4), 0, Dispatch(8)),  # the next does not fit: the batch cannot grow
        ((9,), 0, Dispatch(8)),  # larger than the best batch: alone
    ],
)
def test_a_delay(rows: tuple[int, ...], now_ns: int, decision: Dispatch | Wait) -> None:
    plan = BatchingPlan(max_rows=16, merge_rows=8, max_delay_ns=5 * MS)
    assert decide_batch(view_of(*rows), now_ns, 1, CHEAPER, plan) == decision


@pytest.mark.parametrize(
    ("rows", "now_ns", "decision"),
    [
        ((1, 1, 1), 0, Wait(5 * MS)),
        ((1, 1, 1, 1), 0, Dispatch(4)),
        ((1,) * 7, 0, Dispatch(4)),  # the largest that fits
        ((1,) * 9, 0, Dispatch(8)),
        ((3, 2), 0, Wait(5 * MS)),  # 4 cannot be made of whole requests
        ((1, 1, 1), 5 * MS, Dispatch(16)),  # too late to be choosy
    ],
)
def test_preferred_sizes_as_in_triton(rows: tuple[int, ...], now_ns: int, decision: Dispatch | Wait) -> None:
    plan = BatchingPlan(max_rows=16, preferred_rows=(4, 8), max_delay_ns=5 * MS)
    assert decide_batch(view_of(*rows), now_ns, 1, CHEAPER, plan) == decision


def test_a_deadline_cuts_the_wait_short_by_the_run() -> None:
    plan = BatchingPlan(max_rows=16, max_delay_ns=500 * MS)
    view = view_of(1, deadline_ns=100 * MS)
    assert decide_batch(view, 0, 1, CHEAPER, plan) == Wait(90 * MS)
    assert decide_batch(view, 90 * MS, 1, CHEAPER, plan) == Dispatch(16)


class TestObjective:
    plan = BatchingPlan(max_rows=32, objective_p99_ns=100 * MS)

    def decide(self, now_ns: int, ns_per_row: float | None, curve: LatencyCurve = CHEAPER) -> Dispatch | Wait:
        return decide_batch(view_of(1, 1), now_ns, 1, curve, self.plan, ns_per_row)

    def test_it_waits_for_rows_that_are_coming(self) -> None:
        decision = self.decide(0, 1 * MS)
        assert isinstance(decision, Wait)
        assert decision.until_ns == 30 * MS  # thirty more rows, a millisecond each

    def test_never_beyond_what_the_oldest_can_bear(self) -> None:
        latest_ns = 100 * MS - CHEAPER.quantile_ns(32, 0.99)
        decision = self.decide(0, 4 * MS)
        assert isinstance(decision, Wait)
        assert decision.until_ns <= latest_ns
        assert self.decide(latest_ns, 1) == Dispatch(32)

    def test_not_when_few_arrive(self) -> None:
        assert self.decide(0, 10_000 * MS) == Dispatch(32)
        assert self.decide(0, None) == Dispatch(32)

    def test_not_when_a_bigger_batch_is_no_cheaper(self) -> None:
        plan = BatchingPlan(max_rows=32, objective_p99_ns=10_000 * MS)
        assert decide_batch(view_of(1, 1), 0, 1, NO_GAIN, plan, 1 * MS) == Dispatch(32)
        assert isinstance(decide_batch(view_of(1, 1), 0, 1, CHEAPER, plan, 1 * MS), Wait)

    def test_not_when_the_objective_is_out_of_reach(self) -> None:
        assert decide_batch(
            view_of(1), 0, 1, CHEAPER, BatchingPlan(max_rows=32, objective_p99_ns=5 * MS), 1.0
        ) == Dispatch(32)


def test_an_objective_limits_the_batch_to_what_is_in_time() -> None:
    plan = BatchingPlan(max_rows=32, objective_p99_ns=round(NO_GAIN.quantile_ns(8, 0.99)))
    view = view_of(1, 3, 3, 3, 22)
    assert decide_batch(view, 0, 1, NO_GAIN, plan) == Dispatch(7)
    assert decide_batch(view_of(7, 9), 0, 1, NO_GAIN, plan) == Dispatch(7)
    waited_ns = NO_GAIN.quantile_ns(2, 0.99)
    assert decide_batch(view, waited_ns, 1, NO_GAIN, plan) == Dispatch(4)
    assert decide_batch(view_of(1, 1), 0, 1, NO_GAIN, plan) == Dispatch(32), "all are in time: no limit"
    too_late_ns = plan.objective_p99_ns
    assert decide_batch(view, too_late_ns, 1, NO_GAIN, plan) == Dispatch(32), "the first is lost: help the others"


plans = st.builds(
    BatchingPlan,
    max_rows=st.just(32),
    merge_rows=st.integers(0, 32),
    preferred_rows=st.lists(st.integers(1, 32), max_size=3).map(tuple),
    max_delay_ns=st.sampled_from([0, 1, 5 * MS]),
    objective_p99_ns=st.sampled_from([0, 5 * MS, 100 * MS]),
)


@given(
    plans,
    st.lists(st.integers(1, 32), min_size=1, max_size=40),
    st.integers(0, 200 * MS),
    st.integers(0, 2),
    st.one_of(st.none(), st.floats(1, 1e12)),
    st.one_of(st.just(NEVER_NS), st.integers(0, 300 * MS)),
)
def test_every_decision(
    plan: BatchingPlan,
    rows: list[int],
    now_ns: int,
    idle: int,
    ns_per_row: float | None,
    deadline_ns: int,
) -> None:
    view = view_of(*rows, deadline_ns=deadline_ns)
    decision = decide_batch(view, now_ns, idle, CHEAPER, plan, ns_per_row)
    if isinstance(decision, Dispatch):
        assert idle > 0
        assert 1 <= decision.rows <= plan.merge_cap <= plan.max_rows
    elif idle:
        assert plan.may_wait, "a plan that may not wait waited"
        assert view.rows < plan.merge_cap, "a full batch waited"
        assert now_ns < decision.until_ns < NEVER_NS, "a wait without end, or one that is over"
        assert decision.until_ns < deadline_ns
        longest = plan.objective_p99_ns or plan.max_delay_ns
        assert decision.until_ns <= view.oldest_ns + longest
    else:
        assert decision.until_ns == NEVER_NS


def test_the_predicted_wait() -> None:
    plan = BatchingPlan(max_rows=8)
    curve = LatencyCurve([(8, 10 * MS)])
    assert predict_wait_ns(0, 1, 1, 1, curve, plan) == 0
    assert predict_wait_ns(7, 1, 1, 1, curve, plan) == 0, "it joins the batch that starts now"
    assert predict_wait_ns(8, 1, 1, 1, curve, plan) == 10 * MS
    assert predict_wait_ns(15, 1, 2, 2, curve, plan) == 0, "the second batch starts now as well"
    assert predict_wait_ns(0, 1, 0, 1, curve, plan) == 5 * MS
    assert predict_wait_ns(17, 1, 0, 1, curve, plan) == 25 * MS
    assert predict_wait_ns(17, 1, 0, 2, curve, plan) == 15 * MS


def test_the_predicted_wait_prices_a_last_batch_it_does_not_fit_by_its_rows() -> None:
    plan = BatchingPlan(max_rows=32)
    assert predict_wait_ns(33, 32, 1, 1, CHEAPER, plan) == 30 * MS


def test_the_arrival_rate_follows_and_falls_silent() -> None:
    rate = ArrivalRate()
    assert rate.ns_per_row(0) is None
    for turn in range(100):
        rate.observe(turn * 4 * MS, 2)
    last_ns = 99 * 4 * MS
    assert rate.ns_per_row(last_ns) == pytest.approx(2 * MS)
    assert rate.ns_per_row(last_ns + 50 * MS) == pytest.approx(50 * MS)


def test_a_plan_reports_every_problem_at_once() -> None:
    with pytest.raises(InvalidConfig) as caught:
        BatchingPlan(max_rows=4, merge_rows=5, preferred_rows=(8,), default_level=2)
    assert len(caught.value.facts["problems"]) == 3


@pytest.mark.parametrize(
    ("strict", "default", "override", "own", "expected"),
    [
        (True, 0, False, 50, 50),
        (True, 100, False, 50, 50),
        (True, 100, True, 500, 100),
        (True, 100, False, None, 100),
        (False, 0, True, 50, None),  # Triton: without a default an override is ignored
        (False, 100, False, 50, 100),
        (False, 100, True, 50, 50),
        (False, 100, True, 500, 100),
    ],
)
def test_whose_timeout_counts(
    strict: bool, default: int, override: bool, own: int | None, expected: int | None
) -> None:
    level = LevelPolicy(default_timeout_ns=default, allow_timeout_override=override)
    request = make_request(
        "r", RecordingResponder(), arrived_ns=1000, deadline_ns=NEVER_NS if own is None else 1000 + own
    )
    assert level.deadline_ns(request, strict=strict) == (NEVER_NS if expected is None else 1000 + expected)

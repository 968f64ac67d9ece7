"""How a plan is shared among processes, and which request comes when."""

from __future__ import annotations

import asyncio
import socket

import numpy as np
import pytest

from taxiway.core.errors import InvalidArgument, TargetUnavailable
from taxiway.profile import running
from taxiway.profile.arrivals import Constant, Poisson, Replay
from taxiway.profile.generating.job import Door, Shot
from taxiway.profile.phases import Counters, counters_of, phases_between
from taxiway.profile.plan import Plan
from taxiway.profile.requests import Request
from taxiway.profile.running import NothingDue, make_jobs, processes_of, run_profile
from taxiway.profile.workload import Workload


class Nowhere:
    """A target that is asked for nothing but its door."""

    name = "nowhere"
    door = Door("127.0.0.1", 9)

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    def render(self, workload: Workload | None) -> list[Shot]:
        return []

    async def counters(self) -> Counters | None:
        return None

    def process(self) -> int | None:
        return None


SHOTS = [Shot(b"a"), Shot(b"b"), Shot(b"c")]
PLAN = Plan(Poisson(), 300.0, 4.0, warm_up_s=1.0, processes=3)


def test_the_shares_make_the_whole_schedule() -> None:
    jobs = make_jobs(PLAN, Nowhere(), SHOTS, None)
    whole = Poisson().offsets(np.random.default_rng(PLAN.seed), 300.0, 5.0)
    assert np.array_equal(np.sort(np.concatenate([job.due_s for job in jobs])), whole)
    assert sum(job.connections for job in jobs) == PLAN.connections


def test_requests_come_in_their_order_over_all_processes() -> None:
    jobs = make_jobs(PLAN, Nowhere(), SHOTS, None)
    rows = sorted((due, int(which)) for job in jobs for due, which in zip(job.due_s, job.indices, strict=True))
    assert [which for _, which in rows[:7]] == [0, 1, 2, 0, 1, 2, 0]


def test_weights_say_how_often() -> None:
    workload = Workload([Request(weight=8.0), Request(), Request()], "here")
    jobs = make_jobs(PLAN, Nowhere(), SHOTS, workload)
    share = np.concatenate([job.indices for job in jobs]) == 0
    assert 0.75 < share.mean() < 0.85


def test_a_replay_keeps_the_order_whatever_the_weights() -> None:
    workload = Workload([Request(weight=8.0), Request(), Request()], "here")
    plan = Plan(Replay(np.array([0.0, 0.1, 0.2])), 1.0, 1.0, warm_up_s=0.0, processes=1)
    (job,) = make_jobs(plan, Nowhere(), SHOTS, workload)
    assert job.indices.tolist() == [0, 1, 2]


def test_a_replay_that_begins_later_begins_with_that_request() -> None:
    plan = Plan(Replay(np.array([0.0, 0.1, 0.2]), repeats=True, begin=2), 1.0, 0.45, warm_up_s=0.0, processes=1)
    (job,) = make_jobs(plan, Nowhere(), SHOTS, None)
    assert job.indices.tolist() == [2, 0, 1, 2, 0]


def test_a_closed_loop_is_divided() -> None:
    jobs = make_jobs(Plan(Constant(), 1.0, 1.0, concurrency=5, processes=2), Nowhere(), SHOTS, None)
    assert [job.concurrency for job in jobs] == [3, 2]
    assert processes_of(Plan(Constant(), 1.0, 1.0, concurrency=2, processes=9)) == 2


def test_offline_is_due_at_once() -> None:
    (job,) = make_jobs(Plan(Constant(), 10.0, 3.0, all_at_once=True, processes=1), Nowhere(), SHOTS, None)
    assert job.due_s.tolist() == [0.0] * 30


def test_no_arrival_is_told_apart() -> None:
    with pytest.raises(NothingDue, match="no request is due"):
        make_jobs(Plan(Poisson(), 1e-6, 0.05), Nowhere(), SHOTS, None)


def test_nothing_to_send_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"no request is due within 1.05 s at 0.001/s"):
        make_jobs(Plan(Replay(np.array([0.0])), 0.001, 0.05), Nowhere(), [], None)


def test_a_replay_that_repeats_has_an_end() -> None:
    plan = Plan(Replay(np.arange(3, dtype=np.float64) * 1e-9, repeats=True), 1.0, 5.0, warm_up_s=0.0, processes=1)
    with pytest.raises(InvalidArgument, match="a run has at most 10000000"):
        make_jobs(plan, Nowhere(), SHOTS, None)


def test_a_dense_trace_is_not_refused_by_its_rate() -> None:
    plan = Plan(Replay(np.arange(3, dtype=np.float64) * 1e-9), 1e9, 30.0, warm_up_s=0.0, processes=1)
    assert len(make_jobs(plan, Nowhere(), SHOTS, None)[0].due_s) == 3


class Mute(Nowhere):
    """A server that takes connections, and says nothing: not even who it is."""

    def __init__(self, port: int) -> None:
        self.door = Door("127.0.0.1", port, tls=True)

    def render(self, workload: Workload | None) -> list[Shot]:
        return SHOTS


def test_a_server_that_cannot_be_connected_to_in_time_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_START_TIMEOUT_S", 0.5)
    monkeypatch.setattr(running, "_END_TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        plan = Plan(Constant(), 10.0, 1.0, processes=1)
        with pytest.raises(TargetUnavailable, match=rf"127\.0\.0\.1:{port} cannot be connected to: not within 0\.5 s"):
            asyncio.run(run_profile(plan, Mute(port)))


@pytest.mark.parametrize("field", ["rate_per_s", "duration_s", "timeout_s"])
def test_a_plan_must_be_possible(field: str) -> None:
    with pytest.raises(InvalidArgument, match=field):
        Plan(**{"arrivals": Constant(), "rate_per_s": 1.0, "duration_s": 1.0, field: 0.0})  # type: ignore[arg-type]


def test_phases_are_what_the_counters_gained() -> None:
    def told(count: int, ns: int) -> Counters:
        stats = {"success": {"count": count, "ns": ns * 4}, "queue": {"count": count, "ns": str(ns)}}
        return counters_of({"model_stats": [{"inference_stats": stats, "execution_count": count // 2}]})

    phases = phases_between(told(10, 1_000_000), told(110, 101_000_000), 5.0)
    assert phases is not None
    assert phases.by_phase["queue"] == pytest.approx(1.0)
    assert phases.server_ms == pytest.approx(4.0)
    assert phases.outside_ms == pytest.approx(1.0)
    assert phases.batch == pytest.approx(2.0)
    assert phases_between(told(10, 1), told(10, 1), 5.0) is None

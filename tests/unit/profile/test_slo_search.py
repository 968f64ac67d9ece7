"""The search for the highest rate, against simulated queues in virtual time: how near it comes, and what it takes."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from taxiway.core.errors import InvalidArgument
from taxiway.profile.slo_search import Ask, Found, Sample, SloPlan, judge, run_search, run_search_async

WARM_UP_S = 1.0
RUN_S = 30.0


@dataclass(frozen=True)
class Queue:
    """`servers` in a row before one queue: exponential times of service (M/M/1), or all alike (M/D/c)."""

    per_s: float
    limit_s: float
    servers: int = 1
    varies: bool = True

    def latency(self, rng: np.random.Generator, rate: float, seconds: float, speed: float = 1.0) -> NDArray[np.float64]:
        """Of the requests after the warm-up, in the order of their arrival."""
        whole = seconds + WARM_UP_S
        at = np.sort(rng.random(int(rng.poisson(rate * whole)))) * whole
        mean_s = self.servers / (self.per_s * speed)
        service = rng.exponential(mean_s, len(at)) if self.varies else np.full(len(at), mean_s)
        latency = np.empty(len(at))
        for first in range(self.servers):  # with times all alike, every c-th request meets the same server
            arrived, served = at[first :: self.servers], service[first :: self.servers]
            walk = np.concatenate([[0.0], np.cumsum(served[:-1] - np.diff(arrived))])[: len(arrived)]
            latency[first :: self.servers] = walk - np.minimum.accumulate(walk) + served
        return latency[at >= WARM_UP_S]

    def truth(self) -> float:
        """The rate at which exactly 1 % of requests take longer than the limit."""
        if self.varies:
            return self.per_s - math.log(100) / self.limit_s
        rng, low, high = np.random.default_rng(9), self.per_s / 20, self.per_s
        for _ in range(12):
            middle = (low + high) / 2
            slow = float((self.latency(rng, middle, 300_000 / middle) > self.limit_s).mean())
            low, high = (middle, high) if slow <= 0.01 else (low, middle)
        return low


class Bench:
    """Measures a queue whose speed is never quite the same, and counts the virtual time."""

    def __init__(self, queue: Queue, seed: int, noise: float = 0.02) -> None:
        self.queue = queue
        self.rng = np.random.default_rng(seed)
        self.noise = noise
        self.seconds = 0.0
        self.hiccups: list[float] = []
        """Rates of which the next measurement goes wrong."""

    def measure(self, ask: Ask) -> Sample:
        self.seconds += ask.seconds + WARM_UP_S
        speed = 1 + self.noise * float(self.rng.standard_normal())
        if self.hiccups and ask.rate_per_s > self.hiccups[0]:
            self.hiccups.pop()
            speed = 0.3
        return Sample.of(self.queue.latency(self.rng, ask.rate_per_s, ask.seconds, speed).tolist(), self.queue.limit_s)


def sweep(bench: Bench, start: float, step: float) -> float:
    """What people do instead: every rate for the whole time, until one is lost."""
    best, rate = 0.0, start
    while True:
        sample = bench.measure(Ask(rate, RUN_S))
        if sample.beyond > 0.01 * sample.requests:
            return best
        best, rate = rate, rate * step


QUEUES = [
    Queue(1000, 0.02),
    Queue(1000, 0.01),
    Queue(600, 0.05),
    Queue(200, 0.1, servers=4, varies=False),
    Queue(1000, 0.012, servers=8, varies=False),
]


@pytest.mark.parametrize("queue", QUEUES, ids=str)
def test_it_is_near_the_truth_in_a_quarter_of_a_sweep_s_time(queue: Queue) -> None:
    truth = queue.truth()
    errors, search_s, sweep_s, sweep_errors = [], [], [], []
    for seed in range(12):
        start = truth * 2 ** float(np.random.default_rng(seed).uniform(-4, 1))
        bench, other = Bench(queue, seed), Bench(queue, seed + 1000)
        found = run_search(SloPlan(start, RUN_S), bench.measure)
        assert found.rate_per_s is not None
        errors.append(abs(found.rate_per_s / truth - 1))
        search_s.append(bench.seconds)
        sweep_errors.append(abs(sweep(other, truth / 8, 1.05) / truth - 1))
        sweep_s.append(other.seconds)
    assert np.median(errors) < 0.03
    assert np.quantile(errors, 0.9) < 0.06
    assert np.median(errors) < np.median(sweep_errors)  # which stops at the first rate that noise made lose
    assert np.mean(search_s) < np.mean(sweep_s) / 4


@settings(max_examples=40, deadline=None)
@given(st.floats(0.02, 500), st.floats(0.05, 5000), st.floats(0.9, 0.999), st.floats(0.01, 0.2))
def test_without_noise_the_bracket_holds_the_answer(
    limit: float, start: float, quantile: float, resolution: float
) -> None:
    def measure(ask: Ask) -> Sample:
        return Sample(10**9, 10**9 * (ask.rate_per_s > limit), 1e9)

    found = run_search(SloPlan(start, 1.0, quantile, resolution), measure)
    assert found.kept_per_s is not None
    assert found.lost_per_s is not None
    assert found.kept_per_s <= limit < found.lost_per_s <= found.kept_per_s * (1 + resolution)
    assert all(answer.cut for answer in found.answers)


def test_a_rate_that_has_clearly_lost_is_left_early() -> None:
    queue = Queue(1000, 0.02)
    found = run_search(SloPlan(3000, RUN_S), Bench(queue, 1).measure)
    lost = [answer for answer in found.answers if answer.rate_per_s > 1000]
    assert lost
    assert all(answer.kept is False and answer.seconds == RUN_S / 8 for answer in lost)


@pytest.mark.parametrize("seed", range(4))
def test_a_hiccup_of_the_machine_does_not_decide(seed: int) -> None:
    queue = Queue(1000, 0.02)
    bench = Bench(queue, seed)
    bench.hiccups = [300.0]
    found = run_search(SloPlan(200, RUN_S), bench.measure)
    assert not bench.hiccups
    assert found.rate_per_s == pytest.approx(queue.truth(), rel=0.1)


def test_bounds_end_the_search() -> None:
    always = run_search(SloPlan(10, 1.0, most_per_s=70), lambda _: Sample(10**6, 0, 1e6))
    assert (always.rate_per_s, always.lost_per_s) == (70, None)
    never = run_search(SloPlan(10, 1.0, least_per_s=3), lambda _: Sample(10**6, 10**6, 1e6))
    assert (never.rate_per_s, never.kept_per_s, never.lost_per_s) == (None, None, 3)


def test_ends_that_were_too_close_to_say_are_not_proven() -> None:
    def measure(ask: Ask) -> Sample:
        requests = round(ask.rate_per_s * ask.seconds)
        return Sample(requests, requests * (ask.rate_per_s > 20) // 50, float(requests))

    few = run_search(SloPlan(10, 4.0), measure)
    assert few.rate_per_s is not None
    assert few.unproven == (few.kept_per_s, few.lost_per_s)
    many = run_search(SloPlan(10, 4000.0), measure)
    assert many.unproven == ()
    nothing = run_search(SloPlan(10, 1.0, most_per_s=40), lambda _: Sample(0, 0, 0.0))
    assert nothing.unproven == (40,)


def test_failures_that_come_together_are_worth_no_more_than_slow_ones() -> None:
    outage = [0.001] * 2500 + [math.inf] * 100 + [0.001] * 2400
    sample = Sample.of(outage, 0.02)
    assert (sample.requests, sample.beyond) == (5000, 100)
    assert sample.effective == Sample.of([min(one, 1.0) for one in outage], 0.02).effective < 100
    assert judge(sample, 0.01, 0.95)[0] is None
    assert Sample.of([math.inf] * 100, 0.02).effective == 100


def test_a_target_that_does_not_keep_up_has_lost() -> None:
    assert judge(Sample(10, 0, 10.0, hopeless=True), 0.01, 0.95)[0] is False
    assert judge(Sample(1000, 0, 1000.0), 0.01, 0.95)[0] is True
    assert judge(Sample(100, 0, 100.0), 0.01, 0.95)[0] is None


@given(st.integers(0, 500), st.integers(1, 500), st.floats(0.5, 1))
def test_the_interval_holds_the_share(beyond: int, within: int, worth: float) -> None:
    sample = Sample(beyond + within, beyond, (beyond + within) * worth)
    _, low, high = judge(sample, 0.01, 0.95)
    assert 0 <= low <= beyond / (beyond + within) <= high <= 1


def test_it_can_be_awaited() -> None:
    bench = Bench(Queue(1000, 0.02), 3)

    async def measure(ask: Ask) -> Sample:
        return bench.measure(ask)

    found: Found = asyncio.run(run_search_async(SloPlan(100, RUN_S), measure))
    assert found == run_search(SloPlan(100, RUN_S), Bench(Queue(1000, 0.02), 3).measure)
    assert found.seconds == sum(answer.seconds for answer in found.answers)


def test_plans_that_cannot_be_are_refused() -> None:
    for wrong in ({"run_s": 0}, {"quantile": 1}, {"resolution": 0}, {"confidence": 1}, {"start_rate_per_s": 0}):
        with pytest.raises(InvalidArgument, match=next(iter(wrong))):
            SloPlan(**{"start_rate_per_s": 1.0, "run_s": 1.0, **wrong})  # type: ignore[arg-type]

"""Which requests of a run break an SLO: by any of its bounds, and those that failed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from taxiway.profile.arrivals import Constant, Replay
from taxiway.profile.outcome import Profile
from taxiway.profile.plan import Plan
from taxiway.profile.samples import OK, TIMED_OUT, Samples
from taxiway.profile.search_report import search_data, search_lines
from taxiway.profile.searching import Searched, Stages, sample_of
from taxiway.profile.slo_search import Answer, Ask, Found
from taxiway.profile.slos import Slo

ROWS = np.array(
    [
        # due, sent, first, done, tokens, ending
        [0.0, 0.0, 0.010, 0.020, 2, OK],
        [1.0, 1.0, 1.010, 1.090, 5, OK],
        [2.0, 2.0, 2.200, 2.210, 2, OK],
        [3.0, 3.0, 3.010, 3.110, 2, OK],
        [4.0, 4.0, np.nan, 9.000, 0, TIMED_OUT],
    ]
)


def rates(offered: float, achieved: float) -> Profile:
    return cast("Profile", SimpleNamespace(offered_per_s=offered, achieved_per_s=achieved))


@pytest.mark.parametrize(
    ("slo", "beyond"),
    [
        (Slo(latency_ms=100), 3),
        (Slo(latency_ms=1000), 1),
        (Slo(first_ms=100), 2),
        (Slo(per_output_ms=50), 2),
        (Slo(latency_ms=105, first_ms=100, per_output_ms=50), 3),
    ],
)
def test_whichever_bound_is_broken(slo: Slo, beyond: int) -> None:
    sample = sample_of(Samples(ROWS, np.empty((0, 2))), slo, rates(1, 1))
    assert (sample.requests, sample.beyond, sample.hopeless) == (5, beyond, False)


def test_a_target_that_falls_behind_is_hopeless() -> None:
    many: Any = np.repeat(ROWS, 10, axis=0)
    slow = sample_of(Samples(many, np.empty((0, 2))), Slo(latency_ms=1e6), rates(100, 40))
    assert slow.hopeless


def test_a_run_without_an_answer_is_all_beyond() -> None:
    sample = sample_of(Samples(ROWS[4:], np.empty((0, 2))), Slo(latency_ms=1e6), rates(1, 0))
    assert (sample.requests, sample.beyond) == (1, 1)


def test_a_run_in_which_nothing_was_due_says_nothing() -> None:
    sample = sample_of(Samples(ROWS[:0], np.empty((0, 2))), Slo(latency_ms=1, per_output_ms=1), rates(0, 0))
    assert (sample.requests, sample.beyond, sample.effective, sample.hopeless) == (0, 0, 0.0, False)


def test_the_stages_of_a_rate_replay_the_whole_trace() -> None:
    stages = Stages(Plan(Replay(np.arange(5.0)), 1.0, 30.0))
    begun = []
    for ask, requests in ((Ask(10, 4), 3), (Ask(20, 4), 4), (Ask(10, 4), 3), (Ask(10, 8), 9), (Ask(20, 8), 0)):
        arrivals = stages.plan(ask).arrivals
        assert isinstance(arrivals, Replay)
        assert (arrivals.scale, arrivals.repeats) == (None, True)
        begun.append((ask.rate_per_s, arrivals.begin))
        stages.ran(ask, requests)
    assert begun == [(10, 0), (20, 0), (10, 3), (10, 1), (20, 4)]


def test_every_stage_is_a_run_of_its_own() -> None:
    stages = Stages(Plan(Constant(), 1.0, 30.0, seed=7))
    first, second = stages.plan(Ask(10, 4)), stages.plan(Ask(10, 8))
    assert (first.rate_per_s, first.duration_s, second.duration_s) == (10, 4, 8)
    assert len({7, first.seed, second.seed}) == 3


def answer(rate_per_s: float, *, kept: bool | None) -> Answer:
    return Answer(rate_per_s, kept, 0.0, 0.0, 1.0, 20.0, 1.0, cut=False)


def test_what_was_not_proven_is_told_so() -> None:
    slo = Slo(latency_ms=50)
    told = Searched(Found(104, 100, 110, (answer(100, kept=None), answer(110, kept=False))))
    assert search_lines(slo, told)[-1].startswith("not proven: 100/s too close to say")
    assert search_data(slo, told)["unproven_per_s"] == [100]
    both = Searched(Found(104, 100, 110, (answer(100, kept=None), answer(110, kept=None))))
    assert "not proven: 100/s and 110/s too close to say" in search_lines(slo, both)[-1]
    sure = Searched(Found(104, 100, 110, (answer(100, kept=True), answer(110, kept=False), answer(110, kept=None))))
    assert "not proven" not in "".join(search_lines(slo, sure))
    assert search_data(slo, sure)["unproven_per_s"] == []

"""Which requests of a run break an SLO: by any of its bounds, and those that failed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from taxiway.profile.outcome import Profile
from taxiway.profile.samples import OK, TIMED_OUT, Samples
from taxiway.profile.searching import sample_of
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

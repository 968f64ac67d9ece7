"""When a fuse blows: by a row of failures, by evidence, and by what the arm has cost beyond the other."""

from __future__ import annotations

import random

from taxiway.core.traffic import Fuse
from taxiway.server.splitting.fuse import FuseWatch

BUDGET = Fuse("candidate", "control", log_e=1e9, failures_in_a_row=1_000_000, bad_requests=50)
EVIDENCE = Fuse("candidate", "control", failures_in_a_row=1_000_000)


def test_a_row_of_failures_blows_it_whatever_the_other_does() -> None:
    """Nothing but a good answer ends a row."""
    watch = FuseWatch(Fuse("candidate", "control", failures_in_a_row=3), 0.05, 0.05)
    assert [watch.failed() is None for _ in range(2)] == [True, True]
    watch.in_a_row = 0
    assert watch.failed() is None
    assert watch.failed() is None
    assert watch.failed() == "3 requests in a row failed"


def test_the_budget_is_of_what_the_arm_fails_beyond_the_other() -> None:
    """With the other failing nothing it is spent by as many failures; what both fail alike costs nothing."""
    alone = FuseWatch(BUDGET, 0.5, 0.5)
    reasons = [alone.failed() for _ in range(50)]
    assert reasons[:49] == [None] * 49
    assert reasons[49] == "it cost 50 requests more than control, which is the whole exposure budget"
    incident = FuseWatch(BUDGET, 0.1, 0.9)
    for _ in range(1_000):
        for _ in range(9):
            incident.other_failed()
        assert incident.failed() is None


def test_a_candidate_that_fails_as_often_as_the_other_does_not_spend_its_budget_in_time() -> None:
    """20,000 requests of which one in 200 fails, as of a healthy service."""
    chance = random.Random(7)  # noqa: S311 - a simulation
    watch = FuseWatch(BUDGET, 0.5, 0.5)
    for _ in range(20_000):
        if chance.random() < 0.005:
            assert watch.failed() is None
        if chance.random() < 0.005:
            watch.other_failed()


def test_what_was_spent_before_counts() -> None:
    """Earlier steps of the same rollout."""
    watch = FuseWatch(BUDGET, 0.5, 0.5, spent=48.5)
    assert watch.failed() is None
    assert watch.failed() is not None


def test_evidence_that_it_fails_more_often_blows_it() -> None:
    """Each failure of the candidate's tenth of the requests speaks against it; failures at the same rate do not."""
    worse = FuseWatch(EVIDENCE, 0.1, 0.9)
    reasons = [worse.failed() for _ in range(10)]
    blown = next(reason for reason in reasons if reason is not None)
    assert blown.startswith("it fails more often than control: log e ")
    equal = FuseWatch(EVIDENCE, 0.5, 0.5)
    for _ in range(500):
        assert equal.failed() is None
        equal.other_failed()

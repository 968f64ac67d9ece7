"""Which requests are chosen."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from taxiway.server.tracing.plan import TracePlan
from taxiway.server.tracing.sampler import Sampler


@given(st.integers(1, 50), st.integers(-1, 20), st.integers(0, 300))
def test_every_nth_until_enough(rate: int, count: int, requests: int) -> None:
    sampler = Sampler(TracePlan(frozenset({"TIMESTAMPS"}), rate, count))

    taken = [number for number in range(1, requests + 1) if sampler.take()]

    due = list(range(rate, requests + 1, rate))
    assert taken == (due if count < 0 else due[:count])
    assert sampler.left == (-1 if count < 0 else count - len(taken))


def test_who_asks_decides_within_the_count() -> None:
    sampler = Sampler(TracePlan(frozenset({"TIMESTAMPS"}), rate=1000, count=2))

    assert [sampler.take(asked) for asked in (True, False, None, True, True)] == [True, False, False, True, False]

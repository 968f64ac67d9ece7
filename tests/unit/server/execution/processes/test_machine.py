"""The life of a model process, for every order of events that Hypothesis can think of."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from taxiway.server.execution.processes.machine import Event, Life, State, step
from taxiway.server.execution.processes.plan import RespawnPlan

_S = 1_000_000_000
PLAN = RespawnPlan()


def _lived(*events: tuple[Event, int]) -> tuple[Life, list[int | None]]:
    life = Life()
    waits = []
    for event, at_s in events:
        life, wait = step(life, event, at_s * _S, PLAN, "a reason")
        waits.append(wait)
    return life, waits


def test_after_its_first_death_another_is_started_at_once() -> None:
    life, waits = _lived((Event.OPENED, 0), (Event.DIED, 10))
    assert (life.state, life.reason, waits) == (State.RESTING, "a reason", [None, 0])


def test_who_dies_again_and_again_rests_longer_each_time_and_is_broken_at_last() -> None:
    deaths = [(Event.DIED, at) for at in range(5)]
    life, waits = _lived(*deaths)
    assert waits == [0, _S // 10, _S // 5, 2 * _S // 5, 30 * _S]
    assert life.state is State.BROKEN


def test_deaths_long_ago_do_not_count() -> None:
    life, waits = _lived(*[(Event.DIED, at * 61) for at in range(20)])
    assert (life.state, set(waits)) == (State.RESTING, {0})


def test_a_broken_one_is_tried_again_and_is_ready_if_it_opens() -> None:
    life, _ = _lived(*[(Event.DIED, at) for at in range(5)], (Event.RESTED, 40), (Event.OPENED, 41))
    assert (life.state, life.generation) == (State.READY, 2)


@given(st.lists(st.tuples(st.sampled_from(Event), st.integers(0, 30))))
def test_the_closed_stay_closed_and_only_the_dead_and_the_rested_have_a_process_started(
    steps: list[tuple[Event, int]],
) -> None:
    life, now_ns, closed = Life(), 0, False
    for event, wait_s in steps:
        now_ns += wait_s * _S
        before = life
        life, wait = step(life, event, now_ns, PLAN)
        closed = closed or event is Event.CLOSED
        assert (life.state is State.CLOSED) == closed
        assert (wait is not None) == (not closed and event in (Event.DIED, Event.RESTED))
        assert life.generation >= before.generation
        assert len(life.deaths_ns) <= PLAN.crashes
        assert wait is None or 0 <= wait <= PLAN.broken_rest_ns

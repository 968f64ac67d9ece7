"""The life of a model process, for every order of events that Hypothesis can think of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.core.errors import InvalidTransition
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


def _deaths(*at_s: int, ready_s: int) -> tuple[Life, list[int | None]]:
    """One that dies at these times, each time after having been ready for so long."""
    events = []
    for at in at_s:
        events += [(Event.OPENED, at - ready_s), (Event.DIED, at), (Event.RESTED, at)]
    life, waits = _lived(*events[:-1])
    return life, waits[1::3]


def test_after_its_first_death_another_is_started_at_once() -> None:
    life, waits = _lived((Event.OPENED, 0), (Event.DIED, 10))
    assert (life.state, life.reason, waits) == (State.RESTING, "a reason", [None, 0])


def test_who_dies_again_and_again_rests_longer_each_time_and_is_broken_at_last() -> None:
    life, waits = _deaths(1, 2, 3, 4, 5, ready_s=1)
    assert waits == [0, _S // 10, _S // 5, 2 * _S // 5, 30 * _S]
    assert life.state is State.BROKEN


def test_deaths_long_ago_do_not_count() -> None:
    life, waits = _deaths(*range(61, 20 * 61, 61), ready_s=61)
    assert (life.state, set(waits)) == (State.RESTING, {0})


def test_who_lives_for_a_while_each_time_is_not_given_up() -> None:
    life, waits = _deaths(*range(20, 400, 20), ready_s=20)
    assert (life.state, max(wait or 0 for wait in waits)) == (State.RESTING, _S // 5)


def test_the_time_that_loading_takes_excuses_nothing() -> None:
    assert _deaths(*range(100, 600, 100), ready_s=1)[0].state is State.BROKEN
    never_loaded = [(event, at) for at in range(0, 500, 100) for event in (Event.DIED, Event.RESTED)]
    assert _lived(*never_loaded[:-1])[0].state is State.BROKEN


def test_a_broken_one_is_tried_again_and_stays_broken_until_it_is_ready() -> None:
    deaths = [(event, at) for at in range(5) for event in (Event.DIED, Event.RESTED)]
    retrying, _ = _lived(*deaths)
    assert (retrying.state, retrying.is_broken) == (State.RETRYING, True)
    ready, _ = _lived(*deaths, (Event.OPENED, 40))
    assert (ready.state, ready.is_broken) == (State.READY, False)
    again, waits = _lived(*deaths, (Event.OPENED, 40), (Event.DIED, 41))
    assert (again.state, waits[-1]) == (State.BROKEN, 30 * _S)


@given(st.lists(st.tuples(st.sampled_from(Event), st.integers(0, 30))))
def test_only_the_dead_and_the_rested_have_a_process_started_and_nothing_else_can_happen(
    steps: list[tuple[Event, int]],
) -> None:
    life, now_ns = Life(), 0
    for event, wait_s in steps:
        now_ns += wait_s * _S
        waits_for_start = life.state in (State.RESTING, State.BROKEN)
        could = event is Event.RESTED if waits_for_start else event is not Event.RESTED
        if event is Event.OPENED and life.state is State.READY:
            could = False
        if not could:
            with pytest.raises(InvalidTransition):
                step(life, event, now_ns, PLAN)
            continue
        life, wait = step(life, event, now_ns, PLAN)
        assert (wait is not None) == (event in (Event.DIED, Event.RESTED))
        assert len(life.deaths_ns) <= PLAN.crashes
        assert wait is None or 0 <= wait <= PLAN.broken_rest_ns

"""The life of a version as a property: whatever events come, only the table's steps are taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.core.errors import InvalidTransition
from taxiway.server.models.machine import ModelEvent, ModelState, begin_life, step_life


def test_the_whole_life() -> None:
    life = begin_life("m:1", 1)
    for at_ns, event in enumerate((ModelEvent.LOADED, ModelEvent.RETIRED, ModelEvent.DRAINED), start=2):
        life = step_life(life, event, "because", at_ns)
    assert [chapter.state for chapter in life.chapters] == [
        ModelState.LOADING,
        ModelState.READY,
        ModelState.DRAINING,
        ModelState.GONE,
    ]
    assert [chapter.since_ns for chapter in life.chapters] == [1, 2, 3, 4]


def test_a_refused_step_tells_the_story() -> None:
    life = step_life(begin_life("m:1", 1), ModelEvent.LOADED, "warm", 2)
    with pytest.raises(InvalidTransition, match=r"'loaded' while ready: loading \(loading\) -> ready \(warm\)"):
        step_life(life, ModelEvent.LOADED, "again", 3)


@given(st.lists(st.sampled_from(ModelEvent)))
def test_no_order_of_events_leaves_the_table(events: list[ModelEvent]) -> None:
    life = begin_life("m:1", 0)
    for at_ns, event in enumerate(events, start=1):
        before = life
        try:
            life = step_life(life, event, event.value, at_ns)
        except InvalidTransition:
            assert life is before
            continue
        assert life.chapters[:-1] == before.chapters
        assert before.now.state not in (ModelState.GONE, ModelState.FAILED)
    again = (ModelState.READY, ModelState.STALLED, ModelState.LACKING)
    calm = [chapter.state for chapter in life.chapters if chapter.state not in again]
    assert len(calm) == len(set(calm)), "only stalling, lacking and their ends come again"
    assert len(life.chapters) <= 16


def test_what_stalls_and_resumes_for_months_does_not_grow() -> None:
    life = step_life(begin_life("m:1", 0), ModelEvent.LOADED, "warm", 1)
    for at_ns in range(2, 200, 2):
        life = step_life(life, ModelEvent.STALLED, "a run does not come back", at_ns)
        life = step_life(life, ModelEvent.RESUMED, "it came back", at_ns + 1)
    assert len(life.chapters) == 16
    assert life.now.state is ModelState.READY

"""Progress: a version whose run does not come back is not ready; when it comes back, it is."""

from __future__ import annotations

import pytest

from taxiway.server.models.machine import ModelEvent, ModelState
from taxiway.server.models.progress import decide_progress


@pytest.mark.parametrize(
    ("state", "running_ns", "event"),
    [
        (ModelState.READY, -1, None),
        (ModelState.READY, 9, None),
        (ModelState.READY, 10, ModelEvent.STALLED),
        (ModelState.STALLED, 10, None),
        (ModelState.STALLED, 9, ModelEvent.RESUMED),
        (ModelState.STALLED, -1, ModelEvent.RESUMED),
        (ModelState.DRAINING, 99, None),
        (ModelState.LOADING, 99, None),
    ],
)
def test_what_the_age_of_a_run_says(state: ModelState, running_ns: int, event: ModelEvent | None) -> None:
    assert decide_progress(state, running_ns, 10) is event

"""The event-label test: published values, what it needs, and that order and process do not matter."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.stats.event_label import (
    INFINITE,
    EventLabelTest,
    Segment,
    bad_events_needed,
    estimated_ratio,
    log_e,
    more_events,
    ratio_interval,
    share_of_events,
)

SEGMENTS: list[Segment] = [(0.01, 4, 120), (0.05, 14, 110), (0.25, 60, 95)]
segments_of = st.lists(st.tuples(st.floats(0.01, 0.9), st.integers(0, 50), st.integers(0, 500)), min_size=1, max_size=6)


@pytest.mark.parametrize(
    ("segments", "margin", "expected"),
    [
        ([(0.05, 20, 200)], 0.0, 1.360267),
        ([(0.05, 20, 200)], 0.1, 0.538931),
        ([(0.05, 20, 380)], 0.0, -2.641965),
        (SEGMENTS, 0.0, 9.921426),
    ],
)
def test_values_of_an_independent_implementation(segments: list[Segment], margin: float, expected: float) -> None:
    assert log_e(segments, margin, "harm") == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("weight", "ratio", "events", "candidate"),
    [(0.05, 2, 285, 27), (0.05, 4, 48, 8), (0.01, 2, 1299, 26), (0.01, 4, 202, 8)],
)
def test_how_many_events_it_takes(weight: float, ratio: float, events: int, candidate: int) -> None:
    needed = bad_events_needed(weight, ratio, math.log(20))
    assert needed is not None
    assert needed == pytest.approx(events, rel=0.15)  # the published figures are of simulated walks
    assert round(events * share_of_events(weight, ratio)) == candidate


@given(segments_of)
def test_order_and_process_do_not_matter(segments: list[Segment]) -> None:
    backwards = log_e(reversed(segments), 0.1, "harm")
    assert log_e(segments, 0.1, "harm") == pytest.approx(backwards, abs=1e-9)
    halves = [(weight, part, 0) for weight, part, _ in segments] + [(weight, 0, part) for weight, _, part in segments]
    assert log_e(halves, 0.1, "harm") == pytest.approx(backwards, abs=1e-9)


@given(segments_of, st.floats(0, 1))
def test_both_hypotheses_are_never_refuted_by_much(segments: list[Segment], margin: float) -> None:
    """The two are of one ratio, above and below it: strong evidence for both would contradict itself."""
    assert min(log_e(segments, margin, "harm"), log_e(segments, margin, "safe")) < math.log(20)


@given(segments_of)
def test_the_interval_holds_the_estimate(segments: list[Segment]) -> None:
    low, high = ratio_interval(segments, 0.05)
    estimate = estimated_ratio(segments)
    if estimate is None:
        assert (low, high) == (0.0, INFINITE)
    else:
        assert low <= estimate * (1 + 1e-6)
        assert estimate <= high * (1 + 1e-6)


@pytest.mark.parametrize(("direction", "ratio"), [("harm", 1.0), ("safe", 1.1)])
def test_under_the_hypothesis_it_seldom_crosses_however_often_it_is_looked_at(direction: str, ratio: float) -> None:
    chance = random.Random(7)  # noqa: S311 - a simulation
    crossed = 0
    for _ in range(300):
        test = EventLabelTest("harm" if direction == "harm" else "safe", ratio - 1)
        for _ in range(300):
            bad = chance.random() < share_of_events(0.1, ratio)
            test.add(0.1, int(bad), int(not bad))
            if test.log_e >= math.log(20):
                crossed += 1
                break
    assert crossed / 300 <= 0.05


def test_the_interval_covers_the_truth_at_all_times() -> None:
    chance = random.Random(3)  # noqa: S311 - a simulation
    missed = 0
    for _ in range(60):
        candidate = baseline = 0
        for events in range(1, 201):
            bad = chance.random() < share_of_events(0.2, 1.7)
            candidate, baseline = candidate + bad, baseline + (not bad)
            if events % 20 == 0:
                low, high = ratio_interval([(0.2, candidate, baseline)], 0.1)
                if not low <= 1.7 <= high:
                    missed += 1
                    break
    assert missed / 60 <= 0.1


def test_what_is_still_missing_shrinks_as_events_come() -> None:
    before = more_events([(0.1, 5, 20)], 0.1, 3.0, math.log(20), 0.0, "harm")
    after = more_events([(0.1, 10, 40)], 0.1, 3.0, math.log(20), 0.0, "harm")
    assert before is not None
    assert after is not None
    assert after < before
    assert more_events([(0.1, 50, 40)], 0.1, 3.0, math.log(20), 0.0, "harm") == 0
    assert more_events([(0.1, 5, 45)], 0.1, 1.0, math.log(20), 0.0, "harm") is None

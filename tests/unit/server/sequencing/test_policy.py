"""Which steps an idle instance runs next, one case at a time."""

from __future__ import annotations

import pytest

from taxiway.config.sequence_spec import DirectStrategy, OldestStrategy
from taxiway.server.sequencing.plan import SequencePlan
from taxiway.server.sequencing.policy import Candidate, Later, Together, decide_run


def direct(delay_ns: int = 0, share: float = 0.0, rows: int = 4) -> SequencePlan:
    return SequencePlan("m", DirectStrategy(delay_ns, share), rows, rows)


def oldest(*preferred: int, delay_ns: int = 0, rows: int = 4, candidates: int = 8) -> SequencePlan:
    return SequencePlan("m", OldestStrategy(candidates, preferred, delay_ns), rows, rows)


def at(*places: int, shapes: str = "", arrived_ns: tuple[int, ...] = ()) -> list[Candidate]:
    """Candidates in these places, each with a letter for its shapes."""
    letters = shapes or "a" * len(places)
    times = arrived_ns or (10,) * len(places)
    return [Candidate(time, place, letter) for time, place, letter in zip(times, places, letters, strict=True)]


@pytest.mark.parametrize(
    ("candidates", "rows"),
    [
        (at(0), (0,)),
        (at(2), (None, None, 0)),
        (at(3, 0), (1, None, None, 0)),
        (at(0, 1, 2, 3), (0, 1, 2, 3)),
        (at(0, 1, 2, shapes="aba"), (0, None, 2)),
        (at(0, 1, 2, shapes="aba", arrived_ns=(10, 5, 10)), (None, 1)),
    ],
)
def test_direct_has_each_sequence_in_its_row(candidates: list[Candidate], rows: tuple[int | None, ...]) -> None:
    assert decide_run(candidates, 20, direct()) == Together(rows)


def test_direct_waits_for_rows_if_asked_to_and_no_longer() -> None:
    plan = direct(delay_ns=100, share=0.5)
    assert decide_run(at(0), 20, plan) == Later(110)
    assert decide_run(at(0, 1), 20, plan) == Together((0, 1)), "half of the rows are there"
    assert decide_run(at(0), 110, plan) == Together((0,))
    assert decide_run(at(0), 20, plan, hurried=True) == Together((0,))
    assert decide_run(at(0), 20, direct(delay_ns=100)) == Together((0,)), "no share is asked for"
    assert decide_run(at(0), 20, direct(share=1)) == Together((0,)), "no wait is asked for"


def test_oldest_takes_who_was_ready_first() -> None:
    assert decide_run(at(5, 1, 7), 20, oldest()) == Together((0, 1, 2))
    assert decide_run(at(5, 1, 7, 2, 0), 20, oldest()) == Together((0, 1, 2, 3)), "as many as rows"
    assert decide_run(at(5, 1, 7, shapes="aab"), 20, oldest()) == Together((0, 1)), "as far as they are alike"
    assert decide_run(at(5, 1, 7, shapes="aba"), 20, oldest()) == Together((0,)), "nobody overtakes"


def test_oldest_prefers_sizes_and_waits_for_them() -> None:
    plan = oldest(2, 4, delay_ns=100)
    assert decide_run(at(0), 20, plan) == Later(110)
    assert decide_run(at(0, 1), 20, plan) == Together((0, 1))
    assert decide_run(at(0, 1, 2), 20, plan) == Together((0, 1)), "the largest preferred size that there is"
    assert decide_run(at(0, 1, 2), 110, plan) == Together((0, 1, 2)), "whoever is there when time is up"
    assert decide_run(at(0, 1, shapes="ab"), 20, plan) == Together((0,)), "it cannot grow"
    assert decide_run(at(0), 20, plan, hurried=True) == Together((0,))
    assert decide_run(at(0), 20, oldest(2)) == Together((0,)), "no wait is asked for"

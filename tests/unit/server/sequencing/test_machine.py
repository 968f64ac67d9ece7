"""Single cases of the machine of sequences that invented histories do not tell apart."""

from __future__ import annotations

import pytest
from tests.unit.server.batching.fakes import MS, RecordingResponder, make_request

from taxiway.config.sequence_spec import DirectStrategy, OldestStrategy
from taxiway.core.errors import InvalidArgument, Overloaded, Unavailable
from taxiway.core.requests import NEVER_NS, InferRequest, RequestState, SequenceStep
from taxiway.server.batching.plan import QueueLimits
from taxiway.server.sequencing.machine import Run, SequenceMachine, step_of
from taxiway.server.sequencing.plan import SequencePlan
from taxiway.server.statistics import SequenceCounts

RESPONDER = RecordingResponder()


def step(id: int | str, flags: str = "", *, deadline_ns: int = NEVER_NS) -> InferRequest:  # noqa: A002
    """A step; `flags` are S for START and E for END."""
    request = make_request(str(id), RESPONDER, deadline_ns=deadline_ns)
    request.sequence = SequenceStep(id, "S" in flags, "E" in flags)
    return request


def told(run: Run) -> list[str]:
    """Ids and flags by row."""
    rows = []
    for row in run.rows:
        if row is None:
            rows.append("-")
            continue
        now = step_of(row.request)
        rows.append(f"{now.id}{'S' * now.starts}{'E' * now.ends}")
    return rows


class Bench:
    """A machine, and what it has running."""

    def __init__(self, plan: SequencePlan) -> None:
        self.machine = SequenceMachine(plan)
        self.now_ns = 0
        self.out: list[Run] = []

    def send(self, *steps: InferRequest) -> None:
        for request in steps:
            self.machine.admit(request, self.now_ns)

    def advance(self, ms: int = 0) -> list[list[str]]:
        """The runs that start after so long."""
        self.now_ns += ms * MS
        move = self.machine.advance(self.now_ns)
        self.late, self.orphaned = list(move.late), list(move.orphaned)
        self.out += move.runs
        return [told(run) for run in move.runs]

    def finish(self) -> list[list[str]]:
        """What starts when all that runs is back."""
        out, self.out = self.out, []
        for run in out:
            self.machine.finish(run, self.now_ns)
        return self.advance()


def one_place(**more: int | bool | QueueLimits) -> Bench:
    return Bench(SequencePlan("m", DirectStrategy(), max_idle_ns=100 * MS, **more))  # type: ignore[arg-type]


def test_instances_fill_evenly_and_rows_from_the_first() -> None:
    bench = Bench(SequencePlan("m", DirectStrategy(), 2, 2, instances=2))
    bench.send(step(1, "S"), step(2, "S"), step(3, "S"))
    assert bench.advance() == [["1S", "3S"], ["2S"]]


def test_a_row_keeps_its_place_when_the_one_before_it_is_over() -> None:
    bench = Bench(SequencePlan("m", DirectStrategy(), 2, 2))
    bench.send(step(1, "SE"), step(2, "S"))
    assert bench.advance() == [["1SE", "2S"]]
    bench.send(step(2))
    assert bench.finish() == [["-", "2"]]
    bench.send(step(3, "S"), step(2))
    assert bench.finish() == [["3S", "2"]]


def test_after_its_end_an_id_may_begin_again_elsewhere() -> None:
    bench = Bench(SequencePlan("m", DirectStrategy(), 2, 2))
    bench.send(step(1, "S"), step(1, "E"), step(1, "S"))
    assert bench.advance() == [["1S", "1S"]]
    assert bench.finish() == [["1E"]]


def test_the_first_step_that_is_taken_back_hands_its_start_on() -> None:
    bench = one_place()
    first = step(1, "S")
    bench.send(first, step(1), step(1))
    assert bench.machine.withdraw(first, 0)
    assert bench.advance() == [["1S"]]
    assert bench.finish() == [["1"]]
    again = step(1, "S")
    bench.send(again)
    assert bench.machine.withdraw(again, 0), "it was to begin anew"
    bench.send(step(1))
    assert bench.finish() == [["1S"]], "what comes then does"


def test_a_sequence_whose_only_step_is_taken_back_has_never_been() -> None:
    bench = one_place()
    first = step(1, "S")
    bench.send(first)
    bench.machine.withdraw(first, 0)
    assert bench.machine.counts() == SequenceCounts(0, 0, 0)
    with pytest.raises(InvalidArgument, match="START flag"):
        bench.send(step(1))


def test_an_end_that_is_taken_back_is_an_end() -> None:
    bench = one_place()
    bench.send(step(1, "S"))
    bench.advance()
    end = step(1, "E")
    bench.send(end, step(2, "S"))
    bench.machine.withdraw(end, 0)
    assert bench.finish() == [["2S"]]


def test_idle_means_that_nothing_waits_or_runs() -> None:
    bench = one_place()
    bench.send(step(1, "S"))
    assert bench.advance() == [["1S"]]
    assert bench.advance(1000) == [], "it runs for long"
    bench.finish()
    bench.send(step(2, "S"))
    assert bench.advance(99) == []
    assert bench.advance(1) == [["2S"]]
    assert bench.machine.counts() == SequenceCounts(1, 0, 1)


def test_a_deadline_in_the_backlog_gives_the_whole_sequence_up() -> None:
    for strict in (True, False):
        bench = one_place(strict_timeouts=strict)
        bench.send(step(1, "S"), step(2, "S", deadline_ns=20 * MS), step(2), step(3, "S"))
        bench.advance(19)
        assert bench.orphaned == []
        bench.advance(1)
        assert [request.id for request in bench.orphaned] == ["2", "2"]
        assert all(request.state is RequestState.DONE for request in bench.orphaned)
        with pytest.raises(InvalidArgument):
            bench.send(step(2))
        assert bench.machine.counts() == SequenceCounts(1, 1, 0)


def test_a_deadline_in_a_place_gives_one_step_up_if_at_all() -> None:
    for strict in (True, False):
        bench = one_place(strict_timeouts=strict)
        bench.send(step(1, "S"))
        bench.advance()
        bench.send(step(1, deadline_ns=20 * MS), step(1, "E"))
        bench.advance(20)
        assert len(bench.late) == strict
        assert bench.finish() == ([["1E"]] if strict else [["1"]])


def test_nothing_begins_any_more_and_what_is_under_way_goes_on() -> None:
    bench = one_place()
    bench.send(step(1, "S"), step(2, "S"))
    bench.advance()
    bench.machine.begins_none = True
    with pytest.raises(Unavailable, match="stopped accepting new inference requests"):
        bench.send(step(3, "S"))
    bench.send(step(1, "E"), step(2, "E"))
    assert bench.machine.has_sequences
    assert bench.finish() == [["1E"]]
    assert bench.finish() == [["2S"]]
    assert bench.finish() == [["2E"]]
    bench.finish()
    assert not bench.machine.has_sequences


@pytest.mark.parametrize("limit", ["max_requests", "max_rows", "max_bytes"])
def test_what_waits_is_limited(limit: str) -> None:
    bench = one_place(limits=QueueLimits(**{limit: 16 if limit == "max_bytes" else 2}))
    bench.send(step(1, "S"), step(1))
    with pytest.raises(Overloaded, match=limit):
        bench.send(step(1))
    bench.advance()
    bench.send(step(1))


def test_what_an_instance_loses_is_over_and_what_has_not_begun_is_not() -> None:
    bench = Bench(SequencePlan("m", OldestStrategy(2), 1, 1, instances=2))
    bench.send(step(1, "S"), step(2, "S"), step(3, "S"), step(4, "S"))
    assert bench.advance() == [["1S"], ["2S"]]
    bench.send(step(1), step(2))
    lost = bench.machine.lose(0, bench.now_ns)
    assert [request.id for request in lost] == ["1"]
    with pytest.raises(InvalidArgument):
        bench.send(step(1))
    assert bench.finish() == [["3S"], ["4S"]]
    assert bench.finish() == [["2"]]


def test_shapes_of_states_keep_steps_apart() -> None:
    bench = Bench(SequencePlan("m", OldestStrategy(2), 2, 2, initial_shapes="initial"))
    bench.send(step(1, "S"), step(2, "S"))
    assert bench.advance() == [["1S", "2S"]]
    (run,) = bench.out
    for row, shapes in zip(run.rows, ("long", "short"), strict=True):
        assert row is not None
        row.sequence.shapes = shapes
    bench.send(step(1), step(2))
    assert bench.finish() == [["1"]]
    bench.send(step(1, "S"))
    assert bench.finish() == [["2"]]
    assert bench.finish() == [["1S"]]

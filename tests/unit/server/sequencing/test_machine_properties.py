"""The machine of sequences under any order of events, in virtual time: what must hold after each of them."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.unit.server.batching.fakes import MS, RecordingResponder, make_request

from taxiway.config.sequence_spec import DirectStrategy, OldestStrategy
from taxiway.core.errors import InvalidArgument, Overloaded, Unavailable
from taxiway.core.requests import NEVER_NS, InferRequest, RequestState, SequenceStep
from taxiway.server.batching.plan import QueueLimits
from taxiway.server.sequencing.machine import LiveSequence, Run, SequenceMachine, step_of
from taxiway.server.sequencing.plan import SequencePlan

IDLE_NS = 50 * MS
STRATEGIES: dict[str, DirectStrategy | OldestStrategy] = {
    "direct": DirectStrategy(),
    "patient direct": DirectStrategy(20 * MS, 0.7),
    "oldest": OldestStrategy(),
    "patient oldest": OldestStrategy(3, (2,), 20 * MS),
    "many candidates": OldestStrategy(5, (), 0, preserve_ordering=True),
}


class Sequences(RuleBasedStateMachine):
    """Random callers; every run is brought back some time."""

    @initialize(
        strategy=st.sampled_from(sorted(STRATEGIES)),
        rows=st.integers(1, 3),
        instances=st.integers(1, 2),
        strict=st.booleans(),
        most=st.sampled_from([0, 0, 4]),
    )
    def begin(self, strategy: str, rows: int, instances: int, strict: bool, most: int) -> None:
        chosen = STRATEGIES[strategy]
        if isinstance(chosen, OldestStrategy) and any(size > rows for size in chosen.preferred_sizes):
            chosen = OldestStrategy(chosen.max_candidates, (), chosen.max_queue_delay_ns)
        self.plan = SequencePlan("m", chosen, rows, rows, instances, IDLE_NS, QueueLimits(max_requests=most), strict)
        self.machine = SequenceMachine(self.plan)
        self.now_ns = 0
        self.sent = 0
        self.waiting: dict[InferRequest, LiveSequence] = {}
        self.order: dict[LiveSequence, list[InferRequest]] = {}
        """The steps that wait, by sequence, as they came."""
        self.out: dict[int, Run] = {}
        self.begun: set[LiveSequence] = set()
        self.queue_of_backlog: list[LiveSequence] = []
        self.answered: set[InferRequest] = set()

    # --- events -----------------------------------------------------------------------------------------

    @rule(
        id=st.sampled_from([1, 2, 3, 4, "five", 6]),
        starts=st.booleans(),
        ends=st.sampled_from([False, False, True]),
        bucket=st.sampled_from(["a", "a", "a", "b"]),
        patience_ms=st.none() | st.integers(1, 40),
    )
    def send(self, id: int | str, starts: bool, ends: bool, bucket: str, patience_ms: int | None) -> None:  # noqa: A002
        self.sent += 1
        deadline_ns = NEVER_NS if patience_ms is None else self.now_ns + patience_ms * MS
        request = make_request(
            str(self.sent), RecordingResponder(), arrived_ns=self.now_ns, bucket=bucket, deadline_ns=deadline_ns
        )
        request.sequence = SequenceStep(id, starts, ends)
        known = self.machine._open.get(id)
        try:
            self.machine.admit(request, self.now_ns)
        except InvalidArgument:
            assert known is None
            assert not starts
        except Unavailable:
            assert starts
            assert self.machine.begins_none
        except Overloaded:
            assert len(self.waiting) == self.plan.limits.max_requests
        else:
            sequence = self.machine._sequence_of[request]
            assert (sequence is known) == (known is not None), "a step went to another sequence than its own"
            self.waiting[request] = sequence
            self.order.setdefault(sequence, []).append(request)
            if known is None and sequence.place < 0:
                self.queue_of_backlog.append(sequence)

    @rule(ms=st.sampled_from([0, 1, 3, 10, 21, 51]))
    def wait(self, ms: int) -> None:
        self.now_ns += ms * MS
        self.advance()

    def advance(self) -> None:
        overdue = {request for request in self.waiting if request.deadline_ns <= self.now_ns}
        homeless = {request for request, sequence in self.waiting.items() if sequence.place < 0}
        move = self.machine.advance(self.now_ns)
        for request in move.late:
            assert self.plan.strict_timeouts
            assert request in overdue
            self.end(request)
        for request in move.orphaned:
            assert request in homeless
            self.end(request)
        for run in move.runs:
            self.begin_run(run)
        for request in overdue & self.waiting.keys():
            assert not self.plan.strict_timeouts
            assert self.waiting[request].place >= 0
        assert move.until_ns > self.now_ns, "there is more to do now"
        assert all(sequence.quiet_ns + IDLE_NS > self.now_ns for sequence in self.machine._quiet)
        patient = self.plan.strategy.max_queue_delay_ns and not self.machine.hurried
        for instance, ready in enumerate(self.machine._ready):
            assert patient or not ready or instance in self.out, "an idle instance leaves a step waiting"

    def begin_run(self, run: Run) -> None:
        assert run.instance not in self.out, "two runs at a time on one instance"
        assert run.rows[-1] is not None
        assert len(run.rows) <= self.plan.rows
        self.out[run.instance] = run
        buckets = set()
        for place, row in enumerate(run.rows):
            if row is None:
                assert isinstance(self.plan.strategy, DirectStrategy)
                continue
            request, sequence = row
            assert sequence.instance == run.instance
            assert isinstance(self.plan.strategy, OldestStrategy) or sequence.place == place
            assert self.order[sequence][0] is request, "out of order"
            assert step_of(request).starts or sequence in self.begun, "a sequence that does not begin with START"
            self.begun.add(sequence)
            buckets.add(request.bucket)
            self.end(request, RequestState.RUNNING)
        assert len(buckets) == 1

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def come_back(self, data: st.DataObject) -> None:
        self.machine.finish(self.out.pop(data.draw(st.sampled_from(sorted(self.out)))), self.now_ns)
        self.advance()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def take_back(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(list(self.waiting)))
        assert self.machine.withdraw(request, self.now_ns)
        assert not self.machine.withdraw(request, self.now_ns)
        self.end(request)

    @rule(instance=st.integers(0, 1), really=st.integers(0, 4))
    def lose(self, instance: int, really: int) -> None:
        if really == 0 and instance < self.plan.instances:
            lost = self.machine.lose(instance, self.now_ns)
            for request in lost:
                assert self.waiting[request] in self.begun
                self.end(request)
            assert not any(
                one.instance == instance and one.has_begun and not one.has_ended for one in self.machine._open.values()
            )

    @rule()
    def hurry(self) -> None:
        self.machine.hurried = True

    @rule(none=st.booleans())
    def begin_none(self, none: bool) -> None:
        self.machine.begins_none = none

    @rule(really=st.integers(0, 9))
    def close(self, really: int) -> None:
        if really == 0:
            left = self.machine.take_all()
            assert set(left) == self.waiting.keys()
            for request in left:
                self.end(request)
            self.queue_of_backlog.clear()
            assert not self.machine._open
            assert self.machine.is_idle == (not self.out)

    def end(self, request: InferRequest, state: RequestState = RequestState.DONE) -> None:
        """It waits no more: it runs, or got its answer."""
        assert request not in self.answered
        assert request.state is state
        self.answered.add(request)
        self.order[self.waiting.pop(request)].remove(request)

    # --- what always holds --------------------------------------------------------------------------------

    @invariant()
    def each_sequence_is_in_one_place(self) -> None:
        machine = self.machine
        known = {
            *machine._open.values(),
            *self.waiting.values(),
            *(row.sequence for run in self.out.values() for row in run.rows if row is not None),
        }
        places = [(one.instance, one.place) for one in known if one.place >= 0]
        free = [(instance, place) for place, instance in machine._free]
        assert len(set(places)) == len(places), "two sequences in one place"
        assert sorted(places + free) == sorted(
            (instance, place) for instance in range(self.plan.instances) for place in range(self.plan.places)
        )
        assert {one for one in known if one.place < 0 and not one.has_ended} <= set(machine._backlog)
        assert not (machine._backlog and free), "a sequence waits beside a free place"

    @invariant()
    def the_backlog_is_first_come_first_served(self) -> None:
        backlog = list(self.machine._backlog)
        still = [one for one in self.queue_of_backlog if one in self.machine._backlog]
        assert backlog == still
        self.queue_of_backlog = still
        assert all(one.steps for one in backlog), "nothing waits in a sequence that waits"

    @invariant()
    def what_is_counted_is_there(self) -> None:
        assert self.machine.requests == len(self.waiting)
        assert self.machine.nbytes == sum(request.nbytes for request in self.waiting)
        assert all(list(sequence.steps) == steps for sequence, steps in self.order.items())
        assert self.machine.running == len(self.out)

    def teardown(self) -> None:
        """Whatever happened: what was sent is answered, and sequences that nobody goes on with are gone."""
        if not hasattr(self, "machine"):
            return
        for _ in range(2 * self.sent + 2):
            for instance in list(self.out):
                self.machine.finish(self.out.pop(instance), self.now_ns)
            self.now_ns += IDLE_NS
            self.advance()
        assert not self.waiting
        assert not self.machine.has_sequences
        assert len(self.machine._free) == self.plan.places * self.plan.instances


Sequences.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestSequences = Sequences.TestCase

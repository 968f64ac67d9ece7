"""The lives of a model's sequences: waiting for a place -> in a place, step after step -> over.

Pure: its methods are the events, what they return is what is to be done, and the time is passed in. A sequence begins
with a step that has START and is over with the one that has END, or once it has been idle for too long. One that finds
no place free waits in the backlog, first come first served, and its steps with it. As in Triton:

* A START for a sequence that is under way begins it anew, in its place, after the steps that wait.
* After END the id is free at once: a START with the same id begins another sequence, though the last steps still run.
* A deadline that comes while a sequence waits for a place ends the sequence: all its steps are given up.

Otherwise a step that is taken back, or late, is as if it had never been sent: the sequence goes on, and if that step
was its first, the next one is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Any, NamedTuple

from taxiway.core.errors import InvalidArgument, Overloaded, Unavailable
from taxiway.core.requests import NEVER_NS, InferRequest, RequestState, SequenceStep
from taxiway.server.sequencing.plan import SequencePlan
from taxiway.server.sequencing.policy import Candidate, Later, decide_run
from taxiway.server.statistics import SequenceCounts

_QUEUED, _RUNNING, _DONE = RequestState.QUEUED, RequestState.RUNNING, RequestState.DONE
_NOWHERE = -1
_SLACK = 64


class LiveSequence:
    """A sequence that is not over.

    Attributes:
        id: the caller's.
        steps: those that wait, in order.
        running: the one that runs.
        instance, place: where it is; -1 while it waits for a place.
        has_begun: whether a step of it was run.
        starts_next: the next step is its first, whatever that says: the one that said so was taken back.
        has_ended: no more steps come.
        shapes: of its states as they are now.
        state: the states themselves; whoever runs the steps keeps them here.
    """

    __slots__ = (
        "has_begun",
        "has_ended",
        "id",
        "instance",
        "place",
        "quiet_ns",
        "running",
        "shapes",
        "starts_next",
        "state",
        "steps",
    )

    def __init__(self, id: int | str) -> None:  # noqa: A002 - the protocol's own word
        self.id = id
        self.steps: deque[InferRequest] = deque()
        self.running: InferRequest | None = None
        self.instance = self.place = _NOWHERE
        self.has_begun = self.starts_next = self.has_ended = False
        self.shapes: Hashable = ()
        self.state: Any = None
        self.quiet_ns = 0

    def next_shapes(self, initial: Hashable) -> Hashable:
        """What must be equal for its next step to share a run."""
        request = self.steps[0]
        return request.bucket, initial if step_of(request).starts else self.shapes


def step_of(request: InferRequest) -> SequenceStep:
    """Its place in its sequence; whoever admits requests has seen to it that there is one."""
    assert request.sequence is not None  # noqa: S101
    return request.sequence


class Row(NamedTuple):
    """A row of a run: a step and its sequence."""

    request: InferRequest
    sequence: LiveSequence


@dataclass(frozen=True, slots=True)
class Run:
    """Have an instance run these rows; None is a row whose sequence has no step."""

    instance: int
    rows: tuple[Row | None, ...]


class Move(NamedTuple):
    """What is to be done now.

    Attributes:
        runs: to be started.
        late: steps that are given up, their deadline reached.
        orphaned: steps that are given up because their sequence never got a place in time.
        until_ns: when to look again if nothing happens before.
    """

    runs: Sequence[Run]
    late: Sequence[InferRequest]
    orphaned: Sequence[InferRequest]
    until_ns: int


class SequenceMachine:
    """All sequences of one model version. It owns a request from `admit` until the run, or one of the lists, it is in.

    It moves `state` to QUEUED, RUNNING (in a run) or DONE (withdrawn, late, orphaned, taken).
    """

    def __init__(self, plan: SequencePlan) -> None:
        self.requests = 0
        """Steps that wait."""
        self.nbytes = 0
        self.hurried = False
        """Nothing waits for company any more."""
        self.begins_none = False
        """Sequences under way go on, and no new ones begin."""
        self._plan = plan
        self._open: dict[int | str, LiveSequence] = {}
        """Those that may still be sent steps, by id."""
        self._backlog: dict[LiveSequence, None] = {}
        """In the order in which they began."""
        self._free = [(place, instance) for place in range(plan.places) for instance in range(plan.instances)]
        """A heap, the lowest places first: the rows of a run are few, and instances fill evenly."""
        heapify(self._free)
        self._ready: list[dict[LiveSequence, None]] = [{} for _ in range(plan.instances)]
        """By instance, the sequences whose next step could run, in the order in which it could."""
        self._busy = [False] * plan.instances
        self._quiet: dict[LiveSequence, None] = {}
        """Those without a step, the one that has been so for longest first."""
        self._sequence_of: dict[InferRequest, LiveSequence] = {}
        """Of the steps that wait."""
        self._deadlines: list[tuple[int, int, InferRequest]] = []
        self._numbers = count()
        self._sweep_at = _SLACK
        self._idled_out = 0

    # --- what is told ---------------------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Whether no step waits or runs."""
        return not self.requests and not any(self._busy)

    @property
    def has_sequences(self) -> bool:
        """Whether a sequence is under way."""
        return bool(self._open) or not self.is_idle

    @property
    def running(self) -> int:
        """Runs that are out."""
        return sum(self._busy)

    def counts(self) -> SequenceCounts:
        """How many sequences there are now."""
        placed = self._plan.places * self._plan.instances - len(self._free)
        return SequenceCounts(placed, len(self._backlog), self._idled_out)

    # --- events ---------------------------------------------------------------------------------------------

    def admit(self, request: InferRequest, now_ns: int) -> None:
        """A NEW step came.

        Raises:
            InvalidArgument: its sequence is not under way, and it does not begin one.
            Unavailable: it would begin one, and none begins any more.
            Overloaded: as much waits as may.
        """
        step = step_of(request)
        sequence = self._open.get(step.id)
        self._check(request, step, sequence)
        if sequence is None:
            sequence = self._begin(step.id)
        elif sequence.starts_next:
            request.sequence = step._replace(starts=True)
        sequence.starts_next = False
        self._quiet.pop(sequence, None)
        request.state = _QUEUED
        sequence.steps.append(request)
        self._sequence_of[request] = sequence
        self.requests += 1
        self.nbytes += request.nbytes
        if request.deadline_ns != NEVER_NS:
            self._watch(request)
        if step.ends:
            sequence.has_ended = True
            del self._open[step.id]
        self._note_ready(sequence)
        sequence.quiet_ns = now_ns

    def withdraw(self, request: InferRequest, now_ns: int) -> bool:
        """A caller takes `request` back. True: it waited, and is DONE now; False: it does not wait."""
        if request.state is not _QUEUED:
            return False
        self._remove(request, now_ns)
        return True

    def advance(self, now_ns: int) -> Move:
        """Time has passed, or something happened: what is to be done. O(sequences that are ready)."""
        late: list[InferRequest] = []
        orphaned: list[InferRequest] = []
        self._expire(now_ns, late, orphaned)
        self._end_idle(now_ns)
        runs: list[Run] = []
        until_ns = NEVER_NS
        for instance, ready in enumerate(self._ready):
            if ready and not self._busy[instance]:
                formed = self._form(instance, list(ready), now_ns)
                if isinstance(formed, Run):
                    runs.append(formed)
                else:
                    until_ns = min(until_ns, formed.until_ns)
        return Move(runs, late, orphaned, min(until_ns, self._next_deadline_ns(), self._next_idle_ns()))

    def finish(self, run: Run, now_ns: int) -> None:
        """A run came back; the shapes of its sequences' states are as it left them."""
        self._busy[run.instance] = False
        for row in run.rows:
            if row is not None:
                row.sequence.running = None
                self._rest(row.sequence, now_ns)

    def lose(self, instance: int, now_ns: int) -> list[InferRequest]:
        """An instance has lost what its model kept: the sequences that had begun there are over.

        Returns:
            Their steps that waited, DONE, to be answered by the caller.
        """
        lost: list[InferRequest] = []
        for sequence in self._known():
            if sequence.instance == instance and sequence.has_begun:
                lost += self._cut(sequence, now_ns)
        return lost

    def take_all(self) -> list[InferRequest]:
        """The end: every step that waits, DONE, to be answered by the caller. No sequence is left but what runs."""
        self._backlog.clear()
        left: list[InferRequest] = []
        for sequence in self._known():
            left += self._cut(sequence, 0)
        return left

    # --- the rules ------------------------------------------------------------------------------------------

    def _check(self, request: InferRequest, step: SequenceStep, sequence: LiveSequence | None) -> None:
        model = self._plan.model
        if sequence is None and not step.starts:
            raise InvalidArgument(
                f"inference request for sequence {step.id} to model '{model}' must specify the START flag on the first "
                "request of the sequence",
                hint="send it with sequence_start; a sequence is over after sequence_end, or when it was idle for "
                f"max_sequence_idle_microseconds ({self._plan.max_idle_ns // 1000})",
            )
        if step.starts and self.begins_none:
            raise Unavailable(
                "Server is stopping, scheduler for model has stopped accepting new inference requests",
                hint="begin the sequence on another replica",
            )
        limits = self._plan.limits
        for key, limit, waiting in (
            ("max_requests", limits.max_requests, self.requests + 1),
            ("max_rows", limits.max_rows, self.requests + 1),
            ("max_bytes", limits.max_bytes, self.nbytes + request.nbytes),
        ):
            if waiting > limit > 0:
                raise Overloaded(
                    f"the model's queue is full: its limit is queue.{key} = {limit}",
                    hint=f"retry later, add instances, or raise queue.{key}",
                    limit=limit,
                    key=f"queue.{key}",
                )

    def _begin(self, id: int | str) -> LiveSequence:  # noqa: A002 - as above
        sequence = self._open[id] = LiveSequence(id)
        if self._free:
            sequence.place, sequence.instance = heappop(self._free)
        else:
            self._backlog[sequence] = None
        return sequence

    def _note_ready(self, sequence: LiveSequence) -> None:
        if sequence.place != _NOWHERE and sequence.running is None:
            self._ready[sequence.instance].setdefault(sequence)

    def _form(self, instance: int, ready: list[LiveSequence], now_ns: int) -> Run | Later:
        initial = self._plan.initial_shapes
        candidates = [Candidate(one.steps[0].arrived_ns, one.place, one.next_shapes(initial)) for one in ready]
        decision = decide_run(candidates, now_ns, self._plan, hurried=self.hurried)
        if isinstance(decision, Later):
            return decision
        rows = tuple(None if index is None else self._start(ready[index]) for index in decision.rows)
        self._busy[instance] = True
        return Run(instance, rows)

    def _start(self, sequence: LiveSequence) -> Row:
        request = sequence.running = sequence.steps.popleft()
        sequence.has_begun = True
        del self._ready[sequence.instance][sequence]
        self._count_out(request)
        request.state = _RUNNING
        return Row(request, sequence)

    def _rest(self, sequence: LiveSequence, now_ns: int) -> None:
        """It has no step that runs: on to its next, to its end, or quiet."""
        if sequence.steps:
            self._note_ready(sequence)
            return
        if sequence.place != _NOWHERE:
            self._ready[sequence.instance].pop(sequence, None)
        if sequence.has_ended or not sequence.has_begun:
            self._end(sequence)
        else:
            sequence.quiet_ns = now_ns
            self._quiet[sequence] = None

    def _end(self, sequence: LiveSequence) -> None:
        """It is over: its place goes to the first of the backlog."""
        if self._open.get(sequence.id) is sequence:
            del self._open[sequence.id]
        sequence.has_ended = True
        if sequence.place == _NOWHERE:
            self._backlog.pop(sequence, None)
            return
        place, instance = sequence.place, sequence.instance
        sequence.place = sequence.instance = _NOWHERE
        if not self._backlog:
            heappush(self._free, (place, instance))
            return
        follower = next(iter(self._backlog))
        del self._backlog[follower]
        follower.place, follower.instance = place, instance
        self._note_ready(follower)

    def _remove(self, request: InferRequest, now_ns: int) -> None:
        """A step that waits is not to be run; what it said of its sequence still holds."""
        sequence = self._sequence_of[request]
        at = sequence.steps.index(request)
        del sequence.steps[at]
        self._count_out(request)
        request.state = _DONE
        if step_of(request).starts:
            if at < len(sequence.steps):
                follower = sequence.steps[at]
                follower.sequence = step_of(follower)._replace(starts=True)
            else:
                sequence.starts_next = True
        if sequence.running is None:
            self._rest(sequence, now_ns)

    def _known(self) -> list[LiveSequence]:
        """Those that are sent steps, or have some that wait."""
        return list(dict.fromkeys((*self._open.values(), *self._sequence_of.values())))

    def _cut(self, sequence: LiveSequence, now_ns: int) -> list[InferRequest]:
        """It is over, whatever it waits for; a step that runs is let be. Its steps that waited, DONE."""
        left = list(sequence.steps)
        for request in left:
            self._count_out(request)
            request.state = _DONE
        sequence.steps.clear()
        sequence.has_ended = True
        if self._open.get(sequence.id) is sequence:
            del self._open[sequence.id]
        self._quiet.pop(sequence, None)
        if sequence.running is None:
            self._rest(sequence, now_ns)
        return left

    def _count_out(self, request: InferRequest) -> None:
        del self._sequence_of[request]
        self.requests -= 1
        self.nbytes -= request.nbytes

    # --- time -----------------------------------------------------------------------------------------------

    def _watch(self, request: InferRequest) -> None:
        heappush(self._deadlines, (request.deadline_ns, next(self._numbers), request))
        if len(self._deadlines) > self._sweep_at:
            self._deadlines = [timed for timed in self._deadlines if timed[2].state is _QUEUED]
            heapify(self._deadlines)
            self._sweep_at = 2 * len(self._deadlines) + _SLACK

    def _expire(self, now_ns: int, late: list[InferRequest], orphaned: list[InferRequest]) -> None:
        while self._next_deadline_ns() <= now_ns:
            request = heappop(self._deadlines)[2]
            sequence = self._sequence_of[request]
            if sequence.place == _NOWHERE:
                steps = list(sequence.steps)
                for step in steps:
                    self._remove(step, now_ns)
                orphaned += steps
            elif self._plan.strict_timeouts:
                self._remove(request, now_ns)
                late.append(request)

    def _end_idle(self, now_ns: int) -> None:
        while self._next_idle_ns() <= now_ns:
            sequence = next(iter(self._quiet))
            del self._quiet[sequence]
            self._idled_out += 1
            self._end(sequence)

    def _next_deadline_ns(self) -> int:
        deadlines = self._deadlines
        while deadlines and deadlines[0][2].state is not _QUEUED:
            heappop(deadlines)
        return deadlines[0][0] if deadlines else NEVER_NS

    def _next_idle_ns(self) -> int:
        for sequence in self._quiet:
            return sequence.quiet_ns + self._plan.max_idle_ns
        return NEVER_NS

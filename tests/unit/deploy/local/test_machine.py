"""The supervisor's decisions, in every order of events that Hypothesis can think of, in virtual time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.core.errors import FailedPrecondition, InvalidModel, InvalidTransition
from taxiway.deploy.local import machine
from taxiway.deploy.local.machine import (
    ALIVE,
    Announce,
    Begun,
    Crew,
    DrainOverdue,
    Event,
    Exit,
    Finish,
    KillWorker,
    ModelsChanged,
    Phase,
    RestOver,
    SpawnWorker,
    StopAsked,
    StopWorker,
    Verdict,
    Wake,
    WorkerExited,
    WorkerReady,
    WorkerState,
    step,
)
from taxiway.deploy.local.plan import Plan

S = 1_000_000_000
PLAN = Plan(workers=2, drain_ns=35 * S)
KILLED = Exit(-9)
BROKEN = Exit(-9, InvalidModel("model.onnx is broken").to_data())
TAKEN = Exit(-9, FailedPrecondition("the port is taken").to_data())


class World:
    """A server whose processes are only numbers: it does what the machine says, and checks what always holds."""

    def __init__(self, plan: Plan = PLAN) -> None:
        self.plan = plan
        self.crew = Crew()
        self.now_ns = 0
        self.running: dict[int, int] = {}
        """By index: the generation of the process that runs."""
        self.asked_to_stop: dict[int, int] = {}
        self.killed: set[int] = set()
        self.timers: list[tuple[int, Event]] = []
        self.announced = 0
        self.finished = 0

    def tell(self, event: Event) -> None:
        before = self.crew
        self.crew, instructions = step(self.crew, event, self.now_ns, self.plan)
        for instruction in instructions:
            self._do(instruction)
        self._check()
        self._check_starts(before, event)

    def begin(self) -> World:
        self.tell(Begun())
        return self

    def all_ready(self) -> World:
        for index in range(self.plan.workers):
            self.ready(index)
        return self

    def ready(self, index: int) -> None:
        self.tell(WorkerReady(index, self.running[index]))

    def exit(self, index: int, how: Exit = KILLED) -> None:
        generation = self.running.pop(index)
        self.killed.discard(index)
        self.asked_to_stop.pop(index, None)
        self.tell(WorkerExited(index, generation, how))

    def wake(self) -> None:
        """Let time pass up to the next timer."""
        self.timers.sort(key=lambda timer: timer[0])
        self.now_ns, event = self.timers.pop(0)
        self.tell(event)

    def states(self) -> list[WorkerState]:
        return [worker.state for worker in self.crew.workers]

    def told(self) -> tuple[int, int]:
        """How often it was said that the server is ready, and that it has ended."""
        return self.announced, self.finished

    def _do(self, instruction: machine.Instruction) -> None:
        match instruction:
            case SpawnWorker(index, generation):
                assert index not in self.running, "two processes in one place"
                self.running[index] = generation
            case StopWorker(index, delay_ns):
                assert index in self.running
                self.asked_to_stop[index] = delay_ns
            case KillWorker(index):
                assert index in self.running
                self.killed.add(index)
            case Wake(at_ns, event):
                assert at_ns >= self.now_ns
                self.timers.append((at_ns, event))
            case Announce():
                self.announced += 1
            case Finish():
                self.finished += 1

    def _check(self) -> None:
        crew = self.crew
        alive = {worker.index for worker in crew.workers if worker.state in ALIVE}
        assert alive == set(self.running), "the machine knows which processes there are"
        assert self.announced <= 1
        assert self.finished == (crew.phase is Phase.ENDED)
        if crew.phase is Phase.ENDED:
            assert not self.running, "no orphan"
        if crew.phase is Phase.ENDING:
            assert crew.verdict is not None
            doomed = {index for index, delay in self.asked_to_stop.items()} | self.killed
            assert doomed == alive, "nobody is forgotten"
        if crew.phase is Phase.SERVING:
            assert self.announced
            assert self.asked_to_stop == {}
            resting = {worker.index for worker in crew.workers if worker.state is WorkerState.RESTING}
            woken = {event.index for _, event in self.timers if isinstance(event, RestOver)}
            assert resting <= woken, "whoever rests is woken"
            assert all(len(worker.crashes_ns) < self.plan.crashes for worker in crew.workers)

    def _check_starts(self, before: Crew, event: Event) -> None:
        """Beside one that serves, and for files that are broken, a start in vain ends nothing and is no crash."""
        if before.phase is not Phase.SERVING or not isinstance(event, WorkerExited):
            return
        worker = before.workers[event.index]
        if worker.generation != event.generation:
            return
        served = any(one.state is WorkerState.READY for one in before.workers)
        if worker.state is WorkerState.STARTING and (served or event.exit == BROKEN):
            assert self.crew.phase is Phase.SERVING
            after = self.crew.workers[event.index]
            assert (after.state, after.crashes_ns) == (WorkerState.RESTING, worker.crashes_ns)


def test_it_is_ready_once_all_are() -> None:
    world = World().begin()
    world.ready(1)
    assert world.states() == [WorkerState.STARTING, WorkerState.READY]
    assert world.announced == 0
    world.ready(0)
    assert world.states() == [WorkerState.READY, WorkerState.READY]
    assert world.told() == (1, 0)


def test_one_that_dies_is_started_again_after_a_rest() -> None:
    world = World().begin().all_ready()
    world.exit(0)
    assert world.states() == [WorkerState.RESTING, WorkerState.READY]
    world.wake()
    assert world.now_ns == PLAN.first_rest_ns
    assert world.running == {0: 2, 1: 1}
    world.ready(0)
    assert world.states() == [WorkerState.READY, WorkerState.READY]
    assert (world.crew.restarts, world.announced) == (1, 1)


def test_each_crash_is_followed_by_a_longer_rest() -> None:
    plan = Plan(workers=1, drain_ns=S, crashes=9)
    world = World(plan).begin().all_ready()
    rests = []
    for _ in range(8):
        before = world.now_ns
        world.exit(0)
        world.wake()
        rests.append((world.now_ns - before) / S)
    assert rests == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_a_crash_loop_ends_the_server_and_drains_the_others() -> None:
    world = World().begin().all_ready()
    for _ in range(PLAN.crashes - 1):
        world.exit(0)
        world.wake()
        world.ready(0)
    assert world.crew.phase is Phase.SERVING
    world.exit(0, Exit(1))
    assert world.crew.verdict is Verdict.CRASH_LOOP
    assert world.asked_to_stop == {1: 0}
    world.exit(1, Exit(0))
    assert world.finished
    assert world.crew.last == Exit(1)


@pytest.mark.parametrize("how", [KILLED, BROKEN, TAKEN])
def test_one_that_cannot_start_is_tried_for_ever_while_another_serves(how: Exit) -> None:
    world = World().begin().all_ready()
    world.exit(0)
    world.wake()
    rests = []
    for _ in range(12):
        before = world.now_ns
        world.exit(0, how)
        assert world.states() == [WorkerState.RESTING, WorkerState.READY]
        world.wake()
        rests.append((world.now_ns - before) / S)
    assert rests == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30, 30]
    world.ready(0)
    assert world.states() == [WorkerState.READY, WorkerState.READY]
    assert [(len(worker.crashes_ns), worker.failures) for worker in world.crew.workers] == [(1, 0), (0, 0)]


def test_files_that_are_broken_end_no_server_that_was_ready() -> None:
    world = World(Plan(workers=1, drain_ns=S)).begin().all_ready()
    world.exit(0)
    for _ in range(3 * PLAN.crashes):
        world.wake()
        world.exit(0, BROKEN)
    world.wake()
    world.ready(0)
    assert world.states() == [WorkerState.READY]


@pytest.mark.parametrize("how", [KILLED, TAKEN])
def test_starts_in_vain_are_a_crash_loop_if_nobody_serves(how: Exit) -> None:
    world = World(Plan(workers=1, drain_ns=S)).begin().all_ready()
    world.exit(0)
    for _ in range(PLAN.crashes - 1):
        assert world.crew.phase is Phase.SERVING
        world.wake()
        world.exit(0, how)
    assert world.finished
    assert (world.crew.verdict, world.crew.last) == (Verdict.CRASH_LOOP, how)


def test_a_change_has_those_tried_again_that_could_not_start() -> None:
    world = World(Plan(workers=3, drain_ns=S)).begin().all_ready()
    world.exit(0)
    world.wake()
    world.exit(0, BROKEN)
    world.exit(1)
    world.tell(ModelsChanged())
    assert world.states() == [WorkerState.STARTING, WorkerState.RESTING, WorkerState.READY]
    assert world.running == {0: 3, 2: 1}
    before = world.crew
    world.tell(ModelsChanged())
    world.tell(RestOver(0, 2))
    assert world.crew == before


def test_crashes_that_are_long_ago_do_not_count() -> None:
    world = World().begin().all_ready()
    for _ in range(4 * PLAN.crashes):
        world.exit(0)
        world.wake()
        world.ready(0)
        world.now_ns += PLAN.window_ns // 2
    assert world.crew.phase is Phase.SERVING


def test_one_that_cannot_start_ends_the_start() -> None:
    world = World().begin()
    world.ready(0)
    refused = Exit(1, {"message": "no such model"})
    world.exit(1, refused)
    assert world.killed == {0}
    world.exit(0)
    assert world.finished
    assert (world.crew.verdict, world.crew.last, world.announced) == (Verdict.START_FAILED, refused, 0)


def test_a_stop_drains_and_is_in_time_if_all_say_so() -> None:
    world = World().begin().all_ready()
    world.tell(StopAsked(2 * S))
    assert world.asked_to_stop == {0: 2 * S, 1: 2 * S}
    world.exit(0, Exit(0))
    assert world.told() == (1, 0)
    world.exit(1, Exit(0))
    assert world.told() == (1, 1)
    assert not world.crew.late


@pytest.mark.parametrize("how", [Exit(5), KILLED])
def test_a_stop_is_late_if_one_says_so_or_is_cut_off(how: Exit) -> None:
    world = World().begin().all_ready()
    world.tell(StopAsked(0))
    world.exit(0, Exit(0))
    world.exit(1, how)
    assert world.crew.late


def test_one_that_does_not_drain_in_time_is_killed() -> None:
    world = World().begin().all_ready()
    world.tell(StopAsked(2 * S))
    world.exit(0, Exit(0))
    world.wake()
    assert world.now_ns == 37 * S
    assert world.killed == set()  # this timer was for the one that is gone
    world.wake()
    assert world.killed == {1}


def test_a_stop_before_it_is_ready_kills() -> None:
    world = World().begin()
    world.ready(0)
    world.tell(StopAsked(2 * S))
    assert world.killed == {0, 1}
    assert world.crew.verdict is Verdict.STOPPED_AT_START


def test_a_stop_while_one_rests_waits_for_the_others_only() -> None:
    world = World().begin().all_ready()
    world.exit(0)
    world.tell(StopAsked(0))
    assert world.states() == [WorkerState.GONE, WorkerState.DRAINING]
    world.exit(1, Exit(0))
    world.wake()  # the rest is over, and nobody comes back
    assert world.finished == 1
    assert not world.running


def test_what_is_told_of_a_process_that_was_replaced_changes_nothing() -> None:
    world = World().begin().all_ready()
    world.exit(0)
    world.wake()
    before = world.crew
    for event in (WorkerExited(0, 1, KILLED), WorkerReady(0, 1), RestOver(0, 1), DrainOverdue(0, 1)):
        world.tell(event)
    assert world.crew == before


def test_it_begins_once() -> None:
    world = World().begin()
    with pytest.raises(InvalidTransition, match="starting cannot begin"):
        world.tell(Begun())


@given(st.integers(1, 4), st.data())
def test_whatever_happens_no_process_is_lost_and_the_end_is_an_end(workers: int, data: st.DataObject) -> None:
    world = World(Plan(workers=workers, drain_ns=35 * S)).begin()
    for _ in range(data.draw(st.integers(0, 30))):
        moves = ["stop", "change"] + ["wake"] * bool(world.timers)
        moves += [f"{verb} {index}" for index in sorted(world.running) for verb in ("ready", "exit", "refuse", "taken")]
        verb, _, index = data.draw(st.sampled_from(moves)).partition(" ")
        match verb:
            case "stop":
                world.tell(StopAsked(data.draw(st.integers(0, 5)) * S))
            case "change":
                world.tell(ModelsChanged())
            case "wake":
                world.wake()
            case "ready":
                world.ready(int(index))
            case "exit":
                world.exit(int(index), Exit(data.draw(st.sampled_from([0, 5, -9, -11]))))
            case "refuse":
                world.exit(int(index), BROKEN)
            case "taken":
                world.exit(int(index), TAKEN)
    _end(world)


def _end(world: World) -> None:
    """Ask for the end; whoever is killed dies, whoever was asked leaves only when it is killed."""
    world.tell(StopAsked(0))
    for _ in range(200):
        for index in sorted(world.killed):
            world.exit(index)
        if world.finished:
            break
        world.wake()
    assert world.finished
    assert world.crew.phase is Phase.ENDED

"""The lives of a server's workers: starting -> ready -> draining -> gone, with a rest between a crash and a restart.

One that dies again and again ends the server. One that cannot *start* in place of another does not, as long as somebody
else serves or its error says that files are at fault: it is tried again for ever.

Pure: `step` takes what happened and when, and gives the state after it and what is to be done. What is told of a
process that was replaced meanwhile changes nothing. (Its many small classes have no slots: those double the time that
a class takes to make, and this is imported before the first worker is started.)
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from taxiway.core.errors import (
    InvalidArgument,
    InvalidTransition,
    ModelFailed,
    NoRoom,
    NotFound,
    Unsupported,
    error_from_data,
)
from taxiway.deploy.local.plan import Plan


class WorkerState(enum.Enum):
    """What one worker is doing."""

    STARTING = "starting"
    READY = "ready"
    RESTING = "resting"
    DRAINING = "draining"
    GONE = "gone"


ALIVE = frozenset({WorkerState.STARTING, WorkerState.READY, WorkerState.DRAINING})
"""The states in which there is a process."""
_OF_FILES = (InvalidArgument, NotFound, Unsupported, NoRoom, ModelFailed)
"""Errors of a start that somebody mends in the files that are served, and not by starting the server anew."""


class Phase(enum.Enum):
    """What the whole server is doing."""

    NEW = "new"
    STARTING = "starting"
    SERVING = "serving"
    ENDING = "ending"
    ENDED = "ended"


class Verdict(enum.Enum):
    """Why a server ends."""

    STOPPED = "stopped"
    STOPPED_AT_START = "stopped before it was ready"
    START_FAILED = "it could not start"
    CRASH_LOOP = "a worker ended again and again"


@dataclass(frozen=True)
class Exit:
    """How a process ended: its status (negative: by that signal), and the error it told before, as data."""

    status: int
    error: dict[str, Any] | None = None


@dataclass(frozen=True)
class Worker:
    """One place for a process; `generation` counts the processes that have had it."""

    index: int
    state: WorkerState = WorkerState.STARTING
    generation: int = 1
    reason: str = "the server starts"
    crashes_ns: tuple[int, ...] = ()
    """When it crashed, as far as that still counts."""
    failures: int = 0
    """How often in a row it could not start and is tried again, which is no crash."""


@dataclass(frozen=True)
class Crew:
    """All workers of one server.

    Attributes:
        restarts: processes started in place of one that died.
        late: whether a worker was cut off, or said that it was, before everything taken was answered.
        last: how the process ended that decided the verdict.
    """

    workers: tuple[Worker, ...] = ()
    phase: Phase = Phase.NEW
    restarts: int = 0
    verdict: Verdict | None = None
    late: bool = False
    last: Exit | None = None


# --- what happens --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Begun:
    """The server is to start."""


@dataclass(frozen=True)
class WorkerReady:
    """A worker has loaded everything and takes requests."""

    index: int
    generation: int


@dataclass(frozen=True)
class WorkerExited:
    """A worker's process is gone."""

    index: int
    generation: int
    exit: Exit


@dataclass(frozen=True)
class RestOver:
    """The time that was set after a crash has passed."""

    index: int
    generation: int


@dataclass(frozen=True)
class ModelsChanged:
    """Models were loaded or unloaded while the server runs: whoever could not start may be able to now."""


@dataclass(frozen=True)
class StopAsked:
    """The server is to end; for `delay_ns` it says that it is not ready, and yet serves."""

    delay_ns: int


@dataclass(frozen=True)
class DrainOverdue:
    """The time that a worker had to end has passed."""

    index: int
    generation: int


Event = Begun | WorkerReady | WorkerExited | RestOver | ModelsChanged | StopAsked | DrainOverdue


# --- what is to be done --------------------------------------------------------------------------------


@dataclass(frozen=True)
class SpawnWorker:
    """Start a process for this place."""

    index: int
    generation: int


@dataclass(frozen=True)
class StopWorker:
    """Ask it to drain and end."""

    index: int
    delay_ns: int


@dataclass(frozen=True)
class KillWorker:
    """End its process now."""

    index: int


@dataclass(frozen=True)
class Wake:
    """Tell this event at that time."""

    at_ns: int
    event: Event


@dataclass(frozen=True)
class Announce:
    """Say that the server is ready."""


@dataclass(frozen=True)
class Finish:
    """No process is left."""


Instruction = SpawnWorker | StopWorker | KillWorker | Wake | Announce | Finish
Step = tuple[Crew, list[Instruction]]


def step(crew: Crew, event: Event, now_ns: int, plan: Plan) -> Step:
    """The crew after `event`, and what is to be done.

    Raises:
        InvalidTransition: a server that has begun was told to begin.
    """
    match event:
        case Begun():
            return _begin(crew, plan)
        case StopAsked(delay_ns):
            return _stop(crew, delay_ns, now_ns, plan)
        case ModelsChanged():
            return _try_again(crew)
    worker = crew.workers[event.index]
    if worker.generation != event.generation:
        return crew, []
    match event:
        case WorkerReady():
            return _ready(crew, worker)
        case WorkerExited(exit=how):
            return _exited(crew, worker, how, now_ns, plan)
        case RestOver():
            return _restart(crew, worker)
        case DrainOverdue():
            return crew, [KillWorker(worker.index)] if worker.state is WorkerState.DRAINING else []


def _begin(crew: Crew, plan: Plan) -> Step:
    if crew.phase is not Phase.NEW:
        raise InvalidTransition(f"a server that is {crew.phase.value} cannot begin")
    workers = tuple(Worker(index) for index in range(plan.workers))
    return Crew(workers, Phase.STARTING), [SpawnWorker(one.index, one.generation) for one in workers]


def _ready(crew: Crew, worker: Worker) -> Step:
    if worker.state is not WorkerState.STARTING:
        return crew, []  # it was told to end while it said so
    crew = _with(crew, replace(worker, state=WorkerState.READY, reason="it takes requests", failures=0))
    if crew.phase is Phase.STARTING and all(one.state is WorkerState.READY for one in crew.workers):
        return replace(crew, phase=Phase.SERVING), [Announce()]
    return crew, []


def _exited(crew: Crew, worker: Worker, how: Exit, now_ns: int, plan: Plan) -> Step:
    if worker.state not in ALIVE:
        return crew, []
    if crew.phase is Phase.SERVING:
        died = _not_started if _may_wait(crew, worker, how) else _crashed
        return died(crew, worker, how, now_ns, plan)
    asked = worker.state is WorkerState.DRAINING
    crew = _with(crew, replace(worker, state=WorkerState.GONE, reason=told_of(how)))
    if crew.phase is Phase.STARTING:
        return _kill_all(replace(crew, last=how), Verdict.START_FAILED)
    return _finish(replace(crew, late=crew.late or (asked and how.status != 0)))


def _crashed(crew: Crew, worker: Worker, how: Exit, now_ns: int, plan: Plan) -> Step:
    crashes = (*(at for at in worker.crashes_ns if now_ns - at < plan.window_ns), now_ns)
    resting = replace(worker, state=WorkerState.RESTING, reason=told_of(how), crashes_ns=crashes, failures=0)
    crew = _with(crew, resting)
    if len(crashes) >= plan.crashes:
        return _drain_all(replace(crew, last=how), Verdict.CRASH_LOOP, 0, now_ns, plan)
    return crew, [Wake(now_ns + plan.rest_ns(len(crashes)), RestOver(worker.index, worker.generation))]


def _may_wait(crew: Crew, worker: Worker, how: Exit) -> bool:
    """Whether this was a start in vain that the server can live with."""
    if worker.state is not WorkerState.STARTING:
        return False
    return any(one.state is WorkerState.READY for one in crew.workers) or _is_of_files(how)


def _is_of_files(how: Exit) -> bool:
    return how.error is not None and isinstance(error_from_data(how.error), _OF_FILES)


def _not_started(crew: Crew, worker: Worker, how: Exit, now_ns: int, plan: Plan) -> Step:
    failures = worker.failures + 1
    crew = _with(crew, replace(worker, state=WorkerState.RESTING, reason=told_of(how), failures=failures))
    return crew, [Wake(now_ns + plan.wait_ns(failures), RestOver(worker.index, worker.generation))]


def _try_again(crew: Crew) -> Step:
    """Whoever could not start need not wait any longer."""
    done: list[Instruction] = []
    for worker in crew.workers:
        if worker.failures:
            crew, spawned = _restart(crew, worker)
            done += spawned
    return crew, done


def _restart(crew: Crew, worker: Worker) -> Step:
    if worker.state is not WorkerState.RESTING:
        return crew, []
    again = replace(worker, state=WorkerState.STARTING, generation=worker.generation + 1)
    crew = replace(_with(crew, again), restarts=crew.restarts + 1)
    return crew, [SpawnWorker(again.index, again.generation)]


def _stop(crew: Crew, delay_ns: int, now_ns: int, plan: Plan) -> Step:
    if crew.phase is Phase.STARTING:
        return _kill_all(crew, Verdict.STOPPED_AT_START)
    if crew.phase is Phase.SERVING:
        return _drain_all(crew, Verdict.STOPPED, delay_ns, now_ns, plan)
    return crew, []


def _drain_all(crew: Crew, verdict: Verdict, delay_ns: int, now_ns: int, plan: Plan) -> Step:
    """Those that take requests drain; one that is only starting owes nobody anything."""
    done: list[Instruction] = []
    for worker in crew.workers:
        match worker.state:
            case WorkerState.READY:
                overdue = DrainOverdue(worker.index, worker.generation)
                done += [StopWorker(worker.index, delay_ns), Wake(now_ns + delay_ns + plan.drain_ns, overdue)]
                crew = _with(crew, replace(worker, state=WorkerState.DRAINING, reason=verdict.value))
            case WorkerState.STARTING:
                done.append(KillWorker(worker.index))
            case WorkerState.RESTING:
                crew = _with(crew, replace(worker, state=WorkerState.GONE))
    return _finish(replace(crew, phase=Phase.ENDING, verdict=verdict), done)


def _kill_all(crew: Crew, verdict: Verdict) -> Step:
    """Before a server is ready nothing is owed to anybody."""
    killed: list[Instruction] = [KillWorker(one.index) for one in crew.workers if one.state in ALIVE]
    return _finish(replace(crew, phase=Phase.ENDING, verdict=verdict), killed)


def _finish(crew: Crew, done: Iterable[Instruction] = ()) -> Step:
    if any(one.state is not WorkerState.GONE for one in crew.workers):
        return crew, [*done]
    return replace(crew, phase=Phase.ENDED), [*done, Finish()]


def _with(crew: Crew, worker: Worker) -> Crew:
    before, after = crew.workers[: worker.index], crew.workers[worker.index + 1 :]
    return replace(crew, workers=(*before, worker, *after))


def told_of(how: Exit) -> str:
    """How a process ended, in words."""
    if how.error is not None:
        return str(how.error["message"])
    return f"killed by signal {-how.status}" if how.status < 0 else f"it ended with status {how.status}"

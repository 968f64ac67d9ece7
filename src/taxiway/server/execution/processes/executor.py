"""Runs batches in model processes: hands them out, takes what comes back, starts again what died.

All of it happens on the event loop; starting a process takes a thread of its own, since it waits for the model. What a
process held when it died fails, with its reason; what waited for it waits for the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from taxiway.core.clock import Clock
from taxiway.core.errors import InternalError, ModelProcessDied, TaxiwayError, Unavailable
from taxiway.core.ports import BatchOutcome, InnerCaller
from taxiway.core.requests import NEVER_NS, NO_MORE, InferRequest, RequestState, StreamResponder
from taxiway.runtimes.hosted.frames import CallBack, CallOut, FromChild, Learn, Metric, Piece, Ran, Said
from taxiway.runtimes.hosted.host import BEGUN
from taxiway.server.execution.processes.calls import Calls
from taxiway.server.execution.processes.layout import RunReader, RunWriter
from taxiway.server.execution.processes.machine import Event, Life, State, step
from taxiway.server.execution.processes.metrics import OwnMetrics
from taxiway.server.execution.processes.plan import LaunchPlan
from taxiway.server.execution.processes.process import ModelProcess
from taxiway.server.execution.threads import Done
from taxiway.server.statistics import ProcessCounts
from taxiway.telemetry.logs import Log

_log = Log("taxiway.models")
_WAITING, _ABANDONED = 1, 2
_NAMED_REQUESTS = 8
_MOST_AHEAD = 16
"""Runs that one process has at a time, at most."""
_WORTH_NS = 500_000
"""How long all runs that a process has may take together: what is given away can no longer be overtaken."""
_LONG_NS = 10_000_000
"""What a run is taken to cost before one has come back."""


Waiting = tuple[list[InferRequest], Done]
"""A batch that no process has yet."""


@dataclass(eq=False, slots=True)
class _Run:
    """A batch that a process has."""

    batch: list[InferRequest]
    done: Done
    flags: list[int]
    """One of each request, and the run's own, its mark."""
    began_ns: int
    is_pinned: bool


@dataclass(eq=False, slots=True)
class _Instance:
    """One place for a process, and whichever is there now."""

    index: int
    process: ModelProcess | None
    life: Life = field(default_factory=lambda: Life(State.READY))
    runs: dict[int, _Run] = field(default_factory=dict)
    calls: Calls | None = None
    """What the process asks of other models, from its first call on."""
    pinned: deque[Waiting] = field(default_factory=deque)
    """What waits for this one and no other."""

    def can_take(self, streams: int) -> bool:
        """Whether it is alive and has less than enough to do."""
        return self.process is not None and len(self.runs) < streams


class ProcessExecutor:
    """For one version whose model runs in processes.

    Args:
        processes: opened, one for each instance; not attached yet.
        learn: what each process is told before its first run.
        inner: answers what the model asks of other models.
        streams: runs that one process may have at the same time: more than 1 only of a decoupled model, each of whose
            runs is one request.
    """

    def __init__(  # noqa: PLR0913 - one noun, all of it known at once
        self,
        plan: LaunchPlan,
        processes: Sequence[ModelProcess],
        learn: Learn,
        writer: RunWriter,
        reader: RunReader,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        inner: InnerCaller,
        *,
        streams: int = 1,
    ) -> None:
        self.slots = len(processes) * streams
        self._plan = plan
        self._learn = learn
        self._writer = writer
        self._reader = reader
        self._loop = loop
        self._now_ns = clock.monotonic_ns
        self._inner = inner
        self.metrics = OwnMetrics(plan.name, str(plan.version))
        """Those that the model's own code counts."""
        self._streams = streams
        self._resize: Callable[[int], None] | None = None
        self._cost_ns = _LONG_NS
        self._instances = [_Instance(process.index, process) for process in processes]
        self._pending: deque[Waiting] = deque()
        self._numbers = itertools.count(1)
        self._places: dict[int, tuple[_Instance, int]] = {}
        """By the identity of a request that runs: who has it, and its flag."""
        self._deaths = 0
        self._lost: Callable[[int], None] | None = None
        """Told of deaths, by whom pins."""
        self._closed = False
        self._attached = False
        self._labels = plan.labels
        for process in processes:
            process.tell(learn)
        loop.call_soon_threadsafe(self._attach_all)

    # --- the executor's face ------------------------------------------------------------------------------

    def submit(self, batch: list[InferRequest], done: Done) -> None:
        """Hand it to a process that is free, or to the next one that will be."""
        if not self._attached:
            self._attach_all()
        instance = self._free_instance()
        if instance is not None:
            self._hand(instance, (batch, done), self._pending)
        elif (trouble := self.trouble()) is not None:
            self._end(batch, done, Unavailable(trouble, hint="the log has what the model printed", retry_after_s=5.0))
        else:
            self._pending.append((batch, done))

    def submit_to(self, instance: int, batch: list[InferRequest], done: Done) -> None:
        """Hand it to that process, or to the one that comes in its place."""
        if not self._attached:
            self._attach_all()
        place = self._instances[instance]
        if place.can_take(self._streams):
            self._hand(place, (batch, done), place.pinned)
        elif (trouble := self.trouble()) is not None:
            self._end(batch, done, Unavailable(trouble, hint="the log has what the model printed", retry_after_s=5.0))
        else:
            place.pinned.append((batch, done))

    @property
    def instances(self) -> int:
        """Processes."""
        return len(self._instances)

    def watch(self, lost: Callable[[int], None]) -> None:
        """Call `lost` with the number of an instance whose process has died; what waits for that process then fails."""
        self._lost = lost

    def look_ahead(self, resize: Callable[[int], None]) -> None:
        """Let a process have several runs at a time while each is so short that the way to it costs as much.

        Args:
            resize: told by how many the slots have become more or less.
        """
        self._resize = resize

    def run_here(self, batch: list[InferRequest]) -> None:
        """Nothing of it runs in this process."""

    def abandon(self, request: InferRequest) -> None:
        """Tell the model, if it asks, that nobody waits for `request` any more."""
        place = self._places.get(id(request))
        if place is not None and place[0].process is not None:
            place[0].process.outbox.memory[place[1]] = _ABANDONED
            if place[0].calls is not None:
                place[0].calls.abandon(request)

    def running_since_ns(self) -> int:
        """When the oldest run began that has not come back."""
        began = [run.began_ns for instance in self._instances for run in instance.runs.values()]
        return min(began, default=NEVER_NS)

    def trouble(self) -> str | None:
        """Why nobody is answered now: every process has died again and again. None if somebody is."""
        if any(instance.life.state is not State.BROKEN for instance in self._instances):
            return None
        reason = self._instances[0].life.reason
        return f"the processes of model '{self._plan.name}' died again and again, at last so: {reason}"

    def pids(self) -> list[int]:
        """The processes that are alive."""
        return [instance.process.pid for instance in self._instances if instance.process is not None]

    def counts(self) -> ProcessCounts:
        """How the processes stand."""
        ready = sum(instance.life.state is State.READY for instance in self._instances)
        return ProcessCounts(ready, len(self._instances) - ready, self._deaths)

    def close(self) -> None:
        """End the processes. Blocks."""
        self._closed = True
        processes = [instance.process for instance in self._instances if instance.process is not None]
        threads = [threading.Thread(target=process.close, name=f"closing-{process.name}") for process in processes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for process in processes:
            process.release()
        for instance in self._instances:
            instance.process = None  # and with it the shared memory, which must not wait for the garbage collector

    # --- handing out --------------------------------------------------------------------------------------

    def _free_instance(self) -> _Instance | None:
        """The least busy process that can take one more run."""
        best = None
        for instance in self._instances:
            if not instance.can_take(self._streams):
                continue
            if not instance.runs:
                return instance
            if best is None or len(instance.runs) < len(best.runs):
                best = instance
        return best

    def _hand(self, instance: _Instance, waiting: Waiting, line: deque[Waiting]) -> None:
        """Give it what waits in this line."""
        batch, done = waiting
        process = instance.process
        assert process is not None  # noqa: S101 - it is ready
        outbox = process.outbox
        number = next(self._numbers)
        flags: list[int] = []
        try:
            flags += [outbox.take_flag() for _ in range(len(batch) + 1)]
            run = self._writer.write(number, batch, flags, outbox)
        except TaxiwayError as problem:
            for flag in flags:
                outbox.drop_flag(flag)
            self._end(batch, done, problem)
            return
        process.send(run)
        instance.runs[number] = _Run(batch, done, flags, self._now_ns(), line is not self._pending)
        for request, flag in zip(batch, flags, strict=False):
            self._places[id(request)] = (instance, flag)

    def _end(self, batch: list[InferRequest], done: Done, problem: TaxiwayError) -> None:
        now_ns = self._now_ns()
        done(batch, BatchOutcome(started_ns=now_ns, finished_ns=now_ns, error=problem))

    def _hand_pending(self) -> None:
        for instance in self._instances:
            while instance.pinned and instance.can_take(self._streams):
                self._hand(instance, instance.pinned.popleft(), instance.pinned)
        while self._pending and (free := self._free_instance()) is not None:
            self._hand(free, self._pending.popleft(), self._pending)

    # --- what comes back ----------------------------------------------------------------------------------

    def _take(self, instance: _Instance, frame: FromChild) -> None:
        match frame:
            case Ran():
                self._ran(instance, frame)
            case Piece():
                self._piece(instance, frame)
            case Said():
                assert instance.process is not None  # noqa: S101 - it speaks
                instance.process.say(frame)
            case CallOut():
                self._called(instance, frame)
            case CallBack():
                if instance.calls is not None:
                    instance.calls.take_back(frame.call)
            case Metric():
                self.metrics.take(instance.index, frame)
            case _:
                _log.error(
                    "bug",
                    **self._labels,
                    error=InternalError(f"a model process sent {type(frame).__name__}"),
                )

    def _ran(self, instance: _Instance, ran: Ran) -> None:
        process, run = instance.process, instance.runs.pop(ran.id, None)
        if process is None or run is None:
            return
        self._forget(process, run)
        if ran.whole is None and ran.parts is None:
            now_ns = ran.finished_ns
            outcome = BatchOutcome(started_ns=ran.started_ns, finished_ns=now_ns, result=NO_MORE)
        else:
            outcome = self._reader.outcome(ran, run.batch, process.inbox)
        run.done(run.batch, outcome)
        if self._resize is not None:
            self._learn_cost(ran.finished_ns - ran.started_ns, self._resize)
        if not self._closed:
            self._hand_pending()

    def _learn_cost(self, ns: int, resize: Callable[[int], None]) -> None:
        self._cost_ns += (ns - self._cost_ns) >> 3
        streams = max(1, min(_MOST_AHEAD, _WORTH_NS // max(1, self._cost_ns)))
        if streams != self._streams:
            more = (streams - self._streams) * len(self._instances)
            self._streams = streams
            self.slots += more
            resize(more)

    def _piece(self, instance: _Instance, piece: Piece) -> None:
        process, run = instance.process, instance.runs.get(piece.id)
        if process is None or run is None:
            return
        (request,) = run.batch
        answer = self._reader.piece(piece.part, piece.block, request, process.inbox)
        if request.state is RequestState.RUNNING:
            responder: StreamResponder = request.responder  # type: ignore[assignment]  # of a decoupled model
            responder.part(request, answer)

    def _called(self, instance: _Instance, call: CallOut) -> None:
        """The model asks another one."""
        process = instance.process
        if process is None:
            return
        if instance.calls is None:
            instance.calls = Calls(process, self._inner, self._now_ns)
        run = instance.runs.get(call.run)
        is_known = run is not None and 0 <= call.request < len(run.batch)
        instance.calls.begin(call, run.batch[call.request] if run is not None and is_known else None)

    def _forget(self, process: ModelProcess, run: _Run) -> None:
        for request in run.batch:
            self._places.pop(id(request), None)
        for flag in run.flags:
            process.outbox.drop_flag(flag)

    # --- lives --------------------------------------------------------------------------------------------

    def _attach_all(self) -> None:
        if self._attached:
            return
        self._attached = True
        for instance in self._instances:
            self._attach(instance)

    def _attach(self, instance: _Instance) -> None:
        process = instance.process
        if process is not None and not self._closed:
            process.attach(self._loop, partial(self._take, instance), partial(self._gone, instance, process))

    def _gone(self, instance: _Instance, process: ModelProcess) -> None:
        if self._closed or instance.process is not process:
            return
        self._deaths += 1
        instance.process = None
        runs = self._take_back(instance, process)
        if instance.calls is not None:
            instance.calls.end()
            instance.calls = None
        self.metrics.forget(instance.index)
        process.kill()
        if self._lost is not None:
            self._lost(instance.index)
            self._fail_pinned(instance)
        thread = threading.Thread(target=self._bury, args=(instance, process, runs), daemon=True)
        thread.start()

    def _fail_pinned(self, instance: _Instance) -> None:
        """What waited for a process that kept something, and is gone: another one has not got it."""
        waiting, instance.pinned = instance.pinned, deque()
        for batch, done in waiting:
            problem = ModelProcessDied(
                f"the process of model '{self._plan.name}' ended before it could run this request",
                hint="begin the sequence again, with sequence_start; the log has what the model printed",
            )
            self._end(batch, done, problem)

    def _take_back(self, instance: _Instance, process: ModelProcess) -> list[_Run]:
        """What a process had that is no more; what it had not begun waits for another one, before all others."""
        marks = process.outbox.memory
        begun: list[_Run] = []
        unbegun: list[_Run] = []
        for run in instance.runs.values():
            (begun if run.is_pinned or marks[run.flags[-1]] == BEGUN else unbegun).append(run)
        instance.runs = {}
        for run in unbegun:
            for request in run.batch:
                self._places.pop(id(request), None)
        self._pending.extendleft((run.batch, run.done) for run in reversed(unbegun))
        return begun

    def _bury(self, instance: _Instance, process: ModelProcess, runs: list[_Run]) -> None:
        """In a thread: find out what it died of, and say so on the loop."""
        reason = process.told_end()
        process.bury()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._died, instance, process, runs, reason)

    def _died(self, instance: _Instance, process: ModelProcess, runs: list[_Run], reason: str) -> None:
        for run in runs:
            for request in run.batch:
                self._places.pop(id(request), None)
            self._tell_death(run, process, reason)
        self._happened(instance, Event.DIED, reason)

    def _tell_death(self, run: _Run, process: ModelProcess, reason: str) -> None:
        named = [request.id for request in run.batch[:_NAMED_REQUESTS] if request.id is not None]
        _log.error(
            "model_process_died",
            **self._labels,
            instance=process.index,
            pid=process.pid,
            reason=reason,
            request_id=", ".join(named),
            rows=sum(request.rows for request in run.batch),
            hint="what it ran is answered 500; another is started in its place",
        )
        others = f" and {len(run.batch) - 1} others" if len(run.batch) > 1 else ""
        problem = ModelProcessDied(
            f"the process of model '{self._plan.name}' ended while it ran this request{others}: {reason}",
            hint="send it again only if it may have been the others'; the log has what the model printed",
            requests=named,
        )
        self._end(run.batch, run.done, problem)

    def _happened(self, instance: _Instance, event: Event, reason: str = "") -> None:
        if self._closed:
            return
        before = instance.life.state
        instance.life, after_ns = step(instance.life, event, self._now_ns(), self._plan.respawn, reason)
        if instance.life.state is State.BROKEN and before is not State.BROKEN:
            _log.error(
                "model_process_gives_up",
                **self._labels,
                instance=instance.index,
                reason=reason,
            )
        if event is Event.DIED and after_ns is not None:
            self._loop.call_later(after_ns / 1e9, self._happened, instance, Event.RESTED)
        elif event is Event.RESTED:
            threading.Thread(target=self._start, args=(instance,), daemon=True).start()
        if self.trouble() is not None:
            self._refuse_pending()
        else:
            self._hand_pending()

    def _start(self, instance: _Instance) -> None:
        """In a thread: another process in its place."""
        tell: Callable[[], None]
        process: ModelProcess | None = None
        try:
            process, _ = ModelProcess.start(self._plan, instance.index)
            process.tell(self._learn)
        except TaxiwayError as problem:
            _log.error(
                "model_process_not_started",
                **self._labels,
                instance=instance.index,
                error=problem,
            )
            tell = partial(self._happened, instance, Event.DIED, problem.message)
        else:
            tell = partial(self._started, instance, process)
        try:
            self._loop.call_soon_threadsafe(tell)
        except RuntimeError:  # the loop is closed
            if process is not None:
                process.kill()
                process.bury()

    def _started(self, instance: _Instance, process: ModelProcess) -> None:
        if self._closed:
            process.kill()
            threading.Thread(target=process.bury, daemon=True).start()
            return
        instance.process = process
        self._attach(instance)
        _log.info("model_process_started", **self._labels, instance=instance.index, pid=process.pid)
        self._happened(instance, Event.OPENED)

    def _refuse_pending(self) -> None:
        trouble = self.trouble()
        waiting = list(self._pending)
        self._pending.clear()
        for instance in self._instances:
            waiting += instance.pinned
            instance.pinned.clear()
        for batch, done in waiting:
            self._end(batch, done, Unavailable(trouble or "", hint="the log has what the model printed"))

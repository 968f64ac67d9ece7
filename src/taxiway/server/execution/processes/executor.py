"""Runs batches in model processes: hands them out, takes what comes back, starts again what died.

All of it happens on the event loop; starting a process takes a thread of its own, since it waits for the model. What a
process held when it died fails, with its reason; what waited for it waits for the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from taxiway.core.clock import Clock
from taxiway.core.errors import ModelProcessDied, TaxiwayError, Unavailable
from taxiway.core.ports import BatchOutcome, InnerCaller
from taxiway.core.requests import InferRequest, RequestState, StreamResponder
from taxiway.runtimes.hosted.frames import CallBack, CallOut, FromChild, Learn, Metric, Piece, Ran
from taxiway.runtimes.hosted.frames import Run as RunFrame
from taxiway.runtimes.hosted.host import BEGUN
from taxiway.server.execution.processes.calls import Calls
from taxiway.server.execution.processes.confusion import Confused
from taxiway.server.execution.processes.instances import Instance, Run, Waiting
from taxiway.server.execution.processes.keeper import Keeper
from taxiway.server.execution.processes.layout import RunReader, RunWriter
from taxiway.server.execution.processes.machine import Event, State, step
from taxiway.server.execution.processes.metrics import OwnMetrics
from taxiway.server.execution.processes.plan import LaunchPlan
from taxiway.server.execution.processes.process import Ending, ModelProcess
from taxiway.server.execution.threads import Done
from taxiway.server.statistics import ProcessCounts
from taxiway.telemetry.logs import Log

_log = Log("taxiway.models")
_ABANDONED = 2
_NAMED_REQUESTS = 8
_MOST_AHEAD = 16
"""Runs that one process has at a time, at most."""
_WORTH_NS = 500_000
"""How long all runs that a process has may take together: what is given away can no longer be overtaken."""
_LONG_NS = 10_000_000
"""What a run is taken to cost before one has come back."""


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
        self._instances = [Instance(process.index, process) for process in processes]
        self._pending: deque[Waiting] = deque()
        self._numbers = itertools.count(1)
        self._places: dict[int, tuple[Instance, int]] = {}
        """By the identity of a request that runs: who has it, and its flag."""
        self._deaths = 0
        self._lost: Callable[[int], None] | None = None
        """Told of deaths, by whom pins."""
        self._closed = False
        self._attached = False
        self._labels = plan.labels
        self._keeper = Keeper(plan, learn, loop, processes)
        loop.call_soon_threadsafe(self._attach_all)

    # --- the executor's face ------------------------------------------------------------------------------

    def submit(self, batch: list[InferRequest], done: Done) -> None:
        """Hand it to a process that is free, or to the next one that will be."""
        if not self._attached:
            self._attach_all()
        instance = self._free_instance()
        if instance is not None:
            self._hand(instance, batch, done)
        elif all(instance.life.is_broken for instance in self._instances):
            self._refuse(batch, done)
        else:
            self._pending.append(Waiting(batch, done, self._now_ns()))

    def submit_to(self, instance: int, batch: list[InferRequest], done: Done) -> None:
        """Hand it to that process, or to the one that comes in its place."""
        if not self._attached:
            self._attach_all()
        place = self._instances[instance]
        if place.can_take(self._streams):
            self._hand(place, batch, done, is_pinned=True)
        elif place.life.is_broken:
            self._refuse(batch, done)
        else:
            place.pinned.append(Waiting(batch, done, self._now_ns()))

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
        """When the oldest run began that has not come back, or the oldest batch came that no process has."""
        since_ns = min(instance.busy_since_ns() for instance in self._instances)
        return min(since_ns, self._pending[0].since_ns) if self._pending else since_ns

    def trouble(self) -> str | None:
        """Why nobody is answered now: every process has died again and again. None if somebody is."""
        if not all(instance.life.is_broken for instance in self._instances):
            return None
        return f"{self._died_often()}, at last so: {self._instances[0].life.reason}"

    def pids(self) -> list[int]:
        """The processes that are alive."""
        return [instance.process.pid for instance in self._instances if instance.process is not None]

    def counts(self) -> ProcessCounts:
        """How the processes stand."""
        ready = sum(instance.life.state is State.READY for instance in self._instances)
        return ProcessCounts(ready, len(self._instances) - ready, self._deaths)

    def close(self) -> None:
        """End the processes. Blocks. What has not come back by then fails."""
        self._closed = True
        self._keeper.close()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._give_up)

    def _give_up(self) -> None:
        """All is closed: let go of the shared memory, which must not wait for the garbage collector."""
        closed = Unavailable("the model was closed before this request was answered", hint="retry")
        for instance in self._instances:
            instance.process = instance.calls = None
            runs, instance.runs = list(instance.runs.values()), {}
            for run in runs:
                self._end(run.batch, run.done, closed.retold(), run.began_ns)
            self._end_all(instance.pinned, closed)
        self._end_all(self._pending, closed)
        self._places.clear()

    # --- handing out --------------------------------------------------------------------------------------

    def _free_instance(self) -> Instance | None:
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

    def _hand(self, instance: Instance, batch: list[InferRequest], done: Done, *, is_pinned: bool = False) -> None:
        """Give it this batch; what cannot be laid down or said has failed."""
        process = instance.process
        assert process is not None  # noqa: S101 - it is ready
        outbox = process.outbox
        number = next(self._numbers)
        flags: list[int] = []
        try:
            flags += [outbox.take_flag() for _ in range(len(batch) + 1)]
            run = self._writer.write(number, batch, flags, outbox)
            self._send(process, run)
        except Exception as problem:  # noqa: BLE001 - the boundary: what waits after it must be handed out too
            for flag in flags:
                outbox.drop_flag(flag)
            self._end(batch, done, problem)
            return
        instance.runs[number] = Run(batch, done, flags, self._now_ns(), is_pinned)
        for request, flag in zip(batch, flags, strict=False):
            self._places[id(request)] = (instance, flag)

    def _send(self, process: ModelProcess, run: RunFrame) -> None:
        try:
            process.send(run)
        except TaxiwayError:
            process.outbox.give_up(run.block)
            raise

    def _hand_pending(self) -> None:
        for instance in self._instances:
            while instance.pinned and instance.can_take(self._streams):
                waiting = instance.pinned.popleft()
                self._hand(instance, waiting.batch, waiting.done, is_pinned=True)
        while self._pending and (free := self._free_instance()) is not None:
            waiting = self._pending.popleft()
            self._hand(free, waiting.batch, waiting.done)

    def _end(self, batch: list[InferRequest], done: Done, problem: Exception, began_ns: int | None = None) -> None:
        """It has failed; `began_ns` is when a process got it, if one did."""
        now_ns = self._now_ns()
        started_ns = now_ns if began_ns is None else began_ns
        done(batch, BatchOutcome(started_ns=started_ns, finished_ns=now_ns, error=problem))

    def _end_all(self, line: deque[Waiting], problem: TaxiwayError) -> None:
        """What waits in this line has failed; whatever comes into it meanwhile has not."""
        for _ in range(len(line)):
            waiting = line.popleft()
            self._end(waiting.batch, waiting.done, problem.retold())

    def _died_often(self) -> str:
        return f"the processes of model '{self._plan.name}' died again and again"

    def _refusal(self) -> Unavailable:
        """What callers are told: not what the last one printed, which may be about anybody's request."""
        return Unavailable(
            self._died_often(), hint="the log and the repository index tell of what; retry", retry_after_s=5.0
        )

    def _refuse(self, batch: list[InferRequest], done: Done) -> None:
        self._end(batch, done, self._refusal())

    # --- what comes back ----------------------------------------------------------------------------------

    def _take(self, instance: Instance, process: ModelProcess, frame: FromChild) -> None:
        """What a process says.

        Raises:
            Confused: it cannot be true.
        """
        if frame.__class__ is Ran:
            self._ran(instance, process, frame)
            return
        match frame:
            case Piece():
                self._piece(instance, process, frame)
            case CallOut():
                self._called(instance, process, frame)
            case CallBack():
                if instance.calls is not None:
                    instance.calls.take_back(frame.call)
            case Metric():
                self.metrics.take(instance.index, frame)
            case _:
                raise Confused(f"it sent {type(frame).__name__} when it was loaded already")

    def _ran(self, instance: Instance, process: ModelProcess, ran: Ran) -> None:
        run = instance.runs.get(ran.id)
        if run is None:
            raise Confused("it answered what it was not asked, or twice")
        outcome = self._reader.outcome(ran, run.batch, process.inbox)
        del instance.runs[ran.id]
        self._forget(process, run)
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

    def _piece(self, instance: Instance, process: ModelProcess, piece: Piece) -> None:
        run = instance.runs.get(piece.id)
        if run is None:
            raise Confused("it sent a part of an answer to what it was not asked")
        request = run.batch[0]  # the only one: of a model that is not decoupled, the reader refuses pieces
        answer = self._reader.piece(piece, request, process.inbox)
        if request.state is RequestState.RUNNING:
            responder: StreamResponder = request.responder  # type: ignore[assignment]  # of a decoupled model
            try:
                responder.part(request, answer)
            except Exception as problem:  # noqa: BLE001 - the boundary: what else it sent is for others
                _log.error("bug", **self._labels, error=problem)

    def _called(self, instance: Instance, process: ModelProcess, call: CallOut) -> None:
        """The model asks another one."""
        if instance.calls is None:
            instance.calls = Calls(process, self._inner, self._now_ns)
        run = instance.runs.get(call.run)
        is_known = run is not None and 0 <= call.request < len(run.batch)
        instance.calls.begin(call, run.batch[call.request] if run is not None and is_known else None)

    def _forget(self, process: ModelProcess, run: Run) -> None:
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

    def _attach(self, instance: Instance) -> None:
        process = instance.process
        if process is not None and not self._closed:
            process.attach(self._loop, partial(self._take, instance, process), partial(self._gone, instance, process))

    def _gone(self, instance: Instance, process: ModelProcess) -> None:
        if self._closed or instance.process is not process:
            return
        self._deaths += 1
        instance.process = None
        runs = self._take_back(instance, process)
        if instance.calls is not None:
            instance.calls.end()
            instance.calls = None
        self.metrics.forget(instance.index)
        self._keeper.bury(process, partial(self._died, instance, process.pid, runs))
        if self._lost is not None:
            self._lost(instance.index)
            self._end_all(instance.pinned, self._lost_state())

    def _lost_state(self) -> ModelProcessDied:
        """Of what waited for a process that kept something: another one has not got it."""
        return ModelProcessDied(
            f"the process of model '{self._plan.name}' ended before it could run this request",
            hint="begin the sequence again, with sequence_start; the log has what the model printed",
        )

    def _take_back(self, instance: Instance, process: ModelProcess) -> list[Run]:
        """What a process had that is no more; what it had not begun waits for another one, before all others."""
        marks = process.outbox.memory
        begun: list[Run] = []
        unbegun: list[Run] = []
        for run in instance.runs.values():
            (begun if run.is_pinned or marks[run.flags[-1]] == BEGUN else unbegun).append(run)
        instance.runs = {}
        for run in unbegun:
            for request in run.batch:
                self._places.pop(id(request), None)
        self._pending.extendleft(Waiting(run.batch, run.done, run.began_ns) for run in reversed(unbegun))
        return begun

    def _died(self, instance: Instance, pid: int, runs: list[Run], ending: Ending) -> None:
        _log.error(
            "model_process_died",
            **self._labels,
            instance=instance.index,
            pid=pid,
            reason=str(ending),
            request_id=", ".join(self._named([request for run in runs for request in run.batch])),
            rows=sum(request.rows for run in runs for request in run.batch),
            hint="what it ran is answered 500; another is started in its place",
        )
        for run in runs:
            for request in run.batch:
                self._places.pop(id(request), None)
            self._tell_death(run, ending)
        self._happened(instance, Event.DIED, str(ending))

    def _named(self, batch: list[InferRequest]) -> list[str]:
        return [request.id for request in batch if request.id is not None][:_NAMED_REQUESTS]

    def _tell_death(self, run: Run, ending: Ending) -> None:
        others = f" and {len(run.batch) - 1} others" if len(run.batch) > 1 else ""
        problem = ModelProcessDied(
            f"the process of model '{self._plan.name}' ended while it ran this request{others}: {ending.how}",
            hint="send it again only if it may have been the others'; the log has what the model printed",
            requests=self._named(run.batch),
        )
        self._end(run.batch, run.done, problem, run.began_ns)

    def _happened(self, instance: Instance, event: Event, reason: str = "") -> None:
        if self._closed:
            return
        was_broken = instance.life.is_broken
        instance.life, after_ns = step(instance.life, event, self._now_ns(), self._plan.respawn, reason)
        if instance.life.is_broken and not was_broken:
            _log.error("model_process_gives_up", **self._labels, instance=instance.index, reason=reason)
        if event is Event.DIED and after_ns is not None:
            self._loop.call_later(after_ns / 1e9, self._happened, instance, Event.RESTED)
        elif event is Event.RESTED:
            self._keeper.start(
                instance.index,
                partial(self._started, instance),
                partial(self._happened, instance, Event.DIED),
            )
        self._settle_lines()

    def _settle_lines(self) -> None:
        """Hand out what waits, or refuse it where nobody is to be waited for."""
        for instance in self._instances:
            if instance.life.is_broken:
                self._end_all(instance.pinned, self._refusal())
        if all(instance.life.is_broken for instance in self._instances):
            self._end_all(self._pending, self._refusal())
        self._hand_pending()

    def _started(self, instance: Instance, process: ModelProcess) -> None:
        if self._closed:
            return
        instance.process = process
        _log.info("model_process_started", **self._labels, instance=instance.index, pid=process.pid)
        self._attach(instance)
        self._happened(instance, Event.OPENED)

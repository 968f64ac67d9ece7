"""The parent of all processes of one server: starts them, restarts them, ends them, and serves their metrics.

It decides nothing: what happens goes through `machine.step`, and what that says is done here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic_ns
from typing import Any

from taxiway.config.machine import available_cpus
from taxiway.config.settings import Settings
from taxiway.core.errors import CrashLoop, FailedPrecondition, InternalError, TaxiwayError, Unavailable, error_from_data
from taxiway.deploy.local import machine
from taxiway.deploy.local.control import ASKER, ControlKeeper
from taxiway.deploy.local.doors import NOTHING, Doors
from taxiway.deploy.local.machine import Crew, Exit, Phase, Verdict, WorkerState
from taxiway.deploy.local.plan import cpus_of, plan_of, share_of
from taxiway.deploy.local.process import WORKER, ChildProcess, start_process
from taxiway.deploy.local.relay import Relay
from taxiway.deploy.local.scraping import Scraper
from taxiway.deploy.local.succession import Predecessor, Succession
from taxiway.server.channel import Gone, Verb, frame_limit
from taxiway.telemetry.gpu.sampler import GpuSampler
from taxiway.telemetry.logs import Log
from taxiway.telemetry.slots import encode_points

_log = Log("taxiway.server")


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the server listens; what is off is None."""

    http: str
    metrics: str | None
    grpc: str | None
    http_unix: str | None
    control: str | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a server ended.

    Attributes:
        verdict: why.
        late: whether something that was taken was not answered in time.
        error: what went wrong, if it did not end because it was asked to.
    """

    verdict: Verdict
    late: bool
    error: TaxiwayError | None


class Supervisor:
    """One server on this machine.

    Args:
        announce: called once, when every worker is ready.
        suppressed_lines: asked at a scrape for the log lines held back in this process.
        predecessor: the server whose place this one takes, if it does.
        succeeded: called with the process id of a server that has taken the place of this one.
    """

    def __init__(
        self,
        settings: Settings,
        announce: Callable[[Addresses], None],
        suppressed_lines: Callable[[], int] = int,
        predecessor: Predecessor | None = None,
        succeeded: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._announce = announce
        self._predecessor = predecessor
        self._succeeded = succeeded
        self._plan = plan_of(settings)
        self._share = share_of(settings, settings.workers)
        self._loop = asyncio.get_running_loop()
        self._crew = Crew()
        self._processes: dict[int, ChildProcess] = {}
        self._relay = Relay(lambda: self._happened(machine.ModelsChanged()), self._take_the_wheel)
        self._scraper = Scraper(lambda: self._crew, suppressed_lines)
        self._gpus = self._make_gpus()
        self._doors: Doors | None = None
        self._control: ControlKeeper | None = None
        self._addresses: dict[str, Any] = {}
        """What the workers answer when they have opened their ports; all of them the same."""
        self._succession: Succession | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._spawned = asyncio.Event()
        """The first process is on its way, or could not be."""
        self._metrics_open = asyncio.Event()
        self._announced = asyncio.Event()
        self._replaced = asyncio.Event()
        self._finished: asyncio.Future[None] = self._loop.create_future()

    async def run(self) -> Outcome:
        """Serve until `stop` is called or it cannot go on; no process is left when this returns.

        Raises:
            FailedPrecondition: a port cannot be had. Nothing was started.
        """
        predecessor = self._predecessor
        doors = Doors(self._settings, NOTHING if predecessor is None else predecessor.heritage)
        self._doors = doors
        self._control = self._make_control(doors)
        self._succession = Succession(self._settings, doors, self._relay, self._control, self._give_way)
        if predecessor is not None:
            self._relay.inherit(predecessor.kept)
        if self._gpus is not None:
            self._gpus.start()
        try:
            self._happened(machine.Begun())
            await self._spawned.wait()
            await self._serve_metrics()
        finally:
            self.kill()
            await asyncio.gather(*(process.wait() for process in self._processes.values()))
            if self._control is not None:
                await self._control.end()
            if self._gpus is not None:
                await asyncio.to_thread(self._gpus.close)
            doors.release()
        return self._outcome()

    def _make_gpus(self) -> GpuSampler | None:
        """None if it is off, or nobody could ask for what it reads."""
        gpu = self._settings.monitoring.gpu
        if gpu.enabled == "off" or not self._settings.metrics.enabled:
            return None
        sampler = GpuSampler(gpu.interval_s, dcgm=gpu.dcgm, required=gpu.enabled == "on")
        self._scraper.include(sampler.points)
        return sampler

    def _make_control(self, doors: Doors) -> ControlKeeper | None:
        """None if it is off."""
        if doors.control is None:
            return None
        verbs: dict[str, Verb] = {
            "fleet": partial(self._relay.ask, ASKER),
            "one": self._relay.ask_one,
            "server": self._tell_of_server,
            "points": self._tell_points,
        }
        keeper = ControlKeeper(self._settings, self._plan, doors.control, verbs, self._scraper)
        self._scraper.include(keeper.points)
        return keeper

    async def _serve_metrics(self) -> None:
        """Until it is over. Where another server serves them too, each from the moment on at which it serves models."""
        from taxiway.deploy.local.metrics_port import serving_metrics  # noqa: PLC0415 - while the workers import theirs

        if self._predecessor is not None:
            self._metrics_open.set()
            await self._either(self._announced)
        port = self._opened_doors().metrics
        async with serving_metrics(self._settings, self._scraper, [] if port is None else port.bind()):
            self._metrics_open.set()
            if self._predecessor is not None and self._announced.is_set():
                await self._predecessor.serving()
            await self._either(self._replaced)
        await self._finished

    async def _either(self, event: asyncio.Event) -> None:
        """Wait for the event, or for the end."""
        happened: asyncio.Future[Any] = asyncio.ensure_future(event.wait())
        await asyncio.wait([happened, self._finished], return_when=asyncio.FIRST_COMPLETED)
        happened.cancel()

    def stop(self, delay_s: float) -> None:
        """Drain and end; for `delay_s` first say that we are not ready, and yet serve."""
        if self._succession is not None:
            self._succession.kill()
        if self._control is not None:
            self._begin(self._control.end())
        self._happened(machine.StopAsked(round(delay_s * 1e9)))
        self._loop.call_later(delay_s, self._opened_doors().hide)

    def kill(self) -> None:
        """End every process now, and let nobody find the server any more."""
        for process in self._processes.values():
            process.kill()
        if self._succession is not None:
            self._succession.kill()
        if self._control is not None:
            self._control.kill()
        self._opened_doors().hide()

    def _opened_doors(self) -> Doors:
        assert self._doors is not None  # noqa: S101 - `run` opens them first
        return self._doors

    def _outcome(self) -> Outcome:
        verdict = self._crew.verdict
        assert verdict is not None  # noqa: S101 - it has ended
        last = self._crew.last
        return Outcome(verdict, self._crew.late, None if last is None else _error_of(verdict, last))

    # --- the server before, and the one after -----------------------------------------------------------

    async def upgrade(self) -> dict[str, Any]:
        """Have another server take the place of this one, started as this one was.

        Raises:
            FailedPrecondition: that cannot be done now.
            InternalError: it could not be started.
        """
        if self._succession is None or self._crew.phase is not Phase.SERVING:
            raise FailedPrecondition("the server does not serve yet, or is leaving", hint="try again once it serves")
        return await self._succession.begin()

    async def _tell_of_server(self, words: Mapping[str, Any]) -> dict[str, Any]:
        if words["verb"] == "upgrade":
            return await self.upgrade()
        assert self._succession is not None  # noqa: S101 - whoever asks was started after it was made
        return self._succession.told()

    async def _tell_points(self, words: Mapping[str, Any]) -> dict[str, bytes]:
        """What all processes count now, of these families."""
        return {"points": encode_points(await self._scraper.look(frozenset(words["families"])))}

    async def _take_the_wheel(self) -> None:
        """Decide from here on who gets traffic: nobody else does any more."""
        if self._predecessor is not None:
            self._relay.inherit(await self._predecessor.steering())

    def _give_way(self, pid: int) -> None:
        """Another server serves in our place: let our clients go to it, and end."""
        self._replaced.set()
        self._opened_doors().leave()
        self._succeeded(pid)
        self._happened(machine.StopAsked(round(self._settings.limits.linger_s * 1e9)))

    # --- the machine's instructions -------------------------------------------------------------------

    def _happened(self, event: machine.Event) -> None:
        self._crew, instructions = machine.step(self._crew, event, monotonic_ns(), self._plan)
        for instruction in instructions:
            self._do(instruction)

    def _do(self, instruction: machine.Instruction) -> None:
        match instruction:
            case machine.SpawnWorker(index, generation):
                self._begin(self._live(index, generation))
            case machine.StopWorker(index, delay_ns):
                self._begin(self._stop_worker(self._processes[index], delay_ns / 1e9))
            case machine.KillWorker(index):
                if index in self._processes:
                    self._processes[index].kill()
            case machine.Wake(at_ns, event):
                self._loop.call_later(max(0.0, (at_ns - monotonic_ns()) / 1e9), self._happened, event)
            case machine.Announce():
                self._serving()
            case machine.Finish():
                self._finished.set_result(None)

    def _serving(self) -> None:
        """The data plane is ready; what decides over it may start now."""
        metrics, scheme = self._opened_doors().metrics, "https" if self._settings.tls.certificate else "http"
        control = None if self._control is None else self._control.url
        told = None if metrics is None else metrics.url(scheme)
        self._announce(Addresses(metrics=told, control=control, **self._addresses))
        self._announced.set()
        if self._control is not None:
            self._control.begin()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A defect of ours must end the server, not leave it half alive."""
        self._tasks.discard(task)
        problem = None if task.cancelled() else task.exception()
        if problem is not None and not self._finished.done():
            self._finished.set_exception(problem)
            self._spawned.set()

    # --- one worker -----------------------------------------------------------------------------------

    async def _live(self, index: int, generation: int) -> None:
        """One process from its start to its end."""
        error: dict[str, Any] | None = None
        status, pid = 1, 0
        try:
            with self._opened_doors().sockets() as sockets:
                numbers = [one.fileno() for one in sockets]
                verbs: dict[str, Verb] = {"fleet": partial(self._relay.ask, index), "control": self._ask_control}
                process = await start_process(WORKER, verbs, frame_limit(self._settings.limits.max_body_bytes), sockets)
        except TaxiwayError as problem:
            self._spawned.set()
            error = problem.to_data()
        else:
            pid = process.pid
            self._processes[index] = process
            self._spawned.set()
            self._scraper.add(index, process)
            error = await self._prepare(index, generation, process, numbers)
            status = await process.wait()
            self._bury(index, process)
        how = Exit(status, error)
        self._tell_end(index, pid, how)
        self._happened(machine.WorkerExited(index, generation, how))

    async def _prepare(
        self, index: int, generation: int, process: ChildProcess, sockets: Sequence[int]
    ) -> dict[str, Any] | None:
        """Have it load, catch up and open its ports; its error, as data, if it cannot."""
        if self._crew.phase in (Phase.ENDING, Phase.ENDED):
            process.kill()  # it was started too late to be killed with the others
            return None
        await self._metrics_open.wait()  # a port that is taken is found out before models are loaded
        try:
            await process.channel.ask("load", {**self._load_words(index, process), "sockets": list(sockets)})
            opened = await self._relay.admit(index, process.channel, lambda: process.channel.ask("admit", {}))
        except TaxiwayError as problem:
            process.kill()
            return problem.to_data()
        except Gone:
            process.kill()
            return None
        self._addresses = opened
        self._happened(machine.WorkerReady(index, generation))
        return None

    def _load_words(self, index: int, process: ChildProcess) -> dict[str, Any]:
        data = self._share.model_dump(mode="json", exclude_unset=True)
        self._opened_doors().write_ports(data)
        return {
            "settings": data,
            "cpus": cpus_of(available_cpus(), self._plan.workers),
            "slot": process.slot_fd,
            "worker": index if self._plan.workers > 1 else None,
            "late": self._opened_doors().late,
        }

    async def _ask_control(self, words: Mapping[str, Any]) -> Any:  # noqa: ANN401 - plain data
        if self._control is None:
            raise Unavailable("the server has no control process", hint="set control.enabled: true")
        return await self._control.ask(words)

    async def _stop_worker(self, process: ChildProcess, delay_s: float) -> None:
        """Its answer is its exit status; if it never ends, the machine has it killed."""
        try:
            await process.channel.ask("give_way" if self._replaced.is_set() else "stop", {"delay_s": delay_s})
        except Gone:
            return
        except TaxiwayError:
            process.kill()

    def _bury(self, index: int, process: ChildProcess) -> None:
        process.channel.close()
        self._relay.dismiss(index, process.channel)
        self._scraper.retire(index, process)
        if self._processes.get(index) is process:
            del self._processes[index]

    def _tell_end(self, index: int, pid: int, how: Exit) -> None:
        """One that we killed ourselves died of what it had answered before."""
        if self._crew.phase is not Phase.SERVING:
            return
        if how.error is not None:
            _log.error("worker_not_started", worker=index, error=error_from_data(how.error))
        elif self._crew.workers[index].state is WorkerState.STARTING:
            hint = "another is started in its place; its own lines tell what it was doing"
            _log.error("worker_not_started", worker=index, reason=machine.told_of(how), hint=hint)
        else:
            hint = "another is started in its place"
            _log.error("worker_died", worker=index, pid=pid, reason=machine.told_of(how), hint=hint)


def _error_of(verdict: Verdict, last: Exit) -> TaxiwayError:
    if verdict is Verdict.START_FAILED and last.error is not None:
        return error_from_data(last.error)
    told = machine.told_of(last)
    if verdict is Verdict.START_FAILED:
        return InternalError(f"a data-plane process ended before it was ready: {told}", hint="the log may tell more")
    return CrashLoop(
        f"a data-plane process ended again and again, at last so: {told}",
        hint="the log tells what each was doing; a model that crashes the process may be the cause",
    )

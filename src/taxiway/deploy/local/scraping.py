"""One scrape of a server of several processes: what each counts, put together, and what its dead ones had counted."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator

from taxiway import __version__
from taxiway.core.errors import TaxiwayError
from taxiway.deploy.local.machine import ALIVE, Crew, WorkerState
from taxiway.deploy.local.process import ChildProcess
from taxiway.server.channel import Gone
from taxiway.telemetry import catalogue as names
from taxiway.telemetry.adding import Totals, lasting
from taxiway.telemetry.host import HostSampler, build_point
from taxiway.telemetry.render import Point

_PUBLISH_S = 1.0
"""How long a scrape waits for a worker to write down what it has counted; then it takes what that wrote before."""


class Scraper:
    """Puts scrapes together.

    Args:
        crew: asked for the state of the workers.
        suppressed_lines: asked for the log lines that this process held back.
    """

    def __init__(self, crew: Callable[[], Crew], suppressed_lines: Callable[[], int]) -> None:
        self._crew = crew
        self._suppressed_lines = suppressed_lines
        self._processes: dict[int, ChildProcess] = {}
        self._host = HostSampler()
        self._dead = Totals()
        self._own: list[Callable[[], Iterable[Point]]] = []
        self._publishing: asyncio.Task[None] | None = None

    def include(self, points: Callable[[], Iterable[Point]]) -> None:
        """Ask this too for what the supervisor itself counts."""
        self._own.append(points)

    def add(self, index: int, process: ChildProcess) -> None:
        """Count this one in."""
        self._processes[index] = process

    def retire(self, index: int, process: ChildProcess) -> None:
        """A process has ended: what it had counted still counts."""
        self._dead.add(lasting(process.slot.read()))
        process.slot.close()
        if self._processes.get(index) is process:
            del self._processes[index]

    async def scrape(self) -> list[Point]:
        """The points of one scrape. Scrapes that overlap share what the workers write down."""
        await self._published()
        return [build_point(__version__), *self._host.points(), *self._points()]

    async def look(self, families: Container[str]) -> list[Point]:
        """The points of these families, for who looks often: the host's use between two scrapes is not disturbed."""
        await self._published()
        return [point for point in self._points() if point.family.name in families]

    async def _published(self) -> None:
        if self._publishing is None or self._publishing.done():
            self._publishing = asyncio.create_task(self._publish())
        await asyncio.shield(self._publishing)

    async def _publish(self) -> None:
        ready = [one.index for one in self._crew().workers if one.state in (WorkerState.READY, WorkerState.DRAINING)]
        processes = [self._processes[index] for index in ready if index in self._processes]
        await asyncio.gather(*map(_publish_one, processes))

    def _points(self) -> Iterator[Point]:
        totals = Totals()
        totals.add(self._dead.points())
        for process in self._processes.values():
            totals.add(process.slot.read())
        totals.add([Point(names.LOG_SUPPRESSED, (), self._suppressed_lines())])
        for own in self._own:
            totals.add(own())
        yield from totals.points()
        yield from self._worker_points()

    def _worker_points(self) -> Iterator[Point]:
        crew = self._crew()
        states = Counter(worker.state for worker in crew.workers)
        for state in WorkerState:
            yield Point(names.WORKERS, (state.value,), states[state])
        yield Point(names.WORKER_RESTARTS, (), crew.restarts)
        for worker in crew.workers:
            if worker.state in ALIVE and worker.index in self._processes:
                memory = self._processes[worker.index].resident_bytes()
                yield Point(names.WORKER_MEMORY, (str(worker.index),), memory)


async def _publish_one(process: ChildProcess) -> None:
    try:
        await process.channel.ask("publish", {}, _PUBLISH_S)
    except (TaxiwayError, Gone, TimeoutError):
        return  # stuck or dying: its last snapshot has to do

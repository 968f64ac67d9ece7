"""The control process as the supervisor keeps it: beside the data plane, and never in its way.

It is started once the server serves, again whenever it ends, and ended first. Nothing that becomes of it ends the
server: while it rests the data plane serves what it was told last. With `control.standby` another one waits, which has
imported everything and knows nothing: it takes the place of one that ends within a tenth of a second.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from time import monotonic_ns
from typing import Any

from taxiway.config.settings import Settings
from taxiway.core.errors import TaxiwayError, Unavailable, error_from_data
from taxiway.deploy.local.doors import QueueingPort
from taxiway.deploy.local.machine import Exit, told_of
from taxiway.deploy.local.plan import Plan
from taxiway.deploy.local.process import CONTROL, ChildProcess, start_process
from taxiway.deploy.local.scraping import Scraper
from taxiway.server.channel import Gone, Verb, frame_limit
from taxiway.telemetry import catalogue as names
from taxiway.telemetry.logs import Log
from taxiway.telemetry.render import Point

_log = Log("taxiway.server")
ASKER = -1
"""Its place among those that ask the workers: none of theirs."""
_ASK_S = 10.0
"""How long a worker waits for an answer of it."""
_LATELY_NS = 10_000_000_000
"""Crashes that came before that keep nobody from going on at once: a start takes a second, so a loop is slowed down."""
_STOP_S = 3.0
"""How long it may take to end; what it was doing is in its journal."""


class ControlKeeper:
    """Keeps the control process.

    Args:
        settings: the server's.
        plan: how long to rest after a crash; none is one too many.
        port: where it listens, from the start.
        verbs: what it may ask of this server.
        scraper: reads what it counts.
    """

    def __init__(
        self, settings: Settings, plan: Plan, port: QueueingPort, verbs: Mapping[str, Verb], scraper: Scraper
    ) -> None:
        self._settings = settings
        self._plan = plan
        self._port = port
        self._verbs = verbs
        self._scraper = scraper
        self._process: ChildProcess | None = None
        self._standby: asyncio.Task[ChildProcess] | None = None
        self._serves = False
        self._starts = 0
        self._crashes_ns: list[int] = []
        self._keeping: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()

    @property
    def url(self) -> str:
        """Its address."""
        return self._port.url("https" if self._settings.tls.certificate else "http")

    def begin(self) -> None:
        """Start it, and start it again when it ends, until `end`."""
        if self._keeping is None and not self._ending.is_set():
            self._keeping = asyncio.get_running_loop().create_task(self._keep())

    async def ask(self, words: Mapping[str, Any]) -> Any:  # noqa: ANN401 - plain data
        """What a worker asks of it: a verb, and its words.

        Raises:
            TaxiwayError: its error.
            Unavailable: it is not there, or does not answer.
        """
        if self._process is None or not self._serves:
            raise _away()
        try:
            return await self._process.channel.ask("do", words, _ASK_S)
        except (Gone, TimeoutError):
            raise _away() from None

    def resume(self) -> None:
        """Go on after `end`: the server that was to take our place came to nothing."""
        self._ending.clear()
        self._keeping = None
        self.begin()

    async def end(self) -> None:
        """Have it end, and start it no more; returns when it is gone."""
        self._ending.set()
        if self._keeping is None:
            return
        if self._process is not None:
            await self._stop(self._process)
        await self._dismiss()
        with contextlib.suppress(asyncio.CancelledError):
            await self._keeping

    def kill(self) -> None:
        """End it now, and start it no more."""
        self._ending.set()
        for process in (self._process, self._waiting()):
            if process is not None:
                process.kill()

    def points(self) -> Iterator[Point]:
        """Whether it is there, and how often it was started anew."""
        yield Point(names.CONTROL_UP, (), int(self._serves))
        yield Point(names.CONTROL_RESTARTS, (), max(self._starts - 1, 0))

    # --- its lives --------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        while not self._ending.is_set():
            rest_s = await self._live()
            if self._standby is None:
                await self._rest(rest_s)

    async def _rest(self, rest_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ending.wait(), rest_s)

    async def _live(self) -> float:
        """One process from its start to its end; for how many seconds to rest then."""
        self._starts += 1
        try:
            process = await self._next()
        except TaxiwayError as problem:
            return self._rest_s(0, Exit(1, problem.to_data()))
        self._process = process
        self._scraper.add(ASKER, process)
        error = await self._open(process)
        if self._serves and self._settings.control.standby:
            self._standby = asyncio.get_running_loop().create_task(self._start_standby())
        status = await process.wait()
        self._serves, self._process = False, None
        process.channel.close()
        self._scraper.retire(ASKER, process)
        return self._rest_s(process.pid, Exit(status, error))

    async def _next(self) -> ChildProcess:
        """The one that waits, or a new one."""
        waiting, self._standby = self._standby, None
        return await self._start() if waiting is None else await waiting

    async def _start_standby(self) -> ChildProcess:
        """After a rest, so that processes which end one after the other are not started in a hurry."""
        await self._rest(self._plan.rest_ns(len(self._crashes_ns)) / 1e9 if self._crashes_ns else 0.0)
        return await self._start()

    async def _start(self) -> ChildProcess:
        limit = frame_limit(self._settings.limits.max_body_bytes)
        return await start_process(CONTROL, self._verbs, limit, self._port.sockets)

    def _waiting(self) -> ChildProcess | None:
        """The process on standby, if it has been started."""
        task = self._standby
        started = task is not None and task.done() and not task.cancelled() and task.exception() is None
        return task.result() if task is not None and started else None

    async def _dismiss(self) -> None:
        """Nobody waits any more."""
        task, self._standby = self._standby, None
        if task is None:
            return
        with contextlib.suppress(TaxiwayError):
            process = await task  # `_rest` ends with the server
            process.kill()
            await process.wait()
            process.channel.close()
            process.slot.close()

    async def _open(self, process: ChildProcess) -> dict[str, Any] | None:
        """Have it take requests; its error, as data, if it cannot."""
        if self._ending.is_set():
            process.kill()
            return None
        words = {
            "settings": self._settings.model_dump(mode="json", exclude_unset=True),
            "sockets": [one.fileno() for one in self._port.sockets],
            "slot": process.slot_fd,
            "url": self.url,
        }
        try:
            await process.channel.ask("serve", words)
        except TaxiwayError as problem:
            process.kill()
            return problem.to_data()
        except Gone:
            return None
        self._serves = True
        return None

    def _rest_s(self, pid: int, how: Exit) -> float:
        """Tell why it ended, and how long it rests."""
        if self._ending.is_set():
            return 0.0
        now_ns = monotonic_ns()
        self._crashes_ns = [*(at for at in self._crashes_ns if now_ns - at < _LATELY_NS), now_ns]
        if how.error is not None:
            hint = "the data plane serves; it is tried again"
            _log.error("control_not_started", error=error_from_data(how.error), hint=hint)
        else:
            hint = "the data plane serves what it was told last; another control process is started"
            _log.error("control_died", pid=pid, reason=told_of(how), hint=hint)
        return self._plan.rest_ns(len(self._crashes_ns)) / 1e9

    async def _stop(self, process: ChildProcess) -> None:
        try:
            await process.channel.ask("stop", {}, _STOP_S)
        except (Gone, TaxiwayError, TimeoutError):
            process.kill()


def _away() -> Unavailable:
    return Unavailable("the control process is not there", hint="it is being started; try again", retry_after_s=1.0)

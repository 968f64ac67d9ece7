"""Watching models in service: fetches what the data plane sampled, and shows it to whoever watches.

The mathematics have a thread of their own: neither the control API nor rollouts wait for it, and of what it has no time
for the data plane samples less.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic, time_ns
from typing import Any, Final, NoReturn, Protocol, TypeVar

import msgspec

from taxiway.config.monitoring import MonitoringSettings
from taxiway.core.errors import TaxiwayError
from taxiway.core.ports import SampleSink
from taxiway.core.samples import SampledRows
from taxiway.monitor.drift.desk import DriftDesk
from taxiway.monitor.drift.store import WatchStore
from taxiway.server.channel import Channel, Gone
from taxiway.telemetry.logs import Log
from taxiway.telemetry.render import Point

_log = Log("taxiway.monitor")
_FETCH_S: Final = 1.0
_ASK_S: Final = 10.0
_T = TypeVar("_T")


class Sink(SampleSink, Protocol):
    """Who is shown what was sampled, beside drift. All of it is called on the thread of monitoring."""

    def look(self, now_ns: int) -> None:
        """Time has passed, whether or not there were rows."""

    def points(self) -> Iterator[Point]:
        """Every series."""

    def close(self, now_ns: int) -> None:
        """No more will come."""


class Reporter(Protocol):
    """Who is told what is known of every version, now and then; it neither waits nor raises.

    Attributes:
        every_s: how often.
    """

    every_s: float

    def tell(self, reports: Sequence[Mapping[str, Any]], now_ns: int) -> None:
        """These are known now."""

    def points(self) -> Iterator[Point]:
        """Every series."""

    def close(self) -> None:
        """No more will come."""


class Monitoring:
    """All that watches, in the control process.

    Args:
        channel: to the supervisor, which asks every data-plane process.
        directory: where what is known is kept.
        sinks: who else is shown what was sampled.
        reporters: who is told what is known.
    """

    def __init__(
        self,
        settings: MonitoringSettings,
        channel: Channel,
        directory: Path,
        sinks: Sequence[Sink] = (),
        reporters: Sequence[Reporter] = (),
    ) -> None:
        self._settings = settings
        self._channel = channel
        self._desk = DriftDesk(settings.drift, WatchStore(directory / "drift"))
        self._sinks = tuple(sinks)
        self._failing: set[int] = set()
        self._reporters = {one: monotonic() for one in reporters}
        self._thread = ThreadPoolExecutor(1, "monitor")
        self._fetching: asyncio.Task[NoReturn] | None = None
        self._points: tuple[Point, ...] = ()
        self._saved_s = monotonic()
        self._troubled = False

    @property
    def watches(self) -> bool:
        """Whether anybody does."""
        return self._settings.sampling.enabled and (self._settings.drift.enabled or bool(self._sinks))

    def begin(self) -> None:
        """Go on with what was known, and look at what comes."""
        if self.watches:
            self._fetching = asyncio.get_running_loop().create_task(self._fetch_always())

    async def end(self) -> None:
        """Look no more, and keep what is known."""
        if self._fetching is not None:
            self._fetching.cancel()
            await self._do(self._close)
        await asyncio.to_thread(self._thread.shutdown)

    def points(self) -> Iterator[Point]:
        """Every series, as of the last look."""
        yield from self._points

    async def ask(self, what: Callable[[DriftDesk], _T]) -> _T:
        """Something of the desk, on the thread that uses it.

        Raises:
            TaxiwayError: its error.
        """
        return await self._do(lambda: what(self._desk))

    async def labelled(self, model: str, labels: Mapping[str, object]) -> int:
        """Labels of requests have come, by the requests' ids; how many of the answers were waiting for them.

        What the data plane has sampled and not told yet is fetched first.
        """
        with contextlib.suppress(TaxiwayError, Gone, TimeoutError):  # then those that were fetched have to do
            await self._do_with(await self._fetch())
        return await self.ask(lambda desk: desk.labelled(model, labels))

    # --- the loop -------------------------------------------------------------------------------------------

    async def _fetch_always(self) -> NoReturn:
        await self._do(self._desk.restore)
        while True:
            began_s = monotonic()
            try:
                await self._do_with(await self._fetch())
                self._troubled = False
            except Exception as problem:  # noqa: BLE001 - the boundary: a look that failed is told, and the next one comes
                self._tell(problem)
            await asyncio.sleep(max(0.0, _FETCH_S - (monotonic() - began_s)))

    async def _fetch(self) -> list[SampledRows]:
        """What every process sampled since the last time."""
        wanted = {"*": self._settings.sampling.rows_per_s}
        ask = {"verb": "samples_fetch", "words": {"rows_per_s": wanted}, "lasting": None}
        answers: list[list[Mapping[str, Any]]] = await self._channel.ask("fleet", ask, _ASK_S)
        return [msgspec.convert(one, SampledRows) for told in answers for one in told]

    async def _do_with(self, sampled: list[SampledRows]) -> None:
        self._points = await self._do(lambda: self._look(sampled))

    def _look(self, sampled: list[SampledRows]) -> tuple[Point, ...]:
        for rows in sampled:
            self._desk.take(rows)
        self._desk.look(time_ns())
        for at, sink in enumerate(self._sinks):
            with self._guarded(at):
                for rows in sampled:
                    sink.take(rows)
                sink.look(time_ns())
        if monotonic() - self._saved_s >= self._settings.drift.save_every_s:
            self._desk.save()
            self._saved_s = monotonic()
        for reporter, told_s in self._reporters.items():
            if monotonic() - told_s >= reporter.every_s:
                self._report(reporter)
        beside = [*(one.points() for one in self._sinks), *(one.points() for one in self._reporters)]
        return (*self._desk.points(), *(point for points in beside for point in points))

    def _report(self, reporter: Reporter) -> None:
        self._reporters[reporter] = monotonic()
        known = [(one["model"], one["version"]) for one in self._desk.summaries()]
        reporter.tell([self._desk.report(*key) for key in known], time_ns())

    def _close(self) -> None:
        self._desk.save()
        for reporter in self._reporters:
            self._report(reporter)
            reporter.close()
        for at, sink in enumerate(self._sinks):
            with self._guarded(at):
                sink.close(time_ns())

    @contextlib.contextmanager
    def _guarded(self, at: int) -> Iterator[None]:
        """What goes wrong with one sink is logged once, and is no matter of another."""
        try:
            yield
            self._failing.discard(at)
        except Exception as problem:  # noqa: BLE001 - the boundary
            if at not in self._failing:
                self._failing.add(at)
                _log.error("samples_not_taken", error=problem)

    async def _do(self, what: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, what)

    def _tell(self, problem: Exception) -> None:
        """Once, until it works again: the data plane may be starting, or changing hands."""
        if not self._troubled:
            known = isinstance(problem, TaxiwayError | Gone | TimeoutError)
            (_log.warning if known else _log.error)("samples_not_fetched", error=problem)
        self._troubled = True

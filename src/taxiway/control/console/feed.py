"""Looks at the whole server once a second: for history always, for the event stream while somebody reads it.

What is looked at is worked on by a thread of its own, which keeps what was; rollouts do not wait for it.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from operator import itemgetter
from pathlib import Path
from time import monotonic, time
from typing import Any, Final, NoReturn, TypeVar

import numpy as np

from taxiway.control.console.frames import Frames, Moment, values_of
from taxiway.control.console.streams import Streams
from taxiway.core.errors import TaxiwayError
from taxiway.monitor.history.desk import HistoryDesk, Stretch
from taxiway.monitor.history.differences import FAMILIES
from taxiway.monitor.history.rows import Key, Row
from taxiway.server.channel import Channel, Gone
from taxiway.telemetry import catalogue as names
from taxiway.telemetry.host import HostSampler
from taxiway.telemetry.logs import Log
from taxiway.telemetry.render import Point
from taxiway.telemetry.slots import decode_points

_log = Log("taxiway.control")
_EVERY_S: Final = 1.0
_ASK_S: Final = 5.0
_SPARK_S: Final = 60
_HOST_FIELDS: Final = {
    names.NV_CPU_UTILIZATION.name: "cpu",
    names.NV_CPU_MEMORY_USED.name: "memory_used",
    names.NV_CPU_MEMORY_TOTAL.name: "memory_total",
}
Parts = Callable[[], Awaitable[Mapping[str, Any]]]
_T = TypeVar("_T")


class Feed:
    """Asks, keeps, and tells.

    Args:
        channel: to the supervisor.
        make_desk: of the history, in the thread that it belongs to.
        parts: asked each second for what is no metric: rollouts, drift, alerts, the server.
    """

    def __init__(self, channel: Channel, make_desk: Callable[[], HistoryDesk], parts: Parts) -> None:
        self._channel = channel
        self._make_desk = make_desk
        self._parts = parts
        self._host = HostSampler()
        self._frames = Frames(secrets.token_hex(4))
        self._spark: Mapping[str, Any] = {}
        self._rows: Mapping[Key, Row] = {}
        self._beside: Mapping[str, Any] = {}
        self._looked = asyncio.Event()
        self.streams = Streams(self._prepare, lambda: self._frames.full(self._spark))
        self._thread = ThreadPoolExecutor(1, "history")
        self._desk: HistoryDesk | None = None
        self._feeding: asyncio.Task[NoReturn] | None = None
        self._troubled = False

    def begin(self) -> None:
        """Look from now on."""
        self._feeding = asyncio.get_running_loop().create_task(self._feed_always())

    async def end(self) -> None:
        """Look no more, and keep what was seen."""
        self._looked.set()  # nobody waits for what does not come
        self.streams.close()
        if self._feeding is not None:
            self._feeding.cancel()
            desk = self._desk
            if desk is not None:
                await self._do(desk.close)
        await asyncio.to_thread(self._thread.shutdown)

    def points(self) -> Iterator[Point]:
        """Every series of this part."""
        desk = self._desk
        yield Point(names.CONSOLE_STREAMS, (), len(self.streams))
        yield Point(names.CONSOLE_STREAMS_CUT, (), self.streams.cut)
        yield Point(names.HISTORY_DROPPED, (), 0 if desk is None else desk.dropped)

    def versions(self) -> list[tuple[str, str, list[float | None]]]:
        """Of each version what is told of it now."""
        found = sorted(((key, row) for key, row in self._rows.items() if key[0] == "version"), key=itemgetter(0))
        return [(key[1], key[2], values_of(row)) for key, row in found]

    async def ask(self, what: Callable[[HistoryDesk], _T]) -> _T:
        """Something of the history, on its thread."""
        return await self._do(lambda: what(self._opened()))

    # --- the loop -------------------------------------------------------------------------------------------

    async def _feed_always(self) -> NoReturn:
        while True:
            began_s = monotonic()
            try:
                await self._feed()
            except Exception as problem:  # noqa: BLE001 - the boundary: a look that failed is told, and the next one comes
                self._tell(problem)
            await asyncio.sleep(max(0.05, _EVERY_S - (monotonic() - began_s)))

    async def _feed(self) -> None:
        content = await self._look()
        parts = await self._told_beside()
        at_s, clock_s = time(), monotonic()
        if content is not None:
            self._rows = await self._do(lambda: self._take(content, parts, at_s, clock_s))
        frame = self._frames.next(Moment(round(at_s * 1000), self._rows, content is None, parts))
        self._looked.set()
        self._troubled = self._troubled and content is None
        if len(self.streams):
            if frame is None:
                await self._prepare()
                frame = self._frames.full(self._spark)
            self.streams.tell(frame)

    async def _prepare(self) -> None:
        """What a frame that tells everything tells of the last minute."""
        await self._looked.wait()
        self._spark = await self.ask(lambda desk: _spark(desk, int(time())))

    async def _told_beside(self) -> Mapping[str, Any]:
        """What is no metric; as it was last, where it cannot be asked for."""
        try:
            self._beside = await self._parts()
        except TaxiwayError as problem:
            self._tell(problem)
        return self._beside

    async def _look(self) -> bytes | None:
        """None: the data plane is starting, or changing hands."""
        try:
            told: dict[str, bytes] = await self._channel.ask("points", {"families": sorted(FAMILIES)}, _ASK_S)
        except (TaxiwayError, Gone, TimeoutError) as problem:
            self._tell(problem)
            return None
        return told["points"]

    def _take(self, content: bytes, parts: Mapping[str, Any], at_s: float, clock_s: float) -> dict[Key, Row]:
        desk = self._opened()
        rollouts = parts.get("rollouts", ())
        more: dict[Key, Row] = {("rollout", one["service"]): Row(1, dict(one["weights"])) for one in rollouts}
        desk.take(decode_points(content), more, at_s, clock_s, self._own())
        return desk.now(int(at_s))

    def _own(self) -> dict[str, float]:
        """Of the machine, and of this process."""
        told = {_HOST_FIELDS[point.family.name]: float(point.value) for point in self._host.points()}  # type: ignore[arg-type]
        return {**told, "control_bytes": float(resident_bytes())}

    def _opened(self) -> HistoryDesk:
        if self._desk is None:
            self._desk = self._make_desk()
        return self._desk

    async def _do(self, what: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, what)

    def _tell(self, problem: Exception) -> None:
        """Once, until it works again."""
        if not self._troubled:
            known = isinstance(problem, TaxiwayError | Gone | TimeoutError)
            (_log.warning if known else _log.error)("metrics_not_fetched", error=problem)
        self._troubled = True


def _spark(desk: HistoryDesk, second: int) -> dict[str, Any]:
    """The last minute of each model: requests of all versions together, the p99 of the slowest."""
    told: dict[str, dict[str, Any]] = {}
    found = desk.history("version", (), ("rps", "p99"), Stretch(1, second - _SPARK_S + 1, _SPARK_S))
    for series in found["series"]:
        columns, known = series["fields"], told.setdefault(series["name"][0], {})
        for name, join in (("rps", _added), ("p99", np.fmax)):
            known[name] = columns[name] if name not in known else join(known[name], columns[name])
    return told


def _added(one: Any, other: Any) -> Any:  # noqa: ANN401 - arrays
    """What is not known of one counts as nothing, unless it is not known of either."""
    return np.where(np.isnan(one), other, np.where(np.isnan(other), one, one + other))


def resident_bytes() -> int:
    """What this process occupies in memory; 0 where that cannot be read."""
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def make_desk(path: Path, days: int, max_bytes: int, max_series: int) -> HistoryDesk:
    """The history in this file."""
    from taxiway.monitor.history.store import HistoryStore  # noqa: PLC0415 - in the thread that it belongs to

    return HistoryDesk(HistoryStore(path, days, max_bytes), max_series)

"""Versions on their way out: each answers what it has taken, and only then is it closed and its memory given back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from taxiway.server.models.loading_thread import Loading
from taxiway.server.models.machine import ModelEvent, ModelState
from taxiway.server.models.repository import FoundModel
from taxiway.server.models.roster import Version
from taxiway.server.totals import LifecycleStatistics
from taxiway.telemetry.catalogue import UnloadReason
from taxiway.telemetry.logs import Log

_log = Log("taxiway.models")
_CLOSE_S = 5.0
"""How long the end waits until what is drained is closed too; the process's own end does the rest."""


@dataclass(eq=False, slots=True)
class _Departure:
    """Versions that left the routes together; `answered` ends when nothing is owed to anybody by any of them."""

    versions: Sequence[Version]
    answered: asyncio.Task[None]


class Departures:
    """Sees versions off.

    Args:
        loading: closes them.
        now_ns: monotonic time.
        statistics: where they are counted.
        changed: told whenever one of them is gone.
    """

    def __init__(
        self,
        loading: Loading,
        now_ns: Callable[[], int],
        statistics: LifecycleStatistics,
        changed: Callable[[], None],
    ) -> None:
        self._loading = loading
        self._now_ns = now_ns
        self._statistics = statistics
        self._changed = changed
        self._under_way: dict[asyncio.Task[None], _Departure] = {}

    def begin(
        self, versions: Sequence[Version], why: UnloadReason, reason: str, found: FoundModel | None
    ) -> asyncio.Task[None]:
        """Have `versions` leave. They are out of the routes with the next turn of the loop, or nothing is let in.

        Args:
            versions: ready or stalled ones.
            why: how their leaving is counted.
            reason: how it is told.
            found: what they were loaded from; what was uploaded for them is removed after them.

        Returns:
            What ends when they are closed.
        """
        upload = found if found is not None and found.upload is not None else None
        for version in versions:
            version.step(ModelEvent.RETIRED, reason, self._now_ns())
        self._statistics.unloads[why] += len(versions)
        departure = _Departure(versions, asyncio.ensure_future(self._answer_all(versions)))
        task = asyncio.ensure_future(self._see_off(departure, upload))
        self._under_way[task] = departure
        task.add_done_callback(self._left)
        return task

    async def finish(self, timeout_s: float) -> bool:
        """Wait until nothing is owed any more; what waits longer than `timeout_s` is refused.

        Returns:
            False if something still runs. Nobody waits for it: its callers are still owed an answer.
        """
        if not self._under_way:
            return True
        under_way = dict(self._under_way)
        await asyncio.wait([departure.answered for departure in under_way.values()], timeout=timeout_s)
        closing = [task for task, departure in under_way.items() if departure.answered.done()]
        if closing:
            await asyncio.wait(closing, timeout=_CLOSE_S)
        late = {task: departure for task, departure in under_way.items() if task not in closing}
        for task, departure in late.items():
            for version in departure.versions:
                self._give_up(version)
            task.cancel()
            departure.answered.cancel()
        return not late

    async def _answer_all(self, versions: Sequence[Version]) -> None:
        await asyncio.gather(*(self._answer(version) for version in versions))
        if versions:
            self._changed()

    async def _answer(self, version: Version) -> None:
        if version.served is not None:
            await version.served.engine.settle()
            # No turn of the loop comes between: until it is closed, a version takes whatever reaches it.
            version.served.front.close()
        version.step(ModelEvent.DRAINED, version.life.now.reason, self._now_ns())

    async def _see_off(self, departure: _Departure, upload: FoundModel | None) -> None:
        await departure.answered
        for version in departure.versions:
            await close_version(version, self._loading)
            model, _, number = version.life.name.partition(":")
            _log.info("model_gone", model=model, version=number, reason=version.life.now.reason)
        if upload is not None:
            await self._loading.discard(upload)

    def _left(self, task: asyncio.Task[None]) -> None:
        del self._under_way[task]
        if not task.cancelled() and (problem := task.exception()) is not None:
            _log.error("bug", error=problem)

    def _give_up(self, version: Version) -> None:
        served = version.served
        if served is None or version.life.now.state is not ModelState.DRAINING:
            return
        running = served.engine.running()
        served.front.close()
        reason = f"limits.drain_timeout_s ran out: {running} runs were given up, what waited was refused"
        version.step(ModelEvent.DRAINED, reason, self._now_ns())
        _log.warning("drain_timeout", model=served.name, version=str(served.version), count=running, reason=reason)


async def close_version(version: Version, loading: Loading) -> None:
    """Free what a version that takes nothing any more was made of."""
    served, version.served = version.served, None
    if served is not None:
        served.front.close()
        served.codecs.clear()
        await loading.close(served)

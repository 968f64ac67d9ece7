"""Follows the files at the paths: looks every now and then, and has the manager do what the looks mean."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from taxiway.server.models.loading_thread import Loading
from taxiway.server.models.polling import Followed, Seen, decide_poll
from taxiway.server.models.repository import FoundModel, Look
from taxiway.telemetry.logs import Log

_log = Log("taxiway.models")


class Poller:
    """Looks at the paths every `interval_s` (`models.poll_s`).

    Args:
        loading: looks, beside the loop.
        load: has a model served as it is found now; never raises for what is wrong with it.
        unload: takes a model out of the routes.
    """

    def __init__(
        self,
        loading: Loading,
        interval_s: float,
        load: Callable[[FoundModel], Awaitable[None]],
        unload: Callable[[str], Awaitable[None]],
    ) -> None:
        self._loading = loading
        self._interval_s = interval_s
        self._load = load
        self._unload = unload
        self._followed = Followed()
        self._told: list[str] = []
        self._task: asyncio.Task[None] | None = None

    async def remember(self, look: Look) -> None:
        """These models are loaded at start: from now on their changes count."""
        stamps = await self._loading.stamp(list(look.models.values()))
        self._followed = Followed(stamps, stamps)

    def begin(self) -> None:
        """Look every now and then, from now on."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="polling")

    def end(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                await self._look_once()
            except OSError as problem:
                _log.warning("poll_failed", error=problem)
            except Exception as problem:  # noqa: BLE001 - the boundary of this task: a bug must not end the following
                _log.error("bug", error=problem)

    async def _look_once(self) -> None:
        look = await self._loading.look()
        stamps = await self._loading.stamp(list(look.models.values()))
        self._tell_problems(look)
        decision = decide_poll(self._followed, self._seen(look, stamps))
        self._followed = decision.then
        for name in decision.unload:
            await self._unload(name)
        for name in decision.load:
            await self._load(look.models[name])

    def _seen(self, look: Look, stamps: Seen) -> Seen:
        """A path that is missing as a whole (a disk that is not mounted) says nothing of the models below it."""
        there = set(look.models) | (set(self._followed.acted) if look.missing else set())
        return {name: stamps.get(name) for name in there}

    def _tell_problems(self, look: Look) -> None:
        problems = [str(problem) for problem in look.problems]
        for problem in problems:
            if problem not in self._told:
                _log.warning("poll_problem", reason=problem)
        self._told = problems
